//! What a plan asks for and the data plane does not do; nobody may rely on it unknowingly.

use wasmplug_api::{
    AuthorizerProtocol, MutualTlsMode, NamespacedName, Plan, PlannedAuthorization, PlannedFilter,
    Resource,
};
use wasmplug_proxy::UpstreamProtocol;

/// A policy that would have to refuse something.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unenforced {
    pub(crate) kind: &'static str,
    pub(crate) resource: NamespacedName,
    /// What happens instead.
    pub(crate) effect: &'static str,
}

/// Policies apply that a listener like this one cannot enforce.
#[derive(Debug, thiserror::Error)]
#[error("the workload has policies that this listener cannot enforce: {}", list(.0))]
pub(crate) struct UnenforcedPolicies(Vec<Unenforced>);

/// Hint for [`UnenforcedPolicies`].
pub(crate) const UNENFORCED_HINT: &str = "nothing is served, because requests would pass unchecked; give `--tls-cert`, `--tls-key` and \
     `--tls-client-ca` for mutual TLS, or leave these resources out of `-f` to serve without them";

/// Refuses a plan that relies on more than the data plane does; `verifies_clients` if the listener
/// has authorities for mutual TLS.
///
/// # Errors
/// [`UnenforcedPolicies`], with all of them.
pub(crate) fn require_enforced(
    plan: &Plan,
    verifies_clients: bool,
) -> Result<(), UnenforcedPolicies> {
    match unenforced(plan) {
        _ if verifies_clients => Ok(()),
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

/// The policies of a plan that would have to refuse something, and cannot on a listener that
/// verifies no clients.
pub(crate) fn unenforced(plan: &Plan) -> Vec<Unenforced> {
    let strict = plan.mutual_tls.iter().filter(|_| plan.requires_mutual_tls());
    let resources = strict.filter_map(|tls| tls.resource.clone());
    resources
        .map(|resource| Unenforced {
            kind: "PeerAuthentication",
            resource,
            effect: "it would accept connections in plain text",
        })
        .collect()
}

/// Whether `wasmplug run` does what a resource asks for, wherever it applies and whatever its
/// listener is.
pub(crate) fn is_enforced(resource: &Resource) -> bool {
    let Resource::PeerAuthentication(policy) = resource else { return true };
    let ports = policy.spec.port_modes.iter().flat_map(|modes| modes.values());
    ports.chain([&policy.spec.mode]).all(|mode| *mode != MutualTlsMode::Strict)
}

fn list(policies: &[Unenforced]) -> String {
    let text = |policy: &Unenforced| format!("{} {}", policy.kind, policy.resource);
    policies.iter().map(text).collect::<Vec<_>>().join(", ")
}
