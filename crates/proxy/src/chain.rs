//! Iteration over the filter chain, in one direction of one stream.
//!
//! ```text
//! request:   push_headers ─> filter 0 ─> filter 1 ─> … ─> outlet ─> upstream
//! response:  client <─ outlet <─ filter 0 <─ filter 1 <─ … <─ push_headers
//! ```
//!
//! Each filter has a [`Slot`] per direction that says what is held there. Whatever reaches the end
//! of the chain lies in the [`Outlet`] until the stream's driver takes it.
//! Source: Envoy's filter manager, with its return codes.

use bytes::Bytes;
use smallvec::SmallVec;
use wasmplug_host::{BodyBuffer, Fields, LocalReply};

use crate::filter::{Answer, BodyOutcome, HeadersOutcome, Hold, Interrupt, Side, TrailersOutcome};
use crate::filters::AnyFilter;

/// The filters of one stream, in request order.
pub(crate) type Filters = SmallVec<[AnyFilter; 2]>;

/// One direction of one stream.
#[derive(Debug)]
pub(crate) struct Pipeline {
    side: Side,
    slots: SmallVec<[Slot; 2]>,
    outlet: Outlet,
    buffer_limit: usize,
}

/// What lies at the end of the chain, waiting to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    /// Headers, once every filter let them go.
    pub(crate) headers: Option<Fields>,
    /// Body bytes after the headers.
    pub(crate) body: BodyBuffer,
    /// Trailers after the body.
    pub(crate) trailers: Option<Fields>,
    /// Nothing follows what lies here.
    pub(crate) is_ended: bool,
}

/// What one filter holds in one direction.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state machine")]
struct Slot {
    /// The filter keeps the headers.
    hold: Option<Hold>,
    /// The filter keeps the body that it was shown, and is shown it again.
    is_buffering: bool,
    /// The filter was shown `queued` and stopped.
    is_queueing: bool,
    /// Bytes that the chain keeps for later.
    queued: BodyBuffer,
    /// Trailers that arrived while everything is held.
    trailers: Option<Fields>,
    /// The filter keeps the trailers.
    holds_trailers: bool,
    /// The end of the message got here.
    has_end: bool,
    /// The filter was called and has not answered yet.
    waiting: Option<Box<Waiting>>,
}

/// What arrived at a filter while its answer is waited for.
#[derive(Debug, Default)]
struct Waiting {
    /// What the filter was shown ends the message.
    is_end: bool,
    body: BodyBuffer,
    trailers: Option<Fields>,
    /// Nothing follows what arrived.
    has_end: bool,
}

const REQUEST_TOO_LARGE: LocalReplyTemplate = LocalReplyTemplate {
    status: 413,
    body: "Payload Too Large",
    details: "request_payload_too_large",
};
const RESPONSE_TOO_LARGE: LocalReplyTemplate = LocalReplyTemplate {
    status: 500,
    body: "Internal Server Error",
    details: "response_payload_too_large",
};

struct LocalReplyTemplate {
    status: u16,
    body: &'static str,
    details: &'static str,
}

type Step = Result<(), Interrupt>;

// === impl Pipeline ===

impl Pipeline {
    pub(crate) fn new(side: Side, filters: usize, buffer_limit: usize) -> Self {
        let mut slots = SmallVec::new();
        slots.resize_with(filters, Slot::default);
        Self { side, slots, outlet: Outlet::default(), buffer_limit }
    }

    /// The same direction with nothing in it.
    pub(crate) fn renewed(&self) -> Self {
        Self::new(self.side, self.slots.len(), self.buffer_limit)
    }

    pub(crate) fn outlet(&mut self) -> &mut Outlet {
        &mut self.outlet
    }

    /// Whether more of the message may be read: nothing that is held is at its limit.
    pub(crate) fn wants_more(&self) -> bool {
        self.slots.iter().all(|slot| slot.held_len() < self.buffer_limit)
            && self.outlet.body.len() < self.buffer_limit
    }

