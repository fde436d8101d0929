//! Golden cases: every folder of `tests/golden` holds an `input.yaml`, what is found in it
//! (`diagnostics.txt`), if there is a `review.txt`, what is found by looking at all together, and,
//! if there is a `workloads.txt`, what is planned (`plan.txt`).
//!
//! `BLESS=1 cargo test` writes what is expected; read the difference before it is committed.
//!
//! A line of `workloads.txt` is `NAME key=value…` with the keys `namespace`, `role`, `port`,
//! `root`, and any number of times `label`, `service` and `entry` (what a waypoint stands before).

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use wasmplug_api::plan::DEFAULT_ROOT_NAMESPACE;
use wasmplug_api::{
    Diagnostic, LeftOut, Mesh, NamespacedName, ParsedFile, PathNormalization, Plan,
    PlannedAuthorization, PlannedFilter, PlannedMutualTls, PlannedPlugin, PlannedPolicy,
    PlannedRoute, ServedService, Severity, Workload, WorkloadRole, duplicates, parse_file, plan,
    review,
};

macro_rules! golden {
    ($($case:ident),* $(,)?) => {
        const CASES: &[&str] = &[$(stringify!($case)),*];
        $(
            #[test]
            fn $case() {
                check(stringify!($case));
            }
        )*
    };
}

golden!(
    attachment,
    authentication_rules_combined,
    authorization_in_order,
    authorization_policy,
    authorization_policy_rules,
    chain_positions,
    duplicate_names,
    istio_schema_accepts,
    istio_schema_refuses,
    istio_security_policies,
    istio_selection_and_order,
    lists_and_json,
    mesh_namespace_and_workload_scope,
    mesh_settings,
    metrics_scopes,
    mutual_tls_scopes,
    own_namespace_before_root,
    peer_authentication,
    phases_and_priorities,
    plugin_annotations,
    request_authentication,
    reviewed_together,
    routes_that_ask_for_filters,
    secrets,
    selectors_on_gateways,
    silent_sources,
    spelling,
    syntax_error,
    telemetry,
    traffic_extension,
    unknown_fields,
    unknown_kinds,
    validation_of_attachment,
    validation_of_metadata,
    validation_of_source,
    validation_of_types,
    validation_of_vm_and_traffic,
    virtual_service,
    waypoints,
    workload_objects,
    yaml_values,
);

#[test]
fn every_folder_is_a_case() {
    let mut folders: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, CASES);
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn check(case: &str) {
    let case = folder().join(case);
    let input = fs::read_to_string(case.join("input.yaml")).unwrap();
    let parsed = parse_file("input.yaml", &input);
    expect(&case.join("diagnostics.txt"), &describe_findings(&parsed));

    if case.join("review.txt").exists() {
        let mut text = String::new();
        let findings = review(&parsed.resources, DEFAULT_ROOT_NAMESPACE);
        for finding in &findings {
            describe_finding(finding, &mut text);
        }
        expect(&case.join("review.txt"), &text);
    }
    let Ok(workloads) = fs::read_to_string(case.join("workloads.txt")) else { return };
    let mut text = String::new();
    for line in workloads.lines() {
        let workload = parse_workload(line);
        let _ = writeln!(text, "{line}");
        let plan = plan(&parsed.resources, &workload);
        let chain = Mesh::new(&parsed.resources).chain(&workload);
        assert_eq!(chain.filters, plan.filters, "{line}");
        assert_eq!(chain.network_plugins, plan.network_plugins, "{line}");
        assert_eq!(chain.mutual_tls, plan.mutual_tls, "{line}");
        describe_plan(&plan, &mut text);
    }
    expect(&case.join("plan.txt"), &text);
}

