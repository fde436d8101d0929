//! How much is held for a plugin.

use crate::harness::{Plugin, Running, Setup, eventually};

const LIMIT: usize = 16 << 10;

fn proxy(guest: &str) -> Running {
    let setup = Setup::new().tune(|config| config.limits.buffer_bytes = LIMIT);
    setup.plugin(Plugin::guest(guest)).start()
}

fn post(length: usize) -> String {
    let body = "b".repeat(length);
    format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}")
}

// Checks: BD-21, BD-29
#[test]
fn a_request_that_is_too_large_to_buffer_is_refused() {
    for guest in [
        "on request_body:
            (if (i32.eqz (local.get $end)) (then (return #buffer)))",
        "on request_headers:
            (if (i32.eqz (local.get $end)) (then (return #all_and_buffer)))",
    ] {
        let proxy = proxy(guest);
        let response = proxy.exchange(post(LIMIT * 2));
        assert_eq!((response.status, response.text().as_str()), (413, "Payload Too Large"));
        assert_eq!(response.header("connection"), Some("close"));
        assert_eq!(proxy.get("/").status, 200);
    }
}

#[test]
fn a_request_at_the_limit_passes() {
    let proxy = proxy(
        "on request_body:
            (if (i32.eqz (local.get $end)) (then (return #buffer)))",
    );
    assert_eq!(proxy.exchange(post(LIMIT)).status, 200);
    assert_eq!(proxy.upstream().received()[0].body.len(), LIMIT);
}

#[test]
fn a_response_that_is_too_large_to_buffer_is_replaced() {
    let proxy = proxy("on response_headers:\n(return #all_and_buffer)");
    let response = proxy.get(&format!("/bytes/{}", LIMIT * 2));
    assert_eq!((response.status, response.text().as_str()), (500, "Internal Server Error"));
}

// Checks: BD-23
#[test]
fn a_response_that_has_begun_is_cut() {
    let proxy = proxy(
        "on response_body:
            (if (i32.eqz (local.get $end)) (then (return #buffer)))",
    );
    assert!(proxy.client().get(&format!("/bytes/{}", LIMIT * 2)).is_err());
    assert_eq!(proxy.get(&format!("/bytes/{LIMIT}")).body.len(), LIMIT);
}

#[test]
fn a_watermark_slows_down_and_refuses_nothing() {
    let proxy = proxy(
        "on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then (call $continue #0)))
        on request_headers:
            (if (i32.eqz (local.get $end)) (then
                (call $hold (local.get $context))
                (return #all_and_watermark)))",
    );
    assert_eq!(proxy.exchange(post(LIMIT * 20)).status, 200);
    assert_eq!(proxy.upstream().received()[0].body.len(), LIMIT * 20);
}

#[test]
fn too_many_headers_are_refused() {
    let proxy = Setup::new().tune(|config| config.limits.headers = 10).start();
    let others = |count: usize| "x-a: b\r\n".repeat(count - 1);
    let send =
        |count| proxy.exchange(format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", others(count)));
    assert_eq!(send(10).status, 200);
    assert_eq!(send(11).status, 431);
}

#[test]
fn connections_beyond_the_limit_are_closed_until_one_ends() {
    let setup = Setup::new().tune(|config| {
        config.limits.connections = 2;
        config.workers = 2;
    });
    let proxy = setup.start();
    let (mut first, mut second) = (proxy.client(), proxy.client());
    assert_eq!(first.get("/").unwrap().status, 200);
    assert_eq!(second.get("/").unwrap().status, 200);
    assert!(proxy.client().get("/").is_err());
    drop(first);
    // Its place is free when its worker has noticed.
    eventually(|| proxy.client().get("/").is_ok());
    assert_eq!(second.get("/").unwrap().status, 200);
}

/// A plugin that grows its memory by 100 pages and tells whether it could.
fn grows() -> Plugin {
    Plugin::guest(
        "on response_headers:
            (call $add #response 'x-grown'
                (call $decimal (i32.ne (memory.grow (i32.const 100)) (i32.const -1))))",
    )
}

#[test]
fn a_plugin_can_have_a_tighter_limit_of_its_own() {
    let grown = |plugin: Plugin| {
        let proxy = Setup::new().plugin(plugin).start();
        proxy.get("/").header("x-grown").map(str::to_owned)
    };
    assert_eq!(grown(grows()).as_deref(), Some("1"));
    assert_eq!(grown(grows().annotated("limits", "memory_bytes=5M")).as_deref(), Some("0"));
}

#[test]
fn a_plugin_cannot_have_more_than_the_process_allows() {
    for (limits, part) in [
        ("memory_bytes=1G", "is more than this process allows"),
        ("memories=1", "there is no limit `memories`"),
    ] {
        let mut proxy = Setup::new().start_unconfigured();
        let rejected = proxy.load(&[grows().annotated("limits", limits)]);
        assert_eq!(rejected.len(), 1);
        assert!(rejected[0].reason.contains(part), "{}", rejected[0].reason);
        assert_eq!(proxy.get("/").status, 503);
    }
}
