use super::*;
use crate::manifest::{documents_as_json, parse_file};

/// Manifests with every field, and with every mistake that a schema can see.
const MANIFESTS: [&str; 6] = [
    include_str!("../../tests/golden/spelling/input.yaml"),
    include_str!("../../tests/golden/attachment/input.yaml"),
    include_str!("../../tests/golden/traffic_extension/input.yaml"),
    include_str!("../../tests/golden/silent_sources/input.yaml"),
    include_str!("../../tests/golden/waypoints/input.yaml"),
    include_str!("../../tests/golden/istio_schema_accepts/input.yaml"),
];

const REFUSED: &str = include_str!("../../tests/golden/istio_schema_refuses/input.yaml");

/// What is wrong with a value by the keywords that the schemas use, rules in CEL aside.
fn violations(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let number = |key: &str| schema.get(key).and_then(Value::as_i64);
    let mut check = |is_fine: bool, keyword: &str| {
        if !is_fine {
            found.push(format!("{path}: {keyword}"));
        }
    };
    let fits = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        Some("null") => value.is_null(),
        _ => false,
    };
    match schema.get("type") {
        Some(Value::Array(names)) => check(names.iter().any(fits), "type"),
        Some(_) if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) => {}
        Some(name) => check(fits(name), "type"),
        None => {}
    }
    check(schema.get("const").is_none_or(|wanted| wanted == value), "const");
    let names = schema.get("enum").and_then(Value::as_array);
    check(names.is_none_or(|names| names.contains(value)), "enum");
    if let Some(text) = value.as_str() {
        let length = i64::try_from(text.chars().count()).unwrap();
        check(number("minLength").is_none_or(|least| length >= least), "minLength");
        check(number("maxLength").is_none_or(|most| length <= most), "maxLength");
        // The only pattern there is.
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let is_digest = text.is_empty() || text.len() == 64 && text.bytes().all(is_hex);
        check(schema.get("pattern").is_none() || is_digest, "pattern");
    }
    if let Some(value) = value.as_i64() {
        check(number("minimum").is_none_or(|least| value >= least), "minimum");
        check(number("maximum").is_none_or(|most| value <= most), "maximum");
    }
    match value {
        Value::Array(items) => items_violations(schema, items, path, found),
        Value::Object(map) => fields_violations(schema, map, path, found),
        _ => {}
    }
}

fn items_violations(schema: &Value, items: &[Value], path: &str, found: &mut Vec<String>) {
    if schema.get("maxItems").and_then(Value::as_u64).is_some_and(|most| items.len() as u64 > most)
    {
        found.push(format!("{path}: maxItems"));
    }
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(|keys| keys[0].as_str());
    let mut seen: Vec<&Value> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let key = keys.and_then(|key| item.get(key));
        if key.is_some_and(|key| seen.contains(&key)) {
            found.push(format!("{path}: duplicate"));
        }
        seen.extend(key);
        violations(&schema["items"], item, &format!("{path}[{index}]"), found);
    }
}

fn fields_violations(
    schema: &Value,
    map: &Map<String, Value>,
    path: &str,
    found: &mut Vec<String>,
) {
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if !map.contains_key(name.as_str().unwrap()) {
            found.push(format!("{path}: required"));
        }
    }
    for (key, value) in map {
        let path = format!("{path}.{key}");
        let any = schema.get("additionalProperties");
        // Metadata is open: Kubernetes has more of it than an author writes.
        let is_open = schema.get("x-kubernetes-preserve-unknown-fields").is_some()
            || path.starts_with(".metadata.");
        match (schema["properties"].get(key), any) {
            (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                violations(schema, value, &path, found);
            }
            (None, _) if is_open || schema.get("properties").is_none() => {}
            (None, _) => found.push(format!("{path}: unknown")),
        }
    }
}

fn check(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    violations(schema, document, "", &mut found);
    found
}

fn kind_of(document: &Value) -> Option<SchemaKind> {
    let kind = document.get("kind").and_then(Value::as_str);
    let of_group = document["apiVersion"] == format!("{GROUP}/{VERSION}");
    SchemaKind::ALL.into_iter().find(|of| of_group && Some(of.as_str()) == kind)
}

/// The schema of `spec` as an API server has it.
fn server_spec(kind: SchemaKind) -> Value {
    let definition = custom_resource_definition(kind);
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
}

