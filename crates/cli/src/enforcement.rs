//! What a plan asks for and the data plane does not do; nobody may rely on it unknowingly.

use wasmplug_api::{
    AuthorizerProtocol, MutualTlsMode, NamespacedName, Plan, PlannedAuthorization, PlannedFilter,
    PolicyAction, Position, Resource,
};
use wasmplug_proxy::UpstreamProtocol;

/// What the data plane runs besides plugins; everything here depends on these alone.
const RUNS_JWT_AUTHN: bool = true;
const RUNS_RBAC: bool = true;
const RUNS_EXT_AUTHZ: bool = true;
const RUNS_STATS: bool = true;
const RUNS_FAULT: bool = true;
const RUNS_CORS: bool = true;
const RUNS_MUTUAL_TLS: bool = false;

/// A policy that would have to refuse something.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unenforced {
    pub(crate) kind: &'static str,
    pub(crate) resource: NamespacedName,
    /// Where it was written, if the plan knows.
    pub(crate) position: Option<Position>,
    /// What happens instead.
    pub(crate) effect: &'static str,
}

/// Policies apply that the data plane cannot enforce.
#[derive(Debug, thiserror::Error)]
#[error("the workload has policies that this version cannot enforce: {}", list(.0))]
pub(crate) struct UnenforcedPolicies(Vec<Unenforced>);

/// Hint for [`UnenforcedPolicies`].
pub(crate) const UNENFORCED_HINT: &str = "nothing is served, because requests would pass unchecked; leave these resources out of `-f` \
     to serve without them";

/// Refuses a plan that relies on more than the data plane does.
///
/// # Errors
/// [`UnenforcedPolicies`], with all of them.
pub(crate) fn require_enforced(plan: &Plan) -> Result<(), UnenforcedPolicies> {
    match unenforced(plan) {
        none if none.is_empty() => Ok(()),
        some => Err(UnenforcedPolicies(some)),
    }
}

/// An external authorizer that cannot be asked from here.
#[derive(Debug, thiserror::Error)]
#[error("the external authorizer `{name}` has no address here: there is no cluster `{cluster}`")]
pub(crate) struct UnknownAuthorizer {
    name: String,
    cluster: String,
    /// What an address of it looks like.
    example: String,
}

/// Refuses a plan whose external authorizers have no address, or one that speaks something else.
///
/// # Errors
/// [`UnknownAuthorizer`], for the first of them.
pub(crate) fn require_authorizers(
    plan: &Plan,
    address: impl Fn(&str) -> Option<UpstreamProtocol>,
) -> Result<(), UnknownAuthorizer> {
    for filter in &plan.filters {
        let PlannedFilter::ExtAuthz(PlannedAuthorization { authorizer: Some(of), .. }) = filter
        else {
            continue;
        };
        let is_grpc = of.protocol == AuthorizerProtocol::Grpc;
        let found = address(&of.cluster());
        let is_fine = found.is_some_and(|found| !is_grpc || found == UpstreamProtocol::Http2);
        if !is_fine {
            let scheme = if is_grpc { "h2c://" } else { "" };
            let (host, port) = (of.host(), of.port);
            return Err(UnknownAuthorizer {
                name: of.name.clone(),
                cluster: of.cluster(),
                example: format!("--cluster '{host}:{port}={scheme}127.0.0.1:{port}'"),
            });
        }
    }
    Ok(())
}

// === impl UnknownAuthorizer ===

impl UnknownAuthorizer {
    /// What could be done about it.
    pub(crate) fn hint(&self) -> String {
        format!("name its address, such as {}", self.example)
    }
}

/// Whether the data plane runs a filter of the plan.
pub(crate) fn is_run(filter: &PlannedFilter) -> bool {
    match filter {
        PlannedFilter::Wasm(_) | PlannedFilter::Router => true,
        PlannedFilter::JwtAuthn(_) => RUNS_JWT_AUTHN,
        PlannedFilter::Rbac(_) => RUNS_RBAC,
        PlannedFilter::ExtAuthz(_) => RUNS_EXT_AUTHZ,
        PlannedFilter::Stats(_) => RUNS_STATS,
        PlannedFilter::Fault(_) => RUNS_FAULT,
        PlannedFilter::Cors(_) => RUNS_CORS,
    }
}

/// The policies of a plan that would have to refuse something, and cannot.
pub(crate) fn unenforced(plan: &Plan) -> Vec<Unenforced> {
    let mut found = Vec::new();
    for filter in plan.filters.iter().filter(|filter| !is_run(filter)) {
        match filter {
            PlannedFilter::JwtAuthn(authentication) => {
                for rule in &authentication.rules {
                    let unenforced = Unenforced {
                        kind: "RequestAuthentication",
                        resource: rule.resource.clone(),
                        position: Some(rule.position.clone()),
                        effect: "tokens are not verified",
                    };
                    // A policy has several rules, which need not be neighbours.
                    if !found.contains(&unenforced) {
                        found.push(unenforced);
                    }
                }
            }
            PlannedFilter::ExtAuthz(authorization) | PlannedFilter::Rbac(authorization)
                if authorization.is_enforcing() =>
            {
                found.extend(policies(authorization));
            }
            PlannedFilter::ExtAuthz(_)
            | PlannedFilter::Rbac(_)
            | PlannedFilter::Wasm(_)
            | PlannedFilter::Fault(_)
            | PlannedFilter::Cors(_)
            | PlannedFilter::Stats(_)
            | PlannedFilter::Router => {}
        }
    }
    if let Some(tls) = &plan.mutual_tls
        && tls.mode == MutualTlsMode::Strict
        && !RUNS_MUTUAL_TLS
    {
        found.extend(tls.resource.iter().map(|resource| Unenforced {
            kind: "PeerAuthentication",
            resource: resource.clone(),
            position: None,
            effect: "connections in plain text are accepted",
        }));
    }
    found
}

fn policies(authorization: &PlannedAuthorization) -> impl Iterator<Item = Unenforced> {
    let in_effect = authorization.policies.iter().filter(|policy| !policy.is_dry_run);
    in_effect.map(|policy| Unenforced {
        kind: "AuthorizationPolicy",
        resource: policy.resource.clone(),
        position: Some(policy.position.clone()),
        effect: "requests are not authorized",
    })
}

/// Whether `wasmplug run` does what a resource asks for, wherever it applies.
pub(crate) fn is_enforced(resource: &Resource) -> bool {
    match resource {
        Resource::RequestAuthentication(policy) => {
            RUNS_JWT_AUTHN || policy.spec.jwt_rules.is_empty()
        }
        Resource::AuthorizationPolicy(policy) => match policy.spec.action {
            PolicyAction::Audit => true,
            PolicyAction::Custom => RUNS_EXT_AUTHZ || policy.is_dry_run(),
            PolicyAction::Deny | PolicyAction::Allow => RUNS_RBAC || policy.is_dry_run(),
        },
        Resource::PeerAuthentication(policy) => {
            let ports = policy.spec.port_modes.iter().flat_map(|modes| modes.values());
            let mut modes = ports.chain([&policy.spec.mode]);
            RUNS_MUTUAL_TLS || !modes.any(|mode| *mode == MutualTlsMode::Strict)
        }
        _ => true,
    }
}

fn list(policies: &[Unenforced]) -> String {
    let text = |policy: &Unenforced| format!("{} {}", policy.kind, policy.resource);
    policies.iter().map(text).collect::<Vec<_>>().join(", ")
}
