//! Errors and findings as a person sees them: error, causes, hints.

use std::fmt::Write;

use wasmplug_api::{Diagnostic, Severity};

use crate::environment::Environment;
use crate::output;

/// An error that knows what could be done about it.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(crate) struct WithHint {
    #[source]
    source: anyhow::Error,
    hint: String,
}

/// Something is wrong with the user's files; each finding was printed already.
#[derive(Debug, thiserror::Error)]
#[error("{errors} {} in the resources", if *errors == 1 { "error" } else { "errors" })]
pub(crate) struct InvalidResources {
    pub(crate) errors: usize,
}

// === impl WithHint ===

impl WithHint {
    /// Adds a hint to an error, if there is one.
    pub(crate) fn wrap(error: impl Into<anyhow::Error>, hint: Option<String>) -> anyhow::Error {
        let source = error.into();
        match hint {
            Some(hint) => Self { source, hint }.into(),
            None => source,
        }
    }

    /// An error without its hint, and the hint.
    pub(crate) fn parts(error: &anyhow::Error) -> (&anyhow::Error, Option<&str>) {
        match error.downcast_ref::<Self>() {
            Some(Self { source, hint }) => (source, Some(hint)),
            None => (error, None),
        }
    }
}

/// Prints an error, its causes one a line, and its hint.
pub(crate) fn print(error: &anyhow::Error, environment: &Environment) {
    let paint = Paint { is_on: environment.has_colours };
    let (error, hint) = WithHint::parts(error);
    let mut text = format!("{} {error}", paint.red("error:"));
    for cause in error.chain().skip(1) {
        let _ = write!(text, "\n  caused by: {cause}");
    }
    if let Some(hint) = hint {
        let _ = write!(text, "\n\n{} {hint}", paint.cyan("hint:"));
    }
    output::talk(text);
}

/// Prints a finding about a file, with its hint below.
pub(crate) fn print_finding(finding: &Diagnostic, has_colours: bool) {
    let paint = Paint { is_on: has_colours };
    let severity = match finding.severity {
        Severity::Error => paint.red("error"),
        Severity::Warning => paint.yellow("warning"),
    };
    let path = if finding.path.is_empty() { String::new() } else { format!("{}: ", finding.path) };
    let mut text = format!("{}: {severity}: {path}{}", finding.position, finding.message);
    if let Some(hint) = &finding.hint {
        let _ = write!(text, "\n  {} {hint}", paint.cyan("hint:"));
    }
    output::talk(text);
}

/// Colours, or none.
#[derive(Clone, Copy)]
pub(crate) struct Paint {
    pub(crate) is_on: bool,
}

// === impl Paint ===

impl Paint {
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("1;32", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("1;36", text)
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.is_on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
