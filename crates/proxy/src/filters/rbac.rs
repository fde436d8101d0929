//! `envoy.filters.http.rbac`: marks, refuses or lets pass by `AuthorizationPolicy`.
//!
//! [`Rbac`] is compiled once of the plan, when a snapshot is built, and shared by workers and
//! streams. Connections that are not HTTP are judged by the same code.
//! Source: Istio, which makes permissions and principals of policies; Envoy, which judges by them.

mod address;
mod attribute;
mod claims;
mod identity;
mod rule;
mod string_match;
mod subject;
mod template;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use wasmplug_api::{NamespacedName, PlannedAuthorization, PolicyAction};
use wasmplug_host::{Fields, LocalReply};

pub(crate) use self::address::{canonical, client};
use self::rule::{CompiledRule, Scope};
pub(crate) use self::subject::{Metadata, Subject};
use super::built_in::BuiltInFilter;
use crate::attributes::StreamShared;
use crate::filter::{HeadersOutcome, Interrupt, Side};

/// The filter's name in Envoy, which is that of its dynamic metadata.
pub(crate) const NAME: &str = "envoy.filters.http.rbac";

/// The name of its twin for connections that are not HTTP.
pub(crate) const NETWORK_NAME: &str = "envoy.filters.network.rbac";

/// Where Envoy says whether an `AUDIT` policy wants the request to be logged.
const COMMON: &str = "envoy.common";
const ACCESS_LOG_HINT: &str = "access_log_hint";

/// All policies of one action, compiled.
#[derive(Debug)]
pub(crate) struct Rbac {
    action: PolicyAction,
    /// Policies in effect; `None` if there are none at all, and then nothing is decided.
    enforced: Option<RuleSet>,
    /// Policies that are tried out.
    shadow: Option<RuleSet>,
    /// Port that policies mean; absent for that of the listener.
    port: Option<u16>,
    /// Somebody may read what the filter says about a stream.
    is_heard: bool,
    /// The policies' names, for dumps.
    policies: Vec<(String, bool)>,
}

/// What a filter needs to know besides its policies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RbacOptions {
    /// Port that policies mean; absent for that of the listener.
    pub(crate) port: Option<u16>,
    /// Connections are judged, not requests.
    pub(crate) is_tcp: bool,
    /// Somebody may read what the filter says about a stream.
    pub(crate) is_heard: bool,
}

/// Rules by their ids, in the order of these, which is the one in which Envoy tries them.
#[derive(Debug)]
struct RuleSet(Vec<(String, CompiledRule)>);

/// A policy that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[error("cannot use rule {rule} of the `AuthorizationPolicy` `{resource}`")]
pub(crate) struct RbacError {
    pub(crate) resource: NamespacedName,
    /// Number of the rule, from 0.
    rule: usize,
    #[source]
    cause: Cause,
}

