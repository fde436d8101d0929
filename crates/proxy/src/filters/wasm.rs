//! A Proxy-Wasm plugin as a filter of one stream.

mod factory;
mod recovery;
mod remote;
mod services;

use std::rc::Rc;
use std::time::Duration;

use wasmplug_api::NamespacedName;
use wasmplug_host::abi::{DataAction, HeadersAction, TrailersAction};
use wasmplug_host::{BodyBuffer, Failure, Fields, FieldsKind, HttpStream, LogFields};

pub(crate) use self::factory::{Retired, VmTable, WasmFactory};
pub(crate) use self::remote::{RemoteFactory, RemoteFilter, ThreadSlot};
use crate::filter::{BodyOutcome, HeadersOutcome, Hold, Interrupt, Resume, Side, TrailersOutcome};
use crate::filters::substitute::unavailable;

/// One plugin for one stream.
pub(crate) struct WasmFilter {
    factory: Rc<WasmFactory>,
    state: State,
    has_seen_request: bool,
    resume: Resume,
}

/// Where the plugin stands with this stream.
enum State {
    /// Its callbacks are called.
    Live(HttpStream),
    /// It cannot run, and the stream goes on without it.
    Bypassed,
    /// It cannot run, and the stream must not go on without it.
    Refusing,
    /// It died in this stream, which has its answer.
    Dead(HttpStream),
}

// === impl WasmFilter ===

impl WasmFilter {
    /// `stream` is `None` if the plugin cannot run now.
    fn new(factory: Rc<WasmFactory>, stream: Option<HttpStream>) -> Self {
        let state = match stream {
            Some(stream) => State::Live(stream),
            None if factory.fails_open() => State::Bypassed,
            None => State::Refusing,
        };
        Self { factory, state, has_seen_request: false, resume: Resume::default() }
    }

    /// Name of the plugin, and time that it spent on this stream so far, if it takes part.
    pub(crate) fn time_spent(&self) -> Option<(&NamespacedName, Duration)> {
        match &self.state {
            State::Live(stream) | State::Dead(stream) => {
                Some((&self.factory.spec().resource, stream.time_spent()))
            }
            State::Bypassed | State::Refusing => None,
        }
    }

    /// Whether the plugin cannot run or died in this stream.
    pub(crate) fn has_failed(&self) -> bool {
        !matches!(self.state, State::Live(_))
    }

    pub(crate) fn takes_part(&self, side: Side) -> bool {
        match (&self.state, side) {
            (State::Bypassed | State::Dead(_), _) | (State::Refusing, Side::Response) => false,
            (State::Refusing | State::Live(_), Side::Request) => true,
            (State::Live(_), Side::Response) => self.has_seen_request,
        }
    }

    pub(crate) fn on_headers(
        &mut self,
        side: Side,
        headers: Fields,
        end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        self.has_seen_request = true;
        let State::Live(stream) = &mut self.state else { return Err(unavailable()) };
        let allow_stop = self.factory.allows_headers_stop();
        let result = match side {
            Side::Request => stream.on_request_headers(headers, end, allow_stop),
            Side::Response => stream.on_response_headers(headers, end, allow_stop),
        };
        Ok(match self.take_actions(result)?.unwrap_or(HeadersAction::Continue) {
            HeadersAction::Continue => {
                let headers = self.release_headers(side);
                HeadersOutcome::Continue(headers.unwrap_or_else(|| Fields::new(kind(side))))
            }
            HeadersAction::StopIteration => HeadersOutcome::Hold(Hold::Headers),
            HeadersAction::StopAllIterationAndBuffer => HeadersOutcome::Hold(Hold::AllAndBuffer),
            HeadersAction::StopAllIterationAndWatermark => {
                HeadersOutcome::Hold(Hold::AllAndWatermark)
            }
        })
    }

    pub(crate) fn on_body(
        &mut self,
        side: Side,
        body: BodyBuffer,
        end: bool,
    ) -> Result<BodyOutcome, Interrupt> {
        let State::Live(stream) = &mut self.state else { return Err(unavailable()) };
        self.factory.costs().count_body(side, body.len());
        let result = match side {
            Side::Request => stream.on_request_body(body, end),
            Side::Response => stream.on_response_body(body, end),
        };
        Ok(match self.take_actions(result)?.unwrap_or(DataAction::Continue) {
            DataAction::Continue => BodyOutcome::Continue(self.release_body(side)),
            DataAction::StopIterationAndBuffer => BodyOutcome::Buffer,
            DataAction::StopIterationAndWatermark => BodyOutcome::Queue(self.release_body(side)),
            DataAction::StopIterationNoBuffer => {
                self.release_body(side);
                BodyOutcome::Drop
            }
        })
    }

