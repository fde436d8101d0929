//! Istio's standard metrics.

use std::collections::BTreeMap;

use wasmplug_api::{NamespacedName, Workload, WorkloadRole};
use wasmplug_proxy::ListenerProtocol;
use wasmplug_testkit::Http2Client;

use crate::harness::{Plugin, RawUpstream, Running, Setup, TcpClient};

/// A workload that tells everything about itself.
fn reviews(role: WorkloadRole) -> Workload {
    let labels = [("app", "reviews"), ("version", "v2")];
    Workload {
        name: Some("reviews-v2".into()),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        service: (role == WorkloadRole::SidecarInbound)
            .then(|| NamespacedName::new("default", "reviews")),
        ..Workload::new("default", role)
    }
}

fn telemetry(metrics: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n\
         metadata: {{name: mesh-default, namespace: istio-system}}\n\
         spec: {{metrics: [{metrics}]}}\n"
    )
}

fn running(resources: &str) -> Running {
    let setup = Setup::new().resources(resources).workload(reviews(WorkloadRole::SidecarInbound));
    setup.admin().start()
}

/// Every sample of a metric: its labels, and its value.
fn samples(proxy: &Running, name: &str) -> Vec<(BTreeMap<String, String>, String)> {
    let text = proxy.admin("/stats/prometheus").text();
    let of_metric = |line: &str| {
        let rest = line.strip_prefix(name)?.strip_prefix('{')?;
        let (labels, value) = rest.split_once("} ")?;
        let label = |label: &str| {
            let (name, value) = label.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        };
        Some((labels.split(',').map(label).collect(), value.to_owned()))
    };
    text.lines().filter_map(of_metric).collect()
}

/// Waits until a metric has one sample, whose labels and value it returns.
fn only_sample(proxy: &Running, name: &str) -> (BTreeMap<String, String>, String) {
    crate::harness::eventually(|| !samples(proxy, name).is_empty());
    let mut samples = samples(proxy, name);
    assert_eq!(samples.len(), 1, "{samples:?}");
    samples.remove(0)
}

const REQUESTS: &str = "istio_requests_total";

#[test]
fn a_request_is_counted_with_istios_labels_in_their_order() {
    let proxy = running("");
    proxy.get("/");
    only_sample(&proxy, REQUESTS);
    let page = proxy.admin("/stats/prometheus").text();
    let line = page.lines().find(|line| line.starts_with(REQUESTS)).unwrap();
    let expected = "istio_requests_total{reporter=\"destination\",source_workload=\"unknown\",\
        source_canonical_service=\"unknown\",source_canonical_revision=\"unknown\",\
        source_workload_namespace=\"unknown\",source_principal=\"unknown\",source_app=\"unknown\",\
        source_version=\"unknown\",source_cluster=\"unknown\",\
        destination_workload=\"reviews-v2\",destination_workload_namespace=\"default\",\
        destination_principal=\"unknown\",destination_app=\"reviews\",destination_version=\"v2\",\
        destination_service=\"reviews.default.svc.cluster.local\",\
        destination_canonical_service=\"reviews\",destination_canonical_revision=\"v2\",\
        destination_service_name=\"reviews\",destination_service_namespace=\"default\",\
        destination_cluster=\"unknown\",request_protocol=\"http\",response_code=\"200\",\
        grpc_response_status=\"\",response_flags=\"-\",connection_security_policy=\"none\"} 1";
    assert_eq!(line, expected);
}

#[test]
fn a_client_sidecar_tells_itself_and_the_host_that_was_asked() {
    let setup = Setup::new().workload(reviews(WorkloadRole::SidecarOutbound)).admin();
    let proxy = setup.start();
    proxy.exchange("GET / HTTP/1.1\r\nhost: ratings:9080\r\n\r\n");
    let (labels, _) = only_sample(&proxy, REQUESTS);
    for (name, expected) in [
        ("reporter", "source"),
        ("source_workload", "reviews-v2"),
        ("destination_workload", "unknown"),
        ("destination_service", "ratings:9080"),
        ("destination_service_namespace", "unknown"),
        ("connection_security_policy", "unknown"),
    ] {
        assert_eq!(labels[name], expected, "{name}");
    }
}

