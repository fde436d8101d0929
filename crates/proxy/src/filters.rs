//! The closed lists of filters: per stream ([`AnyFilter`]) and per worker ([`AnyFactory`]).

pub(crate) mod built_in;
pub(crate) mod cors;
pub(crate) mod ext_authz;
pub(crate) mod fault;
pub(crate) mod jwt_authn;
pub(crate) mod rbac;
pub(crate) mod rollout;
mod routed;
pub(crate) mod stats;
pub(crate) mod substitute;
pub(crate) mod wasm;

use std::rc::Rc;
use std::time::Duration;

use wasmplug_api::NamespacedName;
use wasmplug_host::{BodyBuffer, Fields, LogFields};

use self::built_in::{BuiltIn, BuiltInSpec};
use self::rollout::{RolloutFactory, RolloutFilter};
use self::substitute::Substitute;
use self::wasm::{RemoteFactory, RemoteFilter, WasmFactory, WasmFilter};
use crate::attributes::StreamShared;
use crate::filter::{BodyOutcome, HeadersOutcome, Interrupt, Late, Resume, Side, TrailersOutcome};

/// Makes the filter objects of a chain, one per stream.
#[derive(Debug)]
pub(crate) enum AnyFactory {
    Wasm(Rc<WasmFactory>),
    /// A plugin with one VM for the process.
    Remote(Rc<RemoteFactory>),
    /// A plugin with a candidate.
    Rollout(Rc<RolloutFactory>),
    Substitute(Substitute),
    BuiltIn(BuiltInSpec),
}

/// One filter of one stream.
#[derive(Debug)]
pub(crate) enum AnyFilter {
    Wasm(WasmFilter),
    Remote(Box<RemoteFilter>),
    Rollout(Box<RolloutFilter>),
    BuiltIn(BuiltIn),
}

// === impl AnyFactory ===

impl AnyFactory {
    pub(crate) fn new_filter(&self, stream: &Rc<StreamShared>) -> AnyFilter {
        match self {
            Self::Wasm(factory) => AnyFilter::Wasm(factory.new_filter(stream)),
            Self::Remote(factory) => AnyFilter::Remote(Box::new(factory.new_filter(stream))),
            Self::Rollout(factory) => AnyFilter::Rollout(Box::new(factory.new_filter(stream))),
            Self::Substitute(substitute) => AnyFilter::BuiltIn(BuiltIn::Substitute(*substitute)),
            Self::BuiltIn(spec) => AnyFilter::BuiltIn(spec.new_filter(stream)),
        }
    }
}

// === impl AnyFilter ===

impl AnyFilter {
    /// Whether the filter is to be called for this message of the stream.
    #[inline]
    pub(crate) fn takes_part(&self, side: Side) -> bool {
        match self {
            Self::Wasm(filter) => filter.takes_part(side),
            Self::Remote(filter) => filter.takes_part(side),
            Self::Rollout(filter) => filter.takes_part(side),
            Self::BuiltIn(filter) => filter.filter().takes_part(side),
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
            Self::Remote(filter) => filter.on_headers(side, headers, end),
            Self::Rollout(filter) => filter.on_headers(side, headers, end),
            Self::BuiltIn(filter) => filter.filter_mut().on_headers(side, headers, end),
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
            Self::Remote(filter) => filter.on_body(side, body, end),
            Self::Rollout(filter) => filter.on_body(side, body, end),
            Self::BuiltIn(filter) => filter.filter_mut().on_body(side, body, end),
        }
    }

    pub(crate) fn on_trailers(
        &mut self,
        side: Side,
        trailers: Fields,
    ) -> Result<TrailersOutcome, Interrupt> {
        match self {
            Self::Wasm(filter) => filter.on_trailers(side, trailers),
            Self::Remote(filter) => filter.on_trailers(side, trailers),
            Self::Rollout(filter) => filter.on_trailers(side, trailers),
            Self::BuiltIn(_) => Ok(TrailersOutcome::Continue(trailers)),
        }
    }

    /// Takes what a filter that answers later has to say next.
    pub(crate) fn take_late(&mut self, is_held: bool) -> Option<Result<Late, Interrupt>> {
        match self {
            Self::Remote(filter) => filter.take_late(is_held),
            Self::Wasm(_) | Self::Rollout(_) | Self::BuiltIn(_) => None,
        }
    }

