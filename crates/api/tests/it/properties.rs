//! What holds of every plan, tried on meshes that nobody wrote.

use std::fmt::Write as _;

use wasmplug_api::{
    Mesh, NamespacedName, Resource, ServedService, Workload, WorkloadRole, parse_file, plan,
};

use crate::random::Random;

const NAMESPACES: [&str; 4] = ["istio-system", "a", "b", "c"];
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// A manifest of policies of all kinds, some of them with the same name.
fn mesh(random: &mut Random) -> Vec<Resource> {
    let mut text = String::new();
    for number in 0..40 {
        let namespace = NAMESPACES[random.below(4)];
        // Fewer names than documents, so that some are given twice.
        let name = format!("p{}", random.below(25));
        let created = match random.below(3) {
            0 => String::new(),
            day => format!(", creationTimestamp: 2026-01-0{day}T00:00:00Z"),
        };
        let attachment = attachment(random);
        let phase = ["AUTHN", "AUTHZ", "STATS", "UNSPECIFIED_PHASE"][random.below(4)];
        let priority = ["", "priority: 1, ", "priority: -1, "][random.below(3)];
        let order = format!("phase: {phase}, {priority}");
        let (group, kind, spec) = match random.below(8) {
            0 | 1 => ("extensions.istio.io/v1alpha1", "WasmPlugin", format!("{order}url: a")),
            2 => {
                let body = ["wasm: {url: a}", "lua: {inlineCode: a}", "wasm: {url: a, type: 2}"];
                let spec = format!("{order}{}", body[random.below(3)]);
                ("extensions.istio.io/v1alpha1", "TrafficExtension", spec)
            }
            3 => {
                let issuer = random.below(3);
                let spec = format!("jwtRules: [{{issuer: i{issuer}, jwksUri: 'http://h/k'}}]");
                ("security.istio.io/v1", "RequestAuthentication", spec)
            }
            4 => {
                let action = ["ALLOW", "DENY", "AUDIT", "CUSTOM, provider: {name: x}"];
                let spec = format!("rules: [{{}}], action: {}", action[random.below(4)]);
                ("security.istio.io/v1", "AuthorizationPolicy", spec)
            }
            7 => {
                let gateways = ["", "gateways: [mesh, g], ", "exportTo: [.], "][random.below(3)];
                let asks = ["corsPolicy: {}", "fault: {abort: {httpStatus: 500}}"];
                let spec = format!("hosts: [s], {gateways}http: [{{{}}}]", asks[random.below(2)]);
                ("networking.istio.io/v1", "VirtualService", spec)
            }
            5 => ("telemetry.istio.io/v1", "Telemetry", "metrics: [{}]".to_owned()),
            _ => ("security.istio.io/v1", "PeerAuthentication", "mtls: {mode: STRICT}".to_owned()),
        };
        let attachment = match (kind, attachment.contains("targetRefs")) {
            ("PeerAuthentication", true) | ("VirtualService", _) => "",
            _ => attachment,
        };
        let _ = write!(
            text,
            "---\napiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: \
             {namespace}{created}}}\nspec: {{{attachment}{spec}}}\n# {number}\n"
        );
    }
    let parsed = parse_file("mesh.yaml", &text);
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.resources
}

fn attachment(random: &mut Random) -> &'static str {
    match random.below(6) {
        0 | 1 => "",
        2 => "selector: {matchLabels: {app: web}}, ",
        3 => "selector: {matchLabels: {app: web, tier: front}}, ",
        4 => "targetRefs: [{kind: Service, name: s}], ",
        _ => "targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: g}], ",
    }
}

fn workloads() -> Vec<Workload> {
    let mut workloads = Vec::new();
    for role in WorkloadRole::ALL {
        for namespace in NAMESPACES {
            for labels in [
                &[][..],
                &[("app", "web")],
                &[("app", "web"), ("tier", "front"), ("x", "y")],
                &[(GATEWAY, "g")],
            ] {
                let mut workload = Workload::new(namespace, role);
                let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
                workload.labels = labels.iter().map(pair).collect();
                let name = NamespacedName::new("b", "s");
                workload.services.push(ServedService { name, is_service_entry: false });
                workloads.push(workload);
            }
        }
    }
    workloads
}

fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last + 1));
    }
}

#[test]
fn order_of_the_resources_never_matters() {
    let mut random = Random(0x0123_4567_89ab_cdef);
    for round in 0..4 {
        let mut resources = mesh(&mut random);
        let expected: Vec<_> = workloads().iter().map(|of| plan(&resources, of)).collect();
        for _ in 0..3 {
            shuffle(&mut resources, &mut random);
            let mesh = Mesh::new(&resources);
            for (workload, expected) in workloads().iter().zip(&expected) {
                assert_eq!(&mesh.plan(workload), expected, "round {round}, {workload:?}");
            }
        }
    }
}

#[test]
fn looking_at_candidates_only_finds_the_same_chain() {
    let mut random = Random(0xfeed_f00d_dead_beef);
    let mut plugins = 0;
    for round in 0..8 {
        let resources = mesh(&mut random);
        let mesh = Mesh::new(&resources);
        for workload in workloads() {
            let (all, some) = (mesh.plan(&workload), mesh.chain(&workload));
            assert_eq!(some.filters, all.filters, "round {round}, {workload:?}");
            assert_eq!(some.network_plugins, all.network_plugins, "round {round}, {workload:?}");
            assert_eq!(some.mutual_tls, all.mutual_tls, "round {round}, {workload:?}");
            assert!(some.left_out.iter().all(|left_out| all.left_out.contains(left_out)));
            plugins += all.plugins().count();
        }
    }
    assert!(plugins > 500, "chains of some length were compared: {plugins}");
}

#[test]
fn no_resource_is_forgotten() {
    use wasmplug_api::PlannedFilter::{Cors, ExtAuthz, Fault, JwtAuthn, Rbac, Router, Stats, Wasm};
    let mut random = Random(0x5eed);
    for round in 0..4 {
        let resources = mesh(&mut random);
        let mesh = Mesh::new(&resources);
        for workload in workloads() {
            let plan = mesh.plan(&workload);
            let mut count = plan.left_out.len() + plan.network_plugins.len();
            count +=
                usize::from(plan.mutual_tls.as_ref().is_some_and(|tls| tls.resource.is_some()));
            for filter in &plan.filters {
                count += match filter {
                    Wasm(_) => 1,
                    Rbac(authorization) | ExtAuthz(authorization) => authorization.policies.len(),
                    // Each policy of the mesh has one rule.
                    JwtAuthn(authentication) => authentication.rules.len(),
                    // And each of them asks for one thing.
                    Fault(faults) => faults.routes.len(),
                    Cors(policies) => policies.routes.len(),
                    Stats(metrics) => metrics.resources.len(),
                    Router => 0,
                };
            }
            assert_eq!(count, resources.len(), "round {round}, {workload:?}: {plan:#?}");
        }
    }
}
