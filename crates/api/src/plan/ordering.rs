//! In which order the plugins of one chain run.

use std::cmp::Reverse;

use super::reach::Scope;
use crate::meta::{CreationTime, ObjectMeta};
use crate::wasm_plugin::{PluginPhase, WasmPluginSpec};

/// Sorts plugins as requests meet them, field by field.
///
/// Source: Istio, `initTrafficExtensions` and `TrafficExtensionsByListenerInfo`.
/// Differs: Istio compares names with a suffix, which puts `ab` before `a`; here names are
/// compared as they are.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank<'a> {
    phase: PluginPhase,
    priority: Reverse<i32>,
    scope: Scope,
    /// Oldest first; objects without a creation time are of one age, before all others, as the
    /// zero time is in Istio.
    creation: Option<CreationTime>,
    name: &'a str,
    namespace: &'a str,
    /// `TrafficExtension` before `WasmPlugin`.
    kind: &'static str,
}

/// The place of a plugin among those that apply to the workload.
pub(super) fn rank<'a>(
    kind: &'static str,
    meta: &'a ObjectMeta,
    spec: &WasmPluginSpec,
    scope: Scope,
) -> Rank<'a> {
    Rank {
        phase: spec.phase,
        // Unset counts as the lowest number: behind an explicit 0 and behind negative ones.
        priority: Reverse(spec.priority.unwrap_or(i32::MIN)),
        scope,
        creation: meta.creation,
        name: &meta.name,
        namespace: &meta.namespace,
        kind,
    }
}
