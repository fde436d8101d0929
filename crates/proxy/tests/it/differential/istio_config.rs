//! The configuration that Istio would give Envoy for what a plan asks for besides plugins.

mod ext_authz;
mod jwt_authn;
mod rbac;
mod routes;

use serde_json::{Map, Value, json};
use wasmplug_api::{PathNormalization, Plan, PlannedFilter};

/// The filters that stand in Envoy's chain for one filter of the plan.
pub(super) fn http_filters(filter: &PlannedFilter) -> Vec<Value> {
    match filter {
        // The router is there in any case, and Istio's metrics are made by Istio's own Envoy.
        PlannedFilter::Wasm(_) | PlannedFilter::Router | PlannedFilter::Stats(_) => Vec::new(),
        PlannedFilter::JwtAuthn(planned) => vec![jwt_authn::filter(planned)],
        PlannedFilter::Rbac(authorization) => vec![rbac::http_filter(authorization)],
        PlannedFilter::Cors(_) => vec![json!({
            "name": "envoy.filters.http.cors",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors",
            },
        })],
        PlannedFilter::Fault(_) => vec![json!({
            "name": "envoy.filters.http.fault",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault",
            },
        })],
        PlannedFilter::ExtAuthz(authorization) => {
            vec![rbac::http_filter(authorization), ext_authz::http_filter(authorization)]
        }
    }
}

/// Settings of the one route: what the first route of the plan asks filters for.
pub(super) fn route(plan: &Plan) -> Map<String, Value> {
    let mut filters = Map::new();
    for filter in &plan.filters {
        match filter {
            PlannedFilter::Cors(routes) => {
                let policy = routes.routes[0].policy.as_ref().expect("the first route asks");
                filters.insert("envoy.filters.http.cors".into(), routes::cors(policy));
            }
            PlannedFilter::Fault(routes) => {
                let fault = routes.routes[0].policy.as_ref().expect("the first route asks");
                filters.insert("envoy.filters.http.fault".into(), routes::fault(fault));
            }
            _ => {}
        }
    }
    Map::from_iter([("typed_per_filter_config".to_owned(), Value::Object(filters))])
}

/// Settings of the HTTP connection manager.
pub(super) fn connection_manager(plan: &Plan) -> Map<String, Value> {
    let fields = match plan.path_normalization {
        PathNormalization::None => json!({ "normalize_path": false }),
        PathNormalization::Base => json!({ "normalize_path": true }),
        PathNormalization::MergeSlashes => json!({ "normalize_path": true, "merge_slashes": true }),
        PathNormalization::DecodeAndMergeSlashes => json!({
            "normalize_path": true,
            "merge_slashes": true,
            "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
        }),
    };
    fields.as_object().cloned().unwrap_or_default()
}
