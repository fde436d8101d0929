//! A candidate that sees a copy of a stream; what it does is recorded and counts for nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmplug_host::abi::Status;
use wasmplug_host::{BodyBuffer, Fields, LifeSpan, LogFields, PropertyValue, StreamHost};

use crate::attributes::StreamShared;
use crate::chain::{Filters, Pipeline};
use crate::filter::{Interrupt, Resume, Side};
use crate::filters::AnyFilter;
use crate::filters::wasm::WasmFactory;
use crate::rollout::Rollout;

/// Most values that a shadow may store in one stream.
const MAX_STORED: usize = 1024;

/// A chain of its own with one filter, whose ends lead nowhere.
pub(super) struct Shadow {
    rollout: Arc<Rollout>,
    filters: Filters,
    request: Pipeline,
    response: Pipeline,
    /// Headers as the shadow got them.
    given: [Option<Fields>; 2],
    /// Whether it changed the body of the request, and of the response.
    has_changed: [bool; 2],
    has_failed: bool,
    is_over: bool,
}

/// A stream that a plugin can look at and not change.
struct ShadowHost {
    shared: Rc<StreamShared>,
    stored: RefCell<Vec<(Vec<u8>, Vec<u8>)>>,
}

// === impl Shadow ===

impl Shadow {
    pub(super) fn new(
        rollout: Arc<Rollout>,
        candidate: &Rc<WasmFactory>,
        shared: Rc<StreamShared>,
        buffer_limit: usize,
    ) -> Self {
        let host = Rc::new(ShadowHost { shared, stored: RefCell::default() });
        let filter = AnyFilter::Wasm(candidate.new_filter_for(host));
        let filters = Filters::from_iter([filter]);
        let pipeline = |side| Pipeline::new(side, 1, buffer_limit);
        Self {
            rollout,
            filters,
            request: pipeline(Side::Request),
            response: pipeline(Side::Response),
            given: [None, None],
            has_changed: [false; 2],
            has_failed: false,
            is_over: false,
        }
    }

    pub(super) fn on_headers(&mut self, side: Side, headers: &Fields, end: bool) {
        if side == Side::Response && self.request.is_held_at(0) && !self.is_over {
            // Where it counted, there would be no response yet.
            bump(&self.rollout.shadow.held);
            self.is_over = true;
        }
        if self.is_over {
            return;
        }
        let [request, response] = &mut self.given;
        let (given, pipeline) = match side {
            Side::Request => (request, &mut self.request),
            Side::Response => (response, &mut self.response),
        };
        *given = Some(headers.clone());
        let step = pipeline.start_headers(&mut self.filters, headers.clone(), end);
        self.settle(step);
    }

    pub(super) fn on_body(&mut self, side: Side, body: &BodyBuffer, end: bool) {
        if self.is_over {
            return;
        }
        let mut copy = BodyBuffer::default();
        body.clone().into_chunks().for_each(|chunk| copy.push(chunk));
        let filters = &mut self.filters;
        let step = match side {
            Side::Request => self.request.start_body(filters, copy, end),
            Side::Response => self.response.start_body(filters, copy, end),
        };
        self.settle(step);
    }

    pub(super) fn on_trailers(&mut self, side: Side, trailers: &Fields) {
        if self.is_over {
            return;
        }
        let filters = &mut self.filters;
        let step = match side {
            Side::Request => self.request.start_trailers(filters, trailers.clone()),
            Side::Response => self.response.start_trailers(filters, trailers.clone()),
        };
        self.settle(step);
    }

    /// Looks at what the plugin asked for outside the stream's callbacks.
    pub(super) fn poll(&mut self) {
        if self.is_over {
            return;
        }
        let is_held = self.request.is_held_at(0) || self.response.is_held_at(0);
        let Some(filter) = self.filters.first_mut() else { return };
        let asked = filter.poll_actions(is_held);
        let step = asked.and_then(|asked| self.resume(asked));
        self.settle(step);
    }

