//! What all VMs of a process share.

use std::sync::Arc;

use crate::census::VmCensus;
use crate::clock::{Clock, SystemClock};
use crate::engine::Engine;
use crate::error::LoadError;
use crate::limits::LimitCounters;
use crate::log::{LogSink, NoLog};
use crate::plugin_metrics::MetricStore;
use crate::shared_data::SharedData;
use crate::shared_queue::SharedQueues;
use crate::vm_id::VmIds;

/// The engine, the stores that plugins share, and where their time and their log come from.
///
/// One per process or per test: nothing in this crate is `static`.
pub struct Host {
    engine: Engine,
    clock: Arc<dyn Clock>,
    log_sink: Arc<dyn LogSink>,
    shared_data: SharedData,
    shared_queues: SharedQueues,
    vm_ids: VmIds,
    census: Arc<VmCensus>,
    metrics: MetricStore,
    limit_counters: Arc<LimitCounters>,
}

// === impl Host ===

impl Host {
    /// A host on the machine's clock that drops log lines.
    ///
    /// # Errors
    /// [`LoadError::Engine`] if the machine lacks what wasmtime needs.
    pub fn new() -> Result<Self, LoadError> {
        Ok(Self {
            engine: Engine::new()?,
            clock: Arc::new(SystemClock::new()),
            log_sink: Arc::new(NoLog),
            shared_data: SharedData::default(),
            shared_queues: SharedQueues::default(),
            vm_ids: VmIds::default(),
            census: Arc::default(),
            metrics: MetricStore::default(),
            limit_counters: Arc::default(),
        })
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sends plugins' log lines there.
    #[must_use]
    pub fn with_log_sink(mut self, sink: Arc<dyn LogSink>) -> Self {
        self.log_sink = sink;
        self
    }

    /// Metrics that plugins defined, with their values now.
    pub fn metrics(&self) -> &MetricStore {
        &self.metrics
    }

    /// How often plugins ran into their limits.
    pub fn limit_counters(&self) -> &LimitCounters {
        &self.limit_counters
    }

    /// How many VMs there are.
    pub fn vms(&self) -> &VmCensus {
        &self.census
    }

    pub(crate) fn census(&self) -> &Arc<VmCensus> {
        &self.census
    }

    pub(crate) fn shared_limit_counters(&self) -> &Arc<LimitCounters> {
        &self.limit_counters
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    pub(crate) fn log_sink(&self) -> &dyn LogSink {
        &*self.log_sink
    }

    pub(crate) fn shared_data(&self) -> &SharedData {
        &self.shared_data
    }

    pub(crate) fn shared_queues(&self) -> &SharedQueues {
        &self.shared_queues
    }

    pub(crate) fn vm_ids(&self) -> &VmIds {
        &self.vm_ids
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").finish_non_exhaustive()
    }
}
