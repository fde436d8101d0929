//! One TCP connection of one plugin: the driver of its callbacks.

use std::rc::Rc;

use wasmtime::WasmParams;

use crate::abi::{NetworkAction, PeerType};
use crate::body::BodyBuffer;
use crate::callbacks::Callback;
use crate::context::{Callee, StreamActions, StreamContext};
use crate::error::Failure;
use crate::stream::StreamHost;
use crate::vm::VmHandle;

/// One plugin's view of one TCP connection.
///
/// The driver calls the methods as things happen and looks at the returned action and at
/// [`NetworkStream::take_actions`] after each. Bytes that a plugin holds stay here and are shown
/// again with the next ones.
///
/// Dropping the value forgets the context without a word to the guest; call
/// [`NetworkStream::finish`] at the end of a connection.
pub struct NetworkStream {
    vm: VmHandle,
    callee: Callee,
}

// === impl NetworkStream ===

impl NetworkStream {
    pub(crate) fn open(vm: VmHandle, root: u32, host: Rc<dyn StreamHost>) -> Option<Self> {
        let callee = vm.insert_stream(root, host)?;
        vm.with_stream(callee.context, |context| context.is_network = true);
        Some(Self { vm, callee })
    }

    /// The id under which the plugin knows this connection.
    pub fn context_id(&self) -> u32 {
        self.callee.context
    }

    /// Why the VM no longer runs, if it does not.
    pub fn failure(&self) -> Option<Failure> {
        self.vm.failure()
    }

    /// Whether the plugin looks at the client's bytes.
    pub fn sees_downstream_data(&self) -> bool {
        self.vm.callbacks().rare.on_downstream_data.is_some()
    }

    /// A client has connected. A plugin that stops here keeps all bytes of the client waiting.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_new_connection(&mut self) -> Result<NetworkAction, Failure> {
        let callback = self.vm.callbacks().rare.on_new_connection.as_ref();
        let value = self.call(callback, self.callee.context)?;
        Ok(action(value))
    }

    /// Shows bytes of the client, together with those that the plugin held before.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_downstream_data(
        &mut self,
        bytes: BodyBuffer,
        end_of_stream: bool,
    ) -> Result<NetworkAction, Failure> {
        let size = self.with(|context| {
            let shown = context.request_body.get_or_insert_default();
            shown.append(bytes);
            count(shown.len())
        });
        let callback = self.vm.callbacks().rare.on_downstream_data.as_ref();
        let params = (self.callee.context, size.unwrap_or_default(), u32::from(end_of_stream));
        let value = self.call(callback, params)?;
        Ok(action(value))
    }

    /// Shows bytes of the server, together with those that the plugin held before.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_upstream_data(
        &mut self,
        bytes: BodyBuffer,
        end_of_stream: bool,
    ) -> Result<NetworkAction, Failure> {
        let size = self.with(|context| {
            let shown = context.response_body.get_or_insert_default();
            shown.append(bytes);
            count(shown.len())
        });
        let callback = self.vm.callbacks().rare.on_upstream_data.as_ref();
        let params = (self.callee.context, size.unwrap_or_default(), u32::from(end_of_stream));
        let value = self.call(callback, params)?;
        Ok(action(value))
    }

    /// The connection to the client is closed.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_downstream_close(&mut self, peer: PeerType) -> Result<(), Failure> {
        let callback = self.vm.callbacks().rare.on_downstream_connection_close.as_ref();
        let params = (self.callee.context, peer as u32);
        self.call(callback, params).map(|_| ())
    }

    /// The connection to the server is closed.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_upstream_close(&mut self, peer: PeerType) -> Result<(), Failure> {
        let callback = self.vm.callbacks().rare.on_upstream_connection_close.as_ref();
        let params = (self.callee.context, peer as u32);
        self.call(callback, params).map(|_| ())
    }

    /// Ends the context: done, log, delete.
    ///
    /// Source: the order of Envoy for connections, where log comes after done.
    pub fn finish(self) {
        if self.with(|context| context.is_created) != Some(true) {
            return;
        }
        let callbacks = self.vm.callbacks();
        let (done, log) = (callbacks.on_done.as_ref(), callbacks.on_log.as_ref());
        let ended = self.vm.call_optional(self.callee, done, self.callee.context).is_ok()
            && self.vm.call_optional(self.callee, log, self.callee.context).is_ok();
        if ended {
            let delete = callbacks.on_delete.as_ref();
            // A failure is counted and logged by the VM, and nobody is left to feel it.
            let _ = self.vm.call_optional(self.callee, delete, self.callee.context);
        }
    }

    /// Takes what the plugin asked for since the last time.
    pub fn take_actions(&mut self) -> StreamActions {
        self.with(StreamContext::take_actions).unwrap_or_default()
    }

    /// Takes the client's bytes out, as the plugin left them.
    pub fn release_downstream_data(&mut self) -> BodyBuffer {
        self.with(|context| context.request_body.take()).flatten().unwrap_or_default()
    }

    /// Takes the server's bytes out, as the plugin left them.
    pub fn release_upstream_data(&mut self) -> BodyBuffer {
        self.with(|context| context.response_body.take()).flatten().unwrap_or_default()
    }

    /// Number of the client's bytes that stay here.
    pub fn downstream_data_len(&self) -> usize {
        self.with(|context| context.request_body.as_ref().map_or(0, BodyBuffer::len))
            .unwrap_or_default()
    }

    /// Number of the server's bytes that stay here.
    pub fn upstream_data_len(&self) -> usize {
        self.with(|context| context.response_body.as_ref().map_or(0, BodyBuffer::len))
            .unwrap_or_default()
    }

    fn with<R>(&self, f: impl FnOnce(&mut StreamContext) -> R) -> Option<R> {
        self.vm.with_stream(self.callee.context, f)
    }

    /// Calls into the context, which the guest has heard of by then.
    fn call<Params: WasmParams, R: wasmtime::WasmResults>(
        &self,
        callback: Option<&Callback<Params, R>>,
        params: Params,
    ) -> Result<Option<R>, Failure> {
        let news = self.with(StreamContext::announce).flatten();
        self.vm.announce_stream(self.callee, news)?;
        self.vm.call_optional(self.callee, callback, params)
    }
}

impl Drop for NetworkStream {
    fn drop(&mut self) {
        self.vm.remove_context(self.callee.context);
    }
}

impl std::fmt::Debug for NetworkStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkStream")
            .field("context_id", &self.callee.context)
            .finish_non_exhaustive()
    }
}

fn action(value: Option<u32>) -> NetworkAction {
    value.map_or(NetworkAction::Continue, NetworkAction::from_guest)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
