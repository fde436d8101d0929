//! Plugins as access loggers: the log callback of the plugin itself.

use expect_test::expect;

use crate::harness::check;

// Checks: LC-28
#[test]
fn an_access_logger_reads_the_maps_of_a_finished_stream() {
    check(
        "on log:
           (call $number 'log' (local.get $context))
           (got get_header_map_value #request_headers ':path' @out)
           (got get_header_map_value #response_headers ':status' @out)
           (got get_header_map_value #response_trailers 't' @out)
         on tick:
           (got get_header_map_value #request_headers ':path' @out)",
        expect![[r#"
            > access-log :path=/a | :status=204 | t=1
            1: log 1
            1: get_header_map_value request_headers :path -> OK "/a"
            1: get_header_map_value response_headers :status -> OK "204"
            1: get_header_map_value response_trailers t -> OK "1"
            = request :path=/a
            = response :status=204
            = trailers t=1
            > access-log :path=/b
            1: log 1
            1: get_header_map_value request_headers :path -> OK "/b"
            1: get_header_map_value response_headers :status -> NOT_FOUND
            1: get_header_map_value response_trailers t -> NOT_FOUND
            = request :path=/b
            > tick
            1: get_header_map_value request_headers :path -> BAD_ARGUMENT
        "#]],
    );
}

// Checks: LC-33
#[test]
fn an_access_logger_reads_attributes_and_changes_nothing() {
    check(
        r"on request_headers:
           (is set_property 'mine' 'kept')
         on log:
           (got get_property 'request\00path' @out)
           (got get_property 'response\00code' @out)
           (got get_property 'mine' @out)
           (is set_property 'mine' 'other')
           (is add_header_map_value #request_headers 'a' '2')
           (is replace_header_map_value #response_headers 'a' '2')
           (is remove_header_map_value #response_headers ':status')
           (num get_header_map_size #request_headers @num)
           (is send_local_response #403 '' 'no' '' #0)
           (is continue_stream #request)",
        expect![[r#"
            > request :path=/a
            * s set property mine = kept
            2: set_property mine kept -> OK
            = Continue
            = headers :path=/a
            > access-log :path=/a | :status=200
            1: get_property request\00path -> OK "/a"
            1: get_property response\00code -> OK "\c8\00\00\00\00\00\00\00"
            1: get_property mine -> OK "kept"
            1: set_property mine other -> NOT_FOUND
            1: add_header_map_value request_headers a 2 -> BAD_ARGUMENT
            1: replace_header_map_value response_headers a 2 -> BAD_ARGUMENT
            1: remove_header_map_value response_headers :status -> BAD_ARGUMENT
            1: get_header_map_size request_headers -> BAD_ARGUMENT
            1: send_local_response 403 no 0 -> OK
            1: continue_stream request -> OK
            = request :path=/a
            = response :status=200
        "#]],
    );
}

// Checks: LC-14
#[test]
fn a_filter_that_logs_as_well_is_one_context_started_once() {
    check(
        "on context_create:
           (call $number 'context_create' (local.get $context))
         on vm_start:
           (call $say 'vm_start')
         on configure:
           (call $say 'configure')
         on request_headers:
           (call $number 'request_headers' (local.get $context))
         on log:
           (call $number 'log' (local.get $context))",
        expect![[r#"
            > start
            1: context_create 1
            1: vm_start
            1: configure
            > request a=1
            2: context_create 2
            2: request_headers 2
            = Continue
            = headers a=1
            > log a=1
            2: log 2
            = request a=1
            > access-log a=1
            1: log 1
            = request a=1
            > finish
        "#]],
    );
}

#[test]
fn an_access_logger_that_dies_is_a_failure() {
    check(
        "on log:
           (unreachable)",
        expect![[r#"
            > access-log :path=/a
            critical 1: plugin `p` failed in `proxy_on_log`: wasm `unreachable` instruction executed
            ! trap: plugin `p` failed in `proxy_on_log`: wasm `unreachable` instruction executed
            > access-log :path=/a
            ! trap: plugin `p` failed in `proxy_on_log`: wasm `unreachable` instruction executed
        "#]],
    );
}