    /// Starts the message.
    pub(crate) fn start_headers(
        &mut self,
        filters: &mut Filters,
        headers: Fields,
        end: bool,
    ) -> Step {
        self.push_headers(filters, self.first(filters), headers, end)
    }

    /// Continues the message with body bytes.
    pub(crate) fn start_body(
        &mut self,
        filters: &mut Filters,
        body: BodyBuffer,
        end: bool,
    ) -> Step {
        self.push_body(filters, self.first(filters), body, end)
    }

    /// Ends the message with trailers.
    pub(crate) fn start_trailers(&mut self, filters: &mut Filters, trailers: Fields) -> Step {
        self.push_trailers(filters, self.first(filters), trailers)
    }

    /// Lets go what the filter holds in this direction. Nothing happens if it holds nothing.
    pub(crate) fn resume(&mut self, filters: &mut Filters, at: usize) -> Step {
        let Some(slot) = self.slots.get_mut(at) else { return Ok(()) };
        if slot.waiting.is_some() {
            return self.release_before_answer(filters, at);
        }
        match slot.hold.take() {
            Some(Hold::AllAndBuffer | Hold::AllAndWatermark) => self.release_all(filters, at),
            Some(Hold::Headers) => {
                let ends_here = slot.has_end && !slot.is_paused();
                self.release_headers(filters, at, ends_here)?;
                if ends_here { Ok(()) } else { self.release_body(filters, at) }
            }
            None if slot.is_paused() => self.release_body(filters, at),
            None => Ok(()),
        }
    }

