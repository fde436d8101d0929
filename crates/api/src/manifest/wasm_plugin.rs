//! Decodes a `WasmPlugin` from its document.
//!
//! Source: Istio API, `extensions/v1alpha1/wasm.proto`; Protocol Buffers, "JSON Mapping".

use std::ops::RangeInclusive;

use serde_json::{Map, Number, Value as Json};

use super::attachment;
use super::fields::{Field, Fields, ProtoEnum};
use super::findings::Findings;
use super::kinds::{self, Kind};
use super::node::Value;
use crate::field_path::FieldPath;
use crate::meta::Object;
use crate::selector::{TrafficSelector, WorkloadMode};
use crate::validation::{self, Violations};
use crate::wasm_plugin::{
    API_VERSION, EnvValueSource, EnvVar, FailStrategy, KIND, PluginPhase, PluginType, PullPolicy,
    VmConfig, WasmPluginSpec,
};

/// Numbers that a port can have.
const PORTS: RangeInclusive<i32> = 1..=65535;

/// Reads `spec`; every finding is reported, what cannot be read has its default.
fn spec(mut fields: Fields<'_>, findings: &mut Findings) -> WasmPluginSpec {
    let mut spec = placement(&mut fields, findings);
    spec.target_ref = attachment::target_ref(&mut fields, findings);
    wasm(&mut fields, &mut spec, findings);
    spec.verification_key = fields.non_empty("verificationKey", findings);
    fields.finish(findings);
    spec
}

/// Reads where a plugin applies and when it runs.
pub(super) fn placement(fields: &mut Fields<'_>, findings: &mut Findings) -> WasmPluginSpec {
    let f = findings;
    WasmPluginSpec {
        selector: attachment::selector(fields, f),
        target_refs: attachment::target_refs(fields, f),
        phase: fields.enumeration("phase", f),
        priority: fields.get("priority", f).and_then(|field| field.integer(i32::MIN..=i32::MAX, f)),
        match_: fields.objects("match", f, traffic_selector),
        ..WasmPluginSpec::default()
    }
}

/// Reads what a plugin is.
pub(super) fn wasm(fields: &mut Fields<'_>, spec: &mut WasmPluginSpec, findings: &mut Findings) {
    let f = findings;
    spec.url = fields.text("url", f);
    spec.sha256 = fields.non_empty("sha256", f);
    spec.image_pull_policy = fields.enumeration("imagePullPolicy", f);
    spec.image_pull_secret = fields.string("imagePullSecret", f);
    spec.plugin_config = fields.get("pluginConfig", f).and_then(|field| plugin_config(&field, f));
    spec.plugin_name = fields.string("pluginName", f);
    spec.fail_strategy = fields.enumeration("failStrategy", f);
    spec.vm_config = fields.object("vmConfig", f, vm_config).unwrap_or_default();
    spec.type_ = fields.enumeration("type", f);
}

fn vm_config(mut fields: Fields<'_>, findings: &mut Findings) -> VmConfig {
    let config = VmConfig { env: fields.objects("env", findings, env_var) };
    fields.finish(findings);
    config
}

fn env_var(mut fields: Fields<'_>, findings: &mut Findings) -> EnvVar {
    let name = fields.string("name", findings).unwrap_or_default();
    let value_from = fields.enumeration("valueFrom", findings);
    let value = fields.string("value", findings).unwrap_or_default();
    fields.finish(findings);
    EnvVar { name, value_from, value }
}

fn traffic_selector(mut fields: Fields<'_>, findings: &mut Findings) -> TrafficSelector {
    let mode = fields.enumeration("mode", findings);
    let ports = fields.objects("ports", findings, port_number);
    fields.finish(findings);
    TrafficSelector { mode, ports }
}

