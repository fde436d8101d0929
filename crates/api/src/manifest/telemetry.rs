//! Decodes the metrics of a `Telemetry` from its document.
//!
//! Source: Istio API, `telemetry/v1alpha1/telemetry.proto`.

use super::attachment;
use super::fields::{Fields, ProtoEnum};
use super::findings::Findings;
use super::kinds::{self, Kind};
use crate::field_path::FieldPath;
use crate::meta::Object;
use crate::telemetry::{
    MetricSelector, Metrics, MetricsMode, MetricsOverride, StandardMetric, TagOperation,
    TagOverride, TelemetrySpec,
};
use crate::validation::{self, Violations};

impl Kind for TelemetrySpec {
    const KIND: &'static str = "Telemetry";
    const API_VERSIONS: &'static [&'static str] =
        &["telemetry.istio.io/v1", "telemetry.istio.io/v1alpha1"];

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        kinds::optional_spec(document, findings, spec)
    }

    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations) {
        validation::telemetry(&object.spec, &root.field("spec"), violations);
    }
}

impl ProtoEnum for MetricsMode {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("CLIENT_AND_SERVER", 0, Self::ClientAndServer),
        ("CLIENT", 1, Self::Client),
        ("SERVER", 2, Self::Server),
    ];
}

impl ProtoEnum for TagOperation {
    const VALUES: &'static [(&'static str, i128, Self)] =
        &[("UPSERT", 0, Self::Upsert), ("REMOVE", 1, Self::Remove)];
}

impl ProtoEnum for StandardMetric {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("ALL_METRICS", 0, Self::AllMetrics),
        ("REQUEST_COUNT", 1, Self::RequestCount),
        ("REQUEST_DURATION", 2, Self::RequestDuration),
        ("REQUEST_SIZE", 3, Self::RequestSize),
        ("RESPONSE_SIZE", 4, Self::ResponseSize),
        ("TCP_OPENED_CONNECTIONS", 5, Self::TcpOpenedConnections),
        ("TCP_CLOSED_CONNECTIONS", 6, Self::TcpClosedConnections),
        ("TCP_SENT_BYTES", 7, Self::TcpSentBytes),
        ("TCP_RECEIVED_BYTES", 8, Self::TcpReceivedBytes),
        ("GRPC_REQUEST_MESSAGES", 9, Self::GrpcRequestMessages),
        ("GRPC_RESPONSE_MESSAGES", 10, Self::GrpcResponseMessages),
    ];
}

fn spec(mut fields: Fields<'_>, findings: &mut Findings) -> TelemetrySpec {
    let (of, f) = (&mut fields, findings);
    let spec = TelemetrySpec {
        selector: attachment::selector(of, f),
        target_ref: attachment::target_ref(of, f),
        target_refs: attachment::target_refs(of, f),
        metrics: of.objects("metrics", f, metrics),
    };
    fields.ignore(&["tracing", "accessLogging"]);
    fields.finish(f);
    spec
}

fn metrics(mut fields: Fields<'_>, findings: &mut Findings) -> Metrics {
    let f = findings;
    let metrics = Metrics {
        providers: fields.objects("providers", f, |mut fields, findings| {
            let name = fields.text("name", findings);
            fields.finish(findings);
            name
        }),
        overrides: fields.objects("overrides", f, metrics_override),
        reporting_interval: fields.duration("reportingInterval", f),
    };
    fields.finish(f);
    metrics
}

fn metrics_override(mut fields: Fields<'_>, findings: &mut Findings) -> MetricsOverride {
    let (metric, mode) = fields.object("match", findings, metric_match).unwrap_or_default();
    let disabled = fields.flag("disabled", findings);
    let mut tags = Vec::new();
    for (name, field) in fields.entries("tagOverrides", findings) {
        if let Some(tag) = Fields::of(&field, findings) {
            tags.push((name, tag_override(tag, findings)));
        }
    }
    fields.finish(findings);
    MetricsOverride { metric, mode, disabled, tag_overrides: tags.into_iter().collect() }
}

fn metric_match(mut fields: Fields<'_>, findings: &mut Findings) -> (MetricSelector, MetricsMode) {
    let standard = fields.enumeration("metric", findings);
    let custom = fields.get("customMetric", findings);
    let has_both = custom.is_some() && fields.get("metric", findings).is_some();
    let custom = custom.and_then(|field| {
        if has_both {
            let message = "only one of `metric` and `customMetric` can be set";
            field.error(message.into(), None, findings);
        }
        field.string(findings)
    });
    let metric = custom.map_or(MetricSelector::Standard(standard), MetricSelector::Custom);
    let mode = fields.enumeration("mode", findings);
    fields.finish(findings);
    (metric, mode)
}

fn tag_override(mut fields: Fields<'_>, findings: &mut Findings) -> TagOverride {
    let operation = fields.enumeration("operation", findings);
    let value = fields.text("value", findings);
    fields.finish(findings);
    TagOverride { operation, value }
}
