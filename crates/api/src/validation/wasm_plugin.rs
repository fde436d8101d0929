//! The rules of `WasmPlugin`.
//!
//! Source: Istio API, `extensions/v1alpha1/wasm.proto` (schema of the custom resource) and the
//! validating webhook; Kubernetes, `ObjectMeta` names.

use std::collections::BTreeSet;

use super::{Violation, Violations};
use crate::diagnostic::{quoted, with_causes};
use crate::digest::Digest;
use crate::field_path::FieldPath;
use crate::meta::ObjectMeta;
use crate::module_url::{ModuleUrl, ModuleUrlError};
use crate::selector::{
    GATEWAY_API_GROUP, PolicyTargetReference, TrafficSelector, WorkloadSelector,
};
use crate::wasm_plugin::{EnvValueSource, EnvVar, WasmPlugin, WasmPluginSpec};

const MAX_NAME_LEN: usize = 253;
const MAX_NAMESPACE_LEN: usize = 63;
const MAX_LABELS: usize = 4096;
const MAX_LABEL_VALUE_LEN: usize = 63;
const MAX_TARGET_REFS: usize = 16;
const MAX_TARGET_KIND_LEN: usize = 63;
const MAX_SECRET_NAME_LEN: usize = 253;
const MAX_PLUGIN_NAME_LEN: usize = 256;
const MAX_ENV_VARS: usize = 256;
const MAX_ENV_NAME_LEN: usize = 256;
const MAX_ENV_VALUE_LEN: usize = 2048;
const MAX_PORT: u32 = 65535;

/// Annotation that only `AuthorizationPolicy` supports.
const DRY_RUN_ANNOTATION: &str = "istio.io/dry-run";

/// Groups and kinds that a `WasmPlugin` can be attached to.
const TARGETS: [(&str, &str); 4] = [
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    (GATEWAY_API_GROUP, "Gateway"),
    (GATEWAY_API_GROUP, "GatewayClass"),
];

/// Finds everything that is wrong with a resource; `root` is the path of its document.
///
/// Of a list that is too long only the elements that may exist are looked at.
pub fn validate_wasm_plugin(plugin: &WasmPlugin, root: &FieldPath) -> Vec<Violation> {
    let mut violations = Violations::default();
    let v = &mut violations;
    let (path, spec) = (root.field("spec"), &plugin.spec);
    metadata(&plugin.meta, &root.field("metadata"), v);
    attachment(spec, &path, v);
    source(spec, &path, v);
    if let Some(name) = &spec.plugin_name {
        v.length_from_one(&path.field("pluginName"), name, MAX_PLUGIN_NAME_LEN);
    }
    environment(&spec.vm_config.env, &path.field("vmConfig").field("env"), v);
    for (index, selector) in spec.match_.iter().enumerate() {
        traffic_selector(selector, &path.field("match").index(index), v);
    }
    violations.found
}

fn metadata(meta: &ObjectMeta, path: &FieldPath, v: &mut Violations) {
    let name = path.field("name");
    if meta.name.is_empty() {
        v.error(name, "is required");
    } else if meta.name.len() > MAX_NAME_LEN || !meta.name.split('.').all(is_dns_label) {
        let message = "must consist of lower-case letters, digits, `-` and `.`, \
                       and begin and end with a letter or digit";
        v.error(name, message);
    }
    if meta.namespace.len() > MAX_NAMESPACE_LEN || !is_dns_label(&meta.namespace) {
        let message = "must consist of at most 63 lower-case letters, digits and `-`, \
                       and begin and end with a letter or digit";
        v.error(path.field("namespace"), message);
    }
    if meta.annotations.contains_key(DRY_RUN_ANNOTATION) {
        let path = path.field("annotations").key(DRY_RUN_ANNOTATION);
        v.error(path, "only an AuthorizationPolicy can be tried out by this annotation");
    }
}

