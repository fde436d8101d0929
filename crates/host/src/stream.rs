//! One HTTP stream of one plugin: the embedder's seam and the driver of its callbacks.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use wasmtime::WasmParams;

use crate::abi::{DataAction, HeadersAction, Status, TrailersAction};
use crate::body::BodyBuffer;
use crate::callbacks::{Callback, HeadersCallback};
use crate::context::{Callee, StreamActions, StreamContext};
use crate::error::Failure;
use crate::fields::Fields;
use crate::property::PropertyValue;
use crate::vm::VmHandle;

/// What a stream context may see or change beyond its own header maps and bodies.
///
/// Implemented by the embedder. Called from inside a callback, on the worker thread: it must not
/// block and must not call back into the stream. Only what an embedder has to offer needs to be
/// implemented; one that streams must implement [`StreamHost::wake`].
pub trait StreamHost {
    /// The attribute at this path, for instance `["source", "address"]`.
    ///
    /// Paths that begin with `plugin_` or that only need the headers at hand never get here.
    fn property(&self, _path: &[&[u8]]) -> Option<PropertyValue> {
        None
    }
    /// Stores a value that every filter of the stream can read under this name.
    ///
    /// # Errors
    /// [`Status::BadArgument`] if it may not be written.
    fn set_property(&self, _name: &[u8], _value: &[u8], _span: LifeSpan) -> Result<(), Status> {
        Err(Status::NotFound)
    }
    /// Sets a value that the proxy itself looks at, such as `envoy.tcp_proxy.cluster`.
    ///
    /// # Errors
    /// [`Status::NotFound`] for a key that means nothing here, [`Status::BadArgument`] for a value
    /// that does not fit it.
    fn set_filter_state(&self, _key: &str, _value: &[u8], _span: LifeSpan) -> Result<(), Status> {
        Err(Status::NotFound)
    }
    /// The plugin changed request headers, or asks for it: a route that was chosen by them no
    /// longer counts. `headers` are those of now, if the plugin sees them.
    fn clear_route_cache(&self, _headers: Option<&Fields>) {}
    /// Something happened outside the stream's own callbacks: [`HttpStream::take_actions`] has
    /// work, or the VM died.
    fn wake(&self) {}
}

/// How long a value lives that a plugin stores. Source: Envoy's filter state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LifeSpan {
    /// As long as the stream.
    #[default]
    FilterChain,
    /// As long as the request, also where it goes through several chains.
    DownstreamRequest,
    /// As long as the client's connection: later streams of it see it too.
    DownstreamConnection,
}

/// An answer that a plugin gives in place of the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalReply {
    /// Status code, 200 to 599.
    pub status: u16,
    /// Why, for logs; white space is replaced by `_`.
    pub details: String,
    /// Body; may be empty.
    pub body: Bytes,
    /// Headers in the plugin's order, as it gave them.
    pub headers: Vec<(Bytes, Bytes)>,
    /// Status for a gRPC client; outside 0 to 16 it is derived from `status`.
    pub grpc_status: u32,
}

/// Header maps of a finished stream, lent to the log callback.
#[derive(Debug, Default)]
pub struct LogFields {
    /// Request headers as the upstream saw them.
    pub request_headers: Option<Fields>,
    /// Response headers as the client saw them.
    pub response_headers: Option<Fields>,
    /// Response trailers.
    pub response_trailers: Option<Fields>,
}

/// One plugin's view of one HTTP stream.
///
/// The driver calls the methods in the order of the messages. After each call it looks at the
/// returned action and at [`HttpStream::take_actions`]. While the plugin holds a message the maps
/// and bodies stay here; the `release_*` methods take them out when they go on.
///
/// Dropping the value forgets the context without a word to the guest; call
/// [`HttpStream::finish`] at the end of a stream.
pub struct HttpStream {
    vm: VmHandle,
    callee: Callee,
}

// === impl LocalReply ===

impl LocalReply {
    /// The reply as a response. Headers that are not valid, or frame the message, are left out.
    pub fn into_response(self) -> http::Response<Bytes> {
        use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
        let mut response = http::Response::new(self.body);
        if let Ok(status) = http::StatusCode::from_u16(self.status) {
            *response.status_mut() = status;
        }
        for (name, value) in &self.headers {
            let name = http::HeaderName::from_bytes(name);
            let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(value)) else {
                continue;
            };
            if ![CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
                response.headers_mut().append(name, value);
            }
        }
        if !response.body().is_empty() && !response.headers().contains_key(CONTENT_TYPE) {
            let text = http::HeaderValue::from_static("text/plain");
            response.headers_mut().insert(CONTENT_TYPE, text);
        }
        response
    }
}

