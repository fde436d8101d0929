//! gRPC calls and streams, and other words of the host to a plugin.

use expect_test::expect;

use crate::harness::{check, pairs};

/// Tells everything that comes back.
const EVENTS: &str = "on grpc_receive_initial_metadata:
   (call $number 'initial metadata of' (local.get $token))
   (call $number '  entries' (local.get $count))
   (got get_header_map_value #grpc_initial_metadata 'x-bin' @out)
   (got get_header_map_value #grpc_trailing_metadata 'x-bin' @out)
 on grpc_receive:
   (call $number 'message of' (local.get $token))
   (call $number '  bytes' (local.get $size))
   (got get_buffer_bytes #grpc_message #0 #all @out)
 on grpc_receive_trailing_metadata:
   (call $number 'trailing metadata of' (local.get $token))
   (got get_header_map_value #grpc_trailing_metadata 'x-t' @out)
 on grpc_close:
   (call $number 'close of' (local.get $token))
   (call $number '  status' (local.get $status))
   (call $got '  message' (call $proxy_get_status #0x110 @out))
   (call $number '  code' (i32.load #0x110))
 on queue_ready:
   (call $got 'later' (call $proxy_get_status #0x110 @out))";

/// The events with a tick that does this.
fn guest(tick: &str) -> String {
    format!("{EVENTS}\non tick:\n{tick}")
}

// Checks: GC-01, GC-11
#[test]
fn a_call_is_answered_once() {
    check(
        &guest(
            "(num grpc_call 'grpc' 'pkg.Service' 'Method' '' 'question' #250 @num)
             (num grpc_call 'empty' 's' 'm' '' '' #0 @num)",
        ),
        expect![[r#"
            > tick
            * p grpc call 5 to grpc: pkg.Service/Method [] "question" within Some(250ms)
            1: grpc_call grpc pkg.Service Method question 250 -> OK 5
            * p grpc call 9 to empty: s/m [] "" within None
            1: grpc_call empty s m 0 -> OK 9
            > grpc-message 5 answer
            1: message of 5
            1:   bytes 6
            1: get_buffer_bytes grpc_message 0 all -> OK "answer"
            > grpc-message 5 again
            > grpc-close 5 0
            > grpc-message 9 other
            1: message of 9
            1:   bytes 5
            1: get_buffer_bytes grpc_message 0 all -> OK "other"
        "#]],
    );
}

// Checks: GC-02
#[test]
fn a_call_that_fails_is_closed_with_status_and_message() {
    check(
        &guest("(num grpc_call 'grpc' 's' 'm' '' '' #0 @num)"),
        expect![[r#"
            > tick
            * p grpc call 5 to grpc: s/m [] "" within None
            1: grpc_call grpc s m 0 -> OK 5
            > grpc-close 5 7 not allowed
            1: close of 5
            1:   status 7
            1:   message OK "not allowed"
            1:   code 7
            > queue-ready 1
            1: later OK empty
            > grpc-close 5 7 again
            > grpc-message 5 late
        "#]],
    );
}

// Checks: GC-04
#[test]
fn an_unknown_cluster_takes_no_token() {
    check(
        &guest(
            "(num grpc_call 'unknown' 's' 'm' '' '' #0 @num)
             (num grpc_stream 'unknown' 's' 'm' '' @num)
             (num grpc_call 'grpc' 's' 'm' '' '' #0 @num)
             (num grpc_stream 'grpc' 's' 'm' '' @num)",
        ),
        expect![[r#"
            > tick
            1: grpc_call unknown s m 0 -> PARSE_FAILURE
            1: grpc_stream unknown s m -> PARSE_FAILURE
            * p grpc call 5 to grpc: s/m [] "" within None
            1: grpc_call grpc s m 0 -> OK 5
            * p grpc stream 6 to grpc: s/m []
            1: grpc_stream grpc s m -> OK 6
        "#]],
    );
}

// Checks: GC-05
#[test]
fn a_call_that_was_cancelled_is_not_answered() {
    check(
        &guest(
            "(num grpc_call 'grpc' 's' 'm' '' '' #0 @num)
             (is grpc_cancel #5)
             (is grpc_cancel #5)
             (num grpc_call 'grpc' 's' 'm' '' '' #0 @num)
             (is grpc_close #9)
             (is grpc_close #9)",
        ),
        expect![[r#"
            > tick
            * p grpc call 5 to grpc: s/m [] "" within None
            1: grpc_call grpc s m 0 -> OK 5
            * p grpc cancel 5
            1: grpc_cancel 5 -> OK
            1: grpc_cancel 5 -> NOT_FOUND
            * p grpc call 9 to grpc: s/m [] "" within None
            1: grpc_call grpc s m 0 -> OK 9
            * p grpc cancel 9
            1: grpc_close 9 -> OK
            1: grpc_close 9 -> NOT_FOUND
            > grpc-message 5 late
            > grpc-close 9 0
        "#]],
    );
}

// Checks: GC-06, GC-12
#[test]
fn a_stream_has_metadata_messages_trailers_and_an_end() {
    let metadata = pairs(&[("x-a", "1"), ("x-bin", "AAEC/w==")]);
    check(
        &guest(&format!(
            "(num grpc_stream 'grpc' 'pkg.Service' 'Chat' '{metadata}' @num)
             (is grpc_send #6 'one' #0)
             (is grpc_send #6 '\\00\\ff' #1)
             (is grpc_close #6)"
        )),
        expect![[r#"
            > tick
            * p grpc stream 6 to grpc: pkg.Service/Chat [x-a=1 x-bin=AAEC/w==]
            1: grpc_stream grpc pkg.Service Chat \02\00\00\00\03\00\00\00\01\00\00\00\05\00\00\00\08\00\00\00x-a\001\00x-bin\00AAEC/w==\00 -> OK 6
            * p grpc send on 6: one
            1: grpc_send 6 one 0 -> OK
            * p grpc send on 6: \x00\xff, the last one
            1: grpc_send 6 \00\ff 1 -> OK
            * p grpc close 6
            1: grpc_close 6 -> OK
            > grpc-initial 6 :status=200 x-bin=AAEC/w==
            1: initial metadata of 6
            1:   entries 2
            1: get_header_map_value grpc_initial_metadata x-bin -> OK "AAEC/w=="
            1: get_header_map_value grpc_trailing_metadata x-bin -> BAD_ARGUMENT
            > grpc-message 6 one
            1: message of 6
            1:   bytes 3
            1: get_buffer_bytes grpc_message 0 all -> OK "one"
            > grpc-message 6
            1: message of 6
            1:   bytes 0
            1: get_buffer_bytes grpc_message 0 all -> OK empty
            > grpc-trailing 6 x-t=2
            1: trailing metadata of 6
            1: get_header_map_value grpc_trailing_metadata x-t -> OK "2"
            > grpc-close 6 0
            1: close of 6
            1:   status 0
            1:   message OK empty
            1:   code 0
            > grpc-message 6 late
        "#]],
    );
}

// Checks: GC-07, GC-08, GC-09
#[test]
fn tokens_are_good_for_their_kind_and_while_they_are_in_use() {
    let headers = pairs(&[(":method", "GET"), (":path", "/"), (":authority", "a")]);
    check(
        &guest(&format!(
            "(call $got_number 'http' (call $proxy_http_call 'c' '{headers}' '' '' #0 @num))
             (num grpc_call 'grpc' 's' 'm' '' '' #0 @num)
             (num grpc_stream 'grpc' 's' 'm' '' @num)
             (is grpc_cancel #4)
             (is grpc_close #4)
             (is grpc_send #5 'x' #0)
             (is grpc_send #6 'x' #0)
             (is grpc_cancel #6)
             (is grpc_send #6 'x' #0)"
        )),
        expect![[r#"
            > tick
            * p http call 4 to c [:method=GET :path=/ :authority=a] "" [] within None
            1: http OK 4
            * p grpc call 5 to grpc: s/m [] "" within None
            1: grpc_call grpc s m 0 -> OK 5
            * p grpc stream 6 to grpc: s/m []
            1: grpc_stream grpc s m -> OK 6
            1: grpc_cancel 4 -> BAD_ARGUMENT
            1: grpc_close 4 -> BAD_ARGUMENT
            1: grpc_send 5 x 0 -> BAD_ARGUMENT
            * p grpc send on 6: x
            1: grpc_send 6 x 0 -> OK
            * p grpc cancel 6
            1: grpc_cancel 6 -> OK
            1: grpc_send 6 x 0 -> NOT_FOUND
            > grpc-close 6 0
        "#]],
    );
}

#[test]
fn a_token_belongs_to_its_plugin() {
    check(
        "on configure:
           (num grpc_stream 'grpc' 's' 'm' '' @num)
         on tick:
           (is grpc_send #6 'x' #0)
           (is grpc_cancel #6)
         on grpc_receive:
           (call $number 'message of' (local.get $token))",
        expect![[r#"
            > start plugin=a vm=shared
            * a grpc stream 6 to grpc: s/m []
            a/1: grpc_stream grpc s m -> OK 6
            > start plugin=b vm=shared
            * b grpc stream 10 to grpc: s/m []
            b/2: grpc_stream grpc s m -> OK 10
            > tick
            b/2: grpc_send 6 x 0 -> NOT_FOUND
            b/2: grpc_cancel 6 -> NOT_FOUND
            > grpc-message 6 for a
            > grpc-message 10 for b
            b/2: message of 10
            > plugin a
            > grpc-message 6 for a
            a/1: message of 6
            > tick
            * a grpc send on 6: x
            a/1: grpc_send 6 x 0 -> OK
            * a grpc cancel 6
            a/1: grpc_cancel 6 -> OK
        "#]],
    );
}

#[test]
fn names_are_resolved_for_whoever_asked() {
    check(
        "module:
           (import \"env\" \"envoy_resolve_dns\" (func $resolve (param i32 i32 i32) (result i32)))
         on tick:
           (call $got_number 'resolve' (call $resolve 'a.test' @num))
           (call $got_number 'nothing' (call $resolve '' @num))
         on envoy_on_resolve_dns:
           (call $number 'answer to' (local.get $token))
           (call $number '  bytes' (local.get $size))
           (got get_buffer_bytes #call_data #0 #all @out)",
        expect![[r#"
            > tick
            * p resolve 4: a.test
            1: resolve OK 4
            * p resolve 8:
            1: nothing BAD_ARGUMENT
            > dns 4 30=10.0.0.1:0 60=[::1]:0
            1: answer to 4
            1:   bytes 31
            1: get_buffer_bytes call_data 0 all -> OK "\02\00\00\00\1e\00\00\00<\00\00\0010.0.0.1:0\00[::1]:0\00"
            > dns 4 30=10.0.0.1:0
            > tick
            * p resolve 8: a.test
            1: resolve OK 8
            * p resolve 12:
            1: nothing BAD_ARGUMENT
            > dns 8
            1: answer to 8
            1:   bytes 0
            1: get_buffer_bytes call_data 0 all -> OK empty
        "#]],
    );
}

#[test]
fn extensions_of_the_embedder_say_something() {
    check(
        "on foreign_function:
           (call $number 'function' (local.get $function))
           (call $number '  bytes' (local.get $size))
           (got get_buffer_bytes #call_data #0 #all @out)
         on envoy_on_stats_update:
           (call $number 'stats' (local.get $size))
           (got get_buffer_bytes #call_data #0 #all @out)
         on tick:
           (got get_buffer_bytes #call_data #0 #all @out)",
        expect![[r#"
            > foreign 7 hello
            1: function 7
            1:   bytes 5
            1: get_buffer_bytes call_data 0 all -> OK "hello"
            > stats values
            1: stats 6
            1: get_buffer_bytes call_data 0 all -> OK "values"
            > tick
            1: get_buffer_bytes call_data 0 all -> OK empty
        "#]],
    );
}
