//! `cargo xtask tidy`: house rules that neither rustfmt nor clippy knows.

mod limits;
mod links;
mod rules;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::process::Command;

use anyhow::bail;

use crate::process;
use crate::repository::Repository;

/// A file of the checkout.
struct File<'a> {
    /// Relative to the checkout, with `/`.
    path: &'a str,
    text: &'a str,
}

/// A breach of a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// From 1; none if it is about the whole file.
    line: Option<usize>,
    message: String,
}

/// Checks every file that git tracks, or would track.
///
/// # Errors
///
/// If a rule is broken; each breach is printed.
pub(crate) fn run(repository: &Repository) -> anyhow::Result<()> {
    let root = repository.path("");
    let listing = process::output(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(&root),
    )?;
    let mut findings = Vec::new();
    let mut count = 0;
    let (mut tests, mut limits) = (HashSet::new(), None);
    for path in listing.lines() {
        // A deleted file is still listed until the deletion is committed.
        let Ok(bytes) = fs_err::read(root.join(path)) else { continue };
        count += 1;
        // What is not text has no lines to check, but its name counts.
        let text = String::from_utf8(bytes).unwrap_or_default();
        findings.extend(check(&File { path, text: &text }, &root));
        if has_extension(path, "rs") {
            tests.extend(limits::tests_in(&text));
        }
        if path == limits::DOCUMENT {
            limits = Some(text);
        }
    }
    if let Some(text) = &limits {
        findings.extend(limits::check(&File { path: limits::DOCUMENT, text }, &tests));
    }
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} breaches in {count} files", findings.len());
    }
    println!("{count} files are tidy");
    Ok(())
}

fn check(file: &File<'_>, root: &Path) -> Vec<Finding> {
    let mut findings = rules::check(file, root);
    if has_extension(file.path, "md") {
        findings.extend(links::check(file, |target| root.join(target).exists()));
    }
    findings
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

impl Finding {
    fn new(file: &File<'_>, line: Option<usize>, message: impl Into<String>) -> Self {
        Self { path: file.path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.path)?;
        if let Some(line) = self.line {
            write!(formatter, "{line}:")?;
        }
        write!(formatter, " {}", self.message)
    }
}
