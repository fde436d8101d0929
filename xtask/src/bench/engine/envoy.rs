//! The bootstrap of Envoy.

use std::path::Path;
use std::process::Command;

use fs_err as fs;
use serde_json::{Value, json};

use crate::bench::engine::{Certificate, Ports};
use crate::bench::workload::{Case, Workload};

const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";

/// Writes the bootstrap and returns the command that runs it.
pub(super) fn command(
    program: &Path,
    work: &Path,
    module: &Path,
    case: Case,
    ports: &Ports,
) -> anyhow::Result<Command> {
    let path = work.join("envoy.yaml");
    // JSON is YAML.
    let bootstrap = bootstrap(case, module, ports, &Certificate::in_folder(work));
    fs::write(&path, serde_json::to_string_pretty(&bootstrap)?)?;
    let mut command = Command::new(program);
    command.args(["--concurrency", &case.workers.to_string(), "--disable-hot-restart"]);
    command.args(["--log-level", "warning", "--config-path"]).arg(path);
    Ok(command)
}

fn bootstrap(case: Case, module: &Path, ports: &Ports, certificate: &Certificate) -> Value {
    let mut filters = wasm_filters(case.plugins, module);
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typed_config": { "@type": format!("{TYPES}.http.router.v3.Router") },
    }));
    let routes = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }]);
    let manager = json!({
        "@type": format!("{TYPES}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "bench",
        "route_config": {
            "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": routes }],
        },
        "http_filters": filters,
    });
    let mut chain = json!({ "filters": [{ "name": "http", "typed_config": manager }] });
    if case.workload == Workload::Tls {
        chain["transport_socket"] = transport_socket(certificate);
    }
    json!({
        "static_resources": {
            "listeners": [{
                "address": address(ports.listen),
                "filter_chains": [chain],
            }],
            "clusters": [{
                "name": "upstream",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "upstream",
                    "endpoints": [{
                        "lb_endpoints": [{ "endpoint": { "address": address(ports.upstream) } }],
                    }],
                },
            }],
        },
    })
}

fn address(port: u16) -> Value {
    json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } })
}

/// One filter for each plugin, in a VM of its own.
fn wasm_filters(plugins: usize, module: &Path) -> Vec<Value> {
    (0..plugins)
        .map(|index| {
            json!({
                "name": format!("tag-{index}"),
                "typed_config": {
                    "@type": format!("{TYPES}.http.wasm.v3.Wasm"),
                    "config": {
                        "name": format!("tag-{index}"),
                        "root_id": format!("tag-{index}"),
                        "configuration": {
                            "@type": "type.googleapis.com/google.protobuf.StringValue",
                            "value": format!("p{index}"),
                        },
                        "vm_config": {
                            "vm_id": format!("vm-{index}"),
                            "runtime": "envoy.wasm.runtime.v8",
                            "code": { "local": { "filename": module } },
                        },
                    },
                },
            })
        })
        .collect()
}

fn transport_socket(certificate: &Certificate) -> Value {
    let file = |path: &Path| json!({ "filename": path });
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.\
                      DownstreamTlsContext",
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": file(&certificate.chain),
                    "private_key": file(&certificate.key),
                }],
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::engine::Engine;

    const PORTS: Ports = Ports { listen: 1, admin: 2, upstream: 3 };

    fn chain(plugins: usize, workload: Workload) -> Value {
        let case = Case { engine: Engine::Envoy, plugins, workload, workers: 1 };
        let certificate = Certificate::in_folder(Path::new("work"));
        let bootstrap = bootstrap(case, Path::new("a.wasm"), &PORTS, &certificate);
        bootstrap["static_resources"]["listeners"][0]["filter_chains"][0].clone()
    }

    #[test]
    fn envoy_runs_each_plugin_in_a_vm_of_its_own_before_the_router() {
        let chain = chain(2, Workload::Small);
        let manager = &chain["filters"][0]["typed_config"];
        let filters = manager["http_filters"].as_array().unwrap();
        let vms: Vec<_> = filters
            .iter()
            .map(|filter| filter["typed_config"]["config"]["vm_config"]["vm_id"].as_str())
            .collect();
        assert_eq!(vms, [Some("vm-0"), Some("vm-1"), None]);
        assert_eq!(filters[2]["name"], "envoy.filters.http.router");
    }

    #[test]
    fn envoy_speaks_tls_only_where_that_is_measured() {
        let context = &chain(0, Workload::Tls)["transport_socket"]["typed_config"];
        let certificate = &context["common_tls_context"]["tls_certificates"][0];
        assert_eq!(certificate["private_key"]["filename"], "work/key.pem");
        assert!(chain(0, Workload::Http2).get("transport_socket").is_none());
    }
}
