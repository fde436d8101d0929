use std::io;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;
use wasmplug_testkit::{End, RawClient, Reply, Scripted, Upstream, UpstreamThread};

fn echo() -> UpstreamThread {
    UpstreamThread::start(Upstream::echo()).unwrap()
}

fn scripted(script: impl Fn() -> Scripted + Send + Sync + 'static) -> (UpstreamThread, RawClient) {
    let upstream = UpstreamThread::start(Upstream::scripted(move |_| script())).unwrap();
    let client = RawClient::connect(upstream.addr()).unwrap();
    (upstream, client)
}

#[test]
fn echo_tells_order_case_and_repetition_of_headers() {
    let upstream = echo();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    let response = client
        .exchange("POST /a?b=c HTTP/1.1\r\nHost: h\r\nB: 1\r\na: 2\r\nB: 3\r\nContent-Length: 2\r\n\r\nhi")
        .unwrap();
    assert_eq!(response.status_line, "HTTP/1.1 200 OK");
    assert_eq!(response.header("x-upstream"), Some("echo"));
    let expected = json!({
        "method": "POST",
        "path": "/a?b=c",
        "version": "HTTP/1.1",
        "headers": [["Host", "h"], ["B", "1"], ["a", "2"], ["B", "3"], ["Content-Length", "2"]],
        "body": "hi",
        "body_encoding": "text",
        "trailers": [],
    });
    assert_eq!(response.json().unwrap(), expected);
    assert_eq!(upstream.received()[0].to_json(), expected);
}

#[test]
fn chunked_requests_with_trailers_and_binary_bodies_are_described() {
    let upstream = echo();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    let mut request = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n".to_vec();
    request.extend_from_slice(b"\xff\xfe\r\n0\r\nX-T: 1\r\n\r\n");
    let answer = client.exchange(request).unwrap().json().unwrap();
    assert_eq!(answer["body"], "//4=");
    assert_eq!(answer["body_encoding"], "base64");
    assert_eq!(answer["trailers"], json!([["X-T", "1"]]));
}

