//! Filters for the policies of a plan.

use std::sync::Arc;

use wasmplug_api::{
    Plan, PlannedAuthorization, PlannedFilter, PlannedPlugin, PluginPhase, PolicyAction,
};

use super::reason;
use crate::filters::built_in::{BuiltInKind, BuiltInSpec};
use crate::filters::ext_authz::ExtAuthz;
use crate::filters::rbac::{Rbac, RbacError, RbacOptions};
use crate::snapshot::{FilterSpec, Refusal, Rejected, RejectedEffect};

/// The filter for requests.
///
/// A policy that cannot be compiled never opens the door: every request is refused. What was good
/// before it is no help, because other policies may have changed with it.
pub(super) fn http(
    authorization: &PlannedAuthorization,
    plan: &Plan,
    rejected: &mut Vec<Rejected>,
) -> FilterSpec {
    let compiled = Rbac::compile(authorization, options(plan, false));
    taken_or_refused(compiled.map(|rbac| BuiltInKind::Rbac(Arc::new(rbac))), rejected)
}

/// The filter that asks an external authorizer; what the mesh does not have is planned otherwise.
pub(super) fn external(
    authorization: &PlannedAuthorization,
    plan: &Plan,
    rejected: &mut Vec<Rejected>,
) -> Option<FilterSpec> {
    let authorizer = authorization.authorizer.as_ref()?;
    let compiled = ExtAuthz::compile(authorization, authorizer, options(plan, false));
    let compiled = compiled.map(|of| BuiltInKind::ExtAuthz(Arc::new(of)));
    Some(taken_or_refused(compiled, rejected))
}

fn taken_or_refused(
    compiled: Result<BuiltInKind, RbacError>,
    rejected: &mut Vec<Rejected>,
) -> FilterSpec {
    match compiled {
        Ok(kind) => FilterSpec::BuiltIn(BuiltInSpec(kind)),
        Err(error) => {
            let with = Refusal::Forbidden;
            rejected.push(Rejected {
                resource: error.resource.clone(),
                reason: reason(&error),
                hint: Some("`wasmplug check` shows what is wrong with the resource".into()),
                effect: RejectedEffect::Refuses(with),
                is_transient: false,
            });
            FilterSpec::Refuse { resource: error.resource, with }
        }
    }
}

/// The same policies for connections that are not HTTP. What is wrong with one is told by [`http`];
/// here it refuses every connection.
pub(super) fn network(plan: &Plan) -> impl Iterator<Item = FilterSpec> {
    plan.filters.iter().filter_map(|filter| {
        let authorization = match filter {
            PlannedFilter::Rbac(authorization) => authorization.clone(),
            // Authorizers are asked about requests only: what a policy wants them to decide about
            // a connection is refused.
            PlannedFilter::ExtAuthz(authorization) => {
                PlannedAuthorization { action: PolicyAction::Deny, ..authorization.clone() }
            }
            _ => return None,
        };
        let compiled = Rbac::compile(&authorization, options(plan, true));
        let rbac = Arc::new(compiled.unwrap_or_else(|_| Rbac::refusing()));
        Some(FilterSpec::BuiltIn(BuiltInSpec(BuiltInKind::NetworkRbac(rbac))))
    })
}

/// Whether connections meet the plugin before policies. Source: Istio, network chains.
pub(super) fn is_in_front(plugin: &PlannedPlugin) -> bool {
    matches!(plugin.phase, PluginPhase::Authn | PluginPhase::Authz)
}

fn options(plan: &Plan, is_tcp: bool) -> RbacOptions {
    let has_plugins =
        if is_tcp { !plan.network_plugins.is_empty() } else { plan.plugins().next().is_some() };
    let is_heard = has_plugins || has_readers(plan);
    RbacOptions { port: plan.port, is_tcp, is_heard }
}

/// Whether a policy looks at what other filters said.
fn has_readers(plan: &Plan) -> bool {
    let authorizations = plan.filters.iter().filter_map(|filter| match filter {
        PlannedFilter::Rbac(authorization) | PlannedFilter::ExtAuthz(authorization) => {
            Some(authorization)
        }
        _ => None,
    });
    let policies = authorizations.flat_map(|authorization| &authorization.policies);
    let mut conditions = policies.flat_map(|policy| &policy.rules).flat_map(|rule| &rule.when);
    conditions.any(|condition| condition.key.starts_with("experimental.envoy.filters."))
}
