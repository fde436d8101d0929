//! In which order the plugins of one chain run.

use std::cmp::Reverse;

use super::Workload;
use crate::meta::CreationTime;
use crate::wasm_plugin::{PluginPhase, WasmPlugin};

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
}

/// Whose plugin it is.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Of the workload's own namespace.
    Own,
    /// Of the root namespace, for the whole mesh.
    Root,
}

/// The place of a plugin among those that apply to the workload.
pub(super) fn rank<'a>(plugin: &'a WasmPlugin, workload: &Workload) -> Rank<'a> {
    let is_own = plugin.meta.namespace == workload.namespace;
    Rank {
        phase: plugin.spec.phase,
        // Unset counts as the lowest number: behind an explicit 0 and behind negative ones.
        priority: Reverse(plugin.spec.priority.unwrap_or(i32::MIN)),
        scope: if is_own { Scope::Own } else { Scope::Root },
        creation: plugin.meta.creation,
        name: &plugin.meta.name,
        namespace: &plugin.meta.namespace,
    }
}
