//! HTTP/2 between the client and the servers.

use std::io::ErrorKind;

use wasmplug_testkit::{Http2Client, Reply, Scripted, Upstream, UpstreamThread};

#[test]
fn a_request_and_its_answer_cross_with_bodies_and_trailers() {
    let upstream = UpstreamThread::start(Upstream::scripted(|_| {
        let reply = Reply::new(201).header("x-a", "1");
        reply.chunked(["one ", "two"]).trailer("x-t", "t").into()
    }))
    .unwrap();
    let mut client = Http2Client::connect(upstream.addr()).unwrap();
    for _ in 0..2 {
        let request = "POST /a?b HTTP/1.1\r\nhost: example.test\r\nX-B: 2\r\n\
                       transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-c: 3\r\n\r\n";
        let response = client.exchange(request.as_bytes()).unwrap();
        assert_eq!(response.status_line, "HTTP/2 201");
        assert_eq!(response.header("x-a"), Some("1"));
        assert_eq!(response.text(), "one two");
        assert_eq!(response.trailers, [("x-t".to_owned(), "t".to_owned())]);
    }
    let received = upstream.received();
    assert_eq!((received.len(), upstream.connections()), (2, 1));
    let received = &received[0];
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/a?b"));
    assert_eq!(received.version, "HTTP/2");
    assert_eq!(received.header(":authority"), Some("example.test"));
    assert_eq!(received.header("x-b"), Some("2"));
    assert_eq!(received.header("transfer-encoding"), None);
    assert_eq!(received.body, b"abc");
    assert_eq!(received.trailers, [("x-c".to_owned(), "3".to_owned())]);
}

#[test]
fn a_body_beyond_the_first_window_comes_whole() {
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let mut client = Http2Client::connect(upstream.addr()).unwrap();
    let response = client.exchange(b"GET /bytes/300000 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert_eq!(response.body.len(), 300_000);
    let body = "a".repeat(300_000);
    let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n{body}");
    client.exchange(request.as_bytes()).unwrap();
    assert_eq!(upstream.received()[1].body.len(), 300_000);
}

#[test]
fn what_is_not_whole_or_is_reset_is_an_error() {
    let upstream = UpstreamThread::start(Upstream::scripted(|_| Scripted::reset())).unwrap();
    let mut client = Http2Client::connect(upstream.addr()).unwrap();
    for broken in ["GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhalf"] {
        let error = client.exchange(broken.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{broken}");
    }
    assert!(client.exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").is_err());
}
