//! What plugins can ask about a stream.

use std::fmt::Write as _;

use super::case::{Case, get, guest, post, request};
use super::cases;
use crate::harness::Plugin;

/// Writes texts and numbers into response headers, asked for in the given callback.
fn asks(side: &str, texts: &[&str], numbers: &[&str]) -> Case {
    let mut callback = format!("on {side}_headers:\n");
    let map = if side == "request" { "#0" } else { "#2" };
    let kinds = [("property", texts), ("number_property", numbers)];
    for (call, path) in kinds.iter().flat_map(|(call, paths)| paths.iter().map(move |p| (call, p)))
    {
        let name = path.replace('.', "-");
        let path = path.replace('.', "\\00");
        let _ = writeln!(callback, "(call $add {map} 'x-{name}' (call ${call} '{path}'))");
    }
    guest(&callback)
}

/// GET for a client behind another proxy.
fn forwarded(address: &str) -> Vec<u8> {
    request("GET", "/", &format!("x-forwarded-for: {address}\n"), "")
}

cases! {
    // Checks: PR-01
    of_a_request_in_the_request => asks("request", &[
        "request.path", "request.url_path", "request.query", "request.host", "request.scheme",
        "request.method", "request.protocol", "request.referer", "request.useragent",
        "request.headers.x-own", "request.headers.absent", "source.address",
        "destination.address", "connection.requested_server_name", "response.code_details",
        "request.absent", "absent",
    ], &["request.size", "response.code", "response.flags"])
    .send([
        request("GET", "/a/b?c=d", "x-own: 1\nx-own: 2\nuser-agent: me\nreferer: r\n", ""),
        get("/"),
    ]);
    of_a_request_behind_another_proxy => asks("request", &["source.address"], &["source.port"])
        .send(["10.1.2.3", "10.1.2.3, 2001:db8::1"].map(forwarded));
    of_a_request_behind_a_proxy_that_tells_no_address => asks("request", &["source.address"], &[])
        .send(["10.1.2.3, unknown", "10.1.2.3:80", ""].map(forwarded));
    of_a_request_with_a_body => asks("request", &[], &["request.total_size", "request.size"])
        .send([post("/", "hello")]);
    // Checks: PR-02
    of_a_request_in_the_response => asks("response", &[
        "request.path", "request.host", "request.method", "request.protocol", "source.address",
        "upstream.address", "response.code_details", "response.headers.x-upstream",
    ], &["response.code", "response.flags", "request.size"])
    .send([get("/"), get("/status/404")]);
    of_the_plugin => asks("response", &["plugin_name", "plugin_root_id", "plugin_vm_id"], &[])
        .send([get("/")]);
    of_a_local_reply => asks("response", &["response.code_details"],
        &["response.code", "response.flags"])
        .plugin(Plugin::guest("on request_headers:\n(call $reply #403 'no' {x-a: 1})"))
        .send([get("/")]);
    of_a_failed_upstream => asks("response", &["response.code_details"],
        &["response.code", "response.flags"]).upstream_down().send([get("/")]);
    // Checks: PR-22, PR-23
    stored_by_a_plugin_and_read_by_another => guest("
        on request_headers:
            (call $set_property 'mine' 'value of the first')
        on response_headers:
            (call $add #response 'x-first' (call $property 'mine'))
            (call $add #response 'x-state' (call $property 'filter_state\\00wasm.mine'))
            (call $add #response 'x-second' (call $property 'other'))
        ").plugin(Plugin::guest("
        on request_headers:
            (call $add #request 'x-mine' (call $property 'mine'))
            (call $set_property 'mine' 'value of the second')
            (call $set_property 'other' '')
        ")).send([get("/")]);
    // Checks: PR-26
    a_built_in_attribute_is_not_replaced => guest("
        on request_headers:
            (call $set_property 'request' 'mine')
            (call $add #request 'x-path' (call $property 'request\\00path'))
            (call $add #request 'x-bare' (call $property 'request'))
        ").send([get("/")]);
}
