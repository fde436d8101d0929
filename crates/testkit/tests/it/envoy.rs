use tempfile::TempDir;
use wasmplug_testkit::{
    RawClient, Upstream, UpstreamThread,
    envoy::{Envoy, EnvoyError, FailurePolicy, WasmFilter},
};

/// A plugin that logs its configuration, accepts it or not, and adds a header to responses.
fn plugin(accept: bool) -> Vec<u8> {
    let text = r#"(module
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_buffer_bytes"
            (func $get_buffer (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_add_header_map_value"
            (func $add_header (param i32 i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 16) "x-plugin")
        (data (i32.const 32) "ran")
        (global $free (mut i32) (i32.const 1024))
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "proxy_on_memory_allocate") (param i32) (result i32)
            (global.get $free)
            (global.set $free (i32.add (global.get $free) (local.get 0))))
        (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
        (func (export "proxy_on_context_create") (param i32 i32))
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
            (drop (call $get_buffer
                (i32.const 7) (i32.const 0) (local.get 1) (i32.const 0) (i32.const 4)))
            (drop (call $log (i32.const 2) (i32.load (i32.const 0)) (i32.load (i32.const 4))))
            (i32.const ACCEPT))
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
            (drop (call $add_header
                (i32.const 2) (i32.const 16) (i32.const 8) (i32.const 32) (i32.const 3)))
            (i32.const 0)))"#;
    wat::parse_str(text.replace("ACCEPT", if accept { "1" } else { "0" })).unwrap()
}

fn filter(directory: &TempDir, accept: bool) -> WasmFilter {
    let path = directory.path().join("plugin.wasm");
    std::fs::write(&path, plugin(accept)).unwrap();
    let filter = WasmFilter::new("demo", path, r#"{"key":"configured"}"#);
    WasmFilter { fail_policy: Some(FailurePolicy::FailClosed), ..filter }
}

#[test]
fn a_request_passes_envoy_to_the_upstream() {
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let Some(envoy) = Envoy::builder().upstream(upstream.addr()).start().unwrap() else { return };
    let response = RawClient::connect(envoy.addr()).unwrap().get("/hello").unwrap();
    assert_eq!(response.header("x-upstream"), Some("echo"));
    assert_eq!(response.header("server"), Some("envoy"));
    assert_eq!(upstream.received()[0].path, "/hello");
    assert!(envoy.stats().unwrap().contains("cluster.upstream.upstream_rq_total: 1"));
    assert!(envoy.stop().unwrap().contains("starting workers"));
}

#[test]
fn a_module_that_is_not_there_keeps_envoy_from_starting() {
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let filter = WasmFilter::new("missing", "/nonexistent/plugin.wasm", "");
    let started = Envoy::builder().upstream(upstream.addr()).wasm_filter(&filter).start();
    match started {
        Ok(None) => {}
        Ok(Some(_)) => panic!("started without its module"),
        Err(EnvoyError::NotReady { log_tail }) => assert!(log_tail.contains("plugin.wasm")),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_plugin_gets_its_configuration_and_sees_the_response() {
    let (upstream, directory) =
        (UpstreamThread::start(Upstream::echo()).unwrap(), TempDir::new().unwrap());
    let builder = Envoy::builder().upstream(upstream.addr());
    let started = builder.wasm_filter(&filter(&directory, true)).start().unwrap();
    let Some(envoy) = started else { return };
    let response = RawClient::connect(envoy.addr()).unwrap().get("/").unwrap();
    assert_eq!(response.header("x-plugin"), Some("ran"));
    assert!(envoy.stop().unwrap().contains(r#"{"key":"configured"}"#));
}

#[test]
fn a_plugin_that_refuses_its_configuration_keeps_envoy_from_starting() {
    let (upstream, directory) =
        (UpstreamThread::start(Upstream::echo()).unwrap(), TempDir::new().unwrap());
    let builder = Envoy::builder().upstream(upstream.addr());
    match builder.wasm_filter(&filter(&directory, false)).start() {
        Ok(None) | Err(EnvoyError::NotReady { .. }) => {}
        Ok(Some(envoy)) => panic!("started\n{}", envoy.log()),
        Err(other) => panic!("{other}"),
    }
}
