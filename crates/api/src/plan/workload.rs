//! The workload and the listener that a chain is planned for.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::meta::NamespacedName;
use crate::selector::GATEWAY_NAME_LABEL;

/// Namespace whose resources apply to the whole mesh, unless it is configured otherwise.
///
/// Source: Istio, `MeshConfig.rootNamespace`.
pub const DEFAULT_ROOT_NAMESPACE: &str = "istio-system";

/// Service account of a pod that names none.
///
/// Source: Kubernetes, `serviceAccountName`.
pub const DEFAULT_SERVICE_ACCOUNT: &str = "default";

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
    /// Traffic to services that a waypoint stands before.
    Waypoint,
}

/// A text is not a [`WorkloadRole`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown role `{0}`, expected `sidecar-inbound`, `sidecar-outbound`, `gateway` or `waypoint`"
)]
pub struct WorkloadRoleError(String);

/// The workload and the listener that a chain is planned for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Its name, which metrics tell; absent if it is not known.
    pub name: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its proxy and chain.
    pub role: WorkloadRole,
    /// The mesh's root namespace, see [`DEFAULT_ROOT_NAMESPACE`].
    pub root_namespace: String,
    /// Port that `match` compares: the container's port inbound, the service's port outbound and
    /// at a waypoint, the bound port of a gateway; 0 if it is unknown, which no `match` excludes.
    pub port: u16,
    /// Who it is in its namespace.
    pub service_account: String,
    /// Services that a waypoint stands before; other roles have none.
    pub services: Vec<ServedService>,
    /// Service by which requests come to it, which metrics tell; absent if it is not known.
    pub service: Option<NamespacedName>,
}

/// A service that a waypoint stands before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServedService {
    /// Its namespace and name.
    pub name: NamespacedName,
    /// Whether a `ServiceEntry` made it, and not a Kubernetes `Service`.
    pub is_service_entry: bool,
}

// === impl Workload ===

impl Workload {
    /// A workload without labels, on an unknown port, in a mesh with the default root namespace.
    pub fn new(namespace: impl Into<String>, role: WorkloadRole) -> Self {
        Self {
            name: None,
            namespace: namespace.into(),
            labels: BTreeMap::new(),
            role,
            root_namespace: DEFAULT_ROOT_NAMESPACE.to_owned(),
            port: 0,
            service_account: DEFAULT_SERVICE_ACCOUNT.to_owned(),
            services: Vec::new(),
            service: None,
        }
    }

    /// Name of the Gateway API gateway that the workload belongs to.
    pub fn gateway(&self) -> Option<&str> {
        self.labels.get(GATEWAY_NAME_LABEL).map(String::as_str)
    }
}

// === impl WorkloadRole ===

impl WorkloadRole {
    /// Every role.
    pub const ALL: [Self; 4] =
        [Self::SidecarInbound, Self::SidecarOutbound, Self::Gateway, Self::Waypoint];

    /// The name that users write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SidecarInbound => "sidecar-inbound",
            Self::SidecarOutbound => "sidecar-outbound",
            Self::Gateway => "gateway",
            Self::Waypoint => "waypoint",
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
