//! Golden cases: every folder of `tests/golden` holds an `input.yaml`, what is found in it
//! (`diagnostics.txt`) and, if there is a `workloads.txt`, what is planned (`plan.txt`).
//!
//! `BLESS=1 cargo test` writes what is expected; read the difference before it is committed.
//!
//! A line of `workloads.txt` is `NAME key=value…` with the keys `namespace`, `role`, `port`,
//! `root` and `label` (any number of times).

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use wasmplug_api::{
    ParsedFile, Plan, PlannedFilter, Severity, Workload, WorkloadRole, duplicates, parse_file, plan,
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
    duplicate_names,
    lists_and_json,
    mesh_namespace_and_workload_scope,
    own_namespace_before_root,
    phases_and_priorities,
    secrets,
    spelling,
    syntax_error,
    unknown_fields,
    unknown_kinds,
    validation_of_attachment,
    validation_of_metadata,
    validation_of_source,
    validation_of_types,
    validation_of_vm_and_traffic,
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

    let Ok(workloads) = fs::read_to_string(case.join("workloads.txt")) else { return };
    let mut text = String::new();
    for line in workloads.lines() {
        let workload = parse_workload(line);
        let _ = writeln!(text, "{line}");
        describe_plan(&plan(&parsed.resources, &workload), &mut text);
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
        let _ = writeln!(text, "{finding}");
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "    hint: {hint}");
        }
    }
    let errors = parsed.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    let _ = writeln!(text, "{errors} errors of {} findings", parsed.diagnostics.len());
    text
}

fn describe_plan(plan: &Plan, text: &mut String) {
    for (index, filter) in plan.filters.iter().enumerate() {
        let number = index + 1;
        let _ = match filter {
            PlannedFilter::Router => writeln!(text, "  {number}. router"),
            PlannedFilter::Wasm(plugin) => {
                let phase = serde_json::to_value(plugin.phase).unwrap();
                let priority = plugin.priority.map_or("unset".into(), |n| n.to_string());
                let (resource, line) = (&plugin.resource, plugin.position.line);
                writeln!(
                    text,
                    "  {number}. {resource} (line {line}), phase {}, priority {priority}",
                    phase.as_str().unwrap()
                )
            }
        };
    }
    for left_out in &plan.left_out {
        let (resource, line) = (&left_out.resource, left_out.position.line);
        let _ = writeln!(text, "  - {resource} (line {line}): {}", left_out.reason);
    }
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
            _ => panic!("unknown key `{key}`"),
        }
    }
    workload
}
