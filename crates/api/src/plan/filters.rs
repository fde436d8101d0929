//! The built-in filters of a plan, with all that a data plane needs to run them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use super::WorkloadRole;
use crate::authorization_policy::{PolicyAction, Rule};
use crate::mesh_config::ExternalAuthorizer;
use crate::meta::{NamespacedName, Position};
use crate::peer_authentication::MutualTlsMode;
use crate::request_authentication::JwtRule;
use crate::telemetry::{MetricSelector, TagOverride};

/// `envoy.filters.http.jwt_authn`: the rules of all policies that apply, combined.
///
/// A request passes if any rule verifies its token, or if no rule finds one.
///
/// Source: Istio, `RequestAuthentication`, merged and sorted by issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedAuthentication {
    /// The rules, by issuer and then as they were found.
    pub rules: Vec<PlannedJwtRule>,
    /// The route is chosen anew once a token is verified, because it may depend on claims.
    ///
    /// Source: Istio, gateways and waypoints.
    pub clears_route_cache: bool,
}

/// A rule of a `RequestAuthentication`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedJwtRule {
    /// Name of the provider in Envoy's configuration: `origins-` and the place in the list.
    pub provider: String,
    /// The policy that it is from.
    pub resource: NamespacedName,
    /// Where that was written.
    pub position: Position,
    /// The rule itself.
    pub rule: JwtRule,
}

/// The policies of one action, which are one filter: `envoy.filters.http.rbac`, and for
/// [`PolicyAction::Custom`] `envoy.filters.http.ext_authz` behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedAuthorization {
    /// What a match means.
    pub action: PolicyAction,
    /// Name of the external authorizer, if the policies are `CUSTOM` ones. They have the action
    /// [`PolicyAction::Deny`] if the mesh has no such authorizer.
    pub provider: Option<String>,
    /// That authorizer; only for [`PolicyAction::Custom`].
    pub authorizer: Option<ExternalAuthorizer>,
    /// The policies in the order in which they are tried: those of the root namespace first, then
    /// the workload's, then those of services.
    pub policies: Vec<PlannedPolicy>,
}

/// An `AuthorizationPolicy` that applies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedPolicy {
    /// The policy.
    pub resource: NamespacedName,
    /// Where it was written.
    pub position: Position,
    /// Its matches are only counted.
    pub is_dry_run: bool,
    /// Any of them may match; none matches nothing.
    pub rules: Vec<Rule>,
}

/// `istio.stats`: which metrics are made.
///
/// Source: Istio, `Telemetry`, merged from the mesh to the workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMetrics {
    /// Who gets them.
    pub provider: String,
    /// Who makes them.
    pub reporter: PlannedReporter,
    /// Metrics that are not as Istio has them; all others are.
    pub overrides: Vec<PlannedMetric>,
    /// How often TCP metrics are reported; absent for the default.
    pub reporting_interval: Option<Duration>,
    /// The resources that decided this, from the widest scope to the narrowest.
    pub resources: Vec<NamespacedName>,
}

/// The workload that metrics are about, as they tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedReporter {
    /// Where it stands: at the client's or at the server's end.
    pub role: WorkloadRole,
    /// Its name; absent if it is not known.
    pub workload: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Service by which requests come to it; absent if it is not known.
    pub service: Option<NamespacedName>,
}

/// A metric that is not as Istio has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMetric {
    /// Which one.
    pub metric: MetricSelector,
    /// It is not made.
    pub is_disabled: bool,
    /// What becomes of its labels.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// What routes ask one filter for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedRoutes<T> {
    /// The routes, by the age of their resources and then as they are written.
    pub routes: Vec<PlannedRoute<T>>,
}

/// What one route asks a filter for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedRoute<T> {
    /// The `VirtualService` that it is from.
    pub resource: NamespacedName,
    /// Where that was written.
    pub position: Position,
    /// Hosts that it is for.
    pub hosts: Vec<String>,
    /// Name of the route, empty if it has none.
    pub route: String,
    /// Alternatives of requests that it is for, as typed, without those that are for other
    /// workloads; none means all.
    #[serde(rename = "match")]
    pub match_: Vec<Value>,
    /// What it asks for; nothing if it only takes requests away from those behind it.
    pub policy: Option<T>,
}

/// Whether connections to the workload must be mutual TLS; not a filter, but what connections find
/// before the first one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedMutualTls {
    /// Never [`MutualTlsMode::Unset`].
    pub mode: MutualTlsMode,
    /// The policy that decided; absent for the mesh's default.
    pub resource: Option<NamespacedName>,
}

// === impl PlannedAuthorization ===

impl PlannedAuthorization {
    /// Whether it can refuse a request: it does more than count and mark.
    pub fn is_enforcing(&self) -> bool {
        self.action != PolicyAction::Audit && self.policies.iter().any(|policy| !policy.is_dry_run)
    }

    /// What a rule is called in response details and in metadata.
    ///
    /// Source: Istio, names of RBAC policies.
    pub fn rule_id(&self, policy: &PlannedPolicy, rule: usize) -> String {
        let NamespacedName { namespace, name } = &policy.resource;
        let id = format!("ns[{namespace}]-policy[{name}]-rule[{rule}]");
        match &self.provider {
            Some(provider) if self.action == PolicyAction::Custom => {
                format!("istio-ext-authz-{provider}-{id}")
            }
            Some(provider) => {
                format!("istio-ext-authz-{provider}-{id}-deny-due-to-bad-CUSTOM-action")
            }
            None => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authorization(action: PolicyAction, is_dry_run: bool) -> PlannedAuthorization {
        let position = Position { file: "a.yaml".into(), line: 1, column: 1 };
        let resource = NamespacedName::new("ns", "a");
        let policy = PlannedPolicy { resource, position, is_dry_run, rules: Vec::new() };
        PlannedAuthorization { action, provider: None, authorizer: None, policies: vec![policy] }
    }

    #[test]
    fn rules_are_called_as_in_istio() {
        let mut authorization = authorization(PolicyAction::Deny, false);
        let policy = authorization.policies[0].clone();
        assert_eq!(authorization.rule_id(&policy, 2), "ns[ns]-policy[a]-rule[2]");
        authorization.provider = Some("ext".into());
        let id = authorization.rule_id(&policy, 0);
        let bad = "istio-ext-authz-ext-ns[ns]-policy[a]-rule[0]-deny-due-to-bad-CUSTOM-action";
        assert_eq!(id, bad);
        authorization.action = PolicyAction::Custom;
        let id = authorization.rule_id(&policy, 0);
        assert_eq!(id, "istio-ext-authz-ext-ns[ns]-policy[a]-rule[0]");
    }

    #[test]
    fn what_only_counts_or_marks_refuses_nothing() {
        assert!(authorization(PolicyAction::Allow, false).is_enforcing());
        assert!(authorization(PolicyAction::Custom, false).is_enforcing());
        assert!(!authorization(PolicyAction::Audit, false).is_enforcing());
        assert!(!authorization(PolicyAction::Deny, true).is_enforcing());
    }
}
