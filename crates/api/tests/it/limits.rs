//! Bounds of manifests and of their fields: what is at them is taken, and what is beyond is told.

use std::fmt::Write as _;

use wasmplug_api::{
    NamespacedName, ParsedFile, ServedService, Workload, WorkloadRole, parse_file, plan, review,
};

fn tells(parsed: &ParsedFile, part: &str) -> bool {
    parsed.diagnostics.iter().any(|found| found.message.contains(part))
}

#[test]
fn a_file_at_the_bound_is_read_and_a_larger_one_is_not() {
    let file = |bytes: usize| parse_file("a.yaml", &format!("#{}", "x".repeat(bytes - 1)));
    let bound = 16 * 1024 * 1024;
    assert_eq!(file(bound).diagnostics, []);
    assert!(tells(&file(bound + 1), "at most 16777216 are read"));
}

#[test]
fn as_many_documents_as_the_bound_are_read_and_no_more() {
    for (given, is_beyond) in [(10_000, false), (10_001, true)] {
        let parsed = parse_file("a.yaml", &"--- {apiVersion: v1, kind: A}\n".repeat(given));
        assert_eq!(parsed.ignored.len(), 10_000);
        assert_eq!(tells(&parsed, "more than 10000 documents"), is_beyond, "{given}");
    }
}

#[test]
fn as_many_values_as_the_bound_are_read_and_no_more() {
    // The list is a value as well.
    for (given, is_beyond) in [(499_999, false), (500_000, true)] {
        let parsed = parse_file("a.yaml", &format!("[{}]", "1,".repeat(given)));
        assert_eq!(tells(&parsed, "more than 500000 values"), is_beyond, "{given}");
    }
}

#[test]
fn values_are_nested_as_deep_as_the_bound_and_no_deeper() {
    for (depth, is_beyond) in [(64, false), (65, true)] {
        let parsed = parse_file("a.yaml", &format!("{}{}", "[".repeat(depth), "]".repeat(depth)));
        assert_eq!(tells(&parsed, "nested more than 64 levels deep"), is_beyond, "{depth}");
    }
}

#[test]
fn as_many_findings_as_the_bound_are_listed_and_the_rest_is_counted() {
    for (given, listed) in [(1000, 1000), (1001, 1001)] {
        let fields = (0..given).map(|n| format!("  x{n}: 1\n")).collect::<Vec<_>>().concat();
        let head =
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: a}";
        let parsed = parse_file("a.yaml", &format!("{head}\nspec:\n  url: a\n{fields}"));
        assert_eq!(parsed.diagnostics.len(), listed);
        assert_eq!(tells(&parsed, "1 further findings are not listed"), given > 1000, "{given}");
    }
}

#[test]
fn a_reason_names_three_services_and_counts_the_rest() {
    for (given, rest) in [(3, None), (4, Some("and before 1 more services"))] {
        let mut workload = Workload::new("ns", WorkloadRole::Waypoint);
        for number in 0..given {
            let name = NamespacedName::new("ns", format!("served-{number}"));
            workload.services.push(ServedService { name, is_service_entry: false });
        }
        let policy = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                      metadata: {name: a, namespace: ns}\n\
                      spec: {targetRefs: [{kind: Service, name: other}]}\n";
        let plan = plan(&parse_file("a.yaml", policy).resources, &workload);
        let reason = &plan.left_out[0].reason;
        assert!(reason.contains("`Service/served-2`"), "{reason}");
        assert_eq!(reason.contains("more services"), rest.is_some(), "{reason}");
        assert!(rest.is_none_or(|rest| reason.ends_with(rest)), "{reason}");
    }
}

/// A plugin with this name and this selector.
fn plugin(name: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: {name}}}\n\
         spec: {{url: u, selector: {{matchLabels: {{{labels}}}}}}}\n"
    )
}

fn reviewed(text: &str, part: &str) -> bool {
    let parsed = parse_file("a.yaml", text);
    assert_eq!(parsed.diagnostics, []);
    review(&parsed.resources, "istio-system").iter().any(|found| found.message.contains(part))
}

