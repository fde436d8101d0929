//! One plugin in one VM: start, configure, tick, answers to its calls.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::abi::Status;
use crate::context::{CallResponse, Context, RootContext};
use crate::error::{Failure, StartError};
use crate::fields::{Fields, FieldsKind};
use crate::property::PropertyValue;
use crate::shared_queue::QueueConsumer;
use crate::stream::{HttpStream, StreamHost};
use crate::vm::VmHandle;

/// What a plugin is told about itself.
#[derive(Clone, Debug, Default)]
pub struct PluginConfig {
    /// Label in logs and dumps; the property `plugin_name`.
    pub name: String,
    /// The property `plugin_root_id`.
    pub root_id: String,
    /// What buffer 7 holds during `proxy_on_configure`.
    pub configuration: Bytes,
}

/// What an embedder does for a plugin as a whole. Called on the worker thread; must not block.
pub trait PluginServices {
    /// Calls [`Plugin::tick`] every so often; `None` stops it.
    fn set_tick_period(&self, period: Option<Duration>);
    /// Starts an HTTP call whose answer goes to [`Plugin::on_http_call_response`].
    ///
    /// # Errors
    /// [`Status::BadArgument`] for an unknown target, [`Status::InternalFailure`] if it failed at
    /// once; then no answer follows.
    fn http_call(&self, call: HttpCall) -> Result<(), Status>;
    /// Who is told about items in queues that this plugin registers.
    fn queue_consumer(&self) -> Option<Arc<dyn QueueConsumer>>;
    /// Attributes that exist without a stream, such as `xds.node`.
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue>;
}

/// A call that a plugin makes.
#[derive(Clone, Debug)]
pub struct HttpCall {
    /// Names the answer.
    pub token: u32,
    /// Cluster name, as the plugin wrote it.
    pub target: String,
    /// Request headers with `:method`, `:path` and `:authority`.
    pub headers: Fields,
    /// Request body.
    pub body: Bytes,
    /// Request trailers.
    pub trailers: Fields,
    /// `None` for no limit.
    pub timeout: Option<Duration>,
}

/// The answer to a call. No headers at all means that it failed.
#[derive(Debug)]
pub struct HttpCallResponse {
    /// Response headers with `:status`.
    pub headers: Fields,
    /// Response body.
    pub body: Bytes,
    /// Response trailers.
    pub trailers: Fields,
}

/// A plugin that was started and configured in a VM. Clones share it.
#[derive(Clone, Debug)]
pub struct Plugin {
    vm: VmHandle,
    root: u32,
}

/// Embedders without timers, calls and queues.
#[derive(Debug, Default)]
pub struct NoServices;

// === impl Plugin ===

impl Plugin {
    /// Starts a plugin in a VM that may already hold others.
    ///
    /// Source: Envoy's order for every plugin: context create, VM start, configure.
    ///
    /// # Errors
    /// [`StartError`] if it traps or refuses. The VM then still serves its other plugins, unless
    /// it trapped.
    pub fn start(
        vm: &VmHandle,
        config: &PluginConfig,
        services: Rc<dyn PluginServices>,
    ) -> Result<Self, StartError> {
        let root = RootContext {
            plugin: config.name.as_str().into(),
            root_id: config.root_id.as_str().into(),
            configuration: config.configuration.clone(),
            call_response: None,
            last_status: (0, String::new()),
            is_pending_done: false,
            is_done: false,
        };
        let root = vm
            .insert_context(Context::Root(Box::new(root)))
            .ok_or_else(|| vm.failure().map_or(StartError::NoContext, StartError::Failed))?;
        vm.with_state(|state| state.services.push((root, services)));
        let plugin = Self { vm: vm.clone(), root };
        let started = plugin.run_start();
        if started.is_err() {
            plugin.forget();
        }
        started.map(|()| plugin)
    }

    /// Opens a stream. `None` if the VM died or holds as many contexts as it may.
    pub fn open_stream(&self, host: Rc<dyn StreamHost>) -> Option<HttpStream> {
        HttpStream::open(self.vm.clone(), self.root, host)
    }

    /// The VM that this plugin runs in.
    pub fn vm(&self) -> &VmHandle {
        &self.vm
    }

    /// Whether both run in the same VM and share its fate.
    pub fn shares_vm_with(&self, other: &Self) -> bool {
        self.vm.is_same(&other.vm)
    }

