//! A plugin cannot make one message out of two, or two out of one.

use crate::harness::{Plugin, Setup};

/// Whatever the plugin did, the next request on both connections is not disturbed.
fn next_is_fine(guest: &str, request: &str) -> (wasmplug_testkit::Response, Vec<u8>) {
    let proxy = Setup::new().plugin(Plugin::guest(guest)).start();
    let response = proxy.exchange(request);
    assert_eq!(proxy.get("/next").json().unwrap()["path"], "/next");
    let received = proxy.upstream().received();
    assert_eq!(received.len(), 2, "{received:?}");
    (response, received[0].body.clone())
}

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";

#[test]
fn a_length_without_a_body_is_corrected() {
    let (response, _) = next_is_fine(
        "on request_headers:
            (if (call $is (call $get #request ':path') '/')
                (then (call $replace #request 'content-length' '9')))",
        GET,
    );
    let received = response.json().unwrap();
    assert!(received["headers"].to_string().contains(r#"["content-length","0"]"#), "{received}");
}

#[test]
fn chunks_of_a_plugin_are_not_announced() {
    let (_, body) = next_is_fine(
        "on request_headers:
            (call $replace #request 'transfer-encoding' 'chunked')
        on response_headers:
            (call $replace #response 'transfer-encoding' 'chunked')",
        POST,
    );
    assert_eq!(body, b"hello");
}

// Checks: BD-42
#[test]
fn a_body_that_grew_beyond_its_length_does_not_spill() {
    let (_, body) = next_is_fine(
        "on request_body:
            (if (local.get $size)
                (then (call $set_body #0 #all #0 'GET /smuggled HTTP/1.1\\0d\\0a\\0d\\0a')))",
        POST,
    );
    assert_eq!(body, b"hello");
}

// Checks: BD-41
#[test]
fn a_response_that_was_changed_has_the_right_length() {
    for (edit, expected) in [
        ("(call $set_body #1 #0 #all 'short')", "short"),
        ("(call $set_body #1 #all #0 ' and longer')", "0123456789abcdef and longer"),
    ] {
        let guest = format!(
            "on response_headers:
                (call $replace #response 'content-length' '16')
                (call $hold (local.get $context))
            on response_body:
                (if (local.get $size) (then {edit}))"
        );
        let proxy = Setup::new().plugin(Plugin::guest(&guest)).start();
        let mut client = proxy.client();
        // Read whole before its head goes out, or cut: never a length that is not true.
        for _ in 0..20 {
            let Ok(response) = client.get("/bytes/16") else {
                client = proxy.client();
                continue;
            };
            let is_cut = response.text().len() == 16 && expected.starts_with(&response.text());
            assert!(response.text() == expected || is_cut, "{response}");
        }
    }
}

// Checks: HD-24
#[test]
fn header_values_cannot_hold_line_breaks() {
    let (response, _) = next_is_fine(
        "on request_headers:
            (call $add #request 'x-a' 'b\\0d\\0ac: d')
        on response_headers:
            (call $add #response 'x-a' 'b\\0d\\0ac: d')",
        GET,
    );
    assert_eq!((response.header("x-a"), response.header("c")), (None, None));
    assert!(!response.text().contains("x-a"));
}

#[test]
fn a_plugin_hears_of_the_end_of_a_body_whose_length_is_known() {
    let saying = Plugin::guest("on request_body:\n(call $log_number (local.get $end))");
    let proxy = Setup::new().plugin(saying).admin().start();
    for request in [
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    ] {
        let before = proxy.log().all().len();
        proxy.exchange(request);
        proxy.wait_until_idle();
        assert_eq!(proxy.log().all()[before..], ["info 0", "info 1"], "{request}");
    }
}
