//! `AuthorizationPolicy` exactly as Istio's schema spells it.
//!
//! Source: Istio API, `security/v1beta1/authorization_policy.proto`.

use serde::Serialize;

use crate::meta::{DRY_RUN_ANNOTATION, Object};
use crate::selector::{PolicyTargetReference, WorkloadSelector};

/// An `AuthorizationPolicy` object.
pub type AuthorizationPolicy = Object<AuthorizationPolicySpec>;

/// `spec` of an `AuthorizationPolicy`, field by field, nothing resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationPolicySpec {
    /// `selector`: the workloads it applies to; absent means all of the namespace.
    pub selector: Option<WorkloadSelector>,
    /// `targetRef`: deprecated singular form, used only if `target_refs` is empty.
    pub target_ref: Option<PolicyTargetReference>,
    /// `targetRefs`: the objects it applies to.
    pub target_refs: Vec<PolicyTargetReference>,
    /// `rules`: any of them may match; none never matches, which as `ALLOW` refuses everything.
    pub rules: Vec<Rule>,
    /// `action`: what a match means.
    pub action: PolicyAction,
    /// `provider.name`: the external authorizer of a `CUSTOM` policy.
    pub provider: Option<String>,
}

/// What a matching request meets.
///
/// Ordered as Envoy's filters are: a request meets `CUSTOM` first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PolicyAction {
    /// An external authorizer decides.
    Custom,
    /// It is marked for logging, without effect.
    Audit,
    /// It is refused.
    Deny,
    /// It passes; what no policy of this kind matches is refused.
    #[default]
    Allow,
}

/// Matches a request if some source, some operation and every condition does; an empty list does
/// not restrict.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// `from[].source`.
    pub from: Vec<Source>,
    /// `to[].operation`.
    pub to: Vec<Operation>,
    /// `when`.
    pub when: Vec<Condition>,
}

/// Values of one attribute: one of `values` must match if there are any, none of `not_values` may.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueMatch {
    /// The values to look for, as typed.
    pub values: Vec<String>,
    /// The values to refuse, as typed.
    pub not_values: Vec<String>,
}

/// Who sends a request; every attribute that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Identity of the peer's certificate, without `spiffe://`.
    pub principals: ValueMatch,
    /// Issuer and subject of the token, with a slash between.
    pub request_principals: ValueMatch,
    /// Namespace in the peer's identity.
    pub namespaces: ValueMatch,
    /// Service account in the peer's identity, as `NAMESPACE/NAME` or `NAME`.
    pub service_accounts: ValueMatch,
    /// Trust domain in the peer's identity.
    pub trust_domains: ValueMatch,
    /// Address of the peer, single or as a block.
    pub ip_blocks: ValueMatch,
    /// Address of the client as trusted proxies tell it, single or as a block.
    pub remote_ip_blocks: ValueMatch,
}

/// What a request wants; every attribute that is given must match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// `:authority`, whatever its case.
    pub hosts: ValueMatch,
    /// Port that the connection was made to.
    pub ports: ValueMatch,
    /// Method.
    pub methods: ValueMatch,
    /// Path without its query.
    pub paths: ValueMatch,
}

/// A further attribute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which one, such as `request.headers[x-token]`.
    pub key: String,
    /// What it must be.
    #[serde(flatten)]
    pub values: ValueMatch,
}

// === impl ValueMatch ===

impl ValueMatch {
    /// Whether the attribute is not looked at.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.not_values.is_empty()
    }
}

// === impl Source ===

impl Source {
    /// Every attribute with the names of its two fields.
    pub fn attributes(&self) -> [(&'static str, &'static str, &ValueMatch); 7] {
        [
            ("principals", "notPrincipals", &self.principals),
            ("requestPrincipals", "notRequestPrincipals", &self.request_principals),
            ("namespaces", "notNamespaces", &self.namespaces),
            ("serviceAccounts", "notServiceAccounts", &self.service_accounts),
            ("trustDomains", "notTrustDomains", &self.trust_domains),
            ("ipBlocks", "notIpBlocks", &self.ip_blocks),
            ("remoteIpBlocks", "notRemoteIpBlocks", &self.remote_ip_blocks),
        ]
    }
}

// === impl Operation ===

impl Operation {
    /// Every attribute with the names of its two fields.
    pub fn attributes(&self) -> [(&'static str, &'static str, &ValueMatch); 4] {
        [
            ("hosts", "notHosts", &self.hosts),
            ("ports", "notPorts", &self.ports),
            ("methods", "notMethods", &self.methods),
            ("paths", "notPaths", &self.paths),
        ]
    }
}

// === impl PolicyAction ===

impl PolicyAction {
    /// The name that authors write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Custom => "CUSTOM",
            Self::Audit => "AUDIT",
            Self::Deny => "DENY",
            Self::Allow => "ALLOW",
        }
    }
}

// === impl AuthorizationPolicy ===

impl AuthorizationPolicy {
    /// Whether it is only tried out: its matches are counted and decide nothing.
    ///
    /// Source: Istio, annotation `istio.io/dry-run`.
    pub fn is_dry_run(&self) -> bool {
        self.meta.annotations.get(DRY_RUN_ANNOTATION).is_some_and(|value| is_true(value))
    }
}

/// Source: Go, `strconv.ParseBool`.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}
