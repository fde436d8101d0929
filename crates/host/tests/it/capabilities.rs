//! Plugins that may use a part of the interface. Source: Envoy's capability restriction.

use expect_test::expect;

use crate::harness::check;

/// Tells the status of a call through a property, for those that may not log.
const TELL: &str = "module:
   (func $tell (param $status i32)
     (call $name (local.get $status))
     (drop (call $proxy_set_property 'status' #0x1000 (i32.sub (global.get $at) #0x1000)))
     (global.set $at #0x1000))";

// Checks: CP-01
#[test]
fn a_hostcall_that_is_not_in_the_list_fails_and_is_told() {
    check(
        &format!(
            "{TELL}
             on request_headers:
               (call $tell (call $proxy_log #2 'hello'))
               (call $tell (call $proxy_set_property 'other' 'allowed'))"
        ),
        expect![[r#"
            > start allow=proxy_on_request_headers,proxy_set_property
            > request a=1
            error 2: a call of `proxy_log` is denied: it is no allowed capability
            * s set property status = INTERNAL_FAILURE
            * s set property other = allowed
            * s set property status = OK
            = Continue
            = headers a=1
            > start plugin=free allow=proxy_on_request_headers,proxy_set_property,proxy_log
            > stream free
            > request a=1
            free/2: hello
            * free set property status = OK
            * free set property other = allowed
            * free set property status = OK
            = Continue
            = headers a=1
        "#]],
    );
}

// Checks: CP-02
#[test]
fn a_wasi_function_that_is_not_in_the_list_is_not_capable() {
    check(
        "module:
           (import \"wasi_snapshot_preview1\" \"random_get\" (func $random (param i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"sched_yield\" (func $yield (result i32)))
         on tick:
           (call $number 'random_get' (call $random #0x800 #8))
           (call $number 'sched_yield' (call $yield))",
        expect![[r#"
            > start allow=proxy_on_tick,proxy_log,sched_yield
            > tick
            error 1: a call of `random_get` is denied: it is no allowed capability
            1: random_get 76
            1: sched_yield 0
            > start plugin=free allow=proxy_on_tick,proxy_log,sched_yield,random_get
            > tick
            free/1: random_get 0
            free/1: sched_yield 0
        "#]],
    );
}

// Checks: CP-03
#[test]
fn a_callback_that_is_not_in_the_list_is_not_called() {
    check(
        "on context_create:
           (call $say 'context_create')
         on configure:
           (call $say 'configure')
           (return #0)
         on request_headers:
           (call $say 'request_headers')
           (return #1)
         on tick:
           (call $say 'tick')",
        expect![[r#"
            > start allow=proxy_log,proxy_on_tick
            > request a=1
            = Continue
            = headers a=1
            > tick
            1: tick
        "#]],
    );
}

// Checks: CP-04
#[test]
fn an_empty_list_allows_everything() {
    check(
        "on tick:
           (is log #2 'hello')
           (got get_property 'plugin_name' @out)",
        expect![[r#"
            > start allow=
            > tick
            1: hello
            1: log 2 hello -> OK
            1: get_property plugin_name -> OK "p"
        "#]],
    );
}

// Checks: CP-05
#[test]
fn allocator_and_start_code_need_not_be_listed() {
    check(
        "no allocator
         module:
           (func (export \"malloc\") (param i32) (result i32)
             (call $say 'malloc')
             (call $bump (local.get 0)))
         on _initialize:
           (call $say 'initialize')
         on tick:
           (got get_property 'plugin_name' @out)",
        expect![[r#"
            > start allow=proxy_log,proxy_on_tick,proxy_get_property
            0: initialize
            > tick
            1: malloc
            1: get_property plugin_name -> OK "p"
        "#]],
    );
}
