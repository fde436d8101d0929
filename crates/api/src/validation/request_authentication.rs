//! The rules of `RequestAuthentication`.
//!
//! Source: Istio API, `security/v1beta1/request_authentication.proto`; Istio, the validating
//! webhook.

use serde_json::Value;
use url::Url;

use super::Violations;
use super::attachment::{Targets, attachment};
use super::values::{is_header_name, is_token};
use crate::diagnostic::{quoted, with_causes};
use crate::field_path::FieldPath;
use crate::request_authentication::{JwtRule, RequestAuthenticationSpec};

const MAX_RULES: usize = 4096;
const MAX_SPACE_DELIMITED_CLAIMS: usize = 64;

/// Members of a JSON Web Key that only its owner may know.
///
/// Source: RFC 7518, sections 6.2.2, 6.3.2 and 6.4.1.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The rules of `spec`, which is at `path`.
pub(crate) fn request_authentication(
    spec: &RequestAuthenticationSpec,
    path: &FieldPath,
    v: &mut Violations,
) {
    let targets = Targets {
        selector: spec.selector.as_ref(),
        target_ref: spec.target_ref.as_ref(),
        target_refs: &spec.target_refs,
    };
    attachment(&targets, path, v);
    let path = path.field("jwtRules");
    v.count(&path, spec.jwt_rules.len(), MAX_RULES);
    for (index, rule) in spec.jwt_rules.iter().take(MAX_RULES).enumerate() {
        jwt_rule(rule, &path.index(index), v);
    }
}

fn jwt_rule(rule: &JwtRule, path: &FieldPath, v: &mut Violations) {
    if rule.issuer.is_empty() && rule.jwks_uri.is_none() {
        let hint = "an issuer without `jwks` is asked for its keys by discovery".to_owned();
        let message = "one of `issuer` and `jwksUri` is required";
        v.error_with_hint(path.clone(), message, Some(hint));
    }
    if rule.jwks.is_some() && rule.jwks_uri.is_some() {
        v.error(path.field("jwks"), "only one of `jwks` and `jwksUri` can be set");
    }
    if let Some(uri) = &rule.jwks_uri {
        jwks_uri(uri, path.field("jwksUri"), v);
    }
    if let Some(jwks) = &rule.jwks {
        key_set(jwks, &path.field("jwks"), v);
    }
    not_empty(&rule.audiences, &path.field("audiences"), v);
    not_empty(&rule.from_params, &path.field("fromParams"), v);
    not_empty(&rule.from_cookies, &path.field("fromCookies"), v);
    for (index, header) in rule.from_headers.iter().enumerate() {
        if header.name.is_empty() {
            v.error(path.field("fromHeaders").index(index).field("name"), "must not be empty");
        }
    }
    if let Some(header) = rule.output_payload_to_header.as_ref().filter(|it| !is_token(it)) {
        // Istio takes it, and no request can carry it.
        let message = format!("`{}` is not the name of a header", quoted(header));
        v.error(path.field("outputPayloadToHeader"), message);
    }
    for (index, output) in rule.output_claim_to_headers.iter().enumerate() {
        let path = path.field("outputClaimToHeaders").index(index);
        if output.header.is_empty() {
            v.error(path.field("header"), "must not be empty");
        } else if !is_header_name(&output.header) {
            let message = format!("`{}` is not the name of a header", quoted(&output.header));
            v.error(path.field("header"), message);
        }
        if output.claim.is_empty() {
            v.error(path.field("claim"), "must not be empty");
        }
    }
    let claims = &rule.space_delimited_claims;
    let path = path.field("spaceDelimitedClaims");
    v.count(&path, claims.len(), MAX_SPACE_DELIMITED_CLAIMS);
    not_empty(claims, &path, v);
}

fn not_empty(texts: &[String], path: &FieldPath, v: &mut Violations) {
    for (index, _) in texts.iter().enumerate().filter(|(_, text)| text.is_empty()) {
        v.error(path.index(index), "must not be empty");
    }
}

fn jwks_uri(text: &str, path: FieldPath, v: &mut Violations) {
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") => {
            let message = format!("the scheme must be `http` or `https`, not `{}`", url.scheme());
            v.error(path, message);
        }
        Ok(_) => {}
        Err(error) => v.error(path, format!("is not a URL: {}", with_causes(&error))),
    }
}

/// Source: RFC 7517, section 5.
fn key_set(text: &str, path: &FieldPath, v: &mut Violations) {
    // The parser's message could show a part of a key.
    let Ok(set) = serde_json::from_str::<Value>(text) else {
        return v.error(path.clone(), "is not JSON");
    };
    let Some(keys) = set.get("keys").and_then(Value::as_array) else {
        return v.error(path.clone(), "has no list `keys`");
    };
    for (index, key) in keys.iter().enumerate() {
        let Some(key) = key.as_object() else {
            v.error(path.clone(), format!("the key at index {index} is not an object"));
            continue;
        };
        if !key.get("kty").is_some_and(Value::is_string) {
            v.error(path.clone(), format!("the key at index {index} has no type `kty`"));
        }
        if PRIVATE_MEMBERS.iter().any(|member| key.contains_key(*member)) {
            let message = format!("the key at index {index} contains private key material");
            let hint = "only public keys are needed; whoever reads this file can sign tokens";
            v.warning(path.clone(), message, hint);
        }
    }
}
