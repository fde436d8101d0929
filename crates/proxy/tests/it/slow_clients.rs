//! Clients that take their time, ask ahead, or stop halfway.

use std::time::Duration;

use wasmplug_testkit::{End, Reply, Scripted, Upstream};

use crate::harness::{Plugin, Running, Setup};

fn idle() -> Plugin {
    Plugin::guest("on request_headers:\non request_body:\non response_headers:")
}

/// Without plugins, and with one.
fn both(setup: impl Fn() -> Setup) -> [Running; 2] {
    [setup().start(), setup().plugin(idle()).start()]
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    let hasty =
        || Setup::new().tune(|config| config.limits.header_timeout = Duration::from_millis(1));
    for proxy in both(hasty) {
        for head in ["P", "PRI * HTTP/2", "GET / HTT", "GET / HTTP/1.1\r\nhost: a\r\nx-a"] {
            let mut client = proxy.client();
            client.send(head).unwrap();
            // Without an answer, or with one that says so.
            let rest = client.read_to_close().unwrap();
            let rest = String::from_utf8(rest).unwrap();
            assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 4"), "{head}: {rest}");
        }
        assert!(proxy.upstream().received().is_empty());
    }
}

#[test]
fn a_preface_may_come_in_pieces() {
    for proxy in both(Setup::new) {
        let mut client = proxy.client();
        for byte in "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".chars() {
            client.send(byte.to_string()).unwrap();
        }
        client.send(b"\0\0\0\x04\0\0\0\0\0").unwrap();
        // Settings, as in HTTP/2.
        let mut frame = [0; 9];
        client.read_exact(&mut frame).unwrap();
        assert_eq!(frame[3], 4, "{frame:?}");
    }
}

#[test]
fn a_preface_that_ends_before_its_end_is_not_waited_for() {
    let patient =
        || Setup::new().tune(|config| config.limits.header_timeout = Duration::from_hours(1));
    for proxy in both(patient) {
        for start in ["P", "PRI * HTTP/2.0\r\n\r\nSM\r\n"] {
            let mut client = proxy.client();
            client.send(start).unwrap();
            client.finish_sending().unwrap();
            client.read_to_close().unwrap();
        }
    }
}

#[test]
fn a_head_may_come_in_pieces() {
    for proxy in both(Setup::new) {
        let mut client = proxy.client();
        for byte in "GET /slow HTTP/1.1\r\nhost: a\r\nx-a: b\r\n\r\n".split_inclusive("") {
            client.send(byte).unwrap();
        }
        assert_eq!(client.read_response().unwrap().json().unwrap()["path"], "/slow");
    }
}

#[test]
fn a_body_in_which_nothing_moves_is_not_waited_for() {
    let impatient =
        || Setup::new().tune(|config| config.limits.stream_idle_timeout = Duration::from_secs(1));
    let proxy = impatient().plugin(idle()).start();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n";
    let mut client = proxy.client();
    client.send(format!("{head}half")).unwrap();
    assert_eq!(client.read_response().unwrap().status, 408);
    assert!(proxy.upstream().received().is_empty());
    // Who goes on is served.
    let mut client = proxy.client();
    client.send(head).unwrap();
    "012345678".chars().for_each(|byte| client.send(byte.to_string()).unwrap());
    assert_eq!(client.read_response().unwrap().status, 200);
}

#[test]
fn requests_that_come_ahead_are_answered_in_order() {
    let holds_first = Plugin::guest(
        "on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then (call $continue #0)))
        on request_headers:
            (if (call $is (call $get #request ':path') '/1') (then
                (call $hold (local.get $context))
                (return #pause)))",
    );
    for setup in [Setup::new(), Setup::new().plugin(idle()), Setup::new().plugin(holds_first)] {
        let proxy = setup.start();
        let mut client = proxy.client();
        let ask = |number: u32| {
            format!("POST /{number} HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n{number}")
        };
        client.send((1..=5).map(ask).collect::<String>()).unwrap();
        for number in 1..=5 {
            let answer = client.read_response().unwrap().json().unwrap();
            assert_eq!(
                (&answer["path"], &answer["body"]),
                (&format!("/{number}").into(), &number.to_string().into())
            );
        }
    }
}

#[test]
fn a_client_that_closes_its_half_while_it_waits_is_gone() {
    let counts = Plugin::guest(
        "on request_headers:
            (call $bump 'begun')
        on delete:
            (call $bump 'deleted')",
    );
    let upstream = Upstream::scripted(|received| match received.path.as_str() {
        "/never" => Scripted::never(),
        _ => Reply::new(200).body("fine").into(),
    });
    let proxy = Setup::new().plugin(counts).upstream(upstream).admin().start();
    let mut client = proxy.client();
    client.send("GET /never HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("begun 1");
    client.finish_sending().unwrap();
    proxy.wait_for_stat("deleted 1");
    assert!(client.read_to_close().unwrap().is_empty());
    assert_eq!(proxy.get("/").text(), "fine");
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    for proxy in both(Setup::new) {
        let mut client = proxy.client();
        let head =
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
        client.send(head).unwrap();
        // Only who was told to go on sends: the answer is read together with that word.
        let mut first = [0; 25];
        client.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
        client.send("ab").unwrap();
        assert_eq!(client.read_response().unwrap().json().unwrap()["body"], "ab");
    }
}

#[test]
fn a_client_that_asks_first_is_refused_before_it_sends() {
    let refuses = Plugin::guest("on request_headers:\n(call $reply #403 'no' {x-a: b})");
    let proxy = Setup::new().plugin(refuses).start();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n";
    let response = proxy.exchange(head);
    assert_eq!((response.status, response.informational.len()), (403, 0));
    assert!(proxy.upstream().received().is_empty());
}

#[test]
fn what_an_upstream_says_ahead_of_its_answer_is_no_answer() {
    let early = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                 HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
    let setup = || {
        Setup::new().upstream(Upstream::scripted(move |received| match received.path.as_str() {
            "/early" => Scripted::raw(early, End::KeepAlive),
            _ => Reply::new(200).body("fine").into(),
        }))
    };
    for proxy in both(setup) {
        let mut client = proxy.client();
        for _ in 0..3 {
            let response = client.get("/early").unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, "late"));
            assert_eq!(response.header("link"), None);
            assert_eq!(client.get("/").unwrap().text(), "fine");
        }
    }
}
