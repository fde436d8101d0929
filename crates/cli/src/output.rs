//! The only place that prints: data to standard output, talk to standard error.

use std::fmt::Display;
use std::io::Write;

/// What was asked for.
pub(crate) fn data(text: impl Display) {
    // A reader that has seen enough (`| head`) is no error of ours.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// What a person may want to know meanwhile.
pub(crate) fn talk(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Replaces the last line of standard error by this one, which stays open; empty for none.
pub(crate) fn redraw(line: &str) {
    // The cursor goes to the beginning, and what stood there is erased.
    let _ = write!(std::io::stderr(), "\r\x1b[2K{line}");
}
