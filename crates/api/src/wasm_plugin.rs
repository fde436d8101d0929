//! `WasmPlugin` exactly as Istio's schema spells it.
//!
//! Source: Istio API, `extensions/v1alpha1/wasm.proto`.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::meta::Object;
use crate::selector::{
    PolicyTargetReference, TrafficSelector, WorkloadSelector, effective_target_refs,
};

/// `apiVersion` of the resource.
pub const API_VERSION: &str = "extensions.istio.io/v1alpha1";
/// `kind` of the resource.
pub const KIND: &str = "WasmPlugin";

/// What stands for a value that must not be shown.
pub(crate) const REDACTED: &str = "[redacted]";

/// A `WasmPlugin` object.
pub type WasmPlugin = Object<WasmPluginSpec>;

/// `spec` of a `WasmPlugin`, field by field, nothing resolved.
///
/// `Debug` shows neither environment values nor user info in `url`.
#[derive(Clone, Default, PartialEq)]
pub struct WasmPluginSpec {
    /// `selector`: the workloads it applies to; absent means all of the namespace.
    pub selector: Option<WorkloadSelector>,
    /// `targetRef`: deprecated singular form, used only if `target_refs` is empty.
    pub target_ref: Option<PolicyTargetReference>,
    /// `targetRefs`: the objects it applies to.
    pub target_refs: Vec<PolicyTargetReference>,
    /// `url`: where the module is, as typed; see [`crate::ModuleUrl`].
    pub url: String,
    /// `sha256`: 64 lower-case hexadecimal digits, or absent for no check.
    pub sha256: Option<String>,
    /// `imagePullPolicy`.
    pub image_pull_policy: PullPolicy,
    /// `imagePullSecret`: name of the secret with the registry's credentials.
    pub image_pull_secret: Option<String>,
    /// `verificationKey`: public key that signatures of the module are checked with.
    pub verification_key: Option<String>,
    /// `pluginConfig`: absent if missing or null; numbers are 64-bit floats.
    pub plugin_config: Option<Map<String, Value>>,
    /// `pluginName`: becomes the root id; no fallback to the object's name.
    pub plugin_name: Option<String>,
    /// `phase`.
    pub phase: PluginPhase,
    /// `priority`: higher runs earlier, absent runs last.
    pub priority: Option<i32>,
    /// `failStrategy`.
    pub fail_strategy: FailStrategy,
    /// `vmConfig`.
    pub vm_config: VmConfig,
    /// `match`: alternatives of traffic it applies to; empty means all.
    pub match_: Vec<TrafficSelector>,
    /// `type`.
    pub type_: PluginType,
}

/// `vmConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmConfig {
    /// `env`: environment variables of the VM.
    pub env: Vec<EnvVar>,
}

/// One environment variable of the VM; `Debug` and serialisation never show its value.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EnvVar {
    /// Name of the variable, unique in its list.
    pub name: String,
    /// Where the value comes from.
    pub value_from: EnvValueSource,
    /// The value if it is inline, else empty.
    pub value: String,
}

/// Where the value of an [`EnvVar`] comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EnvValueSource {
    /// From the resource itself.
    #[default]
    Inline,
    /// From the variable of the same name of the proxy process.
    Host,
}

/// Where in the filter chain a plugin runs.
///
/// Ordered as requests meet the phases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PluginPhase {
    /// Before the authentication filters.
    #[serde(rename = "AUTHN")]
    Authn,
    /// After authentication, before the authorization filters.
    #[serde(rename = "AUTHZ")]
    Authz,
    /// After authorization, before the stats filters.
    #[serde(rename = "STATS")]
    Stats,
    /// Not given: after the plugins of all phases, before the stats filter.
    #[default]
    #[serde(rename = "UNSPECIFIED_PHASE")]
    Unspecified,
}

