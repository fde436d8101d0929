//! One process takes the place of another without a refused connection, and reads anew when asked.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wasmplug_testkit::{RawClient, Upstream, UpstreamThread, patience};

use crate::process::{Running, prebuilt, run_to_end};

fn manifest(tag: &str) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: tag\n\
         spec:\n  url: file://{}\n  pluginConfig:\n    tag: {tag}\n",
        prebuilt("tag-headers-rust").display()
    )
}

fn write(folder: &Path, tag: &str) {
    std::fs::write(folder.join("plugins.yaml"), manifest(tag)).unwrap();
}

#[test]
fn a_successor_takes_the_sockets_over_and_no_connection_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "one");
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let arguments = ["-f", "plugins.yaml", "--handover", "handover", "--workers", "2"];
    let first = Running::start(folder.path(), &upstream, &arguments);
    let (listen, admin) = (first.listen, first.admin);
    let (is_over, answers) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let answer = RawClient::connect(listen).unwrap().get("/").unwrap();
                assert_eq!(answer.status, 200);
                answers.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (listen_text, admin_text) = (listen.to_string(), admin.to_string());
        let same = ["--listen", &listen_text, "--admin", &admin_text];
        let second = Running::start(folder.path(), &upstream, &[&arguments[..], &same].concat());
        assert_eq!((second.listen, second.admin), (listen, admin));
        let said = first.wait();
        assert!(said.iter().any(|line| line.contains("a successor has taken over")), "{said:?}");
        // A third one, from the second.
        let third = Running::start(folder.path(), &upstream, &[&arguments[..], &same].concat());
        second.wait();
        let before = answers.load(Ordering::Relaxed);
        let begin = std::time::Instant::now();
        while answers.load(Ordering::Relaxed) < before + 10 {
            assert!(begin.elapsed() < patience(), "nobody answers");
            std::thread::yield_now();
        }
        is_over.store(true, Ordering::Relaxed);
        // Before the end of the third, which is killed.
        client.join().unwrap();
        assert_eq!(third.admin("/ready").status, 200);
    });
}

#[test]
fn a_successor_for_another_address_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "one");
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let first =
        Running::start(folder.path(), &upstream, &["-f", "plugins.yaml", "--handover", "handover"]);
    let mut other = first.listen;
    other.set_port(if other.port() == 1024 { 1025 } else { 1024 });
    let ended = run_to_end(
        folder.path(),
        &[
            "run",
            "-f",
            "plugins.yaml",
            "--upstream",
            "localhost:1",
            "--handover",
            "handover",
            "--listen",
            &other.to_string(),
        ],
    );
    assert_eq!(ended.status, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("the process before listens on"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("--listen {}", first.listen)), "{}", ended.stderr);
    assert_eq!(first.get("/").status, 200);
    // Once it is stopped nobody listens there any more.
    let listen = first.listen;
    first.stop();
    assert!(RawClient::connect(listen).is_err());
}

#[test]
fn a_hang_up_reads_everything_anew_and_opens_the_access_log_again() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "one");
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let arguments = ["-f", "plugins.yaml", "--access-log", "access.log"];
    let proxy = Running::start(folder.path(), &upstream, &arguments);
    assert_eq!(proxy.get("/first").status, 200);
    let (log, moved) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let has = |path: &Path, text: &str| {
        let begin = std::time::Instant::now();
        while !std::fs::read_to_string(path).unwrap_or_default().contains(text) {
            assert!(begin.elapsed() < patience(), "no line with {text} in {}", path.display());
            std::thread::yield_now();
        }
    };
    has(&log, "/first");
    std::fs::rename(&log, &moved).unwrap();
    proxy.hang_up();
    proxy.wait_for("reading everything anew");
    proxy.wait_for("router");
    assert_eq!(proxy.get("/second").status, 200);
    has(&log, "/second");
}
