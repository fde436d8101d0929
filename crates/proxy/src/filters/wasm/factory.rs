//! One plugin on one worker: its VM, and a fresh one after a failure.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use tokio::task::AbortHandle;
use wasmplug_api::FailStrategy;
use wasmplug_host::{
    BackOff, Failure, Host, HttpStream, NetworkStream, Plugin, StartError, StreamHost, VmHandle,
    WeakVmHandle,
};

use super::WasmFilter;
use super::services::WorkerServices;
use crate::attributes::StreamShared;
use crate::breaker::{Breaker, BreakerState};
use crate::plugin_costs::WorkerCosts;
use crate::plugin_home::PluginHome;
use crate::snapshot::{PluginRole, PluginSpec, VmKey};

/// The VMs of one worker, by what they are made of. Plugins of the same key share one.
///
/// Source: Envoy's VM key, with the environment added, so that plugins with different variables
/// never meet.
#[derive(Default)]
pub(crate) struct VmTable {
    by_key: RefCell<HashMap<VmKey, WeakVmHandle>>,
}

/// Makes the filters of one plugin on one worker.
pub(crate) struct WasmFactory {
    home: Rc<PluginHome>,
    runner: Rc<Runner>,
    services: Rc<WorkerServices>,
    back_off: Cell<BackOff>,
    breaker: Arc<Breaker>,
    /// Starts the plugin anew after a death, so that no stream has to wait for it.
    restarter: RefCell<Option<AbortHandle>>,
    is_starting: Cell<bool>,
    /// No new stream comes: a plugin that dies stays dead.
    is_retired: Cell<bool>,
}

/// The plugin itself, as long as it runs.
pub(crate) struct Runner {
    spec: Arc<PluginSpec>,
    plugin: RefCell<Option<Plugin>>,
    /// Counts starts: an answer to a call of an earlier one is dropped.
    generation: Cell<u64>,
    costs: Arc<WorkerCosts>,
    factory: Weak<WasmFactory>,
}

/// A plugin that asked for time at its end. Its timers and calls go on meanwhile.
pub(crate) struct Retired {
    runner: Rc<Runner>,
    services: Rc<WorkerServices>,
}

// === impl VmTable ===

impl VmTable {
    /// The VM of this plugin's key, started if there is none that lives.
    fn get(&self, host: &Arc<Host>, spec: &PluginSpec) -> Result<VmHandle, StartError> {
        let present = self.by_key.borrow().get(&spec.vm_key).and_then(WeakVmHandle::upgrade);
        if let Some(vm) = present.filter(|vm| !vm.is_failed()) {
            return Ok(vm);
        }
        let vm = VmHandle::start(host, &spec.module, spec.vm_config())?;
        let mut by_key = self.by_key.borrow_mut();
        by_key.retain(|_, vm| vm.upgrade().is_some());
        by_key.insert(spec.vm_key.clone(), vm.downgrade());
        Ok(vm)
    }

    /// Tells VMs that no new stream gets from those that new streams get.
    pub(crate) fn retire_all_but(&self, is_current: impl Fn(&VmKey) -> bool) {
        for (key, vm) in &*self.by_key.borrow() {
            if let Some(vm) = vm.upgrade() {
                vm.set_retired(!is_current(key));
            }
        }
    }
}

// === impl Runner ===

impl Runner {
    /// The plugin, if it runs.
    pub(super) fn plugin(&self) -> Option<Plugin> {
        self.plugin.borrow().as_ref().filter(|plugin| !plugin.vm().is_failed()).cloned()
    }

    /// Which start this is.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// The plugin died in a callback, or somebody met it dead.
    pub(super) fn failed(&self, failure: &Failure) {
        self.spec.stats.count_failure(failure.kind);
    }

    /// Who starts it; `None` if it is on its way out.
    pub(super) fn factory(&self) -> Option<Rc<WasmFactory>> {
        self.factory.upgrade()
    }

    /// What the plugin costs on this worker.
    pub(super) fn costs(&self) -> &WorkerCosts {
        &self.costs
    }

    pub(super) fn spec(&self) -> &PluginSpec {
        &self.spec
    }
}

// === impl WasmFactory ===

