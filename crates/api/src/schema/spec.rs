//! The schemas of `spec`, in the dialect of API servers.

use serde_json::{Value, json};

use crate::manifest::ProtoEnum;
use crate::selector::WorkloadMode;
use crate::validation::attachment::{
    MAX_LABEL_VALUE_LEN, MAX_LABELS, MAX_NAME_LEN, MAX_TARGET_KIND_LEN, MAX_TARGET_REFS,
};
use crate::validation::traffic_extension::MAX_LUA_BYTES;
use crate::validation::wasm_plugin::{
    MAX_ENV_NAME_LEN, MAX_ENV_VALUE_LEN, MAX_ENV_VARS, MAX_PLUGIN_NAME_LEN, MAX_PORT,
    MAX_SECRET_NAME_LEN,
};
use crate::wasm_plugin::{EnvValueSource, FailStrategy, PluginPhase, PluginType, PullPolicy};

/// `WasmPlugin`.
pub(super) fn wasm_plugin() -> Value {
    let mut properties = placement();
    properties.extend(wasm());
    properties.push((
        "targetRef",
        with_description(target_reference(), "Deprecated: the only element of `targetRefs`."),
    ));
    properties.push((
        "verificationKey",
        json!({"type": "string", "description": "Public key that signatures are checked with."}),
    ));
    let one_attachment = "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + \
                          (has(self.targetRefs) ? 1 : 0) <= 1";
    let mut schema = object(properties, &["url"]);
    schema["x-kubernetes-validations"] =
        rules(&[(one_attachment, "only one of targetRefs or selector can be set")]);
    schema
}

/// `TrafficExtension`.
pub(super) fn traffic_extension() -> Value {
    let mut properties = placement();
    let wasm = object(wasm(), &["url"]);
    properties.push(("wasm", with_description(wasm, "A Proxy-Wasm plugin.")));
    let code = json!({
        "type": "string",
        "description": "The script.",
        "minLength": 1,
        "maxLength": MAX_LUA_BYTES,
    });
    let lua = object(vec![("inlineCode", code)], &["inlineCode"]);
    properties.push(("lua", with_description(lua, "A Lua script.")));
    let mut schema = object(properties, &[]);
    schema["x-kubernetes-validations"] = rules(&[
        (
            "(has(self.selector) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
            "only one of targetRefs or selector can be set",
        ),
        ("has(self.wasm) != has(self.lua)", "exactly one of wasm or lua must be set"),
    ]);
    schema
}

/// Where a plugin applies and when it runs.
fn placement() -> Vec<(&'static str, Value)> {
    let ports = json!({
        "type": "array",
        "description": "Ports; none means every port.",
        "items": object(vec![("number", port())], &["number"]),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["number"],
    });
    let mode = enumeration::<WorkloadMode>("Direction of the traffic as the workload sees it.");
    let traffic = object(vec![("mode", mode), ("ports", ports)], &[]);
    let priority = json!({
        "type": "integer",
        "format": "int32",
        "minimum": i32::MIN,
        "maximum": i32::MAX,
        "nullable": true,
        "description": "Within a phase, higher runs earlier; unset runs last.",
    });
    let phase = "Where in the filter chain the plugin runs.";
    vec![
        ("selector", workload_selector()),
        ("targetRefs", target_references()),
        ("phase", enumeration::<PluginPhase>(phase)),
        ("priority", priority),
        (
            "match",
            json!({
                "type": "array",
                "description": "Traffic that the plugin is for: any of these; none means all.",
                "items": traffic,
            }),
        ),
    ]
}

