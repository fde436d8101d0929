//! Asks an external authorizer about requests that `CUSTOM` policies match.
//!
//! ```text
//! headers ─ no policy matches ─────────────────────────────> on
//!         └ matches ─ (body, if it is wanted) ─> asked ─┬─ allowed, with its headers ─> on
//!                                                       └─ its answer, or that it failed ─> client
//! ```
//!
//! Source: Envoy, `envoy.filters.http.ext_authz`, with the configuration that Istio makes of a
//! `CUSTOM` policy and of the mesh's `extensionProviders`.

mod answer;
mod grpc;
mod header_list;
mod web;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use wasmplug_api::{AuthorizerProtocol, ExternalAuthorizer, PlannedAuthorization};
use wasmplug_host::{BodyBuffer, Fields, LocalReply, StreamHost};

use self::answer::{Answer, Changes};
use self::web::WebAuthorizer;
use super::built_in::BuiltInFilter;
use super::rbac::{self, Rbac, RbacError, RbacOptions};
use crate::attributes::{StreamShared, flags};
use crate::filter::{BodyOutcome, HeadersOutcome, Hold, Interrupt, Resume, Side};

/// The filter's name in Envoy, which is that of its dynamic metadata.
pub(crate) const NAME: &str = "envoy.filters.http.ext_authz";

/// An external authorizer and the policies that want it to be asked.
#[derive(Debug)]
pub(crate) struct ExtAuthz {
    policies: Rbac,
    port: Option<u16>,
    authorizer: ExternalAuthorizer,
    cluster: String,
    protocol: Protocol,
}

/// What is spoken with it, ready to be used.
#[derive(Debug)]
enum Protocol {
    Web(WebAuthorizer),
    Grpc,
}

/// The filter of one stream.
#[derive(Debug)]
pub(crate) struct ExtAuthzFilter {
    spec: Arc<ExtAuthz>,
    stream: Rc<StreamShared>,
    state: State,
    /// The request's headers and body while they are held.
    headers: Option<Fields>,
    body: BodyBuffer,
    /// What the response gets in addition.
    response: Changes,
}

/// How far a request has got.
#[derive(Debug)]
enum State {
    /// Nothing was asked yet.
    Idle,
    /// The body is collected that the authorizer wants to see.
    Collecting,
    Asked(Question),
    /// The request goes on.
    Over,
}

/// A question on its way; it is given up when it is dropped.
#[derive(Debug)]
struct Question {
    answer: Rc<RefCell<Option<Answer>>>,
    task: AbortHandle,
}

// === impl ExtAuthz ===

impl ExtAuthz {
    /// # Errors
    /// A policy cannot be compiled.
    pub(crate) fn compile(
        planned: &PlannedAuthorization,
        authorizer: &ExternalAuthorizer,
        options: RbacOptions,
    ) -> Result<Self, RbacError> {
        let protocol = match &authorizer.protocol {
            AuthorizerProtocol::Http(http) => Protocol::Web(WebAuthorizer::new(http)),
            AuthorizerProtocol::Grpc => Protocol::Grpc,
        };
        Ok(Self {
            policies: Rbac::compile(planned, options)?,
            port: options.port,
            authorizer: authorizer.clone(),
            cluster: authorizer.cluster(),
            protocol,
        })
    }

    pub(crate) fn dump(&self) -> Value {
        json!({
            "authorizer": self.authorizer,
            "cluster": self.cluster,
            "policies": self.policies.dump(rbac::NAME),
            "filter": NAME,
        })
    }

    pub(crate) fn new_filter(self: &Arc<Self>, stream: &Rc<StreamShared>) -> ExtAuthzFilter {
        ExtAuthzFilter {
            spec: Arc::clone(self),
            stream: Rc::clone(stream),
            state: State::Idle,
            headers: None,
            body: BodyBuffer::default(),
            response: Changes::default(),
        }
    }

    /// Most bytes of a body that the authorizer sees; `None` if it wants none.
    fn body_limit(&self) -> Option<usize> {
        let wanted = self.authorizer.request_body?;
        Some(usize::try_from(wanted.max_bytes).unwrap_or(usize::MAX))
    }
}

// === impl ExtAuthzFilter ===

impl ExtAuthzFilter {
    /// Whether a policy wants the authorizer to be asked.
    fn is_wanted(&self, headers: &Fields) -> bool {
        let verdict = {
            let metadata = self.stream.metadata();
            let subject = self.stream.subject(self.spec.port, Some(headers), &metadata);
            self.spec.policies.judge(&subject)
        };
        let Some(verdict) = verdict else { return false };
        rbac::say_custom(&self.stream, verdict);
        verdict.rule.is_some()
    }

