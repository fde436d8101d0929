//! HTTP calls of plugins: what the cluster gets, and what the plugin hears and reads.

use wasmplug_testkit::{End, Received, Reply, Scripted, Upstream};

use super::case::{Case, get, guest, post};
use super::cases;

const HEADERS: &str = "{:method: GET; :path: /check; :authority: auth.test; x-a: 1}";

/// What a plugin says of an answer.
const SAY: &str = "
    (call $log_number (local.get $headers))
    (call $log_number (local.get $size))
    (call $log_number (local.get $trailers))
    (call $log (call $get #call_response ':status'))
    (call $log (call $get #call_response 'x-b'))
    (call $log (call $body #call_body))";

/// Lets the request go that waits for the answer.
const GO_ON: &str = "
    (if (call $take_held)
        (then (call $add #request 'x-called' 'yes') (call $continue #0)))";

/// The same of an answer that is too long for a line of the log.
const SAY_LENGTH: &str = "
    (call $log_number (local.get $size))
    (call $body #call_body)
    (call $log_number)
    (drop)";

/// A plugin that calls `auth` for each request, which waits unless the call is refused.
fn calling(headers: &str, body: &str, timeout: u32) -> Case {
    calling_for(headers, body, timeout, SAY)
}

fn calling_for(headers: &str, body: &str, timeout: u32, say: &str) -> Case {
    guest(&format!(
        "on request_headers:
            (call $hold (local.get $context))
            (call $log_number (call $http_call 'auth' {headers} {body} #{timeout}))
            (if (i32.eqz (i32.load (i32.const 0x10c))) (then (return #0)))
            (return #pause)
        on http_call_response: {say} {GO_ON}"
    ))
    .log()
}

fn answered(reply: impl Fn(&Received) -> Scripted + Copy + Send + Sync + 'static) -> Case {
    calling(HEADERS, "''", 0).cluster("auth", move || Upstream::scripted(reply)).send([get("/")])
}

fn raw(bytes: &'static [u8], end: End) -> Case {
    answered(move |_| Scripted::raw(bytes, end))
}

/// Headers that are refused.
fn without(headers: &str) -> Case {
    calling(headers, "''", 0).cluster("auth", Upstream::echo).send([get("/")])
}

cases! {
    an_answer => answered(|_| Reply::new(200).header("x-b", "2").body("welcome").into());
    an_answer_in_chunks_with_trailers => answered(|_| {
        Reply::new(200).header("x-b", "2").chunked(["one ", "two"]).trailer("x-t", "t").into()
    }).trailers();
    an_answer_without_a_body => answered(|_| Reply::new(204).header("x-b", "2").into());
    an_answer_of_404 => answered(|_| Reply::new(404).body("none").into());
    an_answer_of_503 => answered(|_| Reply::new(503).body("busy").into());
    an_answer_as_large_as_the_buffer => calling_for(HEADERS, "''", 0, SAY_LENGTH)
        .cluster("auth", || Upstream::scripted(|_| Reply::new(200).body("a".repeat(1 << 20)).into()))
        .send([get("/")]);
    a_call_with_a_body => calling(
        "{:method: POST; :path: /check?a=b; :authority: auth.test; x-a: 1; x-a: 2}", "'question'", 0,
    ).cluster("auth", Upstream::echo).send([get("/"), post("/", "hello")]);
    a_cluster_that_is_down => calling(HEADERS, "''", 0).cluster_down("auth").send([get("/")]);
    an_unknown_cluster => calling(HEADERS, "''", 0).send([get("/")]);
    an_answer_that_never_comes => calling(HEADERS, "''", 50)
        .cluster("auth", || Upstream::scripted(|_| Scripted::never())).send([get("/")]);
    a_cluster_that_closes_at_once => raw(b"", End::Close);
    a_cluster_that_resets_at_once => raw(b"", End::Reset);
    an_answer_that_is_no_http => raw(b"garbage\r\n\r\n", End::Close);
    an_answer_that_ends_in_its_body
        => raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", End::Close);
    an_answer_that_is_reset_in_its_body
        => raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx", End::Reset);
    a_call_without_a_method => without("{:path: /; :authority: auth.test}");
    a_call_without_a_path => without("{:method: GET; :authority: auth.test}");
    a_call_without_an_authority => without("{:method: GET; :path: /}");
    a_call_to_a_host => without("{:method: GET; :path: /; host: auth.test}");
    a_call_in_the_response => guest(&format!(
        "on response_headers:
            (call $hold (local.get $context))
            (call $log_number (call $http_call 'auth' {HEADERS} '' #0))
            (return #pause)
        on http_call_response: {SAY}
            (if (call $take_held)
                (then (call $add #response 'x-called' 'yes') (call $continue #1)))"
    )).log().cluster("auth", Upstream::echo).send([get("/"), get("/bytes/20")]);
    a_call_from_a_tick => guest(&format!(
        "on configure:
            (call $tick #1)
        on tick:
            (if (i32.and (i32.ne (global.get $held) #0) (i32.eqz (global.get $counted))) (then
                (drop (call $count))
                (call $log_number (call $http_call 'auth' {HEADERS} '' #0))))
        on request_headers:
            (call $log 'held')
            (call $hold (local.get $context))
            (return #pause)
        on http_call_response: {SAY} {GO_ON}"
    )).log().cluster("auth", Upstream::echo).send([get("/")]);
    two_calls_at_once => guest(&format!(
        "on request_headers:
            (call $hold (local.get $context))
            (call $log_number (call $http_call 'auth' {HEADERS} '' #0))
            (call $log_number (i32.load (i32.const 0x10c)))
            (call $log_number (call $http_call 'other' {HEADERS} '' #0))
            (call $log_number (i32.load (i32.const 0x10c)))
            (return #pause)
        on http_call_response:
            (if (i32.eq (call $count) #2) (then {GO_ON}))"
    )).log().cluster("auth", Upstream::echo).cluster("other", Upstream::echo).send([get("/")]);
    one_call_after_the_other => guest(&format!(
        "on request_headers:
            (call $hold (local.get $context))
            (call $log_number (call $http_call 'auth' {HEADERS} '' #0))
            (return #pause)
        on http_call_response:
            (call $log_number (local.get $token))
            (if (i32.eq (call $count) #3) (then {GO_ON})
                (else (call $log_number (call $http_call 'auth' {HEADERS} '' #0))))"
    )).log().cluster("auth", Upstream::echo).send([get("/")]);
    a_reply_from_an_answer => guest(&format!(
        "on request_headers:
            (call $hold (local.get $context))
            (call $log_number (call $http_call 'auth' {HEADERS} '' #0))
            (return #pause)
        on http_call_response:
            (if (call $take_held) (then (call $reply #401 'no' {{x-a: 1}})))"
    )).log().cluster("auth", Upstream::echo).send([get("/")]).send([post("/", "hello")]);
    an_answer_is_read_in_the_callback_alone => guest(&format!(
        "on request_headers:
            (call $log (call $get #call_response ':status'))
            (call $log (call $body #call_body))
            (call $hold (local.get $context))
            (call $log_number (call $http_call 'auth' {HEADERS} '' #0))
            (return #pause)
        on http_call_response: {GO_ON}
        on response_headers:
            (call $log (call $get #call_response ':status'))
            (call $log (call $body #call_body))"
    )).log().cluster("auth", Upstream::echo).send([get("/")]);
}
