//! Which resource applies to which workload, listener and port.
//!
//! Source: Istio, `pilot/pkg/model/extensions.go` and `policyattachment.go`.

use super::reach::{Reach, Scope};
use super::{Workload, WorkloadRole};
use crate::selector::{
    GATEWAY_API_GROUP, PolicyTargetReference, TrafficSelector, WAYPOINT_CLASS, WorkloadMode,
    WorkloadSelector,
};

/// How many services a reason lists.
const MAX_LISTED: usize = 3;

/// Where a policy applies, whatever its kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attachment<'a> {
    pub(super) namespace: &'a str,
    pub(super) selector: Option<&'a WorkloadSelector>,
    /// If an object has both in spite of validation, the references decide.
    pub(super) target_refs: &'a [PolicyTargetReference],
}

// === impl Attachment ===

impl Attachment<'_> {
    /// Whose policy it is, or the first clause that keeps it from the workload, for people.
    pub(super) fn check(&self, reach: &Reach<'_>) -> Result<Scope, String> {
        let scope = self.check_namespace(reach)?;
        let workload = reach.workload;
        let outcome = match (self.target_refs, workload.role) {
            ([], WorkloadRole::Waypoint) => {
                Err("a waypoint is reached by targetRefs only, and there are none".into())
            }
            ([], _) => self.check_selector(workload),
            (targets, _) => self.check_targets(targets, reach),
        };
        outcome.map(|()| scope)
    }

    fn check_namespace(&self, reach: &Reach<'_>) -> Result<Scope, String> {
        let namespace = self.namespace;
        let Workload { namespace: own, root_namespace: root, .. } = reach.workload;
        if let Some(scope) = reach.scope(namespace) {
            return Ok(scope);
        }
        Err(match reach.namespaces().count() {
            1 => {
                format!("namespace `{namespace}` is not the workload's and root namespace `{root}`")
            }
            2 => format!(
                "namespace `{namespace}` is neither the workload's `{own}` nor the root namespace \
                 `{root}`"
            ),
            _ => format!(
                "namespace `{namespace}` is neither the workload's `{own}` nor the root namespace \
                 `{root}` nor that of a service"
            ),
        })
    }

    fn check_selector(&self, workload: &Workload) -> Result<(), String> {
        let Some((key, value)) =
            self.selector.and_then(|selector| selector.first_mismatch(&workload.labels))
        else {
            return Ok(());
        };
        Err(match workload.labels.get(key) {
            Some(actual) => {
                format!("selector wants label `{key}={value}`, the workload has `{key}={actual}`")
            }
            None => format!("selector wants label `{key}={value}`, the workload has no `{key}`"),
        })
    }

    /// One of the references must name what the workload belongs to or stands before.
    fn check_targets(
        &self,
        targets: &[PolicyTargetReference],
        reach: &Reach<'_>,
    ) -> Result<(), String> {
        let workload = reach.workload;
        let gateway = workload.gateway();
        if gateway.is_none() && workload.role != WorkloadRole::Waypoint {
            return Err(format!(
                "targetRefs want a gateway, the workload has no label `{}`",
                crate::selector::GATEWAY_NAME_LABEL
            ));
        }
        if targets.iter().any(|target| self.is_target(target, reach)) {
            return Ok(());
        }
        let wants_gateway = targets.iter().any(|of| of.is_kind(GATEWAY_API_GROUP, "Gateway"));
        if wants_gateway && self.namespace != workload.namespace {
            return Err(format!(
                "targetRefs want a gateway in namespace `{}`, the workload is in `{}`",
                self.namespace, workload.namespace
            ));
        }
        let wanted: Vec<_> =
            targets.iter().map(|target| format!("`{}/{}`", target.kind, target.name)).collect();
        let mut actual: Vec<String> =
            gateway.map(|name| format!("of `Gateway/{name}`")).into_iter().collect();
        let served = reach.served();
        actual.extend(served.iter().take(MAX_LISTED).map(|service| {
            let kind = if service.is_service_entry { "ServiceEntry" } else { "Service" };
            let name = &service.name;
            format!("before `{kind}/{}` of namespace `{}`", name.name, name.namespace)
        }));
        if let Some(more @ 1..) = served.len().checked_sub(MAX_LISTED) {
            actual.push(format!("before {more} more services"));
        }
        let actual = if actual.is_empty() { "of no gateway".into() } else { actual.join(" and ") };
        Err(format!("targetRefs want {}, the workload is {actual}", wanted.join(" or ")))
    }

    fn is_target(&self, target: &PolicyTargetReference, reach: &Reach<'_>) -> bool {
        let workload = reach.workload;
        let Workload { namespace, root_namespace, .. } = workload;
        let is_served = |is_service_entry: bool| {
            reach.is_served(is_service_entry, self.namespace, &target.name)
        };
        if target.is_kind("", "Service") {
            is_served(false)
        } else if target.is_kind("networking.istio.io", "ServiceEntry") {
            is_served(true)
        } else if target.is_kind(GATEWAY_API_GROUP, "GatewayClass") {
            workload.role == WorkloadRole::Waypoint
                && self.namespace == root_namespace
                && target.name == WAYPOINT_CLASS
        } else {
            target.is_kind(GATEWAY_API_GROUP, "Gateway")
                && self.namespace == namespace
                && workload.gateway() == Some(target.name.as_str())
                && (target.namespace.is_empty() || target.namespace == *namespace)
        }
    }
}

/// Fails if no alternative of `match` is about the workload's chain and port.
pub(super) fn check_traffic(
    selectors: &[TrafficSelector],
    workload: &Workload,
) -> Result<(), String> {
    let matches = |selector: &TrafficSelector| {
        matches_role(selector.mode, workload.role) && selector.matches_port(workload.port)
    };
    if selectors.is_empty() || selectors.iter().any(matches) {
        return Ok(());
    }
    let wanted: Vec<_> = selectors.iter().map(describe).collect();
    let port = match workload.port {
        0 => "an unknown port".to_owned(),
        port => format!("port {port}"),
    };
    Err(format!("match wants {}, the chain is {} on {port}", wanted.join(" or "), workload.role))
}

fn matches_role(mode: WorkloadMode, role: WorkloadRole) -> bool {
    match mode {
        WorkloadMode::Undefined | WorkloadMode::ClientAndServer => true,
        // A gateway is the client of what is behind it.
        WorkloadMode::Client => {
            matches!(role, WorkloadRole::SidecarOutbound | WorkloadRole::Gateway)
        }
        // A waypoint stands in for the servers behind it.
        WorkloadMode::Server => {
            matches!(role, WorkloadRole::SidecarInbound | WorkloadRole::Waypoint)
        }
    }
}

fn describe(selector: &TrafficSelector) -> String {
    let mode = match selector.mode {
        WorkloadMode::Undefined | WorkloadMode::ClientAndServer => "any mode",
        WorkloadMode::Client => "mode `CLIENT`",
        WorkloadMode::Server => "mode `SERVER`",
    };
    let ports: Vec<_> = selector.ports.iter().map(u32::to_string).collect();
    match ports.as_slice() {
        [] => mode.to_owned(),
        [port] => format!("{mode} on port {port}"),
        ports => format!("{mode} on ports {}", ports.join(", ")),
    }
}
