//! `docs/conformance.md`: one table per chapter, and the sums.

use std::fmt::Write as _;

use super::checks::{Catalogue, Chapter, Check};
use super::marks::Mark;

/// How a check stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Passes,
    Differs,
    NotApplicable,
    Missing,
}

const STATUSES: [(Status, &str); 4] = [
    (Status::Passes, "pass"),
    (Status::Differs, "differ on purpose"),
    (Status::NotApplicable, "not applicable"),
    (Status::Missing, "missing"),
];

const INTRODUCTION: &str = "\
# Conformance

What a Proxy-Wasm host is asked to do, check by check, and the tests that prove that this one does it.
Written by `cargo xtask conformance` from [`conformance/checks.toml`](../conformance/checks.toml) and the lines `// Checks: …` above tests; do not edit it.
`cargo xtask ci` fails if it is out of date, or if a test that it names did not pass.

Unless a check says otherwise, what is expected is what Envoy 1.40 does.
A check that passes or differs on purpose has a test that shows it; one that is missing has none, whether or not it works.
";

/// The whole page.
pub(super) fn render(catalogue: &Catalogue, marks: &[Mark]) -> String {
    let mut page = format!("{INTRODUCTION}\n{}.\n\n", summary(catalogue, marks));
    page.push_str("| chapter | checks |");
    for (_, name) in STATUSES {
        let _ = write!(page, " {name} |");
    }
    page.push_str("\n|---|---|---|---|---|---|\n");
    for chapter in &catalogue.chapters {
        let _ = write!(page, "| {} | {} |", chapter.title, chapter.checks.len());
        for (status, _) in STATUSES {
            let _ = write!(page, " {} |", count(chapter.checks.iter(), marks, status));
        }
        page.push('\n');
    }
    for chapter in &catalogue.chapters {
        page.push_str(&table(chapter, marks));
    }
    page
}

/// The sums in one line.
pub(super) fn summary(catalogue: &Catalogue, marks: &[Mark]) -> String {
    let counts = STATUSES
        .map(|(status, name)| format!("{} {name}", count(catalogue.checks(), marks, status)));
    format!("{} checks: {}", catalogue.checks().count(), counts.join(", "))
}

fn count<'a>(checks: impl Iterator<Item = &'a Check>, marks: &[Mark], wanted: Status) -> usize {
    checks.filter(|check| status(check, marks) == wanted).count()
}

fn status(check: &Check, marks: &[Mark]) -> Status {
    let is_marked = marks.iter().any(|mark| mark.check == check.id);
    match (&check.not_applicable, is_marked, &check.differs) {
        (Some(_), ..) => Status::NotApplicable,
        (_, true, Some(_)) => Status::Differs,
        (_, true, None) => Status::Passes,
        (_, false, _) => Status::Missing,
    }
}

fn table(chapter: &Chapter, marks: &[Mark]) -> String {
    let mut table = format!(
        "\n## {}\n\n| id | situation | expected | status | tests |\n|---|---|---|---|---|\n",
        chapter.title
    );
    for check in &chapter.checks {
        let reason = [&check.differs, &check.not_applicable].into_iter().flatten().next();
        let status = match (status(check, marks), reason) {
            (Status::Passes, _) => "passes".to_owned(),
            (Status::Differs, Some(why)) => format!("differs: {why}"),
            (Status::NotApplicable, Some(why)) => format!("not applicable: {why}"),
            _ => "missing".to_owned(),
        };
        let cells = [&*check.setup, &check.expect, &status].map(cell);
        let _ = writeln!(
            table,
            "| {} | {} | {} |",
            check.id,
            cells.join(" | "),
            tests(&check.id, marks).join("<br>")
        );
    }
    table
}

/// Links to the files of the tests that prove a check.
fn tests(id: &str, marks: &[Mark]) -> Vec<String> {
    let proofs = marks.iter().filter(|mark| mark.check == id);
    proofs.map(|mark| format!("[`{}`](../{})", mark.test, mark.path)).collect()
}

/// A bar would end the cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"
        [[chapter]]
        title = "One"
        checks = [
          { id = "AA-01", setup = "a | b", expect = "c" },
          { id = "AA-02", setup = "d", expect = "e", differs = "f" },
        ]
        [[chapter]]
        title = "Two"
        checks = [
          { id = "BB-01", setup = "g", expect = "h", not_applicable = "i" },
          { id = "BB-02", setup = "j", expect = "k" },
        ]"#;

    fn mark(check: &str, test: &str) -> Mark {
        let path = "crates/a/tests/it/b.rs".into();
        Mark { check: check.into(), test: test.into(), path, line: 1 }
    }

    #[test]
    fn each_check_stands_in_its_table_with_its_status_and_tests() {
        let catalogue = Catalogue::parse(LIST).expect("the list is valid");
        let marks = [mark("AA-01", "b::one"), mark("AA-01", "b::two"), mark("AA-02", "b::one")];
        let page = render(&catalogue, &marks);
        let expected = "\n4 checks: 1 pass, 1 differ on purpose, 1 not applicable, 1 missing.\n\n\
            | chapter | checks | pass | differ on purpose | not applicable | missing |\n\
            |---|---|---|---|---|---|\n\
            | One | 2 | 1 | 1 | 0 | 0 |\n\
            | Two | 2 | 0 | 0 | 1 | 1 |\n\
            \n## One\n\n\
            | id | situation | expected | status | tests |\n|---|---|---|---|---|\n\
            | AA-01 | a \\| b | c | passes | [`b::one`](../crates/a/tests/it/b.rs)<br>\
            [`b::two`](../crates/a/tests/it/b.rs) |\n\
            | AA-02 | d | e | differs: f | [`b::one`](../crates/a/tests/it/b.rs) |\n\
            \n## Two\n\n\
            | id | situation | expected | status | tests |\n|---|---|---|---|---|\n\
            | BB-01 | g | h | not applicable: i |  |\n\
            | BB-02 | j | k | missing |  |\n";
        assert_eq!(page.strip_prefix(INTRODUCTION), Some(expected));
    }

    #[test]
    fn without_marks_nothing_passes() {
        let catalogue = Catalogue::parse(LIST).expect("the list is valid");
        let expected = "4 checks: 0 pass, 0 differ on purpose, 1 not applicable, 3 missing";
        assert_eq!(summary(&catalogue, &[]), expected);
    }
}