    fn resume(&mut self, Resume { request, response }: Resume) -> Result<(), Interrupt> {
        if request {
            self.request.resume(&mut self.filters, 0)?;
        }
        if response {
            self.response.resume(&mut self.filters, 0)?;
        }
        Ok(())
    }

    pub(super) fn on_log(&mut self, fields: &LogFields) {
        let copy = LogFields {
            request_headers: fields.request_headers.clone(),
            response_headers: fields.response_headers.clone(),
            response_trailers: fields.response_trailers.clone(),
        };
        if let Some(filter) = self.filters.first_mut() {
            filter.on_log(copy);
        }
    }

    /// Time that the plugin spent, and whether it failed the stream.
    pub(super) fn finish(mut self) -> (Duration, bool) {
        let Some(filter) = self.filters.first_mut() else { return (Duration::ZERO, false) };
        let time = filter.time_spent().map(|(_, time)| time).unwrap_or_default();
        let has_failed = self.has_failed || filter.has_failed();
        filter.finish();
        (time, has_failed)
    }

    /// Records what a step led to, and lets go of what came to an end.
    fn settle(&mut self, step: Result<(), Interrupt>) {
        let record = &self.rollout.shadow;
        let has_failed = self.filters.first().is_some_and(AnyFilter::has_failed);
        match step {
            Ok(()) => {}
            Err(_) if has_failed => {
                self.has_failed = true;
                self.is_over = true;
            }
            Err(Interrupt::LocalReply(reply)) => {
                record.count_reply(reply.status);
                self.is_over = true;
            }
            Err(Interrupt::Reset) => {
                bump(&record.resets);
                self.is_over = true;
            }
        }
        let [request, response] = &mut self.given;
        let ends = [
            (&mut self.request, request, &record.request_headers),
            (&mut self.response, response, &record.response_headers),
        ];
        for ((pipeline, given, changed), has_changed) in ends.into_iter().zip(&mut self.has_changed)
        {
            let outlet = pipeline.outlet();
            if let (Some(headers), Some(given)) = (outlet.headers.take(), given.take())
                && differ(&given, &headers)
            {
                bump(changed);
            }
            let is_modified = std::mem::take(&mut outlet.body).is_modified();
            if is_modified && !std::mem::replace(has_changed, true) {
                bump(&record.bodies);
            }
            outlet.trailers = None;
            if !pipeline.wants_more() && !self.is_over {
                // A shadow slows nobody down: what it holds is forgotten, and it with it.
                bump(&record.overflows);
                self.is_over = true;
            }
        }
    }
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Whether any header was added, changed, removed or moved.
fn differ(before: &Fields, after: &Fields) -> bool {
    !before.iter().eq(after.iter())
}

// === impl ShadowHost ===

impl ShadowHost {
    fn store(&self, name: &[u8], value: &[u8]) -> Result<(), Status> {
        let mut stored = self.stored.borrow_mut();
        let is_full = stored.len() >= MAX_STORED;
        match stored.iter_mut().find(|(present, _)| present == name) {
            Some((_, present)) => *present = value.to_vec(),
            None if is_full => return Err(Status::BadArgument),
            None => stored.push((name.to_vec(), value.to_vec())),
        }
        Ok(())
    }
}

impl StreamHost for ShadowHost {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let name = match path {
            [name] => Some(*name),
            [b"filter_state", name] => Some(name.strip_prefix(b"wasm.").unwrap_or(name)),
            _ => None,
        };
        let stored = self.stored.borrow();
        let own = stored.iter().find(|(present, _)| name == Some(present.as_slice()));
        match own {
            Some((_, value)) => Some(PropertyValue::text(value)),
            None => self.shared.property(path),
        }
    }

    fn set_property(&self, name: &[u8], value: &[u8], _: LifeSpan) -> Result<(), Status> {
        self.store(name, value)
    }

    fn set_filter_state(&self, key: &str, value: &[u8], _: LifeSpan) -> Result<(), Status> {
        self.store(key.as_bytes(), value)
    }

    fn wake(&self) {
        self.shared.wake();
    }
}
