//! Decisions of policies, counted under Envoy's names.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use wasmplug_api::PolicyAction;

use super::{Sample, WorkerMetrics, bump, encode};

/// Decisions on one worker.
#[derive(Debug, Default)]
pub(crate) struct RbacCounters {
    allowed: AtomicU64,
    denied: AtomicU64,
    /// Of `ALLOW` policies that are only tried out.
    shadow_allow: [AtomicU64; 2],
    /// The same of `DENY` policies.
    shadow_deny: [AtomicU64; 2],
    /// The same of `AUDIT` policies.
    shadow_audit: [AtomicU64; 2],
}

/// A counter of one worker.
type Counter = fn(&RbacCounters) -> &AtomicU64;

// === impl RbacCounters ===

impl RbacCounters {
    /// Whether anything was decided.
    fn is_used(&self) -> bool {
        let decided = [&self.allowed, &self.denied].into_iter();
        let tried = [&self.shadow_allow, &self.shadow_deny, &self.shadow_audit];
        let mut all = decided.chain(tried.into_iter().flatten());
        all.any(|counter| counter.load(Ordering::Relaxed) > 0)
    }

    /// Counts what policies in effect decided.
    pub(crate) fn count(&self, is_allowed: bool) {
        bump(if is_allowed { &self.allowed } else { &self.denied });
    }

    /// Counts what policies would have decided.
    pub(crate) fn count_shadow(&self, action: PolicyAction, is_allowed: bool) {
        let [allowed, denied] = match action {
            PolicyAction::Allow => &self.shadow_allow,
            PolicyAction::Deny => &self.shadow_deny,
            PolicyAction::Audit | PolicyAction::Custom => &self.shadow_audit,
        };
        bump(if is_allowed { allowed } else { denied });
    }
}

/// Writes the counters of requests (`http`) or of connections that are not HTTP (`tcp`), if there
/// are policies or have been some.
pub(super) fn encode_rbac(
    out: &mut DescriptorEncoder<'_>,
    kind: &str,
    workers: &[Arc<WorkerMetrics>],
    of: fn(&WorkerMetrics) -> &RbacCounters,
    has_policies: bool,
) -> std::fmt::Result {
    if !has_policies && !workers.iter().any(|worker| of(worker).is_used()) {
        return Ok(());
    }
    let sum = |counter: Counter| -> u64 {
        workers.iter().map(|worker| counter(of(worker)).load(Ordering::Relaxed)).sum()
    };
    let decided: [(&str, &str, Counter); 2] = [
        ("allowed", "Let pass by policies", |of| &of.allowed),
        ("denied", "Refused by policies", |of| &of.denied),
    ];
    for (name, help, counter) in decided {
        let samples = [(Vec::new(), sum(counter))];
        write(out, &format!("envoy_{kind}_rbac_{name}"), help, &samples)?;
    }
    let tried: [(&str, &str, [Counter; 3]); 2] = [
        (
            "allowed",
            "Would be let pass by policies that are tried out",
            [|of| &of.shadow_audit[0], |of| &of.shadow_allow[0], |of| &of.shadow_deny[0]],
        ),
        (
            "denied",
            "Would be refused by policies that are tried out",
            [|of| &of.shadow_audit[1], |of| &of.shadow_allow[1], |of| &of.shadow_deny[1]],
        ),
    ];
    for (name, help, counters) in tried {
        let prefixes = [None, Some("istio_dry_run_allow_"), Some("istio_dry_run_deny_")];
        let samples: Vec<Sample> = prefixes
            .into_iter()
            .zip(counters)
            .map(|(prefix, counter)| {
                let label = |prefix: &str| (label_of(kind), prefix.to_owned());
                (prefix.map(label).into_iter().collect(), sum(counter))
            })
            .collect();
        write(out, &format!("envoy_{kind}_rbac_shadow_{name}"), help, &samples)?;
    }
    Ok(())
}

/// Source: Envoy, which finds the prefix in the name of the counter.
fn label_of(kind: &str) -> &'static str {
    if kind == "http" { "envoy_rbac_http_prefix" } else { "envoy_rbac_prefix" }
}

/// Envoy's names do not end with `_total`, which the text form would add to a counter.
fn write(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: &[Sample],
) -> std::fmt::Result {
    encode(out, name, help, MetricType::Unknown, samples)
}
