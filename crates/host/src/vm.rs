//! One VM: a wasmtime store with one instance, entered callback by callback.
//!
//! A VM lives on one thread. It is entered through [`VmHandle::call`] alone, which sets the current
//! context, re-arms the deadline and turns a trap into a [`Failure`] that is final.

use std::cell::{OnceCell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use wasmtime::{Store, WasmParams, WasmResults};

use crate::abi::LogLevel;
use crate::callbacks::{Callback, CallbackId, Callbacks, HeadersCallback, typed};
use crate::census::CensusEntry;
use crate::compiled_module::CompiledModule;
use crate::context::{Callee, Context, RootContext, StreamContext};
use crate::deadline::Budget;
use crate::error::{Failure, StartError};
use crate::failure::describe;
use crate::host::Host;
use crate::limits::LimitKind;
use crate::log::LogRecord;
use crate::services::PluginServices;
use crate::stream::StreamHost;
use crate::vm_state::{Running, VmConfig, VmState, one_line};

/// One VM, shared by its plugins and streams on one thread.
#[derive(Clone)]
pub struct VmHandle(Rc<VmCell>);

/// Points to a VM without keeping it alive.
#[derive(Clone, Debug)]
pub struct WeakVmHandle(Weak<VmCell>);

struct VmCell {
    store: RefCell<Store<VmState>>,
    callbacks: Callbacks,
    callback_deadline: Budget,
    start_deadline: Budget,
    failure: OnceCell<Failure>,
    census: CensusEntry,
}

// === impl VmHandle ===

impl VmHandle {
    /// Makes an instance of the module and runs its start code.
    ///
    /// # Errors
    /// [`StartError::Instantiate`] if there is no room for it, or the failure of the start code.
    pub fn start(
        host: &Arc<Host>,
        module: &CompiledModule,
        config: VmConfig,
    ) -> Result<Self, StartError> {
        let start_deadline = Budget::new(config.limits.start_deadline);
        let callback_deadline = Budget::new(config.limits.callback_deadline);
        let state = VmState::new(host, module.abi_version(), config);
        let mut store = Store::new(&host.engine().inner, state);
        store.limiter(|state| &mut state.limiter);
        store.epoch_deadline_callback(|mut cx| Ok(cx.data_mut().deadline.check()));
        let epochs = store.data_mut().deadline.begin(&start_deadline);
        store.set_epoch_deadline(epochs);
        let (instance, memory) = module
            .instantiate(&mut store)
            .map_err(|error| instantiation_error(store.data(), &error))?;
        let allocator = typed(&instance, &mut store, "malloc")
            .or_else(|| typed(&instance, &mut store, "proxy_on_memory_allocate"));
        let callbacks = Callbacks::resolve(&instance, &mut store);
        store.data_mut().memory = memory;
        store.data_mut().allocator = allocator.map(Rc::new);
        let vm = Self(Rc::new(VmCell {
            store: RefCell::new(store),
            callbacks,
            callback_deadline,
            start_deadline,
            failure: OnceCell::new(),
            census: host.census().enter(),
        }));
        vm.run_start_code(&instance)?;
        Ok(vm)
    }

    /// Why the VM no longer runs, if it does not.
    pub fn failure(&self) -> Option<Failure> {
        self.0.failure.get().cloned()
    }

    /// Whether the VM died.
    pub fn is_failed(&self) -> bool {
        self.0.failure.get().is_some()
    }

    /// Whether the VM counts as one that only old streams need; it works as before.
    pub fn set_retired(&self, is_retired: bool) {
        self.0.census.set_retired(is_retired || self.is_failed());
    }

    /// Size of the linear memory, in bytes.
    #[expect(clippy::misnamed_getters, reason = "the size now, not the cap")]
    pub fn memory_bytes(&self) -> usize {
        self.0.store.borrow().data().limiter.memory_bytes_now
    }

    /// Number of live contexts, roots and streams.
    pub fn contexts(&self) -> usize {
        self.0.store.borrow().data().contexts.len()
    }

    /// A pointer that does not keep the VM alive.
    pub fn downgrade(&self) -> WeakVmHandle {
        WeakVmHandle(Rc::downgrade(&self.0))
    }

    pub(crate) fn callbacks(&self) -> &Callbacks {
        &self.0.callbacks
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    /// Runs a callback that the plugin may lack; `None` if it does.
    pub(crate) fn call_optional<Params, Results>(
        &self,
        callee: Callee,
        callback: Option<&Callback<Params, Results>>,
        params: Params,
    ) -> Result<Option<Results>, Failure>
    where
        Params: WasmParams,
        Results: WasmResults,
    {
        let Some(callback) = callback else {
            return self.failure().map_or(Ok(None), Err);
        };
        self.call(callee, callback.id, &self.0.callback_deadline, |store| {
            callback.call(store, params)
        })
        .map(Some)
    }

    /// Like [`VmHandle::call_optional`], with the deadline of a start.
    pub(crate) fn call_start<Params, Results>(
        &self,
        callee: Callee,
        callback: Option<&Callback<Params, Results>>,
        params: Params,
    ) -> Result<Option<Results>, Failure>
    where
        Params: WasmParams,
        Results: WasmResults,
    {
        let Some(callback) = callback else { return Ok(None) };
        self.call(callee, callback.id, &self.0.start_deadline, |store| callback.call(store, params))
            .map(Some)
    }

    pub(crate) fn call_headers(
        &self,
        callee: Callee,
        callback: Option<&HeadersCallback>,
        count: u32,
        end_of_stream: bool,
    ) -> Result<Option<u32>, Failure> {
        let Some(callback) = callback else {
            return self.failure().map_or(Ok(None), Err);
        };
        let call =
            |store: &mut Store<VmState>| callback.call(store, callee.context, count, end_of_stream);
        self.call(callee, callback.id(), &self.0.callback_deadline, call).map(Some)
    }

    /// Tells the guest of a stream context if [`StreamContext::announce`] says that it is news.
    pub(crate) fn announce_stream(&self, callee: Callee, news: Option<u32>) -> Result<(), Failure> {
        if let Some(root) = news {
            let callback = self.callbacks().on_context_create.as_ref();
            self.call_optional(callee, callback, (callee.context, root))?;
        }
        Ok(())
    }

    /// Adds a context. `None` at the limit of live contexts or if the VM died.
    fn insert_with<R>(&self, insert: impl FnOnce(&mut VmState) -> Option<R>) -> Option<R> {
        if self.is_failed() {
            return None;
        }
        let mut store = self.0.store.borrow_mut();
        let state = store.data_mut();
        if state.contexts.len() >= state.config.limits.contexts {
            state.host.limit_counters().count(LimitKind::Contexts);
            return None;
        }
        insert(state)
    }

    /// Adds a root, as [`VmHandle::insert_with`] does.
    pub(crate) fn insert_root(&self, root: RootContext) -> Option<u32> {
        self.insert_with(|state| state.contexts.insert(Context::Root(Box::new(root))))
    }

    /// Adds a stream, as [`VmHandle::insert_with`] does.
    pub(crate) fn insert_stream(&self, root: u32, host: Rc<dyn StreamHost>) -> Option<Callee> {
        self.insert_with(|state| {
            let costs_at = state.place_of_costs(root);
            let stream = Context::Stream(Box::new(StreamContext::new(root, host)));
            let context = state.contexts.insert(stream)?;
            Some(Callee { context, root, costs_at })
        })
    }

    pub(crate) fn remove_context(&self, id: u32) {
        // The context's host may own other streams of this VM: drop it after the borrow.
        let removed = self.0.store.borrow_mut().data_mut().contexts.remove(id);
        drop(removed);
    }

    pub(crate) fn with_stream<R>(
        &self,
        id: u32,
        f: impl FnOnce(&mut StreamContext) -> R,
    ) -> Option<R> {
        self.0.store.borrow_mut().data_mut().contexts.stream_mut(id).map(f)
    }

    pub(crate) fn with_root<R>(&self, id: u32, f: impl FnOnce(&mut RootContext) -> R) -> Option<R> {
        self.0.store.borrow_mut().data_mut().contexts.root_mut(id).map(f)
    }

    pub(crate) fn with_state<R>(&self, f: impl FnOnce(&mut VmState) -> R) -> R {
        f(self.0.store.borrow_mut().data_mut())
    }

    /// The only way into the guest.
    #[inline]
    fn call<R>(
        &self,
        callee: Callee,
        callback: CallbackId,
        deadline: &Budget,
        enter: impl FnOnce(&mut Store<VmState>) -> wasmtime::Result<R>,
    ) -> Result<R, Failure> {
        if let Some(failure) = self.0.failure.get() {
            return Err(failure.clone());
        }
        let mut store = self.0.store.borrow_mut();
        let state = store.data_mut();
        state.current = callee.context;
        state.effective = 0;
        // What was refused in an earlier callback is not why this one dies.
        state.limiter.refused = None;
        let begin = state.begin_callback(callee, callback).then(Instant::now);
        let epochs = state.deadline.begin(deadline);
        store.set_epoch_deadline(epochs);
        let result = enter(&mut store);
        if let Some(begin) = begin {
            store.data_mut().count_time(callee.context, callback, begin.elapsed());
        }
        match result {
            Ok(value) => {
                let state = store.data();
                if !state.touched.is_empty() || !state.ended.is_empty() {
                    drop(store);
                    self.follow_up();
                }
                Ok(value)
            }
            Err(error) => {
                drop(store);
                Err(self.die(callback, &error))
            }
        }
    }

    /// Tells everybody concerned that the guest died in this callback.
    #[cold]
    fn die(&self, callback: CallbackId, error: &wasmtime::Error) -> Failure {
        let store = self.0.store.borrow();
        let failure = describe(store.data(), callback.name, error);
        let hosts = store.data().contexts.stream_hosts();
        let services = store.data().all_services();
        drop(store);
        self.report(&failure);
        let failure = self.0.failure.get_or_init(|| failure).clone();
        self.0.census.set_retired(true);
        services.iter().for_each(|services| services.died(&failure));
        // Nobody will ever resume what this VM holds: its streams must look for themselves.
        hosts.into_iter().for_each(wake);
        failure
    }

    /// Does what a callback left behind for others than its own stream.
    #[cold]
    fn follow_up(&self) {
        let (hosts, ended) = self.with_state(|state| {
            let touched = std::mem::take(&mut state.touched);
            let streams = touched.iter().filter_map(|id| state.contexts.stream(*id));
            let hosts: SmallVec<[_; 2]> = streams.map(|stream| Rc::clone(&stream.host)).collect();
            (hosts, std::mem::take(&mut state.ended))
        });
        hosts.into_iter().for_each(wake);
        for root in ended {
            if let Some(services) = self.delete_root(root) {
                services.ended();
            }
        }
    }

    /// Tells the guest that a plugin is over, and forgets it. Gives its services back.
    pub(crate) fn delete_root(&self, root: u32) -> Option<Rc<dyn PluginServices>> {
        let callback = self.callbacks().on_delete.as_ref();
        // Whether it dies of that makes no difference to a plugin that is gone.
        let _ = self.call_optional(Callee::root(root), callback, root);
        self.forget_root(root)
    }

    /// Forgets a plugin without a word to the guest. Gives its services back.
    pub(crate) fn forget_root(&self, root: u32) -> Option<Rc<dyn PluginServices>> {
        let services = self.with_state(|state| {
            state.tokens.release_all(root);
            state.costs.retain(|(id, _)| *id != root);
            let at = state.services.iter().position(|(id, _)| *id == root)?;
            Some(state.services.swap_remove(at).1)
        });
        self.remove_context(root);
        services
    }

    fn run_start_code(&self, instance: &wasmtime::Instance) -> Result<(), StartError> {
        let (initialize, start, main, main_void) = {
            let store = &mut *self.0.store.borrow_mut();
            store.data_mut().running = Running::Start;
            (
                Callback::<(), ()>::find(instance, store, "_initialize"),
                Callback::<(), ()>::find(instance, store, "_start"),
                Callback::<(u32, u32), u32>::find(instance, store, "main"),
                Callback::<(), u32>::find(instance, store, "__main_void"),
            )
        };
        if initialize.is_some() {
            self.call_start(Callee::root(0), initialize.as_ref(), ())?;
            if main.is_some() {
                self.call_start(Callee::root(0), main.as_ref(), (0, 0))?;
            } else {
                self.call_start(Callee::root(0), main_void.as_ref(), ())?;
            }
        } else {
            self.call_start(Callee::root(0), start.as_ref(), ())?;
        }
        self.with_state(|state| state.running = Running::Callback);
        Ok(())
    }

    fn report(&self, failure: &Failure) {
        let store = self.0.store.borrow();
        let state = store.data();
        let mut message = failure.to_string();
        if !failure.backtrace.is_empty() {
            message.push('\n');
            message.push_str(&failure.backtrace);
        }
        let (level, plugin) = (LogLevel::Critical, &*failure.plugin);
        let context_id = state.current;
        state.host.log_sink().log(LogRecord { level, plugin, context_id, message: &message });
    }
}

impl std::fmt::Debug for VmHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VmHandle").field("is_failed", &self.is_failed()).finish_non_exhaustive()
    }
}

// === impl WeakVmHandle ===

impl WeakVmHandle {
    /// The VM, if somebody still uses it.
    pub fn upgrade(&self) -> Option<VmHandle> {
        self.0.upgrade().map(VmHandle)
    }
}

impl std::fmt::Debug for VmCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VmCell").finish_non_exhaustive()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the last use of each")]
fn wake(host: Rc<dyn StreamHost>) {
    host.wake();
}

/// A guest dies here in its `start` section; anything else is a limit of the VM or of the machine.
fn instantiation_error(state: &VmState, error: &wasmtime::Error) -> StartError {
    let is_guest = error.is::<wasmtime::Trap>() || error.is::<wasmtime::WasmBacktrace>();
    if is_guest {
        return StartError::Failed(describe(state, "start", error));
    }
    let refused = state.limiter.refused;
    let reason = refused.map_or_else(|| one_line(error), |refused| refused.to_string());
    StartError::Instantiate { reason: reason.into() }
}
