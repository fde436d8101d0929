//! Plugins that die in each callback, with each strategy, and what the next request meets.

use wasmplug_testkit::{Reply, Upstream};

use super::case::{Case, case, get, post, request};
use super::cases;
use crate::harness::Plugin;

/// A plugin that marks responses and dies in this callback if the request's path is `/die`; it
/// remembers the path in a number, because not every callback can read it.
fn dying(callback: &str) -> Plugin {
    const CALLBACKS: [&str; 8] = [
        "request_headers",
        "request_body",
        "request_trailers",
        "response_headers",
        "response_body",
        "response_trailers",
        "log",
        "done",
    ];
    let text = CALLBACKS.map(|known| {
        let remember = "(global.set $doomed (call $is (call $get #request ':path') '/die'))";
        let mark = "(call $add #response 'x-seen' 'yes')";
        let before = match known {
            "request_headers" => remember,
            "response_headers" => mark,
            _ => "",
        };
        let die =
            if known == callback { "(if (global.get $doomed) (then (unreachable)))" } else { "" };
        format!("on {known}:\n{before}\n{die}\n")
    });
    Plugin::guest(&format!("(global $doomed (mut i32) (i32.const 0))\n{}", text.concat()))
}

const FAIL_OPEN: &str =
    "with FAIL_OPEN the stream in which the plugin died goes on, and later ones meet a fresh VM";
const FRESH: &str = "a VM that died is replaced; in Envoy it stays dead";

fn with(plugin: Plugin) -> Case {
    case().plugin(plugin).trailers().upstream(|| Upstream::scripted(|_| Reply::new(204).into()))
}

fn open(callback: &str) -> Case {
    with(dying(callback).fail_open())
}

fn closed(callback: &str) -> Case {
    with(dying(callback))
}

fn trailing(path: &str) -> super::case::Request {
    let framing = "trailer: x-t\ntransfer-encoding: chunked\n";
    request("POST", path, framing, "3\r\none\r\n0\r\nx-t: t\r\n\r\n")
}

/// A request that Envoy refuses and that here passes a fresh VM.
const PASSES_AFRESH: &[&str] = &[
    "-HTTP/1.1 503 Service Unavailable",
    "+HTTP/1.1 204 No Content",
    "+x-envoy-upstream-service-time: (varies)",
    "+x-seen: yes",
    "-content-length: 0",
    "+# upstream",
    "+GET /a HTTP/1.1",
    "+host: example.test",
    "+x-forwarded-proto: http",
    "+x-request-id: (varies)",
    "+",
];

/// The plugin dies in one request with the strategy `FAIL_CLOSE`, and then comes another.
fn next_after(callback: &str) -> Case {
    closed(callback).send([get("/die"), get("/a")]).expected_difference(FRESH, PASSES_AFRESH)
}

cases! {
    open_in_request_headers => open("request_headers").send([get("/a"), get("/die")])
        .expected_difference(FAIL_OPEN, &[
            "-HTTP/1.1 503 Service Unavailable",
            "+HTTP/1.1 204 No Content",
            "+x-envoy-upstream-service-time: (varies)",
            "-content-length: 0",
            "+# upstream",
            "+GET /die HTTP/1.1",
            "+host: example.test",
            "+x-forwarded-proto: http",
            "+x-request-id: (varies)",
            "+",
        ]);
    open_in_request_body => open("request_body").send([post("/a", "x")]).send([post("/die", "x")])
        .expected_difference(FAIL_OPEN, &[
            "-HTTP/1.1 503 Service Unavailable",
            "+HTTP/1.1 204 No Content",
            "+x-envoy-upstream-service-time: (varies)",
            "-connection: close",
            "-content-length: 0",
            "-closed after 0 more bytes",
            "+# upstream",
            "+POST /die HTTP/1.1",
            "+host: example.test",
            "+content-length: 1",
            "+x-forwarded-proto: http",
            "+x-request-id: (varies)",
            "+",
            "+x",
        ]);
    open_in_request_trailers => open("request_trailers").send([trailing("/die")])
        .expected_difference(FAIL_OPEN, &[
            "-HTTP/1.1 503 Service Unavailable",
            "+HTTP/1.1 204 No Content",
            "+x-envoy-upstream-service-time: (varies)",
            "-content-length: 0",
            "+# upstream",
            "+POST /die HTTP/1.1",
            "+host: example.test",
            "+trailer: x-t",
            "+x-forwarded-proto: http",
            "+x-request-id: (varies)",
            "+transfer-encoding: chunked",
            "+",
            "+one",
            "+trailers",
            "+x-t: t",
        ]);
    open_in_response_headers => open("response_headers").send([get("/die")])
        .expected_difference(FAIL_OPEN, &[
            "-HTTP/1.1 503 Service Unavailable",
            "+HTTP/1.1 204 No Content",
            "+x-envoy-upstream-service-time: (varies)",
            "+x-seen: yes",
            "-content-length: 0",
        ]);
    open_in_log => open("log").send([get("/die")]);
    open_in_done => open("done").send([get("/die")]);
    closed_in_log_and_the_next => next_after("log");
    closed_in_done_and_the_next => next_after("done");
    closed_in_headers_and_the_next => next_after("request_headers");
    closed_in_response_headers_and_the_next => next_after("response_headers");
    open_in_log_and_the_next => open("log").send([get("/die"), get("/a")])
        .expected_difference(FRESH, &["+x-seen: yes"]);
}
