//! Collects what is wrong with one file.

use std::sync::Arc;

use super::node::Mark;
use crate::diagnostic::{Diagnostic, Severity};
use crate::field_path::FieldPath;
use crate::meta::Position;

/// Most findings that are kept for one file; a hostile file could cause one per byte.
pub(super) const MAX_DIAGNOSTICS: usize = 1000;

/// The findings of one file, in the order in which they were made.
#[derive(Debug)]
pub(super) struct Findings {
    file: Arc<str>,
    diagnostics: Vec<Diagnostic>,
    dropped: usize,
    errors: usize,
}

// === impl Findings ===

impl Findings {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.into(), diagnostics: Vec::new(), dropped: 0, errors: 0 }
    }

    /// The position of `mark` in this file.
    pub(super) fn position(&self, mark: Mark) -> Position {
        Position { file: Arc::clone(&self.file), line: mark.line, column: mark.column }
    }

    pub(super) fn error(
        &mut self,
        mark: Mark,
        path: &FieldPath,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.push(Severity::Error, mark, path, message, hint);
    }

    pub(super) fn warning(
        &mut self,
        mark: Mark,
        path: &FieldPath,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.push(Severity::Warning, mark, path, message, hint);
    }

    pub(super) fn push(
        &mut self,
        severity: Severity,
        mark: Mark,
        path: &FieldPath,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.errors += usize::from(severity == Severity::Error);
        if self.is_full() {
            self.dropped += 1;
            return;
        }
        let position = self.position(mark);
        let (path, message) = (path.to_string(), message.into());
        self.diagnostics.push(Diagnostic { severity, position, path, message, hint });
    }

    /// How many errors there were so far; a document with a new one is left out.
    pub(super) fn errors(&self) -> usize {
        self.errors
    }

    /// The paths of the errors since `count` findings had been made.
    pub(super) fn error_paths_since(&self, count: usize) -> impl Iterator<Item = &str> {
        self.diagnostics
            .iter()
            .skip(count)
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .map(|diagnostic| diagnostic.path.as_str())
    }

    /// Whether further findings are only counted.
    pub(super) fn is_full(&self) -> bool {
        self.diagnostics.len() >= MAX_DIAGNOSTICS
    }

    /// How many findings are kept so far.
    pub(super) fn len(&self) -> usize {
        self.diagnostics.len()
    }

    /// The findings in the order of the file.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by(|a, b| a.position.cmp(&b.position));
        if self.dropped > 0 {
            let last = self.diagnostics.last().map(|d| d.position.clone());
            let position = last.unwrap_or_else(|| self.position(Mark { line: 1, column: 1 }));
            self.diagnostics.push(Diagnostic {
                severity: Severity::Error,
                position,
                path: String::new(),
                message: format!("{} further findings are not listed", self.dropped),
                hint: None,
            });
        }
        self.diagnostics
    }
}
