//! Timers, and queues that call back.

use super::{assert_story, guest, stat, storyteller};
use crate::harness::{Plugin, Setup, eventually};

// Checks: TM-01
#[test]
fn ticks_of_the_plugin_come_a_period_apart() {
    let plugin = guest(
        "(global $last (mut i64) (i64.const 0))
        on configure:
            (call $tick #30)
        on tick:
            (if (i32.ne (local.get $context) (i32.const 1)) (then (call $bump 'foreign')))
            (if (i64.ne (global.get $last) (i64.const 0)) (then
                (if (i64.lt_u (i64.sub (call $now) (global.get $last)) (i64.const 30000000))
                    (then (call $bump 'early')))))
            (global.set $last (call $now))
            (call $bump 'ticked')",
    );
    let proxy = Setup::new().plugin(plugin).admin().start();
    eventually(|| stat(&proxy, "ticked") >= 4);
    assert_eq!((stat(&proxy, "early"), stat(&proxy, "foreign")), (0, 0));
}

// Checks: TM-02, TM-04
#[test]
fn one_plugin_ends_its_timer_and_another_of_its_vm_keeps_its_own() {
    let plugin = || {
        Plugin::guest(
            "on configure:
                (call $tick #1)
            on tick:
                (if (i32.eq (local.get $context) (i32.const 1))
                    (then (call $bump 'first') (call $tick #0))
                    (else (call $bump 'second')))",
        )
    };
    let proxy = Setup::new().plugin(plugin()).plugin(plugin()).admin().start();
    eventually(|| stat(&proxy, "second") >= 20);
    assert_eq!(stat(&proxy, "first"), 1);
}

// Checks: TM-05
#[test]
fn a_tick_that_is_longer_than_its_period_is_followed_by_a_whole_one() {
    let plugin = guest(
        "(global $ended (mut i64) (i64.const 0))
        (global $is_inside (mut i32) (i32.const 0))
        on configure:
            (call $tick #10)
        on tick:
            (local $began i64)
            (local.set $began (call $now))
            (if (global.get $is_inside) (then (call $bump 'overlapping')))
            (global.set $is_inside (i32.const 1))
            (if (i64.ne (global.get $ended) (i64.const 0)) (then
                (if (i64.lt_u (i64.sub (local.get $began) (global.get $ended)) (i64.const 10000000))
                    (then (call $bump 'early')))))
            (loop $busy
                (br_if $busy (i64.lt_u
                    (i64.sub (call $now) (local.get $began)) (i64.const 25000000))))
            (call $bump 'ticked')
            (global.set $is_inside (i32.const 0))
            (global.set $ended (call $now))",
    );
    let proxy = Setup::new().plugin(plugin).admin().start();
    eventually(|| stat(&proxy, "ticked") >= 4);
    assert_eq!((stat(&proxy, "early"), stat(&proxy, "overlapping")), (0, 0));
}

/// Registers a queue, puts three items in with a request to `/put`, tells what comes out.
fn queueing(in_ready: &str) -> Plugin {
    guest(&format!(
        "(global $depth (mut i32) (i32.const 0))
        on configure:
            (return (i32.eqz (call $proxy_register 'q' (i32.const 0x120))))
        on request_headers:
            (if (call $is (call $get #request ':path') '/put') (then
                (drop (call $proxy_enqueue (i32.load (i32.const 0x120)) 'one, '))
                (drop (call $proxy_enqueue (i32.load (i32.const 0x120)) 'two, '))
                (drop (call $proxy_enqueue (i32.load (i32.const 0x120)) 'three, '))
                (call $tell 'put, ')))
        on queue_ready:
            (if (i32.ne (local.get $context) (i32.const 1)) (then (call $tell 'foreign, ')))
            (if (global.get $depth) (then (call $tell 'nested, ')))
            (global.set $depth (i32.const 1))
            (call $tell (call $returned (call $proxy_dequeue_item (local.get $token)
                (i32.const 0x100) (i32.const 0x104))))
            {in_ready}
            (global.set $depth (i32.const 0))"
    ))
}

// Checks: SQ-06
#[test]
fn each_item_is_a_callback_of_the_plugin() {
    let proxy = Setup::new().plugin(storyteller()).plugin(queueing("")).start();
    assert_eq!(proxy.get("/put").status, 200);
    assert_story(&proxy, "put, one, two, three, ");
}

// Checks: SQ-11
#[test]
fn an_item_of_a_callback_is_a_later_callback() {
    let again = "
        (if (i32.lt_u (call $count) (i32.const 3)) (then
            (drop (call $proxy_enqueue (local.get $token) 'again, '))
            (call $tell 'queued, ')))";
    let proxy = Setup::new().plugin(storyteller()).plugin(queueing(again)).start();
    assert_eq!(proxy.get("/put").status, 200);
    assert_story(&proxy, "put, one, queued, two, queued, three, again, again, ");
}
