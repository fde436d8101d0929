//! The gRPC calls and streams of one plugin that are in flight.

use bytes::Bytes;
use tokio::task::AbortHandle;
use wasmplug_host::abi::Status;
use wasmplug_host::{GrpcCall, GrpcTarget, Plugin};

use super::WorkerServices;
use crate::callout::{GrpcEvent, GrpcSender};

/// A call or a stream; dropping it gives it up.
pub(super) struct GrpcInFlight {
    task: AbortHandle,
    /// `None` for a call, and once the plugin has sent its last message.
    sender: Option<GrpcSender>,
}

// === impl GrpcInFlight ===

impl Drop for GrpcInFlight {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl WorkerServices ===

impl WorkerServices {
    pub(super) fn start_grpc_call(&self, call: GrpcCall) -> Result<(), Status> {
        let GrpcCall { token, target, message, timeout } = call;
        let callout = self.home.clusters.prepare_grpc(target).inspect_err(|status| {
            self.warn_unknown_grpc(*status);
        })?;
        let held = self.sending.take(message.len())?;
        let started = self.started();
        let task = self.spawn(async move {
            let result = callout.call(message, timeout).await;
            drop(held);
            started.tell(|plugin| match result {
                Ok(message) => plugin.on_grpc_receive(token, message),
                Err(status) => plugin.on_grpc_close(token, &status),
            });
        })?;
        self.keep(token, GrpcInFlight { task, sender: None });
        Ok(())
    }

    pub(super) fn start_grpc_stream(&self, token: u32, target: GrpcTarget) -> Result<(), Status> {
        let callout = self.home.clusters.prepare_grpc(target).inspect_err(|status| {
            self.warn_unknown_grpc(*status);
        })?;
        let started = self.started();
        let events = started.clone();
        let (sender, run) = callout.stream(move |event| {
            events.tell(|plugin: &Plugin| match event {
                GrpcEvent::InitialMetadata(metadata) => {
                    plugin.on_grpc_receive_initial_metadata(token, metadata)
                }
                GrpcEvent::Message(message) => plugin.on_grpc_receive(token, message),
                GrpcEvent::TrailingMetadata(metadata) => {
                    plugin.on_grpc_receive_trailing_metadata(token, metadata)
                }
            })
        });
        let task = self.spawn(async move {
            let status = run.await;
            started.tell(|plugin| plugin.on_grpc_close(token, &status));
        })?;
        self.keep(token, GrpcInFlight { task, sender: Some(sender) });
        Ok(())
    }

    pub(super) fn send_grpc(
        &self,
        token: u32,
        message: &Bytes,
        end_of_stream: bool,
    ) -> Result<(), Status> {
        let mut grpc = self.grpc.borrow_mut();
        // After its own last message a plugin may go on sending; nobody hears it, as in Envoy.
        let Some(in_flight) = grpc.get_mut(&token) else { return Ok(()) };
        if let Some(sender) = &in_flight.sender {
            sender.send(message, self.sending.take(message.len())?)?;
        }
        if end_of_stream {
            in_flight.sender = None;
        }
        Ok(())
    }

    pub(super) fn close_grpc(&self, token: u32) {
        if let Some(in_flight) = self.grpc.borrow_mut().get_mut(&token) {
            in_flight.sender = None;
        }
    }

    fn keep(&self, token: u32, in_flight: GrpcInFlight) {
        let mut grpc = self.grpc.borrow_mut();
        grpc.retain(|_, present| !present.task.is_finished());
        grpc.insert(token, in_flight);
    }

    fn warn_unknown_grpc(&self, status: Status) {
        if status == Status::ParseFailure {
            self.warn_unknown("of a gRPC call");
        }
    }
}
