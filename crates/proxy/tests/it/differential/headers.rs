//! What plugins do to headers.

use super::case::{get, guest, post, request};
use super::cases;
use super::reasons::HEAD_WITHOUT_LENGTH;

const REFUSED_AT_ONCE: &str =
    "a header that is not valid in HTTP is refused in the call, not when it is sent";

/// What the echo server says about a bare GET.
const ECHOED: &str = concat!(
    r#"+{"method":"GET","path":"/","version":"HTTP/1.1","headers":[["host","example.test"],"#,
    r#"["x-forwarded-proto","http"],["x-request-id","(varies)"]],"body":"","body_encoding":"#,
    r#""text","trailers":[]}"#,
);

cases! {
    // Checks: HD-11, HD-14, HD-15, HD-16, HD-17, HD-18
    request_headers_are_added_replaced_and_removed => guest("
        on request_headers:
            (call $add #request 'x-a' 'one')
            (call $add #request 'x-a' 'two')
            (call $replace #request 'x-b' 'replaced')
            (call $replace #request 'x-new' 'new')
            (call $remove #request 'x-c')
            (call $remove #request 'x-absent')
    ").send([request("GET", "/", "x-b: 1\nx-b: 2\nx-c: 1\nx-d: 1\n", "")]);
    response_headers_are_added_replaced_and_removed => guest("
        on response_headers:
            (call $add #response 'x-a' 'one')
            (call $add #response 'x-a' 'two')
            (call $replace #response 'x-b' 'replaced')
            (call $replace #response 'x-new' 'new')
            (call $remove #response 'x-c')
            (call $remove #response 'x-absent')
    ").send([get("/headers?x-b=1&x-b=2&x-c=1&x-d=1")]);
    // Checks: HD-04, HD-26
    names_are_lowered_on_the_way => guest("
        on request_headers:
            (call $add #request 'X-Upper' 'Value')
            (call $add #request 'x-got' (call $get #request 'X-UPPER'))
        on response_headers:
            (call $add #response 'X-Upper' 'Value')
    ").send([get("/")]);
    // Checks: HD-12, HD-13
    single_valued_request_headers_are_joined => guest("
        on request_headers:
            (call $add #request 'accept' 'two')
            (call $add #request 'authorization' 'two')
            (call $add #request 'user-agent' 'two')
            (call $add #request 'x-forwarded-for' 'two')
            (call $add #request 'cookie' 'one')
            (call $add #request 'cookie' 'two')
    ").send([request("GET", "/", "accept: one\nauthorization: one\nuser-agent: one\n\
        x-forwarded-for: one\n", "")]);
    // Checks: HD-12, HD-13
    single_valued_response_headers_are_joined => guest("
        on response_headers:
            (call $add #response 'cache-control' 'two')
            (call $add #response 'vary' 'two')
            (call $add #response 'etag' 'two')
            (call $add #response 'location' 'two')
            (call $add #response 'set-cookie' 'one')
            (call $add #response 'set-cookie' 'two')
    ").send([get("/headers?cache-control=one&vary=one&etag=one&location=one")]);
    equal_names_come_together => guest("
        on request_headers:
            (call $add #request 'x-a' 'two')
        on response_headers:
            (call $add #response 'x-a' 'two')
    ").send([request("GET", "/bytes/0", "x-a: one\nx-b: b\n", ""), get("/headers?x-a=one&x-b=b")])
        .expected_difference("the HTTP library keeps headers of one name together", &[
            "+x-a: two", "-x-a: two", "+x-a: two", "-x-a: two",
        ]);
    the_path_is_replaced => guest("
        on request_headers:
            (call $replace #request ':path' '/other?x=1')
    ").send([get("/")]);
    the_authority_is_replaced => guest("
        on request_headers:
            (call $replace #request ':authority' 'other.test')
    ").send([get("/")]);
    // Checks: HD-03
    the_authority_is_also_host => guest("
        on request_headers:
            (call $add #request 'x-got' (call $get #request 'host'))
            (call $replace #request 'Host' 'other.test')
            (call $add #request 'x-then' (call $get #request ':authority'))
    ").send([get("/")]);
    // Checks: HD-19
    the_authority_is_removed => guest("
        on request_headers:
            (call $remove #request ':authority')
    ").send([get("/")]);
    the_method_is_replaced => guest("
        on request_headers:
            (call $replace #request ':method' 'DELETE')
    ").send([get("/"), post("/", "x")]);
    // Checks: HD-23
    the_method_is_removed => guest("
        on request_headers:
            (call $remove #request ':method')
    ").send([get("/")]);
    // Checks: HD-22
    the_path_is_removed => guest("
        on request_headers:
            (call $remove #request ':path')
    ").send([get("/")]);
    the_scheme_does_not_matter => guest("
        on request_headers:
            (call $add #request 'x-got' (call $get #request ':scheme'))
            (call $replace #request ':scheme' 'https')
    ").send([get("/")]);
    // Checks: HD-01, HD-02
    pseudo_headers_can_be_read => guest("
        on request_headers:
            (call $add #request 'x-count' (call $decimal (local.get $count)))
            (call $add #request 'x-end' (call $decimal (local.get $end)))
            (call $add #request 'x-path' (call $get #request ':path'))
            (call $add #request 'x-method' (call $get #request ':method'))
            (call $add #request 'x-authority' (call $get #request ':authority'))
            (call $add #request 'x-status' (call $get #request ':status'))
        on response_headers:
            (call $add #response 'x-count' (call $decimal (local.get $count)))
            (call $add #response 'x-end' (call $decimal (local.get $end)))
            (call $add #response 'x-status' (call $get #response ':status'))
            (call $add #response 'x-path' (call $get #response ':path'))
    ").send([get("/a?b"), post("/", "x"), get("/status/404"), get("/status/204")]);
    // Checks: HD-32
    the_status_is_replaced => guest("
        on response_headers:
            (call $replace #response ':status' '418')
    ").send([get("/"), get("/status/404")]);
    the_status_becomes_one_without_a_body => guest("
        on response_headers:
            (call $replace #response ':status' '204')
    ").send([get("/status/204")]);
    // Checks: HD-33
    a_broken_status => guest("
        on response_headers:
            (call $replace #response ':status' 'abc')
    ").send([get("/")]);
    the_status_is_removed => guest("
        on response_headers:
            (call $remove #response ':status')
    ").send([get("/")]);
    // Checks: HD-34, HD-35
    server_and_date_of_a_plugin => guest("
        on response_headers:
            (call $replace #response 'server' 'mine')
            (call $replace #response 'date' 'mine')
    ").send([get("/")]);
    // Checks: HD-36
    request_headers_are_gone_in_the_response => guest("
        on response_headers:
            (call $add #response 'x-request' (call $get #request ':path'))
            (call $add #request 'x-late' 'late')
    ").send([get("/")]);
    // Checks: HD-28
    all_request_headers_are_replaced => guest("
        on request_headers:
            (call $set_pairs #request
                {:method: PUT; :path: /new; :authority: a.test; :scheme: http;
                x-forwarded-proto: http; x-b: 1; x-a: 2;
                accept: 1; accept: 2})
    ").send([request("GET", "/", "x-old: 1\n", "")]);
    all_response_headers_are_replaced => guest("
        on response_headers:
            (call $set_pairs #response {:status: 202; x-b: 1; x-a: 2; set-cookie: a; set-cookie: b})
    ").send([get("/status/204")]);
    all_response_headers_are_replaced_before_a_body => guest("
        on response_headers:
            (call $set_pairs #response {:status: 202; x-b: 1; x-a: 2})
    ").send([get("/")]);
    // Checks: HD-52
    values_of_a_plugin_that_are_not_text => guest("
        on request_headers:
            (call $add #request 'x-a' '\\e9\\ff')
        on response_headers:
            (call $add #response 'x-a' '\\e9\\ff')
    ").send([get("/")]);
    // Checks: HD-27
    empty_values_of_a_plugin => guest("
        on request_headers:
            (call $add #request 'x-a' '')
        on response_headers:
            (call $add #response 'x-a' '')
    ").send([get("/")]);
    // Checks: HD-24
    a_line_break_in_a_request_header => guest("
        on request_headers:
            (call $add #request 'x-a' 'one\\0d\\0atwo: three')
    ").send([get("/")]).expected_difference(REFUSED_AT_ONCE, &[
        "-HTTP/1.1 503 Service Unavailable",
        "-content-length: 29",
        "-content-type: text/plain",
        "+HTTP/1.1 200 OK",
        "+content-type: application/json",
        "+x-upstream: echo",
        "+content-length: 217",
        "+x-envoy-upstream-service-time: (varies)",
        "-invalid header value for: x-a",
        ECHOED,
        "+# upstream",
        "+GET / HTTP/1.1",
        "+host: example.test",
        "+x-forwarded-proto: http",
        "+x-request-id: (varies)",
        "+",
    ]);
    // Checks: HD-25
    a_space_in_a_request_header_name => guest("
        on request_headers:
            (call $add #request 'x a' 'one')
    ").send([get("/")]).expected_difference(REFUSED_AT_ONCE, &[
        "-HTTP/1.1 503 Service Unavailable",
        "-content-length: 24",
        "-content-type: text/plain",
        "+HTTP/1.1 200 OK",
        "+content-type: application/json",
        "+x-upstream: echo",
        "+content-length: 217",
        "+x-envoy-upstream-service-time: (varies)",
        "-invalid header name: x a",
        ECHOED,
        "+# upstream",
        "+GET / HTTP/1.1",
        "+host: example.test",
        "+x-forwarded-proto: http",
        "+x-request-id: (varies)",
        "+",
    ]);
    a_line_break_in_a_response_header => guest("
        on response_headers:
            (call $add #response 'x-a' 'one\\0d\\0atwo: three')
    ").send([get("/")]).expected_difference(
        "Envoy lets a plugin split the response",
        &["-x-a: one", "-two: three"],
    );
    hop_by_hop_headers_of_a_plugin => guest("
        on request_headers:
            (call $replace #request 'connection' 'close')
            (call $replace #request 'keep-alive' 'x')
            (call $replace #request 'te' 'trailers')
            (call $replace #request 'upgrade' 'x')
        on response_headers:
            (call $replace #response 'keep-alive' 'x')
            (call $replace #response 'upgrade' 'x')
    ").send([get("/"), get("/")]);
    a_plugin_closes_the_clients_connection => guest("
        on response_headers:
            (call $replace #response 'connection' 'close')
    ").send([get("/"), get("/")]);
    // Checks: HD-54
    the_length_of_a_request_is_removed => guest("
        on request_headers:
            (call $remove #request 'content-length')
    ").send([post("/", "hello"), post("/", "")]);
    the_length_of_a_response_is_removed => guest("
        on response_headers:
            (call $remove #response 'content-length')
    ").send([get("/bytes/10"), get("/bytes/0"), request("HEAD", "/bytes/10", "", "")])
        .expected_difference(HEAD_WITHOUT_LENGTH, &["-transfer-encoding: chunked"]);
}
