//! Start, configuration and the end of plugins and streams.

use expect_test::expect;

use crate::harness::check;

/// Logs every callback of the life cycle with its context and its parameter.
const STORY: &str = "
    on context_create:
      (call $number 'context_create, parent' (local.get $parent))
    on vm_start:
      (call $number 'vm_start' (local.get $size))
    on configure:
      (call $number 'configure' (local.get $size))
    on request_headers:
      (call $number 'request_headers' (local.get $count))
    on log:
      (call $say 'log')
    on done:
      (call $say 'done')
    on delete:
      (call $say 'delete')
    ";

// Checks: LD-15, LD-16
#[test]
fn initialize_is_followed_by_main_whose_result_is_ignored() {
    check(
        "module:
           (func (export \"_start\") (unreachable))
           (func (export \"__main_void\") (result i32) (unreachable))
           (func (export \"main\") (param i32 i32) (result i32)
             (call $number 'main' (i32.add (local.get 0) (local.get 1)))
             #1)
         on _initialize:
           (call $say '_initialize')",
        expect![[r#"
            > start
            0: _initialize
            0: main 0
        "#]],
    );
}

// Checks: LD-17
#[test]
fn initialize_is_followed_by_main_void_where_there_is_no_main() {
    check(
        "module:
           (func (export \"__main_void\") (result i32)
             (call $say '__main_void')
             #0)
         on _initialize:
           (call $say '_initialize')",
        expect![[r#"
            > start
            0: _initialize
            0: __main_void
        "#]],
    );
}

// Checks: LD-18
#[test]
fn start_runs_where_there_is_no_initialize() {
    check(
        "module:
           (func (export \"main\") (param i32 i32) (result i32) (unreachable))
         on _start:
           (call $say '_start')",
        expect![[r#"
            > start
            0: _start
        "#]],
    );
}

#[test]
fn the_start_section_runs_first_and_can_log() {
    check(
        "module:
           (func $section (call $say 'start section'))
           (start $section)
         on _initialize:
           (call $say '_initialize')",
        expect![[r#"
            > start
            0: start section
            0: _initialize
        "#]],
    );
}

// Checks: LD-21
#[test]
fn start_code_may_log_and_use_wasi() {
    check(
        "module:
           (import \"wasi_snapshot_preview1\" \"clock_time_get\" (func $clock (param i32 i64 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"random_get\" (func $random (param i32 i32) (result i32)))
           (import \"wasi_snapshot_preview1\" \"environ_sizes_get\" (func $environ (param i32 i32) (result i32)))
         on _initialize:
           (call $number 'clock' (call $clock #0 #0L #0x800))
           (call $number 'random' (call $random #0x800 #8))
           (call $number 'environ' (call $environ #0x800 #0x804))",
        expect![[r#"
            > start
            0: clock 0
            0: random 0
            0: environ 0
        "#]],
    );
}

// Checks: LD-20
#[test]
fn start_code_may_not_make_other_hostcalls() {
    check(
        "on _initialize:
           (got get_property 'plugin_name' @out)
           (call $say 'not reached')
         on context_create:
           (call $say 'not reached either')",
        expect![[r#"
            > start
            critical 0: the module failed in `_initialize`: the guest called `proxy_get_property` from its start code
            ! the module failed in `_initialize`: the guest called `proxy_get_property` from its start code
        "#]],
    );
}

#[test]
fn a_start_section_may_not_make_other_hostcalls() {
    check(
        "module:
           (func $section (is set_tick_period_milliseconds #1))
           (start $section)",
        expect![[r#"
            > start
            ! the module failed in `start`: the guest called `proxy_set_tick_period_milliseconds` from its start code
        "#]],
    );
}

#[test]
fn a_trap_in_initialize_ends_the_start() {
    check(
        "module:
           (func (export \"main\") (param i32 i32) (result i32) (call $say 'not reached') #0)
         on _initialize:
           (unreachable)",
        expect![[r#"
            > start
            critical 0: the module failed in `_initialize`: wasm `unreachable` instruction executed
            ! the module failed in `_initialize`: wasm `unreachable` instruction executed
        "#]],
    );
}

// Checks: LC-01
#[test]
fn a_plugin_is_created_started_and_configured() {
    check(
        STORY,
        expect![[r#"
            > start vm_config=four config=seven77
            1: context_create, parent 0
            1: vm_start 4
            1: configure 7
        "#]],
    );
}

// Checks: LC-02
#[test]
fn a_plugin_without_configuration_is_configured_with_nothing() {
    check(
        "on vm_start:
           (call $number 'vm_start' (local.get $size))
           (got get_buffer_bytes #vm_configuration #0 #all @out)
         on configure:
           (call $number 'configure' (local.get $size))
           (got get_buffer_bytes #plugin_configuration #0 #all @out)",
        expect![[r#"
            > start
            1: vm_start 0
            1: get_buffer_bytes vm_configuration 0 all -> OK empty
            1: configure 0
            1: get_buffer_bytes plugin_configuration 0 all -> OK empty
        "#]],
    );
}

// Checks: LC-30
#[test]
fn what_no_host_calls_is_not_called() {
    check(
        "module:
           (func (export \"main\") (param i32 i32) (result i32) (unreachable))
           (func (export \"proxy_validate_configuration\") (param i32 i32) (result i32)
             (unreachable))
         on configure:
           (call $say 'configure')",
        expect![[r#"
            > start
            1: configure
        "#]],
    );
}

// Checks: LC-03, LC-05
#[test]
fn the_plugin_configuration_is_shown_while_configuring_alone() {
    check(
        "on context_create:
           (got get_buffer_bytes #plugin_configuration #0 #all @out)
         on vm_start:
           (got get_buffer_bytes #plugin_configuration #0 #all @out)
           (num get_buffer_status #plugin_configuration @num #0x800)
           (is set_buffer_bytes #plugin_configuration #0 #0 '')
         on configure:
           (got get_buffer_bytes #plugin_configuration #0 #all @out)
           (num get_buffer_status #plugin_configuration @num #0x800)
           (got get_buffer_bytes #plugin_configuration #1 #1 @out)
           (is set_buffer_bytes #plugin_configuration #0 #0 '')
         on tick:
           (got get_buffer_bytes #plugin_configuration #0 #all @out)",
        expect![[r#"
            > start config=text
            1: get_buffer_bytes plugin_configuration 0 all -> NOT_FOUND
            1: get_buffer_bytes plugin_configuration 0 all -> NOT_FOUND
            1: get_buffer_status plugin_configuration 0x800 -> NOT_FOUND
            1: set_buffer_bytes plugin_configuration 0 0 -> NOT_FOUND
            1: get_buffer_bytes plugin_configuration 0 all -> OK "text"
            1: get_buffer_status plugin_configuration 0x800 -> OK 4
            1: get_buffer_bytes plugin_configuration 1 1 -> OK "e"
            1: set_buffer_bytes plugin_configuration 0 0 -> BAD_ARGUMENT
            > tick
            1: get_buffer_bytes plugin_configuration 0 all -> NOT_FOUND
        "#]],
    );
}

// Checks: LC-06
#[test]
fn the_vm_configuration_is_shown_in_every_callback() {
    check(
        "on configure:
           (got get_buffer_bytes #vm_configuration #0 #all @out)
         on request_headers:
           (got get_buffer_bytes #vm_configuration #1 #2 @out)
           (is set_buffer_bytes #vm_configuration #0 #0 '')
         on log:
           (got get_buffer_bytes #vm_configuration #0 #all @out)",
        expect![[r#"
            > start vm_config=text
            1: get_buffer_bytes vm_configuration 0 all -> OK "text"
            > request
            2: get_buffer_bytes vm_configuration 1 2 -> OK "ex"
            2: set_buffer_bytes vm_configuration 0 0 -> BAD_ARGUMENT
            = Continue
            = headers
            > log
            2: get_buffer_bytes vm_configuration 0 all -> OK "text"
        "#]],
    );
}

// Checks: LD-01, LC-07
#[test]
fn the_oldest_abi_reads_its_configuration_with_one_hostcall() {
    check(
        "abi 0_1_0
         on vm_start:
           (got get_configuration @out)
         on configure:
           (got get_configuration @out)
         on request_headers:
           (got get_configuration @out)
           (call $number 'count' (local.get $count))",
        expect![[r#"
            > start vm_config=vm config=plugin
            1: get_configuration -> OK "vm"
            1: get_configuration -> OK "plugin"
            > request a=1
            2: get_configuration -> OK "vm"
            2: count 1
            = Continue
            = headers a=1
        "#]],
    );
}

// Checks: LC-08
#[test]
fn a_plugin_that_refuses_to_start_is_not_configured() {
    check(
        "on vm_start:
           (return #0)
         on configure:
           (call $say 'not reached')
         on done:
           (call $say 'nor this')",
        expect![[r#"
            > start
            ! `proxy_on_vm_start` refused to start
        "#]],
    );
}

#[test]
fn a_plugin_that_refuses_its_configuration_leaves_the_vm_to_others() {
    check(
        "on configure:
           (return (i32.eq (local.get $size) #2))",
        expect![[r#"
            > start plugin=a vm=shared config=no!
            ! `proxy_on_configure` refused the configuration
            > start plugin=b vm=shared config=ok
            > contexts
            = 1
        "#]],
    );
}

// Checks: LC-10
#[test]
fn a_trap_while_configuring_says_where() {
    check(
        "on configure:
           (unreachable)",
        expect![[r#"
            > start plugin=a vm=shared
            critical a/1: plugin `a` failed in `proxy_on_configure`: wasm `unreachable` instruction executed
            ! plugin `a` failed in `proxy_on_configure`: wasm `unreachable` instruction executed
            > start plugin=b vm=shared
            ! plugin `a` failed in `proxy_on_configure`: wasm `unreachable` instruction executed
        "#]],
    );
}

// Checks: LC-12
#[test]
fn plugins_of_one_vm_have_their_own_contexts_and_one_memory() {
    check(
        "module:
           (global $starts (mut i32) #0)
         on configure:
           (global.set $starts (i32.add (global.get $starts) #1))
           (call $number 'starts' (global.get $starts))
           (got get_buffer_bytes #plugin_configuration #0 #all @out)
         on tick:
           (got get_property 'plugin_name' @out)",
        expect![[r#"
            > start plugin=a vm=shared config=A
            a/1: starts 1
            a/1: get_buffer_bytes plugin_configuration 0 all -> OK "A"
            > start plugin=b vm=shared config=B
            b/2: starts 2
            b/2: get_buffer_bytes plugin_configuration 0 all -> OK "B"
            > start plugin=c vm=own config=C
            c/1: starts 1
            c/1: get_buffer_bytes plugin_configuration 0 all -> OK "C"
            > plugin a
            > tick
            a/1: get_property plugin_name -> OK "a"
            > plugin b
            > tick
            b/2: get_property plugin_name -> OK "b"
        "#]],
    );
}

// Checks: LC-18, LC-19
#[test]
fn a_stream_is_created_with_its_first_callback_and_ends_with_log_done_delete() {
    check(
        STORY,
        expect![[r#"
            > start
            1: context_create, parent 0
            1: vm_start 0
            1: configure 0
            > request a=1
            2: context_create, parent 1
            2: request_headers 1
            = Continue
            = headers a=1
            > stream other
            > log
            3: context_create, parent 1
            3: log
            > finish
            3: done
            3: delete
            > stream s
            > log
            2: log
            > finish
            2: done
            2: delete
            > contexts
            = 1
        "#]],
    );
}

#[test]
fn a_stream_that_no_callback_met_ends_silently() {
    check(
        STORY,
        expect![[r#"
            > start
            1: context_create, parent 0
            1: vm_start 0
            1: configure 0
            > actions
            > contexts
            = 2
            > finish
            > contexts
            = 1
        "#]],
    );
}

#[test]
fn a_dropped_stream_is_forgotten_without_a_word() {
    check(
        STORY,
        expect![[r#"
            > start
            1: context_create, parent 0
            1: vm_start 0
            1: configure 0
            > request a=1
            2: context_create, parent 1
            2: request_headers 1
            = Continue
            = headers a=1
            > drop
            > contexts
            = 1
        "#]],
    );
}

// Checks: LC-18, LC-21
#[test]
fn streams_are_deleted_whatever_done_returns_and_ids_are_not_used_again() {
    check(
        "on done:
           (return #0)
         on delete:
           (call $say 'delete')",
        expect![[r#"
            > request a=1
            = Continue
            = headers a=1
            > finish
            2: delete
            > request a=1
            = Continue
            = headers a=1
            > finish
            3: delete
        "#]],
    );
}

// Checks: LC-22
#[test]
fn a_plugin_is_deleted_when_it_is_done() {
    check(
        "on done:
           (call $say 'done')
         on delete:
           (call $say 'delete')",
        expect![[r#"
            > contexts
            = 1
            > shut-down
            1: done
            1: delete
            > is-gone
            = true
            > shut-down
        "#]],
    );
}

// Checks: LC-23
#[test]
fn a_plugin_that_is_not_done_is_deleted_after_it_says_so() {
    check(
        "on done:
           (is done)
           (return #0)
         on tick:
           (is done)
         on delete:
           (call $say 'delete')",
        expect![[r#"
            > shut-down
            1: done -> NOT_FOUND
            > is-gone
            = false
            > shut-down
            > tick
            1: done -> OK
            1: delete
            * p ended
            > is-gone
            = true
        "#]],
    );
}

// Checks: LC-24
#[test]
fn done_out_of_turn_is_not_found() {
    check(
        "on tick:
           (is done)
         on request_headers:
           (is done)",
        expect![[r#"
            > tick
            1: done -> NOT_FOUND
            > request a=1
            2: done -> NOT_FOUND
            = Continue
            = headers a=1
        "#]],
    );
}

// Checks: LD-19
#[test]
fn a_start_section_alone_prepares_the_module() {
    check(
        "module:
           (global $prepared (mut i32) #0)
           (func $section (global.set $prepared #7))
           (start $section)
         on vm_start:
           (call $number 'prepared' (global.get $prepared))",
        expect![[r#"
            > start
            1: prepared 7
        "#]],
    );
}

#[test]
fn metadata_frames_are_told_with_the_number_of_their_entries() {
    check(
        "on request_metadata:
           (call $number 'request_metadata' (local.get $count))
           (return #3)
         on response_metadata:
           (call $number 'response_metadata' (local.get $count))
         on request_body:
           (call $say 'request_body')",
        expect![[r#"
            > request a=1
            = Continue
            = headers a=1
            > request-metadata 3
            2: request_metadata 3
            > body x
            2: request_body
            = Continue
            = body "x"
            > response :status=200
            = Continue
            = headers :status=200
            > response-metadata 1
            2: response_metadata 1
        "#]],
    );
}
