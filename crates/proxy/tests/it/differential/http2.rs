//! HTTP/2 on either side, with the plugins that HTTP/1 meets elsewhere.

use wasmplug_testkit::{Received, Reply, Scripted, Upstream};

use super::case::{Case, case, changing, get, guest, post, request};
use super::cases;
use crate::harness::Plugin;

const EMPTY: &str = "a response that ends with its head says that its length is 0";

/// A plugin that logs each callback with what it is told; of the body of a response only its end:
/// from an upstream of HTTP/2 it comes in a callback of its own here, because the HTTP library does
/// not tell it with the last bytes.
fn telling() -> Case {
    guest(
        "on request_headers:
            (call $log 'request headers')
            (call $log_number (local.get $end))
            (call $log (call $get #request ':authority'))
            (call $log (call $property 'request\\00protocol'))
        on request_body:
            (call $log 'request body')
            (call $log_number (local.get $end))
        on request_trailers:
            (call $log 'request trailers')
            (call $log_number (local.get $count))
        on response_headers:
            (call $log 'response headers')
            (call $log_number (local.get $end))
        on response_body:
            (if (local.get $end) (then (call $log 'end of the response body')))
        on response_trailers:
            (call $log 'response trailers')
            (call $log_number (local.get $count))
        on log:
            (call $log 'log')",
    )
    .log()
}

fn trailing(case: Case) -> Case {
    let framing = "transfer-encoding: chunked\nte: trailers\ntrailer: x-t\n";
    let upstream = || {
        Upstream::scripted(|_| {
            let reply = Reply::new(200).header("trailer", "x-trailer");
            reply.chunked(["one"]).trailer("x-trailer", "t").into()
        })
    };
    case.upstream(upstream).trailers().send([request(
        "POST",
        "/",
        framing,
        "3\r\none\r\n0\r\nx-t: t\r\n\r\n",
    )])
}

/// In front of an upstream that does not tell the order of what it got.
fn usual(case: Case) -> Case {
    case.upstream(|| Upstream::scripted(answer)).send([
        get("/?a=b"),
        post("/", "hello"),
        post("/", ""),
        get("/204"),
        get("/404"),
        request("HEAD", "/", "", ""),
        request("GET", "/headers", "x-a: 1\nx-a: 2\ncookie: a=b\n", ""),
    ])
}

fn answer(received: &Received) -> Scripted {
    match received.path.as_str() {
        "/204" => Reply::new(204).into(),
        "/404" => Reply::new(404).body("none").into(),
        "/headers" => Reply::new(200).header("x-b", "1").header("x-b", "2").into(),
        _ => Reply::new(200).header("content-type", "text/plain").body("welcome").into(),
    }
}

const REPLY: &str = "on request_headers:
    (call $reply #403 'refused' {x-a: 1})";

cases! {
    client => usual(case().http2());
    client_and_plugin => usual(telling().http2());
    client_and_changed_bodies => usual(changing().http2());
    client_with_trailers => trailing(telling().http2());
    client_meets_a_reply => usual(guest(REPLY).http2());
    client_meets_a_trap => usual(guest("on request_headers:\n(unreachable)").http2());
    client_and_the_upstream_is_down => case().http2().upstream_down().send([get("/")]);
    client_and_examples => usual(case().http2()
        .plugin(Plugin::prebuilt("tag-headers-rust").configured(r#"{"tag": "a"}"#)));
    upstream => usual(case().http2_upstream());
    upstream_and_plugin => usual(telling().http2_upstream());
    upstream_and_changed_bodies => usual(changing().http2_upstream())
        .expected_difference(EMPTY, &["-transfer-encoding: chunked", "+content-length: 0"]);
    upstream_with_trailers => trailing(telling().http2_upstream());
    upstream_is_down => case().http2_upstream().upstream_down().send([get("/")]);
    both => usual(telling().http2().http2_upstream());
    both_with_changed_bodies => usual(changing().http2().http2_upstream())
        .expected_difference(EMPTY, &["+content-length: 0"]);
    both_with_trailers => trailing(telling().http2().http2_upstream());
    large_bodies => changing().http2().http2_upstream()
        .send([get("/bytes/2000000")]).send([post("/bytes/0", &"a".repeat(300_000))]);
}
