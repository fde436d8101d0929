//! Tags that `Telemetry` adds to metrics or takes away from them.

use wasmplug_api::telemetry::{MetricSelector, StandardMetric, TagOperation};
use wasmplug_api::{PlannedMetric, PlannedMetrics};
use wasmplug_host::{Expression, LogFields, PropertyValue, StreamHost, attributes};

use super::labels::{Label, UNKNOWN};
use crate::attributes::StreamShared;

/// Longest value of a tag, in bytes; what is longer is cut. Source: ours.
pub(crate) const MAX_TAG_BYTES: usize = 256;

/// Everything that is configured about tags.
#[derive(Debug, Default)]
pub(super) struct Tags {
    /// Every expression once; `None` for one that is not taken.
    expressions: Vec<(String, Option<Expression>)>,
    /// What becomes of each metric.
    changes: Vec<Change>,
    refused: Vec<String>,
}

/// What becomes of one metric.
#[derive(Debug)]
struct Change {
    metric: StandardMetric,
    is_disabled: bool,
    removed: Vec<String>,
    /// Names of tags, with the places of their expressions.
    added: Vec<(String, usize)>,
}

// === impl Tags ===

impl Tags {
    pub(super) fn new(planned: &PlannedMetrics) -> Self {
        let mut tags = Self::default();
        for change in &planned.overrides {
            tags.add(change);
        }
        tags
    }

    fn add(&mut self, planned: &PlannedMetric) {
        // Istio's filter has no other metrics that could be changed.
        let MetricSelector::Standard(metric) = planned.metric else { return };
        let mut change = Change {
            metric,
            is_disabled: planned.is_disabled,
            removed: Vec::new(),
            added: Vec::new(),
        };
        for (name, tag) in &planned.tag_overrides {
            match tag.operation {
                TagOperation::Remove => change.removed.push(name.clone()),
                TagOperation::Upsert => {
                    change.added.push((name.clone(), self.expression(&tag.value)));
                }
            }
        }
        self.changes.push(change);
    }

    fn expression(&mut self, source: &str) -> usize {
        if let Some(at) = self.expressions.iter().position(|(known, _)| known == source) {
            return at;
        }
        let expression = Expression::new(source).ok();
        if expression.is_none() {
            self.refused.push(source.to_owned());
        }
        self.expressions.push((source.to_owned(), expression));
        self.expressions.len().saturating_sub(1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.expressions.is_empty()
    }

    pub(super) fn refused(&self) -> &[String] {
        &self.refused
    }

    /// Values of all expressions for a stream.
    pub(super) fn evaluate(&self, shared: &StreamShared, fields: &LogFields) -> Vec<String> {
        let attribute = |path: &[&[u8]]| match path {
            [b"request", rest @ ..] => {
                attributes::of_request(fields.request_headers.as_ref(), rest)
                    .or_else(|| shared.property(path))
            }
            [b"response", rest @ ..] => {
                let (headers, trailers) = (&fields.response_headers, &fields.response_trailers);
                attributes::of_response(headers.as_ref(), trailers.as_ref(), rest)
                    .or_else(|| shared.property(path))
            }
            _ => shared.property(path),
        };
        let value = |(_, expression): &(String, Option<Expression>)| {
            let value = expression.as_ref().and_then(|of| of.evaluate(attribute));
            value.and_then(text).unwrap_or_else(|| UNKNOWN.to_owned())
        };
        self.expressions.iter().map(value).collect()
    }

    /// Whether a metric is made.
    pub(super) fn is_made(&self, metric: StandardMetric) -> bool {
        !self.of(metric).any(|change| change.is_disabled)
    }

    /// The labels of a metric, with what is configured about them.
    pub(super) fn apply(
        &self,
        metric: StandardMetric,
        labels: &[Label],
        values: &[String],
    ) -> Vec<(String, String)> {
        let mut applied: Vec<(String, String)> =
            labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        for change in self.of(metric) {
            applied.retain(|(name, _)| !change.removed.contains(name));
            for (name, at) in &change.added {
                // A connection has no stream that could be looked at.
                let value = values.get(*at).cloned().unwrap_or_else(|| UNKNOWN.to_owned());
                match applied.iter_mut().find(|(present, _)| present == name) {
                    Some((_, present)) => *present = value,
                    None => applied.push((name.clone(), value)),
                }
            }
        }
        applied
    }

    fn of(&self, metric: StandardMetric) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.metric == metric)
    }
}

/// What a label says about a value.
fn text(value: PropertyValue) -> Option<String> {
    let mut text = match value {
        PropertyValue::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        PropertyValue::Int(number) => number.to_string(),
        PropertyValue::Uint(number) => number.to_string(),
        PropertyValue::Double(number) => number.to_string(),
        PropertyValue::Bool(flag) => flag.to_string(),
        _ => return None,
    };
    text.truncate(text.floor_char_boundary(MAX_TAG_BYTES));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters() {
        let cut = |value: String| text(PropertyValue::text(&value)).unwrap();
        let full = "x".repeat(MAX_TAG_BYTES);
        assert_eq!(cut(full.clone()), full);
        assert_eq!(cut(format!("{full}y")), full);
        assert_eq!(cut(format!("x{}", "ä".repeat(MAX_TAG_BYTES))).len(), MAX_TAG_BYTES - 1);
    }
}
