//! The configuration that new streams get, as JSON.

use serde_json::{Value, json};

use crate::listener::Front;
use crate::snapshot::{FilterSpec, PluginSpec, Refusal, RejectedEffect, Snapshot};

/// Writes a snapshot for people and scripts. Values of environment variables are left out: they
/// may be secrets.
pub(super) fn text(snapshot: &Snapshot, front: Option<&Front>) -> String {
    let chain = snapshot.filters.iter().map(filter);
    let stats = snapshot.stats.iter().map(|stats| stats.dump());
    let router = json!({ "filter": "router" });
    let mut dump = json!({
        "version": snapshot.version,
        "path_normalization": snapshot.path_normalization,
        "network": snapshot.network_filters.iter().map(filter).collect::<Vec<Value>>(),
        "chain": chain.chain(stats).chain([router]).collect::<Vec<Value>>(),
        "rejected": snapshot.rejected.iter().map(|rejected| json!({
            "resource": rejected.resource.to_string(),
            "reason": rejected.reason,
            "hint": rejected.hint,
            "effect": effect(rejected.effect),
        })).collect::<Vec<Value>>(),
    });
    if let (Some(front), Some(fields)) = (front, dump.as_object_mut()) {
        fields.insert("listener".to_owned(), listener(front, snapshot));
    }
    let mut text = format!("{dump:#}");
    text.push('\n');
    text
}

fn listener(front: &Front, snapshot: &Snapshot) -> Value {
    json!({
        "proxy_protocol": front.has_proxy_protocol,
        "requires_mutual_tls": snapshot.requires_mutual_tls,
        "tls": front.tls.as_ref().map(|tls| tls.dump()),
    })
}

fn filter(filter: &FilterSpec) -> Value {
    match filter {
        FilterSpec::Wasm(spec) => plugin(spec),
        FilterSpec::Refuse { resource, with } => json!({
            "filter": "refuse",
            "resource": resource.to_string(),
            "state": refusal(*with),
        }),
        FilterSpec::BuiltIn(spec) => spec.dump(),
    }
}

fn plugin(spec: &PluginSpec) -> Value {
    let failures: serde_json::Map<String, Value> =
        spec.stats.failures().map(|(kind, count)| (kind.as_str().into(), count.into())).collect();
    let environment: Vec<&str> = spec.environment.iter().map(|(name, _)| name.as_str()).collect();
    json!({
        "filter": "wasm",
        "resource": spec.resource.to_string(),
        "phase": spec.phase,
        "priority": spec.priority,
        "url": spec.url,
        "digest": spec.digest.to_string(),
        "abi_version": spec.module.abi_version().to_string(),
        "root_id": spec.root_id,
        "configuration": spec.configuration,
        "environment": environment,
        "fail_strategy": spec.fail_strategy,
        "vm_scope": spec.vm_scope,
        "candidate": spec.rollout.as_ref().map(|rollout| rollout.dump()),
        "state": {
            "running_workers": spec.stats.running(),
            "restarts": spec.stats.restarts(),
            "failed_starts": spec.stats.failed_starts(),
            "refused_starts": spec.stats.refused_starts(),
            "recoveries": spec.stats.recoveries(),
            "failures": failures,
            "breakers": spec.stats.breakers().dump(),
            "costs": spec.stats.costs().dump(),
        },
    })
}

fn refusal(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Forbidden => "every request is refused with 403",
        Refusal::Unavailable => "every request is refused with 503",
    }
}

fn effect(effect: RejectedEffect) -> &'static str {
    match effect {
        RejectedEffect::KeepsLastGood => "the form that was accepted last goes on",
        RejectedEffect::Refuses(with) => refusal(with),
        RejectedEffect::Skipped => "requests pass without the plugin (FAIL_OPEN)",
    }
}
