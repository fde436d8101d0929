//! Everything that one stream needs to know, immutable.
//!
//! A snapshot is built completely aside and then published. Each worker makes its own chain from
//! it; a stream keeps the chain that it began with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::sync::watch;
use wasmplug_api::{Digest, FailStrategy, NamespacedName, PathNormalization, PluginPhase, VmScope};
use wasmplug_host::{CompiledModule, FailureKind, Limits, PluginConfig, VmConfig, VmIdLease};
use wasmplug_module::StoreCounters;

use crate::breaker::Breakers;
use crate::filters::built_in::{BuiltInKind, BuiltInSpec};
use crate::filters::stats::StatsSpec;
use crate::filters::wasm::ThreadSlot;
use crate::plugin_costs::Costs;
use crate::rollout::Rollout;

/// The filter chain of one configuration.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts configurations; 0 before the first one.
    pub version: u64,
    /// Filters in request order; the router follows by itself.
    pub filters: Vec<FilterSpec>,
    /// Plugins that see connections, in the order in which their bytes meet them.
    pub network_filters: Vec<FilterSpec>,
    /// Metrics that are made at the end of each stream and connection.
    pub stats: Option<Arc<StatsSpec>>,
    /// How paths are written before anything looks at them.
    pub path_normalization: PathNormalization,
    /// Whether connections without mutual TLS are refused.
    pub requires_mutual_tls: bool,
    /// Plugins whose newest form could not be taken over.
    pub rejected: Vec<Rejected>,
    /// What the module store has done up to now.
    pub modules: StoreCounters,
}

/// One element of the chain.
#[derive(Clone, Debug)]
pub enum FilterSpec {
    /// A plugin that was compiled and has started once.
    Wasm(Arc<PluginSpec>),
    /// A plugin that cannot run and must not be skipped: every request is refused.
    Refuse {
        /// The resource in whose place this stands.
        resource: NamespacedName,
        /// How it is refused.
        with: Refusal,
    },
    /// A filter of the proxy's own.
    BuiltIn(BuiltInSpec),
}

/// How requests are refused in the place of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 403 `RBAC: access denied`. Source: Istio, when a module cannot be fetched.
    Forbidden,
    /// 503 without a body. Source: Envoy, when a plugin does not start.
    Unavailable,
}

/// A resource whose newest form could not be taken over.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// Which one.
    pub resource: NamespacedName,
    /// Why: an error and its causes, one a line.
    pub reason: String,
    /// What could be done about it.
    pub hint: Option<String>,
    /// What traffic meets in its place.
    pub effect: RejectedEffect,
    /// The same may succeed later without any change: a registry that is down, for instance.
    pub is_transient: bool,
}

/// What traffic meets in the place of a rejected plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedEffect {
    /// The form that was accepted last goes on.
    KeepsLastGood,
    /// Every request is refused.
    Refuses(Refusal),
    /// Requests pass without the plugin: `failStrategy: FAIL_OPEN`.
    Skipped,
}

/// A plugin, ready to be started on any worker.
#[derive(Debug)]
pub struct PluginSpec {
    /// The resource that it comes from.
    pub resource: NamespacedName,
    /// Where it stands in the chain.
    pub phase: PluginPhase,
    /// Its place within the phase.
    pub priority: Option<i32>,
    /// Where the module was fetched from.
    pub url: String,
    /// Digest of the module's bytes.
    pub digest: Digest,
    /// The compiled module.
    pub module: CompiledModule,
    /// `pluginName`, which plugins see as root id.
    pub root_id: String,
    /// `pluginConfig` as JSON text; empty if there is none.
    pub configuration: String,
    /// Environment variables, in order.
    pub environment: Vec<(String, String)>,
    /// What happens to streams when it cannot run.
    pub fail_strategy: FailStrategy,
    /// Envoy's option of that name: headers can be held while body callbacks go on.
    pub allow_on_headers_stop_iteration: bool,
    /// Limits of its VM.
    pub limits: Limits,
    /// What it has been through.
    pub stats: PluginStats,
    /// How many VMs it has.
    pub vm_scope: VmScope,
    /// Where it runs if it has one VM for the process.
    pub(crate) thread: ThreadSlot,
    /// Whether it serves streams, or is tried out.
    pub role: PluginRole,
    /// Another version of it that is tried out.
    pub rollout: Option<Arc<Rollout>>,
    pub(crate) vm_key: VmKey,
    /// What the plugin shares with others outlives its VMs.
    pub(crate) _lease: VmIdLease,
}

