//! Metrics. Source: Proxy-Wasm 0.2.1, "Metrics", with Envoy's ids.

use expect_test::expect;
use wasmplug_host::Limits;

use crate::harness::{check, check_with, patient};

// Checks: MT-01, MT-02
#[test]
fn ids_carry_the_type_and_the_same_name_has_the_same_id() {
    check(
        "on tick:
           (num define_metric #counter 'a' @num)
           (num define_metric #gauge 'a' @num)
           (num define_metric #histogram 'a' @num)
           (num define_metric #counter 'b' @num)
           (num define_metric #counter 'a' @num)
           (num define_metric #counter '' @num)
           (num define_metric #3 'a' @num)",
        expect![[r#"
            > tick
            1: define_metric counter a -> OK 4
            1: define_metric gauge a -> OK 5
            1: define_metric histogram a -> OK 6
            1: define_metric counter b -> OK 8
            1: define_metric counter a -> OK 4
            1: define_metric counter -> OK 12
            1: define_metric 3 a -> BAD_ARGUMENT
            > metrics
            =  Counter(0)
            = a Counter(0)
            = a Gauge(0)
            = a Histogram { counts: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], sum: 0 }
            = b Counter(0)
        "#]],
    );
}

// Checks: MT-03, MT-04, MT-12
#[test]
fn counters_only_go_up() {
    check(
        "on tick:
           (num define_metric #counter 'c' @num)
           (is increment_metric #4 #5L)
           (is record_metric #4 #7L)
           (num get_metric #4 @num)
           (is increment_metric #4 #0L)
           (is increment_metric #4 #-1L)
           (num get_metric #4 @num)",
        expect![[r#"
            > tick
            1: define_metric counter c -> OK 4
            1: increment_metric 4 5L -> OK
            1: record_metric 4 7L -> OK
            1: get_metric 4 -> OK 12
            1: increment_metric 4 0L -> BAD_ARGUMENT
            1: increment_metric 4 -1L -> BAD_ARGUMENT
            1: get_metric 4 -> OK 12
            > tick
            1: define_metric counter c -> OK 4
            1: increment_metric 4 5L -> OK
            1: record_metric 4 7L -> OK
            1: get_metric 4 -> OK 24
            1: increment_metric 4 0L -> BAD_ARGUMENT
            1: increment_metric 4 -1L -> BAD_ARGUMENT
            1: get_metric 4 -> OK 24
            > metrics
            = c Counter(24)
        "#]],
    );
}

// Checks: MT-05, MT-06
#[test]
fn gauges_go_both_ways_and_below_zero_they_wrap() {
    check(
        "on tick:
           (num define_metric #gauge 'g' @num)
           (is record_metric #5 #7L)
           (is increment_metric #5 #-3L)
           (is increment_metric #5 #1L)
           (num get_metric #5 @num)
           (is increment_metric #5 #-7L)
           (num get_metric #5 @num)
           (is increment_metric #5 #3L)
           (num get_metric #5 @num)",
        expect![[r#"
            > tick
            1: define_metric gauge g -> OK 5
            1: record_metric 5 7L -> OK
            1: increment_metric 5 -3L -> OK
            1: increment_metric 5 1L -> OK
            1: get_metric 5 -> OK 5
            1: increment_metric 5 -7L -> OK
            1: get_metric 5 -> OK 18446744073709551614
            1: increment_metric 5 3L -> OK
            1: get_metric 5 -> OK 1
        "#]],
    );
}

// Checks: MT-07
#[test]
fn histograms_only_record() {
    check(
        "on tick:
           (num define_metric #histogram 'h' @num)
           (is record_metric #6 #2L)
           (is record_metric #6 #-1L)
           (is increment_metric #6 #1L)
           (num get_metric #6 @num)",
        expect![[r#"
            > tick
            1: define_metric histogram h -> OK 6
            1: record_metric 6 2L -> OK
            1: record_metric 6 -1L -> OK
            1: increment_metric 6 1L -> BAD_ARGUMENT
            1: get_metric 6 -> BAD_ARGUMENT
            > metrics
            = h Histogram { counts: [0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], sum: 1 }
        "#]],
    );
}

// Checks: MT-08
#[test]
fn unknown_ids_are_not_found() {
    check(
        "on tick:
           (num get_metric #4 @num)
           (is increment_metric #5 #1L)
           (is record_metric #6 #1L)
           (num get_metric #0 @num)
           (is record_metric #7 #1L)
           (num get_metric #7 @num)
           (is increment_metric #-1 #1L)",
        expect![[r#"
            > tick
            1: get_metric 4 -> NOT_FOUND
            1: increment_metric 5 1L -> NOT_FOUND
            1: record_metric 6 1L -> NOT_FOUND
            1: get_metric 0 -> NOT_FOUND
            1: record_metric 7 1L -> NOT_FOUND
            1: get_metric 7 -> BAD_ARGUMENT
            1: increment_metric -1 1L -> BAD_ARGUMENT
        "#]],
    );
}

// Checks: MT-09, MT-13
#[test]
fn one_name_is_one_metric_in_all_vms_and_outlives_them() {
    check(
        "on tick:
           (num define_metric #counter 'shared' @num)
           (is increment_metric #4 #1L)
           (num get_metric #4 @num)",
        expect![[r#"
            > start plugin=a
            > tick
            a/1: define_metric counter shared -> OK 4
            a/1: increment_metric 4 1L -> OK
            a/1: get_metric 4 -> OK 1
            > start plugin=b vm_id=other
            > tick
            b/1: define_metric counter shared -> OK 4
            b/1: increment_metric 4 1L -> OK
            b/1: get_metric 4 -> OK 2
            > end-vm a
            > end-vm b
            > metrics
            = shared Counter(2)
        "#]],
    );
}

#[test]
fn the_number_of_metrics_and_the_length_of_names_are_limited() {
    check_with(
        Limits { metrics: 1, ..patient() },
        "on tick:
           (num define_metric #counter #0 #4097 @num)
           (num define_metric #counter 'a' @num)
           (num define_metric #counter 'b' @num)
           (num define_metric #counter 'a' @num)",
        expect![[r#"
            > tick
            1: define_metric counter 0 4097 -> BAD_ARGUMENT
            1: define_metric counter a -> OK 4
            1: define_metric counter b -> INTERNAL_FAILURE
            1: define_metric counter a -> OK 4
        "#]],
    );
}

#[test]
fn pointers_outside_the_memory_are_invalid() {
    check(
        "on tick:
           (is define_metric #counter #bad #1 @num)
           (is define_metric #counter 'a' #bad)
           (is get_metric #4 #bad)",
        expect![[r#"
            > tick
            1: define_metric counter bad 1 -> INVALID_MEMORY_ACCESS
            1: define_metric counter a bad -> INVALID_MEMORY_ACCESS
            1: get_metric 4 bad -> INVALID_MEMORY_ACCESS
        "#]],
    );
}
