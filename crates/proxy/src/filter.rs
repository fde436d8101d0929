//! What the chain and a filter say to each other.
//!
//! One filter object serves one stream. It is called for the request in chain order and for the
//! response in reverse. A pause is a returned outcome, never an await: while a filter holds a
//! message, the chain keeps calling it for what arrives.

use wasmplug_host::{BodyBuffer, Fields, LocalReply};

/// Which message of a stream is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

/// What a filter does with headers. Source: Envoy `FilterHeadersStatus`.
#[derive(Debug)]
pub(crate) enum HeadersOutcome {
    /// Pass them on.
    Continue(Fields),
    /// The filter keeps them until it is resumed.
    Hold(Hold),
    /// The filter will answer, see [`Answer`]; the chain holds what follows until then.
    Later,
}

/// How much a filter holds besides the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Only the headers: body callbacks go on.
    Headers,
    /// Everything; past the buffer limit the message is refused.
    AllAndBuffer,
    /// Everything; past the buffer limit the peer is slowed down.
    AllAndWatermark,
}

/// What a filter does with body bytes. Source: Envoy `FilterDataStatus`.
#[derive(Debug)]
pub(crate) enum BodyOutcome {
    /// Pass them on.
    Continue(BodyBuffer),
    /// The filter keeps them and wants to see them again with the next ones.
    Buffer,
    /// The chain keeps them; the filter has seen them.
    Queue(BodyBuffer),
    /// They are gone.
    Drop,
    /// The filter will answer, see [`Answer`]; the chain holds what follows until then.
    Later,
}

/// What a filter does with trailers. Source: Envoy `FilterTrailersStatus`.
#[derive(Debug)]
pub(crate) enum TrailersOutcome {
    /// Pass them on.
    Continue(Fields),
    /// The filter keeps them until it is resumed.
    Hold,
    /// The filter will answer, see [`Answer`].
    Later,
}

/// What became of a call to which a filter said `Later`.
#[derive(Debug)]
pub(crate) enum Answer {
    Headers(HeadersOutcome),
    Body(BodyOutcome),
    Trailers(TrailersOutcome),
}

/// What a filter that answers later has to say, in the order in which it happened.
#[derive(Debug)]
pub(crate) enum Late {
    Answer(Side, Answer),
    Resume(Resume),
}

/// What ends the normal course of a stream.
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// A filter answers in place of the upstream.
    LocalReply(LocalReply),
    /// The stream is to be cut, without an answer.
    Reset,
}

/// What a filter asked for beside its outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resume {
    pub(crate) request: bool,
    pub(crate) response: bool,
}
