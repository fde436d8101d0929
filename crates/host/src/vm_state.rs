//! State of one VM behind its hostcalls: contexts, services, limits, and what runs now.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use wasmtime::{Memory, TypedFunc};

use crate::abi::{AbiVersion, Status};
use crate::callbacks::CallbackId;
use crate::callout::Tokens;
use crate::context::{Callee, ContextTable, StreamContext};
use crate::costs::PluginCosts;
use crate::deadline::Deadline;
use crate::error::{FailureKind, HostError};
use crate::host::Host;
use crate::limits::{GrowthLimiter, LimitKind, Limits};
use crate::log::LogBudget;
use crate::plugin_metrics::DefinedMetrics;
use crate::services::PluginServices;
use crate::vm_id::VmIdLease;

/// What identifies a VM and what it starts with.
#[derive(Clone, Debug, Default)]
pub struct VmConfig {
    /// Namespace of shared data and queues; plugins with the same id meet there.
    pub vm_id: String,
    /// What buffer 6 holds.
    pub configuration: bytes::Bytes,
    /// Environment variables, in order.
    pub environment: Vec<(String, String)>,
    /// What it may use.
    pub limits: Limits,
    /// Functions and callbacks that it may use, by their full names; those of WASI by their bare
    /// ones. `None` for all.
    ///
    /// What is left out answers `INTERNAL_FAILURE` (of WASI `ENOTCAPABLE`) and is logged, or is
    /// not called. The allocator, start code, `pthread_equal`, `emscripten_*` and `envoy_*` are
    /// always allowed. Source: Envoy, `CapabilityRestrictionConfig`.
    pub allowed_capabilities: Option<BTreeSet<String>>,
    /// What stands before the names of the metrics that its plugins define.
    pub metric_prefix: String,
}

/// What the guest may call while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Running {
    /// A callback: everything.
    Callback,
    /// The module's own start code.
    Start,
    /// Its allocator, called by the host in the middle of a hostcall.
    Allocator,
}

/// State behind the hostcalls.
pub(crate) struct VmState {
    pub(crate) host: Arc<Host>,
    _lease: VmIdLease,
    pub(crate) config: VmConfig,
    pub(crate) abi: AbiVersion,
    pub(crate) limiter: GrowthLimiter,
    pub(crate) deadline: Deadline,
    pub(crate) memory: Option<Memory>,
    /// Behind an `Rc`: cloning a typed function itself costs three times a hostcall.
    pub(crate) allocator: Option<Rc<TypedFunc<u32, u32>>>,
    pub(crate) running: Running,
    pub(crate) contexts: ContextTable,
    pub(crate) current: u32,
    /// 0 if none is set.
    pub(crate) effective: u32,
    /// The finished stream that an access logger is being shown.
    pub(crate) logging: Option<Box<StreamContext>>,
    /// Root whose configuration is being shown.
    pub(crate) configuring: Option<u32>,
    pub(crate) services: Vec<(u32, Rc<dyn PluginServices>)>,
    /// Where the costs of each root are counted that wants it.
    pub(crate) costs: Vec<(u32, Arc<PluginCosts>)>,
    /// Place in that list for the plugin whose code runs.
    pub(crate) counted: Option<usize>,
    pub(crate) metrics: DefinedMetrics,
    pub(crate) log_budget: LogBudget,
    pub(crate) tokens: Tokens,
    /// Streams other than the current one that were given something to do.
    pub(crate) touched: SmallVec<[u32; 2]>,
    /// Roots that said `proxy_done` after they had asked for time.
    pub(crate) ended: SmallVec<[u32; 1]>,
    pub(crate) death: Option<FailureKind>,
}

// === impl VmConfig ===

impl VmConfig {
    /// Whether a function or a callback may be used.
    pub(crate) fn allows(&self, name: &str) -> bool {
        match &self.allowed_capabilities {
            None => true,
            Some(allowed) => {
                allowed.is_empty() || allowed.contains(name) || name.starts_with("envoy_")
            }
        }
    }
}

// === impl VmState ===

