//! Counts tests by reading what test runners print.

use std::fmt;

use super::names::Names;

/// How a line says that a test could not run here.
const SKIPPED: &str = "SKIPPED: ";

/// The sums over all tests seen so far.
#[derive(Default)]
pub(super) struct Tally {
    passed: usize,
    failed: usize,
    /// One reason for each skipped test.
    skipped: Vec<String>,
    /// Whether the lines are those of one test, which may say more than once that it is skipped.
    section: Section,
    /// Skipped tests that their runner will count as passed.
    skipped_tests: usize,
    names: Names,
}

/// Where in the output of a test runner a line stands.
#[derive(Default, PartialEq, Eq)]
enum Section {
    /// Between tests.
    #[default]
    Runner,
    /// In the output of one test, which has not said that it is skipped.
    Test,
    /// In the output of one test that is already counted as skipped.
    SkippedTest,
}

impl Tally {
    /// Reads one line of output.
    pub(super) fn line(&mut self, line: &str) {
        let line = line.trim();
        self.names.line(line);
        if let Some(counts) = libtest_result(line).or_else(|| nextest_summary(line)) {
            self.section = Section::Runner;
            self.add(counts);
        } else if is_test_header(line) {
            self.section = Section::Test;
        } else if let Some(reason) = line.strip_prefix(SKIPPED) {
            self.skip(reason);
        }
    }

    /// Reads the end of a command's output.
    pub(super) fn end(&mut self) {
        self.section = Section::Runner;
        self.skipped_tests = 0;
    }

    pub(super) fn passed(&self) -> usize {
        self.passed
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// How each test ended, see [`Names::list`].
    pub(super) fn names(&self) -> String {
        self.names.list()
    }

    /// The reasons, one for each skipped test.
    pub(super) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    fn skip(&mut self, reason: &str) {
        match self.section {
            Section::SkippedTest => return,
            Section::Test => {
                self.section = Section::SkippedTest;
                self.skipped_tests += 1;
                self.names.skip();
            }
            Section::Runner => {}
        }
        self.skipped.push(reason.to_owned());
    }

    /// A runner takes a test that printed why it cannot run for one that passed.
    fn add(&mut self, counts: Counts) {
        self.passed += counts.passed.saturating_sub(self.skipped_tests);
        self.failed += counts.failed;
        self.skipped_tests = 0;
        let ignored = (0..counts.ignored).map(|_| "marked as ignored".to_owned());
        self.skipped.extend(ignored);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, .. } = self;
        write!(formatter, "{passed} passed, {failed} failed, {} skipped", self.skipped.len())
    }
}

#[derive(Clone, Copy)]
struct Counts {
    passed: usize,
    failed: usize,
    ignored: usize,
}

/// `test result: ok. 3 passed; 0 failed; 0 ignored; …`
fn libtest_result(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what| count(counts.split(';'), what);
    Some(Counts { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
}

/// `Summary [   0.035s] 14 tests run: 13 passed, 1 failed, 2 skipped`, where what is zero may be
/// missing.
fn nextest_summary(line: &str) -> Option<Counts> {
    let (_, counts) = line.strip_prefix("Summary [")?.split_once(" run: ")?;
    let count = |what| count(counts.split(','), what);
    Some(Counts {
        passed: count("passed")?,
        failed: count("failed").unwrap_or(0) + count("timed out").unwrap_or(0),
        ignored: count("skipped").unwrap_or(0),
    })
}

/// The number before the word, in the part that holds the word; `5 passed (1 slow)` is five.
fn count<'a>(mut parts: impl Iterator<Item = &'a str>, what: &str) -> Option<usize> {
    parts.find_map(|part| {
        let (number, rest) = part.trim().split_once(' ')?;
        rest.starts_with(what).then(|| number.parse().ok())?
    })
}

/// `---- tests::name stdout ----` by libtest; by nextest `--- STDOUT: crate tests::name ---`, or in
/// newer versions `stdout ───` under the name.
fn is_test_header(line: &str) -> bool {
    (line.starts_with("---- ") && line.ends_with(" stdout ----"))
        || ["--- STDOUT:", "──── STDOUT:", "stdout ───"].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> String {
        let mut tally = Tally::default();
        for line in output.lines() {
            tally.line(line);
        }
        tally.end();
        tally.to_string()
    }

    fn result(passed: usize, failed: usize, ignored: usize) -> String {
        format!(
            "test result: FAILED. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; \
             0 filtered out; finished in 0.01s\n"
        )
    }

    #[test]
    fn results_of_all_test_binaries_are_summed_up() {
        let output = result(3, 1, 0) + "running 5 tests\n" + &result(5, 0, 2);
        assert_eq!(tally(&output), "8 passed, 1 failed, 2 skipped");
    }

    #[test]
    fn a_test_that_says_it_is_skipped_did_not_pass() {
        let skipped = "---- a stdout ----\nSKIPPED: no Envoy\nSKIPPED: and no registry\n\n\
                       ---- b stdout ----\nSKIPPED: no Envoy\n\n";
        assert_eq!(
            tally(&(skipped.to_owned() + &result(3, 0, 0))),
            "1 passed, 0 failed, 2 skipped"
        );
        let talkative = "---- a stdout ----\nlisten: not SKIPPED: at all\n\n";
        assert_eq!(
            tally(&(talkative.to_owned() + &result(3, 0, 0))),
            "3 passed, 0 failed, 0 skipped"
        );
    }

    #[test]
    fn a_task_that_is_skipped_is_no_test_that_passed() {
        let output = "SKIPPED: no Go\nSKIPPED: no Rust\n".to_owned() + &result(3, 0, 0);
        assert_eq!(tally(&output), "3 passed, 0 failed, 2 skipped");
    }

    #[test]
    fn summaries_of_nextest_are_read() {
        for (summary, expected) in [
            (
                "     Summary [   0.035s] 14 tests run: 14 passed, 0 skipped",
                "14 passed, 0 failed, 0 skipped",
            ),
            (
                "     Summary [   1.035s] 14 tests run: 11 passed (2 slow), 2 failed, 1 timed out, 4 skipped",
                "11 passed, 3 failed, 4 skipped",
            ),
            (
                "     Summary [   1.035s] 3/14 tests run: 1 passed, 2 failed, 0 skipped",
                "1 passed, 2 failed, 0 skipped",
            ),
        ] {
            assert_eq!(tally(summary), expected, "{summary}");
        }
    }

    #[test]
    fn a_test_is_skipped_once_under_nextest_too() {
        for header in ["--- STDOUT: a tests::b ---", "──── STDOUT: a tests::b", "  stdout ───"]
        {
            let test = format!("{header}\n    SKIPPED: no Envoy\n    SKIPPED: no registry\n");
            let summary = "     Summary [   0.035s] 2 tests run: 2 passed, 0 skipped";
            assert_eq!(tally(&(test + summary)), "1 passed, 0 failed, 1 skipped", "{header}");
        }
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in [
            "",
            "test result:",
            "test result: ok. many passed; 0 failed; 0 ignored",
            "3 passed; 0 failed",
            "Summary [",
            "Summary [ 1s] nothing",
            "---- a stdout ----",
        ] {
            assert_eq!(tally(line), "0 passed, 0 failed, 0 skipped", "{line}");
        }
    }
}
