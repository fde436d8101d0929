//! One request and its response on their way through the chain.
//!
//! A [`Stream`] is polled from up to three places of one worker: the service that waits for the
//! response's head ([`crate::exchange`]), the upstream's connection, which reads the request body
//! through the chain, and the client's connection, which reads the response body. All of them call
//! [`Stream::poll_outlet`] or [`Stream::poll_request`], which first look at what plugins asked for.

mod bodies;
mod recovery;

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use wasmplug_host::{BodyBuffer, Fields, LocalReply, LogFields, Pseudo};

use crate::access_log::AccessRecord;
use crate::attributes::{StreamShared, flags};
use crate::body::{BodyError, LeasedBody};
use crate::chain::{Filters, Pipeline};
use crate::filter::{Interrupt, Late, Resume, Side};
use crate::filters::AnyFilter;
use crate::filters::stats::MessageCount;
use crate::local_reply::{self, ReplyContext};
use crate::worker::WorkerChain;

/// One stream through a chain that has filters.
pub(crate) struct Stream {
    shared: Rc<StreamShared>,
    inner: RefCell<Inner>,
}

#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state machine")]
struct Inner {
    /// The configuration that the stream began with.
    chain: Rc<WorkerChain>,
    filters: Filters,
    request: Pipeline,
    response: Pipeline,
    request_body: Option<Incoming>,
    /// HTTP/1: the end of a body is an event of its own.
    is_http1: bool,
    /// The same for the upstream.
    is_upstream_http1: bool,
    response_body: Option<LeasedBody>,
    /// The request needs no more of its body: it has its answer.
    is_answered: bool,
    /// The answer was made here: nothing more happens to the request.
    is_replied: bool,
    /// The connection cannot go on after the answer, because the request was not read to its end.
    must_close: bool,
    /// The request had no body when it began.
    is_request_bare: bool,
    /// The response had no body when it began.
    is_response_bare: bool,
    /// The response's head left the chain.
    is_response_started: bool,
    is_reset: bool,
    is_finished: bool,
    is_grpc: bool,
    /// Both sides of an upgrade, as far as they agreed to it.
    upgrade: Upgrade,
    log_fields: LogFields,
    /// What the access log tells of the request, if there is one.
    access: Option<Box<AccessRecord>>,
    /// Host that the request named, if metrics tell it.
    host: Option<HeaderValue>,
    /// What the upstream was sent and what it sent, in messages if they are gRPC.
    messages: [MessageCount; 2],
}

/// What is left of HTTP once both sides speak something else.
#[derive(Default)]
struct Upgrade {
    client: Option<OnUpgrade>,
    upstream: Option<OnUpgrade>,
}

/// What the service has to do next.
pub(crate) enum RequestEvent {
    /// Every filter let the request headers go.
    SendUpstream(Fields),
    /// The response's head lies at the end of the chain.
    Respond(Fields),
    /// Cut the stream.
    Reset,
}

// === impl Stream ===

impl Stream {
    pub(crate) fn new(
        shared: Rc<StreamShared>,
        chain: Rc<WorkerChain>,
        buffer_limit: usize,
        body: Incoming,
        is_http1: bool,
        upgrade: Option<OnUpgrade>,
    ) -> Rc<Self> {
        let filters: Filters =
            chain.factories().iter().map(|factory| factory.new_filter(&shared)).collect();
        let body = Some(body).filter(|body| !body.is_end_stream());
        let inner = Inner {
            is_request_bare: body.is_none(),
            request: Pipeline::new(Side::Request, filters.len(), buffer_limit),
            response: Pipeline::new(Side::Response, filters.len(), buffer_limit),
            filters,
            chain,
            request_body: body,
            is_http1,
            is_upstream_http1: true,
            response_body: None,
            is_answered: false,
            is_replied: false,
            must_close: false,
            is_response_bare: false,
            is_response_started: false,
            is_reset: false,
            is_finished: false,
            is_grpc: false,
            upgrade: Upgrade { client: upgrade, upstream: None },
            log_fields: LogFields::default(),
            access: None,
            host: None,
            messages: Default::default(),
        };
        Rc::new(Self { shared, inner: RefCell::new(inner) })
    }

