//! Breakers of plugins, in the text form of Prometheus.

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Sample, encode};
use crate::breaker::{BreakerReport, BreakerState};
use crate::snapshot::PluginSpec;

/// Writes the breakers of each of the plugins.
pub(super) fn encode_breakers<'a>(
    out: &mut DescriptorEncoder<'_>,
    plugins: impl Iterator<Item = &'a PluginSpec>,
) -> std::fmt::Result {
    let reports: Vec<(String, BreakerReport)> = plugins
        .flat_map(|spec| {
            let reports = spec.stats.breakers().reports().into_iter();
            reports.map(|report| (spec.resource.to_string(), report))
        })
        .collect();
    let of = |value: &dyn Fn(&BreakerReport) -> u64| -> Vec<Sample> {
        let sample = |(plugin, report): &(String, BreakerReport)| {
            let labels = vec![("plugin", plugin.clone()), ("worker", report.worker.clone())];
            (labels, value(report))
        };
        reports.iter().map(sample).collect()
    };
    let open = of(&|report| u64::from(report.state == BreakerState::Open));
    let help = "1 while a plugin that keeps dying is not started on a worker";
    encode(out, "wasmplug_plugin_breaker_open", help, MetricType::Gauge, &open)?;
    let half_open = of(&|report| u64::from(report.state == BreakerState::HalfOpen));
    let help = "1 while a plugin was started again and has to prove itself";
    encode(out, "wasmplug_plugin_breaker_half_open", help, MetricType::Gauge, &half_open)?;
    let opened = of(&|report| report.opened);
    let help = "How often the breaker of a plugin opened";
    encode(out, "wasmplug_plugin_breaker_opened", help, MetricType::Counter, &opened)
}
