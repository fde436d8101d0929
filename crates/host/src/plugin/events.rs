//! What comes for a plugin from outside its streams: answers to its calls, and the host's own words.

use std::rc::Rc;

use bytes::{BufMut, Bytes, BytesMut};

use super::Plugin;
use crate::abi::Status;
use crate::callbacks::Callback;
use crate::callout::{CallKind, GrpcStatus, HttpCallResponse};
use crate::context::{Callee, Input, StreamContext};
use crate::error::Failure;
use crate::fields::Fields;
use crate::stream::{LogFields, StreamHost};

/// What a name was found to mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// How long it may be believed, in seconds.
    pub ttl_seconds: u32,
    /// Address and port; the port is 0 where there is none.
    pub address: String,
}

// === impl Plugin ===

impl Plugin {
    /// Runs `proxy_on_http_call_response`; `None` tells the plugin that the call failed.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_http_call_response(
        &self,
        token: u32,
        response: Option<HttpCallResponse>,
    ) -> Result<(), Failure> {
        self.vm.with_state(|state| state.tokens.release(token, self.root));
        let (headers, body, trailers) = response.as_ref().map_or((0, 0, 0), |response| {
            let HttpCallResponse { headers, body, trailers } = response;
            (count(headers.len()), count(body.len()), count(trailers.len()))
        });
        let params = (self.root, token, headers, body, trailers);
        if response.is_none() {
            self.set_status(Status::BrokenConnection.into(), "reset");
        }
        // Without an answer there are no maps and no body to look at, as in Envoy.
        self.set_input(response.map(Input::HttpResponse));
        let callback = self.vm.callbacks().on_http_call_response.as_ref();
        let result = self.vm.call_optional(Callee::root(self.root), callback, params);
        self.set_input(None);
        self.clear_message();
        result.map(|_| ())
    }

    /// Runs `proxy_on_grpc_receive_initial_metadata` of a stream.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_grpc_receive_initial_metadata(
        &self,
        token: u32,
        metadata: Fields,
    ) -> Result<(), Failure> {
        let size = metadata.len();
        let callback = self.vm.callbacks().rare.on_grpc_receive_initial_metadata.as_ref();
        self.grpc_event(callback, token, size, Input::GrpcInitialMetadata(metadata))
    }

    /// Runs `proxy_on_grpc_receive`, which for a call is the last event.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_grpc_receive(&self, token: u32, message: Bytes) -> Result<(), Failure> {
        let size = message.len();
        let callback = self.vm.callbacks().rare.on_grpc_receive.as_ref();
        let result = self.grpc_event(callback, token, size, Input::GrpcMessage(message));
        if CallKind::of(token) == Some(CallKind::GrpcCall) {
            self.vm.with_state(|state| state.tokens.release(token, self.root));
        }
        result
    }

    /// Runs `proxy_on_grpc_receive_trailing_metadata` of a stream.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_grpc_receive_trailing_metadata(
        &self,
        token: u32,
        metadata: Fields,
    ) -> Result<(), Failure> {
        let size = metadata.len();
        let callback = self.vm.callbacks().rare.on_grpc_receive_trailing_metadata.as_ref();
        self.grpc_event(callback, token, size, Input::GrpcTrailingMetadata(metadata))
    }

    /// Runs `proxy_on_grpc_close`: a call failed, or the server ended a stream.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_grpc_close(&self, token: u32, status: &GrpcStatus) -> Result<(), Failure> {
        if !self.vm.with_state(|state| state.tokens.release(token, self.root)) {
            return Ok(());
        }
        self.set_status(status.code, &status.message);
        let callback = self.vm.callbacks().rare.on_grpc_close.as_ref();
        let params = (self.root, token, status.code);
        let result = self.vm.call_optional(Callee::root(self.root), callback, params);
        self.clear_message();
        result.map(|_| ())
    }

    /// Runs `proxy_on_foreign_function`: an extension of the embedder says something.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_foreign_function(&self, function: u32, data: Bytes) -> Result<(), Failure> {
        let callback = self.vm.callbacks().rare.on_foreign_function.as_ref();
        let params = (self.root, function, count(data.len()));
        self.with_call_data(callback, params, data)
    }

    /// Runs `envoy_on_resolve_dns`; no answers mean that the name was not found.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_resolve_dns(&self, token: u32, answers: &[DnsAnswer]) -> Result<(), Failure> {
        if !self.vm.with_state(|state| state.tokens.release(token, self.root)) {
            return Ok(());
        }
        let data = encode_answers(answers);
        let callback = self.vm.callbacks().rare.on_resolve_dns.as_ref();
        let params = (self.root, token, count(data.len()));
        self.with_call_data(callback, params, data)
    }

    /// Runs `envoy_on_stats_update` with counters and gauges in Envoy's encoding.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_stats_update(&self, data: Bytes) -> Result<(), Failure> {
        let callback = self.vm.callbacks().rare.on_stats_update.as_ref();
        let params = (self.root, count(data.len()));
        self.with_call_data(callback, params, data)
    }

    /// Runs `proxy_on_log` for the plugin itself and not for a stream of it: an access logger.
    ///
    /// The maps of the finished stream can be read meanwhile, and its attributes. Gives the maps
    /// back.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub fn on_access_log(
        &self,
        host: Rc<dyn StreamHost>,
        fields: LogFields,
    ) -> Result<LogFields, Failure> {
        let context = StreamContext {
            is_read_only: true,
            request_headers: fields.request_headers,
            response_headers: fields.response_headers,
            response_trailers: fields.response_trailers,
            ..StreamContext::new(self.root, host)
        };
        self.vm.with_state(|state| state.logging = Some(Box::new(context)));
        let callback = self.vm.callbacks().on_log.as_ref();
        let result = self.vm.call_optional(Callee::root(self.root), callback, self.root);
        let lent = self.vm.with_state(|state| state.logging.take());
        result?;
        Ok(lent.map_or_else(LogFields::default, |context| LogFields {
            request_headers: context.request_headers,
            response_headers: context.response_headers,
            response_trailers: context.response_trailers,
        }))
    }

    /// An event of a call or stream; dropped if the plugin gave it up meanwhile.
    fn grpc_event(
        &self,
        callback: Option<&Callback<(u32, u32, u32), ()>>,
        token: u32,
        size: usize,
        input: Input,
    ) -> Result<(), Failure> {
        if !self.vm.with_state(|state| state.tokens.is_in_use(token, self.root)) {
            return Ok(());
        }
        self.set_input(Some(input));
        let params = (self.root, token, count(size));
        let result = self.vm.call_optional(Callee::root(self.root), callback, params);
        self.set_input(None);
        result.map(|_| ())
    }

    fn with_call_data<Params: wasmtime::WasmParams>(
        &self,
        callback: Option<&Callback<Params, ()>>,
        params: Params,
        data: Bytes,
    ) -> Result<(), Failure> {
        self.set_input(Some(Input::CallData(data)));
        let result = self.vm.call_optional(Callee::root(self.root), callback, params);
        self.set_input(None);
        result.map(|_| ())
    }

    fn set_input(&self, input: Option<Input>) {
        self.vm.with_root(self.root, |root| root.input = input);
    }

    fn set_status(&self, code: u32, message: &str) {
        self.vm.with_root(self.root, |root| root.last_status = (code, message.to_owned()));
    }

    /// The message of the last status can only be read while its callback runs, the code longer.
    fn clear_message(&self) {
        self.vm.with_root(self.root, |root| root.last_status.1.clear());
    }
}

/// Number of answers, their lifetimes, their addresses with a zero behind each. Source: Envoy.
fn encode_answers(answers: &[DnsAnswer]) -> Bytes {
    if answers.is_empty() {
        return Bytes::new();
    }
    let mut data = BytesMut::new();
    data.put_u32_le(count(answers.len()));
    for answer in answers {
        data.put_u32_le(answer.ttl_seconds);
    }
    for answer in answers {
        data.put_slice(answer.address.as_bytes());
        data.put_u8(0);
    }
    data.freeze()
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