/// What a plugin is.
fn wasm() -> Vec<(&'static str, Value)> {
    let url = json!({
        "type": "string",
        "minLength": 1,
        "description": "Where the module is: oci (also without a scheme), https, http or file.",
        "x-kubernetes-validations": rules(&[(
            "isURL(self) ? (url(self).getScheme() in ['', 'http', 'https', 'oci', 'file']) : \
             (isURL('http://' + self) && \
             url('http://' + self).getScheme() in ['', 'http', 'https', 'oci', 'file'])",
            "url must have schema one of [http, https, file, oci]",
        )]),
    });
    let sha256 = json!({
        "type": "string",
        "pattern": "(^$|^[a-f0-9]{64}$)",
        "description": "SHA-256 of the module, or of the image's manifest or index.",
    });
    let plugin_config = json!({
        "type": "object",
        "description": "Configuration, which the plugin gets as JSON.",
        "x-kubernetes-preserve-unknown-fields": true,
    });
    let env = json!({
        "type": "array",
        "description": "Environment variables.",
        "maxItems": MAX_ENV_VARS,
        "items": env_var(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    });
    let vm_config = object(vec![("env", env)], &[]);
    let secret = "Name of the Secret with the registry's credentials, in the same namespace.";
    vec![
        ("url", url),
        ("sha256", sha256),
        ("imagePullPolicy", enumeration::<PullPolicy>("When the module is fetched again.")),
        ("imagePullSecret", text(1, MAX_SECRET_NAME_LEN, secret)),
        ("pluginConfig", plugin_config),
        ("pluginName", text(1, MAX_PLUGIN_NAME_LEN, "Root id, for a module with several plugins.")),
        ("failStrategy", enumeration::<FailStrategy>("What traffic meets if it cannot run.")),
        ("vmConfig", with_description(vm_config, "The virtual machine.")),
        ("type", enumeration::<PluginType>("The kind of filter chain that it is for.")),
    ]
}

fn env_var() -> Value {
    let properties = vec![
        ("name", text(1, MAX_ENV_NAME_LEN, "Name of the variable.")),
        ("valueFrom", enumeration::<EnvValueSource>("Where the value comes from.")),
        ("value", text(0, MAX_ENV_VALUE_LEN, "The value, if it is inline.")),
    ];
    let mut schema = object(properties, &["name"]);
    schema["x-kubernetes-validations"] = rules(&[(
        "(has(self.valueFrom) ? self.valueFrom : '') != 'HOST' || !has(self.value)",
        "value may only be set when valueFrom is INLINE",
    )]);
    schema
}

fn workload_selector() -> Value {
    let value = json!({
        "type": "string",
        "maxLength": MAX_LABEL_VALUE_LEN,
        "x-kubernetes-validations":
            rules(&[("!self.contains('*')", "wildcard not allowed in label value match")]),
    });
    let labels = json!({
        "type": "object",
        "description": "Labels that a workload must have; none means every workload.",
        "maxProperties": MAX_LABELS,
        "additionalProperties": value,
        "x-kubernetes-validations": rules(&[
            ("self.all(key, !key.contains('*'))", "wildcard not allowed in label key match"),
            ("self.all(key, key.size() != 0)", "key must not be empty"),
        ]),
    });
    let description = "Workloads that it is for; all of the namespace if there is none.";
    with_description(object(vec![("matchLabels", labels)], &[]), description)
}

fn target_references() -> Value {
    json!({
        "type": "array",
        "description": "Objects that it is for: gateways, or services behind a waypoint.",
        "maxItems": MAX_TARGET_REFS,
        "items": target_reference(),
    })
}

fn target_reference() -> Value {
    let mut namespace = json!({
        "type": "string",
        "description": "Must stay empty: a target is in the namespace of the resource.",
        "maxLength": 0,
    });
    namespace["x-kubernetes-validations"] =
        rules(&[("self.size() == 0", "cross namespace referencing is not currently supported")]);
    let properties = vec![
        ("group", text(0, MAX_NAME_LEN, "API group; empty for the core group.")),
        ("kind", text(1, MAX_TARGET_KIND_LEN, "Kind of the target.")),
        ("name", text(1, MAX_NAME_LEN, "Name of the target.")),
        ("namespace", namespace),
    ];
    object(properties, &["kind", "name"])
}

fn port() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": MAX_PORT, "description": "Its number."})
}

fn text(min: usize, max: usize, description: &str) -> Value {
    let mut schema = json!({"type": "string", "maxLength": max, "description": description});
    if min > 0 {
        schema["minLength"] = min.into();
    }
    schema
}

fn enumeration<E: ProtoEnum>(description: &str) -> Value {
    let names: Vec<&str> = E::VALUES.iter().map(|(name, ..)| *name).collect();
    json!({"type": "string", "enum": names, "description": description})
}

fn object(mut properties: Vec<(&'static str, Value)>, required: &[&str]) -> Value {
    properties.sort_by_key(|(name, _)| *name);
    let properties: serde_json::Map<String, Value> =
        properties.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn rules(rules: &[(&str, &str)]) -> Value {
    let rule = |(rule, message): &(&str, &str)| json!({"rule": rule, "message": message});
    rules.iter().map(rule).collect()
}

fn with_description(mut schema: Value, description: &str) -> Value {
    schema["description"] = description.into();
    schema
}