fn expect(path: &Path, actual: &str) {
    if env::var_os("BLESS").is_some() {
        fs::write(path, actual).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert!(
        actual == expected,
        "{} differs, got:\n{actual}\nexpected:\n{expected}",
        path.display()
    );
}

fn describe_findings(parsed: &ParsedFile) -> String {
    let mut text = String::new();
    for resource in &parsed.resources {
        let name = resource.namespaced_name();
        let _ = writeln!(text, "accepted {} {name} at {}", resource.kind(), resource.position());
    }
    for ignored in &parsed.ignored {
        let _ = writeln!(
            text,
            "ignored {} {} {} at {}",
            ignored.api_version, ignored.kind, ignored.name, ignored.position
        );
    }
    for finding in parsed.diagnostics.iter().chain(&duplicates(&parsed.resources)) {
        describe_finding(finding, &mut text);
    }
    let errors = parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let _ = writeln!(text, "{errors} errors of {} findings", parsed.diagnostics.len());
    text
}

fn describe_finding(finding: &Diagnostic, text: &mut String) {
    let _ = writeln!(text, "{finding}");
    if let Some(hint) = &finding.hint {
        let _ = writeln!(text, "    hint: {hint}");
    }
}

fn describe_plan(plan: &Plan, text: &mut String) {
    for (index, filter) in plan.filters.iter().enumerate() {
        let _ = write!(text, "  {}. ", index + 1);
        describe_filter(filter, text);
    }
    for plugin in &plan.network_plugins {
        let _ = write!(text, "  network: ");
        describe_plugin(plugin, text);
    }
    if plan.path_normalization != PathNormalization::Base {
        let _ = writeln!(text, "  paths: {:?}", plan.path_normalization);
    }
    if let Some(PlannedMutualTls { mode, resource: Some(policy) }) = &plan.mutual_tls {
        let _ = writeln!(text, "  mutual TLS {} by {policy}", mode.as_str());
    }
    for left_out in &plan.left_out {
        let LeftOut { kind, resource, position, reason } = left_out;
        let kind = if *kind == "WasmPlugin" { String::new() } else { format!("{kind} ") };
        let _ = writeln!(text, "  - {kind}{resource} (line {}): {reason}", position.line);
    }
}

fn describe_filter(filter: &PlannedFilter, text: &mut String) {
    let _ = match filter {
        PlannedFilter::Router => writeln!(text, "router"),
        PlannedFilter::Wasm(plugin) => {
            describe_plugin(plugin, text);
            Ok(())
        }
        PlannedFilter::ExtAuthz(authorization) => {
            let json = serde_json::to_string(&authorization.authorizer).unwrap();
            writeln!(text, "ext_authz {json}: {}", describe_policies(authorization))
        }
        PlannedFilter::Rbac(authorization) => {
            let action = authorization.action.as_str();
            let unknown = authorization.provider.as_ref();
            let unknown = unknown.map(|name| format!(" for unknown {name}")).unwrap_or_default();
            writeln!(text, "rbac {action}{unknown}: {}", describe_policies(authorization))
        }
        PlannedFilter::JwtAuthn(authentication) => {
            let rule = |rule: &wasmplug_api::PlannedJwtRule| {
                format!("{} {} of {}", rule.provider, rule.rule.issuer, rule.resource)
            };
            let rules: Vec<_> = authentication.rules.iter().map(rule).collect();
            writeln!(text, "jwt_authn: {}", rules.join(", "))
        }
        PlannedFilter::Fault(faults) => describe_routes("fault", &faults.routes, text),
        PlannedFilter::Cors(policies) => describe_routes("cors", &policies.routes, text),
        PlannedFilter::Stats(metrics) => {
            let _ = write!(text, "stats");
            for resource in &metrics.resources {
                let _ = write!(text, " {resource}");
            }
            for change in &metrics.overrides {
                let json = serde_json::to_string(change).unwrap();
                let _ = write!(text, "\n       {json}");
            }
            writeln!(text)
        }
    };
}

fn describe_routes<T: Serialize>(
    name: &str,
    routes: &[PlannedRoute<T>],
    text: &mut String,
) -> std::fmt::Result {
    writeln!(text, "{name}")?;
    for route in routes {
        writeln!(text, "       {}", serde_json::to_string(route).unwrap())?;
    }
    Ok(())
}

fn describe_policies(authorization: &PlannedAuthorization) -> String {
    let describe = |policy: &PlannedPolicy| {
        let dry_run = if policy.is_dry_run { ", dry run" } else { "" };
        format!("{} ({} rules{dry_run})", policy.resource, policy.rules.len())
    };
    authorization.policies.iter().map(describe).collect::<Vec<_>>().join(", ")
}

fn describe_plugin(plugin: &PlannedPlugin, text: &mut String) {
    let phase = serde_json::to_value(plugin.phase).unwrap();
    let priority = plugin.priority.map_or("unset".into(), |n| n.to_string());
    let (resource, line) = (&plugin.resource, plugin.position.line);
    let phase = phase.as_str().unwrap();
    let _ = writeln!(text, "{resource} (line {line}), phase {phase}, priority {priority}");
}

fn parse_workload(line: &str) -> Workload {
    let mut workload = Workload::new("default", WorkloadRole::SidecarInbound);
    for word in line.split_whitespace().skip(1) {
        let (key, value) = word.split_once('=').unwrap();
        match key {
            "namespace" => workload.namespace = value.into(),
            "role" => workload.role = value.parse().unwrap(),
            "port" => workload.port = value.parse().unwrap(),
            "root" => workload.root_namespace = value.into(),
            "label" => {
                let (key, value) = value.split_once('=').unwrap();
                workload.labels.insert(key.into(), value.into());
            }
            "service" | "entry" => {
                let (namespace, name) = value.split_once('/').unwrap();
                let name = NamespacedName::new(namespace, name);
                let is_service_entry = key == "entry";
                workload.services.push(ServedService { name, is_service_entry });
            }
            _ => panic!("unknown key `{key}`"),
        }
    }
    workload
}
