//! Timers, HTTP calls and gRPC, as far as the host decides.

use expect_test::expect;

use crate::harness::{check, outcome, pairs, patient};

/// What a call must have.
const REQUEST: [(&str, &str); 3] = [(":method", "GET"), (":path", "/"), (":authority", "a")];

// Checks: TM-03
#[test]
fn a_timer_belongs_to_the_plugin_whoever_sets_it() {
    check(
        "on configure:
           (is set_tick_period_milliseconds #50)
         on request_headers:
           (is set_tick_period_milliseconds #7)
         on tick:
           (call $number 'tick' (local.get $context))
           (is set_tick_period_milliseconds #0)",
        expect![[r#"
            > start plugin=a vm=shared
            * a tick period Some(50ms)
            a/1: set_tick_period_milliseconds 50 -> OK
            > start plugin=b vm=shared
            * b tick period Some(50ms)
            b/2: set_tick_period_milliseconds 50 -> OK
            > plugin a
            > request
            * a tick period Some(7ms)
            a/3: set_tick_period_milliseconds 7 -> OK
            = Continue
            = headers
            > tick
            a/1: tick 1
            * a tick period None
            a/1: set_tick_period_milliseconds 0 -> OK
        "#]],
    );
}

#[test]
fn the_time_is_that_of_the_clock() {
    check(
        "on tick:
           (num get_current_time_nanoseconds @num)
           (num get_current_time_nanoseconds #bad)",
        expect![[r#"
            > tick
            1: get_current_time_nanoseconds -> OK 1700000000000000000
            1: get_current_time_nanoseconds bad -> INVALID_MEMORY_ACCESS
        "#]],
    );
}

// Checks: LG-02, LG-03
#[test]
fn log_levels_are_those_of_the_sink() {
    check(
        "on tick:
           (num get_log_level @num)
           (num get_log_level #bad)
           (is log #0 'trace is not wanted')
           (is log #1 'debug')
           (is log #3 'warn\\0asecond line')
           (is log #5 'critical')
           (is log #2 '')
           (is log #2 '\\ff')
           (is log #6 'no level')
           (is log #2 #0x100 #all)",
        expect![[r#"
            > tick
            1: get_log_level -> OK 1
            1: get_log_level bad -> INVALID_MEMORY_ACCESS
            1: log 0 trace is not wanted -> OK
            debug 1: debug
            1: log 1 debug -> OK
            warn 1: warn\nsecond line
            1: log 3 warn\0asecond line -> OK
            critical 1: critical
            1: log 5 critical -> OK
            1:
            1: log 2 -> OK
            1: �
            1: log 2 \ff -> OK
            1: log 6 no level -> BAD_ARGUMENT
            1: log 2 0x100 all -> INVALID_MEMORY_ACCESS
        "#]],
    );
}

#[test]
fn calls_are_numbered_and_passed_on() {
    let (headers, trailers) = (pairs(&REQUEST), pairs(&[("t", "1")]));
    check(
        &format!(
            "module:
               (func $headers (result i32 i32) '{headers}')
             on tick:
               (num http_call 'cluster' (call $headers) 'body' '{trailers}' #250 @num)
               (num http_call 'cluster' (call $headers) '' '' #0 @num)
             on request_headers:
               (num http_call 'cluster' (call $headers) '' '' #2147483647 @num)"
        ),
        expect![[r#"
            > tick
            * p http call 4 to cluster [:method=GET :path=/ :authority=a] "body" [t=1] within Some(250ms)
            1: http_call cluster (call $headers) body \01\00\00\00\01\00\00\00\01\00\00\00t\001\00 250 -> OK 4
            * p http call 8 to cluster [:method=GET :path=/ :authority=a] "" [] within None
            1: http_call cluster (call $headers) 0 -> OK 8
            > request
            * p http call 12 to cluster [:method=GET :path=/ :authority=a] "" [] within Some(2147483.647s)
            2: http_call cluster (call $headers) 2147483647 -> OK 12
            = Continue
            = headers
        "#]],
    );
}

// Checks: HC-05, HC-07, HC-10
#[test]
fn refused_calls_have_the_token_zero_and_use_none_up() {
    let headers = pairs(&REQUEST);
    check(
        &format!(
            "module:
               (func $headers (result i32 i32) '{headers}')
             on tick:
               (is http_call 'unknown' (call $headers) '' '' #0 @num)
               (call $got_number '  token' #0)
               (is http_call 'down' (call $headers) '' '' #0 @num)
               (is http_call 'cluster' (call $headers) '' '' #0x80000000 @num)
               (is http_call 'cluster' '' '' '' #0 @num)
               (num http_call 'cluster' (call $headers) '' '' #0 @num)"
        ),
        expect![[r#"
            > tick
            1: http_call unknown (call $headers) 0 -> BAD_ARGUMENT
            1:   token OK 0
            1: http_call down (call $headers) 0 -> INTERNAL_FAILURE
            1: http_call cluster (call $headers) 0x80000000 -> BAD_ARGUMENT
            1: http_call cluster 0 -> BAD_ARGUMENT
            * p http call 4 to cluster [:method=GET :path=/ :authority=a] "" [] within None
            1: http_call cluster (call $headers) 0 -> OK 4
        "#]],
    );
}

// Checks: HC-06, HC-22
#[test]
fn method_path_and_authority_or_host_are_required() {
    for missing in 0..REQUEST.len() {
        let mut headers = REQUEST.to_vec();
        headers.remove(missing);
        let guest = format!("on tick:\n(is http_call 'c' '{}' '' '' #0 @num)", pairs(&headers));
        let outcome = outcome(patient(), &guest, "> tick");
        assert!(outcome.ends_with("-> BAD_ARGUMENT\n"), "{outcome}");
    }
    let mut headers = REQUEST;
    headers[2].0 = "host";
    let guest = format!("on tick:\n(is http_call 'c' '{}' '' '' #0 @num)", pairs(&headers));
    let outcome = outcome(patient(), &guest, "> tick");
    assert!(outcome.ends_with("-> OK\n"), "{outcome}");
}

#[test]
fn invalid_headers_of_calls_are_bad_arguments() {
    let headers = [REQUEST.as_slice(), &[("x y", "1")]].concat();
    let guest = format!("on tick:\n(is http_call 'c' '{}' '' '' #0 @num)", pairs(&headers));
    let outcome = outcome(patient(), &guest, "> tick");
    assert!(outcome.ends_with("-> BAD_ARGUMENT\n"), "{outcome}");
}

#[test]
fn call_pointers_outside_the_memory_are_invalid_and_nothing_is_called() {
    check(
        "on tick:
           (is http_call #bad #1 '' '' '' #0 @num)
           (is http_call 'c' #bad #1 '' '' #0 @num)
           (is http_call 'c' '' #0x100 #all '' #0 @num)
           (is http_call 'c' '' '' #bad #1 #0 @num)
           (is http_call 'c' '' '' '' #0 #bad)",
        expect![[r#"
            > tick
            1: http_call bad 1 0 -> INVALID_MEMORY_ACCESS
            1: http_call c bad 1 0 -> INVALID_MEMORY_ACCESS
            1: http_call c 0x100 all 0 -> INVALID_MEMORY_ACCESS
            1: http_call c bad 1 0 -> INVALID_MEMORY_ACCESS
            1: http_call c 0 bad -> INVALID_MEMORY_ACCESS
        "#]],
    );
}

// Checks: HC-11, HC-20
#[test]
fn a_failed_call_has_no_headers_and_a_status_until_the_next() {
    check(
        "module:
           (func $status (got get_status @num @out) (call $got_number '  code' #0))
         on http_call_response:
           (call $number 'headers' (local.get $headers))
           (got get_header_map_value #6 ':status' @out)
           (got get_buffer_bytes #4 #0 #all @out)
           (call $status)
         on tick:
           (call $status)",
        expect![[r#"
            > tick
            1: get_status -> OK empty
            1:   code OK 0
            > answer 4 failure
            1: headers 0
            1: get_header_map_value 6 :status -> BAD_ARGUMENT
            1: get_buffer_bytes 4 0 all -> NOT_FOUND
            1: get_status -> OK "reset"
            1:   code OK 11
            > tick
            1: get_status -> OK empty
            1:   code OK 11
            > answer 8 :status=200
            1: headers 1
            1: get_header_map_value 6 :status -> OK "200"
            1: get_buffer_bytes 4 0 all -> OK empty
            1: get_status -> OK empty
            1:   code OK 11
        "#]],
    );
}

#[test]
fn status_pointers_outside_the_memory_are_invalid() {
    check(
        "on tick:
           (got get_status #bad @out)
           (got get_status @num #bad #0x104)",
        expect![[r#"
            > tick
            1: get_status bad -> INVALID_MEMORY_ACCESS touched
            1: get_status bad 0x104 -> INVALID_MEMORY_ACCESS
        "#]],
    );
}

#[test]
fn grpc_targets_and_tokens_are_unknown() {
    check(
        "on tick:
           (is grpc_call 'c' 's' 'm' '' '' #0 @num)
           (is grpc_stream 'c' 's' 'm' '' @num)
           (is grpc_send #6 'x' #1)
           (is grpc_send #5 'x' #1)
           (is grpc_send #4 'x' #1)
           (is grpc_close #5)
           (is grpc_close #6)
           (is grpc_close #4)
           (is grpc_cancel #5)
           (is grpc_cancel #7)",
        expect![[r#"
            > tick
            1: grpc_call c s m 0 -> PARSE_FAILURE
            1: grpc_stream c s m -> PARSE_FAILURE
            1: grpc_send 6 x 1 -> NOT_FOUND
            1: grpc_send 5 x 1 -> BAD_ARGUMENT
            1: grpc_send 4 x 1 -> BAD_ARGUMENT
            1: grpc_close 5 -> NOT_FOUND
            1: grpc_close 6 -> NOT_FOUND
            1: grpc_close 4 -> BAD_ARGUMENT
            1: grpc_cancel 5 -> NOT_FOUND
            1: grpc_cancel 7 -> BAD_ARGUMENT
        "#]],
    );
}

#[test]
fn grpc_pointers_outside_the_memory_are_invalid() {
    check(
        "on tick:
           (is grpc_call #bad #1 '' '' '' '' #0 @num)
           (is grpc_call '' #bad #1 '' '' '' #0 @num)
           (is grpc_call '' '' '' '' #bad #1 #0 @num)
           (is grpc_stream '' '' #bad #1 '' @num)
           (is grpc_send #6 #bad #1 #1)",
        expect![[r#"
            > tick
            1: grpc_call bad 1 0 -> INVALID_MEMORY_ACCESS
            1: grpc_call bad 1 0 -> INVALID_MEMORY_ACCESS
            1: grpc_call bad 1 0 -> INVALID_MEMORY_ACCESS
            1: grpc_stream bad 1 -> INVALID_MEMORY_ACCESS
            1: grpc_send 6 bad 1 1 -> INVALID_MEMORY_ACCESS
        "#]],
    );
}

// Checks: LG-04
#[test]
fn lines_of_any_content_and_length_are_taken() {
    let guest = "on tick:
           (drop (memory.grow #20))
           (memory.fill #0x20000 #97 #0x100000)
           (is log #2 #0x20000 #0x100000)
           (is log #2 'a\\00b')
           (is log #2 'a\\0ab\\0a')
           (is log #2 '')";
    let outcome = outcome(patient(), guest, "> tick");
    assert_eq!(outcome.matches("-> OK").count(), 4, "{}", &outcome[outcome.len() - 200..]);
    // How much of a long line is kept is the sink's and the limits' business.
    assert!(outcome.contains(&"a".repeat(0x8000)), "the megabyte has no beginning");
    assert!(outcome.contains("1: a\0b\n"), "the NUL is lost");
    assert!(outcome.contains("1: a\\nb\\n\n"), "the line break is lost");
}
