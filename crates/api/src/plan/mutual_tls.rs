//! Whether connections to a workload must be mutual TLS: the narrowest policy wins, and of equals
//! the oldest.
//!
//! Source: Istio, `pilot/pkg/security/authn/policy_applier.go`.

use super::filters::PlannedMutualTls;
use super::mesh::{Body, Policy};
use super::{LeftOut, Workload, WorkloadRole};
use crate::peer_authentication::{MutualTlsMode, PeerAuthenticationSpec};

/// Decides among the policies that apply, which come in the order of their age, and says why the
/// others of them do not count.
pub(super) fn resolve(
    policies: &[&Policy<'_>],
    workload: &Workload,
) -> (Option<PlannedMutualTls>, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    // From the workload to the mesh.
    let mut scopes: [Option<&Policy<'_>>; 3] = [None; 3];
    for policy in policies {
        let selector = policy.attachment.selector;
        let is_wide = selector.is_none_or(|selector| selector.match_labels.is_empty());
        let is_root = policy.attachment.namespace == workload.root_namespace;
        if is_root && !is_wide {
            let reason = "a selector in the root namespace selects no workload for mutual TLS";
            left_out.push(policy.left_out(reason.into()));
            continue;
        }
        let [narrow, namespace, mesh] = &mut scopes;
        let place = match (is_wide, is_root) {
            (false, _) => narrow,
            (true, false) => namespace,
            (true, true) => mesh,
        };
        left_out.extend(policy.take_scope(place));
    }
    let mut decided: Option<PlannedMutualTls> = None;
    for policy in scopes.into_iter().flatten() {
        let Body::Peers(object) = policy.body else { continue };
        let name = policy.meta.namespaced_name();
        match (&decided, mode(&object.spec, workload.port)) {
            (Some(PlannedMutualTls { resource: Some(by), .. }), _) => {
                let reason = format!("overruled by `{by}`, whose scope is narrower");
                left_out.push(policy.left_out(reason));
            }
            (_, MutualTlsMode::Unset) => {
                let reason = "its mode is `UNSET`, which inherits".to_owned();
                left_out.push(policy.left_out(reason));
            }
            (_, mode) => decided = Some(PlannedMutualTls { mode, resource: Some(name) }),
        }
    }
    let default = PlannedMutualTls { mode: MutualTlsMode::Permissive, resource: None };
    let is_inbound = workload.role == WorkloadRole::SidecarInbound;
    (is_inbound.then(|| decided.unwrap_or(default)), left_out)
}

/// The mode for this port.
fn mode(spec: &PeerAuthenticationSpec, port: u16) -> MutualTlsMode {
    let modes = spec.port_modes.as_ref();
    let of_port = modes.and_then(|modes| modes.get(&u32::from(port))).copied().unwrap_or_default();
    if of_port == MutualTlsMode::Unset { spec.mode } else { of_port }
}
