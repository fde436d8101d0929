//! Messages that a plugin holds, and lets go from a timer.

use wasmplug_testkit::{Reply, Upstream};

use crate::harness::{Plugin, Setup};

/// A plugin whose timer lets go what it remembers.
fn ticking(on_tick: &str, callbacks: &str) -> Plugin {
    Plugin::guest(&format!(
        "on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then {on_tick}))
        {callbacks}"
    ))
}

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntrailer: x-t\r\n\
    transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-t: t\r\n\r\n";

// Checks: BD-34, HD-38
#[test]
fn request_headers_wait_and_can_be_changed_meanwhile() {
    for action in ["#pause", "#all_and_buffer", "#all_and_watermark", "#99"] {
        let plugin = ticking(
            "(call $add #request 'x-tick' 'yes') (call $continue #0)",
            &format!(
                "on request_headers:
                    (call $hold (local.get $context))
                    (return {action})
                on request_body:
                    (if (local.get $size) (then (call $set_body #0 #all #0 '!')))"
            ),
        );
        let proxy = Setup::new().plugin(plugin).start();
        assert_eq!(proxy.exchange(POST).status, 200, "{action}");
        let received = &proxy.upstream().received()[0];
        assert_eq!(received.header("x-tick"), Some("yes"), "{action}");
        assert_eq!(received.body, b"hello!", "{action}");
        assert_eq!(received.trailers, [("x-t".to_owned(), "t".to_owned())], "{action}");
    }
}

// Checks: BD-49
#[test]
fn response_headers_wait_and_can_be_changed_meanwhile() {
    for action in ["#pause", "#all_and_buffer", "#all_and_watermark"] {
        let plugin = ticking(
            "(call $add #response 'x-tick' 'yes') (call $continue #1)",
            &format!(
                "on response_headers:
                    (call $hold (local.get $context))
                    (return {action})"
            ),
        );
        let proxy = Setup::new().plugin(plugin).start();
        for (path, length) in [("/bytes/100000", 100_000), ("/bytes/0", 0), ("/chunked/2", 16)] {
            let response = proxy.get(path);
            assert_eq!(response.header("x-tick"), Some("yes"), "{action} {path}");
            assert_eq!(response.body.len(), length, "{action} {path}");
        }
    }
}

// Checks: BD-25
#[test]
fn the_end_of_a_request_body_waits() {
    for (action, expected) in [("#buffer", "hello"), ("#watermark", "hello"), ("#no_buffer", "")] {
        let plugin = ticking(
            "(call $continue #0)",
            &format!(
                "on request_headers:
                    (call $remove #request 'content-length')
                on request_body:
                    (if (local.get $end) (then (call $hold (local.get $context))))
                    (return {action})"
            ),
        );
        let proxy = Setup::new().plugin(plugin).start();
        let response =
            proxy.exchange("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
        assert_eq!(response.json().unwrap()["body"], expected, "{action}");
    }
}

#[test]
fn the_end_of_a_response_body_waits() {
    for (action, expected) in [("#buffer", 20), ("#watermark", 20), ("#no_buffer", 0)] {
        let plugin = ticking(
            "(call $continue #1)",
            &format!(
                "on response_headers:
                    (call $remove #response 'content-length')
                on response_body:
                    (if (local.get $end) (then (call $hold (local.get $context))))
                    (return {action})"
            ),
        );
        let proxy = Setup::new().plugin(plugin).start();
        assert_eq!(proxy.get("/bytes/20").body.len(), expected, "{action}");
    }
}

#[test]
fn trailers_wait_with_the_body_before_them() {
    let plugin = ticking(
        "(call $continue #0) (call $continue #1)",
        "on request_body:
            (return #buffer)
        on request_trailers:
            (call $hold (local.get $context))
            (return #pause)
        on response_body:
            (return #buffer)
        on response_trailers:
            (call $hold (local.get $context))
            (return #pause)",
    );
    let upstream = Upstream::scripted(|_| {
        let reply = Reply::new(200).header("trailer", "x-t");
        reply.chunked(["one"]).trailer("x-t", "down").into()
    });
    let proxy = Setup::new().plugin(plugin).upstream(upstream).start();
    let response = proxy.exchange(POST);
    assert_eq!(response.text(), "one");
    assert_eq!(response.trailers, [("x-t".to_owned(), "down".to_owned())]);
    let received = &proxy.upstream().received()[0];
    assert_eq!(received.body, b"hello");
    assert_eq!(received.trailers, [("x-t".to_owned(), "t".to_owned())]);
}

#[test]
fn a_pause_that_is_undone_in_the_same_callback_is_none() {
    let proxy = Setup::new()
        .plugin(Plugin::guest(
            "on request_headers:
                (call $continue #0)
                (return #pause)
            on response_headers:
                (call $continue #1)
                (return #pause)",
        ))
        .start();
    assert_eq!(proxy.get("/bytes/9").body.len(), 9);
}

// Checks: BD-36, BD-37
#[test]
fn a_continue_without_a_pause_changes_nothing() {
    let proxy = Setup::new()
        .plugin(Plugin::guest(
            "on request_headers:
                (call $continue #0)
                (call $continue #1)
            on response_headers:
                (call $continue #0)
                (call $continue #1)
            on response_body:
                (call $continue #1)",
        ))
        .plugin(Plugin::guest(
            "on request_headers:
                (call $add #request 'x-times' (call $decimal (call $count)))",
        ))
        .start();
    let response = proxy.get("/");
    let headers = response.json().unwrap()["headers"].to_string();
    assert_eq!(headers.matches("x-times").count(), 1, "{headers}");
}

// Checks: BD-39, BD-40
#[test]
fn a_stream_that_is_closed_gets_no_answer() {
    for callback in ["request_headers", "response_headers"] {
        let guest = format!("on {callback}:\n(call $close #0)");
        let proxy = Setup::new().plugin(Plugin::guest(&guest)).start();
        let error = proxy.client().get("/").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{callback}");
    }
}
