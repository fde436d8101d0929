//! The worker's side of one stream of a plugin with one VM.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wasmplug_api::NamespacedName;
use wasmplug_host::abi::{DataAction, HeadersAction, TrailersAction};
use wasmplug_host::{BodyBuffer, Fields, FieldsKind, LogFields, StreamHost as _};

use super::{Asked, Content, Effect, Event, Job, Link, News, PluginThread, RemoteFactory, Verdict};
use crate::attributes::StreamShared;
use crate::filter::{
    Answer, BodyOutcome, HeadersOutcome, Hold, Interrupt, Late, Resume, Side, TrailersOutcome,
};
use crate::filters::substitute::unavailable;

/// One plugin with one VM, for one stream.
pub(crate) struct RemoteFilter {
    factory: Rc<RemoteFactory>,
    shared: Rc<StreamShared>,
    state: State,
    /// The thread and the stream's number there; `None` if there was no room or no thread.
    thread: Option<(Arc<PluginThread>, u64)>,
    /// `None` before the first call.
    link: Option<Rc<Link>>,
    has_seen_request: bool,
    /// What was asked last and not answered, of the request and of the response.
    asked: [Option<(u32, Kind)>; 2],
    last_number: u32,
    /// What was let go and waits for the chain to take it.
    let_go: [Content; 2],
    /// Body bytes that lie on the thread.
    held_body: [usize; 2],
    resume: Resume,
    time_spent: Duration,
    /// What is held of the other message is to go on as well: the plugin is bypassed.
    has_more: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The plugin is asked.
    Live,
    /// It died while it held nothing; that counts at its next call.
    Doomed,
    /// It cannot run, and the stream goes on without it.
    Bypassed,
    /// It cannot run, and the stream must not go on without it.
    Refusing,
    /// It died in this stream, which has its answer.
    Dead,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Headers,
    Body,
    Trailers,
}

// === impl RemoteFilter ===

impl RemoteFilter {
    pub(super) fn new(
        factory: Rc<RemoteFactory>,
        shared: Rc<StreamShared>,
        thread: Option<(Arc<PluginThread>, u64)>,
    ) -> Self {
        let state = match &thread {
            Some(_) => State::Live,
            None if factory.fails_open() => State::Bypassed,
            None => State::Refusing,
        };
        Self {
            factory,
            shared,
            state,
            thread,
            link: None,
            has_seen_request: false,
            asked: [None; 2],
            last_number: 0,
            let_go: Default::default(),
            held_body: [0; 2],
            resume: Resume::default(),
            time_spent: Duration::ZERO,
            has_more: false,
        }
    }

    pub(crate) fn time_spent(&self) -> Option<(&NamespacedName, Duration)> {
        let took_part = !matches!(self.state, State::Bypassed | State::Refusing);
        took_part.then_some((&self.factory.spec().resource, self.time_spent))
    }

    pub(crate) fn takes_part(&self, side: Side) -> bool {
        match (self.state, side) {
            (State::Bypassed | State::Dead, _) | (State::Refusing, Side::Response) => false,
            (State::Refusing | State::Live | State::Doomed, Side::Request) => true,
            (State::Live | State::Doomed, Side::Response) => self.has_seen_request,
        }
    }

    pub(crate) fn on_headers(
        &mut self,
        side: Side,
        headers: Fields,
        end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        self.has_seen_request = true;
        let asked = self.ask(side, Kind::Headers);
        match self.send(Event::Headers(asked, headers, end)) {
            Ok(()) => Ok(HeadersOutcome::Later),
            Err(Event::Headers(_, headers, _)) if self.may_bypass() => {
                Ok(HeadersOutcome::Continue(headers))
            }
            Err(_) => self.refuse(),
        }
    }

    pub(crate) fn on_body(
        &mut self,
        side: Side,
        body: BodyBuffer,
        end: bool,
    ) -> Result<BodyOutcome, Interrupt> {
        let asked = self.ask(side, Kind::Body);
        match self.send(Event::Body(asked, body, end)) {
            Ok(()) => Ok(BodyOutcome::Later),
            Err(Event::Body(_, body, _)) if self.may_bypass() => Ok(BodyOutcome::Continue(body)),
            Err(_) => self.refuse(),
        }
    }

    pub(crate) fn on_trailers(
        &mut self,
        side: Side,
        trailers: Fields,
    ) -> Result<TrailersOutcome, Interrupt> {
        let asked = self.ask(side, Kind::Trailers);
        match self.send(Event::Trailers(asked, trailers)) {
            Ok(()) => Ok(TrailersOutcome::Later),
            Err(Event::Trailers(_, trailers)) if self.may_bypass() => {
                Ok(TrailersOutcome::Continue(trailers))
            }
            Err(_) => self.refuse(),
        }
    }

