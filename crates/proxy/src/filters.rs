//! The closed lists of filters: per stream ([`AnyFilter`]) and per worker ([`AnyFactory`]).

pub(crate) mod substitute;
pub(crate) mod wasm;

use std::rc::Rc;

use wasmplug_host::{BodyBuffer, Fields, LogFields};

use self::substitute::Substitute;
use self::wasm::{WasmFactory, WasmFilter};
use crate::attributes::StreamShared;
use crate::filter::{BodyOutcome, HeadersOutcome, Interrupt, Resume, Side, TrailersOutcome};

/// Makes the filter objects of a chain, one per stream.
#[derive(Debug)]
pub(crate) enum AnyFactory {
    Wasm(Rc<WasmFactory>),
    Substitute(Substitute),
}

/// One filter of one stream.
#[derive(Debug)]
pub(crate) enum AnyFilter {
    Wasm(WasmFilter),
    Substitute(Substitute),
}

// === impl AnyFactory ===

impl AnyFactory {
    pub(crate) fn new_filter(&self, stream: &Rc<StreamShared>) -> AnyFilter {
        match self {
            Self::Wasm(factory) => AnyFilter::Wasm(factory.new_filter(stream)),
            Self::Substitute(substitute) => AnyFilter::Substitute(*substitute),
        }
    }
}

// === impl AnyFilter ===

impl AnyFilter {
    /// Whether the filter is to be called for this message of the stream.
    pub(crate) fn takes_part(&self, side: Side) -> bool {
        match self {
            Self::Wasm(filter) => filter.takes_part(side),
            Self::Substitute(_) => side == Side::Request,
        }
    }

    pub(crate) fn on_headers(
        &mut self,
        side: Side,
        headers: Fields,
        end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        match self {
            Self::Wasm(filter) => filter.on_headers(side, headers, end),
            Self::Substitute(substitute) => Err(substitute.refuse()),
        }
    }

    pub(crate) fn on_body(
        &mut self,
        side: Side,
        body: BodyBuffer,
        end: bool,
    ) -> Result<BodyOutcome, Interrupt> {
        match self {
            Self::Wasm(filter) => filter.on_body(side, body, end),
            Self::Substitute(_) => Ok(BodyOutcome::Continue(body)),
        }
    }

    pub(crate) fn on_trailers(
        &mut self,
        side: Side,
        trailers: Fields,
    ) -> Result<TrailersOutcome, Interrupt> {
        match self {
            Self::Wasm(filter) => filter.on_trailers(side, trailers),
            Self::Substitute(_) => Ok(TrailersOutcome::Continue(trailers)),
        }
    }

    /// Takes what the filter asked for in its last callback.
    pub(crate) fn take_resume(&mut self) -> Resume {
        match self {
            Self::Wasm(filter) => filter.take_resume(),
            Self::Substitute(_) => Resume::default(),
        }
    }

    /// Looks at what was asked for outside the stream's own callbacks.
    pub(crate) fn poll_actions(&mut self, is_held: bool) -> Result<Resume, Interrupt> {
        match self {
            Self::Wasm(filter) => filter.poll_actions(is_held),
            Self::Substitute(_) => Ok(Resume::default()),
        }
    }

    pub(crate) fn release_headers(&mut self, side: Side) -> Option<Fields> {
        match self {
            Self::Wasm(filter) => filter.release_headers(side),
            Self::Substitute(_) => None,
        }
    }

    pub(crate) fn release_body(&mut self, side: Side) -> BodyBuffer {
        match self {
            Self::Wasm(filter) => filter.release_body(side),
            Self::Substitute(_) => BodyBuffer::default(),
        }
    }

    pub(crate) fn release_trailers(&mut self, side: Side) -> Option<Fields> {
        match self {
            Self::Wasm(filter) => filter.release_trailers(side),
            Self::Substitute(_) => None,
        }
    }

    /// Bytes that the filter keeps itself.
    pub(crate) fn held_body_len(&self, side: Side) -> usize {
        match self {
            Self::Wasm(filter) => filter.held_body_len(side),
            Self::Substitute(_) => 0,
        }
    }

    /// Whether the filter wants the maps of the finished stream.
    pub(crate) fn wants_log(&self) -> bool {
        matches!(self, Self::Wasm(_))
    }

    /// The stream is over; the maps are lent.
    pub(crate) fn on_log(&mut self, fields: LogFields) -> LogFields {
        match self {
            Self::Wasm(filter) => filter.on_log(fields),
            Self::Substitute(_) => fields,
        }
    }

    /// The last call.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Wasm(filter) => filter.finish(),
            Self::Substitute(_) => {}
        }
    }
}
