//! Header maps: what each hostcall does to them. Source: Proxy-Wasm 0.2.1, "HTTP fields".

use expect_test::expect;

use crate::harness::{check, outcome, pairs, patient};

// Checks: HD-04, HD-07
#[test]
fn a_lookup_gives_the_first_value_whatever_the_case() {
    check(
        "on request_headers:
           (got get_header_map_value #request_headers 'X-A' @out)
           (got get_header_map_value #request_headers 'x-empty' @out)",
        expect![[r#"
            > request :path=/ x-a=1 x-a=2 x-empty=
            2: get_header_map_value request_headers X-A -> OK "1"
            2: get_header_map_value request_headers x-empty -> OK empty
            = Continue
            = headers :path=/ x-a=1 x-a=2 x-empty=
        "#]],
    );
}

// Checks: HD-05, HD-46
#[test]
fn an_absent_name_is_not_found_and_touches_nothing() {
    check(
        "on request_headers:
           (got get_header_map_value #request_headers 'x-b' @out)
           (got get_header_map_value #request_headers '' @out)
           (got get_header_map_value #request_headers ':unknown' @out)",
        expect![[r#"
            > request :path=/ x-a=1
            2: get_header_map_value request_headers x-b -> NOT_FOUND
            2: get_header_map_value request_headers -> NOT_FOUND
            2: get_header_map_value request_headers :unknown -> NOT_FOUND
            = Continue
            = headers :path=/ x-a=1
        "#]],
    );
}

// Checks: HD-06
#[test]
fn an_absent_name_is_an_empty_value_in_the_oldest_abi() {
    check(
        "abi 0_1_0
         on request_headers:
           (got get_header_map_value #request_headers 'x-b' @out)
         on log:
           (got get_header_map_value #request_headers 'x-b' @out)",
        expect![[r#"
            > request :path=/
            2: get_header_map_value request_headers x-b -> OK empty
            = Continue
            = headers :path=/
            > log
            2: get_header_map_value request_headers x-b -> OK empty
        "#]],
    );
}

// Checks: HD-02, HD-03
#[test]
fn pseudo_headers_are_entries_and_host_is_an_alias_of_the_authority() {
    check(
        "on request_headers:
           (got get_header_map_value #request_headers ':path' @out)
           (got get_header_map_value #request_headers ':method' @out)
           (got get_header_map_value #request_headers ':scheme' @out)
           (got get_header_map_value #request_headers 'Host' @out)
           (is replace_header_map_value #request_headers 'host' 'b')
           (got get_header_map_value #request_headers ':authority' @out)
           (is remove_header_map_value #request_headers 'host')
           (got get_header_map_value #request_headers ':authority' @out)
         on response_headers:
           (got get_header_map_value #response_headers ':status' @out)
           (got get_header_map_value #response_headers 'host' @out)",
        expect![[r#"
            > request :method=GET :scheme=http :authority=a :path=/x?y
            2: get_header_map_value request_headers :path -> OK "/x?y"
            2: get_header_map_value request_headers :method -> OK "GET"
            2: get_header_map_value request_headers :scheme -> OK "http"
            2: get_header_map_value request_headers Host -> OK "a"
            * s clear route cache
            2: replace_header_map_value request_headers host b -> OK
            2: get_header_map_value request_headers :authority -> OK "b"
            * s clear route cache
            2: remove_header_map_value request_headers host -> OK
            2: get_header_map_value request_headers :authority -> NOT_FOUND
            = Continue
            = headers :method=GET :scheme=http :path=/x?y
            > response :status=200
            2: get_header_map_value response_headers :status -> OK "200"
            2: get_header_map_value response_headers host -> NOT_FOUND
            = Continue
            = headers :status=200
        "#]],
    );
}

// Checks: HD-01, HD-08, HD-09
#[test]
fn pairs_come_in_order_with_duplicates_and_lengths_before_the_text() {
    check(
        "on request_headers:
           (call $number 'count' (local.get $count))
           (got get_header_map_pairs #request_headers @out)",
        expect![[r#"
            > request x-a=1 :path=/ b= x-a=2
            2: count 4
            2: get_header_map_pairs request_headers -> OK "\04\00\00\00\05\00\00\00\01\00\00\00\03\00\00\00\01\00\00\00\01\00\00\00\00\00\00\00\03\00\00\00\01\00\00\00:path\00/\00x-a\001\00b\00\00x-a\002\00"
            = Continue
            = headers :path=/ x-a=1 b= x-a=2
        "#]],
    );
}

#[test]
fn an_empty_map_has_no_pairs_and_allocates_nothing() {
    check(
        "no allocator
         module:
           (func (export \"malloc\") (param i32) (result i32) (unreachable))
         on request_headers:
           (got get_header_map_pairs #request_headers @out)
         on request_body:
           (got get_header_map_pairs #request_trailers @out)",
        expect![[r#"
            > request
            2: get_header_map_pairs request_headers -> OK empty
            = Continue
            = headers
            > body x
            2: get_header_map_pairs request_trailers -> OK empty
            = Continue
            = body "x"
        "#]],
    );
}

// Checks: HD-10
#[test]
fn the_size_is_the_sum_of_lengths_and_not_a_count() {
    check(
        "on request_headers:
           (num get_header_map_size #request_headers @num)",
        expect![[r#"
            > request :path=/ x-a=1 x-a=2
            2: get_header_map_size request_headers -> OK 14
            = Continue
            = headers :path=/ x-a=1 x-a=2
            > request
            2: get_header_map_size request_headers -> OK 0
            = Continue
            = headers
        "#]],
    );
}

// Checks: HD-11, HD-12, HD-13
#[test]
fn added_names_stand_apart_unless_they_hold_a_single_value() {
    check(
        "on request_headers:
           (is add_header_map_value #request_headers 'X-New' '1')
           (is add_header_map_value #request_headers 'x-new' '2')
           (is add_header_map_value #request_headers 'Accept' 'b')
           (is add_header_map_value #request_headers 'cookie' 'b')
           (is add_header_map_value #request_headers ':path' 'x')
         on response_headers:
           (is add_header_map_value #response_headers 'set-cookie' 'b')
           (is add_header_map_value #response_headers 'accept' 'b')
           (is add_header_map_value #response_headers 'vary' 'b')",
        expect![[r#"
            > request :path=/ accept=a cookie=a
            * s clear route cache
            2: add_header_map_value request_headers X-New 1 -> OK
            * s clear route cache
            2: add_header_map_value request_headers x-new 2 -> OK
            * s clear route cache
            2: add_header_map_value request_headers Accept b -> OK
            * s clear route cache
            2: add_header_map_value request_headers cookie b -> OK
            * s clear route cache
            2: add_header_map_value request_headers :path x -> OK
            = Continue
            = headers :path=/,x accept=a,b cookie=a x-new=1 x-new=2 cookie=b
            > response :status=200 set-cookie=a accept=a vary=a
            2: add_header_map_value response_headers set-cookie b -> OK
            2: add_header_map_value response_headers accept b -> OK
            2: add_header_map_value response_headers vary b -> OK
            = Continue
            = headers :status=200 set-cookie=a accept=a vary=a,b set-cookie=b accept=b
        "#]],
    );
}

#[test]
fn trailers_and_envoys_own_names_are_joined_too() {
    check(
        "on request_headers:
           (is add_header_map_value #request_headers 'x-envoy-any' 'b')
         on response_trailers:
           (is add_header_map_value #response_trailers 'grpc-message' 'b')
           (is add_header_map_value #response_trailers 'accept' 'b')",
        expect![[r#"
            > request x-envoy-any=a
            * s clear route cache
            2: add_header_map_value request_headers x-envoy-any b -> OK
            = Continue
            = headers x-envoy-any=a,b
            > response-trailers grpc-message=a accept=a
            2: add_header_map_value response_trailers grpc-message b -> OK
            2: add_header_map_value response_trailers accept b -> OK
            = Continue
            = trailers grpc-message=a,b accept=a accept=b
        "#]],
    );
}

#[test]
fn what_is_added_in_a_loop_is_bounded() {
    check(
        "on response_headers:
           (local $adds i32)
           (memory.fill #0x10000 #97 #0x10000)
           (loop $again
             (local.set $adds (i32.add (local.get $adds) #1))
             (br_if $again (i32.eqz (call $proxy_add_header_map_value
               #response_headers 'accept' #0x10000 #0x10000))))
           (call $number 'refused at' (local.get $adds))
           (is replace_header_map_value #response_headers 'accept' #0x10000 #0x10000)
           (is replace_header_map_value #response_headers 'accept' 'a')",
        expect![[r#"
            > response
            2: refused at 64
            2: replace_header_map_value response_headers accept 0x10000 0x10000 -> BAD_ARGUMENT
            2: replace_header_map_value response_headers accept a -> OK
            = Continue
            = headers accept=a
        "#]],
    );
}

// Checks: HD-14, HD-15, HD-16
#[test]
fn replaced_names_leave_one_entry_at_the_end() {
    check(
        "on request_headers:
           (is replace_header_map_value #request_headers 'x-a' '9')
           (is replace_header_map_value #request_headers ':path' '/b')
           (is replace_header_map_value #request_headers 'x-absent' '')",
        expect![[r#"
            > request :path=/ :method=GET x-a=1 x-b=2 x-a=3
            * s clear route cache
            2: replace_header_map_value request_headers x-a 9 -> OK
            * s clear route cache
            2: replace_header_map_value request_headers :path /b -> OK
            * s clear route cache
            2: replace_header_map_value request_headers x-absent -> OK
            = Continue
            = headers :method=GET :path=/b x-b=2 x-a=9 x-absent=
        "#]],
    );
}

// Checks: HD-17, HD-18
#[test]
fn removed_names_are_gone_and_absent_ones_no_error() {
    check(
        "on request_headers:
           (is remove_header_map_value #request_headers 'X-A')
           (is remove_header_map_value #request_headers 'x-absent')
           (is remove_header_map_value #request_headers ':method')
           (is remove_header_map_value #request_headers '')",
        expect![[r#"
            > request :path=/ :method=GET x-a=1 x-b=2 x-a=3
            * s clear route cache
            2: remove_header_map_value request_headers X-A -> OK
            * s clear route cache
            2: remove_header_map_value request_headers x-absent -> OK
            * s clear route cache
            2: remove_header_map_value request_headers :method -> OK
            * s clear route cache
            2: remove_header_map_value request_headers -> OK
            = Continue
            = headers :path=/ x-b=2
        "#]],
    );
}

// Checks: HD-28, HD-31
#[test]
fn set_pairs_replaces_the_whole_map() {
    check(
        r"on request_headers:
           (is set_header_map_pairs #request_headers
             '\02\00\00\00\01\00\00\00\01\00\00\00\02\00\00\00\02\00\00\00T\001\00te\0023\00')
         on response_headers:
           (is set_header_map_pairs #response_headers '')",
        expect![[r#"
            > request :path=/ x-a=1
            * s clear route cache
            2: set_header_map_pairs request_headers \02\00\00\00\01\00\00\00\01\00\00\00\02\00\00\00\02\00\00\00T\001\00te\0023\00 -> OK
            = Continue
            = headers t=1 te=23
            > response :status=200
            2: set_header_map_pairs response_headers -> OK
            = Continue
            = headers
        "#]],
    );
}

// Checks: HD-29
#[test]
fn pairs_that_cannot_be_read_clear_the_map() {
    check(
        r"on request_headers:
           (is set_header_map_pairs #request_headers '\02\00\00\00\01\00\00\00\01')
         on request_trailers:
           (is set_header_map_pairs #request_trailers '\01\04\00\00')
         on response_headers:
           (is set_header_map_pairs #response_headers
             '\01\00\00\00\01\00\00\00\01\00\00\00a\00b\00surplus')
         on response_trailers:
           (is set_header_map_pairs #response_trailers
             '\01\00\00\00\ff\ff\ff\ff\ff\ff\ff\ffa\00b\00')",
        expect![[r#"
            > request :path=/
            * s clear route cache
            2: set_header_map_pairs request_headers \02\00\00\00\01\00\00\00\01 -> OK
            = Continue
            = headers
            > trailers a=b
            2: set_header_map_pairs request_trailers \01\04\00\00 -> OK
            = Continue
            = trailers
            > response :status=200
            2: set_header_map_pairs response_headers \01\00\00\00\01\00\00\00\01\00\00\00a\00b\00surplus -> OK
            = Continue
            = headers
            > response-trailers a=b
            2: set_header_map_pairs response_trailers \01\00\00\00\ff\ff\ff\ff\ff\ff\ff\ffa\00b\00 -> OK
            = Continue
            = trailers
        "#]],
    );
}

// Checks: HD-30
#[test]
fn a_list_of_1024_pairs_is_read_and_one_more_is_not() {
    for (count, left) in [(1024, 1024), (1025, 0)] {
        let pairs = pairs(&vec![("a", ""); count]);
        let guest = format!(
            "on request_headers:
               (drop (call $proxy_set_header_map_pairs #request_headers '{pairs}'))"
        );
        let outcome = outcome(patient(), &guest, "> request b=1");
        assert_eq!(outcome.matches(" a=").count(), left, "{count}");
        assert!(!outcome.contains("b=1\n= "), "{outcome}");
        assert!(!outcome.ends_with("b=1\n"), "{outcome}");
    }
}

// Checks: HD-24, HD-25
#[test]
fn invalid_names_and_values_are_refused_at_once_and_change_nothing() {
    check(
        r"on request_headers:
           (is add_header_map_value #request_headers 'x y' '1')
           (is add_header_map_value #request_headers '' '1')
           (is add_header_map_value #request_headers ':unknown' '1')
           (is add_header_map_value #request_headers 'x-a' 'a\0d\0ab')
           (is replace_header_map_value #request_headers 'x-a' 'a\00b')
           (is set_header_map_pairs #request_headers
             '\01\00\00\00\01\00\00\00\01\00\00\00 \00b\00')",
        expect![[r#"
            > request :path=/ x-a=1
            2: add_header_map_value request_headers x y 1 -> BAD_ARGUMENT
            2: add_header_map_value request_headers 1 -> BAD_ARGUMENT
            2: add_header_map_value request_headers :unknown 1 -> BAD_ARGUMENT
            2: add_header_map_value request_headers x-a a\0d\0ab -> BAD_ARGUMENT
            2: replace_header_map_value request_headers x-a a\00b -> BAD_ARGUMENT
            2: set_header_map_pairs request_headers \01\00\00\00\01\00\00\00\01\00\00\00 \00b\00 -> BAD_ARGUMENT
            = Continue
            = headers :path=/ x-a=1
        "#]],
    );
}

// Checks: HD-52
#[test]
fn bytes_above_ascii_pass_unchanged() {
    check(
        r"on request_headers:
           (is add_header_map_value #request_headers 'x-a' '\80\ff')
           (got get_header_map_value #request_headers 'x-a' @out)",
        expect![[r#"
            > request :path=/
            * s clear route cache
            2: add_header_map_value request_headers x-a \80\ff -> OK
            2: get_header_map_value request_headers x-a -> OK "\80\ff"
            = Continue
            = headers :path=/ x-a=\x80\xff
        "#]],
    );
}

#[test]
fn only_changes_of_request_headers_clear_the_route_cache() {
    check(
        "on request_headers:
           (is replace_header_map_value #request_headers 'x-a' '1')
           (is remove_header_map_value #request_headers 'x-a')
           (is add_header_map_value #request_headers 'bad name' '1')
           (got get_header_map_value #request_headers 'x-a' @out)
         on request_trailers:
           (is add_header_map_value #request_trailers 'x-a' '1')
         on response_headers:
           (is add_header_map_value #response_headers 'x-a' '1')",
        expect![[r#"
            > request :path=/
            * s clear route cache
            2: replace_header_map_value request_headers x-a 1 -> OK
            * s clear route cache
            2: remove_header_map_value request_headers x-a -> OK
            2: add_header_map_value request_headers bad name 1 -> BAD_ARGUMENT
            2: get_header_map_value request_headers x-a -> NOT_FOUND
            = Continue
            = headers :path=/
            > trailers b=c
            2: add_header_map_value request_trailers x-a 1 -> OK
            = Continue
            = trailers b=c x-a=1
            > response :status=200
            2: add_header_map_value response_headers x-a 1 -> OK
            = Continue
            = headers :status=200 x-a=1
        "#]],
    );
}

// Checks: HD-42
#[test]
fn maps_without_a_number_are_bad_arguments() {
    check(
        "on request_headers:
           (num get_header_map_size #8 @num)
           (got get_header_map_pairs #8 @out)
           (got get_header_map_value #255 'a' @out)
           (is set_header_map_pairs #8 '')
           (is add_header_map_value #8 'a' 'b')
           (is replace_header_map_value #8 'a' 'b')
           (is remove_header_map_value #-1 'a')",
        expect![[r#"
            > request :path=/
            2: get_header_map_size 8 -> BAD_ARGUMENT
            2: get_header_map_pairs 8 -> BAD_ARGUMENT
            2: get_header_map_value 255 a -> BAD_ARGUMENT
            2: set_header_map_pairs 8 -> BAD_ARGUMENT
            2: add_header_map_value 8 a b -> BAD_ARGUMENT
            2: replace_header_map_value 8 a b -> BAD_ARGUMENT
            2: remove_header_map_value -1 a -> BAD_ARGUMENT
            = Continue
            = headers :path=/
        "#]],
    );
}

// Checks: HD-44, HD-45
#[test]
fn pointers_outside_the_memory_are_invalid_and_change_nothing() {
    check(
        "on request_headers:
           (num get_header_map_size #request_headers #bad)
           (got get_header_map_pairs #request_headers #bad #0x104)
           (got get_header_map_pairs #request_headers #0x100 #bad)
           (i32.store #0x100 #0xa5a5a5a5)
           (is set_header_map_pairs #request_headers #bad #4)
           (is set_header_map_pairs #request_headers #0x100 #all)
           (got get_header_map_value #request_headers #bad #1 @out)
           (got get_header_map_value #request_headers ':path' #bad #0x104)
           (is add_header_map_value #request_headers #bad #1 'b')
           (is add_header_map_value #request_headers 'a' #bad #1)
           (is replace_header_map_value #request_headers #bad #1 'b')
           (is replace_header_map_value #request_headers 'a' #0x100 #all)
           (is remove_header_map_value #request_headers #bad #1)",
        expect![[r#"
            > request :path=/
            2: get_header_map_size request_headers bad -> INVALID_MEMORY_ACCESS
            2: get_header_map_pairs request_headers bad 0x104 -> INVALID_MEMORY_ACCESS
            2: get_header_map_pairs request_headers 0x100 bad -> INVALID_MEMORY_ACCESS
            2: set_header_map_pairs request_headers bad 4 -> INVALID_MEMORY_ACCESS
            2: set_header_map_pairs request_headers 0x100 all -> INVALID_MEMORY_ACCESS
            2: get_header_map_value request_headers bad 1 -> INVALID_MEMORY_ACCESS
            2: get_header_map_value request_headers :path bad 0x104 -> INVALID_MEMORY_ACCESS
            2: add_header_map_value request_headers bad 1 b -> INVALID_MEMORY_ACCESS
            2: add_header_map_value request_headers a bad 1 -> INVALID_MEMORY_ACCESS
            2: replace_header_map_value request_headers bad 1 b -> INVALID_MEMORY_ACCESS
            2: replace_header_map_value request_headers a 0x100 all -> INVALID_MEMORY_ACCESS
            2: remove_header_map_value request_headers bad 1 -> INVALID_MEMORY_ACCESS
            = Continue
            = headers :path=/
        "#]],
    );
}

#[test]
fn a_range_that_ends_with_the_memory_is_valid() {
    check(
        "on request_headers:
           (i32.store8 #0x3ffff #97)
           (is add_header_map_value #request_headers #0x3ffff #1 #0x40000 #0)
           (is add_header_map_value #request_headers #0x3ffff #2 #0x40000 #0)",
        expect![[r#"
            > request :path=/
            * s clear route cache
            2: add_header_map_value request_headers 0x3ffff 1 0x40000 0 -> OK
            2: add_header_map_value request_headers 0x3ffff 2 0x40000 0 -> INVALID_MEMORY_ACCESS
            = Continue
            = headers :path=/ a=
        "#]],
    );
}

// Checks: SE-04
#[test]
fn results_may_be_written_over_the_arguments() {
    check(
        "on request_headers:
           (i32.store #0x900 #0x612d78)
           (is get_header_map_value #request_headers #0x900 #3 #0x900 #0x902)
           (call $number 'low half of the pointer' (i32.load16_u #0x900))
           (call $number 'length' (i32.load #0x902))",
        expect![[r#"
            > request :path=/ x-a=12345
            2: get_header_map_value request_headers 0x900 3 0x900 0x902 -> OK
            2: low half of the pointer 0
            2: length 5
            = Continue
            = headers :path=/ x-a=12345
        "#]],
    );
}

// Checks: HD-51
#[test]
fn a_list_of_a_megabyte_is_read_and_one_byte_more_is_not() {
    // Count, two lengths, a name of one byte, and a NUL behind name and value.
    const LARGEST: usize = (1 << 20) - 15;
    for (value, size) in [(LARGEST, LARGEST + 1), (LARGEST + 1, 0)] {
        let guest = format!(
            "on request_headers:
               (drop (memory.grow #20))
               (memory.fill #0x20000 #97 #0x110000)
               (i32.store #0x20000 #1)
               (i32.store #0x20004 #1)
               (i32.store #0x20008 (i32.const {value}))
               (i32.store8 #0x2000d #0)
               (i32.store8 (i32.const {end}) #0)
               (is set_header_map_pairs #request_headers #0x20000 (i32.const {len}))
               (num get_header_map_size #request_headers @num)",
            end = 0x2000e + value,
            len = value + 15,
        );
        let outcome = outcome(patient(), &guest, "> request b=1");
        let expected = format!("get_header_map_size request_headers -> OK {size}\n");
        assert!(outcome.contains(&expected), "{value}: {}", &outcome[..300]);
        assert!(!outcome.contains("b=1\n= "), "{value}");
    }
}
