//! Values that plugins store beside their headers. Source: Envoy's filter state.

use expect_test::expect;

use crate::harness::{check, outcome, patient};

// Checks: PR-27
#[test]
fn a_property_that_was_declared_read_only_is_stored_once() {
    // Fields 1 and 2 of the message: a name, and the flag.
    check(
        r"on configure:
           (got call_foreign_function 'declare_property' '\0a\05fixed\10\01' @out)
           (got call_foreign_function 'declare_property' '\0a\05fixed' @out)
         on request_headers:
           (is set_property 'fixed' '1')
           (is set_property 'fixed' '2')
           (got get_property 'fixed' @out)
           (is set_property 'free' '1')
           (is set_property 'free' '2')",
        expect![[r#"
            > start
            1: call_foreign_function declare_property \0a\05fixed\10\01 -> OK empty
            1: call_foreign_function declare_property \0a\05fixed -> BAD_ARGUMENT
            > request a=1
            * s set property fixed = 1
            2: set_property fixed 1 -> OK
            2: set_property fixed 2 -> BAD_ARGUMENT
            2: get_property fixed -> OK "1"
            * s set property free = 1
            2: set_property free 1 -> OK
            * s set property free = 2
            2: set_property free 2 -> OK
            = Continue
            = headers a=1
        "#]],
    );
}

#[test]
fn a_property_is_declared_with_a_life_span() {
    // Field 5 is the life span: 1 the request, 2 the connection.
    check(
        r"on configure:
           (is call_foreign_function 'declare_property' '\0a\01r\28\01' @out)
           (is call_foreign_function 'declare_property' '\0a\01c\28\02' @out)
           (is call_foreign_function 'declare_property' '\0a\01x\28\03' @out)
           (is call_foreign_function 'declare_property' '\0a\09short' @out)
         on request_headers:
           (is set_property 'r' '1')
           (is set_property 'c' '1')
           (is set_property 'x' '1')",
        expect![[r#"
            > start
            1: call_foreign_function declare_property \0a\01r\28\01 -> OK
            1: call_foreign_function declare_property \0a\01c\28\02 -> OK
            1: call_foreign_function declare_property \0a\01x\28\03 -> BAD_ARGUMENT
            1: call_foreign_function declare_property \0a\09short -> BAD_ARGUMENT
            > request a=1
            * s set property r = 1 for DownstreamRequest
            2: set_property r 1 -> OK
            * s set property c = 1 for DownstreamConnection
            2: set_property c 1 -> OK
            * s set property x = 1
            2: set_property x 1 -> OK
            = Continue
            = headers a=1
        "#]],
    );
}

// Checks: FF-05
#[test]
fn filter_state_is_set_by_keys_that_mean_something() {
    // Fields 1, 2 and 3: key, value, life span.
    check(
        r"on request_headers:
           (got call_foreign_function 'set_envoy_filter_state' '\0a\03key\12\02ab\18\02' @out)
           (got call_foreign_function 'set_envoy_filter_state' '\0a\07unknown\12\02ab' @out)
           (got call_foreign_function 'set_envoy_filter_state' '\0a\03key\18\07' @out)
           (got call_foreign_function 'set_envoy_filter_state' '\0a\7f' @out)
         on tick:
           (got call_foreign_function 'set_envoy_filter_state' '\0a\03key\12\02ab' @out)",
        expect![[r#"
            > request a=1
            * s filter state key = ab for DownstreamConnection
            2: call_foreign_function set_envoy_filter_state \0a\03key\12\02ab\18\02 -> OK empty
            * s filter state unknown = ab for FilterChain
            2: call_foreign_function set_envoy_filter_state \0a\07unknown\12\02ab -> NOT_FOUND
            2: call_foreign_function set_envoy_filter_state \0a\03key\18\07 -> BAD_ARGUMENT
            2: call_foreign_function set_envoy_filter_state \0a\7f -> BAD_ARGUMENT
            = Continue
            = headers a=1
            > tick
            1: call_foreign_function set_envoy_filter_state \0a\03key\12\02ab -> NOT_FOUND
        "#]],
    );
}

// Checks: PR-31
#[test]
fn a_list_is_pairs_whose_names_are_the_items() {
    check(
        "on request_headers:
           (got get_property 'list' @out)",
        expect![[r#"
            > request a=1
            2: get_property list -> OK "\02\00\00\00\03\00\00\00\00\00\00\00\03\00\00\00\00\00\00\00one\00\00two\00\00"
            = Continue
            = headers a=1
        "#]],
    );
}

// Checks: PR-29
#[test]
fn a_plugin_context_knows_the_node_and_its_own_names() {
    check(
        r"on tick:
           (got get_property 'xds\00node\00id' @out)
           (got get_property 'plugin_name' @out)
           (got get_property 'plugin_root_id' @out)
           (got get_property 'request\00path' @out)",
        expect![[r#"
            > start root_id=root
            > tick
            1: get_property xds\00node\00id -> OK "node-1"
            1: get_property plugin_name -> OK "p"
            1: get_property plugin_root_id -> OK "root"
            1: get_property request\00path -> NOT_FOUND
        "#]],
    );
}

#[test]
fn a_plugin_declares_a_thousand_properties_and_no_more() {
    // The name is two letters, which tell one property from another.
    let outcome = outcome(
        patient(),
        r"on configure:
           (local $n i32)
           (i32.store #0x800 #0x0000020a)
           (loop $again
             (i32.store8 #0x802 (i32.add #32 (i32.div_u (local.get $n) #64)))
             (i32.store8 #0x803 (i32.add #32 (i32.rem_u (local.get $n) #64)))
             (if (call $proxy_call_foreign_function 'declare_property' #0x800 #4 @out)
               (then (call $number 'refused' (local.get $n)))
               (else (local.set $n (i32.add (local.get $n) #1)) (br $again))))
           (is call_foreign_function 'declare_property' #0x800 #4 @out)",
        "> start\n> limits",
    );
    expect![[r#"
        > start
        1: refused 1000
        1: call_foreign_function declare_property 0x800 4 -> BAD_ARGUMENT
        > limits
        = property_bytes 2
    "#]]
    .assert_eq(&outcome);
}