    /// Whether any filter was called and has not answered.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.slots.iter().any(|slot| slot.waiting.is_some())
    }

    /// Whether the filter holds anything in this direction.
    pub(crate) fn is_held_at(&self, at: usize) -> bool {
        {
            let is_held =
                |slot: &Slot| slot.hold.is_some() || slot.is_paused() || slot.waiting.is_some();
            self.slots.get(at).is_some_and(is_held)
        }
    }

    /// Puts a finished message at the end of the chain, past all filters.
    pub(crate) fn replace(&mut self, headers: Fields, body: Bytes) {
        self.slots.iter_mut().for_each(|slot| *slot = Slot::default());
        self.outlet =
            Outlet { headers: Some(headers), body: body.into(), trailers: None, is_ended: true };
    }

    fn push_headers(
        &mut self,
        filters: &mut Filters,
        mut position: Option<usize>,
        mut headers: Fields,
        end: bool,
    ) -> Step {
        while let Some(at) = position {
            position = self.next(filters, at);
            let (Some(filter), Some(slot)) = (filters.get_mut(at), self.slots.get_mut(at)) else {
                continue;
            };
            if !filter.takes_part(self.side) {
                continue;
            }
            slot.has_end |= end;
            match filter.on_headers(self.side, headers, end)? {
                HeadersOutcome::Continue(passed) => {
                    headers = passed;
                    filter.take_resume();
                }
                HeadersOutcome::Hold(hold) => {
                    slot.hold = Some(hold);
                    return self.resume_if_asked(filters, at);
                }
                HeadersOutcome::Later => {
                    slot.wait(end);
                    return Ok(());
                }
            }
        }
        self.outlet.headers = Some(headers);
        self.outlet.is_ended |= end;
        Ok(())
    }

    fn push_body(
        &mut self,
        filters: &mut Filters,
        mut position: Option<usize>,
        mut body: BodyBuffer,
        end: bool,
    ) -> Step {
        while let Some(at) = position {
            position = self.next(filters, at);
            let (Some(filter), Some(slot)) = (filters.get_mut(at), self.slots.get_mut(at)) else {
                continue;
            };
            if !filter.takes_part(self.side) {
                continue;
            }
            if let Some(waiting) = &mut slot.waiting {
                waiting.body.append(body);
                waiting.has_end |= end;
                return Ok(());
            }
            slot.has_end |= end;
            if matches!(slot.hold, Some(Hold::AllAndBuffer | Hold::AllAndWatermark)) {
                slot.queued.append(body);
                return self.check_limit(at);
            }
            if std::mem::take(&mut slot.is_buffering) {
                let mut shown_before = filter.release_body(self.side);
                shown_before.append(body);
                body = shown_before;
            }
            let outcome = filter.on_body(self.side, body, end)?;
            match self.after_body(filters, at, outcome, end)? {
                Some(passed) => body = passed,
                None => return Ok(()),
            }
        }
        self.outlet.body.append(body);
        self.outlet.is_ended |= end;
        Ok(())
    }

    /// Does what a filter wants after a body callback. Returns what goes on to the next one.
    #[inline]
    fn after_body(
        &mut self,
        filters: &mut Filters,
        at: usize,
        outcome: BodyOutcome,
        end: bool,
    ) -> Result<Option<BodyBuffer>, Interrupt> {
        let next = self.next(filters, at);
        let (Some(filter), Some(slot)) = (filters.get_mut(at), self.slots.get_mut(at)) else {
            return Ok(None);
        };
        match outcome {
            BodyOutcome::Continue(passed) => {
                let all = slot.behind_queued(passed);
                filter.take_resume();
                let created = if end { filter.release_trailers(self.side) } else { None };
                if slot.hold.take().is_some() {
                    self.release_headers(filters, at, false)?;
                }
                let Some(trailers) = created else { return Ok(Some(all)) };
                self.push_body(filters, next, all, false)?;
                self.push_trailers(filters, next, trailers)?;
                return Ok(None);
            }
            BodyOutcome::Buffer => {
                slot.is_buffering = true;
                self.check_limit_of(filters.get(at).map_or(0, |f| f.held_body_len(self.side)))?;
            }
            BodyOutcome::Queue(seen) => {
                slot.queued.append(seen);
                slot.is_queueing = true;
            }
            BodyOutcome::Drop => slot.is_queueing = true,
            BodyOutcome::Later => {
                slot.wait(end);
                return Ok(None);
            }
        }
        self.resume_if_asked(filters, at)?;
        Ok(None)
    }

    fn push_trailers(
        &mut self,
        filters: &mut Filters,
        mut position: Option<usize>,
        mut trailers: Fields,
    ) -> Step {
        while let Some(at) = position {
            position = self.next(filters, at);
            let (Some(filter), Some(slot)) = (filters.get_mut(at), self.slots.get_mut(at)) else {
                continue;
            };
            if !filter.takes_part(self.side) {
                continue;
            }
            if let Some(waiting) = &mut slot.waiting {
                waiting.trailers = Some(trailers);
                return Ok(());
            }
            slot.has_end = true;
            if matches!(slot.hold, Some(Hold::AllAndBuffer | Hold::AllAndWatermark)) {
                slot.trailers = Some(trailers);
                return Ok(());
            }
            let outcome = filter.on_trailers(self.side, trailers)?;
            match self.after_trailers(filters, at, outcome)? {
                Some(passed) => trailers = passed,
                None => return Ok(()),
            }
        }
        self.outlet.trailers = Some(trailers);
        self.outlet.is_ended = true;
        Ok(())
    }

    /// Does what a filter wants after a trailers callback. Returns what goes on to the next one.
    fn after_trailers(
        &mut self,
        filters: &mut Filters,
        at: usize,
        outcome: TrailersOutcome,
    ) -> Result<Option<Fields>, Interrupt> {
        let next = self.next(filters, at);
        let (Some(filter), Some(slot)) = (filters.get_mut(at), self.slots.get_mut(at)) else {
            return Ok(None);
        };
        match outcome {
            TrailersOutcome::Continue(passed) => {
                filter.take_resume();
                // Letting the trailers go lets everything before them go.
                let holds_headers = slot.hold.take().is_some();
                if holds_headers {
                    self.release_headers(filters, at, false)?;
                }
                if let Some(body) = self.take_held_body(filters, at) {
                    self.push_body(filters, next, body, false)?;
                }
                Ok(Some(passed))
            }
            TrailersOutcome::Hold => {
                slot.holds_trailers = true;
                self.resume_if_asked(filters, at)?;
                Ok(None)
            }
            TrailersOutcome::Later => {
                slot.wait(true);
                Ok(None)
            }
        }
    }

    /// Goes on with a message at a filter that said `Later`. Nothing happens if it was not asked.
    pub(crate) fn answer(&mut self, filters: &mut Filters, at: usize, answer: Answer) -> Step {
        let next = self.next(filters, at);
        let (Some(filter), Some(slot)) = (filters.get_mut(at), self.slots.get_mut(at)) else {
            return Ok(());
        };
        let Some(waiting) = slot.waiting.take() else { return Ok(()) };
        let Waiting { is_end, body, trailers, has_end } = *waiting;
        match answer {
            Answer::Headers(HeadersOutcome::Continue(headers)) => {
                filter.take_resume();
                self.push_headers(filters, next, headers, is_end)?;
            }
            Answer::Headers(HeadersOutcome::Hold(hold)) => {
                slot.hold = Some(hold);
                self.resume_if_asked(filters, at)?;
            }
            Answer::Headers(HeadersOutcome::Later) => {}
            Answer::Body(outcome) => {
                if let Some(passed) = self.after_body(filters, at, outcome, is_end)? {
                    self.push_body(filters, next, passed, is_end)?;
                }
            }
            Answer::Trailers(outcome) => {
                if let Some(passed) = self.after_trailers(filters, at, outcome)? {
                    self.push_trailers(filters, next, passed)?;
                }
            }
        }
        if !body.is_empty() || has_end {
            self.push_body(filters, Some(at), body, has_end)?;
        }
        match trailers {
            Some(trailers) => self.push_trailers(filters, Some(at), trailers),
            None => Ok(()),
        }
    }

    /// Passes on what a filter held before it was asked something that it has not answered.
    fn release_before_answer(&mut self, filters: &mut Filters, at: usize) -> Step {
        self.release_headers(filters, at, false)?;
        let mut body = self.take_held_body(filters, at).unwrap_or_default();
        if let Some(filter) = filters.get_mut(at) {
            body.append(filter.release_body(self.side));
        }
        if body.is_empty() {
            return Ok(());
        }
        let next = self.next(filters, at);
        self.push_body(filters, next, body, false)
    }

    /// A filter may ask to go on in the very callback in which it paused.
    fn resume_if_asked(&mut self, filters: &mut Filters, at: usize) -> Step {
        let asked = filters.get_mut(at).map(AnyFilter::take_resume).unwrap_or_default();
        let is_asked = match self.side {
            Side::Request => asked.request,
            Side::Response => asked.response,
        };
        if is_asked { self.resume(filters, at) } else { Ok(()) }
    }

    /// Passes on headers that were held together with everything after them.
    fn release_all(&mut self, filters: &mut Filters, at: usize) -> Step {
        let Some(slot) = self.slots.get_mut(at) else { return Ok(()) };
        let body = std::mem::take(&mut slot.queued);
        let trailers = slot.trailers.take();
        let has_end = slot.has_end;
        let is_bare = has_end && body.is_empty() && trailers.is_none();
        self.release_headers(filters, at, is_bare)?;
        // Only now does this filter see the body that arrived in the meantime, all in one go.
        if !body.is_empty() {
            self.push_body(filters, Some(at), body, has_end && trailers.is_none())?;
        }
        match trailers {
            Some(trailers) => self.push_trailers(filters, Some(at), trailers),
            None => Ok(()),
        }
    }

    fn release_headers(&mut self, filters: &mut Filters, at: usize, end: bool) -> Step {
        let headers = filters.get_mut(at).and_then(|filter| filter.release_headers(self.side));
        match headers {
            Some(headers) => {
                let next = self.next(filters, at);
                self.push_headers(filters, next, headers, end)
            }
            None => Ok(()),
        }
    }

    /// Passes on a body, and trailers, at which the filter paused.
    fn release_body(&mut self, filters: &mut Filters, at: usize) -> Step {
        let body = self.take_held_body(filters, at).unwrap_or_default();
        let next = self.next(filters, at);
        let (Some(filter), Some(slot)) = (filters.get_mut(at), self.slots.get_mut(at)) else {
            return Ok(());
        };
        let held = std::mem::take(&mut slot.holds_trailers) || slot.has_end;
        let trailers = if held { filter.release_trailers(self.side) } else { None };
        let end = slot.has_end && trailers.is_none();
        if !body.is_empty() || end {
            self.push_body(filters, next, body, end)?;
        }
        match trailers {
            Some(trailers) => self.push_trailers(filters, next, trailers),
            None => Ok(()),
        }
    }

    /// Takes the body that was held at a filter, by the chain or by the filter itself.
    fn take_held_body(&mut self, filters: &mut Filters, at: usize) -> Option<BodyBuffer> {
        let slot = self.slots.get_mut(at)?;
        let mut body = std::mem::take(&mut slot.queued);
        slot.is_queueing = false;
        if std::mem::take(&mut slot.is_buffering) {
            body.append(filters.get_mut(at)?.release_body(self.side));
        }
        Some(body).filter(|body| !body.is_empty())
    }

    fn check_limit(&self, at: usize) -> Step {
        match self.slots.get(at) {
            Some(slot) if slot.hold == Some(Hold::AllAndBuffer) => {
                self.check_limit_of(slot.queued.len())
            }
            _ => Ok(()),
        }
    }

    fn check_limit_of(&self, held: usize) -> Step {
        if held <= self.buffer_limit {
            return Ok(());
        }
        let template = match self.side {
            Side::Request => REQUEST_TOO_LARGE,
            Side::Response => RESPONSE_TOO_LARGE,
        };
        Err(Interrupt::LocalReply(LocalReply {
            status: template.status,
            details: template.details.to_owned(),
            body: Bytes::from_static(template.body.as_bytes()),
            headers: Vec::new(),
            grpc_status: u32::MAX,
        }))
    }

    fn first(&self, filters: &Filters) -> Option<usize> {
        match self.side {
            Side::Request => (!filters.is_empty()).then_some(0),
            Side::Response => filters.len().checked_sub(1),
        }
    }

    fn next(&self, filters: &Filters, at: usize) -> Option<usize> {
        match self.side {
            Side::Request => at.checked_add(1).filter(|next| *next < filters.len()),
            Side::Response => at.checked_sub(1),
        }
    }
}

