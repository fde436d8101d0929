//! What a worker does for a plugin as a whole: timers, calls, and word of queued items.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use wasmplug_host::abi::Status;
use wasmplug_host::{HttpCall, PluginServices, PropertyValue, QueueConsumer};

use super::WasmFactory;
use crate::callout::Clusters;
use crate::snapshot::PluginSpec;

/// Most calls of one plugin on one worker that wait for their answers.
///
/// Source: ours, after Envoy's circuit breakers, whose default is the same.
const MAX_CALLS: usize = 1024;
/// Most words about queued items that wait to be passed on; further ones are dropped.
const MAX_READY: usize = 10_000;

/// Services of one plugin on one worker.
pub(crate) struct WorkerServices {
    factory: Weak<WasmFactory>,
    spec: Arc<PluginSpec>,
    clusters: Rc<Clusters>,
    timer: RefCell<Option<AbortHandle>>,
    calls: RefCell<JoinSet<()>>,
    queues: RefCell<Option<AbortHandle>>,
    is_warned: Cell<bool>,
}

/// Passes the word on from whichever thread queued an item.
struct ReadySender(mpsc::Sender<u32>);

// === impl WorkerServices ===

impl WorkerServices {
    pub(super) fn new(
        factory: Weak<WasmFactory>,
        spec: Arc<PluginSpec>,
        clusters: Rc<Clusters>,
    ) -> Self {
        Self {
            factory,
            spec,
            clusters,
            timer: RefCell::default(),
            calls: RefCell::default(),
            queues: RefCell::default(),
            is_warned: Cell::default(),
        }
    }

    /// Ends the timer, forgets calls in flight, and listens to no queue: the plugin is gone.
    pub(super) fn stop(&self) {
        for task in [&self.timer, &self.queues] {
            if let Some(task) = task.borrow_mut().take() {
                task.abort();
            }
        }
        self.calls.borrow_mut().abort_all();
    }

    /// Says once which clusters there are.
    fn warn_unknown(&self, target: &str) {
        if !self.is_warned.replace(true) {
            tracing::warn!(
                plugin.name = %self.spec.resource,
                cluster = target,
                known = self.clusters.names(),
                "the plugin calls a cluster that is not configured"
            );
        }
    }
}

impl PluginServices for WorkerServices {
    fn set_tick_period(&self, period: Option<Duration>) {
        if let Some(timer) = self.timer.borrow_mut().take() {
            timer.abort();
        }
        let Some(period) = period else { return };
        let factory = self.factory.clone();
        // Ends with the factory at the latest: it aborts the task, and the task holds it weakly.
        let timer = tokio::task::spawn_local(async move {
            loop {
                // The next period begins when the callback has returned, as in Envoy.
                tokio::time::sleep(period).await;
                let Some(factory) = factory.upgrade() else { return };
                let Some(plugin) = factory.plugin() else { return };
                if let Err(failure) = plugin.tick() {
                    factory.stream_failed(&failure);
                    return;
                }
            }
        });
        *self.timer.borrow_mut() = Some(timer.abort_handle());
    }

    fn http_call(&self, call: HttpCall) -> Result<(), Status> {
        let mut calls = self.calls.borrow_mut();
        while calls.try_join_next().is_some() {}
        if calls.len() >= MAX_CALLS {
            return Err(Status::InternalFailure);
        }
        let token = call.token;
        if !self.clusters.knows(&call.target) {
            self.warn_unknown(&call.target);
        }
        let callout = self.clusters.prepare(call)?;
        let factory = self.factory.clone();
        // Belongs to this start of the plugin: `stop` ends it.
        calls.spawn_local(async move {
            let generation = factory.upgrade().map(|factory| factory.generation());
            let answer = callout.send().await;
            let Some(factory) = factory.upgrade() else { return };
            if Some(factory.generation()) != generation {
                return;
            }
            if let Some(plugin) = factory.plugin()
                && let Err(failure) = plugin.on_http_call_response(token, answer)
            {
                factory.stream_failed(&failure);
            }
        });
        Ok(())
    }

    fn queue_consumer(&self) -> Option<Arc<dyn QueueConsumer>> {
        let (sender, mut ready) = mpsc::channel(MAX_READY);
        let factory = self.factory.clone();
        // Ends with the factory, or when a later registration takes its place.
        let task = tokio::task::spawn_local(async move {
            while let Some(token) = ready.recv().await {
                let Some(factory) = factory.upgrade() else { return };
                let Some(plugin) = factory.plugin() else { return };
                if let Err(failure) = plugin.on_queue_ready(token) {
                    factory.stream_failed(&failure);
                    return;
                }
            }
        });
        // Several queues may be registered: each has its own task, which ends with its sender.
        *self.queues.borrow_mut() = Some(task.abort_handle());
        Some(Arc::new(ReadySender(sender)))
    }

    fn property(&self, _path: &[&[u8]]) -> Option<PropertyValue> {
        None
    }
}

impl QueueConsumer for ReadySender {
    fn item_ready(&self, token: u32) {
        // Full: the plugin has thousands of words waiting and will look at its queue anyway.
        let _ = self.0.try_send(token);
    }
}
