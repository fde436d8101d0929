//! Answers that plugins give themselves.

use expect_test::expect;

use crate::harness::check;

// Checks: LR-09
#[test]
fn a_reply_stops_every_callback_whatever_it_returns() {
    check(
        "module:
           (func $reply (drop (call $proxy_send_local_response #403 '' '' '' #-1)))
         on request_headers:
           (call $reply)
         on request_body:
           (call $reply)
         on request_trailers:
           (call $reply)
         on response_headers:
           (call $reply)
         on response_body:
           (call $reply)
         on response_trailers:
           (call $reply)",
        expect![[r#"
            > request a=1
            = StopAllIterationAndWatermark
            + local reply 403 details "" body "" grpc -1 headers
            > body x
            = StopIterationNoBuffer
            = body "x"
            + local reply 403 details "" body "" grpc -1 headers
            > trailers a=1
            = StopIteration
            + local reply 403 details "" body "" grpc -1 headers
            > response a=1
            = StopAllIterationAndWatermark
            + local reply 403 details "" body "" grpc -1 headers
            > response-body x
            = StopIterationNoBuffer
            = body "x"
            + local reply 403 details "" body "" grpc -1 headers
            > response-trailers a=1
            = StopIteration
            + local reply 403 details "" body "" grpc -1 headers
        "#]],
    );
}

// Checks: LR-07
#[test]
fn a_reply_has_details_body_headers_and_a_grpc_status() {
    check(
        r"on request_headers:
           (is send_local_response #403 'why so?\0a' 'no\00' 
             '\02\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00a\001\00a\002\00' #7)
           (call $say 'goes on')",
        expect![[r#"
            > request a=1
            2: send_local_response 403 why so?\0a no\00 \02\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00\01\00\00\00a\001\00a\002\00 7 -> OK
            2: goes on
            = StopAllIterationAndWatermark
            + local reply 403 details "why_so?_" body "no\0" grpc 7 headers a=1 a=2
        "#]],
    );
}

// Checks: LR-08
#[test]
fn the_first_reply_counts_with_the_last_details() {
    check(
        "on request_headers:
           (is send_local_response #403 'first' 'one' '' #-1)
           (is send_local_response #500 'second' 'two' '' #0)",
        expect![[r#"
            > request a=1
            2: send_local_response 403 first one -1 -> OK
            2: send_local_response 500 second two 0 -> OK
            = StopAllIterationAndWatermark
            + local reply 403 details "second" body "one" grpc -1 headers
        "#]],
    );
}

// Checks: LR-24, LR-25
#[test]
fn status_codes_that_break_http_are_bad_arguments() {
    check(
        "on request_headers:
           (is send_local_response #0 '' '' '' #-1)
           (is send_local_response #101 '' '' '' #-1)
           (is send_local_response #199 '' '' '' #-1)
           (is send_local_response #600 '' '' '' #-1)
           (is send_local_response #65736 '' '' '' #-1)
         on request_body:
           (is send_local_response #200 '' '' '' #-1)
         on request_trailers:
           (is send_local_response #599 '' '' '' #-1)",
        expect![[r#"
            > request a=1
            2: send_local_response 0 -1 -> BAD_ARGUMENT
            2: send_local_response 101 -1 -> BAD_ARGUMENT
            2: send_local_response 199 -1 -> BAD_ARGUMENT
            2: send_local_response 600 -1 -> BAD_ARGUMENT
            2: send_local_response 65736 -1 -> BAD_ARGUMENT
            = Continue
            = headers a=1
            > body x
            2: send_local_response 200 -1 -> OK
            = StopIterationNoBuffer
            = body "x"
            + local reply 200 details "" body "" grpc -1 headers
            > trailers a=1
            2: send_local_response 599 -1 -> OK
            = StopIteration
            + local reply 599 details "" body "" grpc -1 headers
        "#]],
    );
}

// Checks: LR-27
#[test]
fn headers_that_cannot_be_read_are_left_out() {
    check(
        r"on request_headers:
           (is send_local_response #403 '' 'body' '\01\00\00\00\09' #-1)",
        expect![[r#"
            > request a=1
            2: send_local_response 403 body \01\00\00\00\09 -1 -> OK
            = StopAllIterationAndWatermark
            + local reply 403 details "" body "body" grpc -1 headers
        "#]],
    );
}

#[test]
fn pointers_outside_the_memory_are_invalid_and_nothing_is_replied() {
    check(
        "on request_headers:
           (is send_local_response #403 #bad #1 '' '' #-1)
           (is send_local_response #403 '' #bad #1 '' #-1)
           (is send_local_response #403 '' '' #0x100 #all #-1)",
        expect![[r#"
            > request a=1
            2: send_local_response 403 bad 1 -1 -> INVALID_MEMORY_ACCESS
            2: send_local_response 403 bad 1 -1 -> INVALID_MEMORY_ACCESS
            2: send_local_response 403 0x100 all -1 -> INVALID_MEMORY_ACCESS
            = Continue
            = headers a=1
        "#]],
    );
}

#[test]
fn a_held_stream_is_answered_through_the_effective_context() {
    check(
        "on request_headers:
           (return #1)
         on tick:
           (is set_effective_context #2)
           (is send_local_response #401 'late' '' '' #-1)",
        expect![[r#"
            > request a=1
            = StopAllIterationAndWatermark
            > tick
            1: set_effective_context 2 -> OK
            1: send_local_response 401 late -1 -> OK
            * s wake
            > actions
            + local reply 401 details "late" body "" grpc -1 headers
            > actions
        "#]],
    );
}

// Checks: LR-18, LR-19
#[test]
fn nobody_is_answered_by_a_plugin_context_or_after_the_end() {
    check(
        "module:
           (func $reply (is send_local_response #403 '' '' '' #-1))
         on tick:
           (call $reply)
         on request_headers:
           (call $say 'request')
         on log:
           (call $reply)
         on done:
           (call $reply)
         on delete:
           (call $reply)",
        expect![[r#"
            > tick
            1: send_local_response 403 -1 -> OK
            > request a=1
            2: request
            = Continue
            = headers a=1
            > log
            2: send_local_response 403 -1 -> OK
            > finish
            2: send_local_response 403 -1 -> OK
            2: send_local_response 403 -1 -> OK
        "#]],
    );
}
