//! The rules of `AuthorizationPolicy`.
//!
//! Source: Istio API, `security/v1beta1/authorization_policy.proto`; Istio, the validating webhook.

use super::Violations;
use super::attachment::{Targets, attachment};
use super::condition_key::ConditionKey;
use super::values::{ip_block, port};
use crate::authorization_policy::{
    AuthorizationPolicySpec, Condition, Operation, PolicyAction, Rule, Source, ValueMatch,
};
use crate::diagnostic::quoted;
use crate::field_path::FieldPath;

const MAX_SERVICE_ACCOUNTS: usize = 16;
const MAX_SERVICE_ACCOUNT_LEN: usize = 320;

/// Fields of a source that an external authorizer's policy cannot use.
const NOT_FOR_CUSTOM: [&str; 5] =
    ["namespaces", "serviceAccounts", "trustDomains", "principals", "requestPrincipals"];

/// The rules of `spec`, which is at `path`.
pub(crate) fn authorization_policy(
    spec: &AuthorizationPolicySpec,
    path: &FieldPath,
    v: &mut Violations,
) {
    let targets = Targets {
        selector: spec.selector.as_ref(),
        target_ref: spec.target_ref.as_ref(),
        target_refs: &spec.target_refs,
    };
    attachment(&targets, path, v);
    let is_custom = spec.action == PolicyAction::Custom;
    match &spec.provider {
        Some(name) if is_custom && name.is_empty() => {
            v.error(path.field("provider").field("name"), "must not be empty");
        }
        None if is_custom => {
            let hint = "name an external authorizer".to_owned();
            v.error_with_hint(path.field("provider"), "is required for `CUSTOM`", Some(hint));
        }
        Some(_) if !is_custom => {
            let message =
                format!("can be set only for `CUSTOM`, not for `{}`", spec.action.as_str());
            v.error(path.field("provider"), message);
        }
        Some(_) | None => {}
    }
    if spec.rules.is_empty() && matches!(spec.action, PolicyAction::Custom | PolicyAction::Deny) {
        let message = format!("without rules, `{}` never matches", spec.action.as_str());
        let hint = "add the empty rule `{}` to match every request".to_owned();
        v.error_with_hint(path.field("rules"), message, Some(hint));
    }
    for (index, rule) in spec.rules.iter().enumerate() {
        check_rule(rule, spec.action, &path.field("rules").index(index), v);
    }
}

fn check_rule(rule: &Rule, action: PolicyAction, path: &FieldPath, v: &mut Violations) {
    for (index, source) in rule.from.iter().enumerate() {
        check_source(source, action, &path.field("from").index(index).field("source"), v);
    }
    for (index, operation) in rule.to.iter().enumerate() {
        check_operation(operation, &path.field("to").index(index).field("operation"), v);
    }
    for (index, condition) in rule.when.iter().enumerate() {
        check_condition(condition, action, &path.field("when").index(index), v);
    }
    if action == PolicyAction::Deny && is_of_http_only(rule) {
        let message = "looks at HTTP only, so that connections which are not HTTP are all refused";
        let hint = "give the `ports` that are meant";
        v.warning(path.clone(), message, hint);
    }
}

/// Whether the rule has attributes, and a connection that is not HTTP has none of them.
fn is_of_http_only(rule: &Rule) -> bool {
    let sources = rule.from.iter().flat_map(Source::attributes);
    let operations = rule.to.iter().flat_map(Operation::attributes);
    let mut given = sources.chain(operations).filter(|(.., values)| !values.is_empty()).peekable();
    let is_restricted = given.peek().is_some() || !rule.when.is_empty();
    let is_http = |name| matches!(name, "requestPrincipals" | "hosts" | "methods" | "paths");
    let is_http_condition = |condition: &Condition| {
        ConditionKey::parse(&condition.key).is_ok_and(|key| !key.is_of_connections())
    };
    is_restricted
        && given.all(|(name, ..)| is_http(name))
        && rule.when.iter().all(is_http_condition)
}

