//! Plugins that hold a message and let it go from outside its callbacks.

use wasmplug_testkit::{Reply, Upstream};

use super::case::{Case, get, guest, post, post_chunked, request};
use super::cases;

/// A plugin with a timer that lets go what `$hold` remembers.
fn ticking(on_tick: &str, callbacks: &str) -> Case {
    guest(&format!(
        "on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then {on_tick}))
        {callbacks}"
    ))
}

fn paused_in_request_headers(action: &str) -> Case {
    ticking(
        "(call $add #request 'x-from-tick' 'yes') (call $continue #0)",
        &format!(
            "on request_headers:
                (call $hold (local.get $context))
                (return {action})
            on request_body:
                (if (local.get $end) (then (call $set_body #0 #all #0 '!')))"
        ),
    )
}

fn paused_in_response_headers(action: &str) -> Case {
    ticking(
        "(call $add #response 'x-from-tick' 'yes') (call $continue #1)",
        &format!(
            "on response_headers:
                (call $remove #response 'content-length')
                (call $hold (local.get $context))
                (return {action})
            on response_body:
                (if (local.get $end) (then (call $set_body #1 #all #0 '!')))"
        ),
    )
}

/// Holds the end of the body.
fn paused_in_body(side: &str, action: &str) -> Case {
    let (map, stream) = if side == "request" { ("#0", "#0") } else { ("#2", "#1") };
    ticking(
        &format!("(call $continue {stream})"),
        &format!(
            "on {side}_headers:
                (call $remove {map} 'content-length')
            on {side}_body:
                (if (local.get $end) (then (call $hold (local.get $context))))
                (return {action})"
        ),
    )
}

/// A chunked body with a trailer that is announced.
const TRAILERS: &str = "3\r\none\r\n0\r\nx-trailer: t\r\n\r\n";

cases! {
    // Checks: HD-38, BD-34
    request_headers_stop_iteration => paused_in_request_headers("#pause").send([get("/")]);
    request_headers_all_and_buffer => paused_in_request_headers("#all_and_buffer").send([get("/")]);
    request_headers_all_and_watermark => paused_in_request_headers("#all_and_watermark")
        .send([get("/")]);
    // Checks: BD-27
    request_headers_continue_and_end => paused_in_request_headers("#2").send([get("/")]);
    // Checks: BD-49
    response_headers_stop_iteration => paused_in_response_headers("#pause")
        .send([get("/bytes/3"), get("/status/204")]);
    response_headers_all_and_buffer => paused_in_response_headers("#all_and_buffer")
        .send([get("/bytes/3"), get("/status/204")]);
    response_headers_all_and_watermark => paused_in_response_headers("#all_and_watermark")
        .send([get("/bytes/3")]);
    request_body_buffer => paused_in_body("request", "#buffer")
        .send([post("/", "hello"), post_chunked("/", &["a", "b"])]);
    request_body_watermark => paused_in_body("request", "#watermark")
        .send([post("/", "hello"), post_chunked("/", &["a", "b"])]);
    // Checks: BD-25
    request_body_no_buffer => paused_in_body("request", "#no_buffer").send([post("/", "hello")]);
    response_body_buffer => paused_in_body("response", "#buffer")
        .send([get("/bytes/20"), get("/chunked/3")]);
    response_body_watermark => paused_in_body("response", "#watermark")
        .send([get("/bytes/20"), get("/chunked/3")]);
    response_body_no_buffer => paused_in_body("response", "#no_buffer").send([get("/bytes/20")]);
    request_trailers => ticking("(call $continue #0)", "
        on request_trailers:
            (call $hold (local.get $context))
            (return #pause)
    ").trailers().send([request("POST", "/", "trailer: x-trailer\ntransfer-encoding: chunked\n", TRAILERS)]);
    response_trailers => ticking("(call $continue #1)", "
        on response_trailers:
            (call $hold (local.get $context))
            (return #pause)
    ").upstream(|| Upstream::scripted(|_| {
        let reply = Reply::new(200).header("trailer", "x-trailer");
        reply.chunked(["one"]).trailer("x-trailer", "t").into()
    })).trailers().send([request("GET", "/", "te: trailers\n", "")]);
    // Checks: LR-17
    a_reply_from_a_tick => ticking("(call $reply #403 'from tick' {x-a: 1})", "
        on request_headers:
            (call $hold (local.get $context))
            (return #pause)
    ").send([get("/"), post("/", "hello")]);
    a_reply_from_a_tick_in_the_response => ticking("(call $reply #403 'from tick' {x-a: 1})", "
        on response_headers:
            (call $hold (local.get $context))
            (return #pause)
    ").send([get("/")]);
    a_close_from_a_tick => ticking("(call $close #0)", "
        on request_headers:
            (call $hold (local.get $context))
            (return #pause)
    ").send([get("/")]);
    a_continue_without_a_pause_in_the_response_phase => guest("
        on response_headers:
            (call $continue #0)
    ").send([get("/")]);
    // Checks: BD-39
    a_close_in_request_headers => guest("
        on request_headers:
            (call $close #0)
    ").send([get("/")]);
    // Checks: BD-40
    a_close_in_response_headers => guest("
        on response_headers:
            (call $close #1)
    ").send([get("/")]);
    a_close_in_request_body => guest("
        on request_body:
            (call $close #0)
    ").send([post("/", "hello")]);
}
