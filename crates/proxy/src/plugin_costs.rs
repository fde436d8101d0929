//! What a plugin costs, on each worker and over all of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use wasmplug_host::abi::Status;
use wasmplug_host::{CallbackTimes, PluginCosts};

use crate::filter::Side;

/// What one plugin has cost on one worker, which alone writes.
#[derive(Debug, Default)]
pub(crate) struct WorkerCosts {
    host: Arc<PluginCosts>,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
}

/// What one plugin has cost over all workers.
#[derive(Debug, Default)]
pub struct Costs {
    workers: Mutex<Vec<Arc<WorkerCosts>>>,
}

// === impl WorkerCosts ===

impl WorkerCosts {
    /// What the host counts.
    pub(crate) fn host(&self) -> Arc<PluginCosts> {
        Arc::clone(&self.host)
    }

    /// Counts body bytes that the plugin was shown.
    pub(crate) fn count_body(&self, side: Side, bytes: usize) {
        let counter = match side {
            Side::Request => &self.request_bytes,
            Side::Response => &self.response_bytes,
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        // One thread writes.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(bytes), Ordering::Relaxed);
    }
}

// === impl Costs ===

impl Costs {
    /// Costs for one more worker; every call is timed, or one of several.
    pub(crate) fn for_worker(&self, is_timing_all: bool) -> Arc<WorkerCosts> {
        let host = if is_timing_all { PluginCosts::timing_all() } else { PluginCosts::default() };
        let costs = Arc::new(WorkerCosts { host: Arc::new(host), ..WorkerCosts::default() });
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.push(Arc::clone(&costs));
        costs
    }

    /// Time by callback.
    pub fn callbacks(&self) -> BTreeMap<&'static str, CallbackTimes> {
        let mut sums: BTreeMap<_, CallbackTimes> = BTreeMap::new();
        for worker in self.workers() {
            for (name, times) in worker.host.callbacks() {
                sums.entry(name).or_default().add(&times);
            }
        }
        sums
    }

    /// Calls of the host by function and status.
    pub fn hostcalls(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut sums = BTreeMap::new();
        for worker in self.workers() {
            for (name, status, count) in worker.host.hostcalls() {
                let sum: &mut u64 = sums.entry((name, Status::as_str(status))).or_default();
                *sum = sum.wrapping_add(count);
            }
        }
        sums
    }

    /// Linear memory of its VMs, in bytes, after their last callbacks.
    pub fn memory_bytes(&self) -> u64 {
        self.workers().iter().map(|worker| worker.host.memory_bytes()).sum()
    }

    /// Body bytes that it was shown, of requests and of responses.
    pub fn body_bytes(&self) -> [u64; 2] {
        let sum = |counter: fn(&WorkerCosts) -> &AtomicU64| {
            self.workers().iter().map(|of| counter(of).load(Ordering::Relaxed)).sum()
        };
        [sum(|of| &of.request_bytes), sum(|of| &of.response_bytes)]
    }

    /// All of it, for people and scripts.
    pub(crate) fn dump(&self) -> Value {
        let callbacks: serde_json::Map<String, Value> = self
            .callbacks()
            .into_iter()
            .map(|(name, times)| {
                let mean = times.nanoseconds.checked_div(times.timed()).unwrap_or_default();
                (name.to_owned(), json!({ "calls": times.calls, "mean_nanoseconds": mean }))
            })
            .collect();
        let [request, response] = self.body_bytes();
        let failed: u64 = self
            .hostcalls()
            .iter()
            .filter(|((_, status), _)| *status != "ok")
            .map(|(_, n)| n)
            .sum();
        json!({
            "callbacks": callbacks,
            "hostcalls": self.hostcalls().values().sum::<u64>(),
            "hostcalls_not_ok": failed,
            "memory_bytes": self.memory_bytes(),
            "request_body_bytes": request,
            "response_body_bytes": response,
        })
    }

    fn workers(&self) -> Vec<Arc<WorkerCosts>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
