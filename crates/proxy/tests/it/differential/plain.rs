//! Without plugins, and with one that does nothing: both have paths of their own in our proxy.

use wasmplug_testkit::{End, Reply, Scripted, Upstream};

use super::case::{Case, Request, case, get, guest, post, post_chunked, request};
use super::cases;
use super::reasons::HEAD_WITHOUT_LENGTH;

/// A plugin that has every callback and leaves everything as it is.
fn idle() -> Case {
    guest(
        "on request_headers:
         on request_body:
         on request_trailers:
         on response_headers:
         on response_body:
         on response_trailers:
         on log:",
    )
}

/// Requests of every shape.
fn shapes() -> Vec<Request> {
    vec![
        get("/"),
        get("/a/b%20c?q=1&r=%2F&empty="),
        request("HEAD", "/", "", ""),
        post("/", "hello"),
        post("/", ""),
        post_chunked("/", &["one ", "two ", "three"]),
        post_chunked("/", &[]),
        request("PUT", "/", "content-length: 3\n", "put"),
        request("DELETE", "/thing/1", "", ""),
        request("PATCH", "/", "", ""),
        request("PURGE", "/", "", ""),
        request("OPTIONS", "/", "origin: http://a.test\n", ""),
    ]
}

/// Answers of every shape.
fn answers() -> Vec<Request> {
    ["/status/404", "/status/500", "/status/204", "/status/304", "/bytes/0", "/bytes/100000"]
        .into_iter()
        .chain(["/chunked/0", "/chunked/1", "/chunked/20", "/headers?x-b=1&x-a=2"])
        .map(get)
        .collect()
}

fn replies(reply: impl Fn() -> Scripted + Send + Sync + Clone + 'static) -> Case {
    idle().upstream(move || {
        let reply = reply.clone();
        Upstream::scripted(move |_| reply())
    })
}

fn many_headers() -> Request {
    let lines: Vec<String> = (0..60).map(|number| format!("x-number-{number}: a")).collect();
    request("GET", "/", &format!("{}\n", lines.join("\n")), "")
}

/// Each of these header lines on a connection of its own, without plugins and with one.
fn lines(case: Case, lines: &[&str]) -> Case {
    lines.iter().fold(case, |case, lines| case.send([request("GET", "/", lines, "")]))
}

/// Requests whose `host` is missing or odd.
fn odd_hosts(case: Case) -> Case {
    [
        "",
        "host:",
        "host: a b",
        "host: a/b",
        "host: a, b",
        "host: a,b",
        "host: a@b",
        "host: a:b",
        "host: a:99999",
        "host: [::1]:80",
        "host: a%20b",
        "host: a?b",
        "host: a#b",
        "host: <a>",
        "host: \"a\"",
        "host: a\\b",
        "host: {a}",
        "host: a|b",
        "host: a^b",
        "host: A.B_c~!$&'()*+;=",
        "host: \u{e9}",
    ]
    .into_iter()
    .map(|host| {
        format!("GET / HTTP/1.1\r\n{host}{}\r\n", if host.is_empty() { "" } else { "\r\n" })
    })
    .fold(case, |case, bytes| case.send([bytes.into()]))
}

/// Requests of odd form, each on a connection of its own.
fn odd_requests(case: Case) -> Case {
    let lines = [
        "get / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\nhost: a\n\n",
        "\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET https://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET ftp://b/ HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET http://b?x HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx_a: 1\r\nx-b:\r\nx-c: \t c \t\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx-envoy-internal: true\r\n\
         x-forwarded-client-cert: By=spiffe://a\r\nx-forwarded-proto: ftp\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nab",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2;x=y\r\nab\r\n00\r\n\r\n",
    ];
    lines.into_iter().fold(case, |case, bytes| case.send([bytes.into()]))
}

