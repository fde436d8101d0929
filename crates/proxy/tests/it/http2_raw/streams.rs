//! Frames where they do not belong. Source: RFC 9113, sections 3 to 6.

use super::client::Client;
use super::frames::{
    END_HEADERS, END_STREAM, Kind, PADDED, PRIORITY, WHOLE, block, continuation, data, frame, get,
    go_away, headers, other, ping, post, raw_headers, reset, settings, settings_ack,
};
use super::{BROKEN, assert_outcomes, both, end_of};

const PASSED: &str = "1: 200; GET a /";
const FRAME_SIZE_ERROR: &str = "goaway FRAME_SIZE_ERROR";

// RFC 9113, 3.4: the client's preface is this text and settings.
#[test]
fn a_connection_begins_with_the_preface_and_settings() {
    for (proxy, name) in &both() {
        for (preface, expected) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], "open"),
            // A ping in place of settings is an error to RFC 9113, 3.4; h2 takes the default ones.
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\x06\0\0\0\0\0settings", "open"),
        ] {
            let mut client = Client::connect(proxy);
            client.send(preface);
            let told = end_of(proxy, client, &[]);
            assert_eq!(told, expected, "{name}: {}", String::from_utf8_lossy(preface));
        }
        // What is no preface is no request of HTTP/1 either.
        for start in [
            "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
            "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
            "PRI * HTTP/1.1\r\nhost: a\r\n\r\nSM\r\n\r\n",
            "PRI / HTTP/1.1\r\nhost: a\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            let response = proxy.exchange(start);
            assert_eq!(response.status, 400, "{name}: {start}");
            assert_eq!(response.header("connection"), Some("close"), "{name}: {start}");
        }
        assert!(proxy.upstream().received().is_empty());
    }
}

#[test]
fn frames_on_the_wrong_kind_of_stream_end_the_connection() {
    let on = |kind, stream: u32, payload: &[u8]| vec![other(kind, 0, stream, payload)];
    assert_outcomes(&[
        ("a good request", vec![get(1, &[])], &[1], PASSED),
        ("6.1: data on the connection", on(Kind::Data, 0, b"a"), &[], BROKEN),
        ("6.2: headers on the connection", vec![get(0, &[])], &[], BROKEN),
        ("6.4: a reset of the connection", vec![reset(0, 8)], &[], BROKEN),
        ("6.5: settings of a stream", on(Kind::Settings, 1, b""), &[], BROKEN),
        (
            "6.6: a promise of a client",
            vec![other(Kind::PushPromise, END_HEADERS, 1, b"\0\0\0\x02")],
            &[],
            BROKEN,
        ),
        ("6.7: a ping of a stream", on(Kind::Ping, 1, b"12345678"), &[], BROKEN),
        ("6.8: a farewell of a stream", on(Kind::GoAway, 1, &[0; 8]), &[], BROKEN),
        ("6.10: a continuation of nothing", vec![continuation(1, END_HEADERS, b"")], &[], BROKEN),
    ]);
}

// RFC 9113, 5.1.1: identifiers of a client's streams are odd and grow.
#[test]
fn identifiers_of_streams_are_odd_and_grow() {
    assert_outcomes(&[
        (
            "they may leave some out",
            vec![get(3, &[]), get(7, &[])],
            &[3, 7],
            "3: 200, 7: 200; GET a /; GET a /",
        ),
        ("even", vec![get(2, &[])], &[], BROKEN),
    ]);
    // The first is answered, or not: the connection ends meanwhile.
    for (proxy, name) in &both() {
        let before = proxy.upstream().received().len();
        let mut client = Client::open(proxy);
        client.send(&get(5, &[]));
        assert_eq!(client.end_of(5), "200");
        client.send(&get(3, &[]));
        let told = end_of(proxy, client, &[3]);
        let is_ended = told.starts_with("goaway") || told.contains("STREAM_CLOSED");
        assert!(is_ended, "{name}: {told}");
        assert_eq!(proxy.upstream().received().len() - before, 1, "{name}");
    }
}

// RFC 9113, 5.1.
#[test]
fn a_stream_that_has_not_begun_takes_headers_only() {
    assert_outcomes(&[
        ("data", vec![data(1, END_STREAM, b"a")], &[], BROKEN),
        ("a reset", vec![reset(1, 8)], &[], BROKEN),
        ("a window", vec![super::frames::window_update(1, 10)], &[], BROKEN),
    ]);
}

// RFC 9113, 5.1: half-closed and closed.
#[test]
fn a_stream_that_has_ended_takes_no_more() {
    for (proxy, name) in &both() {
        for (more, what) in
            [(data(1, END_STREAM, b"more"), "data"), (get(1, &[("x-second", "1")]), "headers")]
        {
            let before = proxy.upstream().received().len();
            let mut client = Client::open(proxy);
            client.send(&get(1, &[]));
            assert_eq!(client.end_of(1), "200", "{name}: {what}");
            client.send(&more);
            let told = end_of(proxy, client, &[]);
            // After the answer the stream may be forgotten; then what comes for it is an error of
            // the connection, or is left unread.
            let expected = ["goaway STREAM_CLOSED", BROKEN, "1: 200"];
            assert!(expected.contains(&told.as_str()), "{name}: {what}: {told}");
            let received = proxy.upstream().received().split_off(before);
            assert_eq!(received.len(), 1, "{name}: {what}: {received:?}");
            assert!(received[0].body.is_empty() && received[0].header("x-second").is_none());
        }
    }
}

