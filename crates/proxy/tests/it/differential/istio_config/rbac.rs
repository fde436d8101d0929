//! The RBAC filter that Istio makes of policies: a permission for each operation, a principal for
//! each source, and conditions in the one or the other.

use serde_json::{Map, Value, json};
use wasmplug_api::authorization_policy::{Condition, Rule, ValueMatch};
use wasmplug_api::{PlannedAuthorization, PolicyAction};

/// The filter for the policies of one action.
pub(super) fn http_filter(authorization: &PlannedAuthorization) -> Value {
    let rules = |is_dry_run: bool| {
        let policies = authorization.policies.iter().filter(|of| of.is_dry_run == is_dry_run);
        let policies: Vec<_> = policies.collect();
        let action = match authorization.action {
            PolicyAction::Allow => "ALLOW",
            // An external authorizer stands behind rules that refuse nothing: they are shadow rules.
            PolicyAction::Deny | PolicyAction::Custom => "DENY",
            PolicyAction::Audit => "LOG",
        };
        let named = policies.iter().flat_map(|policy| {
            policy.rules.iter().enumerate().map(|(number, rule)| {
                let namespace = &policy.resource.namespace;
                (authorization.rule_id(policy, number), of_rule(rule, namespace))
            })
        });
        let named: Map<String, Value> = named.collect();
        (!policies.is_empty()).then(|| json!({ "action": action, "policies": named }))
    };
    let (enforced, shadow) = match authorization.action {
        PolicyAction::Custom => (None, rules(false)),
        _ => (rules(false), rules(true)),
    };
    let prefix = match (&shadow, authorization.action) {
        (Some(_), PolicyAction::Deny) => "istio_dry_run_deny_",
        (Some(_), PolicyAction::Audit) => "",
        (_, PolicyAction::Custom) => "istio_ext_authz_",
        _ => "istio_dry_run_allow_",
    };
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
        "shadow_rules_stat_prefix": prefix,
    });
    if let Some(enforced) = enforced {
        config["rules"] = enforced;
    }
    if let Some(shadow) = shadow {
        config["shadow_rules"] = shadow;
    }
    json!({ "name": "envoy.filters.http.rbac", "typed_config": config })
}

fn of_rule(rule: &Rule, namespace: &str) -> Value {
    let conditions = |are_permissions: bool| {
        let conditions = rule.when.iter();
        let conditions = conditions.filter(move |of| is_permission(&of.key) == are_permissions);
        conditions.flat_map(move |of| condition(of, namespace, are_permissions))
    };
    let all = |given: Vec<Value>, are_permissions: bool| {
        let mut all = given;
        all.extend(conditions(are_permissions));
        if all.is_empty() {
            all.push(json!({ "any": true }));
        }
        if are_permissions {
            json!({ "and_rules": { "rules": all } })
        } else {
            json!({ "and_ids": { "ids": all } })
        }
    };
    let permissions = rule.to.iter().map(|operation| {
        let attributes = operation.attributes().into_iter().rev();
        let each = attributes
            .flat_map(|(name, _, values)| check(values, true, |value| permission(name, value)));
        all(each.collect(), true)
    });
    let principals = rule.from.iter().map(|source| {
        let attributes = source.attributes().into_iter();
        let each = attributes.flat_map(|(name, _, values)| {
            check(values, false, |value| principal(name, value, namespace))
        });
        all(each.collect(), false)
    });
    let or_any = |list: Vec<Value>, are_permissions| {
        if list.is_empty() { vec![all(Vec::new(), are_permissions)] } else { list }
    };
    json!({
        "permissions": or_any(permissions.collect(), true),
        "principals": or_any(principals.collect(), false),
    })
}

fn is_permission(key: &str) -> bool {
    key.starts_with("destination.")
        || key == "connection.sni"
        || key.starts_with("experimental.envoy.filters.")
}

/// One of the values, and none of the others.
fn check(
    values: &ValueMatch,
    are_permissions: bool,
    compile: impl Fn(&str) -> Value,
) -> Vec<Value> {
    let any = |texts: &[String]| {
        let list: Vec<Value> = texts.iter().map(|text| compile(text)).collect();
        if are_permissions {
            json!({ "or_rules": { "rules": list } })
        } else {
            json!({ "or_ids": { "ids": list } })
        }
    };
    let not = if are_permissions { "not_rule" } else { "not_id" };
    let mut checks = Vec::new();
    if !values.values.is_empty() {
        checks.push(any(&values.values));
    }
    if !values.not_values.is_empty() {
        checks.push(json!({ not: any(&values.not_values) }));
    }
    checks
}

fn permission(attribute: &str, value: &str) -> Value {
    match attribute {
        "hosts" => header(":authority", value, true),
        "methods" => header(":method", value, false),
        "ports" => json!({ "destination_port": value.parse::<u16>().unwrap() }),
        "paths" if value.contains("{*}") || value.contains("{**}") => {
            let template = value.replace("{*}", "*").replace("{**}", "**");
            let config = json!({
                "@type": "type.googleapis.com/\
                          envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
                "path_template": template,
            });
            json!({ "uri_template": { "name": "uri-template", "typed_config": config } })
        }
        "paths" => json!({ "url_path": { "path": string(value) } }),
        _ => panic!("no operation `{attribute}`"),
    }
}