    /// Takes what the filter asked for in its last callback.
    #[inline]
    pub(crate) fn take_resume(&mut self) -> Resume {
        match self {
            Self::Wasm(filter) => filter.take_resume(),
            Self::Remote(filter) => filter.take_resume(),
            Self::Rollout(filter) => filter.take_resume(),
            Self::BuiltIn(_) => Resume::default(),
        }
    }

    /// Looks at what was asked for outside the stream's own callbacks.
    pub(crate) fn poll_actions(&mut self, is_held: bool) -> Result<Resume, Interrupt> {
        match self {
            Self::Wasm(filter) => filter.poll_actions(is_held),
            Self::Remote(_) => Ok(Resume::default()),
            Self::Rollout(filter) => filter.poll_actions(is_held),
            Self::BuiltIn(filter) => filter.filter_mut().poll_actions(is_held),
        }
    }

    pub(crate) fn release_headers(&mut self, side: Side) -> Option<Fields> {
        match self {
            Self::Wasm(filter) => filter.release_headers(side),
            Self::Remote(filter) => filter.release_headers(side),
            Self::Rollout(filter) => filter.release_headers(side),
            Self::BuiltIn(filter) => filter.filter_mut().release_headers(side),
        }
    }

    pub(crate) fn release_body(&mut self, side: Side) -> BodyBuffer {
        match self {
            Self::Wasm(filter) => filter.release_body(side),
            Self::Remote(filter) => filter.release_body(side),
            Self::Rollout(filter) => filter.release_body(side),
            Self::BuiltIn(filter) => filter.filter_mut().release_body(side),
        }
    }

    pub(crate) fn release_trailers(&mut self, side: Side) -> Option<Fields> {
        match self {
            Self::Wasm(filter) => filter.release_trailers(side),
            Self::Remote(filter) => filter.release_trailers(side),
            Self::Rollout(filter) => filter.release_trailers(side),
            Self::BuiltIn(_) => None,
        }
    }

    /// Bytes that the filter keeps itself.
    pub(crate) fn held_body_len(&self, side: Side) -> usize {
        match self {
            Self::Wasm(filter) => filter.held_body_len(side),
            Self::Remote(filter) => filter.held_body_len(side),
            Self::Rollout(filter) => filter.held_body_len(side),
            Self::BuiltIn(filter) => filter.filter().held_body_len(side),
        }
    }

    /// Name of a plugin, and time that it spent on this stream so far.
    pub(crate) fn time_spent(&self) -> Option<(&NamespacedName, Duration)> {
        match self {
            Self::Wasm(filter) => filter.time_spent(),
            Self::Remote(filter) => filter.time_spent(),
            Self::Rollout(filter) => filter.time_spent(),
            Self::BuiltIn(_) => None,
        }
    }

    /// Takes a plugin whose VM has died of another stream into a fresh one, if it can.
    pub(crate) fn recover(&mut self, stream: &Rc<StreamShared>, request: &Fields, is_bare: bool) {
        match self {
            Self::Wasm(filter) => filter.recover(stream, request, is_bare),
            Self::Rollout(filter) => filter.recover(request, is_bare),
            Self::Remote(_) | Self::BuiltIn(_) => {}
        }
    }

    /// Whether it is a plugin that cannot run or died in this stream.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(self, Self::Wasm(filter) if filter.has_failed())
    }

    /// Whether the filter wants the maps of the finished stream.
    pub(crate) fn wants_log(&self) -> bool {
        matches!(self, Self::Wasm(_) | Self::Remote(_) | Self::Rollout(_))
    }

    /// The stream is over; the maps are lent.
    pub(crate) fn on_log(&mut self, fields: LogFields) -> LogFields {
        match self {
            Self::Wasm(filter) => filter.on_log(fields),
            Self::Remote(filter) => filter.on_log(fields),
            Self::Rollout(filter) => filter.on_log(fields),
            Self::BuiltIn(_) => fields,
        }
    }

    /// The last call.
    pub(crate) fn finish(&mut self) {
        match self {
            Self::Wasm(filter) => filter.finish(),
            Self::Remote(filter) => filter.finish(),
            Self::Rollout(filter) => filter.finish(),
            Self::BuiltIn(_) => {}
        }
    }
}