/// Whether a plugin serves streams, or is tried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PluginRole {
    /// It is the resource's own version.
    #[default]
    Stable,
    /// It takes the place of the stable one in some streams.
    Canary,
    /// It sees copies of streams.
    Shadow,
}

/// What shadows share data and queues under: nothing of others, and others nothing of theirs.
pub(crate) const SHADOW_VM_ID: &str = "shadow";
/// What stands before the names of metrics that shadows define.
const SHADOW_METRICS: &str = "shadow.";

/// All plugins have this VM id: Istio never sets another, so they share data and queues.
pub(crate) const VM_ID: &str = "";

/// What makes two plugins share a VM on a worker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct VmKey {
    pub(crate) digest: Digest,
    /// A candidate takes nobody along when it dies.
    pub(crate) role: PluginRole,
    pub(crate) environment: Vec<(String, String)>,
    /// Limits of its own.
    pub(crate) limits: BTreeMap<String, String>,
}

/// Counters of one plugin over all workers.
#[derive(Debug, Default)]
pub struct PluginStats {
    running: AtomicU64,
    restarts: AtomicU64,
    failed_starts: AtomicU64,
    refused_starts: AtomicU64,
    recoveries: AtomicU64,
    failures: [AtomicU64; FAILURE_KINDS.len()],
    breakers: Breakers,
    costs: Costs,
}

/// All kinds of failure, in the order in which they are counted.
pub(crate) const FAILURE_KINDS: [FailureKind; 5] = [
    FailureKind::Trap,
    FailureKind::Deadline,
    FailureKind::Memory,
    FailureKind::Restricted,
    FailureKind::Exit,
];

/// Publishes snapshots to the workers.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    sender: watch::Sender<Arc<Snapshot>>,
}

// === impl FilterSpec ===

impl FilterSpec {
    /// The resource of the plugin that this filter is, or stands in the place of.
    pub fn resource(&self) -> Option<&NamespacedName> {
        match self {
            Self::Wasm(spec) => Some(&spec.resource),
            Self::Refuse { resource, .. } => Some(resource),
            Self::BuiltIn(_) => None,
        }
    }

    /// Whether it judges by policies.
    pub(crate) fn is_rbac(&self) -> bool {
        let kinds =
            |kind: &BuiltInKind| matches!(kind, BuiltInKind::Rbac(_) | BuiltInKind::NetworkRbac(_));
        matches!(self, Self::BuiltIn(BuiltInSpec(kind)) if kinds(kind))
    }

    /// Whether it judges connections.
    pub(crate) fn is_network_rbac(&self) -> bool {
        matches!(self, Self::BuiltIn(BuiltInSpec(BuiltInKind::NetworkRbac(_))))
    }

    /// The plugin that this filter is, and its candidate.
    pub(crate) fn plugins(&self) -> impl Iterator<Item = &Arc<PluginSpec>> + Clone {
        let plugin = self.plugin();
        let rollout = plugin.and_then(|plugin| plugin.rollout.as_ref());
        plugin.into_iter().chain(rollout.map(|rollout| &rollout.candidate))
    }

    /// The plugin that this filter is.
    pub fn plugin(&self) -> Option<&Arc<PluginSpec>> {
        match self {
            Self::Wasm(spec) => Some(spec),
            Self::Refuse { .. } | Self::BuiltIn(_) => None,
        }
    }
}

// === impl PluginSpec ===

