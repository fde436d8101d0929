use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::manifest::parse_file;
use crate::selector::{
    GATEWAY_API_GROUP, GATEWAY_NAME_LABEL, PolicyTargetReference, TrafficSelector, WorkloadMode,
    WorkloadSelector,
};
use crate::wasm_plugin::{EnvValueSource, PluginType, VmConfig, WasmPlugin};

// === fixtures ===

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn plugin(namespace: &str, name: &str) -> WasmPlugin {
    let mut plugin = WasmPlugin {
        meta: crate::ObjectMeta::default(),
        spec: crate::WasmPluginSpec { url: "oci://h.io/a".into(), ..Default::default() },
        position: Position { file: "a.yaml".into(), line: 1, column: 1 },
    };
    plugin.meta.namespace = namespace.into();
    plugin.meta.name = name.into();
    plugin
}

fn workload(namespace: &str, pairs: &[(&str, &str)]) -> Workload {
    Workload { labels: labels(pairs), ..Workload::new(namespace, WorkloadRole::SidecarInbound) }
}

fn selector(pairs: &[(&str, &str)]) -> WorkloadSelector {
    WorkloadSelector { match_labels: labels(pairs) }
}

fn traffic(mode: WorkloadMode, ports: &[u32]) -> Vec<TrafficSelector> {
    vec![TrafficSelector { mode, ports: ports.to_vec() }]
}

fn gateway(name: &str) -> PolicyTargetReference {
    PolicyTargetReference {
        group: GATEWAY_API_GROUP.into(),
        kind: "Gateway".into(),
        name: name.into(),
        namespace: String::new(),
    }
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.plugins().map(|plugin| plugin.resource.name.as_str()).collect()
}

fn applies(plugin: &WasmPlugin, workload: &Workload) -> bool {
    let plan = plan(&[Resource::WasmPlugin(plugin.clone())], workload);
    assert_eq!(plan.left_out.len() + plan.plugins().count(), 1);
    assert_eq!(chain_of(&[Resource::WasmPlugin(plugin.clone())], workload), plan.filters);
    plan.left_out.is_empty()
}

const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Every field set, every secret of it `hunter2`.
fn complete_plugin() -> WasmPlugin {
    let mut plugin = plugin("ns", "a");
    plugin.meta.resource_version = Some("42".into());
    let config = json!({"b": 1, "a": "x"});
    plugin.spec = crate::WasmPluginSpec {
        url: "https://user:hunter2@h/a.wasm".into(),
        sha256: Some(HEX.into()),
        image_pull_policy: PullPolicy::Always,
        image_pull_secret: Some("hunter2".into()),
        verification_key: Some("public".into()),
        plugin_config: config.as_object().cloned(),
        plugin_name: Some("root".into()),
        phase: PluginPhase::Authn,
        priority: Some(7),
        fail_strategy: FailStrategy::FailOpen,
        vm_config: VmConfig {
            env: vec![
                EnvVar { name: "A".into(), value: "hunter2".into(), ..Default::default() },
                EnvVar { name: "B".into(), value_from: EnvValueSource::Host, value: String::new() },
            ],
        },
        ..Default::default()
    };
    plugin
}

/// The chain as it is found without looking at every resource.
fn chain_of(resources: &[Resource], workload: &Workload) -> Vec<PlannedFilter> {
    Mesh::new(resources).chain(workload).filters
}

// === tests ===

