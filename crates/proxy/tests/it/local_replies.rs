//! Answers of plugins.

use wasmplug_testkit::Response;

use crate::harness::{Plugin, Setup};

const REPLY: &str = "(call $reply #403 'no' {x-a: 1})";

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
    5\r\nhello\r\n0\r\nx-t: t\r\n\r\n";

fn is_reply(response: &Response) -> bool {
    response.status == 403
        && response.text() == "no"
        && response.header("x-a") == Some("1")
        && response.header("content-length") == Some("2")
        && response.header("content-type") == Some("text/plain")
}

// Checks: LR-01
#[test]
fn every_phase_before_the_response_body_can_answer() {
    for callback in ["request_headers", "request_body", "request_trailers", "response_headers"] {
        let guest = format!("on {callback}:\n{REPLY}");
        let proxy = Setup::new().plugin(Plugin::guest(&guest)).start();
        let response = proxy.exchange(POST);
        assert!(is_reply(&response), "{callback}: {response}");
    }
}

// Checks: LR-16
#[test]
fn the_response_body_is_too_late() {
    for callback in ["response_body", "response_trailers"] {
        let guest = format!("on {callback}:\n{REPLY}");
        let upstream = wasmplug_testkit::Upstream::scripted(|_| {
            wasmplug_testkit::Reply::new(200).chunked(["a"]).trailer("x-t", "t").into()
        });
        let proxy = Setup::new().plugin(Plugin::guest(&guest)).upstream(upstream).start();
        assert!(proxy.client().get("/").is_err(), "{callback}");
    }
}

// Checks: LR-17
#[test]
fn a_timer_can_answer() {
    let guest = format!(
        "on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then {REPLY}))
        on request_headers:
            (call $hold (local.get $context))
            (return #pause)"
    );
    let proxy = Setup::new().plugin(Plugin::guest(&guest)).start();
    assert!(is_reply(&proxy.get("/")));
    assert!(proxy.upstream().received().is_empty());
}

// Checks: LR-14
#[test]
fn a_request_that_was_not_read_ends_the_connection() {
    let proxy =
        Setup::new().plugin(Plugin::guest(&format!("on request_headers:\n{REPLY}"))).start();
    let mut client = proxy.client();
    assert!(is_reply(&client.get("/").unwrap()));
    let response = client.exchange(POST).unwrap();
    assert!(is_reply(&response));
    assert_eq!(response.headers.last(), Some(&("connection".to_owned(), "close".to_owned())));
}

// Checks: CH-03
#[test]
fn the_second_plugins_answer_passes_the_first_in_reverse() {
    let mark = |name: &str| {
        Plugin::guest(&format!(
            "on response_headers:
                (call $add #response 'x-by-{name}' (call $get #response 'x-c'))
                (call $replace #response 'x-c' '{name}')"
        ))
    };
    let replier = Plugin::guest(&format!("on request_headers:\n{REPLY}"));
    let proxy = Setup::new().plugin(mark("a")).plugin(mark("b")).plugin(replier).plugin(mark("d"));
    let response = proxy.start().get("/");
    assert!(is_reply(&response), "{response}");
    assert_eq!((response.header("x-by-b"), response.header("x-by-a")), (Some("-"), Some("b")));
    assert_eq!(response.header("x-by-d"), None, "behind the one that answered");
}
