//! A rule of a policy: who may do what, and under which conditions.

use http::HeaderName;
use wasmplug_api::PolicyAction;
use wasmplug_api::authorization_policy::{Condition, Operation, Rule, Source, ValueMatch};

use super::address::IpBlock;
use super::attribute::Attribute;
use super::claims::{RequestPrincipal, ValueAt};
use super::string_match::{StringMatch, port};
use super::subject::Subject;
use super::{Cause, identity, template};

/// A compiled rule: some source and some operation must match, and every condition.
#[derive(Debug)]
pub(super) struct CompiledRule {
    sources: Vec<Vec<Check>>,
    operations: Vec<Vec<Check>>,
    conditions: Vec<Check>,
}

/// An attribute: one of the values if there are any, none of the others.
#[derive(Debug)]
struct Check {
    any: Vec<Attribute>,
    none: Vec<Attribute>,
}

/// What is the same for all rules of a policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) action: PolicyAction,
    /// Namespace of the policy, for service accounts without one.
    pub(super) namespace: &'a str,
    /// Connections are judged, which have nothing of HTTP.
    pub(super) is_tcp: bool,
}

/// Why a value is no use.
enum Unusable {
    /// What is judged never has the attribute.
    OfHttpOnly,
    /// It is wrong.
    Wrong(Cause),
}

// === impl CompiledRule ===

impl CompiledRule {
    /// `None` if the rule cannot match what is judged: an `ALLOW` rule with attributes of HTTP, for
    /// connections. Other rules go on without such attributes and match more.
    ///
    /// Source: Istio, which so never allows more nor refuses less than was written.
    pub(super) fn compile(rule: &Rule, scope: Scope<'_>) -> Result<Option<Self>, Cause> {
        let compiled = Self::try_compile(rule, scope);
        match compiled {
            Ok(rule) => Ok(Some(rule)),
            Err(Unusable::OfHttpOnly) => Ok(None),
            Err(Unusable::Wrong(cause)) => Err(cause),
        }
    }

