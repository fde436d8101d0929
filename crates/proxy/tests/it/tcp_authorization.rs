//! `AuthorizationPolicy` for connections that are not HTTP.

use wasmplug_proxy::ListenerProtocol;

use crate::harness::{Plugin, RawUpstream, Running, Setup, TcpClient};

/// A TCP proxy in front of an echo server, with one policy.
fn start(upstream: &RawUpstream, spec: &str, plugins: impl IntoIterator<Item = Plugin>) -> Running {
    let address = upstream.address().into();
    let setup = Setup::new()
        .resources(&policy(spec))
        .tune(move |config| {
            config.listener = ListenerProtocol::Tcp;
            config.upstream = address;
        })
        .admin();
    plugins.into_iter().fold(setup, Setup::plugin).start()
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: p, namespace: default}}\nspec: {spec}\n"
    )
}

/// A plugin that tells of the connections that it sees.
fn teller(name: &str, phase: &'static str) -> Plugin {
    let guest = format!("on new_connection:\n(call $log '{name} saw it')");
    Plugin::guest(&guest).network().phase(phase)
}

/// Whether a connection gets its bytes back, or is closed without one.
fn is_open(proxy: &Running) -> bool {
    TcpClient::connect(proxy).is_echoed("hello")
}

#[test]
fn connections_are_let_through_or_closed_as_policies_say() {
    for (spec, expected) in [
        ("{}", false),
        ("{rules: [{}]}", true),
        ("{action: DENY, rules: [{}]}", false),
        ("{action: AUDIT, rules: [{}]}", true),
        ("{rules: [{from: [{source: {ipBlocks: [127.0.0.1]}}]}]}", true),
        ("{rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}", false),
        ("{rules: [{from: [{source: {remoteIpBlocks: [127.0.0.1]}}]}]}", true),
        ("{rules: [{from: [{source: {principals: ['*']}}]}]}", false),
        ("{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}", false),
        ("{rules: [{to: [{operation: {ports: ['1']}}]}]}", false),
        ("{action: DENY, rules: [{to: [{operation: {ports: ['1']}}]}]}", true),
        // What only HTTP has allows nothing, and refuses more.
        ("{rules: [{to: [{operation: {paths: [/*]}}]}]}", false),
        ("{action: DENY, rules: [{to: [{operation: {paths: [/admin]}}]}]}", false),
        ("{action: DENY, rules: [{to: [{operation: {paths: [/admin], ports: ['1']}}]}]}", true),
    ] {
        let upstream = RawUpstream::echo();
        let proxy = start(&upstream, spec, []);
        assert_eq!(is_open(&proxy), expected, "{spec}");
        // Who is refused does not even cost the upstream a connection.
        assert_eq!(upstream.connections(), usize::from(expected), "{spec}");
        let counter = if expected { "allowed 1" } else { "denied 1" };
        proxy.wait_for_stat(&format!("envoy_tcp_rbac_{counter}"));
    }
}

#[test]
fn policies_stand_between_the_phases_of_plugins() {
    let plugins = || [teller("authn", "AUTHN"), teller("authz", "AUTHZ"), teller("stats", "STATS")];
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, "{}", plugins());
    assert!(!is_open(&proxy));
    proxy.assert_log(&["authn saw it", "authz saw it"]);
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, "{rules: [{}]}", plugins());
    assert!(is_open(&proxy));
    proxy.assert_log(&["authn saw it", "authz saw it", "stats saw it"]);
}

#[test]
fn a_plugin_in_front_that_stops_is_waited_for() {
    let waits = Plugin::guest(
        "on new_connection:
            (return (i32.const 1))
         on downstream_data:
            (call $log 'data')",
    );
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, "{}", [waits.network().phase("AUTHN")]);
    assert!(!is_open(&proxy));
}

#[test]
fn in_front_of_http_the_connection_is_not_judged() {
    let spec = "{rules: [{to: [{operation: {paths: [/a]}}]}]}";
    let proxy =
        Setup::new().resources(&policy(spec)).plugin(teller("stats", "STATS")).admin().start();
    assert_eq!(proxy.get("/a").status, 200);
    assert_eq!(proxy.get("/b").status, 403);
    proxy.assert_log(&["stats saw it", "stats saw it"]);
    let stats = proxy.admin("/stats/prometheus").text();
    assert!(stats.lines().any(|line| line == "envoy_http_rbac_denied 1"), "{stats}");
    assert!(!stats.contains("envoy_tcp_rbac"), "{stats}");
}

#[test]
fn policies_for_connections_are_in_the_dump() {
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, "{rules: [{}]}", [teller("a", "AUTHZ"), teller("b", "STATS")]);
    let dump = proxy.admin("/config_dump").json().unwrap();
    let names = dump["network"].as_array().unwrap().iter().map(|filter| filter["filter"].clone());
    let names: Vec<_> = names.collect();
    assert_eq!(names, ["wasm", "envoy.filters.network.rbac", "wasm"]);
}

#[test]
fn a_policy_that_cannot_be_compiled_closes_every_connection() {
    let upstream = RawUpstream::echo();
    let address = upstream.address().into();
    let mut proxy = Setup::new()
        .tune(move |config| {
            config.listener = ListenerProtocol::Tcp;
            config.upstream = address;
        })
        .start_unconfigured();
    let bad = policy(
        "{rules: [{to: [{operation: {ports: ['1']}}], when: [\
        {key: source.namespace, values: ['LONG']}]}]}",
    )
    .replace("LONG", &"x*".repeat(100_000));
    assert_eq!(proxy.load_with(&[], &bad).len(), 1);
    assert!(!is_open(&proxy));
    assert!(proxy.load_with(&[], &policy("{rules: [{}]}")).is_empty());
    assert!(is_open(&proxy));
}