/// A number that is missing or out of range is reported and 0.
fn port_number(mut fields: Fields<'_>, findings: &mut Findings) -> u32 {
    let number =
        fields.required("number", findings).and_then(|field| field.integer(PORTS, findings));
    fields.finish(findings);
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

fn plugin_config(field: &Field<'_>, findings: &mut Findings) -> Option<Map<String, Json>> {
    if !matches!(field.node.value, Value::Mapping(_)) {
        field.mismatch("an object", findings);
        return None;
    }
    match json(field, findings) {
        Some(Json::Object(map)) => Some(map),
        _ => None,
    }
}

/// The value as a `google.protobuf.Value`: every number is a 64-bit float.
pub(super) fn json(field: &Field<'_>, findings: &mut Findings) -> Option<Json> {
    let child = |path, node, key_mark| Field { path, node, key_mark };
    let float = |number: f64, findings: &mut Findings| {
        let value = Number::from_f64(number).map(Json::Number);
        if value.is_none() {
            field.error("JSON has no such number".into(), None, findings);
        }
        value
    };
    match &field.node.value {
        Value::Null => Some(Json::Null),
        Value::Bool(value) => Some(Json::Bool(*value)),
        #[expect(clippy::cast_precision_loss, reason = "a `Struct` holds 64-bit floats only")]
        Value::Int(number) => float(*number as f64, findings),
        Value::Float(number) => float(*number, findings),
        Value::String(text) => Some(Json::String(text.clone())),
        Value::Sequence(items) => {
            let mut list = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                list.push(json(&child(field.path.index(index), item, item.mark), findings)?);
            }
            Some(Json::Array(list))
        }
        Value::Mapping(entries) => {
            let mut map = Map::new();
            for entry in entries {
                let path = field.path.key(&entry.key);
                if entry.is_bool_key {
                    let message = format!("the key is read as the boolean `{}`", entry.key);
                    let hint = "put the key in quotes if it is a name".to_owned();
                    findings.warning(entry.key_mark, &path, message, Some(hint));
                }
                let value = json(&child(path, &entry.value, entry.key_mark), findings)?;
                map.insert(entry.key.clone(), value);
            }
            Some(Json::Object(map))
        }
    }
}

// === impl Kind ===

impl Kind for WasmPluginSpec {
    const KIND: &'static str = KIND;
    const API_VERSIONS: &'static [&'static str] = &[API_VERSION];

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        kinds::spec(document, findings, spec)
    }

    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations) {
        validation::wasm_plugin(&object.spec, &root.field("spec"), violations);
        let metadata = root.field("metadata");
        validation::extras(&object.meta, object.spec.type_, &metadata, violations);
    }
}

// === impl ProtoEnum ===

impl ProtoEnum for PullPolicy {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("UNSPECIFIED_POLICY", 0, Self::Unspecified),
        ("IfNotPresent", 1, Self::IfNotPresent),
        ("Always", 2, Self::Always),
    ];
}

impl ProtoEnum for PluginPhase {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("UNSPECIFIED_PHASE", 0, Self::Unspecified),
        ("AUTHN", 1, Self::Authn),
        ("AUTHZ", 2, Self::Authz),
        ("STATS", 3, Self::Stats),
    ];
}

impl ProtoEnum for FailStrategy {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("FAIL_CLOSE", 0, Self::FailClose),
        ("FAIL_OPEN", 1, Self::FailOpen),
        ("FAIL_RELOAD", 2, Self::FailReload),
    ];
}

impl ProtoEnum for PluginType {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("UNSPECIFIED_PLUGIN_TYPE", 0, Self::Unspecified),
        ("HTTP", 1, Self::Http),
        ("NETWORK", 2, Self::Network),
    ];
}

impl ProtoEnum for EnvValueSource {
    const VALUES: &'static [(&'static str, i128, Self)] =
        &[("INLINE", 0, Self::Inline), ("HOST", 1, Self::Host)];
}

impl ProtoEnum for WorkloadMode {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("UNDEFINED", 0, Self::Undefined),
        ("CLIENT", 1, Self::Client),
        ("SERVER", 2, Self::Server),
        ("CLIENT_AND_SERVER", 3, Self::ClientAndServer),
    ];
}