    pub(crate) fn on_trailers(
        &mut self,
        side: Side,
        trailers: Fields,
    ) -> Result<TrailersOutcome, Interrupt> {
        let State::Live(stream) = &mut self.state else { return Err(unavailable()) };
        let result = match side {
            Side::Request => stream.on_request_trailers(trailers),
            Side::Response => stream.on_response_trailers(trailers),
        };
        match self.take_actions(result)? {
            Some(TrailersAction::StopIteration) => Ok(TrailersOutcome::Hold),
            Some(TrailersAction::Continue) | None => {
                let trailers = self.release_trailers(side);
                let trailers = trailers.unwrap_or_else(|| Fields::new(FieldsKind::Trailers));
                Ok(TrailersOutcome::Continue(trailers))
            }
        }
    }

    pub(crate) fn take_resume(&mut self) -> Resume {
        std::mem::take(&mut self.resume)
    }

    /// A dead VM will never resume what it holds, so that is looked at as well.
    pub(crate) fn poll_actions(&mut self, is_held: bool) -> Result<Resume, Interrupt> {
        let State::Live(stream) = &mut self.state else { return Ok(Resume::default()) };
        if is_held && let Some(failure) = stream.failure() {
            self.take_actions::<()>(Err(failure))?;
            // Bypassed: what it holds goes on without it.
            return Ok(Resume { request: true, response: true });
        }
        self.take_actions(Ok(()))?;
        Ok(self.take_resume())
    }

    pub(crate) fn release_headers(&mut self, side: Side) -> Option<Fields> {
        let stream = self.stream()?;
        match side {
            Side::Request => stream.release_request_headers(),
            Side::Response => stream.release_response_headers(),
        }
    }

    pub(crate) fn release_body(&mut self, side: Side) -> BodyBuffer {
        let body = self.stream().and_then(|stream| match side {
            Side::Request => stream.release_request_body(),
            Side::Response => stream.release_response_body(),
        });
        body.unwrap_or_default()
    }

    pub(crate) fn release_trailers(&mut self, side: Side) -> Option<Fields> {
        let stream = self.stream()?;
        match side {
            Side::Request => stream.release_request_trailers(),
            Side::Response => stream.release_response_trailers(),
        }
    }

    pub(crate) fn held_body_len(&self, side: Side) -> usize {
        match (&self.state, side) {
            (State::Live(stream), Side::Request) => stream.request_body_len(),
            (State::Live(stream), Side::Response) => stream.response_body_len(),
            _ => 0,
        }
    }

    pub(crate) fn on_log(&mut self, fields: LogFields) -> LogFields {
        match &mut self.state {
            State::Live(stream) => stream.on_log(fields),
            _ => fields,
        }
    }

    pub(crate) fn finish(&mut self) {
        if let State::Live(stream) = std::mem::replace(&mut self.state, State::Bypassed) {
            let was_alive = !stream.has_failed();
            stream.finish();
            if was_alive {
                self.factory.stream_finished();
            }
        }
    }

    /// The context, also that of a dead VM: what it holds must be given back.
    fn stream(&mut self) -> Option<&mut HttpStream> {
        match &mut self.state {
            State::Live(stream) | State::Dead(stream) => Some(stream),
            State::Bypassed | State::Refusing => None,
        }
    }

    /// Sorts what a callback left behind. `None` if the plugin died and is to be bypassed.
    fn take_actions<T>(&mut self, result: Result<T, Failure>) -> Result<Option<T>, Interrupt> {
        let value = match result {
            Ok(value) => value,
            Err(failure) => {
                self.factory.stream_failed(&failure);
                if let State::Live(stream) = std::mem::replace(&mut self.state, State::Bypassed) {
                    self.state = State::Dead(stream);
                }
                return if self.factory.fails_open() { Ok(None) } else { Err(unavailable()) };
            }
        };
        let State::Live(stream) = &mut self.state else { return Ok(Some(value)) };
        let Some(actions) = stream.take_some_actions() else {
            self.resume = Resume::default();
            return Ok(Some(value));
        };
        if let Some(reply) = actions.local_reply {
            return Err(Interrupt::LocalReply(reply));
        }
        if actions.close.is_some() {
            return Err(Interrupt::Reset);
        }
        self.resume =
            Resume { request: actions.continue_request, response: actions.continue_response };
        Ok(Some(value))
    }
}

impl std::fmt::Debug for WasmFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = match self.state {
            State::Live(_) => "live",
            State::Bypassed => "bypassed",
            State::Refusing => "refusing",
            State::Dead(_) => "dead",
        };
        f.debug_struct("WasmFilter").field("state", &state).finish_non_exhaustive()
    }
}

fn kind(side: Side) -> FieldsKind {
    match side {
        Side::Request => FieldsKind::Request,
        Side::Response => FieldsKind::Response,
    }
}
