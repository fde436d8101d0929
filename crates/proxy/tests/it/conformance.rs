//! Checks of the plugin interface that need a client and an upstream, one small plugin each.
//!
//! The other half of `conformance/checks.toml` is proven in the host's own tests.

mod bodies;
mod calls;
mod chains;
mod failures;
mod grpc;
mod lifecycle;
mod properties;
mod replies;
mod routes;
mod tcp;
mod tcp_ends;
mod timers;
mod updates;
mod upgrades;

use std::time::Instant;

use crate::harness::{Plugin, Running};

/// Words beside those of the prelude.
///
/// ```text
/// $share KEY VALUE      stores shared data
/// $recall KEY           is the value, or `-`
/// $tell TEXT            adds to the story, which plugins of all modules tell together
/// $tell_number NUMBER   the same in decimal digits
/// $ask CLUSTER HEADERS BODY TIMEOUT   makes an HTTP call; says its status, its token is at 0x10c
/// $now                  is the monotonic clock in nanoseconds
/// ```
const WORDS: &str = r#"
(import "env" "proxy_get_shared_data" (func $proxy_get_shared (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_set_shared_data" (func $proxy_set_shared (param i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_http_call" (func $proxy_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_register_shared_queue" (func $proxy_register (param i32 i32 i32) (result i32)))
(import "env" "proxy_enqueue_shared_queue" (func $proxy_enqueue (param i32 i32 i32) (result i32)))
(import "env" "proxy_dequeue_shared_queue" (func $proxy_dequeue_item (param i32 i32 i32) (result i32)))
(import "env" "proxy_get_current_time_nanoseconds" (func $proxy_time (param i32) (result i32)))
(import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
(func $share (param i32 i32 i32 i32)
    (drop (call $proxy_set_shared
        (local.get 0) (local.get 1) (local.get 2) (local.get 3) (i32.const 0))))
(func $recall (param i32 i32) (result i32 i32)
    (call $returned (call $proxy_get_shared (local.get 0) (local.get 1)
        (i32.const 0x100) (i32.const 0x104) (i32.const 0x108))))
(func $tell (param $text i32) (param $len i32) (local $told i32)
    (if (i32.eqz (call $proxy_get_shared 'story'
            (i32.const 0x180) (i32.const 0x184) (i32.const 0x188)))
        (then
            (local.set $told (i32.load (i32.const 0x184)))
            (memory.copy (i32.const 0x3f0000) (i32.load (i32.const 0x180)) (local.get $told))))
    (memory.copy (i32.add (i32.const 0x3f0000) (local.get $told))
        (local.get $text) (local.get $len))
    (call $share 'story' (i32.const 0x3f0000) (i32.add (local.get $told) (local.get $len))))
(func $tell_number (param i32) (call $tell (call $decimal (local.get 0))))
(func $ask (param i32 i32 i32 i32 i32 i32 i32) (result i32)
    (call $proxy_call (local.get 0) (local.get 1) (local.get 2) (local.get 3)
        (local.get 4) (local.get 5) (i32.const 0) (i32.const 0) (local.get 6) (i32.const 0x10c)))
(func $now (result i64)
    (drop (call $clock (i32.const 1) (i64.const 1) (i32.const 0x110)))
    (i64.load (i32.const 0x110)))
"#;

/// Imports foreign functions, for plugins that call them.
const FOREIGN: &str = r#"(import "env" "proxy_call_foreign_function" (func $foreign (param i32 i32 i32 i32 i32 i32) (result i32)))"#;

/// A plugin that uses [`WORDS`].
fn guest(text: &str) -> Plugin {
    Plugin::guest(&format!("{WORDS}{text}"))
}

/// Stands first in a chain and answers `/story` with what plugins have told so far.
///
/// Plugins behind it hear the log, done and delete of such a request, and nothing else.
fn storyteller() -> Plugin {
    guest(
        "on request_headers:
            (if (call $is (call $get #request ':path') '/story') (then
                (call $reply #200 (call $recall 'story') {x-story: yes})))",
    )
}

/// Waits until the story is this one.
fn assert_story(proxy: &Running, expected: &str) {
    let begin = Instant::now();
    loop {
        let text = proxy.get("/story").text();
        // Nothing was told yet.
        let story = text.strip_prefix('-').unwrap_or(&text);
        if story == expected {
            return;
        }
        // What is told behind a response may come late, what is wrong stays wrong.
        let is_over = begin.elapsed() > wasmplug_testkit::patience();
        assert!(expected.starts_with(story) && !is_over, "{story}\nexpected: {expected}");
        std::thread::yield_now();
    }
}

/// A value on the page of counters, 0 if the name is not there.
fn stat(proxy: &Running, name: &str) -> u64 {
    let page = proxy.admin("/stats/prometheus").text();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}