/// What is wrong with a value.
#[derive(Debug, thiserror::Error)]
enum Cause {
    #[error("an address must be like `10.0.0.1` or `10.0.0.0/8`")]
    Address,
    #[error("a port must be a number from 0 to 65535")]
    Port,
    #[error("a key of `when` is not known")]
    Key,
    #[error("the name of a header is not valid")]
    HeaderName,
    #[error("a template of a path is not valid: {0}")]
    Template(&'static str),
    #[error("a value is too long or not valid")]
    Regex(#[source] Box<regex::Error>),
}

/// What policies say about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict<'a> {
    pub(crate) is_allowed: bool,
    /// The rule that matched; `None` if none did.
    pub(crate) rule: Option<&'a str>,
}

/// What becomes of what was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision<'a> {
    Passes,
    /// By this rule, or because no rule matched.
    Refused(Option<&'a str>),
}

/// The names under which a verdict is told.
#[derive(Clone, Copy, Debug)]
struct Keys {
    rule: &'static str,
    result: &'static str,
}

const ENFORCED_KEYS: Keys =
    Keys { rule: "enforced_effective_policy_id", result: "enforced_engine_result" };

/// Source: Istio's prefix for `CUSTOM` policies.
const CUSTOM_KEYS: Keys = Keys {
    rule: "istio_ext_authz_shadow_effective_policy_id",
    result: "istio_ext_authz_shadow_engine_result",
};

/// The filter of one stream.
#[derive(Debug)]
pub(crate) struct RbacFilter {
    rbac: Arc<Rbac>,
    stream: Rc<StreamShared>,
}

// === impl Rbac ===

impl Rbac {
    /// Compiles the policies of one action.
    ///
    /// # Errors
    /// [`RbacError`] for the first rule that cannot be compiled; resources that were validated have
    /// none.
    pub(crate) fn compile(
        authorization: &PlannedAuthorization,
        options: RbacOptions,
    ) -> Result<Self, RbacError> {
        let set = |is_dry_run: bool| -> Result<Option<RuleSet>, RbacError> {
            let is_used = authorization.policies.iter().any(|of| of.is_dry_run == is_dry_run);
            is_used.then(|| RuleSet::compile(authorization, is_dry_run, options)).transpose()
        };
        let (enforced, shadow) = (set(false)?, set(true)?);
        let policies = authorization.policies.iter();
        Ok(Self {
            action: authorization.action,
            enforced,
            shadow,
            port: options.port,
            is_heard: options.is_heard,
            policies: policies.map(|of| (of.resource.to_string(), of.is_dry_run)).collect(),
        })
    }

    /// Refuses everything, in the place of policies that cannot be compiled.
    pub(crate) fn refusing() -> Self {
        Self {
            action: PolicyAction::Allow,
            enforced: Some(RuleSet(Vec::new())),
            shadow: None,
            port: None,
            is_heard: false,
            policies: Vec::new(),
        }
    }

