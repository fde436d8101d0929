//! Flags of `wasmplug run` about what stands behind it.

use std::path::Path;

use wasmplug_testkit::{Upstream, UpstreamThread};

use crate::process::{Running, run_to_end};

/// A folder without a plugin.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("none.yaml"), "").unwrap();
    folder
}

fn refused(folder: &Path, status: i32, arguments: &[&str]) -> String {
    let mut all = vec!["run", "-f", ".", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    all.extend(arguments);
    let ended = run_to_end(folder, &all);
    assert_eq!(ended.status, Some(status), "{}", ended.stderr);
    ended.stderr
}

#[test]
fn several_hosts_take_turns() {
    let folder = folder();
    let upstreams = [(); 2].map(|()| UpstreamThread::start(Upstream::echo()).unwrap());
    let hosts = upstreams.each_ref().map(|of| of.addr().to_string()).join(",");
    let arguments = ["-f", ".", "--load-balancing", "round-robin", "--request-timeout", "1h"];
    let proxy = Running::start_to(folder.path(), &hosts, &arguments);
    for _ in 0..4 {
        proxy.get("/");
    }
    assert_eq!(upstreams.each_ref().map(|of| of.received().len()), [2, 2]);
    let received = upstreams[0].received();
    assert_eq!(received[0].header("x-envoy-expected-rq-timeout-ms"), Some("3600000"));
}

#[test]
fn files_for_tls_that_cannot_be_used_are_named() {
    let folder = folder();
    let to = ["--upstream", "https://shop.test", "--upstream-ca", "ca.pem"];
    let absent = refused(folder.path(), 1, &to);
    assert!(absent.contains("ca.pem") && absent.contains("certificates"), "{absent}");
    std::fs::write(folder.path().join("ca.pem"), "no certificate").unwrap();
    let empty = refused(folder.path(), 1, &to);
    assert!(
        empty.contains("there is no certificate") && empty.contains("--upstream-ca"),
        "{empty}"
    );
    std::fs::write(folder.path().join("ca.pem"), vec![b'a'; (4 << 20) + 1]).unwrap();
    let large = refused(folder.path(), 1, &to);
    assert!(large.contains("4194305 bytes"), "{large}");
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    let folder = folder();
    for (arguments, said) in [
        (&["--upstream-tls-cert", "a.pem"][..], "--upstream-tls-key"),
        (&["--upstream-max-pending", "0"], "--upstream-max-pending"),
        (&["--load-balancing", "random"], "round-robin"),
        (&["--cluster", "upstream=a:1"], "another name"),
        (&["--cluster", "a=http://b:1,h2c://c:1"], "more than one scheme"),
    ] {
        let all = [&["--upstream", "localhost:1"], arguments].concat();
        let stderr = refused(folder.path(), 2, &all);
        assert!(stderr.contains(said), "{stderr}");
    }
}