// === impl Slot ===

impl Slot {
    /// Whether the filter stopped in a body or trailers callback.
    fn is_paused(&self) -> bool {
        self.is_buffering || self.is_queueing || self.holds_trailers
    }

    /// What passed the filter behind what the chain kept for it, which mostly is nothing.
    fn behind_queued(&mut self, passed: BodyBuffer) -> BodyBuffer {
        self.is_queueing = false;
        if self.queued.is_empty() && !self.queued.is_modified() {
            return passed;
        }
        let mut all = std::mem::take(&mut self.queued);
        all.append(passed);
        all
    }

    /// The filter will answer what it was shown, which is the end of the message or not.
    fn wait(&mut self, is_end: bool) {
        self.waiting = Some(Box::new(Waiting { is_end, ..Waiting::default() }));
    }

    /// Body bytes that the chain keeps here.
    fn held_len(&self) -> usize {
        let waiting = self.waiting.as_ref().map_or(0, |waiting| waiting.body.len());
        self.queued.len().saturating_add(waiting)
    }
}

// === impl Outlet ===

impl Outlet {
    /// Takes the next body bytes, if there are any.
    pub(crate) fn take_body(&mut self) -> Option<Bytes> {
        if self.body.is_empty() { None } else { Some(std::mem::take(&mut self.body).into()) }
    }
}
