//! The rules of `PeerAuthentication`.
//!
//! Source: Istio API, `security/v1beta1/peer_authentication.proto`; Istio, the validating webhook.

use super::Violations;
use super::attachment::workload_selector;
use crate::field_path::FieldPath;
use crate::peer_authentication::PeerAuthentication;

/// The rules of `spec`, which is at `path`.
pub(crate) fn peer_authentication(
    policy: &PeerAuthentication,
    path: &FieldPath,
    v: &mut Violations,
) {
    let spec = &policy.spec;
    if let Some(selector) = &spec.selector {
        workload_selector(selector, &path.field("selector"), v);
    }
    let Some(ports) = &spec.port_modes else { return };
    let path = path.field("portLevelMtls");
    if ports.is_empty() {
        v.error(path.clone(), "must have at least one port if it is given");
    }
    if spec.selector.as_ref().is_none_or(|selector| selector.match_labels.is_empty()) {
        let hint = "select the workloads that have these ports".to_owned();
        let message = "needs a `selector`: a mesh or a namespace has no ports";
        v.error_with_hint(path.clone(), message, Some(hint));
    }
    for port in ports.keys().filter(|port| !(1..=65535).contains(*port)) {
        v.error(path.clone(), format!("a port must be from 1 to 65535, not {port}"));
    }
}