fn check_source(source: &Source, action: PolicyAction, path: &FieldPath, v: &mut Violations) {
    let attributes = source.attributes();
    if attributes.iter().all(|(.., values)| values.is_empty()) {
        v.error(path.clone(), "must not be empty");
    }
    for (name, not_name, values) in attributes {
        each(values, name, not_name, path, v, |text, path, v| {
            if matches!(name, "ipBlocks" | "remoteIpBlocks") {
                ip_block(text, path, v);
            } else if name == "serviceAccounts" {
                service_account(text, path, v);
            }
        });
        if action == PolicyAction::Custom && NOT_FOR_CUSTOM.contains(&name) {
            for (name, list) in [(name, &values.values), (not_name, &values.not_values)] {
                if !list.is_empty() {
                    v.error(path.field(name), "is not supported with `CUSTOM`");
                }
            }
        }
    }
    let accounts = &source.service_accounts;
    for (name, list) in
        [("serviceAccounts", &accounts.values), ("notServiceAccounts", &accounts.not_values)]
    {
        v.count(&path.field(name), list.len(), MAX_SERVICE_ACCOUNTS);
    }
    let has_other_identity = !source.namespaces.is_empty() || !source.principals.is_empty();
    if has_other_identity && !accounts.is_empty() {
        let message = "cannot be set together with namespaces or principals";
        v.error(path.field("serviceAccounts"), message);
    }
}

fn service_account(text: &str, path: FieldPath, v: &mut Violations) {
    v.length(&path, text, MAX_SERVICE_ACCOUNT_LEN);
    if text.contains('*') {
        v.error(path, "cannot contain the wildcard `*`");
    } else if text.matches('/').count() > 1 || text.split('/').any(str::is_empty) {
        v.error(path, "must have the form `NAMESPACE/NAME` or `NAME`");
    }
}

fn check_operation(operation: &Operation, path: &FieldPath, v: &mut Violations) {
    let attributes = operation.attributes();
    if attributes.iter().all(|(.., values)| values.is_empty()) {
        v.error(path.clone(), "must not be empty");
    }
    for (name, not_name, values) in attributes {
        each(values, name, not_name, path, v, |text, path, v| match name {
            "ports" => port(text, path, v),
            "paths" => path_template(text, path, v),
            _ => {}
        });
    }
}

fn check_condition(
    condition: &Condition,
    action: PolicyAction,
    path: &FieldPath,
    v: &mut Violations,
) {
    let key_path = path.field("key");
    if condition.values.is_empty() {
        v.error(path.clone(), "one of `values` and `notValues` is required");
    }
    if condition.key.is_empty() {
        v.error(key_path, "must not be empty");
        return;
    }
    let key = match ConditionKey::parse(&condition.key) {
        Ok(key) => key,
        Err(message) => return v.error(key_path, message),
    };
    if action == PolicyAction::Custom && matches!(key, ConditionKey::Peer | ConditionKey::Token) {
        let message = format!("`{}` is not supported with `CUSTOM`", quoted(&condition.key));
        v.error(key_path, message);
    }
    each(&condition.values, "values", "notValues", path, v, |text, path, v| match key {
        ConditionKey::Address => ip_block(text, path, v),
        ConditionKey::Port => port(text, path, v),
        _ => {}
    });
}

/// Refuses empty values and looks at the others.
fn each(
    values: &ValueMatch,
    name: &'static str,
    not_name: &'static str,
    path: &FieldPath,
    v: &mut Violations,
    check: impl Fn(&str, FieldPath, &mut Violations),
) {
    for (name, list) in [(name, &values.values), (not_name, &values.not_values)] {
        for (index, text) in list.iter().enumerate() {
            let path = path.field(name).index(index);
            if text.is_empty() {
                v.error(path, "must not be empty");
            } else {
                check(text, path, v);
            }
        }
    }
}

/// Checks the operators `{*}` and `{**}`.
///
/// Source: Envoy, URI template matching, which refuses the whole listener for the others; Istio,
/// the validating webhook.
fn path_template(text: &str, path: FieldPath, v: &mut Violations) {
    if !text.contains(['{', '}']) {
        return;
    }
    let Some(segments) = text.strip_prefix('/') else {
        return v.error(path, "a template must begin with `/`");
    };
    let mut after_rest = false;
    let mut segments = segments.split('/').peekable();
    while let Some(segment) = segments.next() {
        let message = match segment {
            "{*}" | "{**}" if after_rest => Some("`{**}` must be the last operator".to_owned()),
            "{*}" => None,
            "{**}" => {
                after_rest = true;
                None
            }
            _ if segment.contains(['{', '}']) => {
                let segment = quoted(segment);
                Some(format!("the segment `{segment}` must be `{{*}}`, `{{**}}` or without braces"))
            }
            "" if segments.peek().is_some() => {
                Some("a segment of a template must not be empty".to_owned())
            }
            _ if !segment.bytes().all(is_of_path) => {
                let segment = quoted(segment);
                Some(format!("the segment `{segment}` has characters that no path has"))
            }
            _ if segment.contains('*') => {
                Some(format!("the segment `{}` must be literal in a template", quoted(segment)))
            }
            _ => None,
        };
        if let Some(message) = message {
            return v.error(path, message);
        }
    }
}

/// Source: RFC 3986, `pchar`.
fn is_of_path(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@".contains(&byte)
}
