//! Upstreams that fail, and clients that leave.

mod endpoints;
mod limits;
mod names;
mod retries;
mod timeouts;
mod tls;

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};
use wasmplug_testkit::{End, Received, Reply, Scripted, Upstream};

use crate::harness::{Plugin, Running, Setup};

const CONNECT_ERROR: &str =
    "upstream connect error or disconnect/reset before headers. reset reason: ";

/// An address at which nobody listens: the port is taken, so that nobody else gets it.
struct Down(Socket);

impl Down {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}

/// Several hosts as one cluster is written.
fn addresses(all: impl IntoIterator<Item = SocketAddr>) -> String {
    let all: Vec<String> = all.into_iter().map(|address| address.to_string()).collect();
    all.join(",")
}

/// What an upstream answers that works.
fn fine(_: &Received) -> Scripted {
    Reply::new(200).body("fine").into()
}

fn idle() -> Plugin {
    Plugin::guest("on request_headers:\non response_headers:\non response_body:")
}

/// Without plugins and with one, in front of an upstream that does this once and then works.
fn both(first: fn() -> Scripted) -> [Running; 2] {
    let start = |setup: Setup| {
        let upstream = Upstream::scripted(move |received| match received.path.as_str() {
            "/first" => first(),
            _ => Reply::new(200).body("fine").into(),
        });
        setup.upstream(upstream).start()
    };
    [start(Setup::new()), start(Setup::new().plugin(idle()))]
}

#[test]
fn nobody_listens() {
    for setup in [Setup::new(), Setup::new().plugin(idle())] {
        let down = Down::new();
        let address = down.address();
        let proxy = setup.tune(move |config| config.upstream = address.into()).start();
        let response = proxy.get("/");
        assert_eq!(response.status, 503);
        assert_eq!(response.text(), format!("{CONNECT_ERROR}remote connection failure"));
        assert_eq!(response.header("content-type"), Some("text/plain"));
    }
}

#[test]
fn no_answer_and_no_http() {
    for (first, status, reason) in [
        ((|| Scripted::close()) as fn() -> Scripted, 503, "connection termination"),
        (|| Scripted::reset(), 503, "connection termination"),
        (|| Scripted::raw("garbage\r\n\r\n", End::Close), 502, "protocol error"),
    ] {
        for proxy in both(first) {
            let mut client = proxy.client();
            let response = client.get("/first").unwrap();
            assert_eq!(response.status, status, "{reason}");
            assert_eq!(response.text(), format!("{CONNECT_ERROR}{reason}"));
            assert_eq!(client.get("/").unwrap().text(), "fine", "after {reason}");
        }
    }
}

#[test]
fn half_a_body_is_cut() {
    for first in [
        (|| Scripted::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", End::Close))
            as fn() -> Scripted,
        || {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nhalf";
            Scripted::raw(head, End::Reset)
        },
    ] {
        for proxy in both(first) {
            assert!(proxy.client().get("/first").is_err());
            assert_eq!(proxy.get("/").text(), "fine");
        }
    }
}

#[test]
fn a_connection_that_the_upstream_gives_up_is_not_used_again() {
    let raw = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    for setup in [Setup::new(), Setup::new().plugin(idle())] {
        let upstream = Upstream::scripted(move |_| Scripted::raw(raw, End::Close));
        let proxy = setup.upstream(upstream).start();
        let mut client = proxy.client();
        for _ in 0..50 {
            assert_eq!(client.get("/").unwrap().text(), "ok");
        }
    }
}

#[test]
fn an_answer_before_the_end_of_the_request_passes() {
    for setup in [Setup::new(), Setup::new().plugin(idle())] {
        let proxy = setup.start();
        let mut client = proxy.client();
        let head =
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n";
        client.send(head).unwrap();
        client.send("0123456789").unwrap();
        let response = client.read_response().unwrap();
        assert_eq!(response.json().unwrap()["body"], "0123456789");
    }
}

#[test]
fn a_client_that_leaves_ends_its_stream() {
    let guest = "
        on request_headers:
            (call $bump 'begun')
        on log:
            (call $bump 'logged')
        on delete:
            (call $bump 'deleted')";
    let upstream = Upstream::scripted(|received| match received.path.as_str() {
        "/never" => Scripted::never(),
        _ => Reply::new(200).body("fine").into(),
    });
    let setup = Setup::new().plugin(Plugin::guest(guest)).upstream(upstream).admin();
    let proxy = setup.start();
    let mut client = proxy.client();
    client.send("GET /never HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("begun 1");
    drop(client);
    proxy.wait_for_stat("logged 1");
    proxy.wait_for_stat("deleted 1");
    assert_eq!(proxy.get("/").text(), "fine");
}

#[test]
fn a_client_that_leaves_in_its_body_ends_its_stream() {
    let guest = "
        on request_body:
            (call $bump 'begun')
        on delete:
            (call $bump 'deleted')";
    let proxy = Setup::new().plugin(Plugin::guest(guest)).admin().start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf").unwrap();
    proxy.wait_for_stat("begun 1");
    drop(client);
    proxy.wait_for_stat("deleted 1");
    assert_eq!(proxy.get("/").status, 200);
}
