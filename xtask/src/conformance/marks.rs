//! Marks of tests: lines `// Checks: LD-01, LD-02` above a test function or a row of cases.
//!
//! The rest of the source is read only as far as it takes to know the test's name: the next line
//! that is neither a comment nor an attribute must begin it.

use super::checks::is_id;

/// How a mark begins.
const MARK: &str = "// Checks:";

/// One check at one test.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) check: String,
    /// The test as its runner names it, such as `headers::a_lookup`.
    pub(super) test: String,
    /// The file, relative to the checkout.
    pub(super) path: String,
    /// From 1.
    pub(super) line: usize,
}

/// What a file has.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) marks: Vec<Mark>,
    /// What is wrong, each with its place.
    pub(super) problems: Vec<String>,
}

/// Reads the marks of one file.
pub(super) fn scan(path: &str, source: &str) -> Found {
    let mut found = Found::default();
    let mut module = module_of(path);
    let mut pending: Vec<(String, usize)> = Vec::new();
    let mut has_test_attribute = false;
    for (index, line) in source.lines().enumerate() {
        let (line_number, line) = (index + 1, line.trim_end());
        let trimmed = line.trim_start();
        if let Some(ids) = trimmed.strip_prefix(MARK) {
            for id in ids.split(',').map(str::trim) {
                if is_id(id) {
                    pending.push((id.to_owned(), line_number));
                } else {
                    let problem =
                        format!("{path}:{line_number}: `{id}` is not an id such as `LD-01`");
                    found.problems.push(problem);
                }
            }
            continue;
        }
        if trimmed.starts_with("//") {
            continue;
        }
        if trimmed.starts_with("#[") {
            has_test_attribute |= is_test_attribute(trimmed);
            continue;
        }
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(" {")) {
            module.push(name.to_owned());
        }
        let name = if has_test_attribute { function(trimmed) } else { case(trimmed) };
        has_test_attribute = false;
        for (check, line) in pending.drain(..) {
            match name {
                Some(name) => {
                    let full = [&module[..], &[name.to_owned()]].concat().join("::");
                    found.marks.push(Mark { check, test: full, path: path.to_owned(), line });
                }
                None => {
                    found.problems.push(format!("{path}:{line}: no test follows the mark {check}"));
                }
            }
        }
    }
    for (check, line) in pending {
        found.problems.push(format!("{path}:{line}: no test follows the mark {check}"));
    }
    found
}

/// The modules that a file's path stands for: `crates/x/tests/it/a/b.rs` is `a::b`.
fn module_of(path: &str) -> Vec<String> {
    let inner = path.split_once("/tests/it/").or_else(|| path.split_once("/src/"));
    let inner = inner.map_or(path, |(_, inner)| inner).trim_end_matches(".rs");
    let parts = inner.split('/').filter(|part| !["main", "lib"].contains(part));
    parts.map(str::to_owned).collect()
}

fn is_test_attribute(line: &str) -> bool {
    ["#[test]", "#[rstest]", "#[tokio::test"].iter().any(|start| line.starts_with(start))
}

/// The name in `fn name(`, or in `async fn name(`.
fn function(line: &str) -> Option<&str> {
    let line = line.strip_prefix("async ").unwrap_or(line);
    let (name, _) = line.strip_prefix("fn ")?.split_once(['(', '<'])?;
    is_name(name).then_some(name)
}

/// The name in `name => …` of a list of cases; the arrow may stand on the next line.
fn case(line: &str) -> Option<&str> {
    let name = line.split_once(" =>").map_or(line, |(name, _)| name);
    is_name(name).then_some(name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "crates/host/tests/it/a/b.rs";

    fn marks(text: &str) -> Vec<String> {
        let found = scan(PATH, text);
        assert_eq!(found.problems, Vec::<String>::new());
        found
            .marks
            .iter()
            .map(|mark| format!("{} {} {}", mark.line, mark.check, mark.test))
            .collect()
    }

    fn problems(text: &str) -> Vec<String> {
        let found = scan(PATH, text);
        assert_eq!(found.marks, []);
        found.problems
    }

    #[test]
    fn a_test_function_is_named_by_its_modules() {
        let text = "// Checks: LD-01, LD-02\n#[test]\nfn it_loads() {\n}\n";
        assert_eq!(marks(text), ["1 LD-01 a::b::it_loads", "1 LD-02 a::b::it_loads"]);
    }

    #[test]
    fn attributes_comments_and_further_marks_may_stand_between() {
        let text = "/// Says why.\n// Checks: LD-01\n// More.\n// Checks: LD-02\n\
                    #[tokio::test(flavor = \"current_thread\")]\nasync fn it_loads() {\n";
        assert_eq!(marks(text), ["2 LD-01 a::b::it_loads", "4 LD-02 a::b::it_loads"]);
    }

    #[test]
    fn rows_of_cases_are_tests() {
        let text = "cases! {\n    // Checks: LD-01\n    first => guest(\"\").send([]);\n    \
                    // Checks: LD-02\n    second\n        => guest(\"\");\n}\n";
        assert_eq!(marks(text), ["2 LD-01 a::b::first", "4 LD-02 a::b::second"]);
    }

    #[test]
    fn unit_tests_are_in_the_module_of_their_file() {
        let text = "mod tests {\n    // Checks: LD-01\n    #[test]\n    fn a() {}\n}\n";
        let found = scan("crates/host/src/abi/pairs.rs", text);
        assert_eq!(found.marks[0].test, "abi::pairs::tests::a");
        let found = scan("crates/host/src/lib.rs", text);
        assert_eq!(found.marks[0].test, "tests::a");
    }

    #[test]
    fn a_mark_without_a_test_is_wrong() {
        for text in [
            "// Checks: LD-01\n",
            "// Checks: LD-01\n\n#[test]\nfn a() {}\n",
            "// Checks: LD-01\nfn a() {}\n",
            "// Checks: LD-01\nconst A: &str = \"\";\n",
            "// Checks: LD-01\n#[test]\nconst A: &str = \"\";\n",
            "// Checks: LD-01\n}\n",
        ] {
            let expected = [format!("{PATH}:1: no test follows the mark LD-01")];
            assert_eq!(problems(text), expected, "{text}");
        }
    }

    #[test]
    fn a_mark_of_another_form_is_wrong() {
        for ids in ["LD-1", "LD-01 LD-02", "ld-01", "", "LD-01…"] {
            let found = problems(&format!("fn a() {{}}\n// Checks: {ids}\n#[test]\nfn b() {{}}\n"));
            assert_eq!(found, [format!("{PATH}:2: `{ids}` is not an id such as `LD-01`")]);
        }
    }

    #[test]
    fn the_word_elsewhere_is_no_mark() {
        assert_eq!(
            marks("/// Checks: LD-01\n//! Checks: LD-01\nlet a = \"// Checks: LD-01\";\n"),
            [""; 0]
        );
    }
}