/// What `connection` can name.
const NOMINATIONS: [&str; 22] = [
    "connection: x-a\nx-a: 1\nx-b: 2\n",
    "connection: X-A\nx-a: 1\n",
    "connection: ,, x-a ,\nx-a: 1\n",
    "connection: x-a, close\nx-a: 1\n",
    "connection: x-a\nconnection: x-b\nx-a: 1\nx-b: 2\nx-c: 3\n",
    "connection: a b\na: 1\nb: 2\n",
    "connection: (a)\nx-a: 1\n",
    "connection: b,c,d,e,f,g,h,i,j\nb: 1\n",
    "connection: a,b,c,d,e,f,g,h,i,j\nb: 1\n",
    "connection: host\n",
    "connection: :path\n",
    "connection: cookie, authorization\ncookie: a\nauthorization: b\n",
    "connection: x-request-id\nx-request-id: 1\n",
    "connection: x-forwarded-for\nx-forwarded-for: 192.0.2.1\n",
    "connection: X-Forwarded-Host\n",
    "connection: x-forwarded-proto\n",
    "connection: upgrade, http2-settings\nupgrade: h2c\nhttp2-settings: AAMA\n",
    "connection: te\nte: trailers\n",
    "te: gzip\n",
    "te: trailers, gzip\n",
    "te: trailers\nte: gzip\n",
    "te: trailers;q=0.5\n",
];

/// Answers of odd form that Envoy and we take alike.
const ODD_ANSWERS: [&str; 17] = [
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: -2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx a: 1\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx-a : 1\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\nconnection: close\ncontent-length: 2\n\nok",
    "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 99 Low\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 999 High\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx-a: \u{e9}\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx-a: \0\r\ncontent-length: 2\r\n\r\nok",
    "ICY 200 OK\r\ncontent-length: 2\r\n\r\nok",
];

/// Each path is answered with the odd answer of that number.
fn odd_answers(case: Case) -> Case {
    // Else Envoy may send the next request over the connection that is about to be closed.
    let answer = |path: &str| {
        let number: Option<usize> = path.trim_start_matches('/').parse().ok();
        let answer = number.map_or("", |number| ODD_ANSWERS[number]);
        answer.replacen("\r\n", "\r\nconnection: close\r\n", 1)
    };
    let case = case.upstream(move || {
        Upstream::scripted(move |received| Scripted::raw(answer(&received.path), End::Close))
    });
    (0..ODD_ANSWERS.len()).fold(case, |case, number| case.send([get(&format!("/{number}"))]))
}

