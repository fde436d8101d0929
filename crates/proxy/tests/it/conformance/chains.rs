//! Several plugins and one message.

use wasmplug_testkit::{Reply, Upstream};

use super::{assert_story, guest, storyteller};
use crate::harness::{Plugin, Setup};

/// Tells every callback of streams whose request headers it saw.
fn telling(name: &str) -> Plugin {
    let text = "
        (global $seen (mut i32) (i32.const 0))
        on request_headers:
            (global.set $seen (local.get $context))
            (call $tell 'NAME request, ')
        on response_headers:
            (call $tell 'NAME response, ')
        on log:
            (if (i32.eq (global.get $seen) (local.get $context)) (then (call $tell 'NAME log, ')))
        on done:
            (if (i32.eq (global.get $seen) (local.get $context)) (then (call $tell 'NAME done, ')))
        on delete:
            (if (i32.eq (global.get $seen) (local.get $context)) (then (call $tell 'NAME delete, ')))";
    guest(&text.replace("NAME", name))
}

// Checks: CH-01
#[test]
fn requests_pass_forwards_responses_backwards_and_the_end_forwards() {
    let proxy = Setup::new().plugin(storyteller()).plugin(telling("a")).plugin(telling("b"));
    let proxy = proxy.start();
    assert_eq!(proxy.get("/").status, 200);
    assert_story(
        &proxy,
        "a request, b request, b response, a response, a log, b log, \
         a done, a delete, b done, b delete, ",
    );
}

// Checks: CH-02
#[test]
fn the_first_plugin_has_the_last_word_about_a_response() {
    let sets = |value: &str| {
        Plugin::guest(&format!("on response_headers:\n(call $replace #response 'x-by' '{value}')"))
    };
    let proxy = Setup::new().plugin(sets("a")).plugin(sets("b")).start();
    assert_eq!(proxy.get("/").header_values("x-by"), ["a"]);
}

// Checks: CH-05
#[test]
fn a_reply_in_the_body_meets_every_plugin_that_saw_the_headers() {
    let replies = Plugin::guest("on request_body:\n(call $reply #403 'no' {x-a: 1})");
    let setup = Setup::new().plugin(storyteller()).plugin(telling("a")).plugin(replies);
    let proxy = setup.plugin(telling("c")).start();
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(proxy.exchange(post).status, 403);
    assert_story(
        &proxy,
        "a request, c request, c response, a response, a log, c log, \
         a done, a delete, c done, c delete, ",
    );
}

/// Tells sizes and ends of bodies, and numbers of trailers.
fn bodies(side: &str) -> Plugin {
    let text = "
        on SIDE_body:
            (call $tell_number (local.get $size))
            (call $tell '/')
            (call $tell_number (local.get $end))
            (call $tell ', ')
        on SIDE_trailers:
            (call $tell 'trailers ')
            (call $tell_number (local.get $count))";
    guest(&text.replace("SIDE", side))
}

// Checks: CH-08
#[test]
fn a_body_that_one_collects_reaches_the_next_in_one_piece() {
    let collects = Plugin::guest(
        "on request_body:
            (if (i32.eqz (local.get $end)) (then (return #buffer)))",
    );
    let proxy = Setup::new().plugin(storyteller()).plugin(collects).plugin(bodies("request"));
    let proxy = proxy.start();
    let post = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n";
    assert_eq!(proxy.exchange(post).status, 200);
    assert_story(&proxy, "6/1, ");
}

// Checks: CH-09
#[test]
fn request_trailers_that_one_makes_end_the_message_of_the_next() {
    let makes = Plugin::guest(
        "on request_body:
            (if (local.get $end) (then (call $add #request_trailers 'x-made' 'yes')))",
    );
    let collects = Plugin::guest("on request_body:\n(return #buffer)");
    let setup = Setup::new().plugin(storyteller()).plugin(makes).plugin(collects);
    let proxy = setup.plugin(bodies("request")).start();
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    assert_eq!(proxy.exchange(post).status, 200);
    assert_story(&proxy, "5/0, trailers 1");
}

// Checks: HD-49
#[test]
fn a_response_trailer_that_one_makes_is_called_back_in_the_next() {
    let makes = Plugin::guest(
        "on response_body:
            (if (i32.eqz (local.get $end)) (then (return #buffer)))
            (call $add #response_trailers 'x-made' 'yes')",
    );
    let setup = Setup::new().plugin(storyteller()).plugin(bodies("response")).plugin(makes);
    let upstream = Upstream::scripted(|_| Reply::new(200).chunked(["one"]).into());
    let proxy = setup.upstream(upstream).start();
    assert_eq!(proxy.get("/").text(), "one");
    assert_story(&proxy, "3/0, trailers 1");
}

// Checks: CH-10
#[test]
fn one_module_twice_has_two_contexts_for_a_stream() {
    let tells = || {
        Plugin::guest(
            "on response_headers:
                (call $add #response 'x-context' (call $decimal (local.get $context)))",
        )
    };
    let proxy = Setup::new().plugin(tells()).plugin(tells()).start();
    // Contexts 1 and 2 are the plugins.
    assert_eq!(proxy.get("/").header_values("x-context"), ["4", "3"]);
}

// Checks: CH-11
#[test]
fn properties_pass_between_plugins_in_both_directions() {
    let first = Plugin::guest(
        "on request_headers:
            (call $set_property 'mine' 'of a')
        on response_headers:
            (call $add #response 'x-of-b' (call $property 'yours'))",
    );
    let second = Plugin::guest(
        "on request_headers:
            (call $add #request 'x-of-a' (call $property 'mine'))
        on response_headers:
            (call $set_property 'yours' 'of b')",
    );
    let proxy = Setup::new().plugin(first).plugin(second).start();
    assert_eq!(proxy.get("/").header("x-of-b"), Some("of b"));
    assert_eq!(proxy.upstream().received()[0].header("x-of-a"), Some("of a"));
}

// Checks: CH-12
#[test]
fn a_trap_in_the_body_reaches_who_saw_the_headers_as_503() {
    let traps = Plugin::guest("on request_body:\n(unreachable)");
    let sees = Plugin::guest(
        "on response_headers:
            (call $add #response 'x-saw' (call $get #response ':status'))",
    );
    let proxy = Setup::new().plugin(traps).plugin(sees).start();
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    let response = proxy.exchange(post);
    assert_eq!((response.status, response.header("x-saw")), (503, Some("503")));
}

// Checks: HD-53
#[test]
fn changed_headers_are_what_the_next_plugin_sees() {
    let changes = Plugin::guest(
        "on request_headers:
            (call $replace #request 'x-a' 'changed')
        on response_headers:
            (call $add #response 'x-saw' (call $get #response 'x-b'))",
    );
    let sees = Plugin::guest(
        "on request_headers:
            (call $add #request 'x-saw' (call $get #request 'x-a'))
        on response_headers:
            (call $replace #response 'x-b' 'changed')",
    );
    let proxy = Setup::new().plugin(changes).plugin(sees).start();
    let response = proxy.exchange("GET / HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n\r\n");
    assert_eq!(response.header("x-saw"), Some("changed"));
    assert_eq!(proxy.upstream().received()[0].header("x-saw"), Some("changed"));
}
