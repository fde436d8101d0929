//! Network plugins: what they see of TCP connections, and what they do to them.

use expect_test::expect;

use crate::harness::check;

/// Logs every callback of a connection.
const STORY: &str = "on context_create:
   (call $number 'context_create, parent' (local.get $parent))
 on new_connection:
   (call $say 'new_connection')
 on downstream_data:
   (call $number 'downstream_data' (local.get $size))
   (call $number '  end' (local.get $end))
 on upstream_data:
   (call $number 'upstream_data' (local.get $size))
   (call $number '  end' (local.get $end))
 on downstream_connection_close:
   (call $number 'downstream_close' (local.get $peer))
 on upstream_connection_close:
   (call $number 'upstream_close' (local.get $peer))
 on done:
   (call $say 'done')
   (return #0)
 on log:
   (call $say 'log')
 on delete:
   (call $say 'delete')";

// Checks: NT-01, LC-20
#[test]
fn a_connection_is_created_shown_and_ends_with_close_done_log_delete() {
    check(
        STORY,
        expect![[r#"
            1: context_create, parent 0
            > connect
            2: context_create, parent 1
            2: new_connection
            = Continue
            > downstream hello
            2: downstream_data 5
            2:   end 0
            = Continue
            = downstream "hello"
            > upstream answer
            2: upstream_data 6
            2:   end 0
            = Continue
            = upstream "answer"
            > downstream!
            2: downstream_data 0
            2:   end 1
            = Continue
            = downstream ""
            > upstream!
            2: upstream_data 0
            2:   end 1
            = Continue
            = upstream ""
            > upstream-close 0
            2: upstream_close 0
            > downstream-close 2
            2: downstream_close 2
            > end-connection
            2: done
            2: log
            2: delete
            > contexts
            = 1
        "#]],
    );
}

// Checks: NT-02
#[test]
fn bytes_are_read_and_edited_both_ways() {
    check(
        "on downstream_data:
           (got get_buffer_bytes #downstream_data #0 #all @out)
           (is set_buffer_bytes #downstream_data #0 #4 'HELL')
           (num get_buffer_status #downstream_data @num #0x110)
         on upstream_data:
           (got get_buffer_bytes #upstream_data #1 #2 @out)
           (is set_buffer_bytes #upstream_data #0 #all 'other')
           (got get_buffer_bytes #downstream_data #0 #all @out)",
        expect![[r#"
            > connect
            = Continue
            > downstream hello
            2: get_buffer_bytes downstream_data 0 all -> OK "hello"
            2: set_buffer_bytes downstream_data 0 4 HELL -> OK
            2: get_buffer_status downstream_data 0x110 -> OK 5
            = Continue
            = downstream "HELLo"
            > upstream answer
            2: get_buffer_bytes upstream_data 1 2 -> OK "ns"
            2: set_buffer_bytes upstream_data 0 all other -> OK
            2: get_buffer_bytes downstream_data 0 all -> OK empty
            = Continue
            = upstream "other"
        "#]],
    );
}

// Checks: NT-03
#[test]
fn what_is_held_is_shown_again_with_what_follows() {
    check(
        "on new_connection:
           (return #1)
         on downstream_data:
           (got get_buffer_bytes #downstream_data #0 #all @out)
           (return (i32.lt_u (local.get $size) #4))
         on upstream_data:
           (got get_buffer_bytes #upstream_data #0 #all @out)
           (return (i32.eqz (local.get $end)))
         on tick:
           (is set_effective_context #2)
           (is continue_stream #downstream)
           (is continue_stream #upstream)
           (is continue_stream #request)",
        expect![[r#"
            > connect
            = StopIteration
            > tick
            1: set_effective_context 2 -> OK
            1: continue_stream downstream -> OK
            1: continue_stream upstream -> UNIMPLEMENTED
            1: continue_stream request -> OK
            * s wake
            > go-on
            + continue request
            = downstream ""
            > downstream ab
            2: get_buffer_bytes downstream_data 0 all -> OK "ab"
            = StopIteration
            = holds 2 bytes
            > tick
            1: set_effective_context 2 -> OK
            1: continue_stream downstream -> OK
            1: continue_stream upstream -> UNIMPLEMENTED
            1: continue_stream request -> OK
            * s wake
            > go-on
            + continue request
            = downstream "ab"
            > downstream abc
            2: get_buffer_bytes downstream_data 0 all -> OK "abc"
            = StopIteration
            = holds 3 bytes
            > downstream d
            2: get_buffer_bytes downstream_data 0 all -> OK "abcd"
            = Continue
            = downstream "abcd"
            > upstream x
            2: get_buffer_bytes upstream_data 0 all -> OK "x"
            = StopIteration
            = holds 1 bytes
            > upstream! y
            2: get_buffer_bytes upstream_data 0 all -> OK "xy"
            = Continue
            = upstream "xy"
        "#]],
    );
}

// Checks: NT-07
#[test]
fn a_plugin_asks_for_the_end_of_either_side() {
    check(
        "on downstream_data:
           (is close_stream #request)
           (is close_stream #downstream)
         on upstream_data:
           (is close_stream #upstream)",
        expect![[r#"
            > connect
            = Continue
            > downstream a
            2: close_stream request -> OK
            2: close_stream downstream -> OK
            = Continue
            = downstream "a"
            + close
            > upstream a
            2: close_stream upstream -> OK
            = Continue
            = upstream "a"
            + close
        "#]],
    );
}

// Checks: NT-09, NT-10
#[test]
fn a_connection_has_attributes_but_no_request_and_no_answers() {
    check(
        r"on new_connection:
           (got get_property 'source\00address' @out)
           (got get_property 'connection\00id' @out)
           (got get_property 'request\00protocol' @out)
           (got get_property 'response\00code' @out)
           (got get_property 'request\00path' @out)
           (is send_local_response #403 '' 'no' '' #0)
           (is set_property 'mine' 'kept')
           (got get_property 'mine' @out)",
        expect![[r#"
            > connect
            2: get_property source\00address -> OK "127.0.0.1:4321"
            2: get_property connection\00id -> OK "\03\00\00\00\00\00\00\00"
            2: get_property request\00protocol -> NOT_FOUND
            2: get_property response\00code -> NOT_FOUND
            2: get_property request\00path -> NOT_FOUND
            2: send_local_response 403 no 0 -> OK
            * s set property mine = kept
            2: set_property mine kept -> OK
            2: get_property mine -> OK "kept"
            = Continue
        "#]],
    );
}

// Checks: TR-18
#[test]
fn a_connection_whose_plugin_died_hears_nothing_more() {
    check(
        "on downstream_data:
           (unreachable)
         on downstream_connection_close:
           (call $say 'close')
         on done:
           (call $say 'done')",
        expect![[r#"
            > connect
            = Continue
            > downstream a
            critical 2: plugin `p` failed in `proxy_on_downstream_data`: wasm `unreachable` instruction executed
            * s wake
            ! trap: plugin `p` failed in `proxy_on_downstream_data`: wasm `unreachable` instruction executed
            > downstream-close 2
            ! trap: plugin `p` failed in `proxy_on_downstream_data`: wasm `unreachable` instruction executed
            > end-connection
        "#]],
    );
}

#[test]
fn a_plugin_without_callbacks_lets_all_bytes_pass() {
    check(
        "",
        expect![[r#"
            > connect
            = Continue
            > downstream a
            = Continue
            = downstream "a"
            > upstream b
            = Continue
            = upstream "b"
            > downstream-close 2
            > end-connection
            > contexts
            = 1
        "#]],
    );
}

#[test]
fn connections_and_streams_share_the_numbers_of_contexts() {
    check(
        "on new_connection:
           (call $number 'connection' (local.get $context))
         on request_headers:
           (call $number 'stream' (local.get $context))",
        expect![[r#"
            > stream a
            > connect
            2: connection 2
            = Continue
            > stream b
            > request x=1
            3: stream 3
            = Continue
            = headers x=1
            > stream c
            > connect
            4: connection 4
            = Continue
            > stream a
            > downstream x
            = Continue
            = downstream "x"
        "#]],
    );
}