fn principal(attribute: &str, value: &str, namespace: &str) -> Value {
    let regex = |regex: String| json!({ "authenticated": { "principal_name": { "safe_regex": { "regex": regex } } } });
    match attribute {
        "principals" => {
            let value = match value.strip_prefix('*') {
                Some("") => return regex(".+".into()),
                Some(suffix) => return regex(format!("spiffe://.*{suffix}")),
                None => string(&format!("spiffe://{value}")),
            };
            json!({ "authenticated": { "principal_name": value } })
        }
        "requestPrincipals" => request_principal(value),
        "namespaces" => regex(format!(".*/ns/{}/.*", value.replace('*', ".*"))),
        "serviceAccounts" => {
            let (namespace, account) = value.split_once('/').unwrap_or((namespace, value));
            regex(format!("spiffe://.+/ns/{namespace}/(.+/|)sa/{account}(/.+)?"))
        }
        "trustDomains" if value == "*" => regex(".+".into()),
        "trustDomains" => regex(format!("spiffe://{}/.*", value.replace('*', "[^/]*"))),
        "ipBlocks" => json!({ "direct_remote_ip": block(value) }),
        "remoteIpBlocks" => json!({ "remote_ip": block(value) }),
        _ => panic!("no source `{attribute}`"),
    }
}

fn condition(condition: &Condition, namespace: &str, are_permissions: bool) -> Vec<Value> {
    let key = condition.key.as_str();
    check(&condition.values, are_permissions, |value| match key {
        "destination.ip" => json!({ "destination_ip": block(value) }),
        "destination.port" => permission("ports", value),
        "connection.sni" => json!({ "requested_server_name": string(value) }),
        "source.ip" => principal("ipBlocks", value, namespace),
        "remote.ip" => principal("remoteIpBlocks", value, namespace),
        "source.principal" => principal("principals", value, namespace),
        "source.namespace" => principal("namespaces", value, namespace),
        "source.serviceAccount" => principal("serviceAccounts", value, namespace),
        "source.trustDomain" => principal("trustDomains", value, namespace),
        "request.auth.principal" => request_principal(value),
        "request.auth.audiences" => claim(&["aud"], value),
        "request.auth.presenter" => claim(&["azp"], value),
        _ => {
            let names = |text: &str| -> Vec<String> {
                text.split(['[', ']']).filter(|name| !name.is_empty()).map(str::to_owned).collect()
            };
            if let Some(name) = key.strip_prefix("request.headers") {
                header(&names(name)[0], value, false)
            } else if let Some(claims) = key.strip_prefix("request.auth.claims") {
                let names = names(claims);
                claim(&names.iter().map(String::as_str).collect::<Vec<_>>(), value)
            } else {
                let place = key.strip_prefix("experimental.").unwrap();
                let (filter, key) = place.trim_end_matches(']').split_once('[').unwrap();
                let value = match value.strip_prefix('[') {
                    Some(value) => list(&string(value.trim_end_matches(']'))),
                    None => json!({ "string_match": string(value) }),
                };
                metadata(filter, &[key], &value)
            }
        }
    })
}

/// Source: Istio, the table of `requestPrincipals`.
fn request_principal(value: &str) -> Value {
    let any = || string("*");
    let suffix = |text: &str| if text.is_empty() { any() } else { json!({ "suffix": text }) };
    let prefix = |text: &str| if text.is_empty() { any() } else { json!({ "prefix": text }) };
    let exact = |text: &str| json!({ "exact": text });
    let (issuer, subject) = match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => (any(), any()),
        (Some(rest), _) => match rest.rsplit_once('/') {
            Some((issuer, subject)) => (suffix(issuer), exact(subject)),
            None => (any(), suffix(rest)),
        },
        (None, Some(rest)) => match rest.rsplit_once('/') {
            Some((issuer, subject)) => (exact(issuer), prefix(subject)),
            None => (prefix(rest), any()),
        },
        (None, None) => {
            let (issuer, subject) = value.rsplit_once('/').unwrap_or((value, ""));
            (exact(issuer), exact(subject))
        }
    };
    let of = |name: &str, value: Value| {
        let value = json!({ "string_match": value });
        metadata("envoy.filters.http.jwt_authn", &["payload", name], &value)
    };
    json!({ "and_ids": { "ids": [of("iss", issuer), of("sub", subject)] } })
}

fn claim(names: &[&str], value: &str) -> Value {
    let path: Vec<&str> = std::iter::once("payload").chain(names.iter().copied()).collect();
    let of_list = list(&string(value));
    let either = json!({
        "or_match": { "value_matchers": [of_list, { "string_match": string(value) }] },
    });
    metadata("envoy.filters.http.jwt_authn", &path, &either)
}

fn list(value: &Value) -> Value {
    let one_of = json!({ "string_match": value });
    json!({ "list_match": { "one_of": one_of } })
}

fn metadata(filter: &str, path: &[&str], value: &Value) -> Value {
    let path: Vec<Value> = path.iter().map(|key| json!({ "key": key })).collect();
    json!({ "metadata": { "filter": filter, "path": path, "value": value } })
}

fn header(name: &str, value: &str, ignore_case: bool) -> Value {
    if value == "*" {
        return json!({ "header": { "name": name, "present_match": true } });
    }
    let mut value = string(value);
    if ignore_case {
        value["ignore_case"] = true.into();
    }
    json!({ "header": { "name": name, "string_match": value } })
}

fn string(value: &str) -> Value {
    match (value.strip_prefix('*'), value.strip_suffix('*')) {
        (Some(""), _) => json!({ "safe_regex": { "regex": ".+" } }),
        (Some(suffix), _) => json!({ "suffix": suffix }),
        (None, Some(prefix)) => json!({ "prefix": prefix }),
        (None, None) => json!({ "exact": value }),
    }
}

fn block(value: &str) -> Value {
    let (address, bits) = match value.split_once('/') {
        Some((address, bits)) => (address, bits.parse::<u32>().unwrap()),
        None if value.contains(':') => (value, 128),
        None => (value, 32),
    };
    json!({ "address_prefix": address, "prefix_len": bits })
}
