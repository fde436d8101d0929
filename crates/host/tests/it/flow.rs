//! Actions of callbacks, and what plugins ask for beside them.

use expect_test::expect;

use crate::harness::check;

// Checks: BD-27
#[test]
fn values_of_headers_callbacks_become_actions() {
    check(
        "on request_headers:
           (return (local.get $count))
         on response_headers:
           (return (local.get $count))",
        expect![[r#"
            > request
            = Continue
            = headers
            > request a=1
            = StopAllIterationAndWatermark
            > request a=1 b=1
            = Continue
            = headers a=1 b=1
            > request a=1 b=1 c=1
            = StopAllIterationAndBuffer
            > request a=1 b=1 c=1 d=1
            = StopAllIterationAndWatermark
            > request a=1 b=1 c=1 d=1 e=1
            = StopAllIterationAndWatermark
            > response a=1
            = StopAllIterationAndWatermark
            > stop-iteration
            > request a=1
            = StopIteration
            > request a=1 b=1
            = Continue
            = headers a=1 b=1
            > request a=1 b=1 c=1 d=1
            = StopAllIterationAndWatermark
            > response a=1
            = StopIteration
        "#]],
    );
}

// Checks: BD-26
#[test]
fn values_of_body_callbacks_become_actions() {
    check(
        "on request_body:
           (return (i32.sub (local.get $size) #1))
         on response_body:
           (return #-1)",
        expect![[r#"
            > body 0
            = Continue
            = body "0"
            > body 23
            = StopIterationAndBuffer
            > release request
            = body "23"
            > body 456
            = StopIterationAndWatermark
            = body "456"
            > body 7890
            = StopIterationNoBuffer
            = body "7890"
            > body 12345
            = StopIterationNoBuffer
            = body "12345"
            > response-body a
            = StopIterationNoBuffer
            = body "a"
        "#]],
    );
}

#[test]
fn values_of_trailers_callbacks_become_actions() {
    check(
        "on request_trailers:
           (return (i32.sub (local.get $count) #1))
         on response_trailers:
           (return (i32.sub (local.get $count) #1))",
        expect![[r#"
            > trailers a=1
            = Continue
            = trailers a=1
            > trailers a=1 b=1
            = StopIteration
            > trailers a=1 b=1 c=1
            = StopIteration
            > response-trailers a=1
            = Continue
            = trailers a=1
            > response-trailers a=1 b=1
            = StopIteration
        "#]],
    );
}

#[test]
fn the_end_of_the_stream_is_announced() {
    check(
        "on request_headers:
           (call $number 'end' (local.get $end))
         on request_body:
           (call $number 'end' (local.get $end))
         on response_headers:
           (call $number 'end' (local.get $end))
         on response_body:
           (call $number 'end' (local.get $end))",
        expect![[r#"
            > request a=1
            2: end 0
            = Continue
            = headers a=1
            > body x
            2: end 0
            = Continue
            = body "x"
            > body!
            2: end 1
            = Continue
            = body ""
            > response! a=1
            2: end 1
            = Continue
            = headers a=1
            > response-body x
            2: end 0
            = Continue
            = body "x"
            > response-body! y
            2: end 1
            = Continue
            = body "y"
        "#]],
    );
}

// Checks: BD-20
#[test]
fn a_buffered_body_is_shown_whole_each_time() {
    check(
        "on request_body:
           (call $number 'size' (local.get $size))
           (got get_buffer_bytes #request_body #0 #all @out)
           (return (i32.eqz (local.get $end)))",
        expect![[r#"
            > body abc
            2: size 3
            2: get_buffer_bytes request_body 0 all -> OK "abc"
            = StopIterationAndBuffer
            > body def
            2: size 6
            2: get_buffer_bytes request_body 0 all -> OK "abcdef"
            = StopIterationAndBuffer
            > body! g
            2: size 7
            2: get_buffer_bytes request_body 0 all -> OK "abcdefg"
            = Continue
            = body "abcdefg"
        "#]],
    );
}

#[test]
fn continue_and_close_are_done_after_the_callback() {
    check(
        "on request_headers:
           (is continue_stream #request)
           (call $say 'still here')
           (return #1)
         on response_headers:
           (is continue_stream #response)
           (is close_stream #response)
         on response_body:
           (is close_stream #request)",
        expect![[r#"
            > request a=1
            2: continue_stream request -> OK
            2: still here
            = StopAllIterationAndWatermark
            + continue request
            > actions
            > response a=1
            2: continue_stream response -> OK
            2: close_stream response -> OK
            = Continue
            = headers a=1
            + continue response
            + close
            > response-body x
            2: close_stream request -> OK
            = Continue
            = body "x"
            + close
        "#]],
    );
}

#[test]
fn the_oldest_abi_continues_without_arguments() {
    check(
        "abi 0_1_0
         on request_headers:
           (is clear_route_cache)
           (is continue_request)
         on response_headers:
           (is continue_response)
         on tick:
           (is clear_route_cache)
           (is continue_request)",
        expect![[r#"
            > request a=1
            * s clear route cache
            2: clear_route_cache -> OK
            2: continue_request -> OK
            = Continue
            = headers a=1
            + continue request
            > response a=1
            2: continue_response -> OK
            = Continue
            = headers a=1
            + continue response
            > tick
            1: clear_route_cache -> OK
            1: continue_request -> OK
        "#]],
    );
}

// Checks: BD-38
#[test]
fn streams_of_connections_have_no_effect_and_others_do_not_exist() {
    check(
        "on request_headers:
           (is continue_stream #downstream)
           (is continue_stream #upstream)
           (is continue_stream #4)
           (is close_stream #downstream)
           (is close_stream #upstream)
           (is close_stream #4)",
        expect![[r#"
            > request a=1
            2: continue_stream downstream -> OK
            2: continue_stream upstream -> UNIMPLEMENTED
            2: continue_stream 4 -> BAD_ARGUMENT
            2: close_stream downstream -> OK
            2: close_stream upstream -> OK
            2: close_stream 4 -> BAD_ARGUMENT
            = Continue
            = headers a=1
        "#]],
    );
}

#[test]
fn a_plugin_context_has_no_stream_to_continue_or_close() {
    check(
        "on tick:
           (is continue_stream #request)
           (is close_stream #request)",
        expect![[r#"
            > tick
            1: continue_stream request -> OK
            1: close_stream request -> OK
        "#]],
    );
}

#[test]
fn another_stream_that_is_given_something_to_do_is_woken_once() {
    check(
        "on request_headers:
           (return #1)
         on tick:
           (is set_effective_context #2)
           (is continue_stream #request)
           (is continue_stream #request)
           (is set_effective_context #3)
           (is close_stream #request)",
        expect![[r#"
            > request a=1
            = StopAllIterationAndWatermark
            > stream other
            > request a=1
            = StopAllIterationAndWatermark
            > tick
            1: set_effective_context 2 -> OK
            1: continue_stream request -> OK
            1: continue_stream request -> OK
            1: set_effective_context 3 -> OK
            1: close_stream request -> OK
            * s wake
            * other wake
            > actions
            + close
            > stream s
            > actions
            + continue request
            > actions
        "#]],
    );
}

// Checks: BD-32
#[test]
fn a_body_callback_changes_headers_that_wait_for_it() {
    check(
        "on request_headers:
           (return #1)
         on request_body:
           (if (i32.eqz (local.get $end)) (then (return #1)))
           (is replace_header_map_value #request_headers ':path' '/by-body')",
        expect![[r#"
            > stop-iteration
            > request :path=/
            = StopIteration
            > body one
            = StopIterationAndBuffer
            > body! two
            * s clear route cache
            2: replace_header_map_value request_headers :path /by-body -> OK
            = Continue
            = body "onetwo"
            > release request
            = headers :path=/by-body
        "#]],
    );
}

// Checks: BD-33
#[test]
fn headers_without_a_body_wait_to_be_continued() {
    check(
        "on request_headers:
           (return #1)
         on tick:
           (is set_effective_context #2)
           (is continue_stream #request)",
        expect![[r#"
            > stop-iteration
            > request! :path=/
            = StopIteration
            > actions
            > tick
            1: set_effective_context 2 -> OK
            1: continue_stream request -> OK
            * s wake
            > actions
            + continue request
            > release request
            = headers :path=/
        "#]],
    );
}
