//! Manifests that nobody writes by accident: nothing may panic or take more than its share.

use std::fmt::Write as _;

use wasmplug_api::{ModuleUrl, ParsedFile, Severity, WorkloadRole, parse_file, plugin_config_json};

use crate::random::Random;

const VALID: &str = include_str!("../golden/spelling/input.yaml");
const INVALID: &str = include_str!("../golden/validation_of_types/input.yaml");
const VALUES: &str = include_str!("../golden/yaml_values/input.yaml");

/// Manifests of the other kinds, which are larger.
const POLICIES: [&str; 8] = [
    include_str!("../golden/virtual_service/input.yaml"),
    include_str!("../golden/traffic_extension/input.yaml"),
    include_str!("../golden/request_authentication/input.yaml"),
    include_str!("../golden/authorization_policy_rules/input.yaml"),
    include_str!("../golden/peer_authentication/input.yaml"),
    include_str!("../golden/telemetry/input.yaml"),
    include_str!("../golden/workload_objects/input.yaml"),
    include_str!("../golden/silent_sources/input.yaml"),
];

fn has_error(parsed: &ParsedFile, part: &str) -> bool {
    parsed.diagnostics.iter().any(|d| d.severity == Severity::Error && d.message.contains(part))
}

#[test]
fn truncated_manifests_are_read_without_panic() {
    for text in [VALID, INVALID, VALUES] {
        for (end, _) in text.char_indices() {
            parse_file("a.yaml", &text[..end]);
        }
    }
}

#[test]
fn mutated_manifests_are_read_without_panic() {
    const ALPHABET: &[char] = &[
        '\n', ' ', '\t', '\r', ':', '-', '#', '"', '\'', '[', ']', '{', '}', ',', '&', '*', '!',
        '|', '>', '%', '@', '`', '?', '~', '<', '=', '0', '9', 'a', 'e', '.', '_', '\\', '/',
        '\u{0}', '\u{7f}', '\u{85}', '\u{feff}', '\u{2028}', 'é', '😀',
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let rounds = [VALID, INVALID, VALUES].map(|text| (text, 500));
    for (text, rounds) in rounds.into_iter().chain(POLICIES.map(|text| (text, 60))) {
        let characters: Vec<char> = text.chars().collect();
        for _ in 0..rounds {
            let mut mutated = characters.clone();
            for _ in 0..=random.below(6) {
                let at = random.below(mutated.len());
                let character = ALPHABET[random.below(ALPHABET.len())];
                match random.below(3) {
                    0 => mutated[at] = character,
                    1 => mutated.insert(at, character),
                    _ => drop(mutated.remove(at)),
                }
            }
            let mutated: String = mutated.into_iter().collect();
            let resources = parse_file("a.yaml", &mutated).resources;
            wasmplug_api::review(&resources, "istio-system");
            let workload = wasmplug_api::Workload::new("ns", WorkloadRole::SidecarInbound);
            wasmplug_api::plan(&resources, &workload);
        }
    }
}

#[test]
fn mutated_urls_are_parsed_without_panic() {
    const ALPHABET: &[u8] = b"abzA0159:/@.-_#?%[]~ \\\x00";
    let mut random = Random(1);
    for _ in 0..20_000 {
        let length = random.below(24);
        let mut text = ["", "oci://", "http://", "file:", "h/"][random.below(5)].to_owned();
        for _ in 0..length {
            text.push(char::from(ALPHABET[random.below(ALPHABET.len())]));
        }
        if let Ok(ModuleUrl::Oci(reference)) = ModuleUrl::parse(&text) {
            let canonical = ModuleUrl::parse(&format!("oci://{reference}"));
            assert_eq!(canonical, Ok(ModuleUrl::Oci(reference)), "{text:?}");
        }
    }
}

#[test]
fn billion_laughs_are_refused() {
    let mut text = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..30 {
        let alias = format!("*a{}", level - 1);
        let _ = writeln!(text, "a{level}: &a{level} [{}]", [alias.as_str(); 9].join(", "));
    }
    let parsed = parse_file("a.yaml", &text);
    assert!(has_error(&parsed, "aliases expand to more than"), "{:?}", parsed.diagnostics);
}

#[test]
fn merged_billion_laughs_are_refused() {
    let mut text = format!("a0: &a0 {{k: {}}}\n", "x".repeat(1000));
    for level in 1..30 {
        let alias = format!("*a{}", level - 1);
        let _ = writeln!(
            text,
            "a{level}: &a{level} {{<<: {alias}, p{level}: {alias}, q{level}: {alias}}}"
        );
    }
    let parsed = parse_file("a.yaml", &text);
    assert!(has_error(&parsed, "aliases expand to more than"), "{:?}", parsed.diagnostics);
}

#[test]
fn deep_nesting_is_refused_in_every_style() {
    let deep = 10_000;
    let block_map = (0..200).map(|n| format!("{}a:\n", " ".repeat(n))).collect::<Vec<_>>().concat();
    for text in
        ["[".repeat(deep), "{a: ".repeat(deep), "- ".repeat(deep), "? ".repeat(deep), block_map]
    {
        let parsed = parse_file("a.yaml", &text);
        assert!(has_error(&parsed, ""), "{text:.20}");
    }
    let chained: String = std::iter::once("a0: &a0 [1]\n".to_owned())
        .chain((1..100).map(|n| format!("a{n}: &a{n} [*a{}]\n", n - 1)))
        .collect();
    assert!(has_error(&parse_file("a.yaml", &chained), "nested more than 64 levels deep"));
}

#[test]
fn moderate_nesting_and_aliases_are_accepted() {
    let config = format!("{}1{}", "[".repeat(50), "]".repeat(50));
    let text = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a}}\n\
         spec: {{url: a, pluginConfig: {{a: &a {config}, b: *a}}}}\n"
    );
    let parsed = parse_file("a.yaml", &text);
    assert_eq!(parsed.diagnostics, []);
    let wasmplug_api::Resource::WasmPlugin(plugin) = &parsed.resources[0] else {
        panic!("not a plugin");
    };
    let json = plugin_config_json(plugin.spec.plugin_config.as_ref().unwrap());
    assert_eq!(json, format!("{{\"a\":{config},\"b\":{config}}}"));
}

