//! **The heart**: which filters run for a workload, in which order, and what is left out and why.

mod attachment;
mod ordering;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::diagnostic::with_causes;
use crate::digest::Digest;
use crate::manifest::Resource;
use crate::meta::{NamespacedName, Position};
use crate::module_url::ModuleUrl;
use crate::plugin_config::plugin_config_json;
use crate::wasm_plugin::{EnvVar, FailStrategy, PluginPhase, PullPolicy, REDACTED, WasmPlugin};

/// Namespace whose resources apply to the whole mesh, unless it is configured otherwise.
///
/// Source: Istio, `MeshConfig.rootNamespace`.
pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

/// What kind of proxy the workload has, and which of its chains is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkloadRole {
    /// Traffic from others to the workload.
    SidecarInbound,
    /// Traffic from the workload to others.
    SidecarOutbound,
    /// Traffic through a gateway.
    Gateway,
}

/// A text is not a [`WorkloadRole`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role `{0}`, expected `sidecar-inbound`, `sidecar-outbound` or `gateway`")]
pub struct WorkloadRoleError(String);

/// The workload and the listener that a chain is planned for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its proxy and chain.
    pub role: WorkloadRole,
    /// The mesh's root namespace, see [`DEFAULT_ROOT_NAMESPACE`].
    pub root_namespace: String,
    /// Port that `match` compares: the container's port inbound, the service's port outbound, the
    /// bound port of a gateway; 0 if it is unknown, which no `match` excludes.
    pub port: u16,
}

/// The ordered filter chain of one workload and what is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Filters in the order in which requests meet them; [`PlannedFilter::Router`] is last.
    pub filters: Vec<PlannedFilter>,
    /// The other resources, sorted by namespace and name, each with its reason.
    pub left_out: Vec<LeftOut>,
}

/// One filter of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "filter", rename_all = "camelCase")]
#[expect(
    clippy::large_enum_variant,
    reason = "a chain has one router, boxing would only add a jump"
)]
pub enum PlannedFilter {
    /// A Proxy-Wasm plugin.
    Wasm(PlannedPlugin),
    /// Sends the request upstream.
    Router,
}

/// A plugin with everything that is needed to fetch, verify, start and configure it.
///
/// Serialisation and `Debug` show neither environment values, nor the pull secret, nor user info
/// of the URL.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedPlugin {
    /// The resource it comes from.
    pub resource: NamespacedName,
    /// Where that was written.
    pub position: Position,
    /// Its phase.
    pub phase: PluginPhase,
    /// Its priority; absent runs after every number.
    pub priority: Option<i32>,
    /// Where the module is.
    pub url: ModuleUrl,
    /// What the module's (or image's) digest must be; absent for no check.
    pub sha256: Option<Digest>,
    /// When to fetch again.
    pub pull_policy: PullPolicy,
    /// Name of the secret with the registry's credentials, in the resource's namespace.
    #[serde(serialize_with = "serialize_redacted")]
    pub image_pull_secret: Option<String>,
    /// Public key for the module's signatures; absent for no check.
    pub verification_key: Option<String>,
    /// Root id, empty if the resource has no `pluginName`.
    pub root_id: String,
    /// JSON text of `pluginConfig` as the plugin gets it; empty if there is none.
    pub configuration: String,
    /// Environment variables of the VM.
    pub environment: Vec<EnvVar>,
    /// What happens if the plugin cannot run.
    pub fail_strategy: FailStrategy,
    /// Version of the resource, empty if unknown; a change makes `Always` fetch again.
    pub resource_version: String,
}

/// A resource that has no filter in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// The resource.
    pub resource: NamespacedName,
    /// Where it was written.
    pub position: Position,
    /// The clause that failed, for people.
    pub reason: String,
}