// === impl HttpStream ===

impl HttpStream {
    pub(crate) fn open(vm: VmHandle, root: u32, host: Rc<dyn StreamHost>) -> Option<Self> {
        let callee = vm.insert_stream(root, host)?;
        Some(Self { vm, callee })
    }

    /// The id under which the plugin knows this stream.
    pub fn context_id(&self) -> u32 {
        self.callee.context
    }

    /// Why the VM no longer runs, if it does not.
    pub fn failure(&self) -> Option<Failure> {
        self.vm.failure()
    }

    /// Whether the VM no longer runs.
    pub fn has_failed(&self) -> bool {
        self.vm.is_failed()
    }

    /// Whether the plugin hears of what follows the headers of a request.
    pub fn hears_request_body(&self) -> bool {
        let callbacks = self.vm.callbacks();
        callbacks.on_request_body.is_some() || callbacks.on_request_trailers.is_some()
    }

    /// Whether the plugin hears of responses.
    pub fn hears_response(&self) -> bool {
        let callbacks = self.vm.callbacks();
        callbacks.on_response_headers.is_some()
            || callbacks.on_response_body.is_some()
            || callbacks.on_response_trailers.is_some()
    }

    /// Shows the request headers. They stay here until [`HttpStream::release_request_headers`].
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_request_headers(
        &mut self,
        headers: Fields,
        end_of_stream: bool,
        allow_stop_iteration: bool,
    ) -> Result<HeadersAction, Failure> {
        let count = count(headers.len());
        let news = self.show(|context| context.request_headers = Some(headers));
        let callback = self.vm.callbacks().on_request_headers.as_ref();
        let value = self.call_headers(news, callback, count, end_of_stream)?;
        Ok(self.headers_action(value, allow_stop_iteration))
    }

    /// Shows bytes of the request body. They stay here until
    /// [`HttpStream::release_request_body`].
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_request_body(
        &mut self,
        body: BodyBuffer,
        end_of_stream: bool,
    ) -> Result<DataAction, Failure> {
        let size = count(body.len());
        let news = self.show(|context| {
            context.request_body = Some(body);
            context.may_add_request_trailers = end_of_stream;
        });
        let callback = self.vm.callbacks().on_request_body.as_ref();
        let params = (self.callee.context, size, u32::from(end_of_stream));
        let value = self.call(news, callback, params)?;
        Ok(self.data_action(value))
    }

    /// Shows the request trailers. They stay here until
    /// [`HttpStream::release_request_trailers`].
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_request_trailers(&mut self, trailers: Fields) -> Result<TrailersAction, Failure> {
        let count = count(trailers.len());
        let news = self.show(|context| context.request_trailers = Some(trailers));
        let callback = self.vm.callbacks().on_request_trailers.as_ref();
        let value = self.call(news, callback, (self.callee.context, count))?;
        Ok(self.trailers_action(value))
    }

    /// Shows the response headers. They stay here until
    /// [`HttpStream::release_response_headers`].
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_response_headers(
        &mut self,
        headers: Fields,
        end_of_stream: bool,
        allow_stop_iteration: bool,
    ) -> Result<HeadersAction, Failure> {
        let count = count(headers.len());
        let news = self.show(|context| context.response_headers = Some(headers));
        let callback = self.vm.callbacks().on_response_headers.as_ref();
        let value = self.call_headers(news, callback, count, end_of_stream)?;
        Ok(self.headers_action(value, allow_stop_iteration))
    }

    /// Shows bytes of the response body. They stay here until
    /// [`HttpStream::release_response_body`].
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_response_body(
        &mut self,
        body: BodyBuffer,
        end_of_stream: bool,
    ) -> Result<DataAction, Failure> {
        let size = count(body.len());
        let news = self.show(|context| {
            context.response_body = Some(body);
            context.may_add_response_trailers = end_of_stream;
        });
        let callback = self.vm.callbacks().on_response_body.as_ref();
        let params = (self.callee.context, size, u32::from(end_of_stream));
        let value = self.call(news, callback, params)?;
        Ok(self.data_action(value))
    }

