//! How the time to plan a mesh grows with it: `cargo xtask bench plan`.
//!
//! Prints one line of JSON for each size and round. A mesh of size *n* has *n* plugins and *n*
//! workloads in namespaces of ten each; every plugin selects one workload of its namespace, and
//! five more apply to the whole mesh, so that what comes out grows with *n* as well.
//! Growth beyond that is the fault of the planner.

#![expect(clippy::print_stdout, reason = "the lines are what is asked for")]

use std::time::Instant;

use serde_json::json;
use wasmplug_api::{
    Mesh, Object, ObjectMeta, PluginPhase, Position, Resource, WasmPluginSpec, Workload,
    WorkloadRole, WorkloadSelector,
};

const SIZES: [usize; 4] = [10, 100, 1_000, 10_000];
const PER_NAMESPACE: usize = 10;
const MESH_WIDE: usize = 5;
const ROUNDS: usize = 5;

fn main() {
    for size in SIZES {
        let resources = plugins(size);
        let workloads: Vec<Workload> = (0..size).map(workload).collect();
        for round in 1..=ROUNDS {
            let start = Instant::now();
            let mesh = Mesh::new(&resources);
            let indexed = start.elapsed();
            let filters: usize =
                workloads.iter().map(|workload| mesh.chain(workload).filters.len()).sum();
            let planned = start.elapsed();
            println!(
                "{}",
                json!({
                    "plugins": resources.len(),
                    "workloads": size,
                    "round": round,
                    "index_us": indexed.as_micros(),
                    "all_us": planned.as_micros(),
                    "filters": filters,
                })
            );
        }
    }
}

fn plugins(size: usize) -> Vec<Resource> {
    let own = (0..size).map(|number| {
        let labels = [("app".to_owned(), format!("app-{}", number % PER_NAMESPACE))];
        let selector = WorkloadSelector { match_labels: labels.into() };
        plugin(namespace(number), number, Some(selector))
    });
    let mesh_wide = (0..MESH_WIDE).map(|number| plugin("istio-system".into(), number, None));
    own.chain(mesh_wide).collect()
}

fn plugin(namespace: String, number: usize, selector: Option<WorkloadSelector>) -> Resource {
    let phases = [PluginPhase::Authn, PluginPhase::Authz, PluginPhase::Stats];
    let spec = WasmPluginSpec {
        url: "oci://registry.example/plugin:v1".into(),
        phase: phases.get(number % 3).copied().unwrap_or_default(),
        selector,
        ..WasmPluginSpec::default()
    };
    let name = format!("plugin-{number}");
    let meta = ObjectMeta { name, namespace, ..ObjectMeta::default() };
    let position = Position { file: "mesh.yaml".into(), line: 1, column: 1 };
    Resource::from(Object { meta, spec, position })
}

fn workload(number: usize) -> Workload {
    let mut workload = Workload::new(namespace(number), WorkloadRole::SidecarInbound);
    let app = format!("app-{}", number % PER_NAMESPACE);
    workload.labels = [("app".to_owned(), app), ("version".to_owned(), "v1".to_owned())].into();
    workload
}

fn namespace(number: usize) -> String {
    format!("namespace-{}", number / PER_NAMESPACE)
}
