//! Limits: time, memory, tables and contexts.

use std::time::Duration;

use expect_test::expect;
use wasmplug_host::Limits;

use crate::harness::{check_with, outcome, patient};

fn short() -> Limits {
    let deadline = Duration::from_millis(20);
    Limits { callback_deadline: deadline, start_deadline: deadline, ..patient() }
}

#[test]
fn an_endless_loop_in_a_callback_hits_its_deadline() {
    check_with(
        Limits { callback_deadline: Duration::from_millis(20), ..patient() },
        "on tick:
           (loop $forever (br $forever))",
        expect![[r#"
            > tick
            critical 1: plugin `p` failed in `proxy_on_tick`: it ran longer than its deadline
            ! deadline: plugin `p` failed in `proxy_on_tick`: it ran longer than its deadline
            > tick
            ! deadline: plugin `p` failed in `proxy_on_tick`: it ran longer than its deadline
        "#]],
    );
}

#[test]
fn endless_recursion_and_hostcalls_hit_the_deadline_too() {
    for code in ["(call $calls)", "(call $logs)"] {
        let guest = format!(
            "module:
               (func $nothing)
               (func $calls (loop $forever (call $nothing) (br $forever)))
               (func $logs (loop $forever (drop (call $proxy_log #0 #0 #0)) (br $forever)))
             on request_headers:
               {code}"
        );
        let outcome = outcome(short(), &guest, "> request a=1");
        assert!(outcome.contains("\n! deadline: plugin `p` failed in"), "{outcome}");
    }
}

// Checks: LM-05
#[test]
fn an_endless_loop_at_the_start_refuses_the_plugin() {
    for callback in ["_initialize", "_start", "context_create", "vm_start", "configure"] {
        let guest = format!("on {callback}:\n(loop $forever (br $forever))");
        let outcome = outcome(short(), &guest, "> start");
        let last = outcome.lines().last().unwrap();
        assert!(
            last.starts_with("! ") && last.ends_with("it ran longer than its deadline"),
            "{outcome}"
        );
    }
    let guest = "module:\n(func $section (loop $forever (br $forever)))\n(start $section)";
    assert_eq!(
        outcome(short(), guest, "> start"),
        "> start\n! the module failed in `start`: it ran longer than its deadline\n"
    );
}

#[test]
fn an_endless_allocator_hits_the_deadline_of_its_callback() {
    let guest = "no allocator
         module:
           (func (export \"malloc\") (param i32) (result i32) (loop $forever (br $forever)) #0)
         on request_headers:
           (got get_header_map_value #request_headers 'a' @out)";
    let outcome = outcome(short(), guest, "> request a=1");
    assert!(
        outcome.contains("\n! deadline: plugin `p` failed in `proxy_on_request_headers`"),
        "{outcome}"
    );
}

// Checks: LM-01
#[test]
fn memory_beyond_the_cap_is_refused_to_the_guest_which_lives_on() {
    check_with(
        Limits { memory_bytes: 6 << 16, ..patient() },
        "on tick:
           (call $number 'before' (memory.size))
           (call $number 'grown from' (memory.grow #2))
           (call $number 'refused' (i32.eq (memory.grow #1) #-1))
           (call $number 'after' (memory.size))",
        expect![[r#"
            > tick
            1: before 4
            1: grown from 4
            1: refused 1
            1: after 6
        "#]],
    );
}

#[test]
fn a_guest_that_gives_up_for_want_of_memory_is_told_apart() {
    check_with(
        Limits { memory_bytes: 6 << 16, ..patient() },
        "on tick:
           (if (i32.eq (memory.grow #3) #-1) (then (unreachable)))",
        expect![[r#"
            > tick
            critical 1: plugin `p` failed in `proxy_on_tick`: memory of 458752 bytes was asked for, the limit is 393216; the guest then gave up
            ! memory: plugin `p` failed in `proxy_on_tick`: memory of 458752 bytes was asked for, the limit is 393216; the guest then gave up
        "#]],
    );
}

#[test]
fn an_old_refusal_is_not_blamed_for_a_later_trap() {
    check_with(
        Limits { memory_bytes: 6 << 16, ..patient() },
        "on tick:
           (call $number 'refused' (i32.eq (memory.grow #3) #-1))
         on queue_ready:
           (unreachable)",
        expect![[r#"
            > tick
            1: refused 1
            > queue-ready 1
            critical 1: plugin `p` failed in `proxy_on_queue_ready`: wasm `unreachable` instruction executed
            ! trap: plugin `p` failed in `proxy_on_queue_ready`: wasm `unreachable` instruction executed
        "#]],
    );
}

#[test]
fn a_module_that_begins_beyond_the_cap_is_not_instantiated() {
    check_with(
        Limits { memory_bytes: 3 << 16, ..patient() },
        "",
        expect![[r#"
            > start
            ! the module cannot be instantiated: memory of 262144 bytes was asked for, the limit is 196608
        "#]],
    );
}

#[test]
fn tables_beyond_the_cap_are_refused() {
    let guest = "module:
           (table $table 10 funcref)
         on tick:
           (call $number 'grown from' (table.grow $table (ref.null func) #10))
           (call $number 'refused' (i32.eq (table.grow $table (ref.null func) #1) #-1))";
    check_with(
        Limits { table_elements: 20, ..patient() },
        guest,
        expect![[r#"
            > tick
            1: grown from 10
            1: refused 1
        "#]],
    );
    check_with(
        Limits { table_elements: 9, ..patient() },
        guest,
        expect![[r#"
            > start
            ! the module cannot be instantiated: a table of 10 elements was asked for, the limit is 9
        "#]],
    );
}

#[test]
fn contexts_are_limited_and_free_again_when_they_end() {
    check_with(
        Limits { contexts: 2, ..patient() },
        "",
        expect![[r#"
            > request a=1
            = Continue
            = headers a=1
            > stream other
            > request a=1
            ! no stream
            > start plugin=second vm=p
            ! the VM has no room for another context
            > stream s
            > finish
            > start plugin=second vm=p
            > contexts
            = 2
        "#]],
    );
}

#[test]
fn lines_beyond_the_budget_are_dropped_and_counted() {
    check_with(
        Limits { log_lines_per_second: 3, ..patient() },
        "on tick:
           (is log #2 'one')
           (is log #2 'two')
           (is log #2 'three')",
        expect![[r#"
            > limits
            > tick
            1: one
            1: log 2 one -> OK
            1: two
            > limits
            = log_lines_per_second 3
        "#]],
    );
    // What the sink does not want costs nothing.
    check_with(
        Limits { log_lines_per_second: 1, ..patient() },
        "on tick:
           (drop (call $proxy_log #0 'trace'))
           (drop (call $proxy_log #0 'trace'))
           (drop (call $proxy_log #2 'info'))",
        expect![[r#"
            > tick
            1: info
            > limits
        "#]],
    );
}

#[test]
fn long_lines_are_cut_and_counted() {
    check_with(
        Limits { log_line_bytes: 5, ..patient() },
        "on tick:
           (drop (call $proxy_log #2 '12345'))
           (drop (call $proxy_log #2 '1234567'))",
        expect![[r#"
            > tick
            1: 12345
            1: 12345… (2 more bytes)
            > limits
            = log_line_bytes 1
        "#]],
    );
}

#[test]
fn limits_that_are_met_are_counted() {
    let limits = Limits {
        contexts: 2,
        expressions: 1,
        memory_bytes: 5 << 16,
        metrics: 1,
        queue_items: 1,
        queues: 1,
        shared_data_keys: 1,
        table_elements: 1,
        ..patient()
    };
    check_with(
        limits,
        "module:
           (table $table 1 funcref)
         on tick:
           (drop (memory.grow #2))
           (drop (table.grow $table (ref.null func) #1))
           (drop (call $proxy_define_metric #counter 'a' @num))
           (drop (call $proxy_define_metric #counter 'b' @num))
           (drop (call $proxy_set_shared_data 'a' '1' #0))
           (drop (call $proxy_set_shared_data 'b' '1' #0))
           (drop (call $proxy_register_shared_queue 'a' @num))
           (drop (call $proxy_enqueue_shared_queue (i32.load #0x108) '1'))
           (drop (call $proxy_enqueue_shared_queue (i32.load #0x108) '2'))
           (drop (call $proxy_register_shared_queue 'b' @num))
           (drop (call $proxy_call_foreign_function 'expr_create' '1' @out))
           (drop (call $proxy_call_foreign_function 'expr_create' '1' @out))",
        expect![[r#"
            > tick
            * p item in queue 1
            > stream one
            > request a=1
            = Continue
            = headers a=1
            > stream two
            > request a=1
            ! no stream
            > limits
            = contexts 1
            = expressions 1
            = memory_bytes 1
            = metrics 1
            = queue_items 1
            = queues 1
            = shared_data 1
            = table_elements 1
        "#]],
    );
}
