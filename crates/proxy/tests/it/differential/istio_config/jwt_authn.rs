//! The `jwt_authn` filter that Istio generates for `RequestAuthentication`.

use serde_json::{Map, Value, json};
use wasmplug_api::{PlannedAuthentication, PlannedJwtRule};

/// What Istio puts in the place of keys that it could not fetch: a key that nobody has.
const THROW_AWAY_KEY: &str = r#"{"keys":[{"e":"AQAB","kid":"abc","kty":"RSA","n":"_EMl6yH5oDANCsbF_NPxCBXiAlnow6vMET0Mlbd58BTCrBMirsClxxpZsR4ruhYtA4FTed39-NV9Z0eKnv0Gej_J9tWgiAVJuTGFfo8VuK3NV1--unDPajkFXbpHf7ZNnPgxWwOCYbgsCHDcjymSqmTBccrYzRkba4L6g7RacZGACzEROZkBn765saluji5CqPFYcPBfR4-VAr3N7-D5NYRwkX3T98VTa-E7sGe2ZbsMt2URruXvKbJev2HV47fCaFlCOvEp6lp02S-VGycIXNfpsFbZVoYD0dI6dM15jRWFwooeKKaU0QvxSOcvaAW5o7COT8UAGpyvQg5IhDWRzw"}]}"#;

pub(super) fn filter(planned: &PlannedAuthentication) -> Value {
    let providers: Map<String, Value> = planned
        .rules
        .iter()
        .map(|rule| (rule.provider.clone(), provider(rule, planned.clears_route_cache)))
        .collect();
    json!({
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.\
                      JwtAuthentication",
            "providers": providers,
            "rules": [{ "match": { "prefix": "/" }, "requires": requirement(planned) }],
            "bypass_cors_preflight": true,
        },
    })
}

/// One of the rules, or that each of them finds nothing.
fn requirement(planned: &PlannedAuthentication) -> Value {
    let any =
        |requirements: Vec<Value>| json!({ "requires_any": { "requirements": requirements } });
    let named: Vec<Value> =
        planned.rules.iter().map(|rule| json!({ "provider_name": rule.provider })).collect();
    let mut optional: Vec<Value> =
        named.iter().map(|rule| any(vec![rule.clone(), json!({ "allow_missing": {} })])).collect();
    if optional.len() == 1 {
        return optional.remove(0);
    }
    let all = json!({ "requires_all": { "requirements": optional } });
    any(named.into_iter().chain([all]).collect())
}

fn provider(planned: &PlannedJwtRule, clears_route_cache: bool) -> Value {
    let rule = &planned.rule;
    let headers = rule.from_headers.iter();
    let headers = headers.map(|it| json!({ "name": it.name, "value_prefix": it.prefix }));
    let claims = rule.output_claim_to_headers.iter();
    let claims = claims.map(|it| json!({ "header_name": it.header, "claim_name": it.claim }));
    let own = rule.space_delimited_claims.iter().map(String::as_str);
    let space_delimited: Vec<&str> = ["scope", "permission"].into_iter().chain(own).collect();
    json!({
        "issuer": rule.issuer,
        "audiences": rule.audiences,
        "local_jwks": { "inline_string": rule.jwks.as_deref().unwrap_or(THROW_AWAY_KEY) },
        "forward": rule.forward_original_token,
        "from_headers": headers.collect::<Vec<Value>>(),
        "from_params": rule.from_params,
        "from_cookies": rule.from_cookies,
        "forward_payload_header": rule.output_payload_to_header.as_deref().unwrap_or_default(),
        "claim_to_headers": claims.collect::<Vec<Value>>(),
        "payload_in_metadata": "payload",
        "normalize_payload_in_metadata": { "space_delimited_claims": space_delimited },
        "clear_route_cache": clears_route_cache,
    })
}
