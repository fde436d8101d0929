//! Requests that meet a connection that dies, and which of them are sent once more.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use wasmplug_testkit::{End, Received, Scripted, Upstream};

use super::{fine, idle};
use crate::harness::{Plugin, RawUpstream, Running, Setup, eventually};

const ONE_MORE: &str = r#"envoy_cluster_upstream_rq_retry_total{envoy_cluster_name="upstream"} 1"#;
const NO_MORE: &str = r#"envoy_cluster_upstream_rq_retry_total{envoy_cluster_name="upstream"} 0"#;

/// An upstream that serves one request of each connection and does this at the next one.
fn serves_once(setup: Setup, next: fn() -> Scripted) -> Running {
    let seen = Mutex::new(HashSet::new());
    let upstream = Upstream::scripted(move |received: &Received| {
        let is_first = seen.lock().unwrap().insert(received.connection);
        if is_first && received.path != "/always" { fine(received) } else { next() }
    });
    setup.upstream(upstream).admin().start()
}

fn each(next: fn() -> Scripted) -> [Running; 2] {
    [serves_once(Setup::new(), next), serves_once(Setup::new().plugin(idle()), next)]
}

fn request(method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// How often the upstream saw a request for this path.
fn seen(proxy: &Running, path: &str) -> usize {
    proxy.upstream().received().iter().filter(|received| received.path == path).count()
}

#[test]
fn an_idempotent_request_that_meets_a_closing_connection_is_sent_once_more() {
    for next in [Scripted::close, Scripted::reset] {
        for proxy in each(next) {
            let mut client = proxy.client();
            assert_eq!(client.get("/first").unwrap().text(), "fine");
            let again = "GET /again?b HTTP/1.1\r\nhost: a.test\r\nx-a: 1\r\nx-a: 2\r\n\r\n";
            assert_eq!(client.exchange(again).unwrap().text(), "fine");
            let received = proxy.upstream().received();
            assert_eq!(received.len(), 3);
            assert_eq!(proxy.upstream().connections(), 2);
            assert_eq!(received[1].path, "/again?b");
            assert_eq!(
                (&received[1].path, &received[1].headers),
                (&received[2].path, &received[2].headers)
            );
            proxy.wait_for_stat(ONE_MORE);
        }
    }
}

#[test]
fn the_only_connection_that_is_allowed_makes_room_for_the_next_one() {
    let only_one = |config: &mut wasmplug_proxy::ProxyConfig| config.upstreams.max_connections = 1;
    let proxy = serves_once(Setup::new().tune(only_one), Scripted::close);
    let mut client = proxy.client();
    for _ in 0..4 {
        assert_eq!(client.get("/").unwrap().text(), "fine");
    }
    assert_eq!(proxy.upstream().connections(), 4);
}

#[test]
fn a_request_that_is_not_idempotent_is_not_repeated() {
    for proxy in each(Scripted::close) {
        let mut client = proxy.client();
        assert_eq!(client.get("/first").unwrap().text(), "fine");
        let response = client.exchange(request("POST", "/pay", "")).unwrap();
        assert_eq!(response.status, 503);
        let reason = "upstream connect error or disconnect/reset before headers. \
                      reset reason: connection termination";
        assert_eq!(response.text(), reason);
        assert_eq!(seen(&proxy, "/pay"), 1);
        proxy.wait_for_stat(NO_MORE);
    }
}

#[test]
fn a_body_that_is_passed_on_as_it_comes_is_not_repeated() {
    let proxy = serves_once(Setup::new(), Scripted::close);
    let mut client = proxy.client();
    assert_eq!(client.get("/first").unwrap().text(), "fine");
    assert_eq!(client.exchange(request("PUT", "/put", "body")).unwrap().status, 503);
    assert_eq!(seen(&proxy, "/put"), 1);
}

#[test]
fn a_body_that_was_there_as_a_whole_is_repeated() {
    let holding = "
        on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then (call $continue #0)))
        on request_headers:
            (if (i32.eqz (local.get $end)) (then
                (call $hold (local.get $context))
                (return #pause)))";
    let proxy = serves_once(Setup::new().plugin(Plugin::guest(holding)), Scripted::close);
    let ask = |method: &str, path: &str| {
        let mut client = proxy.client();
        assert_eq!(client.get("/first").unwrap().text(), "fine");
        client.exchange(request(method, path, "body")).unwrap().status
    };
    // Where the plugin lets go before the body has come, it is passed on as it comes.
    eventually(|| ask("PUT", "/put") == 200);
    let received = proxy.upstream().received();
    let [.., first, second] = received.as_slice() else { panic!("{received:?}") };
    assert_eq!((first.path.as_str(), first.body.as_slice()), ("/put", &b"body"[..]));
    assert_eq!((second.path.as_str(), second.body.as_slice()), ("/put", &b"body"[..]));
    assert_eq!(ask("POST", "/post"), 503);
    assert_eq!(seen(&proxy, "/post"), 1);
}

#[test]
fn nothing_is_sent_more_than_twice() {
    for proxy in each(Scripted::close) {
        let mut client = proxy.client();
        assert_eq!(client.get("/first").unwrap().text(), "fine");
        assert_eq!(client.get("/always").unwrap().status, 503);
        assert_eq!(seen(&proxy, "/always"), 2);
    }
}

#[test]
fn a_request_on_a_new_connection_is_not_repeated() {
    for proxy in each(Scripted::close) {
        assert_eq!(proxy.get("/always").status, 503);
        assert_eq!(seen(&proxy, "/always"), 1);
        proxy.wait_for_stat(NO_MORE);
    }
}

#[test]
fn a_request_that_was_answered_in_part_is_not_repeated() {
    for proxy in each(|| Scripted::raw("HTTP/1.1 2", End::Close)) {
        let mut client = proxy.client();
        assert_eq!(client.get("/first").unwrap().text(), "fine");
        assert_eq!(client.get("/part").unwrap().status, 503);
        assert_eq!(seen(&proxy, "/part"), 1);
        proxy.wait_for_stat(NO_MORE);
    }
}

/// Kinds of frames. Source: RFC 9113, 6.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM_AND_HEADERS: u8 = 5;
/// `:status: 200` in the table that both sides have from the start. Source: RFC 7541, A.
const STATUS_200: u8 = 0x88;

fn write_frame(stream: &mut impl Write, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &id.to_be_bytes()].concat();
    // A peer that is gone is the test's business.
    let _ = stream.write_all(&[&head, payload].concat());
}

/// Kind and stream of the next frame.
fn read_frame(stream: &mut impl Read) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
}

/// Answers requests of HTTP/2 for which `answers` says so.
pub(super) fn answer_http2<T: Read + Write>(
    stream: &mut T,
    mut answers: impl FnMut(&mut T, u32) -> bool,
) {
    if stream.read_exact(&mut [0; 24]).is_err() {
        return;
    }
    write_frame(stream, SETTINGS, 0, 0, &[]);
    while let Some((kind, id)) = read_frame(stream) {
        if kind == HEADERS && answers(stream, id) {
            write_frame(stream, HEADERS, END_STREAM_AND_HEADERS, id, &[STATUS_200]);
        }
    }
}

/// An upstream that does this at its first request, and answers all others; counts them.
struct Refusing {
    upstream: RawUpstream,
    requests: std::sync::Arc<Mutex<u32>>,
}

impl Refusing {
    fn start(refuse: impl Fn(&mut TcpStream, u32) + Send + Sync + 'static) -> Self {
        let requests = std::sync::Arc::new(Mutex::new(0));
        let seen = std::sync::Arc::clone(&requests);
        let upstream = RawUpstream::start(move |mut stream| {
            answer_http2(&mut stream, |stream, id| {
                let number = {
                    let mut seen = seen.lock().unwrap();
                    *seen += 1;
                    *seen
                };
                if number == 1 {
                    refuse(stream, id);
                }
                number > 1
            });
        });
        Self { upstream, requests }
    }

    /// The status of an answer to a request of this method, and how often the upstream saw it.
    fn ask(&self, method: &str) -> (u16, u32) {
        let address = self.upstream.address();
        let tune = move |config: &mut wasmplug_proxy::ProxyConfig| {
            config.upstream = format!("h2c://{address}").parse().unwrap();
        };
        let proxy = Setup::new().tune(tune).start();
        let status = proxy.exchange(request(method, "/", "")).status;
        (status, *self.requests.lock().unwrap())
    }
}

fn reset(code: u32) -> impl Fn(&mut TcpStream, u32) {
    move |stream, id| write_frame(stream, RST_STREAM, 0, id, &code.to_be_bytes())
}

fn go_away(last_stream: fn(u32) -> u32) -> impl Fn(&mut TcpStream, u32) {
    move |stream, id| {
        let payload = [last_stream(id).to_be_bytes(), [0; 4]].concat();
        write_frame(stream, GOAWAY, 0, 0, &payload);
        // The end of the connection.
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

#[test]
fn a_stream_that_was_refused_unread_is_sent_once_more() {
    for method in ["GET", "POST"] {
        assert_eq!(Refusing::start(reset(7)).ask(method), (200, 2), "REFUSED_STREAM, {method}");
        assert_eq!(Refusing::start(go_away(|_| 0)).ask(method), (200, 2), "GOAWAY, {method}");
    }
}

#[test]
fn a_stream_that_may_have_been_read_is_not_sent_again() {
    for method in ["GET", "POST"] {
        assert_eq!(Refusing::start(reset(2)).ask(method), (503, 1), "INTERNAL_ERROR, {method}");
        assert_eq!(Refusing::start(go_away(|id| id)).ask(method), (503, 1), "GOAWAY, {method}");
    }
}
