//! The contexts of one VM: plugin (root) contexts and stream contexts, by id.
//!
//! A stream context holds what the plugin may touch at this moment: the embedder moves header maps
//! and bodies in before a callback and takes them out when the plugin lets them go. What is not
//! here is not available, which is how Envoy's rules about phases come out by themselves.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::abi::{BufferType, MapType, Status, StreamType};
use crate::body::BodyBuffer;
use crate::callout::HttpCallResponse;
use crate::expression::Expressions;
use crate::fields::Fields;
use crate::id_table::IdTable;
use crate::stream::{LifeSpan, LocalReply, StreamHost};

/// All live contexts of a VM. Ids start at 1 and are never used again.
#[derive(Default)]
pub(crate) struct ContextTable {
    by_id: IdTable<Context>,
    last_id: u32,
}

/// A context that is called into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Callee {
    pub(crate) context: u32,
    /// Its root, or itself.
    pub(crate) root: u32,
    /// Where the costs of that root were when the stream began, among those of the VM.
    pub(crate) costs_at: Option<usize>,
}

/// One context. Streams are boxed: they are many times larger than what a lookup moves.
pub(crate) enum Context {
    Root(Box<RootContext>),
    Stream(Box<StreamContext>),
}

/// State of one plugin in this VM.
pub(crate) struct RootContext {
    pub(crate) plugin: Arc<str>,
    pub(crate) root_id: Arc<str>,
    pub(crate) configuration: Bytes,
    /// What the callback that runs may look at, and nobody else.
    pub(crate) input: Option<Input>,
    /// Last status and message, as `proxy_get_status` gives them.
    pub(crate) last_status: (u32, String),
    /// How properties of its streams are kept, where it is said.
    pub(crate) declared: HashMap<Vec<u8>, DeclaredProperty>,
    pub(crate) expressions: Expressions,
    /// `proxy_on_done` returned false: the context waits for `proxy_done`.
    pub(crate) is_pending_done: bool,
    /// `proxy_on_done` was called.
    pub(crate) is_ending: bool,
}

/// How a property is kept that a plugin declared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DeclaredProperty {
    /// It can be set once.
    pub(crate) is_read_only: bool,
    pub(crate) span: LifeSpan,
}

/// What came for a plugin from outside its streams.
pub(crate) enum Input {
    /// `proxy_on_http_call_response`: buffer 4, maps 6 and 7.
    HttpResponse(HttpCallResponse),
    /// `proxy_on_grpc_receive_initial_metadata`: map 4.
    GrpcInitialMetadata(Fields),
    /// `proxy_on_grpc_receive`: buffer 5.
    GrpcMessage(Bytes),
    /// `proxy_on_grpc_receive_trailing_metadata`: map 5.
    GrpcTrailingMetadata(Fields),
    /// Callbacks of the host's extensions: buffer 8.
    CallData(Bytes),
}

/// State of one plugin for one stream.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state machine")]
pub(crate) struct StreamContext {
    pub(crate) root: u32,
    pub(crate) host: Rc<dyn StreamHost>,
    /// A TCP connection: the bodies are its data in both directions, and there are no maps.
    pub(crate) is_network: bool,
    pub(crate) is_created: bool,
    /// The maps can be read, not written, and an absent one is merely not found: the log phase.
    pub(crate) is_read_only: bool,
    /// `proxy_continue_*` was called: Envoy drops the request's pointers at once.
    pub(crate) is_request_hidden: bool,
    pub(crate) request_headers: Option<Fields>,
    pub(crate) request_trailers: Option<Fields>,
    pub(crate) response_headers: Option<Fields>,
    pub(crate) response_trailers: Option<Fields>,
    pub(crate) request_body: Option<BodyBuffer>,
    pub(crate) response_body: Option<BodyBuffer>,
    /// The last body bytes are being shown, so trailers may be created.
    pub(crate) may_add_request_trailers: bool,
    pub(crate) may_add_response_trailers: bool,
    /// Bytes of names and values that the plugin added to maps so far.
    pub(crate) added_bytes: usize,
    /// Time in those of its callbacks that were timed.
    pub(crate) time_spent: Duration,
    /// Boxed, because most callbacks ask for nothing.
    pub(crate) actions: Option<Box<StreamActions>>,
}

