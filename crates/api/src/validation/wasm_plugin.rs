//! The rules of `WasmPlugin`.
//!
//! Source: Istio API, `extensions/v1alpha1/wasm.proto` (schema of the custom resource) and the
//! validating webhook; Kubernetes, `ObjectMeta` names.

use std::collections::BTreeSet;

use super::attachment::{Targets, attachment};
use super::extras::extras;
use super::metadata::metadata;
use super::silent;
use super::{Violation, Violations};
use crate::diagnostic::{quoted, with_causes};
use crate::digest::Digest;
use crate::field_path::FieldPath;
use crate::module_url::{ModuleUrl, ModuleUrlError};
use crate::selector::TrafficSelector;
use crate::wasm_plugin::{EnvValueSource, EnvVar, WasmPlugin, WasmPluginSpec};

pub(crate) const MAX_SECRET_NAME_LEN: usize = 253;
pub(crate) const MAX_PLUGIN_NAME_LEN: usize = 256;
pub(crate) const MAX_ENV_VARS: usize = 256;
pub(crate) const MAX_ENV_NAME_LEN: usize = 256;
pub(crate) const MAX_ENV_VALUE_LEN: usize = 2048;
pub(crate) const MAX_PORT: u32 = 65535;

/// Finds everything that is wrong with a resource; `root` is the path of its document.
///
/// Of a list that is too long only the elements that may exist are looked at.
pub fn validate_wasm_plugin(plugin: &WasmPlugin, root: &FieldPath) -> Vec<Violation> {
    let mut violations = Violations::default();
    metadata(&plugin.meta, &root.field("metadata"), false, &mut violations);
    extras(&plugin.meta, plugin.spec.type_, &root.field("metadata"), &mut violations);
    wasm_plugin(&plugin.spec, &root.field("spec"), &mut violations);
    violations.found
}

/// The rules of `spec`, which is at `path`.
pub(crate) fn wasm_plugin(spec: &WasmPluginSpec, path: &FieldPath, v: &mut Violations) {
    placement(spec, path, v);
    wasm(spec, path, v);
}

/// Where a plugin applies and when it runs.
pub(super) fn placement(spec: &WasmPluginSpec, path: &FieldPath, v: &mut Violations) {
    let targets = Targets {
        selector: spec.selector.as_ref(),
        target_ref: spec.target_ref.as_ref(),
        target_refs: &spec.target_refs,
    };
    attachment(&targets, path, v);
    for (index, selector) in spec.match_.iter().enumerate() {
        traffic_selector(selector, &path.field("match").index(index), v);
    }
}

/// What a plugin is.
pub(super) fn wasm(spec: &WasmPluginSpec, path: &FieldPath, v: &mut Violations) {
    source(spec, path, v);
    if let Some(name) = &spec.plugin_name {
        v.length_from_one(&path.field("pluginName"), name, MAX_PLUGIN_NAME_LEN);
    }
    environment(&spec.vm_config.env, &path.field("vmConfig").field("env"), v);
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
    if let Some(url) = &url {
        silent::source(spec, url, path, v);
    }
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
        silent::variable(variable, path.field("name"), v);
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
    use crate::meta::{ObjectMeta, Position};
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
                "spec.match[0].ports[1].number",
                "spec.match[0].ports[2].number",
                "spec.url",
                "spec.sha256",
                "spec.vmConfig.env[0].name",
            ]
        );
    }

    #[test]
    fn minimal_resource_is_valid() {
        assert_eq!(paths(WasmPluginSpec { url: "test".into(), ..Default::default() }), [""; 0]);
        assert_eq!(paths(WasmPluginSpec::default()), ["spec.url"]);
    }
}
