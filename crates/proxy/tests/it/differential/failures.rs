//! Plugins that die and upstreams that fail.

use wasmplug_testkit::{End, Scripted, Upstream};

use super::case::{Case, case, get, guest, post, request};
use super::cases;
use crate::harness::Plugin;

fn trapping(callback: &str) -> Case {
    guest(&format!("on {callback}:\n(unreachable)"))
}

/// Marks responses.
fn marking() -> Case {
    guest("on response_headers:\n(call $add #response 'x-seen' 'yes')")
}

fn raw(bytes: &'static [u8], end: End) -> Case {
    marking().upstream(move || Upstream::scripted(move |_| Scripted::raw(bytes, end)))
}

cases! {
    a_trap_in_context_create => guest("
        on context_create:
            (if (local.get $parent) (then (unreachable)))
        on request_headers:
    ").send([get("/")]);
    // Checks: TR-01
    a_trap_in_request_headers => trapping("request_headers").send([get("/")]);
    a_trap_in_request_headers_of_a_post => trapping("request_headers").send([post("/", "hello")]);
    // Checks: TR-12
    a_trap_in_request_headers_of_grpc => trapping("request_headers")
        .send([request("GET", "/", "content-type: application/grpc\n", "")]);
    // Checks: TR-02
    a_trap_in_request_body => trapping("request_body").send([post("/", "hello")]);
    // Checks: TR-02
    a_trap_in_request_trailers => trapping("request_trailers").trailers().send([
        request("POST", "/", "transfer-encoding: chunked\n", "1\r\na\r\n0\r\nx-t: t\r\n\r\n"),
    ]);
    // Checks: TR-03
    a_trap_in_response_headers => trapping("response_headers").send([get("/")]);
    // Checks: TR-04
    a_trap_in_response_body => trapping("response_body").send([get("/bytes/2000000")]);
    // Checks: TR-05
    a_trap_in_log => trapping("log").send([get("/")]);
    // Checks: TR-05
    a_trap_in_done => trapping("done").send([get("/")]);
    a_trap_between_two_others => marking()
        .plugin(Plugin::guest("on request_headers:\n(unreachable)"))
        .plugin(Plugin::guest("on response_headers:\n(call $add #response 'x-last' 'yes')"))
        .send([get("/")]);
    a_trap_in_an_earlier_response => trapping("response_headers")
        .plugin(Plugin::guest("on response_headers:\n(call $add #response 'x-last' 'yes')"))
        .send([get("/")]);
    no_upstream => case().upstream_down().send([get("/"), post("/", "x")]);
    // Checks: CH-06
    no_upstream_behind_a_plugin => marking().upstream_down().send([get("/"), post("/", "x")]);
    no_upstream_for_head => marking().upstream_down().send([request("HEAD", "/", "", "")]);
    no_upstream_for_grpc => marking().upstream_down()
        .send([request("GET", "/", "content-type: application/grpc\n", "")]);
    an_upstream_that_closes_at_once => raw(b"", End::Close).send([get("/")]);
    an_upstream_that_resets_at_once => raw(b"", End::Reset).send([get("/")]);
    an_upstream_that_sends_garbage => raw(b"garbage\r\n\r\n", End::Close).send([get("/")]);
    an_upstream_that_ends_in_the_head => raw(b"HTTP/1.1 200 OK\r\nx-a", End::Close)
        .send([get("/")]).expected_difference(
            "the HTTP library does not tell half a head from none",
            &[
                "-HTTP/1.1 502 Bad Gateway",
                "-content-length: 87",
                "+HTTP/1.1 503 Service Unavailable",
                "+content-length: 95",
                "-upstream connect error or disconnect/reset before headers. \
                 reset reason: protocol error",
                "+upstream connect error or disconnect/reset before headers. \
                 reset reason: connection termination",
            ],
        );
    // Checks: TR-14
    a_trap_with_fail_open => marking()
        .plugin(Plugin::guest("on response_headers:\n(unreachable)").fail_open())
        .send([get("/bytes/0")]).expected_difference(
            "with FAIL_OPEN the stream in which the plugin died goes on, too",
            &[
                "-HTTP/1.1 503 Service Unavailable",
                "+HTTP/1.1 200 OK",
                "+content-type: text/plain",
                "+x-upstream: echo",
                "+content-length: 0",
                "+x-envoy-upstream-service-time: (varies)",
                "+x-seen: yes",
                "-content-length: 0",
            ],
        );
    an_upstream_that_ends_in_the_body
        => raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", End::Close).send([get("/")]);
    an_upstream_that_ends_in_a_chunk
        => raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\nhalf", End::Close)
        .send([get("/")]);
}
