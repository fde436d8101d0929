//! Local replies: gRPC, HTTP/2, sizes, and replies to replies.

use super::bodies::exchange_h2;
use super::guest;
use crate::harness::{Plugin, Running, Setup};

/// Replies with 403, this body and this gRPC status.
fn replying(body: &str, grpc_status: i32) -> Running {
    let plugin = Plugin::guest(&format!(
        "on request_headers:
            (drop (call $proxy_reply #403 'why' '{body}' {{x-a: 1}} (i32.const {grpc_status})))"
    ));
    Setup::new().plugin(plugin).start()
}

const GRPC: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\
    content-length: 0\r\n\r\n";

/// gRPC status and message of the answer.
fn grpc(proxy: &Running) -> (String, String) {
    let response = proxy.exchange(GRPC);
    assert_eq!((response.status, response.header("x-a")), (200, Some("1")), "{response}");
    assert_eq!(response.header("content-type"), Some("application/grpc"));
    assert_eq!(response.text(), "");
    let header = |name: &str| response.header(name).unwrap_or_default().to_owned();
    (header("grpc-status"), header("grpc-message"))
}

// Checks: LR-10
#[test]
fn a_grpc_request_gets_the_status_and_the_body_as_its_message() {
    assert_eq!(grpc(&replying("no", 7)), ("7".into(), "no".into()));
    assert_eq!(grpc(&replying("no", 16)), ("16".into(), "no".into()));
}

// Checks: LR-11, LR-12
#[test]
fn a_grpc_status_that_does_not_exist_is_that_of_the_http_status() {
    for status in [-1, 17, 99, i32::MIN] {
        assert_eq!(grpc(&replying("no", status)).0, "7", "{status}");
    }
}

// Checks: LR-13
#[test]
fn a_grpc_message_is_percent_encoded() {
    let (_, message) = grpc(&replying(r"a\0ab\c3\a9%c", 7));
    assert_eq!(message, "a%0Ab%C3%A9%25c");
}

// Checks: LR-26
#[test]
fn a_megabyte_with_nul_bytes_is_sent_as_it_is() {
    const SIZE: usize = 1 << 20;
    let plugin = Plugin::guest(&format!(
        "on request_headers:
            (memory.fill (i32.const 0x200000) (i32.const 97) (i32.const {SIZE}))
            (i32.store8 (i32.const 0x200005) (i32.const 0))
            (i32.store8 (i32.const {last}) (i32.const 0))
            (call $reply #200 (i32.const 0x200000) (i32.const {SIZE}) {{x-a: 1}})",
        last = 0x20_0000 + SIZE - 1,
    ));
    let proxy = Setup::new().plugin(plugin).start();
    let response = proxy.get("/");
    let mut expected = vec![b'a'; SIZE];
    (expected[5], expected[SIZE - 1]) = (0, 0);
    assert!(response.body == expected, "{} bytes came", response.body.len());
}

// Checks: LR-28
#[test]
fn a_reply_over_http2_is_the_same() {
    let proxy = replying("no", -1);
    let (head, body) = exchange_h2(proxy.proxy().listen_address(), "GET", "");
    assert_eq!((head.status.as_u16(), &*body), (403, b"no".as_slice()));
    for (name, value) in [("x-a", "1"), ("content-type", "text/plain"), ("content-length", "2")] {
        assert_eq!(head.headers[name], value);
    }
}

// Checks: LM-06
#[test]
fn a_reply_to_a_reply_ends() {
    let plugin = guest(
        "on request_headers:
            (call $reply #401 'first' {x-a: 1})
        on response_headers:
            (call $bump 'responses')
            (call $reply #402 'second' {x-a: 2})",
    );
    let proxy = Setup::new().plugin(plugin).admin().start();
    let response = proxy.get("/");
    assert_eq!((response.status, response.text().as_str()), (402, "second"));
    assert_eq!(super::stat(&proxy, "responses"), 1);
}