    /// Asks with everything that is held.
    fn ask(&mut self, is_partial: bool) {
        let Some(headers) = &self.headers else { return };
        let spec = &self.spec;
        let limit = spec.body_limit().filter(|_| matches!(self.state, State::Collecting));
        let body = limit.map(|limit| {
            let mut bytes: Bytes = self.body.clone().into();
            bytes.truncate(limit);
            (bytes, is_partial)
        });
        let timeout = spec.authorizer.timeout.unwrap_or(ExternalAuthorizer::DEFAULT_TIMEOUT);
        let clusters = &self.stream.connection_info().surroundings.clusters;
        let call: std::pin::Pin<Box<dyn Future<Output = Answer>>> = match &spec.protocol {
            Protocol::Web(web) => {
                let call = web.call(&spec.cluster, headers, body, timeout);
                Box::pin(web::ask(Arc::clone(spec), clusters, call))
            }
            Protocol::Grpc => {
                let request = grpc::request(&self.stream, headers, body, &spec.authorizer);
                Box::pin(grpc::ask(spec, clusters, request, timeout))
            }
        };
        let answer = Rc::new(RefCell::new(None));
        let (place, stream) = (Rc::clone(&answer), Rc::clone(&self.stream));
        let task = tokio::task::spawn_local(async move {
            let answer = call.await;
            *place.borrow_mut() = Some(answer);
            stream.wake();
        });
        self.state = State::Asked(Question { answer, task: task.abort_handle() });
    }

    /// Does what the authorizer says.
    fn obey(&mut self, answer: Answer) -> Result<Resume, Interrupt> {
        match answer {
            Answer::Allowed { request, response, metadata } => {
                if let Some(metadata) = metadata {
                    self.stream.replace_metadata(NAME, metadata);
                }
                let is_changed = !request.is_empty();
                if let Some(headers) = &mut self.headers {
                    request.apply(headers);
                    if is_changed && self.spec.authorizer.clear_route_cache {
                        self.stream.choose_route(headers);
                    }
                }
                self.response = response;
            }
            Answer::Denied(reply) => {
                self.stream.add_flags(flags::UNAUTHORIZED_EXTERNALLY);
                return Err(Interrupt::LocalReply(*reply));
            }
            Answer::Failed if self.spec.authorizer.fail_open => {}
            Answer::Failed => {
                self.stream.add_flags(flags::UNAUTHORIZED_EXTERNALLY);
                let status = self.spec.authorizer.status_on_error;
                let status = status.unwrap_or(StatusCode::FORBIDDEN.as_u16());
                return Err(Interrupt::LocalReply(bare_reply(status, "ext_authz_error")));
            }
        }
        self.state = State::Over;
        Ok(Resume { request: true, response: false })
    }
}

impl BuiltInFilter for ExtAuthzFilter {
    fn takes_part(&self, side: Side) -> bool {
        match side {
            Side::Request => true,
            Side::Response => !self.response.is_empty(),
        }
    }

    fn on_headers(
        &mut self,
        side: Side,
        mut headers: Fields,
        end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        if side == Side::Response {
            std::mem::take(&mut self.response).apply(&mut headers);
            return Ok(HeadersOutcome::Continue(headers));
        }
        if !self.is_wanted(&headers) {
            return Ok(HeadersOutcome::Continue(headers));
        }
        self.headers = Some(headers);
        if self.spec.body_limit().is_some() && !end {
            self.state = State::Collecting;
            return Ok(HeadersOutcome::Hold(Hold::Headers));
        }
        self.ask(false);
        Ok(HeadersOutcome::Hold(Hold::AllAndWatermark))
    }

    fn on_body(
        &mut self,
        side: Side,
        body: BodyBuffer,
        end: bool,
    ) -> Result<BodyOutcome, Interrupt> {
        let is_held = matches!(self.state, State::Collecting | State::Asked(_));
        if side == Side::Response || !is_held {
            return Ok(BodyOutcome::Continue(body));
        }
        // What was held comes again with what is new.
        self.body = body;
        if matches!(self.state, State::Collecting) {
            let limit = self.spec.body_limit().unwrap_or_default();
            let allows_partial =
                self.spec.authorizer.request_body.is_some_and(|of| of.allow_partial);
            let is_full = self.body.len() >= limit;
            if self.body.len() > limit && !allows_partial {
                let details = "request_payload_too_large";
                let mut reply = bare_reply(StatusCode::PAYLOAD_TOO_LARGE.as_u16(), details);
                reply.body = Bytes::from_static(b"Payload Too Large");
                return Err(Interrupt::LocalReply(reply));
            }
            if end || (is_full && allows_partial) {
                self.ask(is_full && !end);
            }
        }
        Ok(BodyOutcome::Buffer)
    }

    fn poll_actions(&mut self, _is_held: bool) -> Result<Resume, Interrupt> {
        let State::Asked(question) = &self.state else { return Ok(Resume::default()) };
        let answer = question.answer.borrow_mut().take();
        answer.map_or_else(|| Ok(Resume::default()), |answer| self.obey(answer))
    }

    fn release_headers(&mut self, side: Side) -> Option<Fields> {
        if side == Side::Request { self.headers.take() } else { None }
    }

    fn release_body(&mut self, side: Side) -> BodyBuffer {
        if side == Side::Request { std::mem::take(&mut self.body) } else { BodyBuffer::default() }
    }

    fn held_body_len(&self, side: Side) -> usize {
        if side == Side::Request { self.body.len() } else { 0 }
    }
}

/// An answer without a body.
fn bare_reply(status: u16, details: &str) -> LocalReply {
    LocalReply {
        status,
        details: details.to_owned(),
        body: Bytes::new(),
        headers: Vec::new(),
        grpc_status: u32::MAX,
    }
}

// === impl Question ===

impl Drop for Question {
    fn drop(&mut self) {
        self.task.abort();
    }
}