#[test]
fn the_host_is_not_told_at_the_servers_end() {
    let proxy = Setup::new().admin().start();
    proxy.exchange("GET / HTTP/1.1\r\nhost: made.up\r\n\r\n");
    assert_eq!(only_sample(&proxy, REQUESTS).0["destination_service"], "unknown");
}

#[test]
fn an_answer_of_a_plugin_is_counted_with_its_status() {
    let guest = "on request_headers:\n (call $reply #418 'no' {x-a: 1})";
    let setup = Setup::new().plugin(Plugin::guest(guest));
    let proxy = setup.admin().start();
    assert_eq!(proxy.get("/").status, 418);
    assert_eq!(only_sample(&proxy, REQUESTS).0["response_code"], "418");
}

#[test]
fn sizes_and_times_are_told_with_and_without_plugins() {
    let plugins = [None, Some(Plugin::guest("on response_headers:\n (return #0)"))];
    for plugin in plugins {
        let proxy = plugin.into_iter().fold(Setup::new(), Setup::plugin).admin().start();
        proxy.exchange("POST /bytes/8 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc");
        for (metric, expected) in [("request", "3.0"), ("response", "8.0")] {
            assert_eq!(only_sample(&proxy, &format!("istio_{metric}_bytes_sum")).1, expected);
            assert_eq!(only_sample(&proxy, &format!("istio_{metric}_bytes_count")).1, "1");
        }
        assert_eq!(only_sample(&proxy, "istio_request_duration_milliseconds_count").1, "1");
    }
}

#[test]
fn an_upstream_that_cannot_be_reached_is_told_by_a_flag() {
    for plugin in [None, Some(Plugin::guest("on request_headers:\n (return #0)"))] {
        let setup = Setup::new().tune(|config| config.upstream = "127.0.0.1:1".parse().unwrap());
        let proxy = plugin.into_iter().fold(setup, Setup::plugin).admin().start();
        assert_eq!(proxy.get("/").status, 503);
        let (labels, _) = only_sample(&proxy, REQUESTS);
        assert_eq!((&*labels["response_code"], &*labels["response_flags"]), ("503", "UF"));
    }
}

#[test]
fn injected_faults_are_told_by_flags() {
    for (fault, flags) in [
        ("delay: {fixedDelay: 0.01s}", "DI"),
        ("abort: {httpStatus: 503}", "FI"),
        ("delay: {fixedDelay: 0.01s}, abort: {httpStatus: 503}", "DI,FI"),
        ("abort: {httpStatus: 503, percentage: {value: 0}}", "-"),
    ] {
        let resources = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: faults, namespace: default}}\n\
             spec: {{hosts: ['*'], http: [{{fault: {{{fault}}}}}]}}\n"
        );
        let workload = reviews(WorkloadRole::SidecarOutbound);
        let proxy = Setup::new().resources(&resources).workload(workload).admin().start();
        proxy.get("/");
        let page = || proxy.admin("/stats/prometheus").text();
        let label = format!("response_flags=\"{flags}\"");
        crate::harness::eventually(|| page().contains(REQUESTS));
        assert!(page().contains(&label), "{fault}: {}", page());
    }
}

#[test]
fn messages_of_grpc_are_counted() {
    let message = "\0\0\0\0\u{1}x";
    for plugin in [None, Some(Plugin::guest("on request_headers:\n (return #0)"))] {
        let setup = plugin.into_iter().fold(Setup::new(), Setup::plugin).admin();
        let proxy = setup.start();
        let mut client = Http2Client::connect(proxy.proxy().listen_address()).unwrap();
        let request = format!(
            "POST /a.B/c HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\n\
             content-length: 12\r\n\r\n{message}{message}"
        );
        client.exchange(request.as_bytes()).unwrap();
        let (labels, count) = only_sample(&proxy, "istio_request_messages_total");
        assert_eq!((&*labels["request_protocol"], &*count), ("grpc", "2"));
    }
    // What is no gRPC has none.
    let proxy = running("");
    proxy.get("/");
    only_sample(&proxy, REQUESTS);
    assert!(samples(&proxy, "istio_request_messages_total").is_empty());
}

