//! Foreign functions. Source: Envoy's registry.

use expect_test::expect;

use crate::harness::check;

// Checks: FF-01
#[test]
fn an_unknown_function_is_not_found_and_touches_nothing() {
    check(
        "on tick:
           (got call_foreign_function 'made_up' '' @out)
           (got call_foreign_function '' '' @out)",
        expect![[r#"
            > tick
            1: call_foreign_function made_up -> NOT_FOUND
            1: call_foreign_function -> NOT_FOUND
        "#]],
    );
}

// Checks: FF-09
#[test]
fn the_route_cache_is_cleared_for_a_stream_alone() {
    check(
        "on tick:
           (got call_foreign_function 'clear_route_cache' '' @out)
         on request_headers:
           (got call_foreign_function 'clear_route_cache' '' @out)",
        expect![[r#"
            > tick
            1: call_foreign_function clear_route_cache -> OK empty
            > request
            * s clear route cache
            2: call_foreign_function clear_route_cache -> OK empty
            = Continue
            = headers
        "#]],
    );
}

// Checks: FF-02
#[test]
fn what_was_compressed_can_be_uncompressed() {
    check(
        "on tick:
           (got call_foreign_function 'compress' 'aaaaaaaaaaaaaaaaaaaaaaaa' #0x800 #0x804)
           (got call_foreign_function 'uncompress' (i32.load #0x800) (i32.load #0x804) @out)
           (got call_foreign_function 'compress' '' #0x800 #0x804)
           (got call_foreign_function 'uncompress' (i32.load #0x800) (i32.load #0x804) @out)",
        expect![[r#"
            > tick
            1: call_foreign_function compress aaaaaaaaaaaaaaaaaaaaaaaa 0x800 0x804 -> OK untouched
            1: call_foreign_function uncompress (i32.load 0x800) (i32.load 0x804) -> OK "aaaaaaaaaaaaaaaaaaaaaaaa"
            1: call_foreign_function compress 0x800 0x804 -> OK untouched
            1: call_foreign_function uncompress (i32.load 0x800) (i32.load 0x804) -> OK empty
        "#]],
    );
}

// Checks: FF-03
#[test]
fn what_is_no_zlib_stream_is_refused() {
    check(
        r"on tick:
           (got call_foreign_function 'uncompress' 'garbage' @out)
           (got call_foreign_function 'uncompress' '' @out)
           (got call_foreign_function 'uncompress' '\78\9c\4b' @out)",
        expect![[r#"
            > tick
            1: call_foreign_function uncompress garbage -> SERIALIZATION_FAILURE
            1: call_foreign_function uncompress -> SERIALIZATION_FAILURE
            1: call_foreign_function uncompress \78\9c\4b -> SERIALIZATION_FAILURE
        "#]],
    );
}

/// A zlib stream of 16 MiB of zeros, with `end` as its last block, its checksum included.
fn zeros(end: &[u8]) -> String {
    let mut zeros = flate2::Compress::new(flate2::Compression::best(), false);
    let mut block = Vec::with_capacity(1 << 12);
    zeros.compress_vec(&vec![0; 1 << 16], &mut block, flate2::FlushCompress::Sync).unwrap();
    // Blocks of zeros can follow one another: what they refer back to is zero as well.
    let stream = [b"\x78\x9c".as_slice(), &block.repeat(256), end].concat();
    stream.iter().fold(String::new(), |text, byte| format!("{text}\\{byte:02x}"))
}

// Checks: LM-07
#[test]
fn what_functions_take_and_give_is_bounded() {
    let guest = "on tick:
           (drop (memory.grow #300))
           (is call_foreign_function 'compress' #0 #0x1000001 #0x800 #0x804)
           (is call_foreign_function 'uncompress' #0 #0x1000001 #0x800 #0x804)
           (call $is '16 MiB' (call $proxy_call_foreign_function 'uncompress' 'FULL' #0x800 #0x804))
           (call $number '  length' (i32.load #0x804))
           (call $is 'one more' (call $proxy_call_foreign_function 'uncompress' 'MORE' @out))";
    let full = zeros(b"\x03\x00\x0f\x00\x00\x01");
    let more = zeros(b"\x4b\x04\x00\x0f\x62\x00\x62");
    check(
        &guest.replace("FULL", &full).replace("MORE", &more),
        expect![[r#"
            > tick
            1: call_foreign_function compress 0 0x1000001 0x800 0x804 -> SERIALIZATION_FAILURE
            1: call_foreign_function uncompress 0 0x1000001 0x800 0x804 -> SERIALIZATION_FAILURE
            1: 16 MiB OK
            1:   length 16777216
            1: one more SERIALIZATION_FAILURE
        "#]],
    );
}

// Checks: FF-10
#[test]
fn who_does_not_want_the_result_passes_null() {
    check(
        "no allocator
         module:
           (func (export \"malloc\") (param i32) (result i32) (unreachable))
         on tick:
           (is call_foreign_function 'compress' 'text' #0 #0)",
        expect![[r#"
            > tick
            1: call_foreign_function compress text 0 0 -> OK
        "#]],
    );
}

#[test]
fn pointers_outside_the_memory_are_invalid() {
    check(
        "on tick:
           (got call_foreign_function #bad #1 '' @out)
           (got call_foreign_function 'compress' #0x100 #all @out)
           (got call_foreign_function 'compress' 'x' #bad #0x104)
           (got call_foreign_function 'compress' 'x' #0x100 #bad)",
        expect![[r#"
            > tick
            1: call_foreign_function bad 1 -> INVALID_MEMORY_ACCESS
            1: call_foreign_function compress 0x100 all -> INVALID_MEMORY_ACCESS
            1: call_foreign_function compress x bad 0x104 -> INVALID_MEMORY_ACCESS
            1: call_foreign_function compress x 0x100 bad -> INVALID_MEMORY_ACCESS
        "#]],
    );
}

#[test]
fn what_emscripten_imports_is_there() {
    check(
        "module:
           (import \"env\" \"pthread_equal\" (func $equal (param i32 i32) (result i32)))
           (import \"env\" \"emscripten_notify_memory_growth\" (func $growth (param i32)))
         on tick:
           (call $growth #0)
           (call $number 'equal' (call $equal #7 #7))
           (call $number 'unequal' (call $equal #7 #8))",
        expect![[r#"
            > tick
            1: equal 1
            1: unequal 0
        "#]],
    );
}
