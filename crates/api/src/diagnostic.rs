//! What is wrong with a manifest, and where.

use std::error::Error;
use std::fmt;

use serde::Serialize;

use crate::meta::Position;

/// Longest value of an author that a message shows in full, in characters.
const MAX_QUOTED_CHARS: usize = 40;

/// How much a [`Diagnostic`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The document is left out.
    Error,
    /// The document is used; the author probably meant something else.
    Warning,
}

/// One finding about one place of a file.
///
/// Displayed on one line as `file:line:column: severity: path: message`; the hint is for the
/// caller to lay out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the document is still used.
    pub severity: Severity,
    /// The offending value; for a missing one, the object that lacks it.
    pub position: Position,
    /// Field path as Kubernetes writes it (`spec.match[0].ports[1].number`), empty for a finding
    /// about the whole document or its syntax.
    pub path: String,
    /// What is wrong: lower case, no full stop, literals in backticks.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

/// The error and what caused it, for a message that stands alone.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// `text` for a message, cut if it is long.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

// === impl Severity ===

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

// === impl Diagnostic ===

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.position, self.severity)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(quoted("short"), "short");
        assert_eq!(quoted(&"é".repeat(50)), format!("{}…", "é".repeat(40)));
    }
}
