//! The rules of the metrics of a `Telemetry`.
//!
//! Source: Istio API, `telemetry/v1alpha1/telemetry.proto`; Istio, the validating webhook.

use super::Violations;
use super::attachment::{Targets, attachment};
use crate::field_path::FieldPath;
use crate::telemetry::{MetricSelector, MetricsOverride, TagOperation, TelemetrySpec};

/// The rules of `spec`, which is at `path`.
pub(crate) fn telemetry(spec: &TelemetrySpec, path: &FieldPath, v: &mut Violations) {
    let targets = Targets {
        selector: spec.selector.as_ref(),
        target_ref: spec.target_ref.as_ref(),
        target_refs: &spec.target_refs,
    };
    attachment(&targets, path, v);
    for (index, metrics) in spec.metrics.iter().enumerate() {
        let path = path.field("metrics").index(index);
        for (index, name) in metrics.providers.iter().enumerate() {
            if name.is_empty() {
                v.error(path.field("providers").index(index).field("name"), "must not be empty");
            }
        }
        for (index, change) in metrics.overrides.iter().enumerate() {
            metrics_override(change, &path.field("overrides").index(index), v);
        }
    }
}

fn metrics_override(change: &MetricsOverride, path: &FieldPath, v: &mut Violations) {
    if change.metric == MetricSelector::Custom(String::new()) {
        v.error(path.field("match").field("customMetric"), "must not be empty");
    }
    for (name, tag) in &change.tag_overrides {
        let path = path.field("tagOverrides").key(name).field("value");
        match tag.operation {
            TagOperation::Upsert if tag.value.is_empty() => {
                v.error(path, "is required to set a label");
            }
            TagOperation::Remove if !tag.value.is_empty() => {
                v.error(path, "must not be set to remove a label");
            }
            TagOperation::Upsert | TagOperation::Remove => {}
        }
    }
}
