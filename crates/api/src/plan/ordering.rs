//! In which order the plugins of one chain run.

use std::cmp::Reverse;

use super::Workload;
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

/// Whose resource it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Of the workload's own namespace.
    Own,
    /// Of the root namespace, for the whole mesh.
    Root,
    /// Of the namespace of a service behind the waypoint, by its place in the list.
    Service(usize),
}

/// The place of a plugin among those that apply to the workload.
pub(super) fn rank<'a>(
    kind: &'static str,
    meta: &'a ObjectMeta,
    spec: &WasmPluginSpec,
    workload: &Workload,
) -> Rank<'a> {
    Rank {
        phase: spec.phase,
        // Unset counts as the lowest number: behind an explicit 0 and behind negative ones.
        priority: Reverse(spec.priority.unwrap_or(i32::MIN)),
        scope: Scope::of(&meta.namespace, workload),
        creation: meta.creation,
        name: &meta.name,
        namespace: &meta.namespace,
        kind,
    }
}

// === impl Scope ===

impl Scope {
    /// Whose a resource of this namespace is.
    pub(super) fn of(namespace: &str, workload: &Workload) -> Self {
        if namespace == workload.namespace {
            Self::Own
        } else if namespace == workload.root_namespace {
            Self::Root
        } else {
            let at = workload.served().iter().position(|of| of.name.namespace == namespace);
            Self::Service(at.unwrap_or(usize::MAX))
        }
    }

    /// The order in which authorization policies are tried: the mesh's first.
    pub(super) fn root_first(self) -> (bool, Self) {
        (self != Self::Root, self)
    }
}
