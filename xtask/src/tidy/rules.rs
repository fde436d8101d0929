//! Rules on names and lines.

use std::path::Path;

use super::{File, Finding, has_extension};

/// Longest source file, in lines.
const MAX_LINES: usize = 600;

/// File names that say nothing of what is in the file.
const EMPTY_NAMES: [&str; 7] = ["common", "helper", "helpers", "manager", "misc", "util", "utils"];

/// Rust that may not be committed. Each is cut in two, so that this file does not hold it.
const UNFINISHED: [(&str, &str); 4] = [
    (concat!("#[", "ignore"), "a test that cannot run prints `SKIPPED: reason`"),
    (concat!("#[", "should_panic"), "a test checks the error that it expects"),
    (concat!("todo", "!("), "finish it"),
    (concat!("unimplemented", "!("), "finish it"),
];

/// Where people's and machines' own folders begin. Cut in two for the same reason.
const OWN_FOLDERS: [&str; 3] =
    [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/Us", "ers/")];

pub(super) fn check(file: &File<'_>, root: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    if has_extension(file.path, "rs") {
        findings.extend(source_file(file));
    }
    if Path::new(file.path).ends_with("Cargo.toml") {
        findings.extend(lints(file));
    }
    findings.extend(machine_paths(file, root));
    findings
}

fn source_file(file: &File<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = file.text.lines().count();
    if lines > MAX_LINES {
        findings.push(Finding::new(file, None, format!("{lines} lines, {MAX_LINES} are allowed")));
    }
    let path = Path::new(file.path);
    if path.ends_with("mod.rs") {
        findings.push(Finding::new(file, None, "`mod.rs`; name the file after its module"));
    }
    let names = path.with_extension("");
    for name in names.iter().filter_map(|name| name.to_str()) {
        if EMPTY_NAMES.contains(&name) {
            findings.push(Finding::new(file, None, format!("`{name}` names nothing")));
        }
    }
    for (number, line) in (1..).zip(file.text.lines()) {
        for (text, advice) in UNFINISHED {
            if line.contains(text) {
                findings.push(Finding::new(file, Some(number), format!("`{text}`: {advice}")));
            }
        }
    }
    findings
}

/// Every crate follows the lints of the workspace. A manifest with a workspace of its own stands
/// outside.
fn lints(file: &File<'_>) -> Option<Finding> {
    let mut lines = file.text.lines().map(str::trim);
    if lines.clone().any(|line| line == "[workspace]") {
        return None;
    }
    let follows = lines.by_ref().any(|line| line == "[lints]")
        && lines.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true");
    (!follows).then(|| Finding::new(file, None, "no `[lints]` with `workspace = true`"))
}

fn machine_paths(file: &File<'_>, root: &Path) -> Vec<Finding> {
    let checkout = root.to_str().unwrap_or_default().trim_end_matches('/');
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(file.text.lines()) {
        let own = OWN_FOLDERS.into_iter().chain([checkout]).filter(|path| path.len() > 1);
        for path in own.filter(|path| line.contains(path)) {
            findings.push(Finding::new(file, Some(number), format!("machine path `{path}`")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let findings = check(&File { path, text }, Path::new("/checkout/of/somebody/"));
        findings.into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn tidy_files_pass() {
        for (path, text) in [
            ("crates/api/src/plan.rs", "fn plan() {}\n"),
            ("crates/api/src/plan.rs", &"\n".repeat(MAX_LINES)),
            ("docs/utils.md", "mod.rs"),
            ("crates/api/Cargo.toml", "[package]\n\n[lints]\nworkspace = true\n"),
            ("plugins/a/Cargo.toml", "[package]\n\n[workspace]\n"),
        ] {
            assert_eq!(found(path, text), Vec::<String>::new(), "{path}");
        }
    }

    #[test]
    fn long_files_and_empty_names_are_found() {
        for (path, text, message) in [
            ("a/plan.rs", "\n".repeat(MAX_LINES + 1), "a/plan.rs: 601 lines, 600 are allowed"),
            ("a/mod.rs", String::new(), "a/mod.rs: `mod.rs`; name the file after its module"),
            ("a/utils.rs", String::new(), "a/utils.rs: `utils` names nothing"),
            ("a/common/x.rs", String::new(), "a/common/x.rs: `common` names nothing"),
        ] {
            assert_eq!(found(path, &text), [message]);
        }
    }

    #[test]
    fn unfinished_rust_is_found_in_rust_alone() {
        for (text, _) in UNFINISHED {
            let line = format!("\n    {text}\n");
            assert_eq!(found("a.rs", &line).len(), 1, "{text}");
            assert!(found("a.rs", &line)[0].starts_with("a.rs:2:"), "{text}");
            assert_eq!(found("a.md", &line), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn crates_without_the_lints_of_the_workspace_are_found() {
        for manifest in [
            "[package]\n",
            "[package]\n[lints]\n[dependencies]\nworkspace = true\n",
            "[package]\nworkspace = true\n",
        ] {
            assert_eq!(found("a/Cargo.toml", manifest).len(), 1, "{manifest}");
        }
    }

    #[test]
    fn paths_of_a_machine_are_found_in_any_text() {
        for folder in OWN_FOLDERS.into_iter().chain(["/checkout/of/somebody"]) {
            let findings = found("docs/a.md", &format!("see {folder}x"));
            assert_eq!(findings, [format!("docs/a.md:1: machine path `{folder}`")]);
        }
        assert_eq!(found("docs/a.md", "see /usr/bin/env"), Vec::<String>::new());
    }
}
