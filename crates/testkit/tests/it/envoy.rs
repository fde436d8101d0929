use wasmplug_testkit::{
    RawClient, Upstream, UpstreamThread,
    envoy::{Envoy, EnvoyError, WasmFilter},
};

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
    let started = Envoy::builder().upstream(upstream.addr()).wasm_filter(filter).start();
    match started {
        Ok(None) => {}
        Ok(Some(_)) => panic!("started without its module"),
        Err(EnvoyError::NotReady { log_tail }) => assert!(log_tail.contains("plugin.wasm")),
        Err(other) => panic!("{other}"),
    }
}
