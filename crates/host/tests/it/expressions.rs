//! Expressions that plugins evaluate on attributes. Source: Envoy's `expr_…` foreign functions.

use expect_test::expect;

use crate::harness::{check, check_with, patient};
use wasmplug_host::Limits;

/// Creates, evaluates and deletes, with tokens as the little-endian numbers that they are.
const EVALUATE: &str = r"(got call_foreign_function 'expr_evaluate' '\00\00\00\00' @out)";

// Checks: FF-06
#[test]
fn an_expression_is_created_evaluated_and_deleted() {
    check(
        &format!(
            r"on configure:
               (got call_foreign_function 'expr_create' 'request.path.startsWith(\22/a\22)' @out)
               (got call_foreign_function 'expr_create' 'request.method + \22!\22' @out)
             on request_headers:
               {EVALUATE}
               (got call_foreign_function 'expr_evaluate' '\01\00\00\00' @out)
               (got call_foreign_function 'expr_delete' '\00\00\00\00' @out)
               {EVALUATE}
               (got call_foreign_function 'expr_delete' '\00\00\00\00' @out)
               (got call_foreign_function 'expr_evaluate' '\02\00\00\00' @out)
               (got call_foreign_function 'expr_evaluate' '\01' @out)
               (got call_foreign_function 'expr_delete' '' @out)"
        ),
        expect![[r#"
            > start
            1: call_foreign_function expr_create request.path.startsWith(\22/a\22) -> OK "\00\00\00\00"
            1: call_foreign_function expr_create request.method + \22!\22 -> OK "\01\00\00\00"
            > request :path=/abc :method=GET
            2: call_foreign_function expr_evaluate \00\00\00\00 -> OK "\01"
            2: call_foreign_function expr_evaluate \01\00\00\00 -> OK "GET!"
            2: call_foreign_function expr_delete \00\00\00\00 -> OK empty
            2: call_foreign_function expr_evaluate \00\00\00\00 -> NOT_FOUND
            2: call_foreign_function expr_delete \00\00\00\00 -> OK empty
            2: call_foreign_function expr_evaluate \02\00\00\00 -> NOT_FOUND
            2: call_foreign_function expr_evaluate \01 -> BAD_ARGUMENT
            2: call_foreign_function expr_delete -> BAD_ARGUMENT
            = Continue
            = headers :path=/abc :method=GET
        "#]],
    );
}

// Checks: FF-07
#[test]
fn what_is_no_expression_is_a_bad_argument() {
    check(
        r"on tick:
           (got call_foreign_function 'expr_create' 'request.path ==' @out)
           (got call_foreign_function 'expr_create' '' @out)
           (got call_foreign_function 'expr_create' '\ff' @out)
           (got call_foreign_function 'expr_create' '1 + 1' @out)",
        expect![[r#"
            > tick
            1: call_foreign_function expr_create request.path == -> BAD_ARGUMENT
            1: call_foreign_function expr_create -> BAD_ARGUMENT
            1: call_foreign_function expr_create \ff -> BAD_ARGUMENT
            1: call_foreign_function expr_create 1 + 1 -> OK "\00\00\00\00"
        "#]],
    );
}

#[test]
fn what_cannot_be_evaluated_is_an_internal_failure() {
    check(
        &format!(
            "on tick:
               (got call_foreign_function 'expr_create' 'request.path == 1' @out)
               {EVALUATE}
             on request_headers:
               {EVALUATE}"
        ),
        expect![[r#"
            > tick
            1: call_foreign_function expr_create request.path == 1 -> OK "\00\00\00\00"
            1: call_foreign_function expr_evaluate \00\00\00\00 -> INTERNAL_FAILURE
            > request a=1
            2: call_foreign_function expr_evaluate \00\00\00\00 -> INTERNAL_FAILURE
            = Continue
            = headers a=1
        "#]],
    );
}

#[test]
fn tokens_belong_to_their_plugin_and_are_limited() {
    check_with(
        Limits { expressions: 1, ..patient() },
        &format!(
            "on configure:
               (got call_foreign_function 'expr_create' '1 == 1' @out)
             on tick:
               (got call_foreign_function 'expr_create' '2 == 2' @out)
               {EVALUATE}"
        ),
        expect![[r#"
            > start plugin=a vm=shared
            a/1: call_foreign_function expr_create 1 == 1 -> OK "\00\00\00\00"
            > start plugin=b vm=shared
            b/2: call_foreign_function expr_create 1 == 1 -> OK "\00\00\00\00"
            > tick
            b/2: call_foreign_function expr_create 2 == 2 -> INTERNAL_FAILURE
            b/2: call_foreign_function expr_evaluate \00\00\00\00 -> OK "\01"
            > limits
            = expressions 1
        "#]],
    );
}