    fn try_compile(rule: &Rule, scope: Scope<'_>) -> Result<Self, Unusable> {
        let sources = rule.from.iter().map(|source| source_checks(source, scope));
        let operations = rule.to.iter().map(|operation| operation_checks(operation, scope));
        let conditions = rule.when.iter().map(|condition| {
            check(&condition.values, scope, |value| condition_value(condition, value, scope))
        });
        Ok(Self {
            sources: sources.collect::<Result<_, _>>()?,
            operations: operations.collect::<Result<_, _>>()?,
            conditions: conditions.filter_map(Result::transpose).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        let all = |checks: &[Check]| checks.iter().all(|check| check.passes(subject));
        let any = |lists: &[Vec<Check>]| lists.is_empty() || lists.iter().any(|list| all(list));
        any(&self.operations) && any(&self.sources) && all(&self.conditions)
    }
}

// === impl Check ===

impl Check {
    fn passes(&self, subject: &Subject<'_>) -> bool {
        let is_one_of = |values: &[Attribute]| values.iter().any(|value| value.matches(subject));
        (self.any.is_empty() || is_one_of(&self.any)) && !is_one_of(&self.none)
    }
}

impl From<Cause> for Unusable {
    fn from(cause: Cause) -> Self {
        Self::Wrong(cause)
    }
}

/// One attribute with all its values; `None` if it says nothing.
fn check(
    values: &ValueMatch,
    scope: Scope<'_>,
    compile: impl Fn(&str) -> Result<Attribute, Unusable>,
) -> Result<Option<Check>, Unusable> {
    let list = |texts: &[String]| {
        let mut list = Vec::with_capacity(texts.len());
        for text in texts {
            match compile(text) {
                Ok(value) => list.push(value),
                Err(Unusable::OfHttpOnly) if scope.action != PolicyAction::Allow => {}
                Err(error) => return Err(error),
            }
        }
        Ok(list)
    };
    let check = Check { any: list(&values.values)?, none: list(&values.not_values)? };
    Ok((!check.any.is_empty() || !check.none.is_empty()).then_some(check))
}

fn source_checks(source: &Source, scope: Scope<'_>) -> Result<Vec<Check>, Unusable> {
    let peer = |compiled: Result<StringMatch, Cause>| Ok(Attribute::Peer(compiled?));
    let namespace = scope.namespace;
    let checks = [
        check(&source.principals, scope, |value| peer(identity::principal(value)))?,
        check(&source.request_principals, scope, |value| request_principal(value, scope))?,
        check(&source.namespaces, scope, |value| peer(identity::namespace(value)))?,
        check(&source.service_accounts, scope, |value| {
            peer(identity::service_account(value, namespace))
        })?,
        check(&source.trust_domains, scope, |value| peer(identity::trust_domain(value)))?,
        check(&source.ip_blocks, scope, |value| Ok(Attribute::Source(IpBlock::parse(value)?)))?,
        check(&source.remote_ip_blocks, scope, |value| {
            Ok(Attribute::Remote(IpBlock::parse(value)?))
        })?,
    ];
    Ok(checks.into_iter().flatten().collect())
}

fn operation_checks(operation: &Operation, scope: Scope<'_>) -> Result<Vec<Check>, Unusable> {
    let checks = [
        check(&operation.hosts, scope, |value| {
            http_only(scope)?;
            Ok(Attribute::Host(StringMatch::parse(value)))
        })?,
        check(&operation.ports, scope, |value| Ok(Attribute::Port(port(value)?)))?,
        check(&operation.methods, scope, |value| {
            http_only(scope)?;
            Ok(header(":method", value)?)
        })?,
        check(&operation.paths, scope, |value| {
            http_only(scope)?;
            Ok(Attribute::Path(if template::is_template(value) {
                template::compile(value)?
            } else {
                StringMatch::parse(value)
            }))
        })?,
    ];
    Ok(checks.into_iter().flatten().collect())
}

/// Source: Istio, "Authorization Policy Conditions".
fn condition_value(
    condition: &Condition,
    value: &str,
    scope: Scope<'_>,
) -> Result<Attribute, Unusable> {
    let peer = |compiled: Result<StringMatch, Cause>| Ok(Attribute::Peer(compiled?));
    let claim = |names: &[&str]| {
        http_only(scope)?;
        Ok(Attribute::Metadata(ValueAt::claim(names, value)))
    };
    let key = condition.key.as_str();
    match key {
        "source.ip" => Ok(Attribute::Source(IpBlock::parse(value)?)),
        "remote.ip" => Ok(Attribute::Remote(IpBlock::parse(value)?)),
        "destination.ip" => Ok(Attribute::Destination(IpBlock::parse(value)?)),
        "destination.port" => Ok(Attribute::Port(port(value)?)),
        "connection.sni" => Ok(Attribute::ServerName(StringMatch::parse(value))),
        "source.principal" => peer(identity::principal(value)),
        "source.namespace" => peer(identity::namespace(value)),
        "source.serviceAccount" => peer(identity::service_account(value, scope.namespace)),
        "source.trustDomain" => peer(identity::trust_domain(value)),
        "request.auth.principal" => request_principal(value, scope),
        "request.auth.audiences" => claim(&["aud"]),
        "request.auth.presenter" => claim(&["azp"]),
        _ => {
            if let Some(name) = key.strip_prefix("request.headers") {
                http_only(scope)?;
                let names = names_in_brackets(name)?;
                let [name] = names.as_slice() else { return Err(Cause::Key.into()) };
                return Ok(header(name, value)?);
            }
            if let Some(names) = key.strip_prefix("request.auth.claims") {
                return claim(&names_in_brackets(names)?);
            }
            if key.starts_with("experimental.envoy.filters.") {
                let place = key.trim_start_matches("experimental.");
                return Ok(Attribute::Metadata(ValueAt::metadata(place, value)?));
            }
            Err(Cause::Key.into())
        }
    }
}

fn request_principal(value: &str, scope: Scope<'_>) -> Result<Attribute, Unusable> {
    http_only(scope)?;
    Ok(Attribute::RequestPrincipal(RequestPrincipal::parse(value)))
}

fn http_only(scope: Scope<'_>) -> Result<(), Unusable> {
    if scope.is_tcp { Err(Unusable::OfHttpOnly) } else { Ok(()) }
}

fn header(name: &str, value: &str) -> Result<Attribute, Cause> {
    let mut name = name.to_ascii_lowercase();
    let token = name.strip_prefix(':').unwrap_or(&name);
    if HeaderName::from_bytes(token.as_bytes()).is_err() {
        return Err(Cause::HeaderName);
    }
    if name == "host" {
        // Envoy knows it under one name only.
        ":authority".clone_into(&mut name);
    }
    let name = name.into_bytes().into_boxed_slice();
    Ok(match StringMatch::parse(value) {
        StringMatch::NonEmpty => Attribute::HeaderPresent(name),
        value => Attribute::Header(name, value),
    })
}

/// The names of `[a][b]`.
fn names_in_brackets(text: &str) -> Result<Vec<&str>, Cause> {
    let mut names = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let inside = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (name, after) = inside.filter(|(name, _)| !name.is_empty()).ok_or(Cause::Key)?;
        names.push(name);
        rest = after;
    }
    if names.is_empty() { Err(Cause::Key) } else { Ok(names) }
}
