//! Bits of `response.flags`. Source: Envoy's access log.

/// Nothing moved for too long.
pub(crate) const STREAM_IDLE_TIMEOUT: u64 = 0x1_0000;
/// A fault filter let the request wait.
pub(crate) const DELAY_INJECTED: u64 = 0x200;
/// A fault filter answered it.
pub(crate) const FAULT_INJECTED: u64 = 0x400;
/// An external authorizer refused it.
pub(crate) const UNAUTHORIZED_EXTERNALLY: u64 = 0x1000;
/// The client left before the end.
pub(crate) const DOWNSTREAM_CONNECTION_TERMINATION: u64 = 0x4000;
/// The upstream did not answer in time.
pub(crate) const UPSTREAM_REQUEST_TIMEOUT: u64 = 0x4;
/// There is no endpoint.
pub(crate) const NO_HEALTHY_UPSTREAM: u64 = 0x2;
/// The cluster's limits were reached.
pub(crate) const UPSTREAM_OVERFLOW: u64 = 0x80;
/// The upstream could not be connected to.
pub(crate) const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
/// The upstream ended the connection.
pub(crate) const UPSTREAM_CONNECTION_TERMINATION: u64 = 0x40;
/// The upstream answered, but not in HTTP.
pub(crate) const UPSTREAM_PROTOCOL_ERROR: u64 = 0x80_0000;

/// What Envoy calls them where they are written, in the order of the bits.
pub(crate) const NAMES: [(u64, &str); 11] = [
    (NO_HEALTHY_UPSTREAM, "UH"),
    (UPSTREAM_REQUEST_TIMEOUT, "UT"),
    (UPSTREAM_CONNECTION_FAILURE, "UF"),
    (UPSTREAM_CONNECTION_TERMINATION, "UC"),
    (UPSTREAM_OVERFLOW, "UO"),
    (DELAY_INJECTED, "DI"),
    (FAULT_INJECTED, "FI"),
    (UNAUTHORIZED_EXTERNALLY, "UAEX"),
    (DOWNSTREAM_CONNECTION_TERMINATION, "DC"),
    (STREAM_IDLE_TIMEOUT, "SI"),
    (UPSTREAM_PROTOCOL_ERROR, "UPE"),
];