    /// What the thread has said next, if it has said anything.
    pub(crate) fn take_late(&mut self, is_held: bool) -> Option<Result<Late, Interrupt>> {
        if std::mem::take(&mut self.has_more) {
            return Some(Ok(Late::Resume(Resume { request: true, response: true })));
        }
        loop {
            let news = self.link.as_ref()?.inbox.borrow_mut().pop_front()?;
            let late = match news {
                None => self.lost(is_held),
                Some(news) => self.take_news(*news, is_held),
            };
            if late.is_some() {
                return late;
            }
        }
    }

    pub(crate) fn take_resume(&mut self) -> Resume {
        std::mem::take(&mut self.resume)
    }

    pub(crate) fn release_headers(&mut self, side: Side) -> Option<Fields> {
        self.let_go(side).headers.take()
    }

    pub(crate) fn release_body(&mut self, side: Side) -> BodyBuffer {
        std::mem::take(&mut self.let_go(side).body)
    }

    pub(crate) fn release_trailers(&mut self, side: Side) -> Option<Fields> {
        self.let_go(side).trailers.take()
    }

    pub(crate) fn held_body_len(&self, side: Side) -> usize {
        let [request, response] = self.held_body;
        match side {
            Side::Request => request,
            Side::Response => response,
        }
    }

    /// The maps are copied: the next filter reads them at once, the plugin later.
    pub(crate) fn on_log(&mut self, fields: LogFields) -> LogFields {
        if self.state == State::Live {
            let copy = LogFields {
                request_headers: fields.request_headers.clone(),
                response_headers: fields.response_headers.clone(),
                response_trailers: fields.response_trailers.clone(),
            };
            let facts = Box::new(self.shared.facts());
            // A thread that is gone writes no log.
            let _ = self.send(Event::Log(Box::new(copy), facts));
        }
        fields
    }

    pub(crate) fn finish(&mut self) {
        let Some((thread, number)) = self.thread.take() else { return };
        if let Some(link) = self.link.take() {
            self.factory.unlink(&link);
            // A thread that is gone has forgotten the stream.
            let _ = thread.jobs.send(Job { stream: number, event: Event::Finish });
        }
        thread.close();
        if self.state == State::Live {
            self.state = State::Bypassed;
        }
    }

    fn ask(&mut self, side: Side, kind: Kind) -> Asked {
        self.last_number = self.last_number.wrapping_add(1);
        let number = self.last_number;
        *self.asked_of(side) = Some((number, kind));
        Asked { side, number, facts: Box::new(self.shared.facts()) }
    }

    /// Hands something over. Gives it back if nobody takes it.
    fn send(&mut self, event: Event) -> Result<(), Event> {
        let Some((thread, number)) = &self.thread else { return Err(event) };
        if self.state != State::Live {
            return Err(event);
        }
        if self.link.is_none() {
            let (link, back) = self.factory.link(&self.shared);
            self.link = Some(link);
            let _ = thread.jobs.send(Job { stream: *number, event: Event::Open(back) });
        }
        let sent = thread.jobs.send(Job { stream: *number, event });
        sent.map_err(|unsent| unsent.0.event)
    }

    /// Whether the stream goes on without the plugin from now on.
    fn may_bypass(&mut self) -> bool {
        // What lies on a thread that is gone cannot go on.
        let has_lost = self.held_body.iter().any(|held| *held > 0);
        let may = self.factory.fails_open() && !has_lost && self.state != State::Refusing;
        if may {
            self.state = State::Bypassed;
            self.asked = [None; 2];
        }
        may
    }

    fn refuse<T>(&mut self) -> Result<T, Interrupt> {
        self.state = State::Dead;
        self.asked = [None; 2];
        Err(unavailable())
    }

    /// The thread ended, and what it held is lost.
    fn lost(&mut self, is_held: bool) -> Option<Result<Late, Interrupt>> {
        match self.state {
            State::Live | State::Doomed if is_held => Some(self.refuse()),
            State::Live => {
                self.state = State::Doomed;
                None
            }
            _ => None,
        }
    }

    fn take_news(&mut self, news: News, is_held: bool) -> Option<Result<Late, Interrupt>> {
        let News { verdict, let_go, actions, has_failed, held_body, effects, time_spent } = news;
        self.time_spent = time_spent;
        self.apply(effects);
        if self.state == State::Dead {
            return None;
        }
        self.held_body = held_body;
        for (content, more) in self.let_go.iter_mut().zip(let_go) {
            content.append(more);
        }
        if has_failed {
            return self.take_failure(verdict.map(|(side, number, _)| (side, number)), is_held);
        }
        if let Some(reply) = actions.local_reply {
            return Some(Err(Interrupt::LocalReply(reply)));
        }
        if actions.close.is_some() {
            return Some(Err(Interrupt::Reset));
        }
        let resume =
            Resume { request: actions.continue_request, response: actions.continue_response };
        let Some((side, number, verdict)) = verdict else {
            return Some(Ok(Late::Resume(resume)));
        };
        self.take_asked(side, number)?;
        self.resume = resume;
        Some(Ok(Late::Answer(side, self.answer(side, verdict))))
    }