/// What happens to traffic when a plugin cannot run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FailStrategy {
    /// Traffic is refused.
    #[default]
    FailClose,
    /// The plugin is skipped.
    FailOpen,
    /// The VM is made anew; until then traffic is refused.
    FailReload,
}

/// When a module that was fetched before is fetched again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub enum PullPolicy {
    /// Not given: `Always` for the tag `latest`, `IfNotPresent` for everything else.
    #[default]
    #[serde(rename = "UNSPECIFIED_POLICY")]
    Unspecified,
    /// Only if it is not in the cache.
    IfNotPresent,
    /// Whenever the resource changes.
    Always,
}

/// Which kind of filter chain a plugin belongs to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub enum PluginType {
    /// Not given: the same as [`Self::Http`].
    #[default]
    #[serde(rename = "UNSPECIFIED_PLUGIN_TYPE")]
    Unspecified,
    /// HTTP filter chains.
    #[serde(rename = "HTTP")]
    Http,
    /// Network (TCP) filter chains.
    #[serde(rename = "NETWORK")]
    Network,
}

// === impl WasmPluginSpec ===

impl WasmPluginSpec {
    /// The targets that count: `targetRefs`, or else the deprecated `targetRef` alone.
    pub fn effective_target_refs(&self) -> &[PolicyTargetReference] {
        effective_target_refs(self.target_ref.as_ref(), &self.target_refs)
    }
}

impl fmt::Debug for WasmPluginSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmPluginSpec")
            .field("selector", &self.selector)
            .field("target_ref", &self.target_ref)
            .field("target_refs", &self.target_refs)
            .field("url", &crate::module_url::redact_user_info(&self.url))
            .field("sha256", &self.sha256)
            .field("image_pull_policy", &self.image_pull_policy)
            .field("image_pull_secret", &self.image_pull_secret.as_ref().map(|_| REDACTED))
            .field("verification_key", &self.verification_key)
            .field("plugin_config", &self.plugin_config)
            .field("plugin_name", &self.plugin_name)
            .field("phase", &self.phase)
            .field("priority", &self.priority)
            .field("fail_strategy", &self.fail_strategy)
            .field("vm_config", &self.vm_config)
            .field("match_", &self.match_)
            .field("type_", &self.type_)
            .finish()
    }
}

// === impl EnvVar ===

/// What may be shown of an [`EnvVar`].
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", rename = "EnvVar")]
struct ShownEnvVar<'a> {
    name: &'a str,
    value_from: EnvValueSource,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'static str>,
}

impl EnvVar {
    fn shown(&self) -> ShownEnvVar<'_> {
        let value = (self.value_from == EnvValueSource::Inline).then_some(REDACTED);
        ShownEnvVar { name: &self.name, value_from: self.value_from, value }
    }
}

impl fmt::Debug for EnvVar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown().fmt(f)
    }
}

impl Serialize for EnvVar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_text_shows_neither_environment_values_nor_user_info() {
        let spec = WasmPluginSpec {
            url: "https://user:hunter2@example.com/a.wasm".into(),
            image_pull_secret: Some("hunter2".into()),
            vm_config: VmConfig {
                env: vec![EnvVar {
                    name: "TOKEN".into(),
                    value_from: EnvValueSource::Inline,
                    value: "hunter2".into(),
                }],
            },
            ..WasmPluginSpec::default()
        };
        let text = format!("{spec:?}");
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("TOKEN") && text.contains("example.com"), "{text}");
    }

    #[test]
    fn singular_target_counts_only_without_plural_ones() {
        let target = |name: &str| PolicyTargetReference { name: name.into(), ..Default::default() };
        let mut spec =
            WasmPluginSpec { target_ref: Some(target("one")), ..WasmPluginSpec::default() };
        assert_eq!(spec.effective_target_refs(), [target("one")]);
        spec.target_refs = vec![target("many")];
        assert_eq!(spec.effective_target_refs(), [target("many")]);
    }
}
