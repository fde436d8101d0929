//! Decodes `metadata`.
//!
//! Source: Kubernetes, `metav1.ObjectMeta`.

use super::fields::{Field, Fields};
use super::findings::Findings;
use super::node::Value;
use crate::diagnostic::quoted;
use crate::meta::{CreationTime, DEFAULT_NAMESPACE, ObjectMeta};

/// Fields that Kubernetes writes and nothing here looks at.
const UNUSED: [&str; 8] = [
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "managedFields",
    "ownerReferences",
    "selfLink",
    "uid",
];

/// Reads `metadata`; a missing name stays empty, which validation refuses.
pub(super) fn metadata(fields: Fields<'_>, findings: &mut Findings) -> ObjectMeta {
    let (mut fields, f) = (fields.exact_names(), findings);
    let meta = ObjectMeta {
        name: fields.string("name", f).unwrap_or_default(),
        namespace: fields
            .string("namespace", f)
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        labels: fields.string_map("labels", f),
        annotations: fields.string_map("annotations", f),
        resource_version: fields.string("resourceVersion", f),
        creation: fields.get("creationTimestamp", f).and_then(|field| creation(&field, f)),
        generation: fields.get("generation", f).and_then(|field| generation(&field, f)),
    };
    fields.ignore(&UNUSED);
    fields.finish(f);
    meta
}

fn creation(field: &Field<'_>, findings: &mut Findings) -> Option<CreationTime> {
    let text = field.string(findings)?;
    let time = text.parse().ok();
    if time.is_none() {
        let message = format!("`{}` is not an RFC 3339 timestamp", quoted(&text));
        field.error(message, Some("for example `2026-01-31T12:00:00Z`".into()), findings);
    }
    time
}

fn generation(field: &Field<'_>, findings: &mut Findings) -> Option<i64> {
    if let Value::Int(number) = field.node.value
        && let Ok(number) = i64::try_from(number)
    {
        return Some(number);
    }
    field.mismatch("an integer", findings);
    None
}