#[test]
fn every_field_that_is_read_without_a_word_is_in_the_schema() {
    let mut checked = 0;
    for text in MANIFESTS {
        for document in documents_as_json(text) {
            let Some(kind) = kind_of(&document) else { continue };
            // Only what reading has nothing to say about; other spellings are not for servers.
            let parsed = parse_file("a.yaml", &document.to_string());
            let is_silent = parsed.diagnostics.is_empty() && !document.to_string().contains('_');
            if is_silent {
                assert_eq!(check(&server_spec(kind), &document["spec"]), [""; 0], "{document}");
                assert_eq!(check(&json_schema(kind), &document), [""; 0], "{document}");
                checked += 1;
            }
        }
    }
    assert!(checked > 30, "{checked} documents were compared");
}

#[test]
fn every_field_of_the_schema_is_read() {
    for kind in SchemaKind::ALL {
        let mut spec = example(&server_spec(kind));
        let map = spec.as_object_mut().unwrap();
        // These exclude each other.
        for name in ["selector", "targetRef", "lua"] {
            map.remove(name);
        }
        let document = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": kind.as_str(),
            "metadata": {"name": "a"},
            "spec": spec,
        });
        let parsed = parse_file("a.yaml", &document.to_string());
        let unknown: Vec<_> =
            parsed.diagnostics.iter().filter(|found| found.message.contains("unknown")).collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert!(parsed.resources.len() == 1, "{:?}\n{document}", parsed.diagnostics);
    }
}

/// A value with every field that a schema has.
fn example(schema: &Value) -> Value {
    if let Some(names) = schema.get("enum") {
        return names[0].clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let property = |(name, schema): (&String, &Value)| match name.as_str() {
                "namespace" => (name.clone(), json!("")),
                "kind" => (name.clone(), json!("Service")),
                "group" => (name.clone(), json!("core")),
                "sha256" => (name.clone(), json!("a".repeat(64))),
                _ => (name.clone(), example(schema)),
            };
            Value::Object(properties.into_iter().flatten().map(property).collect())
        }
        Some("array") => json!([example(&schema["items"])]),
        Some("integer") => json!(1),
        _ => json!("text"),
    }
}

#[test]
fn what_istio_s_schema_refuses_is_refused_unless_a_rule_must_do_it() {
    let mut by_rule = 0;
    for document in documents_as_json(REFUSED) {
        let kind = kind_of(&document).unwrap();
        let name = document["metadata"]["name"].as_str().unwrap();
        let found = check(&server_spec(kind), &document["spec"]);
        if name.starts_with("rule-") {
            by_rule += 1;
            assert_eq!(found, [""; 0], "{name}");
        } else {
            assert_ne!(found, [""; 0], "{name}");
            // JSON Schema has no word for keys of a list.
            let is_seen = !check(&json_schema(kind), &document).is_empty();
            assert_eq!(is_seen, !name.starts_with("duplicate-"), "{name}");
        }
    }
    assert!(by_rule > 0);
}

#[test]
fn editors_point_at_unknown_fields_where_servers_drop_them() {
    let document = json!({
        "apiVersion": "extensions.istio.io/v1alpha1",
        "kind": "WasmPlugin",
        "metadata": {"name": "a", "finalizers": []},
        "spec": {"url": "a", "pluginConfig": {"any": {"thing": 1}}, "priority": null, "prio": 1},
    });
    assert_eq!(check(&json_schema(SchemaKind::WasmPlugin), &document), [".spec.prio: unknown"]);
    let text = json_schema(SchemaKind::WasmPlugin).to_string();
    assert!(!text.contains("x-kubernetes") && !text.contains("nullable"), "{text}");
}

#[test]
fn yaml_reads_back_as_what_was_written() {
    for kind in SchemaKind::ALL {
        for value in [custom_resource_definition(kind), json_schema(kind)] {
            assert_eq!(documents_as_json(&to_yaml(&value)), [value]);
        }
    }
    let odd = json!({
        "on": ["yes", "1", "", "a: b", "- c", "# d", "é\n\"", "null", "~", " e "],
        "empty": {"list": [], "map": {}},
        "nested": [[1, [2.5, true]], {"a": [{"b": null}]}],
    });
    assert_eq!(documents_as_json(&to_yaml(&odd)), [odd]);
}
