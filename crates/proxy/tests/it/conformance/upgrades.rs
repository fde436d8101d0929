//! Connections that stop speaking HTTP.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use super::guest;
use crate::harness::{Plugin, RawUpstream, Running, Setup, TcpClient, read_head};

const ASK: &str = "GET /chat HTTP/1.1\r\nhost: a.test\r\nconnection: Upgrade\r\n\
    upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: abc\r\n\r\n";

/// Agrees to what it is asked, and sends back what follows, until it is told to end.
fn agreeing() -> RawUpstream {
    RawUpstream::start(|mut stream| {
        let head = read_head(&mut stream).to_ascii_lowercase();
        let answer = if head.contains("\r\nupgrade: websocket\r\n") {
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: def\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain"
        };
        stream.write_all(answer.as_bytes()).unwrap();
        let mut bytes = [0; 1024];
        while let Ok(len @ 1..) = stream.read(&mut bytes) {
            stream.write_all(&bytes[..len]).unwrap();
            if bytes[..len].ends_with(b"close") {
                return;
            }
        }
    })
}

fn start(upstream: &RawUpstream, plugins: impl IntoIterator<Item = Plugin>) -> Running {
    let address = upstream.address().into();
    let setup = Setup::new().tune(move |config| config.upstream = address);
    plugins.into_iter().fold(setup, Setup::plugin).start()
}

/// Tells of everything that it sees.
const STORY: &str = "
(func $note (param $text i32) (param $len i32) (param $size i32) (param $end i32)
    (call $log (local.get $text) (local.get $len))
    (call $log (call $decimal (local.get $size)))
    (if (local.get $end) (then (call $log 'end'))))
on request_headers:
    (call $note 'request headers' (i32.const 0) (local.get $end))
on request_body:
    (call $note 'request body' (local.get $size) (local.get $end))
