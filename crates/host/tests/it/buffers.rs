//! Buffers: ranges, phases and changes. Source: Proxy-Wasm 0.2.1, "Buffers", as Envoy reads it.

use expect_test::expect;

use crate::harness::{check, check_with, patient};
use wasmplug_host::Limits;

// Checks: BD-05, BD-06, BD-07, BD-08
#[test]
fn ranges_are_clamped_to_what_is_there() {
    check(
        "on request_body:
           (got get_buffer_bytes #request_body #0 #all @out)
           (got get_buffer_bytes #request_body #3 #all @out)
           (got get_buffer_bytes #request_body #1 #2 @out)
           (got get_buffer_bytes #request_body #10 #1 @out)
           (got get_buffer_bytes #request_body #11 #1 @out)
           (got get_buffer_bytes #request_body #all #all @out)
           (got get_buffer_bytes #request_body #0 #0 @out)",
        expect![[r#"
            > body 0123456789
            2: get_buffer_bytes request_body 0 all -> OK "0123456789"
            2: get_buffer_bytes request_body 3 all -> OK "3456789"
            2: get_buffer_bytes request_body 1 2 -> OK "12"
            2: get_buffer_bytes request_body 10 1 -> OK empty
            2: get_buffer_bytes request_body 11 1 -> OK empty
            2: get_buffer_bytes request_body all all -> OK empty
            2: get_buffer_bytes request_body 0 0 -> OK empty
            = Continue
            = body "0123456789"
        "#]],
    );
}

#[test]
fn ranges_cross_the_chunks_of_a_held_body() {
    check(
        "on response_body:
           (got get_buffer_bytes #response_body #1 #4 @out)
           (return #1)",
        expect![[r#"
            > response-body abc
            2: get_buffer_bytes response_body 1 4 -> OK "bc"
            = StopIterationAndBuffer
            > response-body def
            2: get_buffer_bytes response_body 1 4 -> OK "bcde"
            = StopIterationAndBuffer
            > response-body!
            2: get_buffer_bytes response_body 1 4 -> OK "bcde"
            = StopIterationAndBuffer
            > release response
            = body "abcdef"
        "#]],
    );
}

// Checks: BD-09, BD-11, BD-13
#[test]
fn a_start_of_zero_prepends_cuts_or_replaces() {
    check(
        "on request_body:
           (is set_buffer_bytes #request_body #0 #0 '>')
         on response_body:
           (is set_buffer_bytes #response_body #0 #2 '-')
         on request_headers:
           (return #1)
         on response_headers:
           (return #1)",
        expect![[r#"
            > body abc
            2: set_buffer_bytes request_body 0 0 > -> OK
            = Continue
            = body ">abc" (modified)
            > response-body abc
            2: set_buffer_bytes response_body 0 2 - -> OK
            = Continue
            = body "-c" (modified)
            > response-body ab
            2: set_buffer_bytes response_body 0 2 - -> OK
            = Continue
            = body "-" (modified)
            > response-body a
            2: set_buffer_bytes response_body 0 2 - -> OK
            = Continue
            = body "-" (modified)
        "#]],
    );
}

// Checks: BD-10
#[test]
fn a_start_at_the_end_or_beyond_appends() {
    check(
        "on request_body:
           (is set_buffer_bytes #request_body (local.get $size) #0 '<')
           (is set_buffer_bytes #request_body #99 #7 '<')",
        expect![[r#"
            > body abc
            2: set_buffer_bytes request_body (local.get $size) 0 < -> OK
            2: set_buffer_bytes request_body 99 7 < -> OK
            = Continue
            = body "abc<<" (modified)
            > body!
            2: set_buffer_bytes request_body (local.get $size) 0 < -> OK
            2: set_buffer_bytes request_body 99 7 < -> OK
            = Continue
            = body "<<" (modified)
        "#]],
    );
}

// Checks: BD-12
#[test]
fn a_body_can_be_cleared_and_refilled() {
    check(
        "on request_body:
           (is set_buffer_bytes #request_body #0 #all '')
           (num get_buffer_status #request_body @num #0x800)
           (is set_buffer_bytes #request_body #0 #0 'new')
           (got get_buffer_bytes #request_body #0 #all @out)",
        expect![[r#"
            > body abc
            2: set_buffer_bytes request_body 0 all -> OK
            2: get_buffer_status request_body 0x800 -> OK 0
            2: set_buffer_bytes request_body 0 0 new -> OK
            2: get_buffer_bytes request_body 0 all -> OK "new"
            = Continue
            = body "new" (modified)
        "#]],
    );
}

// Checks: BD-14
#[test]
fn a_start_inside_the_data_is_a_bad_argument() {
    check(
        "on request_body:
           (is set_buffer_bytes #request_body #1 #0 'x')
           (is set_buffer_bytes #request_body #2 #all '')",
        expect![[r#"
            > body abc
            2: set_buffer_bytes request_body 1 0 x -> BAD_ARGUMENT
            2: set_buffer_bytes request_body 2 all -> BAD_ARGUMENT
            = Continue
            = body "abc"
        "#]],
    );
}

#[test]
fn a_body_that_was_only_read_is_not_modified() {
    check(
        "on request_body:
           (got get_buffer_bytes #request_body #0 #all @out)",
        expect![[r#"
            > body abc
            2: get_buffer_bytes request_body 0 all -> OK "abc"
            = Continue
            = body "abc"
        "#]],
    );
}

// Checks: BD-16, BD-17
#[test]
fn bodies_are_empty_and_fixed_outside_their_callbacks() {
    check(
        "module:
           (func $probe
             (got get_buffer_bytes #request_body #0 #all @out)
             (num get_buffer_status #response_body @num #0x800)
             (is set_buffer_bytes #request_body #0 #0 'x')
             (is set_buffer_bytes #response_body #0 #0 'x'))
         on request_headers:
           (call $probe)
         on response_body:
           (got get_buffer_bytes #request_body #0 #all @out)
           (is set_buffer_bytes #request_body #0 #0 'x')
         on log:
           (call $probe)
         on tick:
           (call $probe)",
        expect![[r#"
            > request a=1
            2: get_buffer_bytes request_body 0 all -> OK empty
            2: get_buffer_status response_body 0x800 -> OK 0
            2: set_buffer_bytes request_body 0 0 x -> BAD_ARGUMENT
            2: set_buffer_bytes response_body 0 0 x -> BAD_ARGUMENT
            = Continue
            = headers a=1
            > body abc
            = Continue
            = body "abc"
            > response-body def
            2: get_buffer_bytes request_body 0 all -> OK empty
            2: set_buffer_bytes request_body 0 0 x -> BAD_ARGUMENT
            = Continue
            = body "def"
            > log
            2: get_buffer_bytes request_body 0 all -> OK empty
            2: get_buffer_status response_body 0x800 -> OK 0
            2: set_buffer_bytes request_body 0 0 x -> BAD_ARGUMENT
            2: set_buffer_bytes response_body 0 0 x -> BAD_ARGUMENT
            > tick
            1: get_buffer_bytes request_body 0 all -> OK empty
            1: get_buffer_status response_body 0x800 -> OK 0
            1: set_buffer_bytes request_body 0 0 x -> BAD_ARGUMENT
            1: set_buffer_bytes response_body 0 0 x -> BAD_ARGUMENT
        "#]],
    );
}

#[test]
fn a_held_body_can_be_changed_through_the_effective_context() {
    check(
        "on request_body:
           (return #1)
         on tick:
           (is set_effective_context #2)
           (got get_buffer_bytes #request_body #0 #all @out)
           (is set_buffer_bytes #request_body #0 #all 'x')",
        expect![[r#"
            > body abc
            = StopIterationAndBuffer
            > tick
            1: set_effective_context 2 -> OK
            1: get_buffer_bytes request_body 0 all -> OK "abc"
            1: set_buffer_bytes request_body 0 all x -> OK
            > release request
            = body "x" (modified)
            > tick
            1: set_effective_context 2 -> OK
            1: get_buffer_bytes request_body 0 all -> OK empty
            1: set_buffer_bytes request_body 0 all x -> BAD_ARGUMENT
        "#]],
    );
}

// Checks: BD-19
#[test]
fn every_buffer_has_a_length_and_no_flags() {
    check(
        "on request_body:
           (i32.store #0x800 #-1)
           (num get_buffer_status #request_body @num #0x800)
           (call $number 'flags' (i32.load #0x800))
           (num get_buffer_status #response_body @num #0x800)
           (num get_buffer_status #downstream_data @num #0x800)
           (num get_buffer_status #upstream_data @num #0x800)
           (num get_buffer_status #call_body @num #0x800)
           (num get_buffer_status #grpc_message @num #0x800)
           (num get_buffer_status #vm_configuration @num #0x800)
           (num get_buffer_status #plugin_configuration @num #0x800)
           (num get_buffer_status #call_data @num #0x800)",
        expect![[r#"
            > start vm_config=vm
            > body abc
            2: get_buffer_status request_body 0x800 -> OK 3
            2: flags 0
            2: get_buffer_status response_body 0x800 -> OK 0
            2: get_buffer_status downstream_data 0x800 -> OK 0
            2: get_buffer_status upstream_data 0x800 -> OK 0
            2: get_buffer_status call_body 0x800 -> NOT_FOUND
            2: get_buffer_status grpc_message 0x800 -> OK 0
            2: get_buffer_status vm_configuration 0x800 -> OK 2
            2: get_buffer_status plugin_configuration 0x800 -> NOT_FOUND
            2: get_buffer_status call_data 0x800 -> OK 0
            = Continue
            = body "abc"
        "#]],
    );
}

// Checks: BD-15
#[test]
fn only_bodies_can_be_written() {
    check(
        "on request_body:
           (is set_buffer_bytes #downstream_data #0 #0 'x')
           (is set_buffer_bytes #upstream_data #0 #0 'x')
           (is set_buffer_bytes #call_body #0 #0 'x')
           (is set_buffer_bytes #grpc_message #0 #0 'x')
           (is set_buffer_bytes #vm_configuration #0 #0 'x')
           (is set_buffer_bytes #plugin_configuration #0 #0 'x')
           (is set_buffer_bytes #call_data #0 #0 'x')",
        expect![[r#"
            > body abc
            2: set_buffer_bytes downstream_data 0 0 x -> BAD_ARGUMENT
            2: set_buffer_bytes upstream_data 0 0 x -> BAD_ARGUMENT
            2: set_buffer_bytes call_body 0 0 x -> NOT_FOUND
            2: set_buffer_bytes grpc_message 0 0 x -> BAD_ARGUMENT
            2: set_buffer_bytes vm_configuration 0 0 x -> BAD_ARGUMENT
            2: set_buffer_bytes plugin_configuration 0 0 x -> NOT_FOUND
            2: set_buffer_bytes call_data 0 0 x -> BAD_ARGUMENT
            = Continue
            = body "abc"
        "#]],
    );
}

// Checks: BD-18
#[test]
fn buffers_without_a_number_are_bad_arguments() {
    check(
        "on request_body:
           (got get_buffer_bytes #9 #0 #all @out)
           (num get_buffer_status #9 @num #0x800)
           (is set_buffer_bytes #-1 #0 #0 'x')",
        expect![[r#"
            > body abc
            2: get_buffer_bytes 9 0 all -> BAD_ARGUMENT
            2: get_buffer_status 9 0x800 -> BAD_ARGUMENT
            2: set_buffer_bytes -1 0 0 x -> BAD_ARGUMENT
            = Continue
            = body "abc"
        "#]],
    );
}

#[test]
fn pointers_outside_the_memory_are_invalid_and_change_nothing() {
    check(
        "on request_body:
           (got get_buffer_bytes #request_body #0 #all #bad #0x104)
           (got get_buffer_bytes #request_body #0 #all #0x100 #bad)
           (num get_buffer_status #request_body #bad #0x800)
           (num get_buffer_status #request_body #0x108 #bad)
           (is set_buffer_bytes #request_body #0 #0 #bad #1)
           (is set_buffer_bytes #request_body #0 #0 #0x100 #all)",
        expect![[r#"
            > body abc
            2: get_buffer_bytes request_body 0 all bad 0x104 -> INVALID_MEMORY_ACCESS
            2: get_buffer_bytes request_body 0 all 0x100 bad -> INVALID_MEMORY_ACCESS
            2: get_buffer_status request_body bad 0x800 -> INVALID_MEMORY_ACCESS
            2: get_buffer_status request_body 0x108 bad -> INVALID_MEMORY_ACCESS touched
            2: set_buffer_bytes request_body 0 0 bad 1 -> INVALID_MEMORY_ACCESS
            2: set_buffer_bytes request_body 0 0 0x100 all -> INVALID_MEMORY_ACCESS
            = Continue
            = body "abc"
        "#]],
    );
}

#[test]
fn a_body_cannot_grow_beyond_the_memory_of_a_vm() {
    let limits = Limits { memory_bytes: 4 << 16, ..patient() };
    check_with(
        limits,
        "on request_body:
           (is set_buffer_bytes #request_body #99 #0 #0 #0x30000)
           (is set_buffer_bytes #request_body #0x40000 #0 #0 #0x10000)
           (is set_buffer_bytes #request_body #0x40000 #0 #0 #0xfffd)
           (num get_buffer_status #request_body @num #0x800)
           (is set_buffer_bytes #request_body #0 #all 'x')",
        expect![[r#"
            > body abc
            2: set_buffer_bytes request_body 99 0 0 0x30000 -> OK
            2: set_buffer_bytes request_body 0x40000 0 0 0x10000 -> INTERNAL_FAILURE
            2: set_buffer_bytes request_body 0x40000 0 0 0xfffd -> OK
            2: get_buffer_status request_body 0x800 -> OK 262144
            2: set_buffer_bytes request_body 0 all x -> OK
            = Continue
            = body "x" (modified)
        "#]],
    );
}
