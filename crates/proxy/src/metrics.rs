//! Counters of the data plane and their text form.
//!
//! Each worker writes its own counters; they are added up when somebody asks. Names are Envoy's
//! where Envoy has the thing, so that dashboards work.

mod breakers;
mod costs;
mod front;
mod rbac;
mod rollouts;
mod upstreams;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use wasmplug_host::{BUCKETS, Host, LimitKind, MetricValue};
use wasmplug_module::StoreCounters;

pub(crate) use self::front::FrontMetrics;
pub(crate) use self::rbac::RbacCounters;
use crate::access_log::AccessLog;
use crate::filters::built_in::{BuiltInKind, BuiltInSpec};
use crate::filters::jwt_authn::RuleKeys;
use crate::listener::Front;
use crate::snapshot::{FilterSpec, Publisher, RejectedEffect, Snapshot};
use crate::upstream::Upstreams;

/// Counters of one worker. Only that worker writes.
#[derive(Debug, Default)]
pub(crate) struct WorkerMetrics {
    requests: AtomicU64,
    by_class: [AtomicU64; 5],
    resets: AtomicU64,
    connections: AtomicU64,
    open_connections: AtomicU64,
    refused_connections: AtomicU64,
    /// What became of connections before anything was served on them.
    pub(crate) front: FrontMetrics,
    /// Decisions of policies about requests.
    pub(crate) http_rbac: RbacCounters,
    /// Decisions of policies about connections that are not HTTP.
    pub(crate) tcp_rbac: RbacCounters,
}

/// Counts a connection as open until it is dropped.
pub(crate) struct OpenConnection<'a>(&'a WorkerMetrics);

/// Everything that `/stats/prometheus` shows.
#[derive(Debug)]
struct ProxyCollector {
    workers: Vec<Arc<WorkerMetrics>>,
    front: Option<Arc<Front>>,
    upstreams: Arc<Upstreams>,
    publisher: Publisher,
    host: Arc<Host>,
    access_log: Option<AccessLog>,
}

/// Names and values of labels.
type Labels = Vec<(String, String)>;

/// Kinds of metrics that plugins define.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum CustomKind {
    Counter,
    Gauge,
    Histogram,
}

