//! The rules of `metadata`, which all kinds share.
//!
//! Source: Kubernetes, `ObjectMeta` names; Istio, the validating webhook.

use super::Violations;
use crate::field_path::FieldPath;
use crate::meta::{DRY_RUN_ANNOTATION, ObjectMeta};

const MAX_NAME_LEN: usize = 253;
const MAX_NAMESPACE_LEN: usize = 63;

/// Checks `metadata`, which is at `path`; the namespace of an object without one is empty.
pub(crate) fn metadata(meta: &ObjectMeta, path: &FieldPath, has_dry_run: bool, v: &mut Violations) {
    let name = path.field("name");
    if meta.name.is_empty() {
        v.error(name, "is required");
    } else if meta.name.len() > MAX_NAME_LEN || !meta.name.split('.').all(is_dns_label) {
        let message = "must consist of lower-case letters, digits, `-` and `.`, \
                       and begin and end with a letter or digit";
        v.error(name, message);
    }
    let namespace = &meta.namespace;
    let is_sound = namespace.len() <= MAX_NAMESPACE_LEN && is_dns_label(namespace);
    if !is_sound && !namespace.is_empty() {
        let message = "must consist of at most 63 lower-case letters, digits and `-`, \
                       and begin and end with a letter or digit";
        v.error(path.field("namespace"), message);
    }
    if !has_dry_run && meta.annotations.contains_key(DRY_RUN_ANNOTATION) {
        let path = path.field("annotations").key(DRY_RUN_ANNOTATION);
        v.error(path, "only an AuthorizationPolicy can be tried out by this annotation");
    }
}

/// Source: RFC 1123, as Kubernetes applies it to names.
fn is_dns_label(text: &str) -> bool {
    let is_edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    is_edge(text.bytes().next())
        && is_edge(text.bytes().next_back())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}
