//! Frames written by hand: what RFC 9113 forbids is refused as it says, and nothing that could be
//! read in two ways reaches the upstream.
//!
//! Every case runs without plugins, where messages are passed on as they are, and with one, which
//! marks what passes it. It ends with a `PING`, by whose answer it is known that all was read.

mod client;
mod floods;
mod flow;
mod frames;
mod heads;
mod idle;
mod streams;

use std::fmt::Write as _;

use wasmplug_testkit::{Reply, Upstream};

use self::client::{Client, Seen};
use crate::harness::{Plugin, Running, Setup};

const PLUGIN: &str = "
    on request_headers:
        (call $replace #request 'x-mark' '1')
    on request_body:
    on request_trailers:
    on response_headers:";

/// Without plugins, and with one.
fn both() -> [(Running, &'static str); 2] {
    let fine = || Upstream::scripted(|_| Reply::new(200).body("fine").into());
    let start = |setup: Setup| setup.upstream(fine()).start();
    [
        (start(Setup::new()), "straight"),
        (start(Setup::new().plugin(Plugin::guest(PLUGIN))), "with a plugin"),
    ]
}

/// What comes of these frames, behind the preface and settings of a good client: how the streams
/// end that are named, or the connection, and what the upstream received.
///
/// ```text
/// 1: 200; GET a / body     an answer, and the request as the upstream read it
/// 1: PROTOCOL_ERROR        the stream is reset
/// goaway PROTOCOL_ERROR    the connection is closed, with this reason
/// closed                   without one
/// open                     nothing ended
/// ```
fn outcome(proxy: &Running, frames: &[Vec<u8>], streams: &[u32]) -> String {
    let mut client = Client::open(proxy);
    client.send(&frames.concat());
    end_of(proxy, client, streams)
}

fn end_of(proxy: &Running, mut client: Client, streams: &[u32]) -> String {
    let mut told = match client.watch(streams) {
        Seen::Closed => "closed".to_owned(),
        Seen::GoAway(code) => format!("goaway {code}"),
        Seen::Ends(ends) if ends.is_empty() => "open".to_owned(),
        Seen::Ends(ends) => {
            let ends = ends.into_iter().map(|(stream, end)| format!("{stream}: {end}"));
            ends.collect::<Vec<_>>().join(", ")
        }
    };
    for received in proxy.upstream().received() {
        // A request has one length and one host, or it is two requests to somebody.
        let framing = ["content-length", "transfer-encoding"];
        let framing = framing.map(|name| received.header_values(name).len());
        assert!(framing.iter().sum::<usize>() <= 1, "{received:?}");
        assert_eq!(received.header_values("host").len(), 1, "{received:?}");
        for name in ["connection", "upgrade", "keep-alive", "proxy-connection"] {
            assert_eq!(received.header(name), None, "{received:?}");
        }
        let mut names = received.headers.iter().chain(&received.trailers).map(|(name, _)| name);
        assert!(names.all(|name| !name.starts_with(':')), "{received:?}");
    }
    told.truncate(told.trim_end().len());
    told
}

/// The same with what the upstream received meanwhile.
fn outcome_and_received(proxy: &Running, frames: &[Vec<u8>], streams: &[u32]) -> String {
    let before = proxy.upstream().received().len();
    let mut told = outcome(proxy, frames, streams);
    for received in proxy.upstream().received().split_off(before) {
        let (method, path) = (&received.method, &received.path);
        let host = received.header("host").unwrap_or_default();
        let body = String::from_utf8_lossy(&received.body);
        let _ = write!(told, "; {method} {host} {path} {body}");
        told.truncate(told.trim_end().len());
    }
    told
}

/// What is no request to the library ends the connection, with this reason whatever it is.
///
/// RFC 9113 has other codes for some of it, and lets an error of a stream be one of the connection
/// (5.4); h2 says `PROTOCOL_ERROR` for all that it cannot decode.
const BROKEN: &str = "goaway PROTOCOL_ERROR";

/// A case: what it is, its frames, the streams that end, and what must come of it.
type Case<'a> = (&'a str, Vec<Vec<u8>>, &'a [u32], &'a str);

#[track_caller]
fn assert_outcomes(cases: &[Case<'_>]) {
    let mut wrong = String::new();
    for (proxy, name) in &both() {
        for (what, frames, streams, expected) in cases {
            let told = outcome_and_received(proxy, frames, streams);
            if told != *expected {
                let _ = writeln!(wrong, "{name}: {what}\n  expected {expected}\n  got      {told}");
            }
        }
        // Whatever came, others are served.
        assert_eq!(proxy.get("/").text(), "fine");
        for received in proxy.upstream().received() {
            let is_marked = received.header("x-mark").is_some();
            assert_eq!(is_marked, *name == "with a plugin", "{name}: {received:?}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
