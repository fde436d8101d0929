//! WASI preview 1: a log, clocks, randomness, an environment, and no files.

use std::fmt::Write as _;

use expect_test::expect;

use crate::harness::{check, outcome, patient};

/// Imports a WASI function under its own name.
fn import(name: &str, params: &str) -> String {
    format!(
        "module:
         (import \"wasi_snapshot_preview1\" \"{name}\" (func ${name} (param {params}) (result i32)))\n"
    )
}

/// A vector at 0x800 for each text, as WASI describes what is to be written.
fn vectors(texts: &[&str]) -> String {
    let place = |(index, text)| format!("(call $vector #{} '{text}')", 0x800 + 8 * index);
    let calls: Vec<_> = texts.iter().enumerate().map(place).collect();
    format!(
        "(func $vector (param $at i32) (param $ptr i32) (param $len i32)
           (i32.store (local.get $at) (local.get $ptr))
           (i32.store (i32.add (local.get $at) #4) (local.get $len)))
         (func $vectors {})\n",
        calls.join("\n")
    )
}

// Checks: WA-01
#[test]
fn standard_output_and_error_are_logged_by_the_line() {
    check(
        &(import("fd_write", "i32 i32 i32 i32")
            + &vectors(&["one ", "two\\0athree", "\\0a\\0a"])
            + "on tick:
               (call $vectors)
               (call $number 'fd_write' (call $fd_write #1 #0x800 #3 #0x108))
               (call $got_number '  written' #0)
               (call $number 'fd_write' (call $fd_write #2 #0x800 #1 #0x108))
               (call $number 'nothing' (call $fd_write #2 #0x800 #0 #0x108))
               (call $got_number '  written' #0)"),
        expect![[r#"
            > tick
            1: one two\nthree\n
            1: fd_write 0
            1:   written OK 15
            error 1: one
            1: fd_write 0
            1: nothing 0
            1:   written OK 0
        "#]],
    );
}

// Checks: WA-02, WA-03
#[test]
fn other_files_and_bad_vectors_are_not_written() {
    check(
        &(import("fd_write", "i32 i32 i32 i32")
            + &vectors(&["text"])
            + "on tick:
               (call $vectors)
               (call $number 'fd 0' (call $fd_write #0 #0x800 #1 #0x108))
               (call $number 'fd 3' (call $fd_write #3 #0x800 #1 #0x108))
               (call $number 'vectors' (call $fd_write #1 #bad #1 #0x108))
               (call $number 'result' (call $fd_write #1 #0x800 #1 #bad))
               (call $number 'too many' (call $fd_write #1 #0x800 #all #0x108))
               (i32.store #0x800 #bad)
               (call $number 'text' (call $fd_write #1 #0x800 #1 #0x108))
               (call $got_number '  written' #0)"),
        expect![[r#"
            > tick
            1: fd 0 8
            1: fd 3 8
            1: vectors 21
            1: result 21
            1: too many 28
            1: text 21
            1:   written OK untouched
        "#]],
    );
}

#[test]
fn one_write_is_bounded() {
    check(
        &(import("fd_write", "i32 i32 i32 i32")
            + &vectors(&[""])
            + "on tick:
               (drop (memory.grow #20))
               (call $vector #0x800 #0 #0x100001)
               (call $number 'fd_write' (call $fd_write #1 #0x800 #1 #0x108))"),
        expect![[r#"
            > tick
            1: fd_write 28
        "#]],
    );
    // A line without an end is kept, up to the bound of a line.
    let full = outcome(
        patient(),
        &(import("fd_write", "i32 i32 i32 i32")
            + &vectors(&[""])
            + "on tick:
               (drop (memory.grow #20))
               (memory.fill #0x10000 #97 #0x100000)
               (call $vector #0x800 #0x10000 #0x100000)
               (call $number 'fd_write' (call $fd_write #1 #0x800 #1 #0x108))
               (call $number 'written' (i32.load #0x108))"),
        "> tick",
    );
    assert!(full.contains("1: fd_write 0\n1: written 1048576\n"), "{full:.200}");
}

#[test]
fn the_vectors_of_one_write_are_bounded() {
    check(
        &(import("fd_write", "i32 i32 i32 i32")
            + "on tick:
               (memory.fill #0x8000 #0 #0x4000)
               (call $number '1024' (call $fd_write #1 #0x8000 #1024 #0x108))
               (call $number '1025' (call $fd_write #1 #0x8000 #1025 #0x108))"),
        expect![[r#"
            > tick
            1: 1024 0
            1: 1025 28
        "#]],
    );
}

#[test]
fn an_offset_is_ignored_when_writing() {
    check(
        &(import("fd_pwrite", "i32 i32 i32 i64 i32")
            + &vectors(&["text\\0a"])
            + "on tick:
               (call $vectors)
               (call $number 'fd_pwrite' (call $fd_pwrite #1 #0x800 #1 #7L #0x108))
               (call $number 'fd 3' (call $fd_pwrite #3 #0x800 #1 #7L #0x108))"),
        expect![[r#"
            > tick
            1: text
            1: fd_pwrite 0
            1: fd 3 8
        "#]],
    );
}

// Checks: WA-04, WA-05
#[test]
fn the_environment_is_what_was_configured() {
    check(
        &(import("environ_sizes_get", "i32 i32")
            + &import("environ_get", "i32 i32")
            + "on tick:
               (call $number 'sizes' (call $environ_sizes_get #0x800 #0x804))
               (call $number '  count' (i32.load #0x800))
               (call $number '  bytes' (i32.load #0x804))
               (call $number 'get' (call $environ_get #0x900 #0xa00))
               (i32.store #0x100 #0xa00)
               (i32.store #0x104 (i32.load #0x804))
               (call $got '  text' #0)
               (call $number 'bad sizes' (call $environ_sizes_get #0x800 #bad))
               (call $number 'bad get' (call $environ_get #0x900 #bad))"),
        expect![[r#"
            > start env=NAME:some:value
            > tick
            1: sizes 0
            1:   count 1
            1:   bytes 16
            1: get 0
            1:   text OK "NAME=some:value\00"
            1: bad sizes 21
            1: bad get 21
            > start plugin=q
            > tick
            q/1: sizes 0
            q/1:   count 0
            q/1:   bytes 0
            q/1: get 0
            q/1:   text OK ""
            q/1: bad sizes 21
            q/1: bad get 0
        "#]],
    );
}

// Checks: WA-06
#[test]
fn there_are_no_arguments() {
    check(
        &(import("args_sizes_get", "i32 i32")
            + &import("args_get", "i32 i32")
            + "on tick:
               (i64.store #0x800 #-1L)
               (call $number 'sizes' (call $args_sizes_get #0x800 #0x804))
               (call $number '  count' (i32.load #0x800))
               (call $number '  bytes' (i32.load #0x804))
               (call $number 'get' (call $args_get #0 #0))
               (call $number 'bad' (call $args_sizes_get #bad #0x804))"),
        expect![[r#"
            > tick
            1: sizes 0
            1:   count 0
            1:   bytes 0
            1: get 0
            1: bad 21
        "#]],
    );
}

// Checks: WA-07, WA-08
#[test]
fn two_clocks_run_and_the_others_are_not_supported() {
    check(
        &(import("clock_time_get", "i32 i64 i32")
            + &import("clock_res_get", "i32 i32")
            + "on tick:
               (call $number 'realtime' (call $clock_time_get #0 #1L #0x108))
               (call $got_number ' ' #0)
               (call $number 'monotonic' (call $clock_time_get #1 #1L #0x108))
               (call $got_number ' ' #0)
               (call $number 'process' (call $clock_time_get #2 #1L #0x108))
               (call $number 'thread' (call $clock_time_get #3 #1L #0x108))
               (call $number 'bad' (call $clock_time_get #0 #1L #bad))
               (call $number 'resolution' (call $clock_res_get #1 #0x108))
               (call $got_number ' ' #0)
               (call $number 'process' (call $clock_res_get #2 #0x108))
               (call $number 'bad' (call $clock_res_get #0 #bad))"),
        expect![[r#"
            > tick
            1: realtime 0
            1:   OK 1700000000000000000
            1: monotonic 0
            1:   OK 5000
            1: process 58
            1: thread 58
            1: bad 21
            1: resolution 0
            1:   OK 1
            1: process 58
            1: bad 21
        "#]],
    );
}

// Checks: WA-09, WA-10
#[test]
fn random_bytes_come_in_bounded_portions() {
    check(
        &(import("random_get", "i32 i32")
            + "on tick:
               (call $number 'none' (call $random_get #0x800 #0))
               (call $number 'some' (call $random_get #0x800 #64))
               (call $number 'not all zero' (i64.ne #0L (i64.or
                 (i64.or (i64.load #0x800) (i64.load #0x808))
                 (i64.or (i64.load #0x830) (i64.load #0x838)))))
               (call $number 'untouched behind' (i64.eqz (i64.load #0x840)))
               (call $number 'most' (call $random_get #0x20000 #65536))
               (call $number 'one more' (call $random_get #0x20000 #65537))
               (call $number 'bad' (call $random_get #bad #1))"),
        expect![[r#"
            > tick
            1: none 0
            1: some 0
            1: not all zero 1
            1: untouched behind 1
            1: most 0
            1: one more 28
            1: bad 21
        "#]],
    );
}

// Checks: WA-16
#[test]
fn standard_streams_have_a_state_that_allows_writing() {
    check(
        &(import("fd_fdstat_get", "i32 i32")
            + &import("fd_tell", "i32 i32")
            + "on tick:
               (i64.store #0x800 #-1L)
               (i64.store #0x808 #-1L)
               (call $number 'fd 1' (call $fd_fdstat_get #1 #0x800))
               (i32.store #0x100 #0x800)
               (i32.store #0x104 #24)
               (call $got '  state' #0)
               (call $number 'fd 0' (call $fd_fdstat_get #0 #0x800))
               (call $number 'fd 3' (call $fd_fdstat_get #3 #0x800))
               (call $number 'bad' (call $fd_fdstat_get #1 #bad))
               (call $number 'tell 2' (call $fd_tell #2 #0x108))
               (call $got_number '  at' #0)
               (call $number 'tell 3' (call $fd_tell #3 #0x108))
               (call $number 'bad' (call $fd_tell #1 #bad))"),
        expect![[r#"
            > tick
            1: fd 1 0
            1:   state OK "\00\00\00\00\00\00\00\00@\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00"
            1: fd 0 8
            1: fd 3 8
            1: bad 21
            1: tell 2 0
            1:   at OK 0
            1: tell 3 8
            1: bad 21
        "#]],
    );
}

// Checks: WA-11, WA-12, WA-17
#[test]
fn the_rest_answers_a_number() {
    let i32s = |count: usize| "i32 ".repeat(count);
    // Name, parameters, what is answered for standard output and for another file.
    let rows = [
        ("fd_read", i32s(4), 52, 52),
        ("fd_pread", "i32 i32 i32 i64 i32".into(), 52, 52),
        ("fd_seek", "i32 i64 i32 i32".into(), 0, 0),
        ("fd_close", i32s(1), 0, 0),
        ("fd_fdstat_set_flags", i32s(2), 52, 52),
        ("fd_fdstat_set_rights", "i32 i64 i64".into(), 0, 8),
        ("fd_allocate", "i32 i64 i64".into(), 0, 8),
        ("fd_datasync", i32s(1), 0, 8),
        ("fd_sync", i32s(1), 0, 8),
        ("fd_filestat_set_size", "i32 i64".into(), 0, 8),
        ("fd_filestat_set_times", "i32 i64 i64 i32".into(), 0, 8),
        ("fd_advise", "i32 i64 i64 i32".into(), 0, 0),
        ("fd_filestat_get", i32s(2), 8, 8),
        ("fd_prestat_get", i32s(2), 8, 8),
        ("fd_prestat_dir_name", i32s(3), 52, 52),
        ("fd_readdir", "i32 i32 i32 i64 i32".into(), 20, 20),
        ("fd_renumber", i32s(2), 58, 8),
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32".into(), 44, 44),
        ("path_filestat_get", i32s(5), 58, 58),
        ("path_filestat_set_times", "i32 i32 i32 i32 i64 i64 i32".into(), 58, 58),
        ("path_create_directory", i32s(3), 58, 58),
        ("path_link", i32s(7), 58, 58),
        ("path_readlink", i32s(6), 58, 58),
        ("path_remove_directory", i32s(3), 58, 58),
        ("path_rename", i32s(6), 58, 58),
        ("path_symlink", i32s(5), 58, 58),
        ("path_unlink_file", i32s(3), 58, 58),
        ("sock_accept", i32s(3), 58, 58),
        ("sock_recv", i32s(6), 58, 58),
        ("sock_send", i32s(5), 58, 58),
        ("sock_shutdown", i32s(2), 58, 58),
        ("proc_raise", i32s(1), 52, 52),
    ];
    let mut guest = String::new();
    let mut expected = String::from("> tick\n");
    let mut calls = String::from("on tick:\n");
    for (name, params, standard, other) in &rows {
        guest += &import(name, params);
        for (fd, errno) in [(1, standard), (3, other)] {
            let rest = params.split_whitespace().skip(1);
            let rest: String =
                rest.map(|ty| if ty == "i64" { "#0L " } else { "#0x900 " }).collect();
            let _ = writeln!(calls, "(call $number '{name} {fd}' (call ${name} #{fd} {rest}))");
            let _ = writeln!(expected, "1: {name} {fd} {errno}");
        }
    }
    assert_eq!(outcome(patient(), &(guest + &calls), "> tick"), expected);
}

#[test]
fn what_a_refused_call_returns_is_zero() {
    check(
        &(import("fd_readdir", "i32 i32 i32 i64 i32")
            + &import("path_readlink", "i32 i32 i32 i32 i32 i32")
            + &import("sock_accept", "i32 i32 i32")
            + &import("sock_recv", "i32 i32 i32 i32 i32 i32")
            + &import("sock_send", "i32 i32 i32 i32 i32")
            + "on tick:
               (drop (call $fd_readdir #3 #0 #0 #0L #0x108))
               (call $got_number 'fd_readdir' #0)
               (drop (call $path_readlink #3 #0 #0 #0 #0 #0x108))
               (call $got_number 'path_readlink' #0)
               (drop (call $sock_accept #3 #0 #0x108))
               (call $got_number 'sock_accept' #0)
               (drop (call $sock_recv #3 #0 #0 #0 #0x108 #0))
               (call $got_number 'sock_recv' #0)
               (drop (call $sock_send #3 #0 #0 #0 #0x108))
               (call $got_number 'sock_send' #0)
               (call $number 'bad' (call $sock_send #3 #0 #0 #0 #bad))"),
        expect![[r#"
            > tick
            1: fd_readdir OK 0
            1: path_readlink OK 0
            1: sock_accept OK 0
            1: sock_recv OK 0
            1: sock_send OK 0
            1: bad 21
        "#]],
    );
}

// Checks: WA-13, WA-14
#[test]
fn waiting_returns_at_once() {
    check(
        &(import("poll_oneoff", "i32 i32 i32 i32")
            + "module:
               (import \"wasi_snapshot_preview1\" \"sched_yield\" (func $sched_yield (result i32)))
             on tick:
               (call $number 'poll_oneoff' (call $poll_oneoff #0x800 #0x900 #1 #0x108))
               (call $got_number '  events' #0)
               (call $number 'bad' (call $poll_oneoff #0x800 #0x900 #1 #bad))
               (call $number 'sched_yield' (call $sched_yield))"),
        expect![[r#"
            > tick
            1: poll_oneoff 0
            1:   events OK 0
            1: bad 21
            1: sched_yield 0
        "#]],
    );
}

// Checks: WA-15
#[test]
fn exit_ends_the_vm_with_its_code() {
    check(
        "module:
           (import \"wasi_snapshot_preview1\" \"proc_exit\" (func $exit (param i32)))
         on tick:
           (call $exit #3)
           (call $say 'not reached')",
        expect![[r#"
            > tick
            critical 1: plugin `p` failed in `proxy_on_tick`: the guest exited with code 3
            ! exit: plugin `p` failed in `proxy_on_tick`: the guest exited with code 3
            > tick
            ! exit: plugin `p` failed in `proxy_on_tick`: the guest exited with code 3
        "#]],
    );
}
