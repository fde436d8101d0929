//! Which tests passed in a run of `cargo xtask ci`.

use std::collections::BTreeSet;

use super::marks::Mark;
use crate::ci::{FAILED, PASSED, SKIPPED};

/// Names of tests by how they ended.
pub(super) struct Results {
    passed: BTreeSet<String>,
    skipped: BTreeSet<String>,
    failed: BTreeSet<String>,
}

// === impl Results ===

impl Results {
    /// Reads what `cargo xtask ci` wrote; other lines count nothing.
    pub(super) fn parse(text: &str) -> Self {
        let names = |word: &str| {
            let lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.filter(|(how, _)| *how == word).map(|(_, name)| name.to_owned()).collect()
        };
        Self { passed: names(PASSED), skipped: names(SKIPPED), failed: names(FAILED) }
    }

    /// What is wrong with marks whose tests did not run or did not pass.
    ///
    /// Test binaries of several crates may have tests of one name: then each of them must pass.
    pub(super) fn missing(&self, marks: &[Mark]) -> Vec<String> {
        let is_proven = |test: &str| {
            !self.failed.contains(test)
                && (self.passed.contains(test) || self.skipped.contains(test))
        };
        let mut seen = BTreeSet::new();
        let missing = marks.iter().filter(|mark| !is_proven(&mark.test) && seen.insert(&mark.test));
        let told = missing.map(|Mark { path, line, test, .. }| {
            format!("{path}:{line}: the test {test} did not pass in this run")
        });
        told.collect()
    }

    /// Marked tests that could not run here.
    pub(super) fn skipped<'a>(&self, marks: &'a [Mark]) -> BTreeSet<&'a str> {
        let tests = marks.iter().map(|mark| &*mark.test);
        tests.filter(|test| self.skipped.contains(*test)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(test: &str) -> Mark {
        Mark { check: "LD-01".into(), test: test.into(), path: "a.rs".into(), line: 7 }
    }

    #[test]
    fn what_passed_or_was_skipped_is_not_missing() {
        let results = Results::parse("passed a::b\nskipped a::c\n");
        let marks = [mark("a::b"), mark("a::c")];
        assert_eq!(results.missing(&marks), Vec::<String>::new());
        assert_eq!(results.skipped(&marks), BTreeSet::from(["a::c"]));
    }

    #[test]
    fn what_failed_or_did_not_run_is_missing_once() {
        let results = Results::parse("failed a::b\npassed a::d\nfailed a::d\nnonsense\n");
        let marks = [mark("a::b"), mark("a::b"), mark("a::c"), mark("a::d")];
        assert_eq!(
            results.missing(&marks),
            [
                "a.rs:7: the test a::b did not pass in this run",
                "a.rs:7: the test a::c did not pass in this run",
                "a.rs:7: the test a::d did not pass in this run",
            ]
        );
    }
}
