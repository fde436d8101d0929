//! The filter that asks an external authorizer, as Istio makes it of the mesh's settings.

use serde_json::{Value, json};
use wasmplug_api::{
    AuthorizerProtocol, CheckedBody, ExternalAuthorizer, HttpAuthorizer, PlannedAuthorization,
};

pub(super) fn http_filter(authorization: &PlannedAuthorization) -> Value {
    let authorizer = authorization.authorizer.as_ref().expect("the mesh has it");
    let mut config = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "failure_mode_allow": authorizer.fail_open,
        "clear_route_cache": authorizer.clear_route_cache,
        "status_on_error": { "code": authorizer.status_on_error.unwrap_or(403) },
        "filter_enabled_metadata": {
            "filter": "envoy.filters.http.rbac",
            "path": [{ "key": "istio_ext_authz_shadow_effective_policy_id" }],
            "value": {
                "string_match": { "prefix": format!("istio-ext-authz-{}-", authorizer.name) },
            },
        },
    });
    if let Some(CheckedBody { max_bytes, allow_partial, pack_as_bytes }) = authorizer.request_body {
        config["with_request_body"] = json!({
            "max_request_bytes": max_bytes,
            "allow_partial_message": allow_partial,
            "pack_as_bytes": pack_as_bytes,
        });
    }
    let timeout = authorizer.timeout.unwrap_or(ExternalAuthorizer::DEFAULT_TIMEOUT);
    let timeout = format!("{}s", timeout.as_secs_f64());
    match &authorizer.protocol {
        AuthorizerProtocol::Http(http) => {
            if !http.request_headers.is_empty() {
                config["allowed_headers"] = patterns(&http.request_headers);
            }
            config["http_service"] = http_service(authorizer, http, &timeout);
        }
        AuthorizerProtocol::Grpc => {
            config["grpc_service"] = json!({
                "envoy_grpc": {
                    "cluster_name": authorizer.cluster(),
                    "authority": authorizer.service,
                },
                "timeout": timeout,
            });
        }
    }
    json!({ "name": "envoy.filters.http.ext_authz", "typed_config": config })
}

fn http_service(authorizer: &ExternalAuthorizer, http: &HttpAuthorizer, timeout: &str) -> Value {
    let additional: Vec<Value> = http
        .additional_headers
        .iter()
        .map(|(key, value)| json!({ "key": key, "value": value }))
        .collect();
    let mut response = json!({});
    for (field, names) in [
        ("allowed_upstream_headers", &http.to_upstream_on_allow),
        ("allowed_client_headers", &http.to_downstream_on_deny),
        ("allowed_client_headers_on_success", &http.to_downstream_on_allow),
    ] {
        if !names.is_empty() {
            response[field] = patterns(names);
        }
    }
    json!({
        "server_uri": {
            "uri": format!("http://{}:{}", authorizer.service, authorizer.port),
            "cluster": authorizer.cluster(),
            "timeout": timeout,
        },
        "path_prefix": http.path_prefix,
        "authorization_request": { "headers_to_add": additional },
        "authorization_response": response,
    })
}

fn patterns(names: &[String]) -> Value {
    let pattern = |name: &String| {
        let (kind, text) = match (name.strip_prefix('*'), name.strip_suffix('*')) {
            (Some(suffix), _) => ("suffix", suffix),
            (_, Some(prefix)) => ("prefix", prefix),
            _ => ("exact", name.as_str()),
        };
        json!({ kind: text, "ignore_case": true })
    };
    json!({ "patterns": names.iter().map(pattern).collect::<Vec<_>>() })
}
