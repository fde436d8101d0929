//! Heads and bodies of requests. Source: RFC 9113, section 8.

use super::frames::{
    END_HEADERS, END_STREAM, Fields, POST, WHOLE, block, data, get, headers, post, raw_headers,
};
use super::{BROKEN, assert_outcomes, both, outcome};

/// 8.1.1: a request that is malformed is an error of its stream.
const MALFORMED: &str = "1: PROTOCOL_ERROR";
const PASSED: &str = "1: 200; GET a /";

/// A request with these fields in place of the usual ones.
fn only(fields: Fields<'_>) -> Vec<Vec<u8>> {
    vec![headers(1, WHOLE, fields)]
}

fn more(fields: Fields<'_>) -> Vec<Vec<u8>> {
    vec![get(1, fields)]
}

// RFC 9113, 8.2.1.
#[test]
fn names_and_values_have_no_bytes_that_http_1_would_read_otherwise() {
    assert_outcomes(&[
        ("a good field", more(&[("x-a", "b")]), &[1], PASSED),
        ("upper case", more(&[("X-A", "b")]), &[1], BROKEN),
        ("a space in a name", more(&[("x a", "b")]), &[1], BROKEN),
        ("a colon in a name", more(&[("x:a", "b")]), &[1], BROKEN),
        ("a line break in a name", more(&[("x\r\na", "b")]), &[1], BROKEN),
        ("an empty name", more(&[("", "b")]), &[1], BROKEN),
        ("a line break in a value", more(&[("x-a", "b\r\nsmuggled: 1")]), &[1], BROKEN),
        ("a line feed in a value", more(&[("x-a", "b\nsmuggled: 1")]), &[1], BROKEN),
        ("a zero in a value", more(&[("x-a", "b\0")]), &[1], BROKEN),
        (
            "a request in a value",
            more(&[("x-a", "b\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")]),
            &[1],
            BROKEN,
        ),
    ]);
}