#[test]
fn connections_are_counted_with_their_bytes() {
    let upstream = RawUpstream::echo();
    let address = upstream.address();
    let tune = move |config: &mut wasmplug_proxy::ProxyConfig| {
        config.upstream = address.into();
        config.listener = ListenerProtocol::Tcp;
    };
    let proxy = Setup::new().tune(tune).admin().start();
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    let value = |name: &str| only_sample(&proxy, name).1;
    assert_eq!(value("istio_tcp_connections_opened_total"), "1");
    assert_eq!(value("istio_tcp_connections_closed_total"), "0");
    assert_eq!(value("istio_tcp_received_bytes_total"), "5");
    assert_eq!(value("istio_tcp_sent_bytes_total"), "5");
    drop(client);
    crate::harness::eventually(|| value("istio_tcp_connections_closed_total") == "1");
    let (labels, _) = only_sample(&proxy, "istio_tcp_connections_opened_total");
    assert_eq!(labels["request_protocol"], "tcp");
    assert!(!labels.contains_key("response_code"));
    assert!(samples(&proxy, REQUESTS).is_empty());
}

#[test]
fn telemetry_disables_metrics_and_changes_their_labels() {
    let proxy = running(&telemetry(
        "{overrides: [
            {match: {metric: REQUEST_SIZE}, disabled: true},
            {match: {metric: REQUEST_COUNT}, tagOverrides: {
                source_cluster: {operation: REMOVE},
                request_method: {value: request.method},
                response_code: {value: 'string(response.code / 100) + \"xx\"'},
                tenant: {value: 'request.headers[\"x-tenant\"]'},
                broken: {value: '1 +'}}}]}",
    ));
    proxy.exchange("GET / HTTP/1.1\r\nhost: a\r\nx-tenant: acme\r\n\r\n");
    let (labels, _) = only_sample(&proxy, REQUESTS);
    assert!(!labels.contains_key("source_cluster"));
    for (name, expected) in [
        ("request_method", "GET"),
        ("response_code", "2xx"),
        ("tenant", "acme"),
        ("broken", "unknown"),
    ] {
        assert_eq!(labels[name], expected, "{name}");
    }
    assert!(samples(&proxy, "istio_request_bytes_count").is_empty());
    let (labels, _) = only_sample(&proxy, "istio_response_bytes_count");
    assert!(labels.contains_key("source_cluster") && !labels.contains_key("tenant"));
    let dump = proxy.admin("/config_dump").text();
    assert!(dump.contains("\"refused_expressions\": [\n        \"1 +\""), "{dump}");
}

#[test]
fn streams_that_differ_in_a_removed_label_are_one() {
    let resources =
        telemetry("{overrides: [{tagOverrides: {response_code: {operation: REMOVE}}}]}");
    let proxy = running(&resources);
    proxy.get("/status/404");
    proxy.get("/");
    crate::harness::eventually(|| {
        samples(&proxy, REQUESTS).first().is_some_and(|(_, value)| value == "2")
    });
    assert_eq!(samples(&proxy, REQUESTS).len(), 1);
}

#[test]
fn nothing_is_made_for_a_provider_that_does_not_scrape() {
    let proxy = running(&telemetry("{providers: [{name: other}]}"));
    proxy.get("/");
    proxy.wait_for_stat("envoy_http_downstream_rq_xx_total{envoy_response_code_class=\"2\"} 1");
    let page = proxy.admin("/stats/prometheus").text();
    assert!(!page.lines().any(|line| line.starts_with("istio_")), "{page}");
}

#[test]
fn counts_survive_a_change_of_plugins_and_end_with_a_change_of_metrics() {
    let mut proxy = running("");
    proxy.get("/");
    only_sample(&proxy, REQUESTS);
    proxy.load(&[Plugin::guest("on request_headers:\n (return #0)")]);
    proxy.get("/");
    crate::harness::eventually(|| {
        samples(&proxy, REQUESTS).first().is_some_and(|(_, value)| value == "2")
    });
    proxy.load_with(&[], &telemetry("{reportingInterval: 5s}"));
    assert!(samples(&proxy, REQUESTS).is_empty());
}
