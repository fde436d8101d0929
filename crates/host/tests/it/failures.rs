//! Deaths of guests: what is said about them, and what remains.

use expect_test::expect;
use wasmplug_host::CompiledModule;

use crate::harness::{Transcript, assemble, check, host, outcome, patient, start};

#[test]
fn a_trap_in_any_callback_ends_the_vm_and_names_the_callback() {
    // The callback, the command that runs it.
    let rows = [
        ("context_create", "request a=1"),
        ("request_headers", "request a=1"),
        ("request_body", "body x"),
        ("request_trailers", "trailers a=1"),
        ("response_headers", "response a=1"),
        ("response_body", "response-body x"),
        ("response_trailers", "response-trailers a=1"),
        ("tick", "tick"),
        ("queue_ready", "queue-ready 1"),
        ("http_call_response", "answer 4 failure"),
    ];
    for (callback, command) in rows {
        // The context of the plugin itself must come into being.
        let guest = format!(
            "on {callback}:
               (if (i32.or (i32.gt_u (local.get $context) #1)
                     (i32.eqz (i32.const {})))
                 (then (unreachable)))",
            u32::from(callback == "context_create"),
        );
        let outcome = outcome(patient(), &guest, &format!("> {command}\n> tick"));
        let failure = format!(
            "plugin `p` failed in `proxy_on_{callback}`: wasm `unreachable` instruction executed"
        );
        let lines: Vec<_> = outcome.lines().collect();
        assert!(lines[1].starts_with("critical "), "{outcome}");
        assert!(lines[1].ends_with(&failure), "{outcome}");
        let failed: Vec<_> = lines.iter().filter(|line| line.starts_with("! ")).collect();
        // Once from the callback itself and once from the tick after it, which runs nothing.
        assert_eq!(failed, vec![&format!("! trap: {failure}"); 2], "{outcome}");
        assert_eq!(outcome.matches("critical").count(), 1, "{outcome}");
    }
}

#[test]
fn a_trap_at_the_end_of_a_stream_is_reported_and_ends_the_vm() {
    for callback in ["log", "done", "delete"] {
        let guest = format!("on {callback}:\n(unreachable)");
        let script = "> request a=1\n> log\n> finish\n> tick";
        let outcome = outcome(patient(), &guest, script);
        assert_eq!(outcome.matches("critical").count(), 1, "{outcome}");
        let last = format!(
            "! trap: plugin `p` failed in `proxy_on_{callback}`: wasm `unreachable` instruction \
             executed\n"
        );
        assert!(outcome.ends_with(&last), "{outcome}");
    }
}

// Checks: TR-19
#[test]
fn reasons_are_those_of_the_engine() {
    for (code, reason) in [
        ("(drop (i32.div_u #1 (i32.const 0)))", "integer divide by zero"),
        ("(drop (i32.load #-1))", "out of bounds memory access"),
        ("(call_indirect $table (i32.const 0))", "uninitialized element"),
        ("(call_indirect $table (i32.const 9))", "undefined element: out of bounds table access"),
        ("(call_indirect $table (i32.const 1))", "indirect call type mismatch"),
        ("(call $deep)", "call stack exhausted"),
    ] {
        let guest = format!(
            "module:
               (table $table 2 funcref)
               (elem (table $table) (i32.const 1) func $typed)
               (func $typed (param i32))
               (func $deep (call $deep))
             on tick:
               {code}"
        );
        let outcome = outcome(patient(), &guest, "> tick");
        let last = format!("! trap: plugin `p` failed in `proxy_on_tick`: {reason}\n");
        assert!(outcome.ends_with(&last), "{outcome}");
    }
}

// Checks: TR-17
#[test]
fn the_stack_of_the_guest_is_kept_with_names_and_not_endless() {
    let host = host(&Transcript::default());
    let failure = |guest: &str| {
        let module = CompiledModule::compile(&host, &assemble(guest)).unwrap();
        start(&host, &module).tick().unwrap_err()
    };
    let failed = failure(
        "module:
           (func $innermost (unreachable))
           (func $_ZN4demo7mangled17h0123456789abcdefE (call $innermost))
         on tick:
           (call $_ZN4demo7mangled17h0123456789abcdefE)",
    );
    let names = failed.backtrace.lines().map(|line| line.split(" (offset").next().unwrap());
    let names: Vec<_> = names.collect();
    assert_eq!(names[..2], ["  at innermost", "  at demo::mangled"], "{}", failed.backtrace);
    assert_eq!(names.len(), 3, "{}", failed.backtrace);
    let deep = failure("module:\n(func $deep (call $deep))\non tick:\n(call $deep)");
    assert_eq!(deep.backtrace.lines().count(), 20);
}

// Checks: TR-16
#[test]
fn nothing_runs_in_a_dead_vm_and_held_messages_can_be_taken_out() {
    check(
        "on request_headers:
           (return #1)
         on tick:
           (unreachable)
         on log:
           (call $say 'not reached')
         on done:
           (call $say 'not reached')
         on delete:
           (call $say 'not reached')",
        expect![[r#"
            > request a=1
            = StopAllIterationAndWatermark
            > tick
            critical 1: plugin `p` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            * s wake
            ! trap: plugin `p` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            > body x
            ! trap: plugin `p` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            = body "x"
            > response a=1
            ! trap: plugin `p` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            > release request
            = headers a=1
            > log a=1
            = request a=1
            > finish
            > request a=1
            ! no stream
            > tick
            ! trap: plugin `p` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            > queue-ready 1
            ! trap: plugin `p` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            > shut-down
            > is-gone
            = true
        "#]],
    );
}

#[test]
fn every_stream_of_a_dead_vm_is_woken() {
    check(
        "on request_headers:
           (if (i32.eq (local.get $count) #2) (then (unreachable)))
           (return #1)",
        expect![[r#"
            > request a=1
            = StopAllIterationAndWatermark
            > stream other
            > request a=1 b=2
            critical 3: plugin `p` failed in `proxy_on_request_headers`: wasm `unreachable` instruction executed
            * s wake
            * other wake
            ! trap: plugin `p` failed in `proxy_on_request_headers`: wasm `unreachable` instruction executed
            > contexts
            = 3
            > stream s
            > release request
            = headers a=1
        "#]],
    );
}

// Checks: TR-10, TR-11
#[test]
fn plugins_of_one_vm_die_together_and_those_of_others_do_not() {
    check(
        "on tick:
           (unreachable)
         on request_headers:
           (call $say 'alive')",
        expect![[r#"
            > start plugin=a vm=shared
            > start plugin=b vm=shared
            > start plugin=c
            > plugin a
            > tick
            critical a/1: plugin `a` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            ! trap: plugin `a` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            > plugin b
            > tick
            ! trap: plugin `a` failed in `proxy_on_tick`: wasm `unreachable` instruction executed
            > plugin c
            > request a=1
            c/2: alive
            = Continue
            = headers a=1
        "#]],
    );
}

// Checks: LD-24
#[test]
fn an_allocator_that_gives_nothing_usable_fails_the_hostcall_alone() {
    for (pointer, what) in [("#0", "null"), ("#0x3fffe", "the end"), ("#-1", "beyond")] {
        let guest = format!(
            "no allocator
             module:
               (func (export \"malloc\") (param i32) (result i32) {pointer})
             on request_headers:
               (got get_header_map_value #request_headers 'a' @out)
               (got get_header_map_pairs #request_headers @out)
               (got get_header_map_value #request_headers 'empty' @out)"
        );
        assert_eq!(
            outcome(patient(), &guest, "> request a=text empty="),
            "> request a=text empty=\n\
             2: get_header_map_value request_headers a -> INVALID_MEMORY_ACCESS\n\
             2: get_header_map_pairs request_headers -> INVALID_MEMORY_ACCESS\n\
             2: get_header_map_value request_headers empty -> OK empty\n\
             = Continue\n\
             = headers a=text empty=\n",
            "{what}"
        );
    }
}

// Checks: TR-20
#[test]
fn an_allocator_that_traps_ends_the_vm_once() {
    check(
        "no allocator
         module:
           (func (export \"malloc\") (param i32) (result i32) (unreachable))
         on request_headers:
           (got get_header_map_value #request_headers 'a' @out)
           (call $say 'not reached')",
        expect![[r#"
            > request a=text
            critical 2: plugin `p` failed in `proxy_on_request_headers`: wasm `unreachable` instruction executed
            * s wake
            ! trap: plugin `p` failed in `proxy_on_request_headers`: wasm `unreachable` instruction executed
            > tick
            ! trap: plugin `p` failed in `proxy_on_request_headers`: wasm `unreachable` instruction executed
        "#]],
    );
}

// Checks: LD-22
#[test]
fn an_allocator_may_log_and_grow_the_memory() {
    check(
        "no allocator
         module:
           (func (export \"malloc\") (param i32) (result i32)
             (call $say 'allocating')
             (drop (memory.grow #1))
             (i32.sub (i32.mul (memory.size) #0x10000) (local.get 0)))
         on request_headers:
           (got get_header_map_value #request_headers 'a' @out)",
        expect![[r#"
            > request a=text
            2: allocating
            2: get_header_map_value request_headers a -> OK "text"
            = Continue
            = headers a=text
        "#]],
    );
}

// Checks: LD-23
#[test]
fn an_allocator_may_make_no_other_hostcall() {
    check(
        "no allocator
         module:
           (func (export \"malloc\") (param i32) (result i32)
             (is set_tick_period_milliseconds #1)
             #0x900)
         on request_headers:
           (got get_header_map_value #request_headers 'a' @out)",
        expect![[r#"
            > request a=text
            critical 2: plugin `p` failed in `proxy_on_request_headers`: the guest called `proxy_set_tick_period_milliseconds` from its allocator
            * s wake
            ! restricted: plugin `p` failed in `proxy_on_request_headers`: the guest called `proxy_set_tick_period_milliseconds` from its allocator
        "#]],
    );
}

#[test]
fn what_the_allocator_may_not_call_is_free_again_after_it() {
    check(
        "on request_headers:
           (got get_header_map_value #request_headers 'a' @out)
           (is set_tick_period_milliseconds #1)",
        expect![[r#"
            > request a=text
            2: get_header_map_value request_headers a -> OK "text"
            * p tick period Some(1ms)
            2: set_tick_period_milliseconds 1 -> OK
            = Continue
            = headers a=text
        "#]],
    );
}

// Checks: SE-05
#[test]
fn hostile_lists_of_pairs_are_empty_lists() {
    let lists = [
        r"\00",
        r"\ff\ff\ff\ff",
        r"\01\00\00\00",
        r"\01\00\00\00\01\00\00\00\01\00\00\00",
        r"\01\00\00\00\ff\ff\ff\7f\ff\ff\ff\7fab",
        r"\01\00\00\00\01\00\00\00\01\00\00\00a\01b\00",
        r"\01\00\00\00\01\00\00\00\01\00\00\00a\00b\01",
        r"\02\00\00\00\01\00\00\00\01\00\00\00a\00b\00",
        r"\01\00\00\00\01\00\00\00\01\00\00\00a\00b\00c",
    ];
    for list in lists {
        let guest = format!(
            "on request_headers:
               (drop (call $proxy_set_header_map_pairs #request_headers '{list}'))"
        );
        let outcome = outcome(patient(), &guest, "> request a=1");
        assert!(outcome.ends_with("= Continue\n= headers\n"), "{list}: {outcome}");
    }
}
