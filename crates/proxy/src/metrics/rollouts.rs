//! Candidates of plugins, in the text form of Prometheus.

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Sample, encode};
use crate::rollout::Rollout;
use crate::snapshot::PluginSpec;

/// Writes what became of the candidates of these plugins.
pub(super) fn encode_rollouts<'a>(
    out: &mut DescriptorEncoder<'_>,
    plugins: impl Iterator<Item = &'a PluginSpec>,
) -> std::fmt::Result {
    let rollouts: Vec<(String, &Rollout)> = plugins
        .filter_map(|spec| Some((spec.resource.to_string(), spec.rollout.as_deref()?)))
        .collect();
    if rollouts.is_empty() {
        return Ok(());
    }
    let plugin = |name: &String| ("plugin", name.clone());
    let given_up: Vec<Sample> = rollouts
        .iter()
        .map(|(name, rollout)| (vec![plugin(name)], rollout.is_given_up().into()))
        .collect();
    let help = "1 once the candidate of a plugin is given up";
    encode(out, "wasmplug_candidate_given_up", help, MetricType::Gauge, &given_up)?;
    let streams: Vec<Sample> = rollouts
        .iter()
        .flat_map(|(name, rollout)| {
            let [stable, candidate] = rollout.streams();
            let of =
                |version: &str, count| (vec![plugin(name), ("version", version.into())], count);
            [of("stable", stable), of("candidate", candidate)]
        })
        .collect();
    let help = "Streams of a plugin with a candidate, by whether the candidate saw them";
    encode(out, "wasmplug_candidate_streams", help, MetricType::Counter, &streams)?;
    let effects: Vec<Sample> = rollouts
        .iter()
        .filter(|(_, rollout)| rollout.is_shadow())
        .flat_map(|(name, rollout)| {
            let effects = rollout.shadow.effects().into_iter();
            effects.map(move |(effect, count)| (vec![plugin(name), ("effect", effect)], count))
        })
        .collect();
    let help = "What a shadow would have done to streams";
    encode(out, "wasmplug_shadow_effects", help, MetricType::Counter, &effects)
}
