//! Windows. Source: RFC 9113, sections 5.2 and 6.9.

use super::client::Client;
use super::frames::{END_STREAM, data, get, post, settings, window_update};
use super::{BROKEN, assert_outcomes};
use crate::harness::{Plugin, Setup};

/// The window of a connection at its beginning.
const WINDOW: usize = 65_535;

#[test]
fn a_window_grows_by_something_and_not_beyond_its_bound() {
    let grown = |stream, by| vec![window_update(stream, by), get(1, &[])];
    let of_stream = |by| vec![post(1, &[]), window_update(1, by), data(1, END_STREAM, b"body")];
    assert_outcomes(&[
        ("the connection's, by one", grown(0, 1), &[1], "1: 200; GET a /"),
        ("the connection's, by nothing", grown(0, 0), &[1], BROKEN),
        ("the connection's, too far", grown(0, 0x7fff_ffff), &[1], "goaway FLOW_CONTROL_ERROR"),
        ("a stream's, by one", of_stream(1), &[1], "1: 200; POST a / body"),
        ("a stream's, by nothing", of_stream(0), &[1], BROKEN),
        ("a stream's, too far", of_stream(0x7fff_ffff), &[1], "1: FLOW_CONTROL_ERROR"),
    ]);
}

#[test]
fn who_sends_more_than_the_window_is_stopped() {
    // The plugin lets nothing through, so that the window does not grow.
    let holds = Plugin::guest("on request_headers:\n(return #pause)");
    let proxy = Setup::new().plugin(holds).start();
    let mut client = Client::open(&proxy);
    client.send(&post(1, &[]));
    // Twice what a receiver may have announced: it is not known when its settings arrive.
    for _ in 0..(4 << 20) / 16_384 {
        if !client.send(&data(1, 0, &[0; 16_384])) {
            break;
        }
    }
    let told = super::end_of(&proxy, client, &[1]);
    assert!(told.contains("FLOW_CONTROL_ERROR") || told == "closed", "{told}");
    assert!(proxy.upstream().received().is_empty());
}

#[test]
fn an_answer_does_not_exceed_the_window_of_the_client() {
    for setup in [Setup::new(), Setup::new().plugin(Plugin::guest("on response_body:"))] {
        let proxy = setup.start();
        let mut client = Client::open(&proxy);
        let big = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/bytes/200000"),
            (":authority", "a"),
        ];
        client.send(&super::frames::headers(1, super::frames::WHOLE, &big));
        while client.body_len(1) < WINDOW {
            assert!(client.step());
        }
        // Nothing more comes before the window grows, and other streams are not held up.
        client.send(&window_update(0, 1_000_000));
        client.send(&get(3, &[]));
        assert_eq!(client.end_of(3), "200");
        assert_eq!(client.body_len(1), WINDOW);
        client.send(&window_update(1, 1_000_000));
        while client.body_len(1) < 200_000 {
            assert!(client.step());
        }
    }
}

#[test]
fn a_window_that_shrinks_below_nothing_is_made_good() {
    let proxy = Setup::new().start();
    let mut client = Client::open(&proxy);
    client.send(&[settings(&[(4, 10)]), get(1, &[])].concat());
    assert_eq!(client.end_of(1), "200");
    while client.body_len(1) < 10 {
        assert!(client.step());
    }
    client.send(&settings(&[(4, 0)]));
    client.send(&window_update(1, 1_000_000));
    // The rest of the answer, whose end is read with the answer to another request.
    client.send(&settings(&[(4, 65_535)]));
    client.send(&get(3, &[]));
    assert_eq!(client.end_of(3), "200");
    assert!(client.body_len(1) > 10);
}
