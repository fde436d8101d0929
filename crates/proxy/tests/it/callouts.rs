//! HTTP calls of plugins, and what they find in the answer.

use std::fmt::Write as _;

use wasmplug_testkit::{RawClient, Reply, Scripted, Upstream, UpstreamThread};

use crate::harness::{Plugin, Running, Setup};

/// A plugin that holds each request, asks `cluster` for `/check`, and passes the request on with
/// what it learned: `x-call` is the number of headers, `x-call-status` the status if there is one.
/// A call that is refused is noted as `x-call: refused` and the request passes at once.
fn asking(cluster: &str, timeout_ms: u32) -> Plugin {
    let headers = pairs(&[(":method", "GET"), (":path", "/check"), (":authority", "auth.test")]);
    let text = format!(
        r#"(module
  (import "env" "proxy_http_call" (func $call
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
  (import "env" "proxy_set_effective_context" (func $on (param i32) (result i32)))
  (import "env" "proxy_continue_stream" (func $continue (param i32) (result i32)))
  (memory (export "memory") 2)
  (global $stream (mut i32) (i32.const 0))
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 0) "{cluster}")
  (data (i32.const 200) "{headers}")
  (data (i32.const 400) "x-call")
  (data (i32.const 420) "refused")
  (data (i32.const 440) "x-call-status")
  (data (i32.const 460) ":status")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_memory_allocate") (param i32) (result i32)
    (global.get $free)
    (global.set $free (i32.add (global.get $free) (local.get 0))))
  (func (export "proxy_on_request_headers") (param $id i32) (param i32 i32) (result i32)
    (global.set $stream (local.get $id))
    (if (result i32)
      (call $call (i32.const 0) (i32.const {cluster_len}) (i32.const 200) (i32.const {headers_len})
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {timeout_ms})
        (i32.const 500))
      (then
        (drop (call $add (i32.const 0) (i32.const 400) (i32.const 6)
          (i32.const 420) (i32.const 7)))
        (i32.const 0))
      (else (i32.const 1))))
  (func (export "proxy_on_http_call_response") (param i32 i32) (param $count i32) (param i32 i32)
    (local $status i32)
    (i32.store8 (i32.const 520) (i32.add (i32.const 48) (local.get $count)))
    (local.set $status
      (call $get (i32.const 6) (i32.const 460) (i32.const 7) (i32.const 540) (i32.const 544)))
    (drop (call $on (global.get $stream)))
    (drop (call $add (i32.const 0) (i32.const 400) (i32.const 6) (i32.const 520) (i32.const 1)))
    (if (i32.eqz (local.get $status))
      (then (drop (call $add (i32.const 0) (i32.const 440) (i32.const 13)
        (i32.load (i32.const 540)) (i32.load (i32.const 544))))))
    (drop (call $continue (i32.const 0)))))"#,
        cluster_len = cluster.len(),
        headers = escaped(&headers),
        headers_len = headers.len(),
    );
    Plugin::bytes(wat::parse_str(text).unwrap())
}

/// The encoding of header maps.
fn pairs(entries: &[(&str, &str)]) -> Vec<u8> {
    let len = |text: &str| u32::try_from(text.len()).unwrap().to_le_bytes();
    let mut bytes = u32::try_from(entries.len()).unwrap().to_le_bytes().to_vec();
    for (name, value) in entries {
        bytes.extend([len(name), len(value)].concat());
    }
    for (name, value) in entries {
        bytes.extend(format!("{name}\0{value}\0").bytes());
    }
    bytes
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\{byte:02x}");
        text
    })
}

/// A proxy whose plugin asks this cluster, which is at that address.
fn start(plugin: Plugin, name: &str, address: &str) -> Running {
    let (name, address) = (name.to_owned(), address.parse().unwrap());
    let tune = move |config: &mut wasmplug_proxy::ProxyConfig| {
        config.clusters.insert(name, address);
    };
    Setup::new().plugin(plugin).tune(tune).start()
}

/// What the upstream saw of a header.
fn seen(proxy: &Running, name: &str) -> Option<String> {
    let response = proxy.get("/");
    assert_eq!(response.status, 200, "{response}");
    let json = response.json().unwrap();
    let headers = json["headers"].as_array().unwrap();
    let header = headers.iter().find(|header| header[0] == name)?;
    Some(header[1].as_str().unwrap().to_owned())
}

