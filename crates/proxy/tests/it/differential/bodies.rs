//! What plugins do to bodies and trailers.

use wasmplug_testkit::{Reply, Upstream};

use super::case::{Case, Request, get, guest, post, post_chunked, request};
use super::cases;
use super::reasons::HEAD_WITHOUT_LENGTH;

/// Changes every body that is shown, after the length was removed.
fn edits(side: &str, set_body: &str) -> Case {
    let (map, buffer) = if side == "request" { ("#0", "#0") } else { ("#2", "#1") };
    let change = set_body.replace("BUFFER", buffer);
    guest(&format!(
        "on {side}_headers:
            (call $remove {map} 'content-length')
        on {side}_body:
            (if (local.get $size) (then {change}))"
    ))
}

/// Holds the whole body, then says its size and what it is.
fn collects(side: &str, then: &str) -> Case {
    let (map, buffer) = if side == "request" { ("#0", "#0") } else { ("#2", "#1") };
    let then = then.replace("BUFFER", buffer);
    guest(&format!(
        "on {side}_headers:
            (call $remove {map} 'content-length')
        on {side}_body:
            (if (i32.eqz (local.get $end)) (then (return #buffer)))
            {then}"
    ))
}

const REPLACE: &str = "(call $set_body BUFFER #0 #all 'replaced')";
const APPEND: &str = "(call $set_body BUFFER #all #0 ' and more')";
const PREPEND: &str = "(call $set_body BUFFER #0 #0 'before ')";
const REPLACE_START: &str = "(call $set_body BUFFER #0 #2 'start')";
const IN_THE_MIDDLE: &str = "(call $set_body BUFFER #2 #2 'middle')";
const CLEAR: &str = "(call $set_body BUFFER #0 #all '')";

fn posts() -> Vec<Request> {
    vec![post("/", "hello"), post_chunked("/", &["hello"]), post("/", ""), get("/")]
}

fn posted_trailers() -> Request {
    let body = "3\r\none\r\n0\r\nx-trailer: t\r\nx-other: o\r\n\r\n";
    request("POST", "/", "transfer-encoding: chunked\ntrailer: x-trailer, x-count\n", body)
}

fn with_trailers(case: Case) -> Case {
    case.upstream(|| {
        Upstream::scripted(|_| {
            let reply = Reply::new(200).header("trailer", "x-trailer, x-count, x-seen, x-made");
            reply.chunked(["one"]).trailer("x-trailer", "t").trailer("x-b", "b").into()
        })
    })
}

cases! {
    // Checks: BD-11
    request_body_replaced => edits("request", REPLACE).send(posts());
    // Checks: BD-10
    request_body_appended => edits("request", APPEND).send(posts());
    // Checks: BD-09
    request_body_prepended => edits("request", PREPEND).send(posts());
    // Checks: BD-13
    request_body_start_replaced => edits("request", REPLACE_START).send(posts());
    // Checks: BD-14
    request_body_middle_is_refused => edits("request", IN_THE_MIDDLE).send(posts());
    // Checks: BD-12
    request_body_cleared => edits("request", CLEAR).send(posts());
    response_body_replaced => edits("response", REPLACE).send([get("/bytes/20"), get("/chunked/1")]);
    response_body_appended => edits("response", APPEND).send([get("/bytes/20"), get("/bytes/0")]);
    response_body_prepended => edits("response", PREPEND).send([get("/bytes/20")]);
    response_body_start_replaced => edits("response", REPLACE_START).send([get("/bytes/20")]);
    response_body_cleared => edits("response", CLEAR).send([get("/bytes/20")]);
    response_body_to_head => edits("response", REPLACE)
        .send([request("HEAD", "/bytes/20", "", ""), get("/bytes/20")])
        .expected_difference(HEAD_WITHOUT_LENGTH, &["-transfer-encoding: chunked"]);
    // Checks: BD-20
    collected_request_body_is_kept => collects("request", "").send(posts())
        .send([post("/", &"0123456789".repeat(50_000))]);
    collected_request_body_is_replaced => collects("request", REPLACE).send(posts());
    collected_request_body_is_appended => collects("request", APPEND).send(posts());
    collected_response_body_is_kept => collects("response", "")
        .send([get("/bytes/20"), get("/bytes/500000"), get("/chunked/5"), get("/bytes/0")]);
    collected_response_body_is_replaced => collects("response", REPLACE)
        .send([get("/bytes/20"), get("/bytes/500000"), get("/chunked/5"), get("/bytes/0")]);
    collected_response_body_is_appended => collects("response", APPEND)
        .send([get("/bytes/20"), get("/chunked/5"), get("/bytes/0")]);
    // Checks: BD-21
    a_request_body_too_large_to_collect => collects("request", "")
        .send([post("/", &"0123456789".repeat(150_000))]);
    a_response_body_too_large_to_collect => collects("response", "")
        .send([get("/bytes/1500000")]);
    a_body_is_not_there_in_headers => guest("
        on request_headers:
            (call $set_body #0 #0 #0 'early')
            (call $add #request 'x-body' (call $body #0))
    ").send([post("/", "hello")]);
    // Checks: HD-47
    request_trailers_pass => guest("
        on request_trailers:
            (call $add #request_trailers 'x-count' (call $decimal (local.get $count)))
            (call $replace #request_trailers 'x-trailer' 'replaced')
            (call $remove #request_trailers 'x-other')
    ").trailers().send([posted_trailers()]);
    // Checks: HD-48
    response_trailers_pass => with_trailers(guest("
        on response_trailers:
            (call $add #response_trailers 'x-count' (call $decimal (local.get $count)))
            (call $replace #response_trailers 'x-trailer' 'replaced')
            (call $remove #response_trailers 'x-b')
    ")).trailers().send([request("GET", "/", "te: trailers\n", "")]);
    // Checks: BD-04
    the_end_of_a_body_with_trailers => with_trailers(guest("
        on response_headers:
            (call $add #response 'x-end' (call $decimal (local.get $end)))
        on response_body:
            (if (local.get $end) (then (call $set_body #1 #0 #0 'end ')))
        on response_trailers:
            (call $add #response_trailers 'x-seen' 'yes')
            (call $remove #response_trailers 'x-b')
    ")).trailers().send([request("GET", "/", "te: trailers\n", "")]);
    trailers_are_created_at_the_end => guest("
        on request_body:
            (if (local.get $end) (then (call $add #request_trailers 'x-made' 'one')))
        on response_headers:
            (call $add #response 'trailer' 'x-made')
        on response_body:
            (if (local.get $end) (then (call $add #response_trailers 'x-made' 'two')))
    ").trailers().send([
        request("POST", "/", "transfer-encoding: chunked\ntrailer: x-made\nte: trailers\n",
            "1\r\na\r\n0\r\n\r\n"),
        request("GET", "/chunked/2", "te: trailers\n", ""),
    ]);
    trailers_by_default => with_trailers(guest("
        on request_trailers:
            (call $replace #request_trailers 'x-trailer' 'replaced')
        on response_trailers:
    ")).send([posted_trailers()]).expected_difference(
        "trailers of HTTP/1 pass; Envoy drops them unless it is told otherwise",
        &["+trailers", "+x-trailer: replaced"],
    );
}
