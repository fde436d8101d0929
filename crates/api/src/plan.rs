//! **The heart**: which filters run for a workload, in which order, and what is left out and why.

mod assembly;
mod attachment;
mod filters;
mod mesh;
mod metrics;
mod mutual_tls;
mod ordering;
mod reach;
mod routes;
#[cfg(test)]
mod tests;
mod workload;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;

use serde::{Serialize, Serializer};

pub use self::filters::{
    PlannedAuthentication, PlannedAuthorization, PlannedJwtRule, PlannedMetric, PlannedMetrics,
    PlannedMutualTls, PlannedPolicy, PlannedReporter, PlannedRoute, PlannedRoutes,
};
pub use self::mesh::Mesh;
pub use self::workload::{
    DEFAULT_ROOT_NAMESPACE, DEFAULT_SERVICE_ACCOUNT, ServedService, Workload, WorkloadRole,
    WorkloadRoleError,
};
use crate::diagnostic::with_causes;
use crate::digest::Digest;
use crate::extras::{Candidate, PluginExtras, VmScope};
use crate::manifest::Resource;
use crate::mesh_config::PathNormalization;
use crate::meta::{CreationTime, NamespacedName, ObjectMeta, Position};
use crate::module_url::ModuleUrl;
use crate::peer_authentication::MutualTlsMode;
use crate::plugin_config::plugin_config_json;
use crate::virtual_service::{CorsPolicy, HttpFault};
use crate::wasm_plugin::{
    EnvVar, FailStrategy, PluginPhase, PluginType, PullPolicy, REDACTED, WasmPluginSpec,
};

/// The ordered filter chain of one workload and what is not in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// Filters in the order in which requests meet them; [`PlannedFilter::Router`] is last.
    pub filters: Vec<PlannedFilter>,
    /// Plugins of type `NETWORK`, in the order in which connections meet them, before HTTP.
    pub network_plugins: Vec<PlannedPlugin>,
    /// Which connections are accepted; only for the inbound chain of a sidecar.
    pub mutual_tls: Option<PlannedMutualTls>,
    /// How paths are written before the first filter.
    pub path_normalization: PathNormalization,
    /// Port that requests are made to, as policies mean it; absent if it is not known, and then it
    /// is the listener's.
    pub port: Option<u16>,
    /// The other policies, sorted by namespace and name, each with its reason.
    pub left_out: Vec<LeftOut>,
}

/// One filter of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "filter", rename_all = "camelCase")]
pub enum PlannedFilter {
    /// Asks an external authorizer about what `CUSTOM` policies match.
    ExtAuthz(PlannedAuthorization),
    /// A Proxy-Wasm plugin.
    Wasm(PlannedPlugin),
    /// Verifies tokens.
    JwtAuthn(PlannedAuthentication),
    /// Marks, refuses or lets pass by `AUDIT`, `DENY` or `ALLOW` policies.
    Rbac(PlannedAuthorization),
    /// Delays or aborts requests of routes that ask for it.
    Fault(PlannedRoutes<HttpFault>),
    /// Answers browsers on behalf of routes that ask for it.
    Cors(PlannedRoutes<CorsPolicy>),
    /// Makes Istio's metrics.
    Stats(PlannedMetrics),
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
    /// Kind of the resource it comes from: `WasmPlugin` or `TrafficExtension`.
    pub kind: &'static str,
    /// The resource it comes from. A `TrafficExtension` has [`TRAFFIC_EXTENSION_SUFFIX`] behind its
    /// name, so that a plugin of the same name is another one.
    pub resource: NamespacedName,
    /// Where that was written.
    pub position: Position,
    /// Its phase.
    pub phase: PluginPhase,
    /// Its priority; absent runs after every number.
    pub priority: Option<i32>,
    /// When its resource was created, which decides between equal priorities.
    pub creation: Option<CreationTime>,
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
    /// How many VMs it has, by an annotation.
    #[serde(skip_serializing_if = "is_default")]
    pub vm_scope: VmScope,
    /// Limits of its VM by name, by an annotation.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
    /// Another version of it, by annotations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Box<Candidate>>,
}

/// A resource that has no filter in the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Kind of the resource.
    pub kind: &'static str,
    /// The resource.
    pub resource: NamespacedName,
    /// Where it was written.
    pub position: Position,
    /// The clause that failed, for people.
    pub reason: String,
}

/// What stands behind the name of a planned `TrafficExtension`; no name in Kubernetes has a `~`.
pub const TRAFFIC_EXTENSION_SUFFIX: &str = "~trafficextension";

/// Plans the chain of one workload and listener; for many workloads, see [`Mesh`].
///
/// Pure: the same resources give the same plan, in whichever order they come.
///
/// Source: Istio, `TrafficExtensionsByListenerInfo` and the HTTP connection manager's filters.
/// Differs: a resource that cannot be used is named in [`Plan::left_out`], not dropped silently.
pub fn plan(resources: &[Resource], workload: &Workload) -> Plan {
    Mesh::new(resources).plan(workload)
}

/// The plugin as it runs, or the reason why it does not.
fn planned(
    kind: &'static str,
    meta: &ObjectMeta,
    spec: &WasmPluginSpec,
    position: &Position,
) -> Result<PlannedPlugin, String> {
    let invalid = |field: &str, error: &dyn Error| format!("{field}: {}", with_causes(error));
    let url = ModuleUrl::parse(&spec.url).map_err(|error| invalid("url", &error))?;
    let sha256 = match spec.sha256.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse::<Digest>().map_err(|error| invalid("sha256", &error))?),
    };
    let extras = PluginExtras::read(&meta.annotations).map_err(|problems| {
        let problem = problems.into_iter().next();
        problem.map_or_else(String::new, |of| format!("{}: {}", of.annotation, of.message))
    })?;
    if spec.type_ == PluginType::Network && extras.needs_http() {
        return Err("a plugin of type `NETWORK` has neither one VM nor a candidate".to_owned());
    }
    let mut resource = meta.namespaced_name();
    if kind != crate::wasm_plugin::KIND {
        resource.name.push_str(TRAFFIC_EXTENSION_SUFFIX);
    }
    Ok(PlannedPlugin {
        kind,
        resource,
        position: position.clone(),
        phase: spec.phase,
        priority: spec.priority,
        creation: meta.creation,
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
        vm_scope: extras.vm_scope,
        limits: extras.limits,
        candidate: extras.candidate,
    })
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_default(scope: &VmScope) -> bool {
    *scope == VmScope::default()
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn serialize_redacted<S: Serializer>(
    secret: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| REDACTED).serialize(serializer)
}

// === impl Plan ===

impl Plan {
    /// The plugins of the chain, in the order in which requests meet them.
    pub fn plugins(&self) -> impl Iterator<Item = &PlannedPlugin> {
        self.filters.iter().filter_map(|filter| match filter {
            PlannedFilter::Wasm(plugin) => Some(plugin),
            _ => None,
        })
    }

    /// Whether connections without mutual TLS are to be refused.
    pub fn requires_mutual_tls(&self) -> bool {
        self.mutual_tls.as_ref().is_some_and(|tls| tls.mode == MutualTlsMode::Strict)
    }
}

// === impl PlannedPlugin ===

impl fmt::Debug for PlannedPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlannedPlugin")
            .field("kind", &self.kind)
            .field("resource", &self.resource)
            .field("position", &self.position)
            .field("phase", &self.phase)
            .field("priority", &self.priority)
            .field("creation", &self.creation)
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
            .field("vm_scope", &self.vm_scope)
            .field("limits", &self.limits)
            .field("candidate", &self.candidate)
            .finish()
    }
}
