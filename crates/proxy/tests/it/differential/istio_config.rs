//! The configuration that Istio would give Envoy for what a plan asks for besides plugins.

use serde_json::{Map, Value, json};
use wasmplug_api::{PathNormalization, Plan, PlannedFilter};

/// The filters that stand in Envoy's chain for one filter of the plan.
pub(super) fn http_filters(filter: &PlannedFilter) -> Vec<Value> {
    match filter {
        // The router is there in any case, and Istio's metrics are made by Istio's own Envoy.
        PlannedFilter::Wasm(_) | PlannedFilter::Router | PlannedFilter::Stats(_) => Vec::new(),
        PlannedFilter::JwtAuthn(_)
        | PlannedFilter::Rbac(_)
        | PlannedFilter::ExtAuthz(_)
        | PlannedFilter::Fault(_)
        | PlannedFilter::Cors(_) => panic!("not written yet: {filter:?}"),
    }
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
