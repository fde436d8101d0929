//! Decodes where a policy applies.
//!
//! Source: Istio API, `type/v1beta1/selector.proto`.

use super::fields::Fields;
use super::findings::Findings;
use crate::selector::{PolicyTargetReference, WorkloadSelector};

/// Reads `selector`.
pub(super) fn selector(
    fields: &mut Fields<'_>,
    findings: &mut Findings,
) -> Option<WorkloadSelector> {
    fields.object("selector", findings, workload_selector)
}

/// Reads `targetRefs`.
pub(super) fn target_refs(
    fields: &mut Fields<'_>,
    findings: &mut Findings,
) -> Vec<PolicyTargetReference> {
    fields.objects("targetRefs", findings, target_reference)
}

/// Reads the deprecated `targetRef`.
pub(super) fn target_ref(
    fields: &mut Fields<'_>,
    findings: &mut Findings,
) -> Option<PolicyTargetReference> {
    fields.object("targetRef", findings, target_reference)
}

fn workload_selector(mut fields: Fields<'_>, findings: &mut Findings) -> WorkloadSelector {
    let selector = WorkloadSelector { match_labels: fields.string_map("matchLabels", findings) };
    fields.finish(findings);
    selector
}

fn target_reference(mut fields: Fields<'_>, findings: &mut Findings) -> PolicyTargetReference {
    let mut text = |name| fields.text(name, findings);
    let reference = PolicyTargetReference {
        group: text("group"),
        kind: text("kind"),
        name: text("name"),
        namespace: text("namespace"),
    };
    fields.finish(findings);
    reference
}
