//! Where a policy applies: workload selectors, target references, traffic selectors.
//!
//! Source: Istio API, `type/v1beta1/selector.proto` and `extensions/v1alpha1/wasm.proto`.

use std::collections::BTreeMap;

use serde::Serialize;

/// Label of the workloads of a Gateway API gateway; its value is the gateway's name.
///
/// Source: Gateway API, GEP-1762.
pub const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";

/// Class of the gateways that are waypoints.
///
/// Source: Istio, `istio-waypoint`.
pub const WAYPOINT_CLASS: &str = "istio-waypoint";

/// API group of `Gateway` and `GatewayClass`.
pub const GATEWAY_API_GROUP: &str = "gateway.networking.k8s.io";

/// Selects workloads by labels, all of which must be present with these values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that the workload must have; none means every workload.
    pub match_labels: BTreeMap<String, String>,
}

/// Attaches a policy to one object instead of selecting workloads by label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetReference {
    /// API group, empty for the core group (`core` means the same).
    pub group: String,
    /// Kind of the target, such as `Gateway`.
    pub kind: String,
    /// Name of the target.
    pub name: String,
    /// Must stay empty: a target lives in the policy's own namespace.
    pub namespace: String,
}

/// One alternative of `match`: traffic in one direction, to some ports.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSelector {
    /// Direction of the traffic.
    pub mode: WorkloadMode,
    /// Port numbers, valid ones are 1 to 65535; none means every port.
    pub ports: Vec<u32>,
}

/// Direction of traffic as the workload sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WorkloadMode {
    /// Not given; the same as [`Self::ClientAndServer`].
    #[default]
    Undefined,
    /// Outbound traffic of a sidecar, and all traffic of a gateway.
    Client,
    /// Inbound traffic of a sidecar.
    Server,
    /// Both directions.
    ClientAndServer,
}

/// The targets that count: the list, or else the deprecated single one.
pub(crate) fn effective_target_refs<'a>(
    single: Option<&'a PolicyTargetReference>,
    list: &'a [PolicyTargetReference],
) -> &'a [PolicyTargetReference] {
    match single {
        Some(single) if list.is_empty() => std::slice::from_ref(single),
        _ => list,
    }
}

// === impl WorkloadSelector ===

impl WorkloadSelector {
    /// Whether a workload with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.first_mismatch(labels).is_none()
    }

    /// The first label, in key order, that the workload lacks or has with another value.
    pub(crate) fn first_mismatch(&self, labels: &BTreeMap<String, String>) -> Option<(&str, &str)> {
        self.match_labels
            .iter()
            .find(|(key, value)| labels.get(*key) != Some(value))
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

// === impl PolicyTargetReference ===

impl PolicyTargetReference {
    /// Whether the target is of this group and kind; an empty group and `core` are one.
    pub fn is_kind(&self, group: &str, kind: &str) -> bool {
        fn canonical(group: &str) -> &str {
            if group == "core" { "" } else { group }
        }
        canonical(&self.group) == canonical(group) && self.kind == kind
    }
}

// === impl TrafficSelector ===

impl TrafficSelector {
    /// Whether `port` is among the ports; 0 stands for an unknown port and is never refused.
    pub(crate) fn matches_port(&self, port: u16) -> bool {
        self.ports.is_empty() || port == 0 || self.ports.contains(&u32::from(port))
    }
}