impl PluginSpec {
    /// What the host wants to know about the VM.
    pub(crate) fn vm_config(&self) -> VmConfig {
        VmConfig {
            vm_id: self.vm_id().to_owned(),
            configuration: Bytes::new(),
            environment: self.environment.clone(),
            limits: self.limits.clone(),
            allowed_capabilities: None,
            metric_prefix: match self.role {
                PluginRole::Stable | PluginRole::Canary => String::new(),
                PluginRole::Shadow => SHADOW_METRICS.to_owned(),
            },
        }
    }

    fn vm_id(&self) -> &'static str {
        vm_id(self.role)
    }

    /// What the host wants to know about the plugin.
    pub(crate) fn plugin_config(&self) -> PluginConfig {
        PluginConfig {
            name: self.resource.to_string(),
            root_id: self.root_id.clone(),
            configuration: Bytes::copy_from_slice(self.configuration.as_bytes()),
        }
    }

    /// Whether a worker that runs `self` may go on with it for `other`.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        self.resource == other.resource
            && self.vm_key == other.vm_key
            && self.root_id == other.root_id
            && self.configuration == other.configuration
            && self.fail_strategy == other.fail_strategy
            && self.vm_scope == other.vm_scope
            && self.role == other.role
            && same_rollout(self.rollout.as_deref(), other.rollout.as_deref())
            && self.allow_on_headers_stop_iteration == other.allow_on_headers_stop_iteration
            && self.limits == other.limits
    }
}

/// The VM id of plugins of this role.
pub(crate) fn vm_id(role: PluginRole) -> &'static str {
    match role {
        PluginRole::Stable | PluginRole::Canary => VM_ID,
        PluginRole::Shadow => SHADOW_VM_ID,
    }
}

fn same_rollout(one: Option<&Rollout>, other: Option<&Rollout>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => {
            one.plan == other.plan && one.candidate.is_equivalent(&other.candidate)
        }
        _ => false,
    }
}

// === impl PluginStats ===

impl PluginStats {
    /// Workers on which the plugin runs now.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Starts after a failure.
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Starts that the plugin refused or died in.
    pub fn failed_starts(&self) -> u64 {
        self.failed_starts.load(Ordering::Relaxed)
    }

    /// Streams that met a dead plugin too early for another start.
    pub fn refused_starts(&self) -> u64 {
        self.refused_starts.load(Ordering::Relaxed)
    }

    /// Streams beside a death that went on in a fresh VM.
    pub fn recoveries(&self) -> u64 {
        self.recoveries.load(Ordering::Relaxed)
    }

    /// Streams that the plugin failed, by kind.
    pub fn failures(&self) -> impl Iterator<Item = (FailureKind, u64)> {
        let counts = self.failures.iter().map(|count| count.load(Ordering::Relaxed));
        FAILURE_KINDS.into_iter().zip(counts)
    }

    /// Its breakers, one per worker.
    pub fn breakers(&self) -> &Breakers {
        &self.breakers
    }

    /// What it costs.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    pub(crate) fn count_start(&self, is_restart: bool) {
        self.running.fetch_add(1, Ordering::Relaxed);
        if is_restart {
            self.restarts.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_stop(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failed_start(&self) {
        self.failed_starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_refused_start(&self) {
        self.refused_starts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_recovery(&self) {
        self.recoveries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_failure(&self, kind: FailureKind) {
        let index = FAILURE_KINDS.iter().position(|present| *present == kind);
        if let Some(count) = index.and_then(|index| self.failures.get(index)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl Publisher ===

impl Publisher {
    pub(crate) fn new() -> Self {
        Self { sender: watch::Sender::new(Arc::default()) }
    }

    /// Makes this the configuration of all streams that begin from now on.
    pub(crate) fn publish(&self, snapshot: Snapshot) {
        self.sender.send_replace(Arc::new(snapshot));
    }

    /// The configuration that was published last.
    pub(crate) fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.sender.borrow())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.sender.subscribe()
    }
}
