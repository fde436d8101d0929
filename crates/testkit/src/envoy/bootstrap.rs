//! The bootstrap document: one listener, one static cluster, Wasm filters, the router.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use serde_json::{Map, Value, json};

use super::Traffic;

/// One `envoy.filters.http.wasm`.
///
/// Source: Envoy API, `envoy.extensions.wasm.v3.PluginConfig`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WasmFilter {
    /// Name of the plugin.
    pub name: String,
    /// Root id, which a module with several plugins uses to choose among them.
    pub root_id: String,
    /// The module.
    pub module_path: PathBuf,
    /// Configuration, handed to the plugin as it is.
    pub configuration: String,
    /// VM id; plugins with the same id, module and VM configuration share a VM.
    pub vm_id: String,
    /// What a trap means for streams; `None` leaves Envoy's default.
    pub fail_policy: Option<FailurePolicy>,
    /// Environment variables of the VM.
    pub environment: Vec<(String, String)>,
}

/// Source: Envoy API, `envoy.extensions.wasm.v3.FailurePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// Streams get 503 and the VM stays dead.
    FailClosed,
    /// Streams pass without the plugin.
    FailOpen,
    /// The VM is made anew, with back-off.
    FailReload,
}

// === impl WasmFilter ===

impl WasmFilter {
    /// A filter with this name, module and configuration; no root id, VM id or environment.
    pub fn new(name: &str, module_path: impl Into<PathBuf>, configuration: &str) -> Self {
        Self {
            name: name.to_owned(),
            root_id: String::new(),
            module_path: module_path.into(),
            configuration: configuration.to_owned(),
            vm_id: String::new(),
            fail_policy: None,
            environment: Vec::new(),
        }
    }

    pub(super) fn document(&self) -> Value {
        let mut config = json!({
            "name": self.name,
            "root_id": self.root_id,
            "vm_config": {
                "vm_id": self.vm_id,
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": self.module_path } },
            },
        });
        if !self.configuration.is_empty() {
            config["configuration"] = json!({
                "@type": "type.googleapis.com/google.protobuf.StringValue",
                "value": self.configuration,
            });
        }
        if !self.environment.is_empty() {
            let variables: serde_json::Map<String, Value> = self
                .environment
                .iter()
                .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
                .collect();
            config["vm_config"]["environment_variables"] = json!({ "key_values": variables });
        }
        if let Some(policy) = self.fail_policy {
            config["failure_policy"] = Value::from(match policy {
                FailurePolicy::FailClosed => "FAIL_CLOSED",
                FailurePolicy::FailOpen => "FAIL_OPEN",
                FailurePolicy::FailReload => "FAIL_RELOAD",
            });
        }
        json!({
            "name": self.name,
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
                "config": config,
            },
        })
    }
}

/// The whole document; JSON is YAML, and needs no quoting rules.
pub(super) fn document(upstream: SocketAddr, traffic: &Traffic) -> Value {
    let mut http_filters = traffic.filters.clone();
    http_filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
    }));
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let passes_trailers = traffic.passes_trailers;
    let http1 = json!({ "http_protocol_options": { "enable_trailers": passes_trailers } });
    let http2 = json!({ "http2_protocol_options": {} });
    let protocol = if traffic.has_http2_upstream { &http2 } else { &http1 };
    let mut to_upstream = cluster("upstream", upstream, protocol);
    if let Some(most) = traffic.max_pending_requests {
        let breakers = json!({ "thresholds": [{ "max_pending_requests": most }] });
        extend(&mut to_upstream, &Map::from_iter([("circuit_breakers".to_owned(), breakers)]));
    }
    let mut clusters = vec![to_upstream];
    clusters.extend(traffic.clusters.iter().map(|(name, addr)| cluster(name, *addr, &http1)));
    let with_http2 = traffic.http2_clusters.iter();
    clusters.extend(with_http2.map(|(name, addr)| cluster(name, *addr, &http2)));
    json!({
        "admin": { "address": address(any_port) },
        // Histograms are merged when somebody asks, not every five seconds.
        "stats_flush_on_admin": true,
        "layered_runtime": { "layers": [{ "name": "static", "static_layer": traffic.runtime }] },
        "static_resources": {
            "listeners": [{
                "name": "traffic",
                "address": address(any_port),
                "filter_chains": [{ "filters": [connection_manager(&http_filters, traffic)] }],
            }],
            "clusters": clusters,
        },
    })
}

fn cluster(name: &str, endpoint: SocketAddr, protocol: &Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.\
                          HttpProtocolOptions",
                "explicit_http_config": protocol,
            },
        },
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{
                "lb_endpoints": [{ "endpoint": { "address": address(endpoint) } }],
            }],
        },
    })
}

fn connection_manager(http_filters: &[Value], traffic: &Traffic) -> Value {
    let type_url = "type.googleapis.com/envoy.extensions.filters.network.\
                    http_connection_manager.v3.HttpConnectionManager";
    let mut route = json!({
        "match": { "prefix": "/" },
        "route": { "cluster": "upstream", "timeout": "0s" },
    });
    extend(&mut route, &traffic.route);
    let mut manager = json!({
        "@type": type_url,
        "stat_prefix": "traffic",
        "codec_type": "AUTO",
        "http_protocol_options": { "enable_trailers": traffic.passes_trailers },
        "http_filters": http_filters,
        "route_config": {
            "name": "traffic",
            "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }],
        },
    });
    extend(&mut manager, &traffic.manager);
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    })
}

fn extend(document: &mut Value, fields: &Map<String, Value>) {
    for (name, value) in fields {
        document[name.as_str()] = value.clone();
    }
}

fn address(addr: SocketAddr) -> Value {
    json!({
        "socket_address": { "address": addr.ip().to_string(), "port_value": addr.port() },
    })
}
