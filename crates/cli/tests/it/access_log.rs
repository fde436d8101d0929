//! `wasmplug run --access-log`.

use std::path::Path;
use std::time::Instant;

use wasmplug_testkit::{Upstream, UpstreamThread, patience};

use crate::process::{Running, prebuilt, run_to_end};

fn write_plugin(folder: &Path) {
    let text = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: tag\n\
         spec:\n  url: file://{}\n  pluginConfig:\n    tag: a\n",
        prebuilt("tag-headers-rust").display()
    );
    std::fs::write(folder.join("plugins.yaml"), text).unwrap();
}

/// The file's lines, once there is one.
fn lines(path: &Path) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            return text.lines().map(str::to_owned).collect();
        }
        assert!(begin.elapsed() < patience(), "no line came: {text:?}");
        std::thread::yield_now();
    }
}

#[test]
fn each_request_is_a_line_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    write_plugin(folder.path());
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let arguments =
        ["-f", "plugins.yaml", "--access-log", "access.log", "--access-log-format", "json"];
    let proxy = Running::start(folder.path(), &upstream, &arguments);
    proxy.get("/path");
    let lines = lines(&folder.path().join("access.log"));
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["path"], "/path");
    assert!(line["plugins"]["default/tag"].is_u64(), "{line}");
}

#[test]
fn a_file_that_cannot_be_opened_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write_plugin(folder.path());
    let ended = run_to_end(
        folder.path(),
        &["run", "-f", ".", "--upstream", "localhost:1", "--access-log", "absent/access.log"],
    );
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("cannot open the access log"), "{}", ended.stderr);
    assert!(ended.stderr.contains("absent/access.log"), "{}", ended.stderr);
}

#[test]
fn a_format_without_a_log_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run_to_end(
        folder.path(),
        &["run", "-f", ".", "--upstream", "localhost:1", "--access-log-format", "json"],
    );
    assert_eq!(ended.status, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--access-log <FILE>"), "{}", ended.stderr);
}
