//! The only place that prints: data to standard output, talk to standard error.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the only place that prints")]

use std::fmt::Display;

/// What was asked for.
pub(crate) fn data(text: impl Display) {
    println!("{text}");
}

/// What a person may want to know meanwhile.
pub(crate) fn talk(text: impl Display) {
    eprintln!("{text}");
}
