//! Bad input: one clear error with cause and hint, and the right exit status.

use std::path::Path;

use crate::process::{Ended, run_to_end};

fn run_on(name: &str, text: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(name), text).unwrap();
    run_to_end(folder.path(), &["run", "-f", name, "--upstream", "127.0.0.1:1"])
}

#[track_caller]
fn assert_fails(ended: &Ended, status: i32, expected: &str) {
    assert_eq!(ended.stderr.trim_end(), expected.trim());
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.status, Some(status));
}

#[test]
fn a_file_that_does_not_exist() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ended = run_to_end(folder, &["run", "-f", "no/such.yaml", "--upstream", "127.0.0.1:1"]);
    let expected = "
error: cannot read `no/such.yaml`
  caused by: entity not found

hint: `-f` wants an existing file or folder";
    assert_fails(&ended, 1, expected);
}

#[test]
fn yaml_that_does_not_parse_has_a_line_and_a_column() {
    let ended = run_on("a.yaml", "apiVersion: v1\nkind: [\n");
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.starts_with("a.yaml:3:1: error: invalid YAML"), "{}", ended.stderr);
    assert!(
        ended.stderr.trim_end().ends_with("error: 1 error in the resources"),
        "{}",
        ended.stderr
    );
}

#[test]
fn every_violation_is_reported_at_once_with_the_nearest_name() {
    let text = "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata:
  name: a
spec:
  url: ftp://example.com/a.wasm
  pluginConfg: {}
  phase: AUTHEN
  sha256: abc
";
    let ended = run_on("a.yaml", text);
    assert_eq!(ended.status, Some(1));
    for line in [
        "a.yaml:7:3: warning: spec: unknown field `pluginConfg`",
        "  hint: did you mean `pluginConfig`?",
        "a.yaml:8:10: error: spec.phase: must be one of",
        "  hint: did you mean `AUTHN`?",
        "a.yaml:6:8: error: spec.url:",
        "a.yaml:9:11: error: spec.sha256:",
        "error: 3 errors in the resources",
    ] {
        assert!(ended.stderr.contains(line), "no `{line}` in:\n{}", ended.stderr);
    }
}

#[test]
fn wrong_usage_has_its_own_status() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["run", "-f", "a.yaml", "--upstream", "ftp://example.com"];
    let ended = run_to_end(folder.path(), &arguments);
    assert_eq!(ended.status, Some(2));
    assert!(
        ended.stderr.contains("`http`, `https`, `h2c` and `h2` are spoken to upstreams"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_log_filter_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run_to_end(folder.path(), &["quickstart", "--once", "--log", "wasm=loud"]);
    assert_eq!(ended.status, Some(1));
    assert!(ended.stderr.starts_with("error: `--log` is not a filter"), "{}", ended.stderr);
}