impl WasmFactory {
    /// Starts the plugin. A failure is kept for the streams to come, not returned: the same
    /// plugin has already started elsewhere, and the fail strategy decides.
    pub(crate) fn start(spec: Arc<PluginSpec>, home: Rc<PluginHome>) -> Rc<Self> {
        let factory = Rc::new_cyclic(|factory| {
            let (plugin, generation) = (RefCell::new(None), Cell::new(0));
            // The time of a candidate decides about it, so all of it counts.
            let is_timing_all = home.surroundings.is_timing_all || spec.role != PluginRole::Stable;
            let costs = spec.stats.costs().for_worker(is_timing_all);
            let breaker = spec.stats.breakers().for_worker(&home.name);
            let factory = Weak::clone(factory);
            let runner = Rc::new(Runner { spec, plugin, generation, costs, factory });
            let services = Rc::new(WorkerServices::new(Rc::downgrade(&runner), Rc::clone(&home)));
            Self {
                home,
                runner,
                services,
                back_off: Cell::default(),
                breaker,
                restarter: RefCell::default(),
                is_starting: Cell::default(),
                is_retired: Cell::default(),
            }
        });
        factory.restart();
        if factory.runner.plugin().is_none() {
            factory.restart_later();
        }
        factory
    }

    /// What the plugin costs on this worker.
    pub(crate) fn costs(&self) -> &WorkerCosts {
        self.runner.costs()
    }

    pub(crate) fn spec(&self) -> &Arc<PluginSpec> {
        &self.runner.spec
    }

    pub(crate) fn new_filter(self: &Rc<Self>, stream: &Rc<StreamShared>) -> WasmFilter {
        self.new_filter_for(Rc::clone(stream) as Rc<dyn StreamHost>)
    }

    /// The same for a stream that the plugin may not change.
    pub(crate) fn new_filter_for(self: &Rc<Self>, host: Rc<dyn StreamHost>) -> WasmFilter {
        let stream = self.running().and_then(|plugin| plugin.open_stream(host));
        WasmFilter::new(Rc::clone(self), stream)
    }

    /// The plugin's view of a stream. `None` if it cannot run now.
    pub(super) fn open_stream(&self, host: Rc<dyn StreamHost>) -> Option<HttpStream> {
        self.running()?.open_stream(host)
    }

    /// Whether no new stream comes any more.
    pub(super) fn is_retired(&self) -> bool {
        self.is_retired.get()
    }

    /// Counts the VM as one that no new stream gets.
    pub(super) fn retire_vm(&self) {
        self.retire();
        self.home.vms.retire_all_but(|_| false);
    }

    /// The plugin's view of a TCP connection. `None` if it cannot run now.
    pub(crate) fn open_connection(&self, host: Rc<dyn StreamHost>) -> Option<NetworkStream> {
        self.running()?.open_connection(host)
    }

    pub(crate) fn fails_open(&self) -> bool {
        self.spec().fail_strategy == FailStrategy::FailOpen
    }

    pub(crate) fn allows_headers_stop(&self) -> bool {
        self.spec().allow_on_headers_stop_iteration
    }

    /// A stream came to its end with the plugin alive.
    pub(crate) fn stream_finished(&self) {
        if self.back_off.get().is_fruitless() {
            self.back_off.set(BackOff::default());
            if self.breaker.state() != BreakerState::Closed {
                self.breaker.set(BreakerState::Closed);
                tracing::info!(
                    plugin.name = %self.spec().resource,
                    worker = self.breaker.worker(),
                    "the breaker closes: a stream came to its end with the plugin alive"
                );
            }
        }
    }

    /// The plugin died in a stream, or the stream met a dead plugin.
    pub(crate) fn stream_failed(&self, failure: &Failure) {
        self.runner.failed(failure);
    }

    /// No new stream will come: what dies from now on is not started anew.
    pub(crate) fn retire(&self) {
        self.is_retired.set(true);
        self.stop_restarter();
    }

    /// The VM died, perhaps of another plugin in it.
    pub(super) fn died(self: &Rc<Self>, failure: &Failure) {
        if self.is_starting.get() {
            return;
        }
        let died = self.runner.plugin.borrow_mut().take();
        if died.is_some() {
            self.spec().stats.count_stop();
            self.services.stop();
        }
        drop(died);
        self.open_breaker(failure);
        self.restart_later();
    }

    /// The plugin, started anew if it does not run.
    fn running(&self) -> Option<Plugin> {
        self.runner.plugin().or_else(|| {
            self.restart();
            self.runner.plugin()
        })
    }

