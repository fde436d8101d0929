//! Values and queues that VMs share. Source: Proxy-Wasm 0.2.1, "Shared data" and "Shared queues".

use expect_test::expect;
use wasmplug_host::{CompiledModule, Limits, MetricValue, VmIdLease};

use crate::harness::{Transcript, assemble, check, check_with, host, patient, start};

/// Logs value and number of the key `k`.
const GET: &str = "
    module:
      (func $get
        (got get_shared_data 'k' @out @num)
        (call $got_number '  cas' #0))
    ";

fn with_get(guest: &str) -> String {
    format!("{guest}\n{GET}")
}

// Checks: SD-01, SD-02, SD-03
#[test]
fn values_are_stored_with_a_number_that_changes_with_each_write() {
    check(
        &with_get(
            "on tick:
               (call $get)
               (is set_shared_data 'k' 'one' #0)
               (call $get)
               (is set_shared_data 'k' 'two' #1)
               (call $get)
               (is set_shared_data 'other' '' #0)
               (is set_shared_data 'k' 'a\\00b' #0)
               (call $get)",
        ),
        expect![[r#"
            > tick
            1: get_shared_data k -> NOT_FOUND
            1:   cas OK untouched
            1: set_shared_data k one 0 -> OK
            1: get_shared_data k -> OK "one"
            1:   cas OK 1
            1: set_shared_data k two 1 -> OK
            1: get_shared_data k -> OK "two"
            1:   cas OK 2
            1: set_shared_data other 0 -> OK
            1: set_shared_data k a\00b 0 -> OK
            1: get_shared_data k -> OK "a\00b"
            1:   cas OK 4
        "#]],
    );
}

// Checks: SD-04
#[test]
fn the_number_of_an_older_write_is_a_mismatch() {
    check(
        &with_get(
            "on tick:
               (is set_shared_data 'k' 'one' #0)
               (is set_shared_data 'k' 'two' #99)
               (is set_shared_data 'k' 'three' #1)
               (is set_shared_data 'k' 'four' #1)
               (call $get)",
        ),
        expect![[r#"
            > tick
            1: set_shared_data k one 0 -> OK
            1: set_shared_data k two 99 -> CAS_MISMATCH
            1: set_shared_data k three 1 -> OK
            1: set_shared_data k four 1 -> CAS_MISMATCH
            1: get_shared_data k -> OK "three"
            1:   cas OK 2
        "#]],
    );
}

// Checks: SD-05, SD-06
#[test]
fn a_missing_key_takes_any_number_and_empty_values_are_values() {
    check(
        &with_get(
            "on tick:
               (is set_shared_data 'k' '' #5)
               (call $get)
               (got get_shared_data '' @out @num)",
        ),
        expect![[r#"
            > tick
            1: set_shared_data k 5 -> OK
            1: get_shared_data k -> OK empty
            1:   cas OK 1
            1: get_shared_data -> NOT_FOUND
        "#]],
    );
}

// Checks: SD-09
#[test]
fn vms_of_one_id_share_and_others_do_not() {
    check(
        &with_get(
            "on configure:
               (if (local.get $size) (then (is set_shared_data 'k' 'value' #0)))
             on tick:
               (call $get)",
        ),
        expect![[r#"
            > start plugin=a vm_id=one config=write
            a/1: set_shared_data k value 0 -> OK
            > start plugin=b vm_id=one
            > tick
            b/1: get_shared_data k -> OK "value"
            b/1:   cas OK 1
            > start plugin=c vm_id=two
            > tick
            c/1: get_shared_data k -> NOT_FOUND
            c/1:   cas OK untouched
        "#]],
    );
}

// Checks: SD-10
#[test]
fn values_and_queues_go_with_the_last_vm_of_their_id() {
    check(
        &with_get(
            "on configure:
               (if (local.get $size) (then
                 (is set_shared_data 'k' 'value' #0)
                 (num register_shared_queue 'q' @num)
                 (is enqueue_shared_queue #1 'item')))
             on tick:
               (call $get)
               (num resolve_shared_queue '' 'q' @num)
               (got dequeue_shared_queue #1 @out)",
        ),
        expect![[r#"
            > start plugin=a vm_id=one config=write
            a/1: set_shared_data k value 0 -> OK
            a/1: register_shared_queue q -> OK 1
            * a item in queue 1
            a/1: enqueue_shared_queue 1 item -> OK
            > start plugin=b vm_id=one
            > end-vm a
            > plugin b
            > tick
            b/1: get_shared_data k -> OK "value"
            b/1:   cas OK 1
            b/1: resolve_shared_queue q -> OK 1
            b/1: dequeue_shared_queue 1 -> OK "item"
            > end-vm b
            > start plugin=c vm_id=one
            > tick
            c/1: get_shared_data k -> NOT_FOUND
            c/1:   cas OK untouched
            c/1: resolve_shared_queue q -> NOT_FOUND
            c/1: dequeue_shared_queue 1 -> NOT_FOUND
        "#]],
    );
}

#[test]
fn a_lease_keeps_values_while_no_vm_runs() {
    let transcript = Transcript::default();
    let host = host(&transcript);
    let guest = with_get(
        "on tick:
           (call $get)
           (is set_shared_data 'k' 'value' #0)",
    );
    let module = CompiledModule::compile(&host, &assemble(&guest)).unwrap();
    let tick = || {
        start(&host, &module).tick().unwrap();
        transcript.take().swap_remove(0)
    };
    let lease = VmIdLease::new(&host, "");
    assert_eq!(tick(), "1: get_shared_data k -> NOT_FOUND");
    assert_eq!(tick(), "1: get_shared_data k -> OK \"value\"");
    drop(lease);
    assert_eq!(tick(), "1: get_shared_data k -> NOT_FOUND");
}

// Checks: SD-08
#[test]
fn no_increment_of_two_threads_is_lost() {
    const TICKS: u32 = 1000;
    let host = host(&Transcript::default());
    // Reads a number and writes it plus one, again until nobody was faster.
    let guest = "on tick:
           (local $cas i32)
           (loop $again
             (local.set $cas #0)
             (i32.store #0x800 #0)
             (if (i32.eqz (call $proxy_get_shared_data 'n' #0x900 #0x904 #0x908)) (then
               (local.set $cas (i32.load #0x908))
               (i32.store #0x800 (i32.load (i32.load #0x900)))))
             (i32.store #0x800 (i32.add (i32.load #0x800) #1))
             (global.set $heap #0x10000)
             (br_if $again (call $proxy_set_shared_data 'n' #0x800 #4 (local.get $cas))))
         on done:
           (drop (call $proxy_get_shared_data 'n' #0x900 #0x904 #0x908))
           (drop (call $proxy_define_metric #gauge 'n' #0x908))
           (drop (call $proxy_record_metric (i32.load #0x908) (i64.load32_u (i32.load #0x900))))";
    let module = CompiledModule::compile(&host, &assemble(guest)).unwrap();
    let first = start(&host, &module);
    // The key exists before the race begins: what is missing takes any number.
    first.tick().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let plugin = start(&host, &module);
                (0..TICKS).for_each(|_| plugin.tick().unwrap());
            });
        }
    });
    first.shut_down();
    let value = MetricValue::Gauge((2 * TICKS + 1).into());
    assert_eq!(host.metrics().values(), [("n".to_owned(), value)]);
}

#[test]
fn entries_keys_and_bytes_are_limited() {
    let limits = Limits {
        shared_data_entry_bytes: 8,
        shared_data_keys: 2,
        shared_data_bytes: 12,
        ..patient()
    };
    check_with(
        limits,
        "on tick:
           (is set_shared_data '1' '12345678' #0)
           (is set_shared_data '1' '1234567' #0)
           (is set_shared_data '2' '1234' #0)
           (is set_shared_data '2' '123' #0)
           (is set_shared_data '3' '' #0)
           (is set_shared_data '1' '' #0)",
        expect![[r#"
            > tick
            1: set_shared_data 1 12345678 0 -> INTERNAL_FAILURE
            1: set_shared_data 1 1234567 0 -> OK
            1: set_shared_data 2 1234 0 -> INTERNAL_FAILURE
            1: set_shared_data 2 123 0 -> OK
            1: set_shared_data 3 0 -> INTERNAL_FAILURE
            1: set_shared_data 1 0 -> OK
        "#]],
    );
}

// Checks: SD-11
#[test]
fn pointers_outside_the_memory_are_invalid() {
    check(
        &with_get(
            "on tick:
               (is set_shared_data #bad #1 'x' #0)
               (is set_shared_data 'k' #0x100 #all #0)
               (call $get)
               (is set_shared_data 'k' 'x' #0)
               (got get_shared_data #bad #1 @out @num)
               (got get_shared_data 'k' #bad #0x104 @num)
               (got get_shared_data 'k' #0x100 #bad @num)
               (got get_shared_data 'k' @out #bad)",
        ),
        expect![[r#"
            > tick
            1: set_shared_data bad 1 x 0 -> INVALID_MEMORY_ACCESS
            1: set_shared_data k 0x100 all 0 -> INVALID_MEMORY_ACCESS
            1: get_shared_data k -> NOT_FOUND
            1:   cas OK untouched
            1: set_shared_data k x 0 -> OK
            1: get_shared_data bad 1 -> INVALID_MEMORY_ACCESS
            1: get_shared_data k bad 0x104 -> INVALID_MEMORY_ACCESS
            1: get_shared_data k 0x100 bad -> INVALID_MEMORY_ACCESS
            1: get_shared_data k bad -> INVALID_MEMORY_ACCESS touched
        "#]],
    );
}

// Checks: SQ-01, SQ-03, SQ-04, SQ-09
#[test]
fn items_come_out_in_order_and_then_the_queue_is_empty() {
    check(
        "on tick:
           (num register_shared_queue 'q' @num)
           (is enqueue_shared_queue #1 'one')
           (is enqueue_shared_queue #1 '')
           (num register_shared_queue 'q' @num)
           (num register_shared_queue 'other' @num)
           (num resolve_shared_queue '' 'q' @num)
           (got dequeue_shared_queue #1 @out)
           (got dequeue_shared_queue #1 @out)
           (got dequeue_shared_queue #1 @out)",
        expect![[r#"
            > tick
            1: register_shared_queue q -> OK 1
            * p item in queue 1
            1: enqueue_shared_queue 1 one -> OK
            * p item in queue 1
            1: enqueue_shared_queue 1 -> OK
            1: register_shared_queue q -> OK 1
            1: register_shared_queue other -> OK 2
            1: resolve_shared_queue q -> OK 1
            1: dequeue_shared_queue 1 -> OK "one"
            1: dequeue_shared_queue 1 -> OK empty
            1: dequeue_shared_queue 1 -> EMPTY
        "#]],
    );
}

// Checks: SQ-02, SQ-05
#[test]
fn unknown_queues_are_not_found() {
    check(
        "on tick:
           (num resolve_shared_queue '' 'q' @num)
           (is enqueue_shared_queue #1 'x')
           (got dequeue_shared_queue #1 @out)
           (got dequeue_shared_queue #0 @out)",
        expect![[r#"
            > tick
            1: resolve_shared_queue q -> NOT_FOUND
            1: enqueue_shared_queue 1 x -> NOT_FOUND
            1: dequeue_shared_queue 1 -> NOT_FOUND
            1: dequeue_shared_queue 0 -> NOT_FOUND
        "#]],
    );
}

// Checks: SQ-08
#[test]
fn the_last_plugin_that_registered_is_told_about_each_item() {
    check(
        "on configure:
           (if (local.get $size) (then (num register_shared_queue 'q' @num)))
         on tick:
           (is enqueue_shared_queue #1 'x')
         on queue_ready:
           (call $number 'token' (local.get $token))
           (got dequeue_shared_queue (local.get $token) @out)
           (is enqueue_shared_queue (local.get $token) 'again')",
        expect![[r#"
            > start plugin=a config=register
            a/1: register_shared_queue q -> OK 1
            > tick
            * a item in queue 1
            a/1: enqueue_shared_queue 1 x -> OK
            > start plugin=b config=register
            b/1: register_shared_queue q -> OK 1
            > tick
            * b item in queue 1
            b/1: enqueue_shared_queue 1 x -> OK
            > queue-ready 1
            b/1: token 1
            b/1: dequeue_shared_queue (local.get $token) -> OK "x"
            * b item in queue 1
            b/1: enqueue_shared_queue (local.get $token) again -> OK
            > plugin a
            > tick
            * b item in queue 1
            a/1: enqueue_shared_queue 1 x -> OK
            > queue-ready 1
            a/1: token 1
            a/1: dequeue_shared_queue (local.get $token) -> OK "x"
            * b item in queue 1
            a/1: enqueue_shared_queue (local.get $token) again -> OK
        "#]],
    );
}

// Checks: SQ-07
#[test]
fn queues_of_other_vm_ids_are_reached_by_their_id() {
    check(
        "on configure:
           (if (local.get $size) (then (num register_shared_queue 'q' @num)))
         on tick:
           (num resolve_shared_queue '' 'q' @num)
           (num resolve_shared_queue 'one' 'q' @num)
           (is enqueue_shared_queue #1 'x')
           (got dequeue_shared_queue #1 @out)",
        expect![[r#"
            > start plugin=a vm_id=one config=register
            a/1: register_shared_queue q -> OK 1
            > start plugin=b vm_id=two
            > tick
            b/1: resolve_shared_queue q -> NOT_FOUND
            b/1: resolve_shared_queue one q -> OK 1
            * a item in queue 1
            b/1: enqueue_shared_queue 1 x -> OK
            b/1: dequeue_shared_queue 1 -> OK "x"
        "#]],
    );
}

// Checks: SQ-12
#[test]
fn queues_items_and_bytes_are_limited() {
    let limits = Limits {
        shared_data_entry_bytes: 5,
        queues: 1,
        queue_items: 2,
        queue_bytes: 7,
        ..patient()
    };
    check_with(
        limits,
        "on tick:
           (num register_shared_queue 'q' @num)
           (num register_shared_queue 'other' @num)
           (num register_shared_queue 'q' @num)
           (is enqueue_shared_queue #1 '123456')
           (is enqueue_shared_queue #1 '12345')
           (is enqueue_shared_queue #1 '123')
           (is enqueue_shared_queue #1 '')
           (is enqueue_shared_queue #1 '')",
        expect![[r#"
            > tick
            1: register_shared_queue q -> OK 1
            1: register_shared_queue other -> INTERNAL_FAILURE
            1: register_shared_queue q -> OK 1
            1: enqueue_shared_queue 1 123456 -> INTERNAL_FAILURE
            * p item in queue 1
            1: enqueue_shared_queue 1 12345 -> OK
            1: enqueue_shared_queue 1 123 -> INTERNAL_FAILURE
            * p item in queue 1
            1: enqueue_shared_queue 1 -> OK
            1: enqueue_shared_queue 1 -> INTERNAL_FAILURE
        "#]],
    );
}

#[test]
fn queue_pointers_outside_the_memory_are_invalid() {
    check(
        "on tick:
           (is register_shared_queue #bad #1 @num)
           (is register_shared_queue 'q' #bad)
           (is resolve_shared_queue #bad #1 'q' @num)
           (is resolve_shared_queue '' #bad #1 @num)
           (is resolve_shared_queue '' 'q' #bad)
           (is enqueue_shared_queue #1 #0x100 #all)
           (is enqueue_shared_queue #1 'kept')
           (got dequeue_shared_queue #1 #bad #0x104)
           (got dequeue_shared_queue #1 @out)",
        expect![[r#"
            > tick
            1: register_shared_queue bad 1 -> INVALID_MEMORY_ACCESS
            1: register_shared_queue q bad -> INVALID_MEMORY_ACCESS
            1: resolve_shared_queue bad 1 q -> INVALID_MEMORY_ACCESS
            1: resolve_shared_queue bad 1 -> INVALID_MEMORY_ACCESS
            1: resolve_shared_queue q bad -> INVALID_MEMORY_ACCESS
            1: enqueue_shared_queue 1 0x100 all -> INVALID_MEMORY_ACCESS
            * p item in queue 1
            1: enqueue_shared_queue 1 kept -> OK
            1: dequeue_shared_queue 1 bad 0x104 -> INVALID_MEMORY_ACCESS
            1: dequeue_shared_queue 1 -> EMPTY
        "#]],
    );
}

// Checks: SD-07
#[test]
fn a_value_of_a_megabyte_is_kept_to_the_byte() {
    check(
        "on tick:
           (drop (memory.grow #40))
           (memory.fill #0x20000 #97 #0xfffff)
           (i32.store8 #0x20005 #0)
           (i32.store8 #0x11fffe #0)
           (is set_shared_data 'k' #0x20000 #0x100000 #0)
           (is set_shared_data 'k' #0x20000 #0xfffff #0)
           (global.set $heap #0x120000)
           (is get_shared_data 'k' #0x800 #0x804 #0x808)
           (call $number 'length' (i32.load #0x804))
           (call $number 'NUL' (i32.load8_u (i32.add (i32.load #0x800) #5)))
           (call $number 'letter' (i32.load8_u (i32.add (i32.load #0x800) #0xffffd)))
           (call $number 'last NUL' (i32.load8_u (i32.add (i32.load #0x800) #0xffffe)))",
        expect![[r#"
            > tick
            1: set_shared_data k 0x20000 0x100000 0 -> INTERNAL_FAILURE
            1: set_shared_data k 0x20000 0xfffff 0 -> OK
            1: get_shared_data k 0x800 0x804 0x808 -> OK
            1: length 1048575
            1: NUL 0
            1: letter 97
            1: last NUL 0
        "#]],
    );
}

// Checks: SQ-10
#[test]
fn a_queue_outlives_the_plugin_that_registered_it() {
    check(
        "on configure:
           (if (local.get $size) (then (num register_shared_queue 'q' @num)))
         on tick:
           (is enqueue_shared_queue #1 'x')
           (got dequeue_shared_queue #1 @out)",
        expect![[r#"
            > start plugin=a vm_id=one config=register
            a/1: register_shared_queue q -> OK 1
            > start plugin=b vm_id=one
            > start plugin=c vm_id=two
            > end-vm a
            > plugin b
            > tick
            * a item in queue 1
            b/1: enqueue_shared_queue 1 x -> OK
            b/1: dequeue_shared_queue 1 -> OK "x"
            > end-vm b
            > plugin c
            > tick
            c/1: enqueue_shared_queue 1 x -> NOT_FOUND
            c/1: dequeue_shared_queue 1 -> NOT_FOUND
        "#]],
    );
}
