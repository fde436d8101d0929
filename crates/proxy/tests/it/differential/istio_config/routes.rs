//! What a route asks `cors` and `fault` for.

use serde_json::{Value, json};
use wasmplug_api::virtual_service::{CorsPolicy, HttpFault, StringMatch};

pub(super) fn cors(policy: &CorsPolicy) -> Value {
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match":
            policy.allow_origins.iter().map(string_match).collect::<Vec<_>>(),
        "allow_methods": policy.allow_methods.join(","),
        "allow_headers": policy.allow_headers.join(","),
        "expose_headers": policy.expose_headers.join(","),
        "filter_enabled": { "default_value": { "numerator": 100 } },
    });
    if let Some(age) = policy.max_age {
        config["max_age"] = Value::from(age.as_secs().to_string());
    }
    if let Some(allows) = policy.allow_credentials {
        config["allow_credentials"] = Value::from(allows);
    }
    config
}

pub(super) fn fault(fault: &HttpFault) -> Value {
    let percentage = |per_million: Option<u32>| json!({ "numerator": per_million.unwrap_or(1_000_000), "denominator": "MILLION" });
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
    });
    if let Some(delay) = &fault.delay {
        config["delay"] = json!({
            "fixed_delay": format!("{}s", delay.fixed.unwrap().as_secs_f64()),
            "percentage": percentage(delay.per_million),
        });
    }
    if let Some(abort) = &fault.abort {
        config["abort"] = json!({ "percentage": percentage(abort.per_million) });
        match (abort.http_status, abort.grpc_status.as_deref()) {
            (Some(status), _) => config["abort"]["http_status"] = Value::from(status),
            (None, Some("UNAVAILABLE")) => config["abort"]["grpc_status"] = Value::from(14),
            other => panic!("not used by any case: {other:?}"),
        }
    }
    config
}

fn string_match(matcher: &StringMatch) -> Value {
    match (&matcher.exact, &matcher.prefix, &matcher.regex) {
        // Source: Istio writes any origin as an expression.
        (Some(text), ..) if text == "*" => json!({ "safe_regex": { "regex": ".*" } }),
        (Some(text), ..) => json!({ "exact": text }),
        (_, Some(text), _) => json!({ "prefix": text }),
        (.., Some(text)) => json!({ "safe_regex": { "regex": text } }),
        (None, None, None) => panic!("no match at all"),
    }
}