#[test]
fn number_of_findings_is_bounded() {
    let fields = (0..5000).map(|n| format!("  x{n}: 1\n")).collect::<Vec<_>>().concat();
    let text = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: a}}\n\
         spec:\n  url: a\n{fields}"
    );
    let parsed = parse_file("a.yaml", &text);
    assert_eq!(parsed.diagnostics.len(), 1001);
    assert_eq!(parsed.diagnostics[1000].message, "4000 further findings are not listed");
}

#[test]
fn number_of_values_and_documents_is_bounded() {
    let parsed = parse_file("a.yaml", &format!("[{}]", "1,".repeat(600_000)));
    assert!(has_error(&parsed, "more than 500000 values"));
    let parsed = parse_file("a.yaml", &"--- {apiVersion: v1, kind: A}\n".repeat(20_000));
    assert!(has_error(&parsed, "more than 10000 documents"));
    assert_eq!(parsed.ignored.len(), 10_000);
}

#[test]
fn oversized_file_is_refused_without_being_read() {
    let parsed = parse_file("a.yaml", &" ".repeat(16 * 1024 * 1024 + 1));
    assert!(has_error(&parsed, "at most 16777216 are read"));
    assert_eq!(parsed.diagnostics.len(), 1);
}

#[test]
fn every_document_of_a_thousand_broken_ones_is_reported() {
    let kinds = [
        ("extensions.istio.io/v1alpha1", "WasmPlugin", "{url: 1}"),
        ("extensions.istio.io/v1alpha1", "TrafficExtension", "{wasm: {}, lua: {}}"),
        ("security.istio.io/v1", "AuthorizationPolicy", "{action: DENY}"),
        ("security.istio.io/v1", "RequestAuthentication", "{jwtRules: [{}]}"),
        ("security.istio.io/v1", "PeerAuthentication", "{portLevelMtls: {}, mtls: {mode: 9}}"),
        ("telemetry.istio.io/v1", "Telemetry", "{metrics: [1]}"),
        ("apps/v1", "Deployment", "{template: []}"),
        ("v1", "Pod", "[]"),
    ];
    let mut text = String::new();
    let documents = || kinds.iter().cycle().take(400);
    for (version, kind, spec) in documents() {
        let metadata = "{name: a, labels: {broken: 1}}";
        let _ = write!(
            text,
            "---\napiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\n"
        );
    }
    let parsed = parse_file("a.yaml", &text);
    assert_eq!(parsed.resources, []);
    for line in (0..400).map(|number| number * 5 + 1) {
        let is_of_document = |found: &&wasmplug_api::Diagnostic| {
            (line..line + 5).contains(&usize::try_from(found.position.line).unwrap())
        };
        let findings: Vec<_> = parsed.diagnostics.iter().filter(is_of_document).collect();
        assert!(findings.len() >= 2, "line {line}: {findings:?}");
    }
}

#[test]
fn reasons_stay_short_however_many_services_a_waypoint_has() {
    use wasmplug_api::{NamespacedName, ServedService, Workload, plan};
    let mut workload = Workload::new("ns", WorkloadRole::Waypoint);
    for number in 0..2000 {
        let name = NamespacedName::new(format!("ns-{number}"), "served");
        workload.services.push(ServedService { name, is_service_entry: false });
    }
    let mut text = String::new();
    for number in 0..2000 {
        let _ = write!(
            text,
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: a, namespace: ns-{number}}}\n\
             spec: {{targetRefs: [{{kind: Service, name: other}}]}}\n"
        );
    }
    let plan = plan(&parse_file("a.yaml", &text).resources, &workload);
    assert_eq!(plan.left_out.len(), 2000);
    assert!(plan.left_out.iter().all(|left_out| left_out.reason.len() < 300));
    assert!(plan.left_out[0].reason.ends_with("and before 1997 more services"), "{plan:?}");
}

#[test]
fn resources_that_refer_to_each_other_or_to_nothing_are_reviewed_in_bounded_work() {
    let mut text = String::new();
    for number in 0..2000 {
        let next = (number + 1) % 2000;
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\n\
             spec: {{selector: {{app: s{next}}}}}\n---\napiVersion: v1\nkind: Pod\n\
             metadata: {{name: p{number}, labels: {{app: same, num: n{number}}}}}\n---\n\
             apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\n\
             metadata: {{name: a{number}}}\nspec:\n  url: u\n  selector: {{matchLabels: \
             {{app: same, num: n{next}, other: label}}}}\n"
        );
    }
    let parsed = parse_file("a.yaml", &text);
    assert_eq!(parsed.diagnostics, []);
    let findings = wasmplug_api::review(&parsed.resources, "istio-system");
    let is_about_nothing = |found: &&wasmplug_api::Diagnostic| found.path == "spec.selector";
    assert_eq!(findings.iter().filter(is_about_nothing).count(), 2000);
}
