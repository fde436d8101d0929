//! `wasmplug run --limit`.

use wasmplug_testkit::{RawClient, Upstream, UpstreamThread};

use crate::process::{Running, prebuilt, run_to_end};

fn manifest(module: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: tag\n\
         spec:\n  url: file://{}\n  pluginConfig:\n    tag: a\n",
        prebuilt(module).display()
    )
}

#[test]
fn a_limit_of_the_proxy_and_one_of_vms_take_effect() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plugins.yaml"), manifest("tag-headers-rust")).unwrap();
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let status = |arguments: &[&str]| {
        let all = [&["-f", "."], arguments].concat();
        let proxy = Running::start(folder.path(), &upstream, &all);
        let request = "GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\nx-b: 2\r\nx-c: 3\r\n\r\n";
        RawClient::connect(proxy.listen).unwrap().exchange(request).unwrap().status
    };
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&["--limit", "headers=3"]), 431);
    // No plugin starts in so little memory, and none is skipped.
    assert_eq!(status(&["--limit", "memory_bytes=64K"]), 503);
}

#[test]
fn a_limit_that_does_not_exist_is_refused_with_those_that_do() {
    let folder = tempfile::tempdir().unwrap();
    let ended = run_to_end(
        folder.path(),
        &["run", "-f", ".", "--upstream", "localhost:1", "--limit", "header=3"],
    );
    assert_eq!(ended.status, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("there is no limit `header`; there are: "), "{}", ended.stderr);
}