cases! {
    requests_of_every_shape_without_plugins => case().send(shapes());
    requests_of_every_shape_with_an_idle_plugin => idle().send(shapes());
    each_request_on_its_own_connection => shapes().into_iter().fold(idle(), |c, r| c.send([r]));
    answers_of_every_shape_without_plugins => case().send(answers());
    answers_of_every_shape_with_an_idle_plugin => idle().send(answers());
    duplicate_response_headers_stay_apart => idle().send([
        get("/headers?set-cookie=a%3D1&set-cookie=b%3D2&x-a=1"),
    ]);
    duplicate_request_headers_stay_apart => idle().send([
        request("GET", "/", "cookie: a=1\ncookie: b=2\nx-a: 1\nx-a: 2\n", ""),
    ]);
    many_request_headers_keep_their_order => idle().send([many_headers()]);
    hop_by_hop_headers_stay_behind => idle().send([
        request("GET", "/", "connection: keep-alive\nkeep-alive: timeout=5\n\
            proxy-connection: keep-alive\nte: trailers\nx-a: 1\n", ""),
    ]);
    hop_by_hop_headers_of_a_response_stay_behind => idle().send([
        get("/headers?keep-alive=timeout%3D5&proxy-connection=keep-alive&x-a=1"),
    ]);
    what_connection_names_stays_behind => lines(idle(), &NOMINATIONS);
    what_connection_names_stays_behind_without_plugins => lines(case(), &NOMINATIONS);
    hosts_that_are_missing_or_odd => odd_hosts(idle());
    hosts_that_are_missing_or_odd_without_plugins => odd_hosts(case());
    targets_without_a_path => [
        "CONNECT a:80", "CONNECT /", "CONNECT a", "OPTIONS *", "GET a", "GET a:80", "GET http://a",
    ]
    .into_iter()
    .map(|line| format!("{line} HTTP/1.1\r\nhost: a\r\n\r\n"))
    .fold(case(), |case, bytes| case.send([bytes.into()]));
    requests_of_odd_form => odd_requests(idle());
    requests_of_odd_form_without_plugins => odd_requests(case());
    answers_of_odd_form => odd_answers(idle());
    answers_of_odd_form_without_plugins => odd_answers(case());
    two_hosts_are_refused => idle()
        .send([b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_vec()])
        .expected_difference("two hosts are refused, as RFC 9112 asks; Envoy makes one of them", &[
            "-HTTP/1.1 200 OK",
            "-content-type: application/json",
            "-x-upstream: echo",
            "-content-length: 208",
            "-x-envoy-upstream-service-time: (varies)",
            "+HTTP/1.1 400 Bad Request",
            "+content-length: 11",
            "+content-type: text/plain",
            "-",
            "-{\"method\":\"GET\",\"path\":\"/\",\"version\":\"HTTP/1.1\",\"headers\":\
             [[\"host\",\"a,b\"],[\"x-forwarded-proto\",\"http\"],[\"x-request-id\",\"(varies)\"]],\
             \"body\":\"\",\"body_encoding\":\"text\",\"trailers\":[]}",
            "-# upstream",
            "-GET / HTTP/1.1",
            "-host: a,b",
            "-x-forwarded-proto: http",
            "-x-request-id: (varies)",
            "+connection: close",
            "+Bad Request",
            "+closed after 0 more bytes",
        ]);
    a_length_beside_chunks => idle()
        .send([b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\
            transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_vec()])
        .expected_difference("chunks count, and the connection is closed; Envoy refuses", &[
            "-HTTP/1.1 400 Bad Request",
            "-content-length: 11",
            "-content-type: text/plain",
            "+HTTP/1.1 200 OK",
            "+content-type: application/json",
            "+x-upstream: echo",
            "+content-length: 244",
            "+x-envoy-upstream-service-time: (varies)",
            "-Bad Request",
            "+{\"method\":\"POST\",\"path\":\"/\",\"version\":\"HTTP/1.1\",\"headers\":\
             [[\"host\",\"a\"],[\"x-forwarded-proto\",\"http\"],[\"x-request-id\",\"(varies)\"],\
             [\"transfer-encoding\",\"chunked\"]],\
             \"body\":\"hello\",\"body_encoding\":\"text\",\"trailers\":[]}",
            "+# upstream",
            "+POST / HTTP/1.1",
            "+host: a",
            "+x-forwarded-proto: http",
            "+x-request-id: (varies)",
            "+transfer-encoding: chunked",
            "+",
            "+hello",
        ]);
    a_client_that_asks_to_close_is_closed => idle().send([
        request("GET", "/", "connection: close\n", ""),
    ]);
    the_clients_own_request_id_and_protocol_stay => idle().send([
        request("GET", "/", "x-request-id: mine\nx-forwarded-proto: https\n", ""),
    ]);
    forwarded_for_stays => idle().send([
        request("GET", "/", "x-forwarded-for: 192.0.2.1\nvia: 1.1 a\n", ""),
    ]);
    upper_case_names_are_lowered => idle().send([request("GET", "/", "X-Upper: Value\n", "")]);
    an_absolute_target_is_taken_apart => idle().send([
        b"GET http://other.test/path?q HTTP/1.1\r\nhost: example.test\r\n\r\n".to_vec(),
    ]);
    an_absolute_target_without_plugins => case().send([
        b"GET http://other.test/path?q HTTP/1.1\r\nhost: example.test\r\n\r\n".to_vec(),
    ]);
    an_answer_without_a_length_ends_with_the_connection => replies(|| {
        Reply::new(200).header("x-a", "1").until_close("until the end").into()
    }).send([get("/"), get("/")]);
    a_date_and_a_server_of_the_upstream => replies(|| {
        let reply = Reply::new(200).header("date", "Thu, 01 Jan 1970 00:00:00 GMT");
        reply.header("server", "upstream").header("x-a", "1").body("x").into()
    }).send([get("/")]);
    trailers_of_a_response => replies(|| {
        Reply::new(200).chunked(["one", "two"]).trailer("x-trailer", "t").into()
    }).send([get("/"), request("GET", "/", "te: trailers\n", "")])
        ;
    interim_responses_are_not_passed_on => replies(|| {
        Reply::new(200).informational(103).body("x").into()
    }).send([get("/")]);
    a_reason_phrase_of_the_upstream => replies(|| {
        Reply::new(200).status_line("HTTP/1.1 200 Very Well").body("x").into()
    }).send([get("/")]);
    a_reason_phrase_of_the_upstream_without_plugins => case().upstream(|| {
        Upstream::scripted(|_| {
            Reply::new(200).status_line("HTTP/1.1 200 Very Well").body("x").into()
        })
    }).send([get("/")]);
    a_get_with_a_body => idle().send([
        request("GET", "/", "content-length: 3\n", "get"),
        request("GET", "/", "transfer-encoding: chunked\n", "3\r\nget\r\n0\r\n\r\n"),
    ]);
    a_get_with_a_body_without_plugins => case().send([
        request("GET", "/", "content-length: 3\n", "get"),
        request("GET", "/", "transfer-encoding: chunked\n", "3\r\nget\r\n0\r\n\r\n"),
    ]);
    http_1_0 => idle().send([b"GET /bytes/3 HTTP/1.0\r\nhost: example.test\r\n\r\n".to_vec()])
        .expected_difference("HTTP/1.0 is served; Envoy refuses it unless it is told otherwise", &[
            "-HTTP/1.1 426 Upgrade Required",
            "-content-length: 16",
            "+HTTP/1.0 200 OK",
            "+x-upstream: echo",
            "+content-length: 3",
            "+x-envoy-upstream-service-time: (varies)",
            "-connection: close",
            "-Upgrade Required",
            "-closed after 0 more bytes",
            "+012",
            "+# upstream",
            "+GET /bytes/3 HTTP/1.1",
            "+host: example.test",
            "+x-forwarded-proto: http",
            "+x-request-id: (varies)",
            "+",
        ]);
    odd_statuses => replies(|| Reply::new(299).body("x").into()).send([get("/")]);
    a_response_to_head_keeps_its_length => replies(|| {
        Reply::new(200).header("content-length", "5").into()
    }).send([request("HEAD", "/", "", "")]);
    a_response_to_head_without_a_length => replies(|| {
        Reply::new(200).chunked(["x"]).into()
    }).send([request("HEAD", "/", "", "")])
        .expected_difference(HEAD_WITHOUT_LENGTH, &["-transfer-encoding: chunked"]);
    a_304_with_a_length => replies(|| {
        Reply::new(304).header("content-length", "5").header("etag", "\"a\"").into()
    }).send([get("/")]).expected_difference(
        "the HTTP library says nothing about the body that a 304 does not have",
        &["-content-length: 5"],
    );
    values_that_are_not_text_pass => replies(|| {
        Scripted::raw(b"HTTP/1.1 200 OK\r\nx-a: \xe9\xff\r\ncontent-length: 0\r\n\r\n".to_vec(), End::KeepAlive)
    }).send([get("/")]);
    empty_header_values_pass => idle().send([
        request("GET", "/headers?x-empty=", "x-empty:\n", ""),
    ]);
    a_request_body_of_a_megabyte => idle().send([post("/", &"0123456789".repeat(100_000))]);
    a_response_body_of_five_megabytes => idle().send([get("/bytes/5242880")]);
}
