//! A plugin with a candidate: one of the two serves a stream, or both see it and one counts.

mod shadow;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wasmplug_api::NamespacedName;
use wasmplug_host::{BodyBuffer, Fields, LogFields};

use self::shadow::Shadow;
use super::wasm::{WasmFactory, WasmFilter};
use crate::attributes::StreamShared;
use crate::filter::{BodyOutcome, HeadersOutcome, Interrupt, Resume, Side, TrailersOutcome};
use crate::rollout::Rollout;

/// Makes the filters of such a plugin on one worker.
#[derive(Debug)]
pub(crate) struct RolloutFactory {
    rollout: Arc<Rollout>,
    stable: Rc<WasmFactory>,
    candidate: Rc<WasmFactory>,
    buffer_limit: usize,
}

/// The plugin or its candidate, for one stream.
pub(crate) struct RolloutFilter {
    factory: Rc<RolloutFactory>,
    shared: Rc<StreamShared>,
    /// `None` before the request's headers.
    chosen: Option<WasmFilter>,
    is_candidate: bool,
    shadow: Option<Box<Shadow>>,
}

// === impl RolloutFactory ===

impl RolloutFactory {
    pub(crate) fn new(
        rollout: Arc<Rollout>,
        stable: Rc<WasmFactory>,
        candidate: Rc<WasmFactory>,
        buffer_limit: usize,
    ) -> Rc<Self> {
        Rc::new(Self { rollout, stable, candidate, buffer_limit })
    }

    /// Both versions.
    pub(crate) fn plugins(&self) -> [&Rc<WasmFactory>; 2] {
        [&self.stable, &self.candidate]
    }

    pub(crate) fn new_filter(self: &Rc<Self>, shared: &Rc<StreamShared>) -> RolloutFilter {
        let (factory, shared) = (Rc::clone(self), Rc::clone(shared));
        RolloutFilter { factory, shared, chosen: None, is_candidate: false, shadow: None }
    }
}

// === impl RolloutFilter ===

impl RolloutFilter {
    pub(crate) fn time_spent(&self) -> Option<(&NamespacedName, Duration)> {
        self.chosen.as_ref()?.time_spent()
    }

    pub(crate) fn takes_part(&self, side: Side) -> bool {
        match &self.chosen {
            Some(filter) => filter.takes_part(side) || self.shadow.is_some(),
            None => side == Side::Request,
        }
    }

    pub(crate) fn on_headers(
        &mut self,
        side: Side,
        headers: Fields,
        end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        if self.chosen.is_none() {
            self.choose(&headers);
        }
        if let Some(shadow) = &mut self.shadow {
            shadow.on_headers(side, &headers, end);
        }
        match self.chosen.as_mut().filter(|filter| filter.takes_part(side)) {
            Some(filter) => filter.on_headers(side, headers, end),
            None => Ok(HeadersOutcome::Continue(headers)),
        }
    }

    pub(crate) fn on_body(
        &mut self,
        side: Side,
        body: BodyBuffer,
        end: bool,
    ) -> Result<BodyOutcome, Interrupt> {
        if let Some(shadow) = &mut self.shadow {
            shadow.on_body(side, &body, end);
        }
        match self.chosen.as_mut().filter(|filter| filter.takes_part(side)) {
            Some(filter) => filter.on_body(side, body, end),
            None => Ok(BodyOutcome::Continue(body)),
        }
    }

    pub(crate) fn on_trailers(
        &mut self,
        side: Side,
        trailers: Fields,
    ) -> Result<TrailersOutcome, Interrupt> {
        if let Some(shadow) = &mut self.shadow {
            shadow.on_trailers(side, &trailers);
        }
        match self.chosen.as_mut().filter(|filter| filter.takes_part(side)) {
            Some(filter) => filter.on_trailers(side, trailers),
            None => Ok(TrailersOutcome::Continue(trailers)),
        }
    }

    /// See [`WasmFilter::recover`]; a shadow that is gone stays gone.
    pub(crate) fn recover(&mut self, request: &Fields, is_bare: bool) {
        if let Some(filter) = &mut self.chosen {
            filter.recover(&self.shared, request, is_bare);
        }
    }

    pub(crate) fn take_resume(&mut self) -> Resume {
        self.chosen.as_mut().map(WasmFilter::take_resume).unwrap_or_default()
    }

    pub(crate) fn poll_actions(&mut self, is_held: bool) -> Result<Resume, Interrupt> {
        if let Some(shadow) = &mut self.shadow {
            shadow.poll();
        }
        self.chosen.as_mut().map_or(Ok(Resume::default()), |of| of.poll_actions(is_held))
    }

    pub(crate) fn release_headers(&mut self, side: Side) -> Option<Fields> {
        self.chosen.as_mut()?.release_headers(side)
    }

    pub(crate) fn release_body(&mut self, side: Side) -> BodyBuffer {
        self.chosen.as_mut().map(|filter| filter.release_body(side)).unwrap_or_default()
    }

    pub(crate) fn release_trailers(&mut self, side: Side) -> Option<Fields> {
        self.chosen.as_mut()?.release_trailers(side)
    }

    pub(crate) fn held_body_len(&self, side: Side) -> usize {
        self.chosen.as_ref().map_or(0, |filter| filter.held_body_len(side))
    }

    pub(crate) fn on_log(&mut self, fields: LogFields) -> LogFields {
        if let Some(shadow) = &mut self.shadow {
            shadow.on_log(&fields);
        }
        match &mut self.chosen {
            Some(filter) => filter.on_log(fields),
            None => fields,
        }
    }

    pub(crate) fn finish(&mut self) {
        let rollout = &self.factory.rollout;
        if let Some(shadow) = self.shadow.take() {
            let (time, has_failed) = shadow.finish();
            rollout.stream_ended(time, has_failed);
        }
        if let Some(filter) = &mut self.chosen {
            if std::mem::take(&mut self.is_candidate) {
                let time = filter.time_spent().map(|(_, time)| time).unwrap_or_default();
                rollout.stream_ended(time, filter.has_failed());
            }
            filter.finish();
        }
    }

    fn choose(&mut self, headers: &Fields) {
        let RolloutFactory { rollout, stable, candidate, buffer_limit } = &*self.factory;
        let is_chosen = rollout.choose(headers);
        self.is_candidate = is_chosen && !rollout.is_shadow();
        let counts = if self.is_candidate { candidate } else { stable };
        self.chosen = Some(counts.new_filter(&self.shared));
        if is_chosen && rollout.is_shadow() {
            let (rollout, shared) = (Arc::clone(rollout), Rc::clone(&self.shared));
            self.shadow = Some(Box::new(Shadow::new(rollout, candidate, shared, *buffer_limit)));
        }
    }
}

impl std::fmt::Debug for RolloutFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RolloutFilter").field("chosen", &self.chosen).finish_non_exhaustive()
    }
}
