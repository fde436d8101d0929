//! Each limit that `docs/limits.md` lists names a test that reaches it.

use std::collections::HashSet;

use super::{File, Finding};

/// The document that is looked at.
pub(super) const DOCUMENT: &str = "docs/limits.md";

/// Title of the last column of each table.
const COLUMN: &str = "test";
/// Begins the cell of a limit that no test can reach; the reason follows.
const NO_TEST: &str = "none:";

/// Finds the rows whose last cell names no test, or one that is not in `tests`.
pub(super) fn check(file: &File<'_>, tests: &HashSet<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut title = None;
    for (index, line) in file.text.lines().enumerate() {
        let mut find = |message: String| {
            findings.push(Finding::new(file, Some(index.saturating_add(1)), message));
        };
        let Some(cell) = last_cell(line) else {
            title = None;
            continue;
        };
        match title {
            None if cell != COLUMN => find(format!("the last column is not `{COLUMN}`")),
            Some(COLUMN) if !cell.starts_with("--") => {
                if let Some(message) = problem(cell, tests) {
                    find(message);
                }
            }
            _ => {}
        }
        title = title.or(Some(cell));
    }
    findings
}

/// Names of the tests in a file of Rust.
pub(super) fn tests_in(text: &str) -> impl Iterator<Item = String> + '_ {
    let mut is_test = false;
    text.lines().map(str::trim_start).filter_map(move |line| {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
            return None;
        }
        let (_, after) = line.split_once("fn ").filter(|_| is_test)?;
        is_test = false;
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_')?;
        after.get(..end).map(str::to_owned)
    })
}

/// The last cell of a line of a table.
fn last_cell(line: &str) -> Option<&str> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    row.rsplit('|').next().map(str::trim)
}

/// What is wrong with the cell of one limit.
fn problem(cell: &str, tests: &HashSet<String>) -> Option<String> {
    if let Some(reason) = cell.strip_prefix(NO_TEST) {
        return reason.trim().is_empty().then(|| "a reason is missing".to_owned());
    }
    let mut names = cell.split('`').skip(1).step_by(2).peekable();
    if names.peek().is_none() {
        return Some(format!("no test is named, and no reason behind `{NO_TEST}`"));
    }
    let is_known = |path: &str| tests.contains(path.rsplit("::").next().unwrap_or(path));
    names.find(|path| !is_known(path)).map(|path| format!("there is no test `{path}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUST: &str = "
        #[test]
        fn reached() {}

        fn helper() {}

        #[tokio::test(start_paused = true)]
        // Why.
        async fn also_reached() {}";

    fn findings(title: &str, cell: &str) -> Vec<String> {
        let text = format!("text\n\n| bounds | {title} |\n|---|---|\n| a | {cell} |\n\ntext\n");
        let file = File { path: DOCUMENT, text: &text };
        let tests = tests_in(RUST).collect();
        check(&file, &tests).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rows_that_name_tests_or_a_reason_pass() {
        for cell in ["`reached`", "`m::tests::reached`, `also_reached`", "none: it is the kernel's"]
        {
            assert_eq!(findings("test", cell), Vec::<String>::new(), "{cell}");
        }
    }

    #[test]
    fn rows_without_a_test_are_found() {
        for (cell, message) in [
            ("`gone`", "there is no test `gone`"),
            ("`reached`, `m::gone`", "there is no test `m::gone`"),
            ("`helper`", "there is no test `helper`"),
            ("reached", "no test is named, and no reason behind `none:`"),
            ("", "no test is named, and no reason behind `none:`"),
            ("none:", "a reason is missing"),
        ] {
            assert_eq!(findings("test", cell), [format!("docs/limits.md:5: {message}")], "{cell}");
        }
    }

    #[test]
    fn tables_without_the_column_are_found() {
        let message = "docs/limits.md:3: the last column is not `test`";
        assert_eq!(findings("in", "`reached`"), [message]);
    }
}