    /// What the policies in effect say; `None` if there are none.
    pub(crate) fn judge(&self, subject: &Subject<'_>) -> Option<Verdict<'_>> {
        self.enforced.as_ref().map(|rules| rules.judge(self.action, subject))
    }

    /// What the policies say that are only tried out; `None` if there are none.
    pub(crate) fn try_out(&self, subject: &Subject<'_>) -> Option<Verdict<'_>> {
        self.shadow.as_ref().map(|rules| rules.judge(self.action, subject))
    }

    /// Under which names a dry run is told. Source: Istio, prefixes of shadow rules.
    fn dry_run_keys(&self) -> Keys {
        match self.action {
            PolicyAction::Allow => Keys {
                rule: "istio_dry_run_allow_shadow_effective_policy_id",
                result: "istio_dry_run_allow_shadow_engine_result",
            },
            PolicyAction::Deny => Keys {
                rule: "istio_dry_run_deny_shadow_effective_policy_id",
                result: "istio_dry_run_deny_shadow_engine_result",
            },
            PolicyAction::Audit | PolicyAction::Custom => {
                Keys { rule: "shadow_effective_policy_id", result: "shadow_engine_result" }
            }
        }
    }

    /// What it was made of, for people and scripts.
    pub(crate) fn dump(&self, name: &str) -> Value {
        let policies = self
            .policies
            .iter()
            .map(|(resource, is_dry_run)| json!({ "resource": resource, "dry_run": is_dry_run }));
        json!({
            "filter": name,
            "action": self.action,
            "policies": policies.collect::<Vec<Value>>(),
        })
    }

    pub(crate) fn new_filter(self: &Arc<Self>, stream: &Rc<StreamShared>) -> RbacFilter {
        RbacFilter { rbac: Arc::clone(self), stream: Rc::clone(stream) }
    }

    /// Whether a connection that is not HTTP may go on.
    pub(crate) fn admits_connection(&self, stream: &StreamShared) -> bool {
        self.apply(stream, None, NETWORK_NAME) == Decision::Passes
    }

    /// Judges, counts and says what came of it in the name of `filter`.
    fn apply(&self, stream: &StreamShared, headers: Option<&Fields>, filter: &str) -> Decision<'_> {
        let (tried, judged) = {
            let metadata = stream.metadata();
            let subject = stream.subject(self.port, headers, &metadata);
            (self.try_out(&subject), self.judge(&subject))
        };
        let counters = stream.rbac_counters(headers.is_some());
        if let Some(tried) = tried {
            counters.count_shadow(self.action, tried.is_allowed);
            if self.is_heard {
                say(stream, filter, self.dry_run_keys(), tried);
            }
        }
        let Some(judged) = judged else { return Decision::Passes };
        counters.count(judged.is_allowed);
        if self.is_heard {
            say(stream, filter, ENFORCED_KEYS, judged);
            if self.action == PolicyAction::Audit {
                stream.set_metadata(COMMON, ACCESS_LOG_HINT, judged.rule.is_some().into());
            }
        }
        if judged.is_allowed { Decision::Passes } else { Decision::Refused(judged.rule) }
    }
}

/// Says which `CUSTOM` policy wants an authorizer to be asked, as a filter of Istio's says it whose
/// policies refuse nothing.
pub(crate) fn say_custom(stream: &StreamShared, verdict: Verdict<'_>) {
    let is_allowed = verdict.rule.is_none();
    say(stream, NAME, CUSTOM_KEYS, Verdict { is_allowed, ..verdict });
}

/// Says what policies decided. Source: Envoy, dynamic metadata of the filter.
fn say(stream: &StreamShared, filter: &str, keys: Keys, verdict: Verdict<'_>) {
    if let Some(rule) = verdict.rule {
        stream.set_metadata(filter, keys.rule, rule.into());
    }
    let result = if verdict.is_allowed { "allowed" } else { "denied" };
    stream.set_metadata(filter, keys.result, result.into());
}

// === impl RuleSet ===

impl RuleSet {
    fn compile(
        authorization: &PlannedAuthorization,
        is_dry_run: bool,
        options: RbacOptions,
    ) -> Result<Self, RbacError> {
        let mut rules = Vec::new();
        for policy in authorization.policies.iter().filter(|of| of.is_dry_run == is_dry_run) {
            let scope = Scope {
                action: authorization.action,
                namespace: &policy.resource.namespace,
                is_tcp: options.is_tcp,
            };
            for (number, rule) in policy.rules.iter().enumerate() {
                let compiled = CompiledRule::compile(rule, scope).map_err(|cause| RbacError {
                    resource: policy.resource.clone(),
                    rule: number,
                    cause,
                })?;
                let id = authorization.rule_id(policy, number);
                rules.extend(compiled.map(|compiled| (id, compiled)));
            }
        }
        rules.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Self(rules))
    }

    fn judge(&self, action: PolicyAction, subject: &Subject<'_>) -> Verdict<'_> {
        let found = self.0.iter().find(|(_, rule)| rule.matches(subject));
        let is_allowed = match action {
            PolicyAction::Allow | PolicyAction::Custom => found.is_some(),
            PolicyAction::Deny => found.is_none(),
            PolicyAction::Audit => true,
        };
        Verdict { is_allowed, rule: found.map(|(id, _)| id.as_str()) }
    }
}

// === impl RbacFilter ===

impl BuiltInFilter for RbacFilter {
    fn on_headers(
        &mut self,
        _side: Side,
        headers: Fields,
        _end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        match self.rbac.apply(&self.stream, Some(&headers), NAME) {
            Decision::Passes => Ok(HeadersOutcome::Continue(headers)),
            Decision::Refused(rule) => Err(refuse(rule)),
        }
    }
}

/// Source: Envoy's answer.
fn refuse(rule: Option<&str>) -> Interrupt {
    let rule = rule.unwrap_or("none").replace(|c: char| c.is_ascii_whitespace(), "_");
    Interrupt::LocalReply(LocalReply {
        status: 403,
        details: format!("rbac_access_denied_matched_policy[{rule}]"),
        body: Bytes::from_static(b"RBAC: access denied"),
        headers: Vec::new(),
        grpc_status: u32::MAX,
    })
}