// RFC 9113, 8.2.2.
#[test]
fn what_concerns_a_connection_of_http_1_is_malformed() {
    assert_outcomes(&[
        ("te: trailers", more(&[("te", "trailers")]), &[1], PASSED),
        ("te: gzip", more(&[("te", "gzip")]), &[1], MALFORMED),
        ("connection", more(&[("connection", "close")]), &[1], MALFORMED),
        (
            "connection that names a field",
            more(&[("connection", "x-a"), ("x-a", "b")]),
            &[1],
            MALFORMED,
        ),
        ("keep-alive", more(&[("keep-alive", "timeout=5")]), &[1], MALFORMED),
        ("proxy-connection", more(&[("proxy-connection", "close")]), &[1], MALFORMED),
        ("transfer-encoding", more(&[("transfer-encoding", "chunked")]), &[1], MALFORMED),
        ("upgrade", more(&[("upgrade", "websocket")]), &[1], MALFORMED),
        (
            "chunks that smuggle",
            vec![
                post(1, &[("transfer-encoding", "chunked")]),
                data(1, END_STREAM, b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"),
            ],
            &[1],
            MALFORMED,
        ),
    ]);
}

// RFC 9113, 8.3 and 8.3.1.
#[test]
fn pseudo_fields_are_those_of_a_request_once_and_in_front() {
    let without = |name: &str| {
        let fields: Vec<_> =
            super::frames::GET.iter().copied().filter(|(n, _)| *n != name).collect();
        only(&fields)
    };
    assert_outcomes(&[
        ("without a method", without(":method"), &[1], MALFORMED),
        ("without a scheme", without(":scheme"), &[1], MALFORMED),
        ("without a path", without(":path"), &[1], MALFORMED),
        ("two methods", more(&[(":method", "GET")]), &[1], MALFORMED),
        ("two paths", more(&[(":path", "/other")]), &[1], MALFORMED),
        ("two schemes", more(&[(":scheme", "http")]), &[1], MALFORMED),
        ("two authorities", more(&[(":authority", "b")]), &[1], MALFORMED),
        ("one that nobody knows", more(&[(":own", "1")]), &[1], BROKEN),
        ("that of an answer", more(&[(":status", "200")]), &[1], MALFORMED),
        (
            "behind a field",
            only(&[
                (":method", "GET"),
                (":scheme", "http"),
                ("x-a", "b"),
                (":path", "/"),
                (":authority", "a"),
            ]),
            &[1],
            MALFORMED,
        ),
    ]);
}

#[test]
fn targets_are_paths_that_everybody_reads_alike() {
    let path = |path| {
        only(&[(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "a")])
    };
    assert_outcomes(&[
        ("a path", path("/x?y"), &[1], "1: 200; GET a /x?y"),
        ("an empty path", path(""), &[1], MALFORMED),
        ("a path with a space", path("/a b"), &[1], MALFORMED),
        ("a path with a line break", path("/ HTTP/1.1\r\nhost: b\r\n\r\n"), &[1], MALFORMED),
        ("a path that is none", path("a"), &[1], MALFORMED),
        ("a whole address", path("http://b/x"), &[1], MALFORMED),
        ("a star", path("*"), &[1], "1: 404"),
    ]);
}

#[test]
fn methods_and_schemes_are_words() {
    let with = |method, scheme| {
        only(&[(":method", method), (":scheme", scheme), (":path", "/"), (":authority", "a")])
    };
    assert_outcomes(&[
        ("an own method", with("X-OWN", "http"), &[1], "1: 200; X-OWN a /"),
        ("lower case", with("get", "http"), &[1], "1: 400"),
        ("a method with a space", with("GET /smuggled", "http"), &[1], BROKEN),
        ("a method with a line break", with("GET\r\n", "http"), &[1], BROKEN),
        ("no method", with("", "http"), &[1], BROKEN),
        ("https", with("GET", "https"), &[1], PASSED),
        ("another scheme", with("GET", "ftp"), &[1], "1: 400"),
        ("a scheme that is none", with("GET", "ht tp"), &[1], MALFORMED),
    ]);
}

// RFC 9113, 8.3.1: `host` and `:authority` do not say different things to different readers.
#[test]
fn one_host_reaches_the_upstream() {
    let hosts = |authority: Option<&str>, hosts: &[&str]| {
        let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/")];
        fields.extend(authority.map(|authority| (":authority", authority)));
        fields.extend(hosts.iter().map(|host| ("host", *host)));
        only(&fields)
    };
    assert_outcomes(&[
        ("an authority", hosts(Some("a"), &[]), &[1], PASSED),
        ("a host", hosts(None, &["a"]), &[1], PASSED),
        ("both, the same", hosts(Some("a"), &["a"]), &[1], PASSED),
        ("both, different", hosts(Some("a"), &["b"]), &[1], PASSED),
        ("neither", hosts(None, &[]), &[1], "1: 400"),
        ("two hosts", hosts(None, &["a", "b"]), &[1], "1: 400"),
        ("an authority and two hosts", hosts(Some("a"), &["a", "b"]), &[1], "1: 400"),
        ("with a user", hosts(Some("user@a"), &[]), &[1], "1: 400"),
        ("with a space", hosts(Some("a b"), &[]), &[1], MALFORMED),
        ("a host with a space", hosts(None, &["a b"]), &[1], "1: 400"),
    ]);
}

// RFC 9113, 8.1.1.
#[test]
fn a_length_that_is_not_true_never_reaches_the_upstream() {
    const SMUGGLED: &[u8] = b"helloGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let posted = |length, parts: &[&[u8]]| {
        let mut frames = vec![post(1, &[("content-length", length)])];
        let last = parts.len() - 1;
        for (index, part) in parts.iter().enumerate() {
            frames.push(data(1, if index == last { END_STREAM } else { 0 }, part));
        }
        frames
    };
    assert_outcomes(&[
        ("true", posted("5", &[b"hello"]), &[1], "1: 200; POST a / hello"),
        ("true, in parts", posted("5", &[b"he", b"", b"llo"]), &[1], "1: 200; POST a / hello"),
        ("too long", posted("5", &[SMUGGLED]), &[1], MALFORMED),
        ("too long, in parts", posted("5", &[b"hello", SMUGGLED]), &[1], MALFORMED),
        ("too short", posted("50", &[b"hello"]), &[1], MALFORMED),
        ("no number", posted("five", &[b"hello"]), &[1], MALFORMED),
        ("with a sign", posted("+5", &[b"hello"]), &[1], MALFORMED),
        ("empty", posted("", &[b"hello"]), &[1], MALFORMED),
        ("a length and no body", vec![get(1, &[("content-length", "5")])], &[1], MALFORMED),
        (
            "two lengths",
            vec![
                post(1, &[("content-length", "5"), ("content-length", "6")]),
                data(1, END_STREAM, b"hello"),
            ],
            &[1],
            MALFORMED,
        ),
        ("a list of lengths", posted("5, 5", &[b"hello"]), &[1], MALFORMED),
    ]);
}