#[test]
fn a_frame_has_the_size_of_its_kind() {
    let sized = |kind, stream, payload: &[u8]| vec![other(kind, 0, stream, payload)];
    let in_stream = |kind, payload: &[u8]| vec![post(1, &[]), other(kind, 0, 1, payload)];
    assert_outcomes(&[
        (
            "4.2: beyond the agreed size",
            vec![post(1, &[]), data(1, END_STREAM, &[0; 16_385])],
            &[],
            FRAME_SIZE_ERROR,
        ),
        (
            "4.2: at the agreed size",
            vec![headers(1, WHOLE, super::frames::GET), frame(0x77, 0, 0, &[0; 16_384])],
            &[1],
            PASSED,
        ),
        ("6.4: a reset", in_stream(Kind::ResetStream, b"abc"), &[], BROKEN),
        ("6.5: settings", sized(Kind::Settings, 0, b"abcde"), &[], BROKEN),
        (
            "6.5: settings that say yes and more",
            vec![other(Kind::Settings, 1, 0, &[0; 6])],
            &[],
            BROKEN,
        ),
        ("6.7: a ping", vec![ping(b"1234567")], &[], BROKEN),
        ("6.9: a window", sized(Kind::WindowUpdate, 0, b"abc"), &[], BROKEN),
    ]);
}

// RFC 9113, 6.5.2.
#[test]
fn settings_have_values_that_they_can_have() {
    let setting = |id, value| vec![settings(&[(id, value)]), get(1, &[])];
    assert_outcomes(&[
        ("one that nobody knows", setting(0x99, 7), &[1], PASSED),
        ("push, 1", setting(2, 1), &[1], PASSED),
        ("push, 2", setting(2, 2), &[1], BROKEN),
        ("the largest window", setting(4, 0x7fff_ffff), &[1], PASSED),
        ("a larger window", setting(4, 0x8000_0000), &[1], BROKEN),
        ("the smallest frame size", setting(5, 16_384), &[1], PASSED),
        ("a smaller frame size", setting(5, 16_383), &[1], BROKEN),
        ("a larger frame size", setting(5, 16_777_216), &[1], BROKEN),
    ]);
}

// RFC 9113, 6.1 and 6.2.
#[test]
fn padding_is_shorter_than_its_frame() {
    let padded = |padding: u8| {
        let mut payload = vec![padding];
        payload.extend(block(super::frames::GET));
        payload.extend([0; 4]);
        vec![raw_headers(1, WHOLE | PADDED, &payload)]
    };
    let data_padded =
        |padding: u8| vec![post(1, &[]), data(1, END_STREAM | PADDED, &[padding, b'a', 0, 0])];
    assert_outcomes(&[
        ("headers", padded(4), &[1], PASSED),
        ("headers, too much", padded(255), &[], BROKEN),
        ("data", data_padded(2), &[1], "1: 200; POST a / a"),
        ("data, all of it", data_padded(4), &[], BROKEN),
        (
            "data without a length",
            vec![post(1, &[]), data(1, END_STREAM | PADDED, b"")],
            &[],
            BROKEN,
        ),
    ]);
}

// RFC 7540, 5.3.1, which RFC 9113 gives up: who still says it must not say nonsense.
#[test]
fn a_stream_does_not_depend_on_itself() {
    let dependent = |on: u32| {
        let mut payload = [&on.to_be_bytes()[..], &[16]].concat();
        payload.extend(block(super::frames::GET));
        vec![raw_headers(1, WHOLE | PRIORITY, &payload)]
    };
    let priority = |on: u32| [&on.to_be_bytes()[..], &[16]].concat();
    assert_outcomes(&[
        ("headers that depend on another", dependent(3), &[1], PASSED),
        ("headers that depend on themselves", dependent(1), &[1], "1: PROTOCOL_ERROR"),
        ("a priority", vec![other(Kind::Priority, 0, 1, &priority(3)), get(1, &[])], &[1], PASSED),
        (
            "a priority of the connection",
            vec![other(Kind::Priority, 0, 0, &priority(3))],
            &[],
            BROKEN,
        ),
    ]);
}

// RFC 9113, 4.1, 4.3, 5.5 and 6.10.
#[test]
fn nothing_comes_between_the_parts_of_a_head() {
    let block = block(super::frames::GET);
    let (start, rest) = block.split_at(20);
    let begun = || raw_headers(1, END_STREAM, start);
    let ended = || continuation(1, END_HEADERS, rest);
    let between = |frame: Vec<u8>| vec![begun(), frame, ended()];
    assert_outcomes(&[
        ("nothing", vec![begun(), ended()], &[1], PASSED),
        ("a ping", between(ping(b"12345678")), &[], BROKEN),
        ("another stream", between(get(3, &[])), &[], BROKEN),
        ("a part of another stream", between(continuation(3, 0, b"")), &[], BROKEN),
        ("a frame that nobody knows", between(frame(0x77, 0, 1, b"?")), &[], BROKEN),
        (
            "a frame that nobody knows, behind",
            vec![begun(), ended(), frame(0x77, 0xff, 1, b"?")],
            &[1],
            PASSED,
        ),
    ]);
}

// RFC 9113, 6.8.
#[test]
fn a_client_that_says_farewell_still_gets_its_answers() {
    assert_outcomes(&[
        ("in good order", vec![get(1, &[]), go_away(0, 0)], &[1], PASSED),
        (
            "with more to come",
            vec![get(1, &[]), go_away(0, 0), get(3, &[])],
            &[1, 3],
            "1: 200, 3: 200; GET a /; GET a /",
        ),
    ]);
}

#[test]
fn an_acknowledgement_that_nobody_asked_for_changes_nothing() {
    let frames = vec![settings_ack(), settings_ack(), other(Kind::Ping, 1, 0, b"12345678")];
    assert_outcomes(&[("acknowledgements", [frames, vec![get(1, &[])]].concat(), &[1], BROKEN)]);
}
