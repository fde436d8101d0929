//! Remembers how each test ended, by reading what test runners print.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How a test passed in the list that [`Names::list`] makes.
pub(crate) const PASSED: &str = "passed";
/// How a test that printed why it cannot run stands there.
pub(crate) const SKIPPED: &str = "skipped";
/// How a test that failed stands there, in whichever test binary.
pub(crate) const FAILED: &str = "failed";

/// How tests ended, by name.
#[derive(Default)]
pub(super) struct Names {
    ended: BTreeMap<String, &'static str>,
    /// The test whose output the lines are, as far as is known.
    current: String,
    /// The test that was named last.
    last: String,
}

// === impl Names ===

impl Names {
    /// Reads one line of output, without white space around it.
    pub(super) fn line(&mut self, line: &str) {
        if let Some((name, how)) = libtest(line).or_else(|| nextest(line)) {
            name.clone_into(&mut self.last);
            self.end(name, how);
        } else if let Some(name) = section(line, &self.last) {
            name.clone_into(&mut self.current);
        }
    }

    /// The current test said that it cannot run.
    pub(super) fn skip(&mut self) {
        let current = std::mem::take(&mut self.current);
        if !current.is_empty() {
            self.end(&current, SKIPPED);
        }
    }

    /// One line for each test: how it ended, a space, its name.
    pub(super) fn list(&self) -> String {
        self.ended.iter().fold(String::new(), |mut list, (name, how)| {
            let _ = writeln!(list, "{how} {name}");
            list
        })
    }

    /// Tests of one name in several binaries have passed if all of them have.
    fn end(&mut self, name: &str, how: &'static str) {
        let is_worse = match self.ended.get(name) {
            None => true,
            Some(before) => *before == PASSED || how == FAILED,
        };
        if is_worse {
            self.ended.insert(name.to_owned(), how);
        }
    }
}

/// `test a::b ... ok`
fn libtest(line: &str) -> Option<(&str, &'static str)> {
    let (name, how) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let how = match how {
        "ok" => PASSED,
        how if how.starts_with("FAILED") => FAILED,
        _ => return None,
    };
    Some((name, how))
}

/// `PASS [   0.004s] wasmplug-host::it a::b`, in newer versions with `( 1/14)` before the crate.
fn nextest(line: &str) -> Option<(&str, &'static str)> {
    let (how, rest) = line.split_once(" [")?;
    let how = match how {
        "PASS" => PASSED,
        "FAIL" | "TIMEOUT" | "ABORT" | "SIGABRT" | "SIGSEGV" => FAILED,
        _ => return None,
    };
    let (_, name) = rest.split_once("] ")?.1.rsplit_once(' ')?;
    Some((name, how))
}

/// The test of the line above a test's output, or `last` where the line does not name it.
fn section<'a>(line: &'a str, last: &'a str) -> Option<&'a str> {
    let libtest = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"));
    let nextest =
        || ["--- STDOUT:", "──── STDOUT:"].iter().find_map(|start| line.strip_prefix(start));
    libtest
        .or_else(|| nextest()?.trim_end_matches(['-', ' ']).rsplit(' ').next())
        .or_else(|| line.starts_with("stdout ───").then_some(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(output: &str) -> String {
        let mut names = Names::default();
        for line in output.lines().map(str::trim) {
            if line.starts_with("SKIPPED: ") { names.skip() } else { names.line(line) }
        }
        names.list()
    }

    #[test]
    fn libtests_lines_are_read() {
        let output = "running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\
                      test a::d ... ignored, no\ntest result: ok. 1 passed";
        assert_eq!(list(output), "passed a::b\nfailed a::c\n");
    }

    #[test]
    fn nextests_lines_are_read() {
        let output = "    PASS [   0.004s] x::it a::b\n    FAIL [   0.004s] (3/9) x::it a::c\n\
                      TIMEOUT [   9.000s] x a::d\n Summary [ 1s] 3 tests run\n SETUP [ 1s] x y";
        assert_eq!(list(output), "passed a::b\nfailed a::c\nfailed a::d\n");
    }

    #[test]
    fn a_test_that_is_skipped_did_not_pass() {
        for header in [
            "---- a::b stdout ----",
            "--- STDOUT: x::it a::b ---",
            "──── STDOUT: x::it a::b",
            "stdout ───",
        ] {
            let output = format!("test a::c ... ok\ntest a::b ... ok\n{header}\nSKIPPED: no Envoy");
            assert_eq!(list(&output), "skipped a::b\npassed a::c\n", "{header}");
        }
        assert_eq!(list("test a::b ... ok\nSKIPPED: a tool is missing"), "passed a::b\n");
    }

    #[test]
    fn one_name_in_two_binaries_passes_in_both_or_not() {
        for output in ["test a ... ok\ntest a ... FAILED", "test a ... FAILED\ntest a ... ok"] {
            assert_eq!(list(output), "failed a\n", "{output}");
        }
    }
}
