//! Properties: paths, values, and what of them exists when.

use expect_test::expect;

use crate::harness::{check, outcome, patient};

// Checks: PR-02, PR-03, PR-04
#[test]
fn request_attributes_come_from_the_visible_headers() {
    check(
        r"module:
           (func $probe
             (got get_property 'request\00path' @out)
             (got get_property 'request\00url_path' @out)
             (got get_property 'request\00query' @out)
             (got get_property 'request\00host' @out)
             (got get_property 'request\00method' @out)
             (got get_property 'request\00scheme' @out)
             (got get_property 'request\00referer' @out)
             (got get_property 'request\00useragent' @out)
             (got get_property 'request\00id' @out)
             (got get_property 'request\00headers' @out)
             (got get_property 'request\00headers_bytes' @out)
             (got get_property 'request\00headers\00X-A' @out)
             (got get_property 'request\00headers\00x-b' @out)
             (got get_property 'request\00protocol' @out))
         on request_headers:
           (call $probe)
         on response_headers:
           (call $probe)
         on log:
           (got get_property 'request\00path' @out)",
        expect![[r#"
            > request :method=GET :authority=a.b :path=/p?q=1 :scheme=https x-a=1 x-a=2 user-agent=u
            2: get_property request\00path -> OK "/p?q=1"
            2: get_property request\00url_path -> OK "/p"
            2: get_property request\00query -> OK "q=1"
            2: get_property request\00host -> OK "a.b"
            2: get_property request\00method -> OK "GET"
            2: get_property request\00scheme -> OK "https"
            2: get_property request\00referer -> NOT_FOUND
            2: get_property request\00useragent -> OK "u"
            2: get_property request\00id -> NOT_FOUND
            2: get_property request\00headers -> OK "\06\00\00\00\07\00\00\00\03\00\00\00\0a\00\00\00\03\00\00\00\05\00\00\00\06\00\00\00\07\00\00\00\05\00\00\00\03\00\00\00\03\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:authority\00a.b\00:path\00/p?q=1\00:scheme\00https\00x-a\001,2\00user-agent\00u\00"
            2: get_property request\00headers_bytes -> OK "A\00\00\00\00\00\00\00"
            2: get_property request\00headers\00X-A -> OK "1,2"
            2: get_property request\00headers\00x-b -> NOT_FOUND
            2: get_property request\00protocol -> OK "HTTP/1.1"
            = Continue
            = headers :method=GET :authority=a.b :path=/p?q=1 :scheme=https x-a=1 x-a=2 user-agent=u
            > response :status=200
            2: get_property request\00path -> NOT_FOUND
            2: get_property request\00url_path -> NOT_FOUND
            2: get_property request\00query -> NOT_FOUND
            2: get_property request\00host -> NOT_FOUND
            2: get_property request\00method -> NOT_FOUND
            2: get_property request\00scheme -> NOT_FOUND
            2: get_property request\00referer -> NOT_FOUND
            2: get_property request\00useragent -> NOT_FOUND
            2: get_property request\00id -> NOT_FOUND
            2: get_property request\00headers -> OK "\00\00\00\00"
            2: get_property request\00headers_bytes -> OK "\00\00\00\00\00\00\00\00"
            2: get_property request\00headers\00X-A -> NOT_FOUND
            2: get_property request\00headers\00x-b -> NOT_FOUND
            2: get_property request\00protocol -> OK "HTTP/1.1"
            = Continue
            = headers :status=200
            > log :path=/logged
            2: get_property request\00path -> OK "/logged"
            = request :path=/logged
        "#]],
    );
}

#[test]
fn a_path_without_a_query_has_an_empty_one() {
    check(
        r"on request_headers:
           (got get_property 'request\00url_path' @out)
           (got get_property 'request\00query' @out)
           (got get_property 'request\00useragent' @out)",
        expect![[r#"
            > request :path=/p
            2: get_property request\00url_path -> OK "/p"
            2: get_property request\00query -> OK empty
            2: get_property request\00useragent -> NOT_FOUND
            = Continue
            = headers :path=/p
            > request :path=/?
            2: get_property request\00url_path -> OK "/"
            2: get_property request\00query -> OK empty
            2: get_property request\00useragent -> NOT_FOUND
            = Continue
            = headers :path=/?
            > request a=1
            2: get_property request\00url_path -> NOT_FOUND
            2: get_property request\00query -> NOT_FOUND
            2: get_property request\00useragent -> NOT_FOUND
            = Continue
            = headers a=1
        "#]],
    );
}

#[test]
fn response_attributes_come_from_the_visible_headers() {
    check(
        r"on response_headers:
           (got get_property 'response\00headers\00set-cookie' @out)
           (got get_property 'response\00headers' @out)
           (got get_property 'response\00headers_bytes' @out)
           (got get_property 'response\00trailers' @out)
           (got get_property 'response\00trailers\00a' @out)
         on response_trailers:
           (got get_property 'response\00headers' @out)
           (got get_property 'response\00headers\00a' @out)
           (got get_property 'response\00trailers\00a' @out)",
        expect![[r#"
            > response set-cookie=a set-cookie=b
            2: get_property response\00headers\00set-cookie -> OK "a,b"
            2: get_property response\00headers -> OK "\01\00\00\00\0a\00\00\00\03\00\00\00set-cookie\00a,b\00"
            2: get_property response\00headers_bytes -> OK "\16\00\00\00\00\00\00\00"
            2: get_property response\00trailers -> OK "\00\00\00\00"
            2: get_property response\00trailers\00a -> NOT_FOUND
            = Continue
            = headers set-cookie=a set-cookie=b
            > response-trailers a=1
            2: get_property response\00headers -> OK "\00\00\00\00"
            2: get_property response\00headers\00a -> NOT_FOUND
            2: get_property response\00trailers\00a -> OK "1"
            = Continue
            = trailers a=1
        "#]],
    );
}

// Checks: PR-10, PR-30, PR-32
#[test]
fn values_are_serialised_by_their_type() {
    check(
        r"on request_headers:
           (got get_property 'source\00address' @out)
           (got get_property 'request\00time' @out)
           (got get_property 'request\00size' @out)
           (got get_property 'connection\00id' @out)
           (got get_property 'connection\00mtls' @out)
           (got get_property 'upstream\00load' @out)
           (got get_property 'xds\00metadata' @out)
           (got get_property 'empty' @out)",
        expect![[r#"
            > request
            2: get_property source\00address -> OK "127.0.0.1:4321"
            2: get_property request\00time -> OK "\01\00\00\00\00\00\00\00"
            2: get_property request\00size -> OK "\fe\ff\ff\ff\ff\ff\ff\ff"
            2: get_property connection\00id -> OK "\03\00\00\00\00\00\00\00"
            2: get_property connection\00mtls -> OK "\00"
            2: get_property upstream\00load -> OK "\00\00\00\00\00\00\e0?"
            2: get_property xds\00metadata -> OK "\00\00\00\00"
            2: get_property empty -> OK empty
            = Continue
            = headers
        "#]],
    );
}

// Checks: PR-18, PR-19, PR-20
#[test]
fn one_nul_at_the_end_of_a_path_is_tolerated() {
    check(
        r"on request_headers:
           (got get_property 'source\00address\00' @out)
           (got get_property 'source\00address\00\00' @out)
           (got get_property '\00source\00address' @out)
           (got get_property 'source\00\00address' @out)
           (got get_property 'source.address' @out)
           (got get_property 'source\00unknown' @out)
           (got get_property 'source\00address\00deeper' @out)
           (got get_property 'request\00path\00deeper' @out)",
        expect![[r#"
            > request :path=/
            2: get_property source\00address\00 -> OK "127.0.0.1:4321"
            2: get_property source\00address\00\00 -> NOT_FOUND
            2: get_property \00source\00address -> NOT_FOUND
            2: get_property source\00\00address -> NOT_FOUND
            2: get_property source.address -> NOT_FOUND
            2: get_property source\00unknown -> NOT_FOUND
            2: get_property source\00address\00deeper -> NOT_FOUND
            2: get_property request\00path\00deeper -> NOT_FOUND
            = Continue
            = headers :path=/
        "#]],
    );
}

// Checks: PR-21
#[test]
fn namespaces_and_empty_paths_have_no_bytes() {
    check(
        r"on request_headers:
           (got get_property '' @out)
           (got get_property 'request' @out)
           (got get_property 'response' @out)
           (got get_property 'filter_state' @out)
           (got get_property 'request\00' @out)",
        expect![[r#"
            > request
            2: get_property -> SERIALIZATION_FAILURE
            2: get_property request -> SERIALIZATION_FAILURE
            2: get_property response -> SERIALIZATION_FAILURE
            2: get_property filter_state -> SERIALIZATION_FAILURE
            2: get_property request\00 -> SERIALIZATION_FAILURE
            = Continue
            = headers
        "#]],
    );
}

// Checks: LC-29
#[test]
fn a_plugin_knows_its_name_and_its_ids_everywhere() {
    check(
        "module:
           (func $probe
             (got get_property 'plugin_name' @out)
             (got get_property 'plugin_root_id' @out)
             (got get_property 'plugin_vm_id' @out))
         on configure:
           (call $probe)
         on request_headers:
           (call $probe)
         on log:
           (call $probe)",
        expect![[r#"
            > start root_id=r vm_id=v
            1: get_property plugin_name -> OK "p"
            1: get_property plugin_root_id -> OK "r"
            1: get_property plugin_vm_id -> OK "v"
            > request
            2: get_property plugin_name -> OK "p"
            2: get_property plugin_root_id -> OK "r"
            2: get_property plugin_vm_id -> OK "v"
            = Continue
            = headers
            > log
            2: get_property plugin_name -> OK "p"
            2: get_property plugin_root_id -> OK "r"
            2: get_property plugin_vm_id -> OK "v"
        "#]],
    );
}

#[test]
fn a_plugin_context_has_the_attributes_of_the_embedder_alone() {
    check(
        r"on tick:
           (got get_property 'xds\00node\00id' @out)
           (got get_property 'xds\00node' @out)
           (got get_property 'request\00path' @out)
           (got get_property 'request' @out)
           (got get_property 'source\00address' @out)",
        expect![[r#"
            > tick
            1: get_property xds\00node\00id -> OK "node-1"
            1: get_property xds\00node -> NOT_FOUND
            1: get_property request\00path -> NOT_FOUND
            1: get_property request -> NOT_FOUND
            1: get_property source\00address -> NOT_FOUND
        "#]],
    );
}

// Checks: PR-22
#[test]
fn what_is_set_can_be_read_back() {
    check(
        r"on request_headers:
           (got get_property 'mine' @out)
           (is set_property 'mine' 'value\00')
           (got get_property 'mine' @out)
           (is set_property 'mine' '')
           (got get_property 'mine' @out)",
        expect![[r#"
            > request
            2: get_property mine -> NOT_FOUND
            * s set property mine = value\x00
            2: set_property mine value\00 -> OK
            2: get_property mine -> OK "value\00"
            * s set property mine =
            2: set_property mine -> OK
            2: get_property mine -> OK empty
            = Continue
            = headers
        "#]],
    );
}

// Checks: PR-24, PR-26
#[test]
fn a_longer_path_is_stored_but_names_of_attributes_stay_theirs() {
    check(
        r"on request_headers:
           (is set_property 'a\00b' 'x')
           (got get_property 'a\00b' @out)
           (is set_property 'plugin_name' 'x')
           (got get_property 'plugin_name' @out)",
        expect![[r#"
            > request
            * s set property a\x00b = x
            2: set_property a\00b x -> OK
            2: get_property a\00b -> NOT_FOUND
            * s set property plugin_name = x
            2: set_property plugin_name x -> OK
            2: get_property plugin_name -> OK "p"
            = Continue
            = headers
        "#]],
    );
}

#[test]
fn what_the_embedder_refuses_is_a_bad_argument() {
    check(
        "on request_headers:
           (is set_property 'read-only' 'x')
           (drop (memory.grow #20))
           (is set_property 'long' #0 #0x100000)",
        expect![[r#"
            > request
            * s set property read-only = x
            2: set_property read-only x -> BAD_ARGUMENT
            2: set_property long 0 0x100000 -> BAD_ARGUMENT
            = Continue
            = headers
        "#]],
    );
}

// Checks: PR-25
#[test]
fn properties_are_set_in_streams_alone_until_their_end() {
    check(
        "module:
           (func $probe (is set_property 'mine' 'x'))
         on configure:
           (call $probe)
         on request_headers:
           (call $probe)
         on log:
           (call $probe)",
        expect![[r#"
            1: set_property mine x -> NOT_FOUND
            > request
            * s set property mine = x
            2: set_property mine x -> OK
            = Continue
            = headers
            > log
            * s set property mine = x
            2: set_property mine x -> OK
        "#]],
    );
}

#[test]
fn pointers_outside_the_memory_are_invalid() {
    check(
        r"on request_headers:
           (got get_property #bad #1 @out)
           (got get_property 'source\00address' #bad #0x104)
           (got get_property 'source\00address' #0x100 #bad)
           (is set_property #bad #1 'x')
           (is set_property 'mine' #0x100 #all)",
        expect![[r#"
            > request
            2: get_property bad 1 -> INVALID_MEMORY_ACCESS
            2: get_property source\00address bad 0x104 -> INVALID_MEMORY_ACCESS
            2: get_property source\00address 0x100 bad -> INVALID_MEMORY_ACCESS
            2: set_property bad 1 x -> INVALID_MEMORY_ACCESS
            2: set_property mine 0x100 all -> INVALID_MEMORY_ACCESS
            = Continue
            = headers
        "#]],
    );
}

#[test]
fn a_path_and_its_value_have_a_megabyte_together() {
    let outcome = |value_len: usize| {
        let guest = format!(
            "on request_headers:
               (drop (memory.grow #20))
               (memory.fill #0x10000 #97 #0x100000)
               (is set_property 'long' #0x10000 #{value_len})"
        );
        outcome(patient(), &guest, "> request\n> limits")
    };
    let fits = outcome((1 << 20) - 4);
    assert!(fits.contains(" -> OK\n") && !fits.contains("property_bytes"), "{fits:.200}");
    let refused = outcome((1 << 20) - 3);
    assert!(refused.contains(" -> BAD_ARGUMENT\n"), "{refused:.200}");
    assert!(refused.ends_with("\n= property_bytes 1\n"), "{refused:.200}");
}
