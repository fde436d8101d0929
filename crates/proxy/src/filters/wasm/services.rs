//! What a worker does for a plugin as a whole: timers and calls.

use std::cell::RefCell;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use wasmplug_host::abi::Status;
use wasmplug_host::{HttpCall, PluginServices, PropertyValue, QueueConsumer};

use super::WasmFactory;
use crate::snapshot::PluginSpec;

/// Services of one plugin on one worker.
pub(crate) struct WorkerServices {
    factory: Weak<WasmFactory>,
    spec: Arc<PluginSpec>,
    timer: RefCell<Option<AbortHandle>>,
}

// === impl WorkerServices ===

impl WorkerServices {
    pub(super) fn new(factory: Weak<WasmFactory>, spec: Arc<PluginSpec>) -> Self {
        Self { factory, spec, timer: RefCell::new(None) }
    }

    /// Ends the timer.
    pub(super) fn stop(&self) {
        if let Some(timer) = self.timer.borrow_mut().take() {
            timer.abort();
        }
    }
}

impl PluginServices for WorkerServices {
    fn set_tick_period(&self, period: Option<Duration>) {
        self.stop();
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
        tracing::warn!(
            plugin.name = %self.spec.resource,
            cluster = %call.target,
            "the plugin calls a cluster that is not configured"
        );
        Err(Status::BadArgument)
    }

    fn queue_consumer(&self) -> Option<Arc<dyn QueueConsumer>> {
        None
    }

    fn property(&self, _path: &[&[u8]]) -> Option<PropertyValue> {
        None
    }
}