    /// Starts the request.
    pub(crate) fn start_request(&self, headers: Fields) {
        let inner = &mut *self.inner.borrow_mut();
        inner.is_grpc = local_reply::is_grpc(headers.get_name(&http::header::CONTENT_TYPE));
        inner.access = self.shared.access_log().map(|_| AccessRecord::of_fields(&headers));
        if let Some(stats) = inner.chain.stats() {
            inner.messages = [inner.is_grpc; 2].map(MessageCount::new);
            inner.host = headers.pseudo(Pseudo::Authority).filter(|_| stats.wants_host()).cloned();
        }
        // What follows an upgrade counts as a body.
        let end = inner.request_body.is_none() && inner.upgrade.client.is_none();
        let step = inner.request.start_headers(&mut inner.filters, headers, end);
        inner.settle(&self.shared, Side::Request, step);
    }

    /// Starts the response that the upstream gave.
    pub(crate) fn start_response(&self, headers: Fields, body: LeasedBody, is_http1: bool) {
        let inner = &mut *self.inner.borrow_mut();
        if inner.is_answered {
            return;
        }
        inner.is_answered = true;
        inner.is_upstream_http1 = is_http1;
        let end = body.is_end_stream();
        inner.is_response_bare = end;
        inner.response_body = Some(body).filter(|_| !end);
        self.shared.set_details("via_upstream");
        note_status(&self.shared, &headers);
        inner.recover_filters(&self.shared);
        let step = inner.response.start_headers(&mut inner.filters, headers, end);
        inner.settle(&self.shared, Side::Response, step);
    }

    /// Starts the response of an upstream that agreed to an upgrade.
    pub(crate) fn start_upgrade(&self, headers: Fields, upstream: OnUpgrade) {
        let inner = &mut *self.inner.borrow_mut();
        note_status(&self.shared, &headers);
        inner.is_answered = true;
        inner.upgrade.upstream = Some(upstream);
        let step = inner.response.start_headers(&mut inner.filters, headers, false);
        inner.settle(&self.shared, Side::Response, step);
    }

    /// Whether the client asks for an upgrade.
    pub(crate) fn may_upgrade(&self) -> bool {
        self.inner.borrow().upgrade.client.is_some()
    }

    /// Both sides of an upgrade, if both agreed.
    pub(crate) fn take_upgrade(&self) -> Option<(OnUpgrade, OnUpgrade)> {
        let upgrade = &mut self.inner.borrow_mut().upgrade;
        upgrade.client.take().zip(upgrade.upstream.take())
    }

    /// Shows bytes of an upgraded connection to the filters.
    pub(crate) fn tunnel(&self, side: Side, bytes: BodyBuffer) {
        let inner = &mut *self.inner.borrow_mut();
        self.shared.note_activity();
        let step = match side {
            Side::Request => inner.request.start_body(&mut inner.filters, bytes, false),
            Side::Response => inner.response.start_body(&mut inner.filters, bytes, false),
        };
        inner.settle(&self.shared, side, step);
    }

    /// Takes bytes of an upgraded connection that passed all filters.
    pub(crate) fn take_tunnelled(&self, side: Side) -> BodyBuffer {
        std::mem::take(&mut self.inner.borrow_mut().pipeline(side).outlet().body)
    }

    /// Whether more bytes of this direction may be read.
    pub(crate) fn wants_more(&self, side: Side) -> bool {
        self.inner.borrow_mut().pipeline(side).wants_more()
    }

    /// Whether a filter was asked something that it has not answered.
    pub(crate) fn awaits_answer(&self) -> bool {
        let inner = self.inner.borrow();
        inner.request.awaits_answer() || inner.response.awaits_answer()
    }

    /// Does what plugins asked for meanwhile; returns whether the stream is to be cut.
    pub(crate) fn looks_reset(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        inner.look_at_actions(&self.shared);
        inner.is_reset
    }

    /// Asks to be polled again when a plugin asks for something.
    pub(crate) fn wait(&self, cx: &Context<'_>) {
        self.shared.register(cx);
    }

    /// Answers in place of the upstream, through the filters that saw the request.
    pub(crate) fn reply(&self, reply: LocalReply) {
        let inner = &mut *self.inner.borrow_mut();
        inner.settle(&self.shared, Side::Request, Err(Interrupt::LocalReply(reply)));
    }

