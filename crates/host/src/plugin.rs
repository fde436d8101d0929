//! One plugin in one VM: start, configure, tick, and its end.

mod events;

use std::rc::Rc;

use bytes::Bytes;

use crate::context::{Callee, RootContext};
use crate::error::{Failure, StartError};
use crate::expression::Expressions;
use crate::network::NetworkStream;
use crate::services::PluginServices;
use crate::stream::{HttpStream, StreamHost};
use crate::vm::VmHandle;

pub use self::events::DnsAnswer;

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

/// A plugin that was started and configured in a VM. Clones share it.
#[derive(Clone, Debug)]
pub struct Plugin {
    vm: VmHandle,
    root: u32,
}

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
            input: None,
            last_status: (0, String::new()),
            declared: std::collections::HashMap::new(),
            expressions: Expressions::default(),
            is_pending_done: false,
            is_ending: false,
        };
        let root = vm
            .insert_root(root)
            .ok_or_else(|| vm.failure().map_or(StartError::NoContext, StartError::Failed))?;
        let costs = services.costs();
        vm.with_state(|state| {
            state.costs.extend(costs.map(|costs| (root, costs)));
            state.services.push((root, services));
        });
        let plugin = Self { vm: vm.clone(), root };
        let started = plugin.run_start();
        if started.is_err() {
            vm.forget_root(root);
        }
        started.map(|()| plugin)
    }

    /// Opens a stream. `None` if the VM died or holds as many contexts as it may.
    pub fn open_stream(&self, host: Rc<dyn StreamHost>) -> Option<HttpStream> {
        HttpStream::open(self.vm.clone(), self.root, host)
    }

    /// Opens a TCP connection. `None` if the VM died or holds as many contexts as it may.
    pub fn open_connection(&self, host: Rc<dyn StreamHost>) -> Option<NetworkStream> {
        NetworkStream::open(self.vm.clone(), self.root, host)
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
        self.vm.call_optional(Callee::root(self.root), callback, self.root)?;
        Ok(())
    }

    /// Runs `proxy_on_queue_ready`.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_queue_ready(&self, token: u32) -> Result<(), Failure> {
        let callback = self.vm.callbacks().on_queue_ready.as_ref();
        self.vm.call_optional(Callee::root(self.root), callback, (self.root, token))?;
        Ok(())
    }

    /// Ends the plugin, once: done, and delete as soon as it is ready for it.
    ///
    /// Returns whether it is gone. If not, it goes on with its timers and calls until it says
    /// `proxy_done`; then [`PluginServices::ended`] is called.
    pub fn shut_down(&self) -> bool {
        let begins =
            self.vm.with_root(self.root, |root| !std::mem::replace(&mut root.is_ending, true));
        if begins != Some(true) {
            return self.is_gone();
        }
        let callback = self.vm.callbacks().on_done.as_ref();
        match self.vm.call_optional(Callee::root(self.root), callback, self.root) {
            Ok(Some(0)) => {
                self.vm.with_root(self.root, |root| root.is_pending_done = true);
                false
            }
            Ok(_) => {
                self.vm.delete_root(self.root);
                true
            }
            Err(_) => {
                self.vm.forget_root(self.root);
                true
            }
        }
    }

    /// Whether the plugin was deleted, or died.
    pub fn is_gone(&self) -> bool {
        self.vm.is_failed() || self.vm.with_root(self.root, |_| ()).is_none()
    }

    fn run_start(&self) -> Result<(), StartError> {
        let callbacks = self.vm.callbacks();
        let root = self.root;
        let create = callbacks.on_context_create.as_ref();
        self.vm.call_start(Callee::root(root), create, (root, 0))?;
        let (vm_size, plugin_size) = self.vm.with_state(|state| {
            let plugin = state.contexts.root(root).map_or(0, |root| root.configuration.len());
            (state.config.configuration.len(), plugin)
        });
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        let vm_start = callbacks.on_vm_start.as_ref();
        if self.vm.call_start(Callee::root(root), vm_start, (root, count(vm_size)))? == Some(0) {
            return Err(StartError::VmStartRefused);
        }
        self.vm.with_state(|state| state.configuring = Some(root));
        let configure = callbacks.on_configure.as_ref();
        let accepted =
            self.vm.call_start(Callee::root(root), configure, (root, count(plugin_size)));
        self.vm.with_state(|state| state.configuring = None);
        if accepted? == Some(0) { Err(StartError::ConfigureRefused) } else { Ok(()) }
    }
}