on response_headers:
    (call $log (call $get #response ':status'))
    (call $note 'response headers' (i32.const 0) (local.get $end))
on response_body:
    (call $note 'response body' (local.get $size) (local.get $end))
on log:
    (call $log 'log')
on delete:
    (call $log 'delete')";

#[test]
fn without_plugins_a_websocket_passes() {
    let upstream = agreeing();
    let proxy = start(&upstream, []);
    let mut client = TcpClient::connect(&proxy);
    client.send(ASK);
    let head = client.read_head().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(head.contains("\r\nsec-websocket-accept: def\r\n"), "{head}");
    client.send("frame");
    assert_eq!(client.read(5), "frame");
    client.send("close");
    assert_eq!(client.read_to_end(), "close");
}

// Checks: BD-53
#[test]
fn frames_of_a_websocket_are_body_bytes() {
    let upstream = agreeing();
    let proxy = start(&upstream, [guest(STORY)]);
    let mut client = TcpClient::connect(&proxy);
    client.send(ASK);
    assert!(client.read_head().starts_with("HTTP/1.1 101 "));
    client.send("frame");
    assert_eq!(client.read(5), "frame");
    client.send("close");
    assert_eq!(client.read_to_end(), "close");
    proxy.assert_log(&[
        "request headers",
        "0",
        "101",
        "response headers",
        "0",
        "request body",
        "0",
        "response body",
        "0",
        "request body",
        "5",
        "response body",
        "5",
        "request body",
        "5",
        "response body",
        "5",
        "log",
        "delete",
    ]);
}

// Checks: BD-53
#[test]
fn frames_of_a_websocket_are_edited() {
    let upstream = agreeing();
    let plugin = guest(
        "on request_body:
            (if (call $is (call $body (i32.const 0)) 'ask') (then
                (call $set_body (i32.const 0) (i32.const 0) #all 'question')))
        on response_body:
            (if (call $is (call $body (i32.const 1)) 'question') (then
                (call $set_body (i32.const 1) (i32.const 0) #all 'answer')))",
    );
    let proxy = start(&upstream, [plugin]);
    let mut client = TcpClient::connect(&proxy);
    client.send(ASK);
    client.read_head();
    client.send("ask");
    assert_eq!(client.read(6), "answer");
    client.send("other");
    assert_eq!(client.read(5), "other");
}

#[test]
fn a_plugin_may_refuse_an_upgrade() {
    let upstream = agreeing();
    let plugin = guest("on request_headers:\n(call $reply #403 'no' {x-a: 1})");
    let proxy = start(&upstream, [plugin]);
    assert_eq!(proxy.exchange(ASK).status, 403);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn other_protocols_are_not_spoken() {
    let upstream = agreeing();
    for plugins in [vec![], vec![guest("on request_headers:\n(call $remove #request 'x-a')")]] {
        let proxy = start(&upstream, plugins);
        // The upstream never learns that it was asked, and answers in HTTP.
        let response = proxy.exchange(ASK.replace("websocket\r\n", "h2c\r\n"));
        assert_eq!((response.status, response.text().as_str()), (200, "plain"));
    }
}

#[test]
fn without_plugins_each_direction_ends_on_its_own() {
    let upstream = RawUpstream::start(|mut stream| {
        read_head(&mut stream);
        let agrees = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\
            upgrade: websocket\r\n\r\n";
        stream.write_all(agrees.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).unwrap();
    });
    let proxy = start(&upstream, []);
    let mut client = TcpClient::connect(&proxy);
    client.send(ASK);
    client.read_head();
    client.send("question");
    client.finish();
    assert_eq!(client.read_to_end(), "QUESTION");
}

#[test]
fn a_websocket_in_which_nothing_moves_is_ended() {
    for plugins in [vec![], vec![guest("on request_headers:\n(call $remove #request 'x-a')")]] {
        let upstream = agreeing();
        let address = upstream.address().into();
        let setup = Setup::new().tune(move |config| {
            config.upstream = address;
            config.limits.stream_idle_timeout = Duration::from_secs(1);
        });
        let proxy = plugins.into_iter().fold(setup, Setup::plugin).start();
        let mut client = TcpClient::connect(&proxy);
        client.send(ASK);
        client.read_head();
        client.send("frame");
        // Neither end says anything more; only the proxy can end this.
        assert_eq!(client.read_to_end(), "frame");
    }
}

/// Reads all that comes until this text has come, answers, and ends.
fn listening_for(end: &'static str) -> (RawUpstream, mpsc::Receiver<String>) {
    let (heard, listen) = mpsc::channel();
    let upstream = RawUpstream::start(move |mut stream| {
        let (mut text, mut bytes) = (String::new(), [0; 1024]);
        while !text.contains(end) {
            let Ok(len @ 1..) = stream.read(&mut bytes) else { break };
            text.push_str(std::str::from_utf8(&bytes[..len]).unwrap());
        }
        heard.send(text.to_ascii_lowercase()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").unwrap();
        // What is left unread, such as the last chunk, would reset the connection.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        while let Ok(1..) = stream.read(&mut bytes) {}
    });
    (upstream, listen)
}

#[test]
fn a_request_with_a_body_is_no_upgrade() {
    // Were the body taken for what follows an upgrade, upstream it would be a request of its own.
    let hidden = "GET /hidden HTTP/1.1\r\nhost: a.test\r\n\r\n";
    let length = format!("content-length: {}\r\n\r\n{hidden}", hidden.len());
    let chunks =
        format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{hidden}\r\n0\r\n\r\n", hidden.len());
    let head = ASK.strip_suffix("\r\n").unwrap();
    for rest in [length, chunks] {
        for plugins in [vec![], vec![guest("on request_headers:\n(call $remove #request 'x-a')")]] {
            let (upstream, listen) = listening_for(hidden);
            let proxy = start(&upstream, plugins);
            assert_eq!(proxy.exchange(format!("{head}{rest}")).status, 200);
            let text = listen.recv().unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(!head.contains("\r\nupgrade:"), "{head}");
            assert!(!head.contains("\r\nconnection:"), "{head}");
            let is_framed = head.contains(&format!("\r\ncontent-length: {}", hidden.len()))
                || head.contains("\r\ntransfer-encoding: chunked");
            assert!(is_framed, "{head}");
            assert!(body.contains(&hidden.to_ascii_lowercase()), "{body}");
        }
    }
}

#[test]
fn a_plugin_announces_no_body_of_an_upgrade() {
    let plugin = guest(
        "on request_headers:
            (call $add #request 'content-length' '60')
            (call $add #request 'transfer-encoding' 'chunked')",
    );
    let (upstream, listen) = listening_for("\r\n\r\n");
    let proxy = start(&upstream, [plugin]);
    assert_eq!(proxy.exchange(ASK).status, 200);
    let head = listen.recv().unwrap();
    assert!(head.contains("\r\nupgrade: websocket\r\n"), "{head}");
    assert!(!head.contains("\r\ncontent-length:"), "{head}");
    assert!(!head.contains("\r\ntransfer-encoding:"), "{head}");
}