    /// Drives the request until its headers may go to the upstream or the response is there.
    pub(crate) fn poll_request(&self, cx: &mut Context<'_>) -> Poll<RequestEvent> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            inner.look_at_actions(&self.shared);
            if let Poll::Ready(event) = inner.next_event() {
                return Poll::Ready(event);
            }
            if inner.is_answered || inner.poll_request_body(&self.shared, cx).is_pending() {
                self.shared.register(cx);
                return Poll::Pending;
            }
        }
    }

    /// Waits for the response's head; the request body, if any, is read by the upstream.
    pub(crate) fn poll_response(&self, cx: &mut Context<'_>) -> Poll<RequestEvent> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            inner.look_at_actions(&self.shared);
            if let Poll::Ready(event) = inner.next_event() {
                return Poll::Ready(event);
            }
            if !inner.is_answered || inner.poll_response_body(&self.shared, cx).is_pending() {
                self.shared.register(cx);
                return Poll::Pending;
            }
        }
    }

    /// Reads what is there of the response body without waiting, so that a short one is known
    /// whole before its head is sent.
    pub(crate) fn read_ahead(&self, cx: &mut Context<'_>) {
        let inner = &mut *self.inner.borrow_mut();
        while !inner.is_reset && inner.poll_response_body(&self.shared, cx).is_ready() {}
    }

    /// Whether a plugin changed body bytes that wait at the end of the chain.
    pub(crate) fn is_body_modified(&self, side: Side) -> bool {
        self.inner.borrow_mut().pipeline(side).outlet().body.is_modified()
    }

    /// Reads what came to the end of the chain in one direction.
    pub(crate) fn poll_outlet(
        &self,
        side: Side,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            inner.look_at_actions(&self.shared);
            if inner.is_reset || (side == Side::Request && inner.is_request_over()) {
                self.shared.wake_all();
                return Poll::Ready(Some(Err(BodyError::Reset)));
            }
            let outlet = inner.pipeline(side).outlet();
            if let Some(bytes) = outlet.take_body() {
                inner.count_passed(&self.shared, side, &bytes);
                inner.pass_known_end(&self.shared, side, cx);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if let Some(trailers) = outlet.trailers.take() {
                let frame = Frame::trailers(trailers.clone().into_header_map());
                if side == Side::Response {
                    inner.log_fields.response_trailers = Some(trailers);
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            if outlet.is_ended {
                return Poll::Ready(None);
            }
            let polled = match side {
                Side::Request => inner.poll_request_body(&self.shared, cx),
                Side::Response => inner.poll_response_body(&self.shared, cx),
            };
            if polled.is_pending() {
                self.shared.register(cx);
                return Poll::Pending;
            }
        }
    }

    /// Whether nothing more will come out of the chain in this direction.
    pub(crate) fn is_outlet_drained(&self, side: Side) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let is_reset = inner.is_reset;
        let outlet = inner.pipeline(side).outlet();
        !is_reset && outlet.is_ended && outlet.body.is_empty() && outlet.trailers.is_none()
    }

    /// Takes a direction's whole body if it has passed the chain already.
    pub(crate) fn take_whole_body(&self, side: Side) -> Option<Bytes> {
        let inner = &mut *self.inner.borrow_mut();
        let outlet = inner.pipeline(side).outlet();
        if !outlet.is_ended || outlet.trailers.is_some() {
            return None;
        }
        let bytes: Bytes = std::mem::take(&mut outlet.body).into();
        inner.count_passed(&self.shared, side, &bytes);
        Some(bytes)
    }

    /// Whether the message was nothing but its head from the start.
    pub(crate) fn is_bare(&self, side: Side) -> bool {
        let inner = self.inner.borrow();
        match side {
            Side::Request => inner.is_request_bare,
            Side::Response => inner.is_response_bare,
        }
    }

    /// Whether the client's side is to be cut.
    pub(crate) fn is_reset(&self) -> bool {
        self.inner.borrow().is_reset
    }

    /// Whether there is an answer, from the upstream or from here.
    pub(crate) fn is_answered(&self) -> bool {
        self.inner.borrow().is_answered
    }

    /// Whether the client's connection has to end with this answer.
    pub(crate) fn must_close(&self) -> bool {
        self.inner.borrow().must_close
    }

    /// Keeps the request headers, as the upstream gets them, for the log.
    pub(crate) fn keep_request_headers(&self, headers: Fields) {
        self.inner.borrow_mut().log_fields.request_headers = Some(headers);
    }

    /// Keeps the response headers, as the client gets them, for the log.
    pub(crate) fn keep_response_headers(&self, headers: Fields) {
        self.inner.borrow_mut().log_fields.response_headers = Some(headers);
    }

    /// Time that each plugin spent on the stream so far, as a `server-timing` header tells it.
    ///
    /// Source: W3C, "Server Timing"; in milliseconds.
    pub(crate) fn server_timing(&self) -> Option<HeaderValue> {
        let inner = self.inner.borrow();
        let told = inner.filters.iter().filter_map(AnyFilter::time_spent);
        let told = told.map(|(name, time)| {
            let milliseconds = time.as_secs_f64() * 1000.0;
            format!("{};desc=\"{name}\";dur={milliseconds:.3}", name.name.replace('~', "."))
        });
        let told: Vec<String> = told.collect();
        HeaderValue::from_str(&told.join(", ")).ok().filter(|_| !told.is_empty())
    }

    /// Whether somebody will look at the headers after the stream.
    pub(crate) fn wants_log(&self) -> bool {
        let inner = self.inner.borrow();
        inner.filters.iter().any(AnyFilter::wants_log)
            || inner.chain.stats().is_some_and(|stats| stats.spec().looks_at_streams())
    }

    /// The upstream reads no more of the request body.
    pub(crate) fn request_body_dropped(&self) {
        if let Ok(mut inner) = self.inner.try_borrow_mut() {
            inner.request_body = None;
        }
    }

    /// Ends the stream: log for every filter, then done and delete, each in request order.
    pub(crate) fn finish(&self) {
        let Ok(mut inner) = self.inner.try_borrow_mut() else { return };
        let inner = &mut *inner;
        if std::mem::replace(&mut inner.is_finished, true) {
            return;
        }
        let mut fields = std::mem::take(&mut inner.log_fields);
        for filter in &mut inner.filters {
            fields = filter.on_log(fields);
        }
        inner.record(&self.shared, &fields);
        if let Some((log, access)) = self.shared.access_log().zip(inner.access.take()) {
            let times = inner.filters.iter().filter_map(AnyFilter::time_spent);
            log.write(&access, &self.shared, times);
        }
        inner.filters.iter_mut().for_each(AnyFilter::finish);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.finish();
    }
}

