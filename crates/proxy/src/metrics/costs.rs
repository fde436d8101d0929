//! What plugins cost, in the text form of Prometheus.

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use wasmplug_host::TIME_BUCKETS;

use super::{Sample, encode};
use crate::snapshot::PluginSpec;

const NANOSECONDS: f64 = 1e9;

/// Writes what each of the plugins costs.
pub(super) fn encode_costs<'a>(
    out: &mut DescriptorEncoder<'_>,
    plugins: impl Iterator<Item = &'a PluginSpec> + Clone,
) -> std::fmt::Result {
    encode_times(out, plugins.clone())?;
    let name = |spec: &PluginSpec| ("plugin", spec.resource.to_string());
    let calls: Vec<Sample> = plugins
        .clone()
        .flat_map(|spec| {
            let callbacks = spec.stats.costs().callbacks().into_iter();
            callbacks.map(move |(callback, times)| {
                (vec![name(spec), ("callback", callback.to_owned())], times.calls)
            })
        })
        .collect();
    let help = "Callbacks of a plugin";
    encode(out, "wasmplug_plugin_callbacks", help, MetricType::Counter, &calls)?;
    let hostcalls: Vec<Sample> = plugins
        .clone()
        .flat_map(|spec| {
            let counts = spec.stats.costs().hostcalls().into_iter();
            counts.map(move |((function, status), count)| {
                let function = ("function", function.to_owned());
                (vec![name(spec), function, ("status", status.to_owned())], count)
            })
        })
        .collect();
    let help = "Calls of the host by a plugin";
    encode(out, "wasmplug_plugin_hostcalls", help, MetricType::Counter, &hostcalls)?;
    let memory: Vec<Sample> =
        plugins.clone().map(|spec| (vec![name(spec)], spec.stats.costs().memory_bytes())).collect();
    let help = "Linear memory of a plugin's VMs";
    encode(out, "wasmplug_plugin_memory_bytes", help, MetricType::Gauge, &memory)?;
    let bodies: Vec<Sample> = plugins
        .flat_map(|spec| {
            let counts = ["request", "response"].into_iter().zip(spec.stats.costs().body_bytes());
            counts.map(move |(message, count)| {
                (vec![name(spec), ("message", message.to_owned())], count)
            })
        })
        .collect();
    let help = "Body bytes that a plugin was shown";
    encode(out, "wasmplug_plugin_body_bytes", help, MetricType::Counter, &bodies)
}

fn encode_times<'a>(
    out: &mut DescriptorEncoder<'_>,
    plugins: impl Iterator<Item = &'a PluginSpec>,
) -> std::fmt::Result {
    let (name, help) = (
        "wasmplug_plugin_callback_seconds",
        "Time in callbacks of a plugin that were timed, one of sixteen",
    );
    let mut metric = out.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for spec in plugins {
        let plugin = spec.resource.to_string();
        for (callback, times) in spec.stats.costs().callbacks() {
            #[expect(clippy::cast_precision_loss, reason = "the text form is a float")]
            let seconds = |nanoseconds: u64| nanoseconds as f64 / NANOSECONDS;
            let bounds = TIME_BUCKETS.into_iter().map(seconds).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(times.buckets).collect();
            let labels = [("plugin", plugin.as_str()), ("callback", callback)];
            let mut family = metric.encode_family(&labels)?;
            let (sum, count) = (seconds(times.nanoseconds), times.timed());
            family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
    }
    Ok(())
}
