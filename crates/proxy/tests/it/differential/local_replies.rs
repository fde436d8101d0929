//! Plugins that answer themselves.

use super::case::{Case, get, guest, post, post_chunked, request};
use super::cases;
use super::reasons::REASON_PHRASE;
use crate::harness::Plugin;

/// Replies in a callback.
fn replying(callback: &str, reply: &str) -> Case {
    guest(&format!("on {callback}:\n{reply}"))
}

/// Marks what passes in the response, and what its own callback saw.
fn marks(name: &str) -> Plugin {
    Plugin::guest(&format!(
        "on response_headers:
            (call $add #response 'x-seen-by' '{name}')
            (call $add #response 'x-count' (call $decimal (local.get $count)))
            (call $add #response 'x-end' (call $decimal (local.get $end)))
            (call $add #response 'x-type' (call $get #response 'content-type'))"
    ))
}

const REPLY: &str = "(call $reply #403 'no' {x-b: 1; x-a: 2})";

cases! {
    // Checks: LR-01, LR-22
    in_request_headers => replying("request_headers", REPLY)
        .send([get("/"), request("HEAD", "/", "", "")]);
    // Checks: LR-14
    in_request_headers_of_a_post => replying("request_headers", REPLY)
        .send([post("/", "hello"), get("/")]);
    in_request_headers_of_a_chunked_post => replying("request_headers", REPLY)
        .send([post_chunked("/", &["hello"])]);
    in_request_headers_of_an_empty_post => replying("request_headers", REPLY)
        .send([post("/", ""), get("/")]);
    // Checks: LR-14
    in_request_body => replying("request_body", REPLY).send([post("/", "hello")]);
    at_the_end_of_a_request_body => replying("request_body",
        &format!("(if (i32.eqz (local.get $end)) (then (return #buffer)))\n{REPLY}"))
        .send([post("/", "hello"), get("/")]);
    in_request_trailers => replying("request_trailers", REPLY).trailers().send([
        request("POST", "/", "transfer-encoding: chunked\n", "1\r\na\r\n0\r\nx-t: t\r\n\r\n"),
    ]);
    // Checks: LR-15
    in_response_headers => replying("response_headers", REPLY)
        .send([get("/"), get("/chunked/3"), request("HEAD", "/", "", "")]);
    // Checks: LR-16
    in_response_body_too_late => replying("response_body", REPLY).send([get("/bytes/2000000")]);
    // Checks: LR-02
    without_a_body => replying("request_headers", "(call $reply #401 '' {x-a: 1})")
        .send([get("/")]);
    without_a_body_but_with_its_type => replying("request_headers",
        "(call $reply #401 '' {content-type: text/html; x-a: 1})").send([get("/")]);
    // Checks: LR-03
    with_its_own_content_type => replying("request_headers",
        "(call $reply #200 '<p>' {content-type: text/html; x-a: 1})").send([get("/")]);
    with_an_upper_case_content_type => replying("request_headers",
        "(call $reply #200 '<p>' {Content-Type: text/html; X-A: 1})").send([get("/")]);
    // Checks: LR-05, LR-06
    with_framing_headers => replying("request_headers",
        "(call $reply #200 'body' {content-length: 999; transfer-encoding: chunked; :status: 500;
         server: mine; connection: close; date: mine; x-a: 1})").send([get("/"), get("/")]);
    // Checks: LR-04
    with_equal_names => replying("request_headers",
        "(call $reply #200 'body' {x-a: 1; x-a: 2; set-cookie: a; set-cookie: b})")
        .send([get("/")]);
    with_a_redirect => replying("request_headers", "(call $reply #302 '' {location: /other})")
        .send([get("/")]);
    // Checks: LR-23
    with_204_and_a_body => replying("request_headers", "(call $reply #204 'body' {x-a: 1})")
        .send([get("/")]).expected_difference(
            "204 never has a body, and then nothing is said about one",
            &["-content-length: 4", "-content-type: text/plain"],
        );
    with_304 => replying("request_headers", "(call $reply #304 '' {etag: a})").send([get("/")]);
    with_599 => replying("request_headers", "(call $reply #599 'odd' {x-a: 1})").send([get("/")])
        .expected_difference(REASON_PHRASE, &[
            "-HTTP/1.1 599 Last Unassigned Server Error Code", "+HTTP/1.1 599 Unknown",
        ]);
    // Checks: LR-08
    twice => replying("request_headers",
        "(call $reply #401 'first' {x-a: 1}) (call $reply #402 'second' {x-a: 2})")
        .send([get("/")]);
    // Checks: LR-11
    to_grpc => replying("request_headers", "(call $reply #403 'no way' {x-a: 1})").send([
        request("GET", "/", "content-type: application/grpc\n", ""),
        request("GET", "/", "content-type: application/grpc+proto\n", ""),
        request("GET", "/", "content-type: application/grpc-web\n", ""),
    ]);
    // Checks: LR-20
    seen_by_the_replier => replying("request_headers", &format!("{REPLY}
        on response_headers:
            (call $add #response 'x-count' (call $decimal (local.get $count)))
            (call $add #response 'x-end' (call $decimal (local.get $end)))"))
        .send([get("/")]);
    // Checks: CH-03
    of_the_second_passes_the_first => guest("
        on response_headers:
            (call $add #response 'x-first' 'seen')
        ").plugin(Plugin::guest(&format!("on request_headers:\n{REPLY}")))
        .plugin(marks("third")).send([get("/")]);
    of_the_first_does_not_meet_the_second => replying("request_headers", REPLY)
        .plugin(marks("second")).send([get("/")]);
    of_the_second_in_the_body => guest("
        on response_headers:
            (call $add #response 'x-first' 'seen')
        ").plugin(Plugin::guest(&format!("on request_body:\n{REPLY}")))
        .plugin(marks("third")).send([post("/", "hello")]);
    // Checks: LR-15, CH-04
    of_the_second_in_the_response => guest("
        on response_headers:
            (call $add #response 'x-first' 'seen')
        ").plugin(Plugin::guest(&format!("on response_headers:\n{REPLY}")))
        .plugin(marks("third")).send([get("/")]);
    // Checks: LR-21
    is_edited_on_its_way => guest("
        on response_headers:
            (call $replace #response ':status' '299')
            (call $remove #response 'content-length')
            (call $replace #response 'x-a' 'edited')
        on response_body:
            (call $set_body #1 #0 #0 'edited ')
        ").plugin(Plugin::guest(&format!("on request_headers:\n{REPLY}"))).send([get("/")]);
}