    /// Shows the response trailers. They stay here until
    /// [`HttpStream::release_response_trailers`].
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_response_trailers(&mut self, trailers: Fields) -> Result<TrailersAction, Failure> {
        let count = count(trailers.len());
        let news = self.show(|context| context.response_trailers = Some(trailers));
        let callback = self.vm.callbacks().on_response_trailers.as_ref();
        let value = self.call(news, callback, (self.callee.context, count))?;
        Ok(self.trailers_action(value))
    }

    /// Tells the plugin of an HTTP/2 METADATA frame of the request, which it cannot read.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_request_metadata(&mut self, entries: usize) -> Result<(), Failure> {
        let callback = self.vm.callbacks().rare.on_request_metadata.as_ref();
        let params = (self.callee.context, count(entries));
        // Whatever it returns means to go on, as in Envoy.
        self.call(self.show(|_| ()), callback, params).map(|_| ())
    }

    /// The same of the response.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_response_metadata(&mut self, entries: usize) -> Result<(), Failure> {
        let callback = self.vm.callbacks().rare.on_response_metadata.as_ref();
        let params = (self.callee.context, count(entries));
        self.call(self.show(|_| ()), callback, params).map(|_| ())
    }

    /// Tells the plugin that the stream is over, with its maps to read. Gives the maps back.
    ///
    /// Source: in Envoy this comes before done, for every filter of the chain in request order.
    pub fn on_log(&mut self, fields: LogFields) -> LogFields {
        let news = self.show(|context| {
            context.is_read_only = true;
            context.is_request_hidden = false;
            context.request_headers = fields.request_headers;
            context.response_headers = fields.response_headers;
            context.response_trailers = fields.response_trailers;
            (context.request_body, context.response_body) = (None, None);
        });
        if self.vm.announce_stream(self.callee, news).is_ok() {
            let callback = self.vm.callbacks().on_log.as_ref();
            // The response is out; a failure is counted and logged by the VM.
            let _ = self.vm.call_optional(self.callee, callback, self.callee.context);
        }
        let lent = self.with(|context| {
            context.is_read_only = false;
            LogFields {
                request_headers: context.request_headers.take(),
                response_headers: context.response_headers.take(),
                response_trailers: context.response_trailers.take(),
            }
        });
        lent.unwrap_or_default()
    }

    /// Ends the context: done, then delete.
    pub fn finish(self) {
        if self.with(|context| context.is_created) == Some(true) {
            let callbacks = self.vm.callbacks();
            let done = callbacks.on_done.as_ref();
            // The result of done is ignored for streams, as in Envoy.
            if self.vm.call_optional(self.callee, done, self.callee.context).is_ok() {
                let delete = callbacks.on_delete.as_ref();
                let _ = self.vm.call_optional(self.callee, delete, self.callee.context);
            }
        }
    }

    /// Time in the callbacks of this stream so far, as far as they were timed: all of them with
    /// [`PluginCosts::timing_all`](crate::PluginCosts::timing_all).
    pub fn time_spent(&self) -> Duration {
        self.vm.with_stream(self.callee.context, |context| context.time_spent).unwrap_or_default()
    }

    /// Takes what the plugin asked for since the last time.
    pub fn take_actions(&mut self) -> StreamActions {
        self.take_some_actions().map_or_else(StreamActions::default, |actions| *actions)
    }

    /// Like [`HttpStream::take_actions`]; `None` if the plugin asked for nothing, as it mostly does.
    pub fn take_some_actions(&mut self) -> Option<Box<StreamActions>> {
        let taken = self.with(|context| {
            context.is_request_hidden = false;
            context.actions.take()
        });
        taken.flatten()
    }

    /// Takes the request headers out; they are no longer visible to the plugin.
    pub fn release_request_headers(&mut self) -> Option<Fields> {
        self.with(|context| context.request_headers.take()).flatten()
    }

    /// Takes the request body out.
    pub fn release_request_body(&mut self) -> Option<BodyBuffer> {
        self.with(|context| context.request_body.take()).flatten()
    }

    /// Number of request body bytes that stay here.
    pub fn request_body_len(&self) -> usize {
        let len =
            |context: &mut StreamContext| context.request_body.as_ref().map_or(0, BodyBuffer::len);
        self.with(len).unwrap_or_default()
    }

    /// Number of response body bytes that stay here.
    pub fn response_body_len(&self) -> usize {
        let len =
            |context: &mut StreamContext| context.response_body.as_ref().map_or(0, BodyBuffer::len);
        self.with(len).unwrap_or_default()
    }

    /// Takes the request trailers out, also those that the plugin just created.
    pub fn release_request_trailers(&mut self) -> Option<Fields> {
        self.with(|context| context.request_trailers.take()).flatten()
    }

    /// Takes the response headers out.
    pub fn release_response_headers(&mut self) -> Option<Fields> {
        self.with(|context| context.response_headers.take()).flatten()
    }

    /// Takes the response body out.
    pub fn release_response_body(&mut self) -> Option<BodyBuffer> {
        self.with(|context| context.response_body.take()).flatten()
    }

    /// Takes the response trailers out, also those that the plugin just created.
    pub fn release_response_trailers(&mut self) -> Option<Fields> {
        self.with(|context| context.response_trailers.take()).flatten()
    }

    #[inline]
    fn with<R>(&self, f: impl FnOnce(&mut StreamContext) -> R) -> Option<R> {
        self.vm.with_stream(self.callee.context, f)
    }

    /// Lays something out for the guest. Says whether it has yet to hear of the context.
    #[inline]
    fn show(&self, lay_out: impl FnOnce(&mut StreamContext)) -> Option<u32> {
        let news = self.with(|context| {
            lay_out(context);
            context.announce()
        });
        news.flatten()
    }

    /// Calls into the context, which the guest has heard of by then.
    fn call<Params: WasmParams>(
        &self,
        news: Option<u32>,
        callback: Option<&Callback<Params, u32>>,
        params: Params,
    ) -> Result<Option<u32>, Failure> {
        if self.is_not_missed(callback.is_some()) {
            return Ok(None);
        }
        self.vm.announce_stream(self.callee, news)?;
        self.vm.call_optional(self.callee, callback, params)
    }

    /// Whether the VM has died before an event of which the plugin would not have heard, and holds
    /// no headers of the stream.
    ///
    /// It has said all that it had to say about this stream, which need not end with the VM.
    #[inline]
    fn is_not_missed(&self, has_callback: bool) -> bool {
        !has_callback && self.vm.is_failed() && self.holds_no_headers()
    }

    fn holds_no_headers(&self) -> bool {
        let holds = |context: &mut StreamContext| {
            // Those of the response may be what it is about to be shown.
            let has_more = context.response_body.is_some() || context.response_trailers.is_some();
            context.request_headers.is_some() || context.response_headers.is_some() && has_more
        };
        self.with(holds) == Some(false)
    }

    /// The same for headers, whose callbacks have two shapes.
    fn call_headers(
        &self,
        news: Option<u32>,
        callback: Option<&HeadersCallback>,
        count: u32,
        end_of_stream: bool,
    ) -> Result<Option<u32>, Failure> {
        if self.is_not_missed(callback.is_some()) {
            return Ok(None);
        }
        self.vm.announce_stream(self.callee, news)?;
        self.vm.call_headers(self.callee, callback, count, end_of_stream)
    }

    /// A local reply stops the message, whatever the callback returned.
    fn has_local_reply(&self) -> bool {
        self.with(|context| context.has_local_reply()).unwrap_or_default()
    }

    fn headers_action(&self, value: Option<u32>, allow_stop_iteration: bool) -> HeadersAction {
        if self.has_local_reply() {
            return HeadersAction::StopAllIterationAndWatermark;
        }
        value.map_or(HeadersAction::Continue, |value| {
            HeadersAction::from_guest(value, allow_stop_iteration)
        })
    }

    fn data_action(&self, value: Option<u32>) -> DataAction {
        let is_replied = self.with(|context| {
            context.may_add_request_trailers = false;
            context.may_add_response_trailers = false;
            context.has_local_reply()
        });
        if is_replied == Some(true) {
            return DataAction::StopIterationNoBuffer;
        }
        value.map_or(DataAction::Continue, DataAction::from_guest)
    }

    fn trailers_action(&self, value: Option<u32>) -> TrailersAction {
        if self.has_local_reply() {
            return TrailersAction::StopIteration;
        }
        value.map_or(TrailersAction::Continue, TrailersAction::from_guest)
    }
}

impl Drop for HttpStream {
    fn drop(&mut self) {
        self.vm.remove_context(self.callee.context);
    }
}

impl std::fmt::Debug for HttpStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpStream")
            .field("context_id", &self.callee.context)
            .finish_non_exhaustive()
    }
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