#[test]
fn a_selected_workload_is_looked_for_among_a_thousand() {
    for (each, is_looked_for) in [(1000, true), (1001, false)] {
        let mut text = plugin("a", "one: label, other: label");
        for number in 0..each {
            for label in ["one", "other"] {
                let _ = write!(
                    text,
                    "---\napiVersion: v1\nkind: Pod\n\
                     metadata: {{name: {label}-{number}, labels: {{{label}: label}}}}\n"
                );
            }
        }
        assert_eq!(reviewed(&text, "selects none of the workloads"), is_looked_for, "{each}");
    }
}

#[test]
fn a_plugin_is_compared_with_sixteen_before_it() {
    for (between, is_found) in [(15, true), (16, false)] {
        let mut text = plugin("a", "app: same");
        for number in 0..between {
            text.push_str(&plugin(&format!("m{number:02}"), &format!("app: other{number}")));
        }
        text.push_str(&plugin("z", "app: same"));
        assert_eq!(reviewed(&text, "of the same phase and priority"), is_found, "{between}");
    }
}

/// A field whose size is bounded.
struct Field {
    /// Where an error about its size is.
    path: &'static str,
    bound: usize,
    kind: Kind,
    /// `spec`, with the field in this size.
    spec: fn(usize) -> String,
}

#[derive(Clone, Copy)]
enum Kind {
    Plugin,
    Traffic,
    Authorization,
    Authentication,
}

fn text(length: usize) -> String {
    "a".repeat(length)
}

/// So many items, each with its number.
fn items(count: usize, item: impl Fn(usize) -> String) -> String {
    (0..count).map(item).collect::<Vec<_>>().join(", ")
}

fn target(name: &str, more: &str) -> String {
    format!("{{url: u, targetRefs: [{{name: {name}, {more}}}]}}")
}

const FIELDS: [Field; 17] = [
    Field {
        path: "spec.selector.matchLabels",
        bound: 4096,
        kind: Kind::Plugin,
        spec: |n| {
            let labels = items(n, |number| format!("l{number}: v"));
            format!("{{url: u, selector: {{matchLabels: {{{labels}}}}}}}")
        },
    },
    Field {
        path: "spec.selector.matchLabels[a]",
        bound: 63,
        kind: Kind::Plugin,
        spec: |n| format!("{{url: u, selector: {{matchLabels: {{a: {}}}}}}}", text(n)),
    },
    Field {
        path: "spec.targetRefs",
        bound: 16,
        kind: Kind::Plugin,
        spec: |n| {
            let targets = items(n, |number| format!("{{kind: Service, name: s{number}}}"));
            format!("{{url: u, targetRefs: [{targets}]}}")
        },
    },
    Field {
        path: "spec.targetRefs[0].name",
        bound: 253,
        kind: Kind::Plugin,
        spec: |n| target(&text(n), "kind: Service"),
    },
    Field {
        path: "spec.targetRefs[0].group",
        bound: 253,
        kind: Kind::Plugin,
        spec: |n| target("a", &format!("kind: Service, group: {}", text(n))),
    },
    Field {
        path: "spec.targetRefs[0].kind",
        bound: 63,
        kind: Kind::Plugin,
        spec: |n| target("a", &format!("kind: {}", text(n))),
    },
    Field {
        path: "spec.imagePullSecret",
        bound: 253,
        kind: Kind::Plugin,
        spec: |n| format!("{{url: u, imagePullSecret: {}}}", text(n)),
    },
    Field {
        path: "spec.pluginName",
        bound: 256,
        kind: Kind::Plugin,
        spec: |n| format!("{{url: u, pluginName: {}}}", text(n)),
    },
    Field {
        path: "spec.vmConfig.env",
        bound: 256,
        kind: Kind::Plugin,
        spec: |n| {
            let variables = items(n, |number| format!("{{name: v{number}, value: v}}"));
            format!("{{url: u, vmConfig: {{env: [{variables}]}}}}")
        },
    },
    Field {
        path: "spec.vmConfig.env[0].name",
        bound: 256,
        kind: Kind::Plugin,
        spec: |n| format!("{{url: u, vmConfig: {{env: [{{name: {}, value: v}}]}}}}", text(n)),
    },
    Field {
        path: "spec.vmConfig.env[0].value",
        bound: 2048,
        kind: Kind::Plugin,
        spec: |n| format!("{{url: u, vmConfig: {{env: [{{name: v, value: {}}}]}}}}", text(n)),
    },
    Field {
        path: "spec.match[0].ports[0].number",
        bound: 65_535,
        kind: Kind::Plugin,
        spec: |n| format!("{{url: u, match: [{{ports: [{{number: {n}}}]}}]}}"),
    },
    Field {
        path: "spec.lua.inlineCode",
        bound: 65_536,
        kind: Kind::Traffic,
        spec: |n| format!("{{lua: {{inlineCode: {}}}}}", text(n)),
    },
    Field {
        path: "spec.jwtRules",
        bound: 4096,
        kind: Kind::Authentication,
        spec: |n| {
            format!("{{jwtRules: [{}]}}", items(n, |number| format!("{{issuer: i{number}}}")))
        },
    },
    Field {
        path: "spec.jwtRules[0].spaceDelimitedClaims",
        bound: 64,
        kind: Kind::Authentication,
        spec: |n| {
            let claims = items(n, |number| format!("c{number}"));
            format!("{{jwtRules: [{{issuer: i, spaceDelimitedClaims: [{claims}]}}]}}")
        },
    },
    Field {
        path: "spec.rules[0].from[0].source.serviceAccounts",
        bound: 16,
        kind: Kind::Authorization,
        spec: |n| {
            let accounts = items(n, |number| format!("a{number}"));
            format!("{{rules: [{{from: [{{source: {{serviceAccounts: [{accounts}]}}}}]}}]}}")
        },
    },
    Field {
        path: "spec.rules[0].from[0].source.serviceAccounts[0]",
        bound: 320,
        kind: Kind::Authorization,
        spec: |n| {
            format!("{{rules: [{{from: [{{source: {{serviceAccounts: [{}]}}}}]}}]}}", text(n))
        },
    },
];

