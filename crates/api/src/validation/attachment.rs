//! The rules of `selector` and `targetRefs`, which all policies share.
//!
//! Source: Istio API, `type/v1beta1/selector.proto`; Istio, the validating webhook.

use super::Violations;
use crate::diagnostic::quoted;
use crate::field_path::FieldPath;
use crate::selector::{GATEWAY_API_GROUP, PolicyTargetReference, WorkloadSelector};

pub(crate) const MAX_NAME_LEN: usize = 253;
pub(crate) const MAX_LABELS: usize = 4096;
pub(crate) const MAX_LABEL_VALUE_LEN: usize = 63;
pub(crate) const MAX_TARGET_REFS: usize = 16;
pub(crate) const MAX_TARGET_KIND_LEN: usize = 63;

/// Groups and kinds that a policy can be attached to.
const TARGETS: [(&str, &str); 4] = [
    ("core", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    (GATEWAY_API_GROUP, "Gateway"),
    (GATEWAY_API_GROUP, "GatewayClass"),
];

/// The fields by which a policy says where it applies.
pub(super) struct Targets<'a> {
    pub(super) selector: Option<&'a WorkloadSelector>,
    /// The deprecated singular form.
    pub(super) target_ref: Option<&'a PolicyTargetReference>,
    pub(super) target_refs: &'a [PolicyTargetReference],
}

/// Checks a selector and target references; `path` is that of `spec`.
pub(super) fn attachment(targets: &Targets<'_>, path: &FieldPath, v: &mut Violations) {
    let refs_path = path.field("targetRefs");
    if let Some(selector) = targets.selector {
        let selector_path = path.field("selector");
        if targets.target_ref.is_some() || !targets.target_refs.is_empty() {
            v.error(selector_path.clone(), "only one of `selector` and `targetRefs` can be set");
        }
        workload_selector(selector, &selector_path, v);
    }
    if let Some(target) = targets.target_ref {
        let path = path.field("targetRef");
        if !targets.target_refs.is_empty() {
            v.error(path.clone(), "only one of `targetRef` and `targetRefs` can be set");
        }
        target_reference(target, &path, v);
    }
    v.count(&refs_path, targets.target_refs.len(), MAX_TARGET_REFS);
    for (index, target) in targets.target_refs.iter().take(MAX_TARGET_REFS).enumerate() {
        target_reference(target, &refs_path.index(index), v);
    }
}

/// Checks a selector by labels, which is at `path`.
pub(super) fn workload_selector(selector: &WorkloadSelector, path: &FieldPath, v: &mut Violations) {
    if selector.match_labels.is_empty() {
        let hint = "remove it if every workload is meant";
        v.warning(path.clone(), "a selector without labels selects every workload", hint);
    }
    let path = path.field("matchLabels");
    v.count(&path, selector.match_labels.len(), MAX_LABELS);
    for (key, value) in selector.match_labels.iter().take(MAX_LABELS) {
        let path = path.key(key);
        if key.is_empty() {
            v.error(path.clone(), "the label key must not be empty");
        }
        if key.contains('*') {
            v.error(path.clone(), "a label key cannot contain the wildcard `*`");
        }
        if value.contains('*') {
            v.error(path.clone(), "a label value cannot contain the wildcard `*`");
        }
        v.length(&path, value, MAX_LABEL_VALUE_LEN);
    }
}

fn target_reference(target: &PolicyTargetReference, path: &FieldPath, v: &mut Violations) {
    v.length_from_one(&path.field("name"), &target.name, MAX_NAME_LEN);
    if !target.namespace.is_empty() {
        let hint = "move the resource into the namespace of its target".to_owned();
        let message = "must not be set, a target is in the namespace of the resource";
        v.error_with_hint(path.field("namespace"), message, Some(hint));
    }
    v.length_from_one(&path.field("kind"), &target.kind, MAX_TARGET_KIND_LEN);
    v.length(&path.field("group"), &target.group, MAX_NAME_LEN);
    let is_allowed = TARGETS.iter().any(|(group, kind)| target.is_kind(group, kind));
    if !is_allowed && !target.kind.is_empty() {
        let group = if target.group.is_empty() { "core" } else { &target.group };
        let actual = quoted(&format!("{group}/{}", target.kind));
        let list: Vec<_> =
            TARGETS.iter().map(|(group, kind)| format!("`{group}/{kind}`")).collect();
        let message = format!("must be one of {}, not `{actual}`", list.join(", "));
        let group = TARGETS.iter().find(|(_, kind)| *kind == target.kind).map(|(group, _)| group);
        let hint = group.map(|group| format!("write `group: {group}`"));
        v.error_with_hint(path.clone(), message, hint);
    }
}
