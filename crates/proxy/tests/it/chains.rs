//! Several plugins.

use crate::harness::{Plugin, Setup};

/// Appends its letter to `x-order` in both directions and to bodies.
fn tag(letter: &str) -> Plugin {
    Plugin::guest(&format!(
        "on request_headers:
            (call $remove #request 'content-length')
            (call $add #request 'accept' '{letter}')
        on request_body:
            (if (local.get $size) (then (call $set_body #0 #all #0 '{letter}')))
        on response_headers:
            (call $remove #response 'content-length')
            (call $add #response 'vary' '{letter}')
        on response_body:
            (if (local.get $end) (then (call $set_body #1 #all #0 '{letter}')))"
    ))
}

#[test]
fn requests_pass_in_order_and_responses_in_reverse() {
    let proxy = Setup::new().plugin(tag("a")).plugin(tag("b")).plugin(tag("c")).start();
    let response =
        proxy.exchange("POST /bytes/1 HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n-");
    assert_eq!(response.header("vary"), Some("c,b,a"));
    assert_eq!(response.text(), "0cba");
    let received = &proxy.upstream().received()[0];
    assert_eq!(received.header("accept"), Some("a,b,c"));
    assert_eq!(received.body, b"-abc");
}

// Checks: CH-07, HD-53
#[test]
fn what_one_holds_the_next_does_not_see() {
    let holds = Plugin::guest(
        "on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then
                (call $add #request 'x-first' 'done')
                (call $continue #0)))
        on request_headers:
            (call $hold (local.get $context))
            (return #pause)",
    );
    let sees = Plugin::guest(
        "on request_headers:
            (call $add #request 'x-second' (call $get #request 'x-first'))",
    );
    let proxy = Setup::new().plugin(holds).plugin(sees).start();
    proxy.get("/");
    assert_eq!(proxy.upstream().received()[0].header("x-second"), Some("done"));
}

#[test]
fn one_module_twice_is_two_plugins_with_their_own_configuration() {
    let tag = |tag: &str| {
        Plugin::prebuilt("tag-headers-rust").configured(&format!(r#"{{"tag": "{tag}"}}"#))
    };
    let proxy = Setup::new().plugin(tag("a")).plugin(tag("b")).start();
    let response = proxy.get("/");
    assert_eq!(response.header("x-chain-response"), Some("b,a"));
    assert_eq!(proxy.upstream().received()[0].header("x-chain"), Some("a,b"));
}
