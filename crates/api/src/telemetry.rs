//! The part of `Telemetry` that is about metrics, as Istio's schema spells it.
//!
//! Source: Istio API, `telemetry/v1alpha1/telemetry.proto`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::meta::Object;
use crate::selector::{PolicyTargetReference, WorkloadSelector};

/// A `Telemetry` object.
pub type Telemetry = Object<TelemetrySpec>;

/// `spec` of a `Telemetry`; `tracing` and `accessLogging` are accepted and not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TelemetrySpec {
    /// `selector`: the workloads it applies to; absent means all of the namespace.
    pub selector: Option<WorkloadSelector>,
    /// `targetRef`: deprecated singular form, used only if `target_refs` is empty.
    pub target_ref: Option<PolicyTargetReference>,
    /// `targetRefs`: the objects it applies to.
    pub target_refs: Vec<PolicyTargetReference>,
    /// `metrics`.
    pub metrics: Vec<Metrics>,
}

/// Which metrics are made for whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// `providers[].name`: who gets them; none for those of the wider scope.
    pub providers: Vec<String>,
    /// `overrides`, in the order in which they are applied.
    pub overrides: Vec<MetricsOverride>,
    /// `reportingInterval` of TCP metrics.
    pub reporting_interval: Option<Duration>,
}

/// A change to one metric or to all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricsOverride {
    /// `match.metric` or `match.customMetric`.
    pub metric: MetricSelector,
    /// `match.mode`.
    pub mode: MetricsMode,
    /// `disabled`; absent leaves it as it is.
    pub disabled: Option<bool>,
    /// `tagOverrides`, by the name of the label.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Which metric an override is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum MetricSelector {
    /// One of Istio's, or all of them.
    Standard(StandardMetric),
    /// One of that name.
    Custom(String),
}

/// Istio's metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StandardMetric {
    /// Every one of the others.
    #[default]
    AllMetrics,
    /// `istio_requests_total`.
    RequestCount,
    /// `istio_request_duration_milliseconds`.
    RequestDuration,
    /// `istio_request_bytes`.
    RequestSize,
    /// `istio_response_bytes`.
    ResponseSize,
    /// `istio_tcp_connections_opened_total`.
    TcpOpenedConnections,
    /// `istio_tcp_connections_closed_total`.
    TcpClosedConnections,
    /// `istio_tcp_sent_bytes_total`.
    TcpSentBytes,
    /// `istio_tcp_received_bytes_total`.
    TcpReceivedBytes,
    /// `istio_request_messages_total`.
    GrpcRequestMessages,
    /// `istio_response_messages_total`.
    GrpcResponseMessages,
}

/// On which side of a connection an override holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MetricsMode {
    /// On both.
    #[default]
    ClientAndServer,
    /// Outbound traffic of a sidecar, and traffic through a gateway.
    Client,
    /// Inbound traffic of a sidecar, and traffic through a waypoint.
    Server,
}

/// What becomes of one label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TagOverride {
    /// `operation`.
    pub operation: TagOperation,
    /// `value`: a CEL expression for `UPSERT`.
    pub value: String,
}

/// Whether a label is set or removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TagOperation {
    /// Added, or its value replaced.
    #[default]
    Upsert,
    /// Removed.
    Remove,
}

// === impl StandardMetric ===

impl StandardMetric {
    /// Every metric that is one.
    pub const EACH: [Self; 10] = [
        Self::RequestCount,
        Self::RequestDuration,
        Self::RequestSize,
        Self::ResponseSize,
        Self::TcpOpenedConnections,
        Self::TcpClosedConnections,
        Self::TcpSentBytes,
        Self::TcpReceivedBytes,
        Self::GrpcRequestMessages,
        Self::GrpcResponseMessages,
    ];
}

// === impl MetricSelector ===

impl Default for MetricSelector {
    fn default() -> Self {
        Self::Standard(StandardMetric::AllMetrics)
    }
}