/// Source: RFC 1123, as Kubernetes applies it to names.
fn is_dns_label(text: &str) -> bool {
    let is_edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    is_edge(text.bytes().next())
        && is_edge(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn attachment(spec: &WasmPluginSpec, path: &FieldPath, v: &mut Violations) {
    let refs_path = path.field("targetRefs");
    if let Some(selector) = &spec.selector {
        let selector_path = path.field("selector");
        if !spec.effective_target_refs().is_empty() {
            v.error(selector_path.clone(), "only one of `selector` and `targetRefs` can be set");
        }
        workload_selector(selector, &selector_path, v);
    }
    if let Some(target) = &spec.target_ref {
        let path = path.field("targetRef");
        if !spec.target_refs.is_empty() {
            v.error(path.clone(), "only one of `targetRef` and `targetRefs` can be set");
        }
        target_reference(target, &path, v);
    }
    v.count(&refs_path, spec.target_refs.len(), MAX_TARGET_REFS);
    for (index, target) in spec.target_refs.iter().take(MAX_TARGET_REFS).enumerate() {
        target_reference(target, &refs_path.index(index), v);
    }
}

fn workload_selector(selector: &WorkloadSelector, path: &FieldPath, v: &mut Violations) {
    if selector.match_labels.is_empty() {
        let hint = "remove it if the plugin is meant for every workload";
        v.warning(path.clone(), "a selector without labels selects every workload", hint);
    }
    let path = path.field("matchLabels");
    v.count(&path, selector.match_labels.len(), MAX_LABELS);
    for (key, value) in selector.match_labels.iter().take(MAX_LABELS) {
        let path = path.key(key);
        if key.is_empty() {
            v.error(path.clone(), "the label key must not be empty");
        }
        if key.contains('*') {
            v.error(path.clone(), "a label key cannot contain the wildcard `*`");
        }
        if value.contains('*') {
            v.error(path.clone(), "a label value cannot contain the wildcard `*`");
        }
        v.length(&path, value, MAX_LABEL_VALUE_LEN);
    }
}

fn target_reference(target: &PolicyTargetReference, path: &FieldPath, v: &mut Violations) {
    v.length_from_one(&path.field("name"), &target.name, MAX_NAME_LEN);
    if !target.namespace.is_empty() {
        let hint = "put the plugin into the namespace of its target".to_owned();
        let message = "must not be set, a target is in the namespace of the plugin";
        v.error_with_hint(path.field("namespace"), message, Some(hint));
    }
    v.length_from_one(&path.field("kind"), &target.kind, MAX_TARGET_KIND_LEN);
    v.length(&path.field("group"), &target.group, MAX_NAME_LEN);
    let is_allowed = TARGETS.iter().any(|(group, kind)| target.is_kind(group, kind));
    if !is_allowed && !target.kind.is_empty() {
        let group = if target.group.is_empty() { "core" } else { &target.group };
        let actual = quoted(&format!("{group}/{}", target.kind));
        let list: Vec<_> =
            TARGETS.iter().map(|(group, kind)| format!("`{group}/{kind}`")).collect();
        let message = format!("must be one of {}, not `{actual}`", list.join(", "));
        let group = TARGETS.iter().find(|(_, kind)| *kind == target.kind).map(|(group, _)| group);
        let hint = group.map(|group| format!("write `group: {group}`"));
        v.error_with_hint(path.clone(), message, hint);
    }
}

/// Where the module comes from and how it is checked.
fn source(spec: &WasmPluginSpec, path: &FieldPath, v: &mut Violations) {
    let url_path = path.field("url");
    let url = match ModuleUrl::parse(&spec.url) {
        Err(error @ ModuleUrlError::Empty) => {
            v.error_with_hint(url_path.clone(), "is required", error.hint());
            None
        }
        Err(error) => {
            v.error_with_hint(url_path.clone(), with_causes(&error), error.hint());
            None
        }
        Ok(url) => Some(url),
    };
    if let Some(sha256) = &spec.sha256 {
        let error = match sha256.parse::<Digest>() {
            Err(error) => Some((error.to_string(), error.hint())),
            Ok(_) if sha256.contains(':') => {
                let hint = "remove `sha256:`".to_owned();
                Some(("must be the digits alone".to_owned(), Some(hint)))
            }
            Ok(_) => None,
        };
        if let Some((message, hint)) = error {
            v.error_with_hint(path.field("sha256"), message, hint);
        }
    }
    if let Some(secret) = &spec.image_pull_secret {
        let path = path.field("imagePullSecret");
        v.length_from_one(&path, secret, MAX_SECRET_NAME_LEN);
        if matches!(url, Some(ModuleUrl::File(_) | ModuleUrl::Http(_))) {
            v.warning(path, "is not used", "only images are pulled with a secret");
        }
    }
    if matches!(url, Some(ModuleUrl::Oci(_))) && spec.url.contains("//") {
        let authority = spec.url.split('/').nth(2).unwrap_or_default();
        if authority.contains('@') && spec.url.split('/').nth(3).is_some() {
            let hint = "use `imagePullSecret`";
            v.warning(url_path, "user name and password of an image URL are not used", hint);
        }
    }
}

fn environment(env: &[EnvVar], path: &FieldPath, v: &mut Violations) {
    v.count(path, env.len(), MAX_ENV_VARS);
    let mut names = BTreeSet::new();
    for (index, variable) in env.iter().take(MAX_ENV_VARS).enumerate() {
        let path = path.index(index);
        let name_path = path.field("name");
        v.length_from_one(&name_path, &variable.name, MAX_ENV_NAME_LEN);
        if !names.insert(&variable.name) && !variable.name.is_empty() {
            v.error(name_path, format!("the variable `{}` is given twice", quoted(&variable.name)));
        }
        if variable.value_from == EnvValueSource::Host && !variable.value.is_empty() {
            let message = "can be set only if `valueFrom` is `INLINE`";
            v.error(path.field("value"), message);
        }
        v.length(&path.field("value"), &variable.value, MAX_ENV_VALUE_LEN);
    }
}

fn traffic_selector(selector: &TrafficSelector, path: &FieldPath, v: &mut Violations) {
    let mut numbers = BTreeSet::new();
    for (index, number) in selector.ports.iter().enumerate() {
        let path = path.field("ports").index(index).field("number");
        if !(1..=MAX_PORT).contains(number) {
            v.error(path, format!("must be from 1 to {MAX_PORT}, not {number}"));
        } else if !numbers.insert(number) {
            v.error(path, format!("the port {number} is given twice"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Position;
    use crate::wasm_plugin::VmConfig;

    fn plugin(spec: WasmPluginSpec) -> WasmPlugin {
        let meta = ObjectMeta { name: "a".into(), namespace: "ns".into(), ..Default::default() };
        let position = Position { file: "a.yaml".into(), line: 1, column: 1 };
        WasmPlugin { meta, spec, position }
    }

    fn paths(spec: WasmPluginSpec) -> Vec<String> {
        validate_wasm_plugin(&plugin(spec), &FieldPath::root())
            .into_iter()
            .map(|violation| violation.path.to_string())
            .collect()
    }

    #[test]
    fn resource_that_was_never_a_manifest_is_validated_too() {
        let spec = WasmPluginSpec {
            url: "ftp://h/a".into(),
            sha256: Some("0".into()),
            match_: vec![TrafficSelector { ports: vec![80, 70_000, 0], ..Default::default() }],
            vm_config: VmConfig { env: vec![EnvVar::default()] },
            ..Default::default()
        };
        assert_eq!(
            paths(spec),
            [
                "spec.url",
                "spec.sha256",
                "spec.vmConfig.env[0].name",
                "spec.match[0].ports[1].number",
                "spec.match[0].ports[2].number",
            ]
        );
    }

    #[test]
    fn minimal_resource_is_valid() {
        assert_eq!(paths(WasmPluginSpec { url: "test".into(), ..Default::default() }), [""; 0]);
        assert_eq!(paths(WasmPluginSpec::default()), ["spec.url"]);
    }
}