// RFC 9113, 8.1.
#[test]
fn trailers_are_fields_at_the_end() {
    let with = |flags, fields: Fields<'_>| {
        vec![post(1, &[]), data(1, 0, b"hello"), headers(1, flags, fields)]
    };
    assert_outcomes(&[
        ("trailers", with(WHOLE, &[("x-t", "1")]), &[1], "1: 200; POST a / hello"),
        ("that do not end the stream", with(END_HEADERS, &[("x-t", "1")]), &[1], MALFORMED),
        // Malformed to RFC 9113, 8.1; h2 takes the field away, and nobody sees it.
        (
            "with a pseudo field",
            with(WHOLE, &[(":path", "/smuggled")]),
            &[1],
            "1: 200; POST a / hello",
        ),
        ("in upper case", with(WHOLE, &[("X-T", "1")]), &[1], BROKEN),
        ("of a connection", with(WHOLE, &[("transfer-encoding", "chunked")]), &[1], MALFORMED),
    ]);
}

// RFC 9110, 6.5.1: a field that frames or routes a message is none in its trailers.
#[test]
fn trailers_do_not_become_headers() {
    for (proxy, name) in &both() {
        let trailers =
            [("content-length", "50"), ("host", "b"), ("x-mark", "2"), ("authorization", "x")];
        let frames = [post(1, &[]), data(1, 0, b"hello"), headers(1, WHOLE, &trailers)];
        assert_eq!(outcome(proxy, &frames, &[1]), "1: 200", "{name}");
        let received = proxy.upstream().received().pop().unwrap();
        assert_eq!((received.header("host"), received.header("authorization")), (Some("a"), None));
        assert_eq!(received.body, b"hello", "{name}");
    }
}

// RFC 9113, 8.5; RFC 8441, 3: the extended form is not agreed upon.
#[test]
fn there_are_no_tunnels() {
    assert_outcomes(&[
        ("a tunnel", only(&[(":method", "CONNECT"), (":authority", "a:80")]), &[1], "1: 404"),
        (
            "a tunnel with a path",
            only(&[
                (":method", "CONNECT"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a:80"),
            ]),
            &[1],
            "1: PROTOCOL_ERROR",
        ),
        (
            "a protocol",
            only(&[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
            ]),
            &[1],
            MALFORMED,
        ),
    ]);
}

// RFC 7541, RFC 9113, 4.3: who does not understand a head understands none that follows.
#[test]
fn a_head_that_cannot_be_decoded_ends_the_connection() {
    let raw = |bytes: &[u8]| vec![raw_headers(1, WHOLE, bytes)];
    let behind = |bytes: &[u8]| raw(&[bytes, &block(super::frames::GET)].concat());
    assert_outcomes(&[
        ("a name that is not in the tables", behind(&[0xff, 0xff, 0x7f]), &[], BROKEN),
        ("the name with no number", behind(&[0x80]), &[], BROKEN),
        (
            "a number without an end",
            behind(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            &[],
            BROKEN,
        ),
        ("a text that is longer than its frame", raw(&[0, 0x7f, 0xff, 0x7f, b'a']), &[], BROKEN),
        ("a table that was not agreed upon", behind(&[0x3f, 0xff, 0xff, 0x7f]), &[], BROKEN),
        ("a code that ends within a letter", behind(&[0, 0x81, 0xff, 0x01, b'a']), &[], BROKEN),
    ]);
}

// RFC 9113, 8.2.3.
#[test]
fn crumbs_of_cookies_become_one() {
    for (proxy, name) in &both() {
        assert_eq!(outcome(proxy, &more(&[("cookie", "a=1"), ("cookie", "b=2")]), &[1]), "1: 200");
        let received = proxy.upstream().received().pop().unwrap();
        assert_eq!(received.header_values("cookie"), ["a=1; b=2"], "{name}");
    }
}

#[test]
fn the_head_of_a_post_is_that_of_a_post() {
    assert_outcomes(&[("without a body", vec![headers(1, WHOLE, POST)], &[1], "1: 200; POST a /")]);
}
