//! Loading and linking: which modules are taken, and what the others are told.

use expect_test::{Expect, expect};

use crate::harness::{assemble, check, load, outcome, patient};

/// The least that a plugin has, with room for more.
fn module(fields: &str) -> String {
    format!(
        r#"(module {fields}
             (memory (export "memory") 1)
             (func (export "proxy_abi_version_0_2_1"))
             (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#
    )
}

fn loads(text: &str, expected: Expect) {
    expected.assert_eq(&(load(text.as_bytes()) + "\n"));
}

// Checks: LD-03
#[test]
fn every_released_version_loads() {
    for (abi, version) in [("0_1_0", "0.1.0"), ("0_2_0", "0.2.0"), ("0_2_1", "0.2.1")] {
        assert_eq!(load(&assemble(&format!("abi {abi}"))), format!("loads as {version}"));
    }
}

// Checks: LD-07
#[test]
fn the_first_known_marker_counts() {
    let markers = r#"(func (export "proxy_abi_version_0_3_0"))
                     (func (export "proxy_abi_version_0_1_0"))"#;
    loads(
        &module(markers),
        expect![[r#"
        loads as 0.1.0
    "#]],
    );
}

// Checks: LD-05
#[test]
fn an_unknown_marker_is_named() {
    loads(
        r#"(module (func (export "proxy_abi_version_0_3_0")))"#,
        expect![[r#"
            the module declares `proxy_abi_version_0_3_0`, which is not a known Proxy-Wasm ABI version
            hint: this host speaks 0.1.0, 0.2.0 and 0.2.1
        "#]],
    );
}

// Checks: LD-04, LD-06
#[test]
fn a_module_without_a_marker_function_is_refused() {
    loads(
        "(module)",
        expect![[r#"
            the module does not declare a Proxy-Wasm ABI version
            hint: a plugin exports a function named `proxy_abi_version_0_2_1`; is this a module built for another purpose, or without the SDK's entry point?
        "#]],
    );
    loads(
        r#"(module (global (export "proxy_abi_version_0_2_1") i32 (i32.const 0)))"#,
        expect![[r#"
            the module does not declare a Proxy-Wasm ABI version
            hint: a plugin exports a function named `proxy_abi_version_0_2_1`; is this a module built for another purpose, or without the SDK's entry point?
        "#]],
    );
}

// Checks: LD-08
#[test]
fn bytes_that_are_no_module_are_refused() {
    let whole = assemble("");
    for bytes in [b"".as_slice(), b"\0asm", b"garbage", b"\0asm\x0d\0\x01\0", &whole[..40]] {
        let error = load(bytes);
        assert!(error.starts_with("the module does not compile: "), "{error}");
    }
}

// Checks: LD-09
#[test]
fn unknown_imports_are_named_all_at_once_and_once_each() {
    loads(
        &module(
            r#"(import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))
               (import "env" "proxy_made_up" (func))
               (import "env" "memory" (memory 1))
               (import "env" "proxy_made_up" (func (param i32)))
               (import "other" "thing" (global i32))
               (import "env" "table" (table 1 funcref))"#,
        ),
        expect![[r#"
            the module imports what no Proxy-Wasm host offers: `env.proxy_made_up`, `other.thing`
            hint: a C library was left out at link time, or the SDK is newer than this host
        "#]],
    );
}

#[test]
fn foreign_toolchains_are_recognised_by_their_imports() {
    for module_name in ["__wbindgen_placeholder__", "gojs", "wasi:cli/stdout@0.2.0"] {
        let error = load(module(&format!(r#"(import "{module_name}" "f" (func))"#)).as_bytes());
        assert!(error.contains("\nhint: "), "{error}");
    }
    let error = load(module(r#"(import "other" "f" (func))"#).as_bytes());
    assert!(!error.contains("hint"), "{error}");
}

#[test]
fn the_same_import_twice_is_fine() {
    let import = r#"(import "env" "proxy_log" (func (param i32 i32 i32) (result i32)))"#;
    loads(
        &module(&import.repeat(2)),
        expect![[r#"
        loads as 0.2.1
    "#]],
    );
}

// Checks: LD-10
#[test]
fn an_import_of_another_type_shows_both() {
    loads(
        &module(r#"(import "env" "proxy_log" (func (param i32 i32) (result i32)))"#),
        expect![[r#"
            the module imports `env.proxy_log` as (i32, i32) -> i32, but it is (i32, i32, i32) -> i32
        "#]],
    );
    loads(
        &module(r#"(import "env" "proxy_increment_metric" (func (param i32 i32) (result i32)))"#),
        expect![[r#"
            the module imports `env.proxy_increment_metric` as (i32, i32) -> i32, but it is (i32, i64) -> i32
        "#]],
    );
}

// Checks: LD-11
#[test]
fn a_callback_of_another_type_shows_what_is_wanted() {
    loads(
        &module(r#"(func (export "proxy_on_tick") (param i64))"#),
        expect![[r#"
        the module exports `proxy_on_tick` as (i64) -> (), but a host calls it as (i32) -> ()
    "#]],
    );
    loads(
        &module(
            r#"(func (export "proxy_on_request_headers") (param i32) (result i32) (i32.const 0))"#,
        ),
        expect![[r#"
            the module exports `proxy_on_request_headers` as (i32) -> i32, but a host calls it as (i32, i32, i32) -> i32 or (i32, i32) -> i32
        "#]],
    );
    loads(
        &module(r#"(func (export "proxy_on_log") (param i32) (result i32) (i32.const 0))"#),
        expect![[r#"
            the module exports `proxy_on_log` as (i32) -> i32, but a host calls it as (i32) -> ()
        "#]],
    );
}

#[test]
fn headers_callbacks_are_called_in_the_shape_that_they_have() {
    for (abi, shape, end) in [("0_1_0", "i32 i32 i32", "2"), ("0_2_1", "i32 i32", "1")] {
        // The last parameter is the end of the stream, or the number of headers.
        let guest = format!(
            "abi {abi}
             module:
               (func (export \"proxy_on_request_headers\") (param {shape}) (result i32)
                 (call $number 'last' (local.get {end}))
                 #0)"
        );
        let outcome = outcome(patient(), &guest, "> request! a=1 b=1 c=1");
        let last = if end == "2" { "2: last 1\n" } else { "2: last 3\n" };
        assert!(outcome.contains(last), "{outcome}");
    }
}

#[test]
fn exports_that_only_look_like_callbacks_are_left_alone() {
    loads(
        &module(
            r#"(global (export "proxy_on_tick") i32 (i32.const 0))
               (func (export "proxy_on_made_up") (param f64))
               (func (export "main") (param i32 i32) (result i32) (unreachable))"#,
        ),
        expect![[r#"
            loads as 0.2.1
        "#]],
    );
}

// Checks: LD-12
#[test]
fn an_allocator_is_required() {
    loads(
        r#"(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1")))"#,
        expect![[r#"
            the module exports no allocator
            hint: export `proxy_on_memory_allocate(size) -> pointer` or `malloc`
        "#]],
    );
}

#[test]
fn a_memory_is_required_and_may_be_imported() {
    assert_eq!(load(&assemble("no memory")), "the module has no memory");
    assert_eq!(load(&assemble("")), "loads as 0.2.1");
    let importing = r#"(module
        (import "env" "m" (memory 1))
        (import "env" "t" (table 1 funcref))
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#;
    assert_eq!(load(importing.as_bytes()), "loads as 0.2.1");
}

// Checks: LD-26
#[test]
fn an_imported_memory_has_the_limits_that_were_asked_for() {
    check(
        "imported memory
         on tick:
           (call $number 'pages' (memory.size))
           (call $number 'grown from' (memory.grow #2))
           (call $number 'refused' (i32.eq (memory.grow #1) #-1))
           (got get_property 'plugin_name' @out)",
        expect![[r#"
            > tick
            1: pages 4
            1: grown from 4
            1: refused 1
            1: get_property plugin_name -> OK "p"
        "#]],
    );
}

// Checks: LD-13
#[test]
fn malloc_is_preferred() {
    check(
        "module:
           (func (export \"malloc\") (param i32) (result i32)
             (call $say 'malloc')
             (call $bump (local.get 0)))
         on request_headers:
           (got get_header_map_value #request_headers 'a' @out)",
        expect![[r#"
            > request a=1
            2: malloc
            2: get_header_map_value request_headers a -> OK "1"
            = Continue
            = headers a=1
        "#]],
    );
}

// Checks: LD-14
#[test]
fn the_memory_allocate_export_serves_where_malloc_is_absent() {
    check(
        "no allocator
         module:
           (func (export \"proxy_on_memory_allocate\") (param i32) (result i32)
             (call $number 'allocate' (local.get 0))
             (call $bump (local.get 0)))
         on request_headers:
           (got get_header_map_value #request_headers 'a' @out)",
        expect![[r#"
            > request a=12345
            2: allocate 5
            2: get_header_map_value request_headers a -> OK "12345"
            = Continue
            = headers a=12345
        "#]],
    );
}

// Checks: LD-25
#[test]
fn wasi_is_offered_under_both_names() {
    for wasi in ["wasi_snapshot_preview1", "wasi_unstable"] {
        let import = format!(
            r#"(import "{wasi}" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
               (import "{wasi}" "proc_exit" (func (param i32)))"#
        );
        assert_eq!(load(module(&import).as_bytes()), "loads as 0.2.1", "{wasi}");
    }
    let import = r#"(import "wasi_snapshot_preview2" "sched_yield" (func (result i32)))"#;
    assert!(load(module(import).as_bytes()).contains("`wasi_snapshot_preview2.sched_yield`"));
}

#[test]
fn wasi_functions_of_another_type_are_refused_where_they_do_something() {
    loads(
        &module(r#"(import "wasi_unstable" "fd_write" (func (param i32) (result i32)))"#),
        expect![[r#"
            the module imports `wasi_unstable.fd_write` as (i32) -> i32, but it is (i32, i32, i32, i32) -> i32
        "#]],
    );
}

// Checks: LD-29
#[test]
fn path_link_loads_with_the_standard_type_and_with_envoys() {
    for params in ["i32 i32 i32 i32 i32 i32 i32", "i32 i32 i32 i32 i32 i32"] {
        let import = format!(
            r#"(import "wasi_snapshot_preview1" "path_link" (func (param {params}) (result i32)))"#
        );
        assert_eq!(load(module(&import).as_bytes()), "loads as 0.2.1", "{params}");
    }
}

#[test]
fn hostcalls_of_all_versions_are_offered_to_each() {
    check(
        "abi 0_2_0
         on tick:
           (num get_log_level @num)
           (got get_configuration @out)",
        expect![[r#"
            > start vm_config=v
            > tick
            1: get_log_level -> OK 1
            1: get_configuration -> OK "v"
        "#]],
    );
}

// Checks: LD-28
#[test]
fn current_features_of_webassembly_are_accepted() {
    let fields = r"(table $a 1 funcref)
                   (table $b 1 funcref)
                   (global (mut funcref) (ref.null func))
                   (func (result i32 i32)
                     (drop (i32x4.splat (i32.const 1)))
                     (memory.fill (i32.const 0) (i32.const 0) (i32.const 0))
                     (table.copy $a $b (i32.const 0) (i32.const 0) (i32.const 0))
                     (i32.extend8_s (i32.const 255))
                     (i32.trunc_sat_f32_s (f32.const 1)))
                   (func $tail (return_call $tail))";
    loads(
        &module(fields),
        expect![[r#"
        loads as 0.2.1
    "#]],
    );
}

#[test]
fn features_that_no_plugin_uses_are_refused() {
    for fields in ["(table 1 externref)", "(memory $other 1)", "(memory $big i64 1)", "(tag $e)"] {
        let error = load(module(fields).as_bytes());
        assert!(error.starts_with("the module does not compile: "), "{fields}: {error}");
    }
}

// Checks: LD-30
#[test]
fn a_module_without_callbacks_passes_everything() {
    check(
        "",
        expect![[r#"
            > request :path=/
            = Continue
            = headers :path=/
            > body x
            = Continue
            = body "x"
            > trailers a=b
            = Continue
            = trailers a=b
            > response :status=200
            = Continue
            = headers :status=200
            > response-body! y
            = Continue
            = body "y"
            > log
            > tick
            > queue-ready 1
            > answer 4 failure
            > finish
            > shut-down
            > contexts
            = 0
        "#]],
    );
}

// Checks: LD-02
#[test]
fn headers_callbacks_of_the_middle_version_learn_of_the_end() {
    check(
        "abi 0_2_0
         on request_headers:
           (call $number 'count' (local.get $count))
           (call $number 'end' (local.get $end))",
        expect![[r#"
            > request! a=1 b=1
            2: count 2
            2: end 1
            = Continue
            = headers a=1 b=1
        "#]],
    );
}