/// One sample: its labels and its value.
type Sample = (Vec<(&'static str, String)>, u64);

// === impl WorkerMetrics ===

impl WorkerMetrics {
    /// Counts a finished exchange; `None` if it was reset.
    pub(crate) fn count_answer(&self, status: Option<StatusCode>) {
        bump(&self.requests);
        match status {
            Some(status) => {
                let class = usize::from(status.as_u16() / 100).saturating_sub(1);
                if let Some(count) = self.by_class.get(class) {
                    bump(count);
                }
            }
            None => bump(&self.resets),
        }
    }

    /// Counts a connection beyond the limit.
    pub(crate) fn count_refused_connection(&self) {
        bump(&self.refused_connections);
    }

    pub(crate) fn connection_opened(&self) -> OpenConnection<'_> {
        bump(&self.connections);
        self.open_connections.fetch_add(1, Ordering::Relaxed);
        OpenConnection(self)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Adds one. A plain store is enough, because one thread writes; it costs no bus lock.
fn bump(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The registry behind `/stats/prometheus`.
pub(crate) fn registry(
    workers: Vec<Arc<WorkerMetrics>>,
    front: Option<Arc<Front>>,
    upstreams: Arc<Upstreams>,
    publisher: Publisher,
    host: Arc<Host>,
    access_log: Option<AccessLog>,
) -> Registry {
    let mut registry = Registry::default();
    let collector = ProxyCollector { workers, front, upstreams, publisher, host, access_log };
    registry.register_collector(Box::new(collector));
    registry
}

// === impl ProxyCollector ===

impl ProxyCollector {
    fn sum(&self, counter: impl Fn(&WorkerMetrics) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| counter(worker).load(Ordering::Relaxed)).sum()
    }

    fn encode_proxy(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let plain = |value| vec![(Vec::new(), value)];
        let counters = [
            ("envoy_http_downstream_rq", "Requests from clients", self.sum(|w| &w.requests)),
            (
                "envoy_http_downstream_rq_tx_reset",
                "Streams cut by the proxy",
                self.sum(|w| &w.resets),
            ),
            ("envoy_http_downstream_cx", "Connections from clients", self.sum(|w| &w.connections)),
            (
                "envoy_listener_downstream_cx_overflow",
                "Connections from clients that were closed because there were too many",
                self.sum(|w| &w.refused_connections),
            ),
        ];
        for (name, help, value) in counters {
            encode(out, name, help, MetricType::Counter, &plain(value))?;
        }
        let open = plain(self.sum(|w| &w.open_connections));
        let (name, help) = ("envoy_http_downstream_cx_active", "Open connections from clients");
        encode(out, name, help, MetricType::Gauge, &open)?;
        let classes: Vec<Sample> = (0..5)
            .map(|class: usize| {
                let label = class.saturating_add(1).to_string();
                let count = |worker: &WorkerMetrics| {
                    worker.by_class.get(class).map_or(0, |count| count.load(Ordering::Relaxed))
                };
                let sum = self.workers.iter().map(|worker| count(worker)).sum();
                (vec![("envoy_response_code_class", label)], sum)
            })
            .collect();
        let (name, help) = ("envoy_http_downstream_rq_xx", "Responses to clients by class");
        encode(out, name, help, MetricType::Counter, &classes)
    }

    fn encode_rbac(
        &self,
        out: &mut DescriptorEncoder<'_>,
        snapshot: &Snapshot,
    ) -> std::fmt::Result {
        let has_policies = |filters: &[FilterSpec]| filters.iter().any(FilterSpec::is_rbac);
        let (http, tcp) = (&snapshot.filters, &snapshot.network_filters);
        let (http, tcp) = (has_policies(http), has_policies(tcp));
        rbac::encode_rbac(out, "http", &self.workers, |worker| &worker.http_rbac, http)?;
        rbac::encode_rbac(out, "tcp", &self.workers, |worker| &worker.tcp_rbac, tcp)
    }

    fn encode_access_log(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let Some(log) = &self.access_log else { return Ok(()) };
        let (name, help) = ("wasmplug_access_log_lost_lines", "Lines that there was no room for");
        let lost = [(Vec::new(), log.sink.lost_lines())];
        encode(out, name, help, MetricType::Counter, &lost)
    }

    fn encode_limits(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let counters = self.host.limit_counters();
        let hits: Vec<Sample> = LimitKind::ALL
            .into_iter()
            .map(|limit| (vec![("limit", limit.as_str().to_owned())], counters.get(limit)))
            .collect();
        let help = "How often plugins ran into a limit";
        encode(out, "wasmplug_limit_hits", help, MetricType::Counter, &hits)
    }

    fn encode_vms(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let vms = self.host.vms();
        let of = |state: &str, count| (vec![("state", state.to_owned())], count);
        let samples = [of("live", vms.live()), of("retired", vms.retired())];
        let help = "VMs that new streams get, and those that only old streams still need";
        encode(out, "wasmplug_vms", help, MetricType::Gauge, &samples)
    }

    /// What plugins counted themselves, under their own names.
    ///
    /// Those that differ in their tags alone are one metric with labels.
    fn encode_custom(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut families: BTreeMap<(String, CustomKind), Vec<(Labels, MetricValue)>> =
            BTreeMap::new();
        for (name, value) in self.host.metrics().values() {
            let (labels, name) = tagged_name(&name);
            families.entry((name, CustomKind::of(&value))).or_default().push((labels, value));
        }
        for ((name, kind), members) in families {
            // The text form adds `_total` to counters; the plugin's name has to stay.
            let help = "Defined by a plugin";
            let mut family = out.encode_descriptor(&name, help, None, kind.metric_type())?;
            for (labels, value) in members {
                if labels.is_empty() {
                    encode_custom_value(&mut family, &value)?;
                } else {
                    encode_custom_value(&mut family.encode_family(&labels)?, &value)?;
                }
            }
        }
        Ok(())
    }
}

impl Collector for ProxyCollector {
    fn encode(&self, mut out: DescriptorEncoder<'_>) -> std::fmt::Result {
        self.encode_proxy(&mut out)?;
        if let Some(front) = &self.front {
            front::encode_front(&mut out, &self.workers, front)?;
        }
        upstreams::encode_upstreams(&mut out, &self.upstreams)?;
        let snapshot = self.publisher.current();
        self.encode_rbac(&mut out, &snapshot)?;
        self.encode_vms(&mut out)?;
        encode_plugins(&mut out, &snapshot)?;
        encode_authentication(&mut out, &snapshot)?;
        encode_modules(&mut out, snapshot.modules)?;
        self.encode_limits(&mut out)?;
        self.encode_access_log(&mut out)?;
        if let Some(stats) = &snapshot.stats {
            stats.encode(&mut out)?;
        }
        self.encode_custom(&mut out)
    }
}

fn encode_plugins(out: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> std::fmt::Result {
    let specs =
        || snapshot.filters.iter().chain(&snapshot.network_filters).flat_map(FilterSpec::plugins);
    let version = [(Vec::new(), snapshot.version)];
    let help = "Configuration that new streams get";
    encode(out, "wasmplug_config_version", help, MetricType::Gauge, &version)?;
    let rejected: Vec<Sample> =
        [("keeps_last_good", RejectedEffect::KeepsLastGood), ("skipped", RejectedEffect::Skipped)]
            .into_iter()
            .map(|(label, effect)| {
                (label, snapshot.rejected.iter().filter(|r| r.effect == effect).count())
            })
            .chain([(
                "refuses",
                snapshot
                    .rejected
                    .iter()
                    .filter(|r| matches!(r.effect, RejectedEffect::Refuses(_)))
                    .count(),
            )])
            .map(|(label, count)| {
                (vec![("effect", label.to_owned())], u64::try_from(count).unwrap_or(u64::MAX))
            })
            .collect();
    let help = "Plugins whose newest form was not taken over";
    encode(out, "wasmplug_plugins_rejected", help, MetricType::Gauge, &rejected)?;
    let plugin = |spec: &crate::PluginSpec| ("plugin", spec.resource.to_string());
    let of = |value: fn(&crate::PluginStats) -> u64| -> Vec<Sample> {
        specs().map(|spec| (vec![plugin(spec)], value(&spec.stats))).collect()
    };
    let help = "Workers on which the plugin runs";
    let running = of(crate::PluginStats::running);
    encode(out, "wasmplug_plugin_running", help, MetricType::Gauge, &running)?;
    let help = "Starts of a plugin after a failure";
    let restarts = of(crate::PluginStats::restarts);
    encode(out, "wasmplug_plugin_restarts", help, MetricType::Counter, &restarts)?;
    let help = "Starts that a plugin refused or died in";
    let failed = of(crate::PluginStats::failed_starts);
    encode(out, "wasmplug_plugin_failed_starts", help, MetricType::Counter, &failed)?;
    let help = "Streams beside the death of a plugin that went on in a fresh VM";
    let recoveries = of(crate::PluginStats::recoveries);
    encode(out, "wasmplug_plugin_recoveries", help, MetricType::Counter, &recoveries)?;
    let failures: Vec<Sample> = specs()
        .flat_map(|spec| {
            let labels = move |kind: wasmplug_host::FailureKind| {
                vec![plugin(spec), ("kind", kind.as_str().to_owned())]
            };
            spec.stats.failures().map(move |(kind, count)| (labels(kind), count))
        })
        .collect();
    let help = "Streams that a plugin failed";
    encode(out, "wasmplug_plugin_failures", help, MetricType::Counter, &failures)?;
    rollouts::encode_rollouts(out, specs().map(|spec| &**spec))?;
    breakers::encode_breakers(out, specs().map(|spec| &**spec))?;
    let filters = snapshot.filters.iter().chain(&snapshot.network_filters);
    costs::encode_costs(out, filters.flat_map(FilterSpec::plugins).map(|spec| &**spec))
}

/// Nothing if no rule applies, as in Envoy, whose names these are.
fn encode_authentication(out: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> std::fmt::Result {
    let spec = snapshot.filters.iter().find_map(|filter| match filter {
        FilterSpec::BuiltIn(BuiltInSpec(BuiltInKind::JwtAuthn(spec))) => Some(spec),
        _ => None,
    });
    let Some(spec) = spec else { return Ok(()) };
    for (name, help, value) in spec.stats().counters() {
        // The text form adds `_total` to counters; Envoy's name has to stay.
        let name = format!("envoy_http_jwt_authn_{name}");
        encode(out, &name, help, MetricType::Unknown, &[(Vec::new(), value)])?;
    }
    let of = |state: &str, is: fn(&RuleKeys) -> bool| {
        let count = spec.keys().filter(|keys| is(keys)).count();
        (vec![("state", state.to_owned())], u64::try_from(count).unwrap_or(u64::MAX))
    };
    let rules = [
        of("current", |keys| keys.set.is_some() && keys.problem.is_none()),
        of("old", |keys| keys.set.is_some() && keys.problem.is_some()),
        of("missing", |keys| keys.set.is_none()),
    ];
    let help = "Rules of RequestAuthentication by the state of their keys";
    encode(out, "wasmplug_jwt_rules", help, MetricType::Gauge, &rules)
}

/// Source: Istio's agent, for the names that begin with `wasm_`.
fn encode_modules(out: &mut DescriptorEncoder<'_>, modules: StoreCounters) -> std::fmt::Result {
    let labelled = |label: &'static str, samples: &[(&str, u64)]| -> Vec<Sample> {
        samples.iter().map(|(value, count)| (vec![(label, (*value).to_owned())], *count)).collect()
    };
    let lookups = labelled("hit", &[("true", modules.hits), ("false", modules.misses)]);
    let help = "Modules that were looked for in the cache";
    encode(out, "wasm_cache_lookup_count", help, MetricType::Counter, &lookups)?;
    let fetches = [
        ("success", modules.fetched),
        ("download_failure", modules.failed_downloads),
        ("checksum_mismatched", modules.wrong_modules),
        ("signature_refused", modules.refused_signatures),
    ];
    let help = "Fetches of modules";
    let fetches = labelled("result", &fetches);
    encode(out, "wasm_remote_fetch_count", help, MetricType::Counter, &fetches)?;
    let moved = [(Vec::new(), modules.moved_tags)];
    let help = "Tags that were found to point at another image than before";
    encode(out, "wasmplug_module_tags_moved", help, MetricType::Counter, &moved)
}

fn encode(
    out: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric_type: MetricType,
    samples: &[Sample],
) -> std::fmt::Result {
    let mut metric = out.encode_descriptor(name, help, None, metric_type)?;
    for (labels, value) in samples {
        let labels: Vec<(&str, &str)> =
            labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        match metric_type {
            MetricType::Counter if labels.is_empty() => {
                metric.encode_counter::<NoLabelSet, _, u64>(value, None)?;
            }
            MetricType::Counter => {
                metric.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
            }
            _ if labels.is_empty() => metric.encode_gauge(value)?,
            _ => metric.encode_family(&labels)?.encode_gauge(value)?,
        }
    }
    Ok(())
}

fn encode_custom_value(encoder: &mut MetricEncoder<'_>, value: &MetricValue) -> std::fmt::Result {
    match value {
        MetricValue::Counter(value) | MetricValue::Gauge(value) => encoder.encode_gauge(value),
        MetricValue::Histogram { counts, sum } => {
            let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            let count = counts.iter().sum();
            #[expect(clippy::cast_precision_loss, reason = "the text form is a float anyway")]
            let sum = *sum as f64;
            encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
        }
    }
}

// === impl CustomKind ===

impl CustomKind {
    fn of(value: &MetricValue) -> Self {
        match value {
            MetricValue::Counter(_) => Self::Counter,
            MetricValue::Gauge(_) => Self::Gauge,
            MetricValue::Histogram { .. } => Self::Histogram,
        }
    }

    fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Unknown,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
        }
    }
}

/// Labels and name of a metric in whose name a plugin wrote `tag.=.value;.;` any number of times.
///
/// What is nothing but tags is a name. Source: Istio's convention, which its proxies take apart by configured expressions.
fn tagged_name(name: &str) -> (Labels, String) {
    let mut labels: Labels = Vec::new();
    let mut rest = name;
    while let Some((fragment, after)) = rest.split_once(";.;") {
        let Some((tag, value)) = fragment.split_once(".=.") else { break };
        let tag = prometheus_name(tag.trim_start_matches(['.', '_']));
        let is_new = labels.iter().all(|(present, _)| *present != tag);
        let begins_as_label = tag.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !is_new || !begins_as_label || tag.contains(':') {
            break;
        }
        labels.push((tag, value.to_owned()));
        rest = after;
    }
    let rest = rest.trim_start_matches(['.', '_']);
    if rest.is_empty() {
        return (Vec::new(), prometheus_name(name));
    }
    (labels, prometheus_name(rest))
}

/// Every character but letters, digits and `_` becomes `_`. Source: Envoy.
fn prometheus_name(name: &str) -> String {
    let valid = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    name.chars().map(valid).collect()
}

#[cfg(test)]
mod tests {
    use super::tagged_name;

    #[test]
    fn tags_in_a_name_become_labels() {
        let (labels, name) = tagged_name("reporter.=.source;.;code.=.200;.;requests.total");
        let expected = [("reporter", "source"), ("code", "200")];
        assert_eq!(labels, expected.map(|(tag, value)| (tag.to_owned(), value.to_owned())));
        assert_eq!(name, "requests_total");
    }

    #[test]
    fn a_name_without_tags_stays() {
        for (name, expected) in [("requests", "requests"), ("a;.;b", "a___b"), ("a.=.b", "a_=_b")] {
            let (labels, found) = tagged_name(name);
            assert!(labels.is_empty());
            assert_eq!(found, expected.replace('=', "_"));
        }
        assert_eq!(tagged_name("a.=.1;.;"), (Vec::new(), "a___1___".to_owned()));
        let twice = tagged_name("a.=.1;.;a.=.2;.;n");
        assert_eq!(twice.0.len(), 1);
    }
}