    /// Opens the breaker if the plugin may not be started at once.
    fn open_breaker(&self, reason: &dyn std::fmt::Display) {
        let now = Instant::now();
        let wait = self.back_off.get().not_before().and_then(|at| at.checked_duration_since(now));
        let Some(wait) = wait.filter(|wait| !wait.is_zero()) else { return };
        self.breaker.open(wait, reason.to_string());
        tracing::warn!(
            plugin.name = %self.spec().resource,
            worker = self.breaker.worker(),
            reason = %reason,
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "the breaker opens: the plugin died again before a stream came to its end"
        );
    }

    /// Starts the plugin anew as soon as that may be, on a task of its own.
    fn restart_later(self: &Rc<Self>) {
        if self.is_retired.get() {
            return;
        }
        let factory = Rc::downgrade(self);
        // Ends when the plugin runs, or with the factory, which it holds weakly.
        let restarter = tokio::task::spawn_local(async move {
            // The callback in which it died has to return first.
            tokio::task::yield_now().await;
            loop {
                let Some(at) = factory.upgrade().map(|factory| factory.back_off.get()) else {
                    return;
                };
                if let Some(at) = at.not_before() {
                    tokio::time::sleep_until(at.into()).await;
                }
                let Some(factory) = factory.upgrade() else { return };
                if factory.running().is_some() {
                    return;
                }
            }
        });
        self.stop_restarter();
        *self.restarter.borrow_mut() = Some(restarter.abort_handle());
    }

    fn stop_restarter(&self) {
        if let Some(restarter) = self.restarter.borrow_mut().take() {
            restarter.abort();
        }
    }

    /// Starts the plugin in a fresh VM unless it is too early.
    fn restart(&self) {
        let back_off = self.back_off.get();
        let now = Instant::now();
        if !back_off.may_start(now) {
            self.spec().stats.count_refused_start();
            return;
        }
        let died = self.runner.plugin.borrow_mut().take();
        let is_restart = self.runner.generation() > 0;
        if died.is_some() {
            self.spec().stats.count_stop();
        }
        drop(died);
        // At random, so that workers do not start in step.
        let back_off = back_off.after_start(now, fastrand::f64());
        self.back_off.set(back_off);
        self.runner.generation.set(self.runner.generation.get().wrapping_add(1));
        self.services.stop();
        let services = Rc::clone(&self.services) as Rc<dyn wasmplug_host::PluginServices>;
        let spec = self.spec();
        self.is_starting.set(true);
        let started = self
            .home
            .vms
            .get(&self.home.host, spec)
            .and_then(|vm| Plugin::start(&vm, &spec.plugin_config(), services));
        self.is_starting.set(false);
        match started {
            Ok(plugin) => {
                self.spec().stats.count_start(is_restart);
                *self.runner.plugin.borrow_mut() = Some(plugin);
                let is_on_trial = back_off.is_on_trial();
                let state = if is_on_trial { BreakerState::HalfOpen } else { BreakerState::Closed };
                self.breaker.set(state);
            }
            Err(error) => {
                self.spec().stats.count_failed_start();
                tracing::error!(
                    plugin.name = %spec.resource,
                    error = %error,
                    "plugin does not start on this worker"
                );
                self.open_breaker(&error);
            }
        }
    }
}

impl Drop for WasmFactory {
    fn drop(&mut self) {
        self.stop_restarter();
        let plugin = self.runner.plugin.borrow().clone();
        let Some(plugin) = plugin else { return self.services.stop() };
        self.spec().stats.count_stop();
        if plugin.shut_down() {
            self.runner.plugin.borrow_mut().take();
            return self.services.stop();
        }
        let (runner, services) = (Rc::clone(&self.runner), Rc::clone(&self.services));
        self.home.retire(Rc::new(Retired { runner, services }));
    }
}

// === impl Retired ===

impl Retired {
    /// Whether these are its services.
    pub(super) fn is_served_by(&self, services: &WorkerServices) -> bool {
        std::ptr::eq(Rc::as_ptr(&self.services), services)
    }
}

impl Drop for Retired {
    fn drop(&mut self) {
        self.services.stop();
        self.runner.plugin.borrow_mut().take();
    }
}

impl std::fmt::Debug for WasmFactory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WasmFactory")
            .field("resource", &self.spec().resource)
            .finish_non_exhaustive()
    }
}
