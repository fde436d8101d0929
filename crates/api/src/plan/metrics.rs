//! Which metrics a workload makes: what `Telemetry` says, from the mesh to the workload.
//!
//! Source: Istio, `pilot/pkg/model/telemetry.go`.

use std::collections::BTreeMap;

use super::filters::{PlannedMetric, PlannedMetrics, PlannedReporter};
use super::mesh::{Body, Policy};
use super::{LeftOut, Workload, WorkloadRole};
use crate::mesh_config::MeshConfig;
use crate::telemetry::{
    MetricSelector, Metrics, MetricsMode, MetricsOverride, StandardMetric, Telemetry,
};

/// The provider that a mesh has by default, and the only one that scrapes a proxy.
///
/// Source: Istio, `MeshConfig.defaultProviders.metrics`.
const PROMETHEUS: &str = "prometheus";

/// Merges the resources that apply, which come in the order of their age, and says why the others
/// of them do not count.
pub(super) fn merge(
    policies: &[&Policy<'_>],
    workload: &Workload,
    settings: Option<&MeshConfig>,
) -> (Option<PlannedMetrics>, Vec<LeftOut>) {
    let mut left_out = Vec::new();
    let mut scopes: [Option<&Policy<'_>>; 3] = [None; 3];
    for policy in policies {
        let scope = match scope(policy, workload) {
            Ok(scope) => scope,
            Err(reason) => {
                left_out.push(policy.left_out(reason));
                continue;
            }
        };
        let place = match scope {
            Width::Mesh => &mut scopes[0],
            Width::Namespace => &mut scopes[1],
            Width::Workload => &mut scopes[2],
        };
        left_out.extend(policy.take_scope(place));
    }
    let default = settings.and_then(|of| of.metrics_providers.as_ref());
    let has_prometheus = default.is_none_or(|of| of.iter().any(|name| name == PROMETHEUS));
    let mut merged = Merged { has_prometheus, ..Merged::default() };
    let mut applied = Vec::new();
    for policy in scopes.into_iter().flatten() {
        let Body::Metrics(telemetry) = policy.body else { continue };
        match merged.apply(telemetry, workload.role) {
            Ok(()) => applied.push(policy),
            Err(reason) => left_out.push(policy.left_out(reason)),
        }
    }
    let planned = merged.into_planned(workload);
    if let Err(reason) = &planned {
        left_out.extend(applied.into_iter().map(|policy| policy.left_out((*reason).into())));
    }
    (planned.ok(), left_out)
}

/// What a resource is about.
enum Width {
    Mesh,
    Namespace,
    Workload,
}

fn scope(policy: &Policy<'_>, workload: &Workload) -> Result<Width, String> {
    let attachment = &policy.attachment;
    let is_wide = attachment.target_refs.is_empty()
        && attachment.selector.is_none_or(|selector| selector.match_labels.is_empty());
    let is_own = attachment.namespace == workload.namespace;
    match (is_wide, attachment.namespace == workload.root_namespace) {
        (true, true) => Ok(Width::Mesh),
        (true, false) => Ok(Width::Namespace),
        (false, true) if !is_own && attachment.target_refs.is_empty() => {
            Err("the root namespace decides about the metrics of all, not of some workloads".into())
        }
        (false, _) => Ok(Width::Workload),
    }
}

/// What the resources so far say.
#[derive(Default)]
struct Merged {
    has_prometheus: bool,
    metrics: BTreeMap<MetricSelector, PlannedMetric>,
    reporting_interval: Option<std::time::Duration>,
    resources: Vec<crate::meta::NamespacedName>,
}

// === impl Merged ===

impl Merged {
    fn apply(&mut self, telemetry: &Telemetry, role: WorkloadRole) -> Result<(), String> {
        let metrics = &telemetry.spec.metrics;
        if metrics.is_empty() {
            return Err("it says nothing about metrics".into());
        }
        let mut named = metrics.iter().flat_map(|entry| &entry.providers).peekable();
        if named.peek().is_some() {
            self.has_prometheus = named.any(|name| name == PROMETHEUS);
        }
        let is_for_prometheus = |entry: &&Metrics| {
            entry.providers.is_empty() || entry.providers.iter().any(|name| name == PROMETHEUS)
        };
        for entry in metrics.iter().filter(is_for_prometheus) {
            self.reporting_interval = entry.reporting_interval.or(self.reporting_interval);
            let is_for_role = |change: &&MetricsOverride| is_for_role(change.mode, role);
            entry.overrides.iter().filter(is_for_role).for_each(|change| self.change(change));
        }
        self.resources.push(telemetry.meta.namespaced_name());
        Ok(())
    }

    fn change(&mut self, change: &MetricsOverride) {
        let all = MetricSelector::Standard(StandardMetric::AllMetrics);
        let selected: Vec<MetricSelector> = if change.metric == all {
            StandardMetric::EACH.map(MetricSelector::Standard).to_vec()
        } else {
            vec![change.metric.clone()]
        };
        for metric in selected {
            let planned = self.metrics.entry(metric.clone()).or_insert_with(|| PlannedMetric {
                metric,
                is_disabled: false,
                tag_overrides: BTreeMap::new(),
            });
            planned.is_disabled = change.disabled.unwrap_or(planned.is_disabled);
            planned.tag_overrides.extend(change.tag_overrides.clone());
        }
    }

    /// The filter, or why there is none.
    fn into_planned(self, workload: &Workload) -> Result<PlannedMetrics, &'static str> {
        let is_disabled = |metric: &StandardMetric| {
            let metric = self.metrics.get(&MetricSelector::Standard(*metric));
            metric.is_some_and(|metric| metric.is_disabled)
        };
        if !self.has_prometheus {
            return Err("no metrics are made: `prometheus` is not among the providers");
        }
        if StandardMetric::EACH.iter().all(is_disabled) {
            return Err("no metrics are made: all are disabled");
        }
        let is_changed =
            |metric: &PlannedMetric| metric.is_disabled || !metric.tag_overrides.is_empty();
        Ok(PlannedMetrics {
            provider: PROMETHEUS.to_owned(),
            reporter: PlannedReporter {
                role: workload.role,
                workload: workload.name.clone(),
                namespace: workload.namespace.clone(),
                labels: workload.labels.clone(),
                service: workload.service.clone(),
            },
            overrides: self.metrics.into_values().filter(is_changed).collect(),
            reporting_interval: self.reporting_interval,
            resources: self.resources,
        })
    }
}

fn is_for_role(mode: MetricsMode, role: WorkloadRole) -> bool {
    let is_server = matches!(role, WorkloadRole::SidecarInbound | WorkloadRole::Waypoint);
    match mode {
        MetricsMode::ClientAndServer => true,
        MetricsMode::Client => !is_server,
        MetricsMode::Server => is_server,
    }
}
