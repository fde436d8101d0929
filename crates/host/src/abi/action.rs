/// What a plugin wants after a headers callback.
///
/// Source: Envoy `FilterHeadersStatus`, as its Wasm filter maps the returned number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadersAction {
    /// Pass the headers on.
    Continue,
    /// Hold the headers, but go on with body callbacks.
    StopIteration,
    /// Hold everything; past the buffer limit the message is refused.
    StopAllIterationAndBuffer,
    /// Hold everything; past the buffer limit the peer is slowed down.
    StopAllIterationAndWatermark,
}

/// What a plugin wants after a body callback.
///
/// Source: Envoy `FilterDataStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataAction {
    /// Pass the bytes on.
    Continue,
    /// Keep the bytes and show them again together with the next ones.
    StopIterationAndBuffer,
    /// Keep the bytes, show only new ones, slow the peer down at the limit.
    StopIterationAndWatermark,
    /// Drop the bytes.
    StopIterationNoBuffer,
}

/// What a plugin wants after a trailers callback.
///
/// Source: Envoy `FilterTrailersStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrailersAction {
    /// Pass the trailers on.
    Continue,
    /// Hold them.
    StopIteration,
}

/// What a plugin wants after a callback of a TCP connection.
///
/// Source: Envoy `FilterStatus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkAction {
    /// Pass the bytes on.
    Continue,
    /// Hold them; show them again with the next ones.
    StopIteration,
}

impl HeadersAction {
    /// Reads the number that a headers callback returned.
    ///
    /// `allow_stop_iteration` is Envoy's `allow_on_headers_stop_iteration`: without it, 1 holds
    /// the body as well.
    pub fn from_guest(value: u32, allow_stop_iteration: bool) -> Self {
        match value {
            // 2 is "continue and end the stream", which Envoy treats as plain continue.
            0 | 2 => Self::Continue,
            1 if allow_stop_iteration => Self::StopIteration,
            3 => Self::StopAllIterationAndBuffer,
            _ => Self::StopAllIterationAndWatermark,
        }
    }
}

impl DataAction {
    /// Reads the number that a body callback returned.
    pub fn from_guest(value: u32) -> Self {
        match value {
            0 => Self::Continue,
            1 => Self::StopIterationAndBuffer,
            2 => Self::StopIterationAndWatermark,
            _ => Self::StopIterationNoBuffer,
        }
    }
}

impl TrailersAction {
    /// Reads the number that a trailers callback returned.
    pub fn from_guest(value: u32) -> Self {
        if value == 0 { Self::Continue } else { Self::StopIteration }
    }
}

impl NetworkAction {
    /// Reads the number that a callback of a connection returned.
    pub fn from_guest(value: u32) -> Self {
        if value == 0 { Self::Continue } else { Self::StopIteration }
    }
}