/// What a plugin asked for; the embedder does it after the callback has returned.
///
/// Source: Envoy queues these too, because they re-enter the filter chain.
#[derive(Debug, Default)]
pub struct StreamActions {
    /// Let the held request go on; of a TCP connection, what the client sent.
    pub continue_request: bool,
    /// Let the held response go on.
    pub continue_response: bool,
    /// Reset the stream, or close the connection; named by the plugin's word for it.
    pub close: Option<StreamType>,
    /// Answer in place of the upstream. The first one counts.
    pub local_reply: Option<LocalReply>,
}

// === impl ContextTable ===

impl ContextTable {
    /// Adds a context under the next id. `None` if the ids are used up.
    pub(crate) fn insert(&mut self, context: Context) -> Option<u32> {
        let id = self.last_id.checked_add(1)?;
        self.last_id = id;
        self.by_id.insert(id, context);
        Some(id)
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Context> {
        self.by_id.remove(id)
    }

    pub(crate) fn contains(&self, id: u32) -> bool {
        self.by_id.get(id).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn stream(&self, id: u32) -> Option<&StreamContext> {
        match self.by_id.get(id)? {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        }
    }

    #[inline]
    pub(crate) fn stream_mut(&mut self, id: u32) -> Option<&mut StreamContext> {
        match self.by_id.get_mut(id)? {
            Context::Stream(stream) => Some(stream),
            Context::Root(_) => None,
        }
    }

    /// Id of the root that this context belongs to: its own, if it is one.
    pub(crate) fn root_of(&self, id: u32) -> Option<u32> {
        match self.by_id.get(id)? {
            Context::Root(_) => Some(id),
            Context::Stream(stream) => Some(stream.root),
        }
    }

    /// The root that this context belongs to.
    pub(crate) fn root(&self, id: u32) -> Option<&RootContext> {
        match self.by_id.get(id)? {
            Context::Root(root) => Some(root),
            Context::Stream(stream) => match self.by_id.get(stream.root)? {
                Context::Root(root) => Some(root),
                Context::Stream(_) => None,
            },
        }
    }

    /// The root that this context belongs to.
    pub(crate) fn root_mut(&mut self, id: u32) -> Option<&mut RootContext> {
        let id = self.root_of(id)?;
        match self.by_id.get_mut(id)? {
            Context::Root(root) => Some(root),
            Context::Stream(_) => None,
        }
    }

    /// Hosts of all streams, to tell them that the VM died.
    pub(crate) fn stream_hosts(&self) -> Vec<Rc<dyn StreamHost>> {
        let hosts = self.by_id.values().filter_map(|context| match context {
            Context::Stream(stream) => Some(Rc::clone(&stream.host)),
            Context::Root(_) => None,
        });
        hosts.collect()
    }
}

// === impl Callee ===

impl Callee {
    pub(crate) fn root(root: u32) -> Self {
        Self { context: root, root, costs_at: None }
    }
}

// === impl StreamContext ===

impl StreamContext {
    pub(crate) fn new(root: u32, host: Rc<dyn StreamHost>) -> Self {
        Self {
            root,
            host,
            is_network: false,
            is_created: false,
            is_read_only: false,
            is_request_hidden: false,
            request_headers: None,
            request_trailers: None,
            response_headers: None,
            response_trailers: None,
            request_body: None,
            response_body: None,
            may_add_request_trailers: false,
            may_add_response_trailers: false,
            added_bytes: 0,
            time_spent: Duration::ZERO,
            actions: None,
        }
    }

    /// Root to name to the guest if it has not heard of this stream; from now on it has.
    pub(crate) fn announce(&mut self) -> Option<u32> {
        let is_new = !std::mem::replace(&mut self.is_created, true);
        is_new.then_some(self.root)
    }

    /// What the plugin asked for, to be added to.
    pub(crate) fn actions(&mut self) -> &mut StreamActions {
        self.actions.get_or_insert_default()
    }

    /// Takes what the plugin asked for.
    #[inline]
    pub(crate) fn take_actions(&mut self) -> StreamActions {
        self.actions.take().map_or_else(StreamActions::default, |actions| *actions)
    }

    /// Whether the plugin answers in place of the upstream.
    #[inline]
    pub(crate) fn has_local_reply(&self) -> bool {
        self.actions.as_ref().is_some_and(|actions| actions.local_reply.is_some())
    }

    /// The map if it can be read now.
    pub(crate) fn fields(&self, map: MapType) -> Option<&Fields> {
        match map {
            MapType::HttpRequestHeaders if !self.is_request_hidden => self.request_headers.as_ref(),
            MapType::HttpRequestTrailers if !self.is_request_hidden => {
                self.request_trailers.as_ref()
            }
            MapType::HttpResponseHeaders => self.response_headers.as_ref(),
            MapType::HttpResponseTrailers => self.response_trailers.as_ref(),
            _ => None,
        }
    }

    /// The bytes that a buffer type stands for here, if there are any.
    pub(crate) fn body(&self, buffer: BufferType) -> Option<&BodyBuffer> {
        match self.direction(buffer)? {
            StreamType::HttpRequest => self.request_body.as_ref(),
            _ => self.response_body.as_ref(),
        }
    }

    /// The same, to be changed.
    pub(crate) fn body_mut(&mut self, buffer: BufferType) -> Option<&mut BodyBuffer> {
        match self.direction(buffer)? {
            StreamType::HttpRequest => self.request_body.as_mut(),
            _ => self.response_body.as_mut(),
        }
    }

    /// Which direction a buffer type means here. What a connection carries lies where the bodies
    /// of a message would.
    fn direction(&self, buffer: BufferType) -> Option<StreamType> {
        match (buffer, self.is_network) {
            (BufferType::HttpRequestBody, false) if self.is_request_hidden => None,
            (BufferType::HttpRequestBody, false) | (BufferType::DownstreamData, true) => {
                Some(StreamType::HttpRequest)
            }
            (BufferType::HttpResponseBody, false) | (BufferType::UpstreamData, true) => {
                Some(StreamType::HttpResponse)
            }
            _ => None,
        }
    }

    /// The map if it can be written now; trailers are created at the end of a body.
    ///
    /// # Errors
    /// [`Status::BadArgument`] if it cannot.
    pub(crate) fn fields_mut(&mut self, map: MapType) -> Result<&mut Fields, Status> {
        use crate::fields::FieldsKind::Trailers;
        if self.is_read_only {
            return Err(Status::BadArgument);
        }
        let fields = match map {
            MapType::HttpRequestHeaders if !self.is_request_hidden => self.request_headers.as_mut(),
            MapType::HttpRequestTrailers if !self.is_request_hidden => {
                if self.may_add_request_trailers && self.request_trailers.is_none() {
                    self.request_trailers = Some(Fields::new(Trailers));
                }
                self.request_trailers.as_mut()
            }
            MapType::HttpResponseHeaders => self.response_headers.as_mut(),
            MapType::HttpResponseTrailers => {
                if self.may_add_response_trailers && self.response_trailers.is_none() {
                    self.response_trailers = Some(Fields::new(Trailers));
                }
                self.response_trailers.as_mut()
            }
            _ => None,
        };
        fields.ok_or(Status::BadArgument)
    }
}

// === impl StreamActions ===

impl StreamActions {
    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        !self.continue_request
            && !self.continue_response
            && self.close.is_none()
            && self.local_reply.is_none()
    }
}
