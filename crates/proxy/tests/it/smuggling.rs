//! Bytes from a client mean the same to the proxy and to the upstream, or they are refused.
//!
//! Each case is followed by one more request on the same connection: who reads the first in two
//! ways shows it in what arrives.

use std::fmt::Write as _;
use std::io::ErrorKind;

use wasmplug_testkit::{End, RawClient, Reply, Scripted, Upstream};

use crate::harness::{Plugin, Running, Setup};

const END: &str = "GET /end HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Without plugins, where messages are passed on as they are, and with one.
fn both() -> [Running; 2] {
    let plugin = "on request_headers:\non request_body:\non response_headers:";
    [Setup::new(), Setup::new().plugin(Plugin::guest(plugin))].map(|setup| {
        setup.upstream(Upstream::scripted(|_| Reply::new(200).body("fine").into())).start()
    })
}

/// What the client gets for these bytes and what the upstream then receives, as text.
fn outcome(proxy: &Running, bytes: &str) -> String {
    let before = proxy.upstream().received().len();
    let mut client = RawClient::connect(proxy.proxy().listen_address()).unwrap();
    // At once: what a proxy that refuses leaves unread would reset the connection, and with it the
    // answer.
    client.send(format!("{bytes}{END}")).unwrap();
    let answers = match client.read_to_close() {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Vec::new(),
        answers => answers.unwrap(),
    };
    let answers = String::from_utf8(answers).unwrap();
    let statuses = answers.match_indices("HTTP/1.1 ").map(|(at, found)| {
        let status = &answers[at + found.len()..];
        status.split(' ').next().unwrap().to_owned()
    });
    let mut told = statuses.collect::<Vec<_>>().join(" ");
    for received in proxy.upstream().received().split_off(before) {
        let framing = ["content-length", "transfer-encoding"];
        let framing = framing.map(|name| received.header_values(name).len());
        assert!(framing.iter().sum::<usize>() <= 1, "{received:?}");
        assert_eq!(received.header_values("host").len(), 1, "{received:?}");
        let (method, path) = (&received.method, &received.path);
        let body = String::from_utf8_lossy(&received.body);
        let host = received.header("host").unwrap_or_default();
        let _ = write!(told, "; {method} {host} {path} {body}");
        told.truncate(told.trim_end().len());
    }
    told
}

