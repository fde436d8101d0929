//! One plugin on one worker: its VM, and a fresh one after a failure.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use wasmplug_api::FailStrategy;
use wasmplug_host::{
    BackOff, Failure, Host, NetworkStream, Plugin, StartError, StreamHost, VmHandle, WeakVmHandle,
};

use super::WasmFilter;
use super::services::WorkerServices;
use crate::attributes::StreamShared;
use crate::plugin_costs::WorkerCosts;
use crate::plugin_home::PluginHome;
use crate::snapshot::{PluginSpec, VmKey};

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
}

/// The plugin itself, as long as it runs.
pub(crate) struct Runner {
    spec: Arc<PluginSpec>,
    plugin: RefCell<Option<Plugin>>,
    /// Counts starts: an answer to a call of an earlier one is dropped.
    generation: Cell<u64>,
    costs: Arc<WorkerCosts>,
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
        let (plugin, generation) = (RefCell::new(None), Cell::new(0));
        let costs = spec.stats.costs().for_worker(home.surroundings.is_timing_all);
        let runner = Rc::new(Runner { spec, plugin, generation, costs });
        let services = Rc::new(WorkerServices::new(Rc::downgrade(&runner), Rc::clone(&home)));
        let factory = Rc::new(Self { home, runner, services, back_off: Cell::default() });
        factory.restart();
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
        let host = Rc::clone(stream) as Rc<dyn StreamHost>;
        let stream = self.running().and_then(|plugin| plugin.open_stream(host));
        WasmFilter::new(Rc::clone(self), stream)
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
        }
    }

    /// The plugin died in a stream, or the stream met a dead plugin.
    pub(crate) fn stream_failed(&self, failure: &Failure) {
        self.runner.failed(failure);
    }

    /// The plugin, started anew if it does not run.
    fn running(&self) -> Option<Plugin> {
        self.runner.plugin().or_else(|| {
            self.restart();
            self.runner.plugin()
        })
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
        let is_restart = died.is_some() || back_off.is_fruitless();
        if died.is_some() {
            self.spec().stats.count_stop();
        }
        drop(died);
        // At random, so that workers do not start in step.
        self.back_off.set(back_off.after_start(now, fastrand::f64()));
        self.runner.generation.set(self.runner.generation.get().wrapping_add(1));
        self.services.stop();
        let services = Rc::clone(&self.services) as Rc<dyn wasmplug_host::PluginServices>;
        let spec = self.spec();
        let started = self
            .home
            .vms
            .get(&self.home.host, spec)
            .and_then(|vm| Plugin::start(&vm, &spec.plugin_config(), services));
        match started {
            Ok(plugin) => {
                self.spec().stats.count_start(is_restart);
                *self.runner.plugin.borrow_mut() = Some(plugin);
            }
            Err(error) => {
                self.spec().stats.count_failed_start();
                tracing::error!(
                    plugin.name = %spec.resource,
                    error = %error,
                    "plugin does not start on this worker"
                );
            }
        }
    }
}

impl Drop for WasmFactory {
    fn drop(&mut self) {
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
