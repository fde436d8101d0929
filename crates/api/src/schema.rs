//! Schemas of the resources, for API servers and for editors.
//!
//! Names of enumerations and all bounds are those that reading and validation use; tests hold the
//! schemas against every golden manifest.

mod spec;
#[cfg(test)]
mod tests;
mod yaml;

use serde_json::{Map, Value, json};

pub use self::yaml::to_yaml;

/// A kind with a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaKind {
    /// `WasmPlugin`.
    WasmPlugin,
    /// `TrafficExtension`.
    TrafficExtension,
}

const GROUP: &str = "extensions.istio.io";
const VERSION: &str = "v1alpha1";
/// Keywords that only an API server knows.
const SERVER_PREFIX: &str = "x-kubernetes-";

// === impl SchemaKind ===

impl SchemaKind {
    /// Every kind that has one.
    pub const ALL: [Self; 2] = [Self::WasmPlugin, Self::TrafficExtension];

    /// The name that authors write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WasmPlugin => "WasmPlugin",
            Self::TrafficExtension => "TrafficExtension",
        }
    }

    /// Name of the resource in URLs and in the definition's name.
    pub fn plural(self) -> String {
        format!("{}s", self.singular())
    }

    fn singular(self) -> String {
        self.as_str().to_lowercase()
    }

    fn spec(self) -> Value {
        match self {
            Self::WasmPlugin => spec::wasm_plugin(),
            Self::TrafficExtension => spec::traffic_extension(),
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::WasmPlugin => "Runs a Proxy-Wasm plugin in the filter chain of workloads.",
            Self::TrafficExtension => {
                "Runs a Proxy-Wasm plugin or a Lua script in the filter chain of workloads."
            }
        }
    }
}

/// The definition of the resource for a Kubernetes API server: schema, rules in CEL, status.
///
/// Source: Kubernetes, `apiextensions.k8s.io/v1`; Istio API, `extensions/v1alpha1`.
pub fn custom_resource_definition(kind: SchemaKind) -> Value {
    let age = json!({
        "name": "Age",
        "description": "When the object was created.",
        "jsonPath": ".metadata.creationTimestamp",
        "type": "date",
    });
    let schema = json!({
        "type": "object",
        "description": kind.description(),
        "required": ["spec"],
        "properties": {
            "spec": kind.spec(),
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", kind.plural())},
        "spec": {
            "group": GROUP,
            "names": {
                "categories": ["istio-io", "extensions-istio-io"],
                "kind": kind.as_str(),
                "listKind": format!("{}List", kind.as_str()),
                "plural": kind.plural(),
                "singular": kind.singular(),
            },
            "scope": "Namespaced",
            "versions": [{
                "name": VERSION,
                "served": true,
                "storage": true,
                "additionalPrinterColumns": [age],
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema},
            }],
        },
    })
}

/// The schema of a whole document for editors, which points out unknown fields as well.
///
/// Source: JSON Schema, draft 7, which is what editors of YAML know.
pub fn json_schema(kind: SchemaKind) -> Value {
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": kind.as_str(),
        "description": kind.description(),
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "properties": {
            "apiVersion": {"const": format!("{GROUP}/{VERSION}")},
            "kind": {"const": kind.as_str()},
            "metadata": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "minLength": 1, "maxLength": 253},
                    "namespace": {"type": "string", "maxLength": 63},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
            "spec": for_editors(kind.spec()),
            "status": {"type": "object"},
        },
        "additionalProperties": false,
    })
}

/// Says in JSON Schema what an API server's dialect says.
fn for_editors(schema: Value) -> Value {
    let Value::Object(map) = schema else { return schema };
    let is_open = map.contains_key("x-kubernetes-preserve-unknown-fields")
        || map.contains_key("additionalProperties");
    let is_object = map.get("type") == Some(&Value::from("object"));
    let is_nullable = map.get("nullable") == Some(&Value::Bool(true));
    let mut out = Map::new();
    for (key, value) in map {
        let value = match key.as_str() {
            key if key.starts_with(SERVER_PREFIX) || key == "nullable" => continue,
            "properties" => properties_for_editors(value),
            "items" | "additionalProperties" => for_editors(value),
            "type" if is_nullable => json!([value, "null"]),
            _ => value,
        };
        out.insert(key, value);
    }
    if is_object && !is_open {
        out.insert("additionalProperties".into(), Value::Bool(false));
    }
    Value::Object(out)
}

fn properties_for_editors(properties: Value) -> Value {
    match properties {
        Value::Object(map) => {
            map.into_iter().map(|(name, schema)| (name, for_editors(schema))).collect()
        }
        other => other,
    }
}