#[track_caller]
fn assert_outcomes(cases: &[(&str, &str)]) {
    let mut wrong = String::new();
    for (proxy, name) in both().iter().zip(["straight", "with a plugin"]) {
        for (bytes, expected) in cases {
            let told = outcome(proxy, bytes);
            if told != *expected {
                let _ =
                    writeln!(wrong, "{name}: {bytes:?}\n  expected {expected}\n  got      {told}");
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A request with these header lines and this body.
macro_rules! post {
    ($headers:literal, $body:literal) => {
        concat!("POST / HTTP/1.1\r\nhost: a\r\n", $headers, "\r\n", $body)
    };
}

const REFUSED: &str = "400";
const PASSED: &str = "200 200; POST a / hello; GET a /end";
/// The connection is closed behind it, because who wrote the request may think otherwise.
const PASSED_ALONE: &str = "200; POST a / hello";

#[test]
fn a_body_has_one_length() {
    assert_outcomes(&[
        (post!("content-length: 5\r\n", "hello"), PASSED),
        (post!("content-length: 5\r\ncontent-length: 5\r\n", "hello"), PASSED),
        (post!("content-length: 5\r\ncontent-length: 6\r\n", "hello"), REFUSED),
        (post!("content-length: 5, 5\r\n", "hello"), REFUSED),
        (post!("content-length: +5\r\n", "hello"), REFUSED),
        (post!("content-length: -5\r\n", "hello"), REFUSED),
        (post!("content-length: 0x5\r\n", "hello"), REFUSED),
        (post!("content-length: 5 5\r\n", "hello"), REFUSED),
        (post!("content-length:\r\n", "hello"), REFUSED),
        (post!("content-length: five\r\n", "hello"), REFUSED),
        (post!("content-length: 99999999999999999999\r\n", "hello"), REFUSED),
    ]);
}

#[test]
fn chunks_count_more_than_a_length() {
    assert_outcomes(&[
        (post!("transfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), PASSED),
        (post!("transfer-encoding: Chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"), PASSED),
        (
            post!("content-length: 3\r\ntransfer-encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            PASSED_ALONE,
        ),
        (
            post!("transfer-encoding: chunked\r\ncontent-length: 3\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            PASSED_ALONE,
        ),
        (post!("transfer-encoding: xchunked\r\ncontent-length: 5\r\n", "hello"), REFUSED),
        (post!("transfer-encoding: identity\r\ncontent-length: 5\r\n", "hello"), REFUSED),
        (post!("transfer-encoding: chunked, identity\r\n", "0\r\n\r\n"), REFUSED),
        (post!("transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n"), REFUSED),
        (post!("transfer-encoding:\r\n", "0\r\n\r\n"), REFUSED),
        (
            post!("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n"),
            REFUSED,
        ),
        ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", REFUSED),
    ]);
}

#[test]
fn broken_chunks_are_not_passed_on_as_whole_ones() {
    for proxy in &both() {
        for chunks in [
            "zz\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "5\nhello\n0\n\n",
            "5\r\nhelloGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
            "5;a=\nGET\r\nhello\r\n0\r\n\r\n",
            "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
        ] {
            let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            let told = outcome(proxy, &format!("{head}{chunks}"));
            assert!(!told.contains("200"), "{chunks:?}: {told}");
            assert!(!told.contains("smuggled") && !told.contains("/end"), "{chunks:?}: {told}");
        }
    }
}

#[test]
fn lines_of_a_head_are_not_ambiguous() {
    assert_outcomes(&[
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\n x: b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\nx : b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\rb\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\nx\u{e9}: b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\rhost: a\r\r\r\r", REFUSED),
        ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", REFUSED),
        ("GET / x HTTP/1.1\r\nhost: a\r\n\r\n", REFUSED),
        ("GET / HTTP/1.2\r\nhost: a\r\n\r\n", REFUSED),
        ("GET / HTTP/9\r\nhost: a\r\n\r\n", REFUSED),
        ("G(T / HTTP/1.1\r\nhost: a\r\n\r\n", REFUSED),
    ]);
}

#[test]
fn a_request_has_one_host() {
    assert_outcomes(&[
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "200 200; GET a /; GET a /end"),
        ("GET / HTTP/1.1\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", REFUSED),
        ("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n", REFUSED),
        ("GET http://b/x HTTP/1.1\r\nhost: a\r\n\r\n", "200 200; GET b /x; GET a /end"),
        ("GET http://b/x HTTP/1.1\r\nhost: a\r\nhost: c\r\n\r\n", REFUSED),
        // No path is one all the same.
        ("GET http://b HTTP/1.1\r\nhost: a\r\n\r\n", "200 200; GET b /; GET a /end"),
        ("GET http://b#x HTTP/1.1\r\nhost: a\r\n\r\n", "200 200; GET b /; GET a /end"),
    ]);
}

#[test]
fn a_client_cannot_take_away_what_frames_its_request() {
    assert_outcomes(&[
        (post!("content-length: 5\r\nconnection: content-length\r\n", "hello"), PASSED),
        (
            post!(
                "transfer-encoding: chunked\r\nconnection: transfer-encoding\r\n",
                "5\r\nhello\r\n0\r\n\r\n"
            ),
            PASSED,
        ),
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: host\r\n\r\n", REFUSED),
    ]);
}

#[test]
fn a_client_cannot_take_away_what_a_plugin_added() {
    let plugin = Plugin::guest("on request_headers:\n (call $add #request 'x-user' 'nobody')");
    let proxy = Setup::new().plugin(plugin).start();
    let response =
        proxy.exchange("GET / HTTP/1.1\r\nhost: a\r\nconnection: x-user\r\nx-user: root\r\n\r\n");
    let headers = response.json().unwrap()["headers"].to_string();
    assert!(headers.contains(r#"["x-user","nobody"]"#) && !headers.contains("root"), "{headers}");
}

#[test]
fn an_upgrade_that_is_no_websocket_is_not_passed_on() {
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\n\
                   upgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n";
    assert_outcomes(&[(upgrade, "200 200; GET a /; GET a /end")]);
    for received in both().iter().flat_map(|proxy| {
        proxy.exchange(upgrade);
        proxy.upstream().received()
    }) {
        for name in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(received.header(name), None, "{received:?}");
        }
    }
}

#[test]
fn a_request_has_a_path() {
    assert_outcomes(&[
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", "404"),
        ("CONNECT / HTTP/1.1\r\nhost: a:80\r\n\r\n", "400"),
        ("GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
        ("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n", "404 200; GET a /end"),
    ]);
}

/// What two requests get, the first of which the upstream answers with these bytes.
fn answers(setup: Setup, head_only: bool, bytes: &'static str) -> String {
    let upstream = Upstream::scripted(move |received| match received.path.as_str() {
        "/first" => Scripted::raw(bytes, End::KeepAlive),
        _ => Reply::new(200).body("fine").into(),
    });
    let proxy = setup.upstream(upstream).start();
    let mut client = proxy.client();
    let method = if head_only { "HEAD" } else { "GET" };
    let first = client.exchange(format!("{method} /first HTTP/1.1\r\nhost: a\r\n\r\n"));
    let first =
        first.map_or("cut".to_owned(), |first| format!("{} {}", first.status, first.text()));
    // Who was cut needs a new connection.
    let second = client.get("/second").or_else(|_| proxy.client().get("/second")).unwrap();
    format!("{first}; {} {}", second.status, second.text())
}

#[test]
fn an_upstream_cannot_answer_the_next_request() {
    const SMUGGLED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled";
    let plugin = || Plugin::guest("on request_headers:\non response_headers:\non response_body:");
    for (is_head, bytes) in [
        (false, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokSMUGGLED"),
        (false, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nSMUGGLED"),
        (false, "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nSMUGGLED"),
        (false, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\nSMUGGLED"),
        (false, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED"),
        (true, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nSMUGGLED"),
        (true, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nSMUGGLED"),
    ] {
        let bytes: &str = bytes.replace("SMUGGLED", SMUGGLED).leak();
        for setup in [Setup::new(), Setup::new().plugin(plugin())] {
            let told = answers(setup, is_head, bytes);
            assert!(told.ends_with("; 200 fine"), "{bytes:?}: {told}");
        }
    }
}

#[test]
fn an_upstream_cannot_switch_protocols_unasked() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
                          upgrade: h2c\r\n\r\n";
    let expected = "502 upstream connect error or disconnect/reset before headers. reset reason: \
                    protocol error; 200 fine";
    for setup in [Setup::new(), Setup::new().plugin(Plugin::guest("on request_headers:"))] {
        assert_eq!(answers(setup, false, SWITCH), expected);
    }
}