// === impl Inner ===

impl Inner {
    fn pipeline(&mut self, side: Side) -> &mut Pipeline {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// Counts what leaves the chain.
    fn count_passed(&self, shared: &StreamShared, side: Side, bytes: &Bytes) {
        let [to_upstream, _] = &self.messages;
        match side {
            Side::Request if self.is_grpc => to_upstream.feed(bytes),
            Side::Request => {}
            Side::Response => {
                let sent = shared.sent_bytes.get().saturating_add(bodies::count(bytes));
                shared.sent_bytes.set(sent);
            }
        }
    }

    /// Tells metrics what the stream came to.
    fn record(&mut self, shared: &StreamShared, fields: &LogFields) {
        let Some(stats) = self.chain.stats() else { return };
        let outlet = self.response.outlet();
        let is_complete = self.is_response_started && outlet.is_ended && outlet.body.is_empty();
        if !is_complete && !self.is_reset {
            let flags = shared.response_flags.get() | flags::DOWNSTREAM_CONNECTION_TERMINATION;
            shared.response_flags.set(flags);
        }
        let [request, response] = &self.messages;
        let host = self.host.take();
        stats.record_stream(shared, fields, host, [request.messages(), response.messages()]);
    }

    /// Nobody needs the rest of the request: it was answered here, or completely.
    fn is_request_over(&self) -> bool {
        self.is_replied
            || self.is_answered && self.response_body.is_none() && self.is_response_started
    }

    fn next_event(&mut self) -> Poll<RequestEvent> {
        if self.is_reset {
            return Poll::Ready(RequestEvent::Reset);
        }
        if let Some(headers) = self.response.outlet().headers.take() {
            // Whatever happens from now on, these headers are the client's.
            self.is_response_started = true;
            return Poll::Ready(RequestEvent::Respond(headers));
        }
        if !self.is_answered
            && let Some(headers) = self.request.outlet().headers.take()
        {
            return Poll::Ready(RequestEvent::SendUpstream(headers));
        }
        Poll::Pending
    }

    /// Does what plugins asked for outside the callbacks of this stream.
    fn look_at_actions(&mut self, shared: &StreamShared) {
        if !shared.take_woken() {
            return;
        }
        if shared.is_idle_too_long() {
            shared.response_flags.set(flags::STREAM_IDLE_TIMEOUT);
            let reply = local_reply::stream_idle(self.request_body.is_none());
            let side = if self.is_answered { Side::Response } else { Side::Request };
            self.settle(shared, side, Err(Interrupt::LocalReply(reply)));
        }
        for at in 0..self.filters.len() {
            let is_held = self.request.is_held_at(at) || self.response.is_held_at(at);
            self.take_late_answers(shared, at);
            let Some(filter) = self.filters.get_mut(at) else { continue };
            match filter.poll_actions(is_held) {
                Ok(resume) => self.resume(shared, at, resume),
                Err(interrupt) => {
                    let side = if self.is_answered { Side::Response } else { Side::Request };
                    self.settle(shared, side, Err(interrupt));
                }
            }
        }
    }

    /// Goes on where a filter said `Later`.
    fn take_late_answers(&mut self, shared: &StreamShared, at: usize) {
        loop {
            let is_held = self.request.is_held_at(at) || self.response.is_held_at(at);
            let late = self.filters.get_mut(at).and_then(|filter| filter.take_late(is_held));
            let Some(late) = late else { return };
            match late {
                Ok(Late::Answer(Side::Request, answer)) if !self.is_replied => {
                    let step = self.request.answer(&mut self.filters, at, answer);
                    self.settle(shared, Side::Request, step);
                }
                Ok(Late::Answer(Side::Request, _)) => {}
                Ok(Late::Answer(Side::Response, answer)) => {
                    let step = self.response.answer(&mut self.filters, at, answer);
                    self.settle(shared, Side::Response, step);
                }
                Ok(Late::Resume(resume)) => self.resume(shared, at, resume),
                Err(interrupt) => {
                    let side = if self.is_answered { Side::Response } else { Side::Request };
                    self.settle(shared, side, Err(interrupt));
                }
            }
        }
    }

    fn resume(&mut self, shared: &StreamShared, at: usize, resume: Resume) {
        if resume.request && !self.is_answered {
            let step = self.request.resume(&mut self.filters, at);
            self.settle(shared, Side::Request, step);
        }
        if resume.response {
            let step = self.response.resume(&mut self.filters, at);
            self.settle(shared, Side::Response, step);
        }
    }

    /// Turns an interrupt into the state that follows from it.
    fn settle(&mut self, shared: &StreamShared, side: Side, step: Result<(), Interrupt>) {
        let reply = match step {
            Ok(()) => return,
            Err(Interrupt::Reset) => {
                shared.set_details("wasm_close_stream");
                self.is_reset = true;
                return;
            }
            Err(Interrupt::LocalReply(reply)) => reply,
        };
        shared.set_details(reply.details.clone());
        if self.is_response_started {
            // Too late for an answer: what was begun cannot be taken back.
            self.is_reset = true;
            return;
        }
        self.response_body = None;
        (self.is_answered, self.is_replied) = (true, true);
        self.must_close = self.is_http1 && self.request_body.is_some();
        let (headers, body) = local_reply::message(reply, ReplyContext { is_grpc: self.is_grpc });
        self.is_response_bare = body.is_empty();
        note_status(shared, &headers);
        match side {
            // Through the filters that saw the request, in reverse.
            Side::Request => {
                // A response that was on its way is forgotten, with all that is held of it.
                self.response = self.response.renewed();
                let end = body.is_empty();
                let mut step = self.response.start_headers(&mut self.filters, headers, end);
                if step.is_ok() && !end {
                    step = self.response.start_body(&mut self.filters, body, true);
                }
                self.settle(shared, Side::Response, step);
            }
            // A response filter's own answer is sent as it is.
            Side::Response => self.response.replace(headers, body.into()),
        }
    }
}

fn note_grpc_status(shared: &StreamShared, fields: &Fields) {
    let status = fields.get(b"grpc-status").and_then(|status| status.to_str().ok());
    if let Some(status) = status.and_then(|status| status.parse().ok()) {
        shared.grpc_status.set(Some(status));
    }
}

fn note_status(shared: &StreamShared, headers: &Fields) {
    note_grpc_status(shared, headers);
    let status = headers.pseudo(Pseudo::Status).and_then(|status| status.to_str().ok());
    shared.response_code.set(status.and_then(|status| status.parse().ok()));
}