/// Plans the chain of one workload and listener.
///
/// Pure: the same resources give the same plan, in whichever order they come.
///
/// Source: Istio, `TrafficExtensionsByListenerInfo` and the HTTP connection manager's filters.
/// Differs: a resource that cannot be used is named in [`Plan::left_out`], not dropped silently.
pub fn plan(resources: &[Resource], workload: &Workload) -> Plan {
    let mut plugins: Vec<&WasmPlugin> = resources
        .iter()
        .filter_map(|resource| match resource {
            Resource::WasmPlugin(plugin) => Some(plugin),
            Resource::Secret(_) => None,
        })
        .collect();
    plugins.sort_by_key(|plugin| (plugin.meta.namespaced_name(), &plugin.position));

    let mut filters = Vec::new();
    let mut left_out = Vec::new();
    let mut previous: Option<&WasmPlugin> = None;
    for plugin in plugins {
        let outcome = match previous.filter(|first| is_same_object(first, plugin)) {
            Some(first) => Err(format!("the same name is given first at {}", first.position)),
            None => planned(plugin, workload),
        };
        match outcome {
            Ok(planned) => filters.push((ordering::rank(plugin, workload), planned)),
            Err(reason) => left_out.push(LeftOut {
                resource: plugin.meta.namespaced_name(),
                position: plugin.position.clone(),
                reason,
            }),
        }
        previous = previous.filter(|first| is_same_object(first, plugin)).or(Some(plugin));
    }
    filters.sort_by(|(a, _), (b, _)| a.cmp(b));

    let plugins = filters.into_iter().map(|(_, plugin)| PlannedFilter::Wasm(plugin));
    Plan { filters: plugins.chain([PlannedFilter::Router]).collect(), left_out }
}

fn is_same_object(a: &WasmPlugin, b: &WasmPlugin) -> bool {
    (&a.meta.namespace, &a.meta.name) == (&b.meta.namespace, &b.meta.name)
}

/// The plugin as it runs, or the reason why it does not.
fn planned(plugin: &WasmPlugin, workload: &Workload) -> Result<PlannedPlugin, String> {
    attachment::check(plugin, workload)?;
    let WasmPlugin { meta, spec, position } = plugin;
    let invalid = |field: &str, error: &dyn Error| format!("{field}: {}", with_causes(error));
    let url = ModuleUrl::parse(&spec.url).map_err(|error| invalid("url", &error))?;
    let sha256 = match spec.sha256.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse::<Digest>().map_err(|error| invalid("sha256", &error))?),
    };
    Ok(PlannedPlugin {
        resource: meta.namespaced_name(),
        position: position.clone(),
        phase: spec.phase,
        priority: spec.priority,
        url,
        sha256,
        pull_policy: spec.image_pull_policy,
        image_pull_secret: spec.image_pull_secret.clone(),
        verification_key: spec.verification_key.clone(),
        root_id: spec.plugin_name.clone().unwrap_or_default(),
        configuration: spec.plugin_config.as_ref().map(plugin_config_json).unwrap_or_default(),
        environment: spec.vm_config.env.clone(),
        fail_strategy: spec.fail_strategy,
        resource_version: meta.resource_version.clone().unwrap_or_default(),
    })
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn serialize_redacted<S: Serializer>(
    secret: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| REDACTED).serialize(serializer)
}

// === impl Workload ===

impl Workload {
    /// A workload without labels, on an unknown port, in a mesh with the default root namespace.
    pub fn new(namespace: impl Into<String>, role: WorkloadRole) -> Self {
        Self {
            namespace: namespace.into(),
            labels: BTreeMap::new(),
            role,
            root_namespace: DEFAULT_ROOT_NAMESPACE.to_owned(),
            port: 0,
        }
    }
}

// === impl Plan ===

impl Plan {
    /// The plugins of the chain, in the order in which requests meet them.
    pub fn plugins(&self) -> impl Iterator<Item = &PlannedPlugin> {
        self.filters.iter().filter_map(|filter| match filter {
            PlannedFilter::Wasm(plugin) => Some(plugin),
            PlannedFilter::Router => None,
        })
    }
}

// === impl PlannedPlugin ===

impl fmt::Debug for PlannedPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedPlugin")
            .field("resource", &self.resource)
            .field("position", &self.position)
            .field("phase", &self.phase)
            .field("priority", &self.priority)
            .field("url", &self.url)
            .field("sha256", &self.sha256)
            .field("pull_policy", &self.pull_policy)
            .field("image_pull_secret", &self.image_pull_secret.as_ref().map(|_| REDACTED))
            .field("verification_key", &self.verification_key)
            .field("root_id", &self.root_id)
            .field("configuration", &self.configuration)
            .field("environment", &self.environment)
            .field("fail_strategy", &self.fail_strategy)
            .field("resource_version", &self.resource_version)
            .finish()
    }
}

// === impl WorkloadRole ===

impl WorkloadRole {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::SidecarInbound, Self::SidecarOutbound, Self::Gateway];

    /// The name that users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SidecarInbound => "sidecar-inbound",
            Self::SidecarOutbound => "sidecar-outbound",
            Self::Gateway => "gateway",
        }
    }
}

impl fmt::Display for WorkloadRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for WorkloadRole {
    type Err = WorkloadRoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| WorkloadRoleError(text.to_owned()))
    }
}