impl VmState {
    pub(crate) fn new(host: &Arc<Host>, abi: AbiVersion, config: VmConfig) -> Self {
        Self {
            host: Arc::clone(host),
            _lease: VmIdLease::new(host, &config.vm_id),
            limiter: GrowthLimiter::new(&config.limits, host.shared_limit_counters()),
            deadline: Deadline::default(),
            log_budget: LogBudget::default(),
            metrics: DefinedMetrics::new(config.limits.metrics),
            config,
            abi,
            memory: None,
            allocator: None,
            running: Running::Start,
            contexts: ContextTable::default(),
            current: 0,
            effective: 0,
            logging: None,
            configuring: None,
            services: Vec::new(),
            costs: Vec::new(),
            counted: None,
            tokens: Tokens::default(),
            touched: SmallVec::new(),
            ended: SmallVec::new(),
            death: None,
        }
    }

    /// Id of the context that hostcalls act on.
    pub(crate) fn acting(&self) -> u32 {
        if self.effective != 0 && self.contexts.contains(self.effective) {
            self.effective
        } else {
            self.current
        }
    }

    /// Name of the plugin whose code runs; empty during the module's start.
    pub(crate) fn plugin_name(&self) -> Arc<str> {
        self.contexts
            .root(self.current)
            .map_or_else(|| Arc::from(""), |root| Arc::clone(&root.plugin))
    }

    /// Counts a callback that begins; returns whether it is to be timed.
    #[inline]
    pub(crate) fn begin_callback(&mut self, callee: Callee, callback: CallbackId) -> bool {
        let is_right = |at: &usize| self.costs.get(*at).is_some_and(|(id, _)| *id == callee.root);
        // Places change when a root goes.
        self.counted = match callee.costs_at.filter(is_right) {
            Some(at) => Some(at),
            None => self.place_of_costs(callee.root),
        };
        self.costs().is_some_and(|costs| costs.begin_callback(callback.index))
    }

    /// Place of the costs of a root, if it wants them to be counted.
    pub(crate) fn place_of_costs(&self, root: u32) -> Option<usize> {
        self.costs.iter().position(|(id, _)| *id == root)
    }

    /// Counts the time of a callback of this context, which has just returned or died.
    #[cold]
    pub(crate) fn count_time(&mut self, context: u32, callback: CallbackId, time: Duration) {
        if let Some(costs) = self.costs() {
            costs.count_time(callback.index, time, self.limiter.memory_bytes_now);
        }
        if let Some(stream) = self.contexts.stream_mut(context) {
            stream.time_spent = stream.time_spent.saturating_add(time);
        }
    }

    /// Where the costs are counted of the plugin whose code runs.
    #[inline]
    pub(crate) fn costs(&self) -> Option<&PluginCosts> {
        Some(&*self.costs.get(self.counted?)?.1)
    }

    /// Counts that a plugin ran into a limit, and says so to it.
    pub(crate) fn beyond(&self, limit: LimitKind, status: Status) -> HostError {
        self.host.limit_counters().count(limit);
        status.into()
    }

    /// The stream that hostcalls act on.
    pub(crate) fn stream(&self) -> Option<&StreamContext> {
        self.contexts.stream(self.acting()).or(self.logging.as_deref())
    }

    /// The stream that hostcalls act on, to be changed.
    pub(crate) fn stream_mut(&mut self) -> Option<&mut StreamContext> {
        let id = self.acting();
        self.contexts.stream_mut(id).or(self.logging.as_deref_mut())
    }

    /// Remembers that another stream than the current one was given something to do.
    pub(crate) fn touch(&mut self) {
        let id = self.acting();
        if id != self.current && !self.touched.contains(&id) {
            self.touched.push(id);
        }
    }

    /// Services of all plugins of the VM.
    pub(crate) fn all_services(&self) -> SmallVec<[Rc<dyn PluginServices>; 2]> {
        self.services.iter().map(|(_, services)| Rc::clone(services)).collect()
    }

    /// Services of the plugin that hostcalls act for.
    pub(crate) fn services(&self) -> Option<(u32, Rc<dyn PluginServices>)> {
        let root = self.contexts.root_of(self.acting())?;
        let (_, services) = self.services.iter().find(|(id, _)| *id == root)?;
        Some((root, Rc::clone(services)))
    }
}
/// An error and its causes in one line.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ").replace('\n', " ")
}