#[test]
fn one_connection_carries_many_exchanges_and_head_has_no_body() {
    let upstream = echo();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    let head = client.exchange("HEAD / HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    assert!(head.body.is_empty());
    assert_ne!(head.header("content-length"), Some("0"));
    assert_eq!(client.get("/status/204").unwrap().status, 204);
    assert_eq!(client.get("/").unwrap().json().unwrap()["path"], "/");
    assert_eq!((upstream.connections(), upstream.received().len()), (1, 3));
}

#[test]
fn a_connection_ends_when_the_client_asks_for_it() {
    let upstream = echo();
    for request in ["GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let mut client = RawClient::connect(upstream.addr()).unwrap();
        client.exchange(request).unwrap();
        assert_eq!(client.read_to_close().unwrap(), b"", "{request:?}");
    }
}

#[test]
fn the_path_chooses_the_answer() {
    let upstream = echo();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    assert_eq!(client.get("/status/503").unwrap().status_line, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(client.get("/bytes/100000").unwrap().body.len(), 100_000);
    let chunked = client.get("/chunked/3").unwrap();
    assert_eq!(chunked.header("transfer-encoding"), Some("chunked"));
    assert_eq!(chunked.text(), "chunk 0\nchunk 1\nchunk 2\n");
    let headers = client.get("/headers?a=1&b=x%20y&a=3&bad%20name=1&c=x%0d%0ay").unwrap();
    assert_eq!(headers.header_values("a"), ["1", "3"]);
    assert_eq!(headers.header("b"), Some("x y"));
    assert_eq!(headers.header("c"), None);
}

#[test]
fn impossible_paths_are_plain_echoes() {
    let upstream = echo();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    for path in ["/status/9", "/status/x", "/bytes/-1", "/bytes/99999999999", "/chunked/99999999"] {
        let answer = client.get(path).unwrap().json().unwrap();
        assert_eq!(answer["path"], path);
    }
}

#[test]
fn expectations_are_met_before_the_body_is_sent() {
    let upstream = echo();
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    client.send("POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").unwrap();
    client.send("ok").unwrap();
    let response = client.read_response().unwrap();
    assert_eq!(response.informational, ["HTTP/1.1 100 Continue"]);
    assert_eq!(response.json().unwrap()["body"], "ok");
}

#[test]
fn malformed_requests_are_refused_and_not_recorded() {
    let upstream = echo();
    for (request, status) in [
        ("GET /\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        ("POST / HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n", 413),
    ] {
        let mut client = RawClient::connect(upstream.addr()).unwrap();
        assert_eq!(client.exchange(request).unwrap().status, status, "{request:?}");
        assert_eq!(client.read_to_close().unwrap(), b"", "{request:?}");
    }
    let mut client = RawClient::connect(upstream.addr()).unwrap();
    let huge = format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "x".repeat(300_000));
    assert_eq!(client.exchange(huge).unwrap().status, 431);
    assert!(upstream.received().is_empty());
}

#[test]
fn scripts_choose_every_part_of_the_answer() {
    let (_upstream, mut client) = scripted(|| {
        Reply::new(200)
            .status_line("HTTP/1.1 299 Odd Reason")
            .informational(103)
            .header("X-B", "1")
            .header("x-a", "2")
            .header("X-B", "3")
            .chunked(["one", "", "two"])
            .trailer("X-End", "yes")
            .into()
    });
    let response = client.get("/").unwrap();
    let expected = "HTTP/1.1 103 Early Hints\n\nHTTP/1.1 299 Odd Reason\nX-B: 1\nx-a: 2\nX-B: 3\n\
                    transfer-encoding: chunked\n\nonetwo\n\nX-End: yes\n";
    assert_eq!(response.to_string(), expected);
    assert!(response.raw.ends_with(b"3\r\none\r\n3\r\ntwo\r\n0\r\nX-End: yes\r\n\r\n"));
}

#[test]
fn bodies_may_end_with_the_connection() {
    let (_upstream, mut client) = scripted(|| Reply::new(200).until_close("all of it").into());
    assert_eq!(client.get("/").unwrap().text(), "all of it");
}

#[test]
fn broken_answers_are_errors_of_the_client() {
    let kinds = |script: fn() -> Scripted| {
        let (_upstream, mut client) = scripted(script);
        client.get("/").unwrap_err().kind()
    };
    assert_eq!(kinds(Scripted::close), io::ErrorKind::UnexpectedEof);
    assert_eq!(kinds(Scripted::reset), io::ErrorKind::ConnectionReset);
    let short = || Scripted::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", End::Close);
    assert_eq!(kinds(short), io::ErrorKind::UnexpectedEof);
    assert_eq!(kinds(|| Scripted::raw("SSH-2.0\r\n\r\n", End::Close)), io::ErrorKind::InvalidData);
}

#[test]
fn an_answer_that_never_comes_leaves_the_connection_open() {
    let (upstream, mut client) = scripted(Scripted::never);
    client.send("GET / HTTP/1.1\r\n\r\n").unwrap();
    client.finish_sending().unwrap();
    // The server stays until this side is done, and never wrote a byte.
    assert_eq!(client.read_to_close().unwrap(), b"");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn streamed_bodies_come_when_the_test_sends_them() {
    let (chunks, receiver) = mpsc::unbounded_channel();
    let receiver = std::sync::Mutex::new(Some(receiver));
    let (_upstream, mut client) =
        scripted(move || Reply::new(200).streamed(receiver.lock().unwrap().take().unwrap()).into());
    client.send("GET / HTTP/1.1\r\n\r\n").unwrap();
    for chunk in ["a", "b"] {
        chunks.send(Bytes::from(chunk)).unwrap();
    }
    drop(chunks);
    assert_eq!(client.read_response().unwrap().text(), "ab");
}

#[test]
fn a_stopped_upstream_refuses_connections() {
    let upstream = echo();
    let addr = upstream.addr();
    let mut client = RawClient::connect(addr).unwrap();
    client.get("/").unwrap();
    upstream.stop();
    assert!(RawClient::connect(addr).is_err());
    assert!(client.get("/").is_err());
}

#[tokio::test]
async fn an_upstream_lives_in_any_runtime() {
    let upstream = Upstream::echo().start().await.unwrap();
    let addr = upstream.addr();
    let asked = tokio::task::spawn_blocking(move || RawClient::connect(addr).unwrap().get("/"));
    assert_eq!(asked.await.unwrap().unwrap().status, 200);
    assert_eq!(upstream.received().len(), 1);
}