    fn take_failure(
        &mut self,
        asked: Option<(Side, u32)>,
        is_held: bool,
    ) -> Option<Result<Late, Interrupt>> {
        if asked.is_none() && !is_held && self.state == State::Live {
            self.state = State::Doomed;
            return None;
        }
        if !self.factory.fails_open() {
            return Some(self.refuse());
        }
        self.state = State::Bypassed;
        let answered =
            asked.and_then(|(side, number)| Some((side, self.take_asked(side, number)?)));
        let Some((side, kind)) = answered else {
            // Whatever it holds of either message goes on without it.
            return Some(Ok(Late::Resume(Resume { request: true, response: true })));
        };
        self.has_more = true;
        let verdict = match kind {
            Kind::Headers => Verdict::Headers(HeadersAction::Continue),
            Kind::Body => Verdict::Body(DataAction::Continue),
            Kind::Trailers => Verdict::Trailers(TrailersAction::Continue),
        };
        Some(Ok(Late::Answer(side, self.answer(side, verdict))))
    }

    /// What the chain is told; it takes what was let go.
    fn answer(&mut self, side: Side, verdict: Verdict) -> Answer {
        let kind = match side {
            Side::Request => FieldsKind::Request,
            Side::Response => FieldsKind::Response,
        };
        match verdict {
            Verdict::Headers(HeadersAction::Continue) => {
                let headers = self.release_headers(side);
                let headers = headers.unwrap_or_else(|| Fields::new(kind));
                Answer::Headers(HeadersOutcome::Continue(headers))
            }
            Verdict::Headers(HeadersAction::StopIteration) => {
                Answer::Headers(HeadersOutcome::Hold(Hold::Headers))
            }
            Verdict::Headers(HeadersAction::StopAllIterationAndBuffer) => {
                Answer::Headers(HeadersOutcome::Hold(Hold::AllAndBuffer))
            }
            Verdict::Headers(HeadersAction::StopAllIterationAndWatermark) => {
                Answer::Headers(HeadersOutcome::Hold(Hold::AllAndWatermark))
            }
            Verdict::Body(DataAction::Continue) => {
                Answer::Body(BodyOutcome::Continue(self.release_body(side)))
            }
            Verdict::Body(DataAction::StopIterationAndBuffer) => Answer::Body(BodyOutcome::Buffer),
            Verdict::Body(DataAction::StopIterationAndWatermark) => {
                Answer::Body(BodyOutcome::Queue(self.release_body(side)))
            }
            Verdict::Body(DataAction::StopIterationNoBuffer) => Answer::Body(BodyOutcome::Drop),
            Verdict::Trailers(TrailersAction::Continue) => {
                let trailers = self.release_trailers(side);
                let trailers = trailers.unwrap_or_else(|| Fields::new(FieldsKind::Trailers));
                Answer::Trailers(TrailersOutcome::Continue(trailers))
            }
            Verdict::Trailers(TrailersAction::StopIteration) => {
                Answer::Trailers(TrailersOutcome::Hold)
            }
        }
    }

    /// Makes the stream what the plugin made of its replica.
    fn apply(&self, effects: Vec<Effect>) {
        for effect in effects {
            // The replica has accepted it under the same rules.
            let _ = match effect {
                Effect::Property(name, value, span) => {
                    self.shared.set_property(&name, &value, span)
                }
                Effect::FilterState(key, value, span) => {
                    self.shared.set_filter_state(&key, &value, span)
                }
                Effect::Route(index) => {
                    self.shared.set_route_index(index);
                    Ok(())
                }
            };
        }
    }

    /// Forgets what was asked, if this answers it.
    fn take_asked(&mut self, side: Side, number: u32) -> Option<Kind> {
        self.asked_of(side).take_if(|(asked, _)| *asked == number).map(|(_, kind)| kind)
    }

    fn asked_of(&mut self, side: Side) -> &mut Option<(u32, Kind)> {
        let [request, response] = &mut self.asked;
        match side {
            Side::Request => request,
            Side::Response => response,
        }
    }

    fn let_go(&mut self, side: Side) -> &mut Content {
        let [request, response] = &mut self.let_go;
        match side {
            Side::Request => request,
            Side::Response => response,
        }
    }
}

impl Drop for RemoteFilter {
    fn drop(&mut self) {
        self.finish();
    }
}

impl std::fmt::Debug for RemoteFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteFilter").field("state", &self.state).finish_non_exhaustive()
    }
}