#[test]
fn the_answer_of_a_call_resumes_the_request_that_waits_for_it() {
    let answer = |_: &_| Reply::new(204).header("x-a", "1").into();
    let auth = UpstreamThread::start(Upstream::scripted(answer)).unwrap();
    let proxy = start(asking("auth", 0), "auth", &auth.addr().to_string());
    assert_eq!(seen(&proxy, "x-call-status").as_deref(), Some("204"));
    let asked = auth.received();
    assert_eq!((asked[0].method.as_str(), asked[0].path.as_str()), ("GET", "/check"));
    assert_eq!(asked[0].header("host"), Some("auth.test"));
    assert_eq!(asked[0].header("x-envoy-internal"), Some("true"));
}

#[test]
fn a_call_goes_to_another_endpoint_where_one_is_down() {
    let auth = UpstreamThread::start(Upstream::scripted(|_| Reply::new(204).into())).unwrap();
    let hosts = format!("127.0.0.1:1,{}", auth.addr());
    let proxy = start(asking("auth", 0), "auth", &hosts);
    for _ in 0..10 {
        assert_eq!(seen(&proxy, "x-call-status").as_deref(), Some("204"));
    }
    // A host of the cluster is enough for Istio's name.
    let target = format!("outbound|{}||127.0.0.1", auth.addr().port());
    let proxy = start(asking(&target, 0), "auth", &hosts);
    assert_eq!(seen(&proxy, "x-call-status").as_deref(), Some("204"));
}

#[test]
fn istios_name_finds_the_cluster_with_that_host_and_port() {
    let auth = UpstreamThread::start(Upstream::echo()).unwrap();
    let address = auth.addr().to_string();
    let target = format!("outbound|{}||127.0.0.1", auth.addr().port());
    let proxy = start(asking(&target, 0), "anything", &address);
    assert_eq!(seen(&proxy, "x-call-status").as_deref(), Some("200"));
    let other = format!("outbound|{}||127.0.0.2", auth.addr().port());
    let proxy = start(asking(&other, 0), "anything", &address);
    assert_eq!(seen(&proxy, "x-call").as_deref(), Some("refused"));
}

// Checks: HC-05
#[test]
fn an_unknown_cluster_is_refused() {
    let proxy = start(asking("auth", 0), "other", "127.0.0.1:1");
    assert_eq!(seen(&proxy, "x-call").as_deref(), Some("refused"));
}

// Checks: HC-09
#[test]
fn a_cluster_that_is_down_answers_503() {
    let proxy = start(asking("auth", 0), "auth", "127.0.0.1:1");
    assert_eq!(seen(&proxy, "x-call-status").as_deref(), Some("503"));
}

#[test]
fn a_cluster_that_never_answers_is_a_504_after_the_timeout() {
    let silent = UpstreamThread::start(Upstream::scripted(|_| Scripted::never())).unwrap();
    let proxy = start(asking("auth", 50), "auth", &silent.addr().to_string());
    assert_eq!(seen(&proxy, "x-call-status").as_deref(), Some("504"));
}

// Checks: HC-11
#[test]
fn an_answer_that_breaks_off_is_told_without_headers() {
    let broken = |_: &_| {
        Scripted::raw(
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_vec(),
            wasmplug_testkit::End::Close,
        )
    };
    let broken = UpstreamThread::start(Upstream::scripted(broken)).unwrap();
    let proxy = start(asking("auth", 0), "auth", &broken.addr().to_string());
    assert_eq!(seen(&proxy, "x-call").as_deref(), Some("0"));
}

#[test]
fn a_client_that_leaves_while_a_call_is_out_harms_nobody() {
    let silent = UpstreamThread::start(Upstream::scripted(|_| Scripted::never())).unwrap();
    let proxy = start(asking("auth", 50), "auth", &silent.addr().to_string());
    let mut leaving = RawClient::connect(proxy.proxy().listen_address()).unwrap();
    leaving.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    drop(leaving);
    assert_eq!(seen(&proxy, "x-call-status").as_deref(), Some("504"));
}
