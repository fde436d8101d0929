//! Header maps: when each of them can be read and written. Source: Envoy.

use expect_test::expect;

use crate::harness::check;

/// Tries to read and to write every map of the stream.
const PROBE: &str = "
    module:
      (func $probe
        (got get_header_map_value #request_headers 'a' @out)
        (is add_header_map_value #request_headers 'w' '1')
        (got get_header_map_value #request_trailers 'a' @out)
        (is add_header_map_value #request_trailers 'w' '1')
        (got get_header_map_value #response_headers 'a' @out)
        (is add_header_map_value #response_headers 'w' '1')
        (got get_header_map_value #response_trailers 'a' @out)
        (is add_header_map_value #response_trailers 'w' '1'))
    ";

fn probe_in(callbacks: &[&str], session: expect_test::Expect) {
    let callbacks = callbacks.iter().map(|name| format!("on {name}:\n (call $probe)\n"));
    check(&(callbacks.collect::<String>() + PROBE), session);
}

// Checks: HD-37, HD-41
#[test]
fn request_callbacks_see_their_own_map_alone() {
    probe_in(
        &["request_headers", "request_body", "request_trailers"],
        expect![[r#"
            > request a=1
            2: get_header_map_value request_headers a -> OK "1"
            * s clear route cache
            2: add_header_map_value request_headers w 1 -> OK
            2: get_header_map_value request_trailers a -> BAD_ARGUMENT
            2: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_headers a -> BAD_ARGUMENT
            2: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_trailers a -> BAD_ARGUMENT
            2: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
            = Continue
            = headers a=1 w=1
            > body x
            2: get_header_map_value request_headers a -> BAD_ARGUMENT
            2: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_trailers a -> BAD_ARGUMENT
            2: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_headers a -> BAD_ARGUMENT
            2: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_trailers a -> BAD_ARGUMENT
            2: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
            = Continue
            = body "x"
            > trailers a=1
            2: get_header_map_value request_headers a -> BAD_ARGUMENT
            2: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_trailers a -> OK "1"
            2: add_header_map_value request_trailers w 1 -> OK
            2: get_header_map_value response_headers a -> BAD_ARGUMENT
            2: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_trailers a -> BAD_ARGUMENT
            2: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
            = Continue
            = trailers a=1 w=1
        "#]],
    );
}

// Checks: HD-36
#[test]
fn response_callbacks_see_their_own_map_alone() {
    probe_in(
        &["response_headers", "response_body", "response_trailers"],
        expect![[r#"
            > request a=1
            = Continue
            = headers a=1
            > response a=1
            2: get_header_map_value request_headers a -> BAD_ARGUMENT
            2: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_trailers a -> BAD_ARGUMENT
            2: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_headers a -> OK "1"
            2: add_header_map_value response_headers w 1 -> OK
            2: get_header_map_value response_trailers a -> BAD_ARGUMENT
            2: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
            = Continue
            = headers a=1 w=1
            > response-body x
            2: get_header_map_value request_headers a -> BAD_ARGUMENT
            2: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_trailers a -> BAD_ARGUMENT
            2: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_headers a -> BAD_ARGUMENT
            2: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_trailers a -> BAD_ARGUMENT
            2: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
            = Continue
            = body "x"
            > response-trailers a=1
            2: get_header_map_value request_headers a -> BAD_ARGUMENT
            2: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_trailers a -> BAD_ARGUMENT
            2: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_headers a -> BAD_ARGUMENT
            2: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_trailers a -> OK "1"
            2: add_header_map_value response_trailers w 1 -> OK
            = Continue
            = trailers a=1 w=1
        "#]],
    );
}

// Checks: HD-39, HD-40
#[test]
fn log_reads_what_is_left_and_writes_nothing() {
    probe_in(
        &["log"],
        expect![[r#"
            > request a=1
            = Continue
            = headers a=1
            > log a=1 | a=2 | a=3
            2: get_header_map_value request_headers a -> OK "1"
            2: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_trailers a -> NOT_FOUND
            2: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_headers a -> OK "2"
            2: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_trailers a -> OK "3"
            2: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
            = request a=1
            = response a=2
            = trailers a=3
            > stream other
            > request a=1
            = Continue
            = headers a=1
            > log b=1
            3: get_header_map_value request_headers a -> NOT_FOUND
            3: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            3: get_header_map_value request_trailers a -> NOT_FOUND
            3: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            3: get_header_map_value response_headers a -> NOT_FOUND
            3: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            3: get_header_map_value response_trailers a -> NOT_FOUND
            3: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
            = request b=1
        "#]],
    );
}

#[test]
fn done_and_delete_see_no_map() {
    probe_in(
        &["done", "delete"],
        expect![[r#"
            > request a=1
            = Continue
            = headers a=1
            > log a=1 | a=2 | a=3
            = request a=1
            = response a=2
            = trailers a=3
            > finish
            2: get_header_map_value request_headers a -> BAD_ARGUMENT
            2: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_trailers a -> BAD_ARGUMENT
            2: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_headers a -> BAD_ARGUMENT
            2: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_trailers a -> BAD_ARGUMENT
            2: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_headers a -> BAD_ARGUMENT
            2: add_header_map_value request_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value request_trailers a -> BAD_ARGUMENT
            2: add_header_map_value request_trailers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_headers a -> BAD_ARGUMENT
            2: add_header_map_value response_headers w 1 -> BAD_ARGUMENT
            2: get_header_map_value response_trailers a -> BAD_ARGUMENT
            2: add_header_map_value response_trailers w 1 -> BAD_ARGUMENT
        "#]],
    );
}

// Checks: HD-39, HD-41
#[test]
fn unavailable_maps_have_no_pairs_and_no_size() {
    check(
        "on request_headers:
           (got get_header_map_pairs #response_headers @out)
           (num get_header_map_size #response_headers @num)
           (is set_header_map_pairs #response_headers '')
           (is remove_header_map_value #response_headers 'a')
           (is replace_header_map_value #response_headers 'a' 'b')
         on log:
           (got get_header_map_pairs #request_headers @out)
           (num get_header_map_size #request_headers @num)
           (is set_header_map_pairs #request_headers '')
           (got get_header_map_pairs #response_headers @out)",
        expect![[r#"
            > request a=1
            2: get_header_map_pairs response_headers -> OK empty
            2: get_header_map_size response_headers -> BAD_ARGUMENT
            2: set_header_map_pairs response_headers -> BAD_ARGUMENT
            2: remove_header_map_value response_headers a -> BAD_ARGUMENT
            2: replace_header_map_value response_headers a b -> BAD_ARGUMENT
            = Continue
            = headers a=1
            > log a=1
            2: get_header_map_pairs request_headers -> OK "\01\00\00\00\01\00\00\00\01\00\00\00a\001\00"
            2: get_header_map_size request_headers -> BAD_ARGUMENT
            2: set_header_map_pairs request_headers -> BAD_ARGUMENT
            2: get_header_map_pairs response_headers -> OK empty
            = request a=1
        "#]],
    );
}

// Checks: HD-43
#[test]
fn maps_of_calls_and_grpc_are_not_those_of_a_stream() {
    check(
        "on request_headers:
           (got get_header_map_value #call_headers 'a' @out)
           (got get_header_map_pairs #call_trailers @out)
           (num get_header_map_size #call_headers @num)
           (is add_header_map_value #call_headers 'a' 'b')
           (got get_header_map_value #grpc_initial_metadata 'a' @out)
           (got get_header_map_pairs #grpc_trailing_metadata @out)
           (is set_header_map_pairs #grpc_trailing_metadata '')",
        expect![[r#"
            > request a=1
            2: get_header_map_value call_headers a -> BAD_ARGUMENT
            2: get_header_map_pairs call_trailers -> OK empty
            2: get_header_map_size call_headers -> BAD_ARGUMENT
            2: add_header_map_value call_headers a b -> BAD_ARGUMENT
            2: get_header_map_value grpc_initial_metadata a -> BAD_ARGUMENT
            2: get_header_map_pairs grpc_trailing_metadata -> OK empty
            2: set_header_map_pairs grpc_trailing_metadata -> BAD_ARGUMENT
            = Continue
            = headers a=1
        "#]],
    );
}

#[test]
fn plugin_callbacks_see_no_map_of_a_stream() {
    check(
        "on configure:
           (got get_header_map_value #request_headers 'a' @out)
           (got get_header_map_pairs #request_headers @out)
           (is add_header_map_value #request_headers 'a' 'b')
           (num get_header_map_size #request_headers @num)
         on tick:
           (got get_header_map_value #request_headers 'a' @out)",
        expect![[r#"
            1: get_header_map_value request_headers a -> BAD_ARGUMENT
            1: get_header_map_pairs request_headers -> OK empty
            1: add_header_map_value request_headers a b -> BAD_ARGUMENT
            1: get_header_map_size request_headers -> BAD_ARGUMENT
            > tick
            1: get_header_map_value request_headers a -> BAD_ARGUMENT
        "#]],
    );
}

// Checks: HD-38, BD-31
#[test]
fn held_headers_stay_open_to_later_callbacks_and_to_other_contexts() {
    check(
        "on request_headers:
           (return #1)
         on request_body:
           (is add_header_map_value #request_headers 'from' 'body')
         on tick:
           (is set_effective_context #2)
           (is add_header_map_value #request_headers 'from' 'tick')
           (got get_header_map_value #request_headers 'a' @out)",
        expect![[r#"
            > stop-iteration
            > request a=1
            = StopIteration
            > tick
            1: set_effective_context 2 -> OK
            * s clear route cache
            1: add_header_map_value request_headers from tick -> OK
            1: get_header_map_value request_headers a -> OK "1"
            > body x
            * s clear route cache
            2: add_header_map_value request_headers from body -> OK
            = Continue
            = body "x"
            > release request
            = headers a=1 from=tick from=body
            > tick
            1: set_effective_context 2 -> OK
            1: add_header_map_value request_headers from tick -> BAD_ARGUMENT
            1: get_header_map_value request_headers a -> BAD_ARGUMENT
        "#]],
    );
}

// Checks: SE-02
#[test]
fn the_effective_context_must_exist_and_ends_with_the_callback() {
    check(
        "on request_headers:
           (return #1)
         on request_body:
           (is add_header_map_value #request_headers 'own' 'body')
         on tick:
           (is add_header_map_value #request_headers 'from' 'the tick before')
           (is set_effective_context #99)
           (is set_effective_context #2)
           (is set_effective_context #0)
           (is add_header_map_value #request_headers 'from' 'tick')
           (is set_effective_context #2)",
        expect![[r#"
            > request a=1
            = StopAllIterationAndWatermark
            > tick
            1: add_header_map_value request_headers from the tick before -> BAD_ARGUMENT
            1: set_effective_context 99 -> BAD_ARGUMENT
            1: set_effective_context 2 -> OK
            1: set_effective_context 0 -> OK
            1: add_header_map_value request_headers from tick -> BAD_ARGUMENT
            1: set_effective_context 2 -> OK
            > tick
            1: add_header_map_value request_headers from the tick before -> BAD_ARGUMENT
            1: set_effective_context 99 -> BAD_ARGUMENT
            1: set_effective_context 2 -> OK
            1: set_effective_context 0 -> OK
            1: add_header_map_value request_headers from tick -> BAD_ARGUMENT
            1: set_effective_context 2 -> OK
            > body x
            * s clear route cache
            2: add_header_map_value request_headers own body -> OK
            = Continue
            = body "x"
            > release request
            = headers a=1 own=body
            > finish
            > tick
            1: add_header_map_value request_headers from the tick before -> BAD_ARGUMENT
            1: set_effective_context 99 -> BAD_ARGUMENT
            1: set_effective_context 2 -> BAD_ARGUMENT
            1: set_effective_context 0 -> OK
            1: add_header_map_value request_headers from tick -> BAD_ARGUMENT
            1: set_effective_context 2 -> BAD_ARGUMENT
        "#]],
    );
}

#[test]
fn continue_hides_the_request_for_the_rest_of_the_callback() {
    check(
        "on request_headers:
           (is continue_stream #request)
           (got get_header_map_value #request_headers 'a' @out)
           (is add_header_map_value #request_headers 'a' '2')
           (got get_property 'request\\00path' @out)
           (return #1)
         on request_body:
           (is continue_stream #response)
           (num get_buffer_status #request_body @num #0x800)
           (is set_buffer_bytes #request_body #0 #0 'x')",
        expect![[r#"
            > request a=1 :path=/
            2: continue_stream request -> OK
            2: get_header_map_value request_headers a -> BAD_ARGUMENT
            2: add_header_map_value request_headers a 2 -> BAD_ARGUMENT
            2: get_property request\00path -> NOT_FOUND
            = StopAllIterationAndWatermark
            + continue request
            > release request
            = headers :path=/ a=1
            > body abc
            2: continue_stream response -> OK
            2: get_buffer_status request_body 0x800 -> OK 0
            2: set_buffer_bytes request_body 0 0 x -> BAD_ARGUMENT
            = Continue
            = body "abc"
            + continue response
        "#]],
    );
}

// Checks: HD-50
#[test]
fn trailers_are_created_at_the_end_of_a_body() {
    check(
        "on request_body:
           (is add_header_map_value #request_trailers 'a' 'b')
         on response_body:
           (num get_header_map_size #response_trailers @num)",
        expect![[r#"
            > body not yet
            2: add_header_map_value request_trailers a b -> BAD_ARGUMENT
            = Continue
            = body "not yet"
            > body! last
            2: add_header_map_value request_trailers a b -> OK
            = Continue
            = body "last"
            = trailers a=b
            > response-body not yet
            2: get_header_map_size response_trailers -> BAD_ARGUMENT
            = Continue
            = body "not yet"
            > response-body! last
            2: get_header_map_size response_trailers -> OK 0
            = Continue
            = body "last"
            = trailers
        "#]],
    );
}

#[test]
fn trailers_are_created_in_the_callback_alone() {
    check(
        "on request_body:
           (return #1)
         on response_body:
           (return #1)
         on tick:
           (is set_effective_context #2)
           (is add_header_map_value #request_trailers 'a' 'b')
           (is add_header_map_value #response_trailers 'a' 'b')",
        expect![[r#"
            > body! held
            = StopIterationAndBuffer
            > response-body! held
            = StopIterationAndBuffer
            > tick
            1: set_effective_context 2 -> OK
            1: add_header_map_value request_trailers a b -> BAD_ARGUMENT
            1: add_header_map_value response_trailers a b -> BAD_ARGUMENT
        "#]],
    );
}

#[test]
fn reading_a_value_or_the_pairs_creates_no_trailers() {
    check(
        "on request_body:
           (got get_header_map_value #request_trailers 'a' @out)
           (got get_header_map_pairs #request_trailers @out)",
        expect![[r#"
            > body! last
            2: get_header_map_value request_trailers a -> BAD_ARGUMENT
            2: get_header_map_pairs request_trailers -> OK empty
            = Continue
            = body "last"
        "#]],
    );
}

// Checks: HC-01, HC-03, HC-04
#[test]
fn a_call_answer_can_be_read_while_its_callback_runs() {
    check(
        "on http_call_response:
           (call $number 'context' (local.get $context))
           (call $number 'token' (local.get $token))
           (call $number 'headers' (local.get $headers))
           (call $number 'bytes' (local.get $size))
           (call $number 'trailers' (local.get $trailers))
           (got get_header_map_value #call_headers ':status' @out)
           (got get_header_map_pairs #call_trailers @out)
           (got get_buffer_bytes #call_body #0 #all @out)
           (is add_header_map_value #call_headers 'a' 'b')
           (num get_header_map_size #call_headers @num)
           (is set_buffer_bytes #call_body #0 #0 'x')
         on tick:
           (got get_header_map_value #call_headers ':status' @out)
           (got get_buffer_bytes #call_body #0 #all @out)
           (num get_buffer_status #call_body @num #0x800)
           (is set_buffer_bytes #call_body #0 #0 'x')",
        expect![[r#"
            > answer 4 :status=200 a=b | hello | t=1
            1: context 1
            1: token 4
            1: headers 2
            1: bytes 5
            1: trailers 1
            1: get_header_map_value call_headers :status -> OK "200"
            1: get_header_map_pairs call_trailers -> OK "\01\00\00\00\01\00\00\00\01\00\00\00t\001\00"
            1: get_buffer_bytes call_body 0 all -> OK "hello"
            1: add_header_map_value call_headers a b -> BAD_ARGUMENT
            1: get_header_map_size call_headers -> BAD_ARGUMENT
            1: set_buffer_bytes call_body 0 0 x -> BAD_ARGUMENT
            > tick
            1: get_header_map_value call_headers :status -> BAD_ARGUMENT
            1: get_buffer_bytes call_body 0 all -> NOT_FOUND
            1: get_buffer_status call_body 0x800 -> NOT_FOUND
            1: set_buffer_bytes call_body 0 0 x -> NOT_FOUND
        "#]],
    );
}

// Checks: HD-36, HD-37
#[test]
fn headers_that_went_on_have_no_pairs() {
    check(
        "on request_headers:
           (got get_header_map_pairs #request_headers @out)
         on request_body:
           (got get_header_map_pairs #request_headers @out)
         on response_headers:
           (got get_header_map_pairs #request_headers @out)",
        expect![[r#"
            > request a=1
            2: get_header_map_pairs request_headers -> OK "\01\00\00\00\01\00\00\00\01\00\00\00a\001\00"
            = Continue
            = headers a=1
            > body x
            2: get_header_map_pairs request_headers -> OK empty
            = Continue
            = body "x"
            > response b=1
            2: get_header_map_pairs request_headers -> OK empty
            = Continue
            = headers b=1
        "#]],
    );
}
