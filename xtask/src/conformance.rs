//! `cargo xtask conformance`: which check of the plugin interface is proven by which test.
//!
//! Brings together the list in `conformance/checks.toml` and the lines `// Checks: …` above tests,
//! and writes `docs/conformance.md`. A check is proven by the tests that name it and by nothing
//! else, so what is marked and does not run, or does not exist, is an error.

mod checks;
mod marks;
mod page;
mod results;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, bail};

use self::checks::Catalogue;
use self::marks::Mark;
use self::results::Results;
use crate::process;
use crate::repository::Repository;

const CHECKS: &str = "conformance/checks.toml";
const PAGE: &str = "docs/conformance.md";

/// What `cargo xtask conformance` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write nothing; fail if the page is not what would be written.
    #[arg(long)]
    check: bool,
    /// Fail if a marked test is not among those that passed, as `cargo xtask ci` lists them.
    #[arg(long, value_name = "FILE", requires = "check")]
    results: Option<PathBuf>,
}

/// Writes the page, or checks it.
///
/// # Errors
///
/// If the list cannot be read, a mark and the list contradict each other, or, where it is checked,
/// the page is out of date or a marked test did not pass.
pub(crate) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    let catalogue = Catalogue::parse(&fs_err::read_to_string(repository.path(CHECKS))?)
        .with_context(|| format!("cannot read {CHECKS}"))?;
    let (marks, mut problems) = marks(repository)?;
    problems.extend(contradictions(&catalogue, &marks));
    if let Some(path) = &options.results {
        let results = Results::parse(&fs_err::read_to_string(path)?);
        problems.extend(results.missing(&marks));
        for test in results.skipped(&marks) {
            println!("note: {test} was skipped here and proves nothing in this run");
        }
    }
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!("{} marks are wrong", problems.len());
    }
    let text = page::render(&catalogue, &marks);
    let path = repository.path(PAGE);
    if !options.check {
        fs_err::write(&path, &text)?;
    } else if fs_err::read_to_string(&path).ok().as_deref() != Some(&*text) {
        bail!("{PAGE} is out of date; write it by `cargo xtask conformance`");
    }
    println!("{}", page::summary(&catalogue, &marks));
    Ok(())
}

/// The marks of every source file, and what is wrong with some of them.
fn marks(repository: &Repository) -> anyhow::Result<(Vec<Mark>, Vec<String>)> {
    let root = repository.path("");
    let listing = process::output(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "crates/*.rs"])
            .current_dir(&root),
    )?;
    let (mut marks, mut problems) = (Vec::new(), Vec::new());
    for path in listing.lines() {
        let Ok(text) = fs_err::read_to_string(root.join(path)) else { continue };
        let found = marks::scan(path, &text);
        marks.extend(found.marks);
        problems.extend(found.problems);
    }
    Ok((marks, problems))
}

/// Marks of checks that do not exist, and checks that need a mark or cannot have one.
fn contradictions(catalogue: &Catalogue, marks: &[Mark]) -> Vec<String> {
    let unknown = marks.iter().filter(|mark| catalogue.find(&mark.check).is_none()).map(|mark| {
        format!("{}:{}: there is no check {} in {CHECKS}", mark.path, mark.line, mark.check)
    });
    let checks = catalogue.checks().filter_map(|check| {
        let marked = marks.iter().find(|mark| mark.check == check.id);
        match (&check.differs, &check.not_applicable, marked) {
            (Some(_), _, None) => Some(format!(
                "{CHECKS}: {} differs on purpose, but no test shows what is done instead",
                check.id
            )),
            (_, Some(_), Some(mark)) => Some(format!(
                "{}:{}: {} is not applicable and cannot be proven",
                mark.path, mark.line, check.id
            )),
            _ => None,
        }
    });
    unknown.chain(checks).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
        [[chapter]]
        title = "One"
        checks = [
          { id = "AA-01", setup = "a", expect = "b" },
          { id = "AA-02", setup = "a", expect = "b", differs = "c" },
          { id = "AA-03", setup = "a", expect = "b", not_applicable = "c" },
        ]"#;

    fn problems(source: &str) -> Vec<String> {
        let catalogue = Catalogue::parse(LIST).expect("the list is valid");
        contradictions(&catalogue, &marks::scan("crates/a/tests/it/b.rs", source).marks)
    }

    #[test]
    fn marks_that_fit_the_list_are_fine() {
        let source = "// Checks: AA-01, AA-02\n#[test]\nfn a() {}\n";
        assert_eq!(problems(source), Vec::<String>::new());
    }

    #[test]
    fn a_check_that_differs_needs_a_test() {
        let expected = "conformance/checks.toml: AA-02 differs on purpose, but no test shows what \
                        is done instead";
        assert_eq!(problems(""), [expected]);
    }

    #[test]
    fn a_mark_of_a_check_that_does_not_exist_is_named_with_its_place() {
        let found = problems("// Checks: AA-02, AA-09\n#[test]\nfn a() {}\n");
        assert_eq!(
            found,
            ["crates/a/tests/it/b.rs:1: there is no check AA-09 in conformance/checks.toml"]
        );
    }

    #[test]
    fn what_is_not_applicable_cannot_be_proven() {
        let found = problems("// Checks: AA-02, AA-03\n#[test]\nfn a() {}\n");
        let expected = "crates/a/tests/it/b.rs:1: AA-03 is not applicable and cannot be proven";
        assert_eq!(found, [expected]);
    }
}