#[test]
fn plan_without_resources_is_what_a_mesh_has_by_default() {
    let plan = plan(&[], &workload("ns", &[]));
    let kinds: Vec<_> = serde_json::to_value(&plan).unwrap()["filters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|filter| filter["filter"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(kinds, ["stats", "router"]);
    assert_eq!(plan.mutual_tls.unwrap().mode, crate::MutualTlsMode::Permissive);
    assert_eq!(plan.left_out, []);
}

/// Rows of Istio's `TestMatchListener`.
#[test]
fn selector_and_match_are_both_needed() {
    use WorkloadMode::{Client, ClientAndServer, Server, Undefined};
    use WorkloadRole::{Gateway, SidecarInbound, SidecarOutbound};
    let own = || Some(selector(&[("a", "b")]));
    let other = || Some(selector(&[("e", "f")]));
    let rows = [
        (None, vec![], SidecarInbound, true),
        (own(), vec![], SidecarInbound, true),
        (other(), vec![], SidecarInbound, false),
        (None, traffic(Undefined, &[]), SidecarInbound, true),
        (None, traffic(Server, &[]), SidecarInbound, true),
        (None, traffic(Server, &[1234]), SidecarInbound, true),
        (None, traffic(Server, &[1235]), SidecarInbound, false),
        (other(), traffic(Server, &[1234]), SidecarInbound, false),
        (None, traffic(Client, &[1234]), SidecarOutbound, true),
        (None, traffic(ClientAndServer, &[1234]), SidecarOutbound, true),
        (None, traffic(ClientAndServer, &[1234]), SidecarInbound, true),
        (None, traffic(Client, &[1234]), Gateway, true),
        (None, traffic(Server, &[1234]), Gateway, false),
        (None, traffic(Client, &[1234]), SidecarInbound, false),
        (None, traffic(Server, &[1234]), SidecarOutbound, false),
        (None, traffic(Server, &[1235, 1234]), SidecarInbound, true),
    ];
    for (index, (selector, match_, role, expected)) in rows.into_iter().enumerate() {
        let mut plugin = plugin("ns", "a");
        plugin.spec.selector = selector;
        plugin.spec.match_ = match_;
        let workload = Workload { role, port: 1234, ..workload("ns", &[("a", "b"), ("c", "d")]) };
        assert_eq!(applies(&plugin, &workload), expected, "row {index}: {plugin:?}");
    }
}

/// Rows of Istio's `TestPolicyMatcher` without waypoints.
#[test]
fn target_references_decide_for_gateways_only() {
    let app = || workload("default", &[("app", "my-app")]);
    let gate = || workload("default", &[(GATEWAY_NAME_LABEL, "sample-gateway")]);
    let matching = Some(selector(&[("app", "my-app")]));
    let by_label = Some(selector(&[(GATEWAY_NAME_LABEL, "sample-gateway")]));
    let to_it = vec![gateway("sample-gateway")];
    let to_other = vec![gateway("other")];
    let both = vec![gateway("other"), gateway("sample-gateway")];
    let rows = [
        (app(), None, to_it.clone(), false),
        (app(), matching.clone(), vec![], true),
        (app(), matching.clone(), to_it.clone(), false),
        (app(), None, vec![], true),
        (gate(), None, to_it.clone(), true),
        (gate(), by_label.clone(), vec![], true),
        (gate(), by_label, to_it.clone(), true),
        (gate(), matching, to_it.clone(), true),
        (gate(), None, to_other, false),
        (gate(), None, both, true),
        (gate(), None, vec![], true),
    ];
    for (index, (workload, selector, target_refs, expected)) in rows.into_iter().enumerate() {
        let mut plugin = plugin("default", "a");
        plugin.spec.selector = selector;
        plugin.spec.target_refs = target_refs;
        assert_eq!(applies(&plugin, &workload), expected, "row {index}: {plugin:?}");
    }

    let mut elsewhere = plugin("istio-system", "a");
    elsewhere.spec.target_refs = to_it;
    assert!(!applies(&elsewhere, &gate()), "a reference does not leave its namespace");
    let mut other_kind = plugin("default", "a");
    other_kind.spec.target_refs =
        vec![PolicyTargetReference { kind: "GatewayClass".into(), ..gateway("sample-gateway") }];
    assert!(!applies(&other_kind, &gate()), "a class is not a gateway");
}

/// Istio's `TestTrafficExtensions`, with its Lua extensions as plugins.
#[test]
fn mesh_of_three_namespaces_is_planned_as_istio_does() {
    use PluginPhase::{Authn, Authz};
    type Row = (&'static str, Pairs, u16, &'static [&'static str]);
    type Pairs = &'static [(&'static str, &'static str)];
    let with = |namespace, name, phase, priority, selected: &[(&str, &str)]| {
        let mut plugin = plugin(namespace, name);
        plugin.spec.phase = phase;
        plugin.spec.priority = Some(priority);
        plugin.spec.selector = (!selected.is_empty()).then(|| selector(selected));
        plugin
    };
    let product: Pairs = &[("app", "productpage")];
    let ingress: Pairs = &[("istio", "ingressgateway")];
    let mut first_app = with("istio-system", "global-authn-high", Authn, 1000, product);
    first_app.spec.match_ = traffic(WorkloadMode::Server, &[1234]);
    let mut second_app = with("istio-system", "global-authz-med", Authz, 50, product);
    second_app.spec.match_ = traffic(WorkloadMode::Server, &[1235]);
    let mut network = with("testns-1", "wasm-low-network", Authn, 10, &[]);
    network.spec.type_ = PluginType::Network;
    let mut without_url = with("istio-system", "no-url", Authn, 5, &[]);
    without_url.spec.url.clear();
    let resources: Vec<_> = [
        without_url,
        with("istio-system", "global-authn-low", Authn, 5, ingress),
        first_app,
        second_app,
        with("testns-1", "lua-low", Authn, 10, &[]),
        with("testns-1", "wasm-low", Authn, 10, &[]),
        network,
        with("testns-1", "lua-med", Authn, 50, &[]),
        with("testns-2", "authz-high", Authz, 1000, &[]),
    ]
    .map(Resource::WasmPlugin)
    .into();

    let rows: [Row; 5] = [
        ("other", &[], 0, &[]),
        ("other", ingress, 0, &["global-authn-low"]),
        ("testns-1", ingress, 0, &["lua-med", "lua-low", "wasm-low", "global-authn-low"]),
        ("testns-2", product, 0, &["global-authn-high", "authz-high", "global-authz-med"]),
        ("testns-2", product, 1234, &["global-authn-high", "authz-high"]),
    ];
    for (namespace, pairs, port, expected) in rows {
        let workload = Workload { port, ..workload(namespace, pairs) };
        let plan = plan(&resources, &workload);
        assert_eq!(names(&plan), expected, "{namespace} {pairs:?} {port}");
        let no_url = plan.left_out.iter().find(|left_out| left_out.resource.name == "no-url");
        assert_eq!(no_url.unwrap().reason, "url: the URL is empty");
    }
}

#[test]
fn each_criterion_decides_only_if_those_before_it_are_equal() {
    use PluginPhase::{Authn, Authz, Stats, Unspecified};
    let make = |namespace, name, phase, priority, creation: Option<&str>| {
        let mut plugin = plugin(namespace, name);
        plugin.spec.phase = phase;
        plugin.spec.priority = priority;
        plugin.meta.creation = creation.map(|text| text.parse().unwrap());
        plugin
    };
    let (old, young) = (Some("2026-01-01T00:00:00Z"), Some("2026-01-01T00:00:01Z"));
    let sorted = [
        make("istio-system", "z", Authn, None, young),
        make("ns", "y", Authz, Some(i32::MAX), young),
        make("ns", "x", Authz, Some(1), None),
        make("ns", "w", Authz, Some(1), old),
        make("ns", "v", Authz, Some(1), young),
        make("istio-system", "u", Authz, Some(1), None),
        make("istio-system", "t", Authz, Some(0), None),
        make("ns", "s", Authz, Some(-1), None),
        make("ns", "a", Authz, None, old),
        make("ns", "ab", Authz, None, old),
        // The lowest number is as good as none.
        make("ns", "b", Authz, Some(i32::MIN), old),
        make("ns", "c", Authz, None, old),
        make("ns", "a2", Stats, None, None),
        make("ns", "a3", Unspecified, Some(5), None),
    ];
    let expected: Vec<String> = sorted.iter().map(|plugin| plugin.meta.name.clone()).collect();
    let mut resources: Vec<_> = sorted.into_iter().map(Resource::WasmPlugin).collect();
    resources.reverse();
    assert_eq!(names(&plan(&resources, &workload("ns", &[]))), expected);
}

/// A permutation by a seed, so that a failure can be repeated.
fn shuffle<T>(items: &mut [T], mut seed: u64) {
    for last in (1..items.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let below = u64::try_from(last + 1).unwrap();
        items.swap(last, usize::try_from((seed >> 33) % below).unwrap());
    }
}

#[test]
fn order_of_the_resources_does_not_matter() {
    let mut resources = Vec::new();
    let phases = [PluginPhase::Authn, PluginPhase::Stats, PluginPhase::Unspecified];
    for (index, phase) in phases.into_iter().cycle().take(60).enumerate() {
        let namespace = ["ns", "istio-system", "other"][index % 7 % 3];
        // Twenty-one names for sixty plugins: some are duplicates.
        let mut plugin = plugin(namespace, &format!("p{}", index % 21));
        plugin.spec.phase = phase;
        plugin.spec.priority = [None, Some(1), Some(-1), Some(1)][index % 4];
        plugin.meta.creation =
            ["2026-01-01T00:00:00Z", "2025-01-01T00:00:00Z", ""][index % 5 % 3].parse().ok();
        plugin.position.line = u32::try_from(index).unwrap() + 1;
        resources.push(Resource::WasmPlugin(plugin));
    }
    let workload = workload("ns", &[]);
    let expected = plan(&resources, &workload);
    assert!(expected.plugins().count() > 10);
    assert!(expected.left_out.iter().any(|left_out| left_out.reason.contains("same name")));
    for seed in 0..200 {
        shuffle(&mut resources, seed);
        assert_eq!(plan(&resources, &workload), expected, "seed {seed}");
    }
}

#[test]
fn every_resource_is_planned_or_left_out_with_a_reason() {
    let text = include_str!("../../tests/golden/attachment/input.yaml");
    let resources = parse_file("a.yaml", text).resources;
    let plan = plan(&resources, &workload("ns", &[]));
    let planned = plan.plugins().count() + plan.network_plugins.len();
    assert_eq!(planned + plan.left_out.len(), resources.len());
    assert!(plan.left_out.iter().all(|left_out| !left_out.reason.is_empty()));
}

#[test]
fn malformed_fields_leave_a_plugin_out() {
    let mut bad_digest = plugin("ns", "digest");
    bad_digest.spec.sha256 = Some("01ba47".into());
    let mut bad_url = plugin("ns", "url");
    bad_url.spec.url = "http://h:99999/a".into();
    let plan = plan(
        &[Resource::WasmPlugin(bad_digest), Resource::WasmPlugin(bad_url)],
        &workload("ns", &[]),
    );
    let reasons: Vec<_> = plan.left_out.iter().map(|left_out| left_out.reason.as_str()).collect();
    assert_eq!(
        reasons,
        [
            "sha256: a sha256 has 64 hexadecimal digits, this one has 6 characters",
            "url: invalid `http` URL: invalid port number",
        ]
    );
}

#[test]
fn planned_plugin_carries_all_that_is_needed_to_run_it() {
    let plan = plan(&[Resource::WasmPlugin(complete_plugin())], &workload("ns", &[]));

    let planned = plan.plugins().next().unwrap();
    assert_eq!(planned.environment[0].value, "hunter2");
    assert_eq!(planned.image_pull_secret.as_deref(), Some("hunter2"));
    assert!(matches!(&planned.url, ModuleUrl::Http(url) if url.password() == Some("hunter2")));

    assert!(!format!("{plan:?}").contains("hunter2"));
    assert_eq!(
        serde_json::to_value(&plan).unwrap(),
        json!({
            "filters": [
                {
                    "filter": "wasm",
                    "kind": "WasmPlugin",
                    "resource": {"namespace": "ns", "name": "a"},
                    "position": "a.yaml:1:1",
                    "phase": "AUTHN",
                    "priority": 7,
                    "creation": null,
                    "url": "https://[redacted]@h/a.wasm",
                    "sha256": format!("sha256:{HEX}"),
                    "pullPolicy": "Always",
                    "imagePullSecret": "[redacted]",
                    "verificationKey": "public",
                    "rootId": "root",
                    "configuration": "{\"a\":\"x\",\"b\":1}",
                    "environment": [
                        {"name": "A", "valueFrom": "INLINE", "value": "[redacted]"},
                        {"name": "B", "valueFrom": "HOST"}
                    ],
                    "failStrategy": "FAIL_OPEN",
                    "resourceVersion": "42"
                },
                {
                    "filter": "stats",
                    "provider": "prometheus",
                    "reporter": {
                        "role": "sidecar-inbound",
                        "workload": null,
                        "namespace": "ns",
                        "labels": {},
                        "service": null
                    },
                    "overrides": [],
                    "reportingInterval": null,
                    "resources": []
                },
                {"filter": "router"}
            ],
            "networkPlugins": [],
            "mutualTls": {"mode": "PERMISSIVE", "resource": null},
            "pathNormalization": "BASE",
            "port": null,
            "leftOut": []
        })
    );
}

#[test]
fn defaults_of_the_plan_are_empty() {
    let plan = plan(&[Resource::WasmPlugin(plugin("ns", "a"))], &workload("ns", &[]));
    let planned = plan.plugins().next().unwrap();
    assert_eq!((planned.root_id.as_str(), planned.configuration.as_str()), ("", ""));
    assert_eq!((planned.resource_version.as_str(), &planned.sha256), ("", &None));
    assert_eq!(planned.fail_strategy, FailStrategy::FailClose);
    assert_eq!(planned.image_pull_secret, None);
}

#[test]
fn roles_are_read_as_they_are_shown() {
    for role in WorkloadRole::ALL {
        assert_eq!(role.to_string().parse(), Ok(role));
        assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
    }
    let error = "Gateway".parse::<WorkloadRole>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "unknown role `Gateway`, expected `sidecar-inbound`, `sidecar-outbound`, `gateway` or \
         `waypoint`"
    );
}
