//! Attributes of real streams.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{guest, stat};
use crate::harness::{Plugin, Setup};

/// A plugin that puts properties into headers, texts as they are and numbers in decimal digits,
/// named after their paths.
fn asking(side: &str, texts: &[&str], numbers: &[&str]) -> Plugin {
    let add = |call: &str, path: &&str| {
        let (name, path) = (path.replace('.', "-"), path.replace('.', "\\00"));
        format!("(call $add #{side} 'x-got-{name}' (call ${call} '{path}'))\n")
    };
    let texts: String = texts.iter().map(|path| add("property", path)).collect();
    let numbers: String = numbers.iter().map(|path| add("number_property", path)).collect();
    Plugin::guest(&format!("on {side}_headers:\n{texts}{numbers}"))
}

// Checks: PR-01
#[test]
fn texts_of_the_request_are_those_of_its_head() {
    let paths = [
        "request.path",
        "request.url_path",
        "request.query",
        "request.host",
        "request.scheme",
        "request.method",
        "request.protocol",
        "request.id",
        "request.useragent",
        "request.referer",
    ];
    let proxy = Setup::new().plugin(asking("request", &paths, &[])).start();
    proxy.exchange(
        "PUT /a?b=c HTTP/1.1\r\nhost: h.test\r\nx-request-id: mine\r\nuser-agent: u\r\n\
         referer: r\r\ncontent-length: 0\r\n\r\n",
    );
    let received = &proxy.upstream().received()[0];
    let values = ["/a?b=c", "/a", "b=c", "h.test", "http", "PUT", "HTTP/1.1", "mine", "u", "r"];
    for (path, value) in paths.iter().zip(values) {
        let header = format!("x-got-{}", path.replace('.', "-"));
        assert_eq!(received.header(&header), Some(value), "{path}");
    }
}

// Checks: PR-05, TM-06
#[test]
fn times_are_those_of_the_wall_clock() {
    // Seconds fit into what can be written in digits.
    let plugin = guest(
        "(func $seconds (param $nanoseconds i64) (result i32 i32)
            (call $decimal (i32.wrap_i64
                (i64.div_u (local.get $nanoseconds) (i64.const 1000000000)))))
        on response_headers:
            (drop (call $proxy_time (i32.const 0x110)))
            (call $add #response 'x-now' (call $seconds (i64.load (i32.const 0x110))))
            (drop (call $proxy_get_property 'request\\00time' (i32.const 0x100) (i32.const 0x104)))
            (call $add #response 'x-length' (call $decimal (i32.load (i32.const 0x104))))
            (call $add #response 'x-time' (call $seconds
                (i64.load (i32.load (i32.const 0x100)))))",
    );
    let proxy = Setup::new().plugin(plugin).start();
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = seconds();
    let response = proxy.get("/");
    let between = before..=seconds();
    assert_eq!(response.header("x-length"), Some("8"));
    for name in ["x-now", "x-time"] {
        let told: u64 = response.header(name).unwrap().parse().unwrap();
        assert!(between.contains(&told), "{name}: {told}, not in {between:?}");
    }
}

// Checks: PR-06, PR-07
#[test]
fn sizes_and_duration_are_numbers_in_the_log() {
    let plugin = guest(
        "(func $number (param i32 i32) (result i64)
            (if (result i64) (call $proxy_get_property (local.get 0) (local.get 1)
                    (i32.const 0x100) (i32.const 0x104))
                (then (i64.const -1))
                (else (i64.load (i32.load (i32.const 0x100))))))
        on log:
            (if (i64.eq (call $number 'request\\00size') (i64.const 5))
                (then (call $bump 'size_is_that_of_the_body')))
            (if (i64.gt_s (call $number 'request\\00total_size') (i64.const 5))
                (then (call $bump 'total_is_more')))
            (if (i64.gt_s (call $number 'request\\00duration') (i64.const 0))
                (then (call $bump 'duration_is_positive')))
        on delete:
            (call $bump 'deleted')",
    );
    let proxy = Setup::new().plugin(plugin).admin().start();
    // In chunks: what was received counts, not what was announced.
    proxy.exchange(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    proxy.wait_for_stat("deleted 1");
    for name in ["size_is_that_of_the_body", "total_is_more", "duration_is_positive"] {
        assert_eq!(stat(&proxy, name), 1, "{name}");
    }
}

// Checks: PR-10, PR-11
#[test]
fn without_tls_there_is_no_version_and_no_certificate() {
    let plugin = guest(
        "on response_headers:
            (drop (call $proxy_get_property 'connection\\00mtls'
                (i32.const 0x100) (i32.const 0x104)))
            (call $add #response 'x-length' (call $decimal (i32.load (i32.const 0x104))))
            (call $add #response 'x-mtls' (call $decimal
                (i32.load8_u (i32.load (i32.const 0x100)))))",
    );
    let version = asking("response", &["connection.tls_version"], &[]);
    let proxy = Setup::new().plugin(version).plugin(plugin).start();
    let response = proxy.get("/");
    assert_eq!((response.header("x-length"), response.header("x-mtls")), (Some("1"), Some("0")));
    assert_eq!(response.header("x-got-connection-tls_version"), Some("-"));
}

// Checks: PR-28
#[test]
fn names_that_envoy_has_removed_are_unknown() {
    let names = ["node", "cluster_name", "route_name", "listener_direction"];
    let proxy = Setup::new().plugin(asking("response", &names, &[])).start();
    let response = proxy.get("/");
    for name in names {
        assert_eq!(response.header(&format!("x-got-{name}")), Some("-"), "{name}");
    }
}

// Checks: PR-13, PR-14
#[test]
fn addresses_are_those_of_the_sockets() {
    let texts = ["source.address", "destination.address", "upstream.address"];
    let numbers = ["source.port", "destination.port"];
    let request = asking("request", &["upstream.address"], &[]);
    let proxy = Setup::new().plugin(request).plugin(asking("response", &texts, &numbers)).start();
    let response = proxy.get("/");
    let (listen, upstream) = (proxy.proxy().listen_address(), proxy.upstream().addr());
    let header = |name: &str| response.header(name).unwrap();
    assert_eq!(header("x-got-destination-address"), listen.to_string());
    assert_eq!(header("x-got-destination-port"), listen.port().to_string());
    assert_eq!(
        header("x-got-source-address"),
        format!("127.0.0.1:{}", header("x-got-source-port"))
    );
    assert_eq!(header("x-got-upstream-address"), upstream.to_string());
    assert_eq!(proxy.upstream().received()[0].header("x-got-upstream-address"), Some("-"));
}
