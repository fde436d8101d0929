//! What an embedder does for a plugin as a whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::abi::Status;
use crate::callout::{GrpcCall, GrpcTarget, HttpCall};
use crate::costs::PluginCosts;
use crate::error::Failure;
use crate::property::PropertyValue;
use crate::shared_queue::QueueConsumer;

/// What an embedder does for a plugin as a whole. Called on the worker thread from inside a
/// callback: it must not block and must not call back into the plugin.
///
/// Only what an embedder offers needs to be implemented; the defaults answer as Envoy does where
/// nothing is configured.
pub trait PluginServices {
    /// Calls [`crate::Plugin::tick`] every so often; `None` stops it.
    fn set_tick_period(&self, _period: Option<Duration>) {}

    /// Starts an HTTP call whose answer goes to [`crate::Plugin::on_http_call_response`].
    ///
    /// # Errors
    /// [`Status::BadArgument`] for an unknown target, [`Status::InternalFailure`] if it failed at
    /// once; then no answer follows.
    fn http_call(&self, _call: HttpCall) -> Result<(), Status> {
        Err(Status::BadArgument)
    }

    /// Starts a gRPC call, which ends with [`crate::Plugin::on_grpc_receive`] if it succeeds and
    /// with [`crate::Plugin::on_grpc_close`] if not.
    ///
    /// # Errors
    /// [`Status::ParseFailure`] for an unknown target, [`Status::InternalFailure`] if it failed at
    /// once; then nothing follows.
    fn grpc_call(&self, _call: GrpcCall) -> Result<(), Status> {
        Err(Status::ParseFailure)
    }

    /// Opens a gRPC stream, which ends with [`crate::Plugin::on_grpc_close`].
    ///
    /// # Errors
    /// As for [`PluginServices::grpc_call`].
    fn grpc_stream(&self, _token: u32, _target: GrpcTarget) -> Result<(), Status> {
        Err(Status::ParseFailure)
    }

    /// Sends a message on a stream that is open; `end_of_stream` says that it is the last one.
    ///
    /// # Errors
    /// [`Status::InternalFailure`] if too many messages wait to be sent already.
    fn grpc_send(&self, _token: u32, _message: Bytes, _end_of_stream: bool) -> Result<(), Status> {
        Err(Status::InternalFailure)
    }

    /// No further message will be sent on a stream; what the server still sends is wanted.
    fn grpc_close(&self, _token: u32) {}

    /// A call or a stream is given up: nothing more is wanted of it.
    fn grpc_cancel(&self, _token: u32) {}

    /// Looks a name up; the answer goes to [`crate::Plugin::on_resolve_dns`].
    ///
    /// # Errors
    /// [`Status::BadArgument`] if names are not looked up here, or this is none.
    fn resolve_dns(&self, _token: u32, _name: &str) -> Result<(), Status> {
        Err(Status::BadArgument)
    }

    /// Where it is counted what the plugin costs; asked once, when the plugin starts.
    fn costs(&self) -> Option<Arc<PluginCosts>> {
        None
    }

    /// Who is told about items in queues that this plugin registers.
    fn queue_consumer(&self) -> Option<Arc<dyn QueueConsumer>> {
        None
    }

    /// Attributes that exist without a stream, such as `xds.node`.
    fn property(&self, _path: &[&[u8]]) -> Option<PropertyValue> {
        None
    }

    /// The VM of the plugin died, of whatever: of this plugin, of another one in the same VM, or
    /// in the middle of this one's start. It is never entered again.
    fn died(&self, _failure: &Failure) {}

    /// `proxy_on_done` returned false and the plugin has now said that it is done: it was deleted.
    fn ended(&self) {}
}

/// Embedders without timers, calls and queues.
#[derive(Debug, Default)]
pub struct NoServices;

impl PluginServices for NoServices {}