    /// Runs `proxy_on_tick`.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn tick(&self) -> Result<(), Failure> {
        let callback = self.vm.callbacks().on_tick.as_ref();
        self.vm.call_optional(self.root, "proxy_on_tick", callback, self.root)?;
        Ok(())
    }

    /// Runs `proxy_on_queue_ready`.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_queue_ready(&self, token: u32) -> Result<(), Failure> {
        let callback = self.vm.callbacks().on_queue_ready.as_ref();
        self.vm.call_optional(self.root, "proxy_on_queue_ready", callback, (self.root, token))?;
        Ok(())
    }

    /// Runs `proxy_on_http_call_response`; `None` tells the plugin that the call failed.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_http_call_response(
        &self,
        token: u32,
        response: Option<HttpCallResponse>,
    ) -> Result<(), Failure> {
        let is_failure = response.is_none();
        let response = response.unwrap_or_else(|| HttpCallResponse {
            headers: Fields::new(FieldsKind::Response),
            body: Bytes::new(),
            trailers: Fields::new(FieldsKind::Trailers),
        });
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let params = (
            self.root,
            token,
            count(response.headers.len()),
            count(response.body.len()),
            count(response.trailers.len()),
        );
        let HttpCallResponse { headers, body, trailers } = response;
        self.vm.with_root(self.root, |root| {
            root.call_response = Some(CallResponse { headers, body, trailers });
            if is_failure {
                root.last_status = (Status::BrokenConnection.into(), "reset".into());
            }
        });
        let callback = self.vm.callbacks().on_http_call_response.as_ref();
        let result =
            self.vm.call_optional(self.root, "proxy_on_http_call_response", callback, params);
        self.vm.with_root(self.root, |root| {
            root.call_response = None;
            root.last_status.1.clear();
        });
        result.map(|_| ())
    }

    /// Ends the plugin, once: done, and delete as soon as it is ready for it.
    pub fn shut_down(&self) {
        if self.vm.with_root(self.root, |root| root.is_pending_done) != Some(false) {
            return;
        }
        let callback = self.vm.callbacks().on_done.as_ref();
        match self.vm.call_optional(self.root, "proxy_on_done", callback, self.root) {
            Ok(Some(0)) => {
                self.vm.with_root(self.root, |root| root.is_pending_done = true);
            }
            Ok(_) => self.delete(),
            Err(_) => self.forget(),
        }
    }

    /// Whether the plugin is gone; deletes it if it asked for more time and then called `proxy_done`.
    pub fn delete_if_done(&self) -> bool {
        let is_done = self.vm.with_root(self.root, |root| root.is_done);
        if is_done == Some(true) {
            self.delete();
        }
        is_done.unwrap_or(true)
    }

    fn run_start(&self) -> Result<(), StartError> {
        let callbacks = self.vm.callbacks();
        let root = self.root;
        let create = callbacks.on_context_create.as_ref();
        self.vm.call_start(root, "proxy_on_context_create", create, (root, 0))?;
        let (vm_size, plugin_size) = self.vm.with_state(|state| {
            let plugin = state.contexts.root(root).map_or(0, |root| root.configuration.len());
            (state.config.configuration.len(), plugin)
        });
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let vm_start = callbacks.on_vm_start.as_ref();
        if self.vm.call_start(root, "proxy_on_vm_start", vm_start, (root, count(vm_size)))?
            == Some(0)
        {
            return Err(StartError::VmStartRefused);
        }
        self.vm.with_state(|state| state.configuring = Some(root));
        let configure = callbacks.on_configure.as_ref();
        let accepted =
            self.vm.call_start(root, "proxy_on_configure", configure, (root, count(plugin_size)));
        self.vm.with_state(|state| state.configuring = None);
        if accepted? == Some(0) { Err(StartError::ConfigureRefused) } else { Ok(()) }
    }

    fn delete(&self) {
        let callback = self.vm.callbacks().on_delete.as_ref();
        let _ = self.vm.call_optional(self.root, "proxy_on_delete", callback, self.root);
        self.forget();
    }

    fn forget(&self) {
        let services = self.vm.with_state(|state| {
            let at = state.services.iter().position(|(root, _)| *root == self.root)?;
            Some(state.services.swap_remove(at))
        });
        drop(services);
        self.vm.remove_context(self.root);
    }
}

// === impl NoServices ===

impl PluginServices for NoServices {
    fn set_tick_period(&self, _period: Option<Duration>) {}

    fn http_call(&self, _call: HttpCall) -> Result<(), Status> {
        Err(Status::BadArgument)
    }

    fn queue_consumer(&self) -> Option<Arc<dyn QueueConsumer>> {
        None
    }

    fn property(&self, _path: &[&[u8]]) -> Option<PropertyValue> {
        None
    }
}