/// Whether a resource has a finding at this path.
fn finds(kind: Kind, metadata: &str, spec: &str, path: &str) -> bool {
    let (version, kind) = match kind {
        Kind::Plugin => ("extensions.istio.io/v1alpha1", "WasmPlugin"),
        Kind::Traffic => ("extensions.istio.io/v1alpha1", "TrafficExtension"),
        Kind::Authorization => ("security.istio.io/v1", "AuthorizationPolicy"),
        Kind::Authentication => ("security.istio.io/v1", "RequestAuthentication"),
    };
    let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n");
    let parsed = parse_file("a.yaml", &text);
    let is_unreadable = |found: &wasmplug_api::Diagnostic| found.message.contains("YAML");
    assert!(!parsed.diagnostics.iter().any(is_unreadable), "{:?}", parsed.diagnostics);
    parsed.diagnostics.iter().any(|found| found.path == path)
}

#[test]
fn fields_at_their_bounds_are_accepted_and_those_beyond_them_refused() {
    for Field { path, bound, kind, spec } in FIELDS {
        assert!(!finds(kind, "{name: a}", &spec(bound), path), "{path}");
        assert!(finds(kind, "{name: a}", &spec(bound + 1), path), "{path}");
    }
    let port = |number| format!("{{url: u, match: [{{ports: [{{number: {number}}}]}}]}}");
    for (number, is_refused) in [(0, true), (1, false)] {
        let path = "spec.match[0].ports[0].number";
        assert_eq!(finds(Kind::Plugin, "{name: a}", &port(number), path), is_refused, "{number}");
    }
}

#[test]
fn names_at_their_bounds_are_accepted_and_longer_ones_refused() {
    for (path, bound) in [("metadata.name", 253), ("metadata.namespace", 63)] {
        for (length, is_refused) in [(bound, false), (bound + 1, true)] {
            let metadata = match path {
                "metadata.name" => format!("{{name: {}}}", text(length)),
                _ => format!("{{name: a, namespace: {}}}", text(length)),
            };
            assert_eq!(finds(Kind::Plugin, &metadata, "{url: u}", path), is_refused, "{path}");
        }
    }
}
