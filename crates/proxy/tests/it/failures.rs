//! Plugins that die.

use crate::harness::{Plugin, Running, Setup, eventually};

/// Dies in this callback when the path is `/die`; otherwise says how often its VM was called.
fn mortal(callback: &str) -> Plugin {
    let mut guest = String::from(
        "on request_headers:
            (if (call $is (call $get #request ':path') '/die')
                (then (global.set $dies (i32.const 1))))
            MAYBE_request_headers
        on response_headers:
            (call $add #response 'x-count' (call $decimal (call $count)))
            MAYBE_response_headers
        on request_body:
            MAYBE_request_body
        on request_trailers:
            MAYBE_request_trailers
        on response_body:
            MAYBE_response_body
        on response_trailers:
            MAYBE_response_trailers
        on log:
            MAYBE_log
        on done:
            MAYBE_done
        on delete:
            MAYBE_delete",
    );
    guest = guest
        .replace(&format!("MAYBE_{callback}\n"), "(if (global.get $dies) (then (unreachable)))\n");
    guest.push('\n');
    guest = guest
        .replace(&format!("MAYBE_{callback}\n"), "(if (global.get $dies) (then (unreachable)))\n");
    let lines = guest.lines().filter(|line| !line.contains("MAYBE_")).collect::<Vec<_>>();
    Plugin::guest(&format!("(global $dies (mut i32) (i32.const 0))\n{}", lines.join("\n")))
}

const DIE: &str = "POST /die HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
    5\r\nhello\r\n0\r\nx-t: t\r\n\r\n";

/// The upstream answers everything with a body and a trailer.
fn start(plugin: Plugin) -> Running {
    let upstream = wasmplug_testkit::Upstream::scripted(|_| {
        wasmplug_testkit::Reply::new(200).chunked(["a"]).trailer("x-t", "t").into()
    });
    Setup::new().plugin(plugin).upstream(upstream).start()
}

// Checks: TR-02, TR-03, TR-08, RL-01
#[test]
fn before_the_response_the_answer_is_503_and_the_next_request_has_a_fresh_vm() {
    for callback in ["request_headers", "request_body", "request_trailers", "response_headers"] {
        let proxy = start(mortal(callback));
        assert_eq!(proxy.get("/").header("x-count"), Some("1"), "{callback}");
        assert_eq!(proxy.get("/").header("x-count"), Some("2"), "{callback}");
        let response = proxy.exchange(DIE);
        assert_eq!((response.status, response.text().as_str()), (503, ""), "{callback}");
        assert_eq!(response.header("content-length"), Some("0"), "{callback}");
        assert_eq!(proxy.get("/").header("x-count"), Some("1"), "{callback}: a fresh VM");
        let stats = &proxy.specs()[0].stats;
        assert_eq!((stats.running(), stats.restarts()), (1, 1), "{callback}");
        assert_eq!(stats.failures().map(|(_, count)| count).sum::<u64>(), 1, "{callback}");
    }
}

// Checks: TR-04, TR-08
#[test]
fn in_the_response_the_stream_is_cut_and_the_next_request_has_a_fresh_vm() {
    for callback in ["response_body", "response_trailers"] {
        let proxy = start(mortal(callback));
        assert!(proxy.client().exchange(DIE).is_err(), "{callback}");
        assert_eq!(proxy.get("/").header("x-count"), Some("1"), "{callback}");
    }
}

// Checks: TR-05
#[test]
fn after_the_response_nobody_notices() {
    for callback in ["log", "done", "delete"] {
        let proxy = start(mortal(callback));
        assert_eq!(proxy.exchange(DIE).status, 200, "{callback}");
        assert_eq!(proxy.get("/").status, 200, "{callback}");
    }
}

// Checks: TR-08, TR-14
#[test]
fn with_fail_open_the_stream_goes_on_without_the_plugin() {
    for callback in ["request_headers", "request_body", "request_trailers", "response_headers"] {
        let proxy = start(mortal(callback).fail_open());
        let response = proxy.exchange(DIE);
        assert_eq!((response.status, response.text().as_str()), (200, "a"), "{callback}");
        assert_eq!(proxy.upstream().received()[0].body, b"hello", "{callback}");
        assert_eq!(proxy.get("/").header("x-count"), Some("1"), "{callback}");
    }
}

#[test]
fn with_fail_open_a_body_that_was_held_goes_on() {
    let guest = "
        on request_body:
            (if (local.get $end) (then (unreachable)))
            (return #buffer)
        on response_body:
            (if (local.get $end) (then (unreachable)))
            (return #buffer)";
    let proxy = Setup::new().plugin(Plugin::guest(guest).fail_open()).start();
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(proxy.exchange(post).json().unwrap()["body"], "hello");
}

/// Holds requests, except the one that kills it.
const HOLDS_OR_DIES: &str = "
    on request_headers:
        (if (call $is (call $get #request ':path') '/die') (then (unreachable)))
        (call $bump 'held')
        (return #pause)";

#[test]
fn a_stream_that_a_dead_vm_held_is_refused_at_once() {
    let proxy = Setup::new().plugin(Plugin::guest(HOLDS_OR_DIES)).admin().start();
    let mut held = proxy.client();
    held.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("held 1");
    assert_eq!(proxy.get("/die").status, 503);
    assert_eq!(held.read_response().unwrap().status, 503);
    assert!(proxy.upstream().received().is_empty());
}

#[test]
fn a_stream_that_a_dead_vm_held_is_let_go_with_fail_open() {
    let proxy = Setup::new().plugin(Plugin::guest(HOLDS_OR_DIES).fail_open()).admin().start();
    let mut held = proxy.client();
    held.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("held 1");
    assert_eq!(proxy.get("/die").status, 200);
    assert_eq!(held.read_response().unwrap().json().unwrap()["path"], "/hold");
}

// Checks: TR-06
#[test]
fn a_timer_that_dies_does_not_end_the_service() {
    let guest = "
        on configure:
            (call $tick #1)
        on tick:
            (call $bump 'ticked')
            (unreachable)
        on response_headers:
            (call $add #response 'x-seen' 'yes')";
    let proxy = Setup::new().plugin(Plugin::guest(guest)).admin().start();
    // It is started anew by itself, and dies again, so the number is not known.
    eventually(|| proxy.admin("/stats/prometheus").text().contains("\nticked "));
    let status = proxy.get("/").status;
    assert!([200, 503].contains(&status), "{status}");
}
