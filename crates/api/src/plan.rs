//! **The heart**: which filters run for a workload, in which order, and what is left out and why.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::digest::Digest;
use crate::manifest::Resource;
use crate::meta::{NamespacedName, Position};
use crate::module_url::ModuleUrl;
use crate::wasm_plugin::{EnvVar, FailStrategy, PluginPhase, PullPolicy, REDACTED};

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
/// Serialisation shows neither environment values, nor the pull secret, nor user info of the URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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

/// Plans the chain.
pub fn plan(_resources: &[Resource], _workload: &Workload) -> Plan {
    Plan { filters: vec![PlannedFilter::Router], left_out: Vec::new() }
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn serialize_redacted<S: Serializer>(
    secret: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| REDACTED).serialize(serializer)
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
