//! Delays and aborts some requests of routes that ask for it.
//!
//! Source: Envoy, `envoy.filters.http.fault`, with the configuration that Istio makes of a
//! `VirtualService`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::AbortHandle;
use wasmplug_api::PlannedRoutes;
use wasmplug_api::virtual_service::{FaultAbort, HttpFault};
use wasmplug_host::{Fields, FieldsKind, LocalReply, StreamHost};

use super::built_in::BuiltInFilter;
use super::routed::Routed;
use crate::attributes::{StreamShared, flags};
use crate::filter::{HeadersOutcome, Hold, Interrupt, Resume, Side};

const MILLION: u32 = 1_000_000;

/// The routes that ask for it.
#[derive(Debug)]
pub(crate) struct Fault {
    routed: Routed<Policy>,
    port: Option<u16>,
    dump: Value,
}

/// What one route asks for.
#[derive(Debug)]
struct Policy {
    /// How long, and for how many of a million.
    delay: Option<(Duration, u32)>,
    /// With what, and for how many of a million.
    abort: Option<(Abort, u32)>,
}

/// How a request is answered instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Abort {
    status: u16,
    grpc_status: Option<u32>,
}

/// The filter of one stream.
#[derive(Debug)]
pub(crate) struct FaultFilter {
    fault: Arc<Fault>,
    stream: Rc<StreamShared>,
    delayed: Option<Box<Delayed>>,
}

/// A request that waits.
#[derive(Debug)]
struct Delayed {
    headers: Fields,
    policy: Arc<Policy>,
    until: tokio::time::Instant,
    timer: AbortHandle,
}

// === impl Fault ===

impl Fault {
    /// `port` is the one that requests come to, if it is known.
    pub(crate) fn new(planned: &PlannedRoutes<HttpFault>, port: Option<u16>) -> Self {
        let routed = Routed::new(&planned.routes, Policy::new);
        let dump = json!({ "filter": "envoy.filters.http.fault", "routes": planned });
        Self { routed, port, dump }
    }

    pub(crate) fn dump(&self) -> Value {
        self.dump.clone()
    }

    pub(crate) fn new_filter(self: &Arc<Self>, stream: &Rc<StreamShared>) -> FaultFilter {
        FaultFilter { fault: Arc::clone(self), stream: Rc::clone(stream), delayed: None }
    }
}

// === impl Policy ===

impl Policy {
    fn new(fault: &HttpFault) -> Self {
        let delay = fault
            .delay
            .as_ref()
            .and_then(|delay| Some((delay.fixed?, delay.per_million.unwrap_or(MILLION))));
        let abort = fault
            .abort
            .as_ref()
            .and_then(|abort| Some((Abort::new(abort)?, abort.per_million.unwrap_or(MILLION))));
        Self { delay, abort }
    }

    fn delay(&self) -> Option<Duration> {
        self.delay.filter(|(_, per_million)| is_hit(*per_million)).map(|(delay, _)| delay)
    }

    fn abort(&self) -> Option<Abort> {
        self.abort.filter(|(_, per_million)| is_hit(*per_million)).map(|(abort, _)| abort)
    }
}

/// Whether this is one of so many of a million.
fn is_hit(per_million: u32) -> bool {
    per_million >= MILLION || fastrand::u32(0..MILLION) < per_million
}

// === impl Abort ===

impl Abort {
    /// `None` for a status of gRPC that does not exist.
    fn new(abort: &FaultAbort) -> Option<Self> {
        if let Some(status) = abort.http_status {
            return Some(Self { status, grpc_status: None });
        }
        let grpc_status = grpc_status(abort.grpc_status.as_deref()?)?;
        // Source: Envoy says so to whoever does not speak gRPC.
        Some(Self { status: 200, grpc_status: Some(grpc_status) })
    }

    fn reply(self) -> Interrupt {
        Interrupt::LocalReply(LocalReply {
            status: self.status,
            details: "fault_filter_abort".to_owned(),
            body: Bytes::from_static(b"fault filter abort"),
            headers: Vec::new(),
            grpc_status: self.grpc_status.unwrap_or(u32::MAX),
        })
    }
}

/// The number of a status of gRPC, by its name or its number. Source: gRPC.
fn grpc_status(name: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let by_name = NAMES.iter().position(|known| *known == name);
    let number = by_name.or_else(|| name.parse().ok().filter(|number| *number < NAMES.len()));
    number.and_then(|number| u32::try_from(number).ok())
}

// === impl FaultFilter ===

impl FaultFilter {
    fn delay(&mut self, headers: Fields, policy: Arc<Policy>, delay: Duration) -> Hold {
        self.stream.add_flags(flags::DELAY_INJECTED);
        let until = tokio::time::Instant::now().checked_add(delay);
        let until = until.unwrap_or_else(tokio::time::Instant::now);
        let stream = Rc::clone(&self.stream);
        let timer = tokio::task::spawn_local(async move {
            tokio::time::sleep_until(until).await;
            stream.wake();
        });
        let timer = timer.abort_handle();
        self.delayed = Some(Box::new(Delayed { headers, policy, until, timer }));
        Hold::AllAndWatermark
    }

    /// Whether the request goes on.
    fn decide(&self, policy: &Policy) -> Result<(), Interrupt> {
        match policy.abort() {
            Some(abort) => {
                self.stream.add_flags(flags::FAULT_INJECTED);
                Err(abort.reply())
            }
            None => Ok(()),
        }
    }
}

impl BuiltInFilter for FaultFilter {
    fn on_headers(
        &mut self,
        _side: Side,
        headers: Fields,
        _end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        let local = || self.stream.connection_info().local.port();
        let port = self.fault.port.unwrap_or_else(local);
        let Some(policy) = self.fault.routed.find(&headers, port).map(Arc::clone) else {
            return Ok(HeadersOutcome::Continue(headers));
        };
        if let Some(delay) = policy.delay() {
            return Ok(HeadersOutcome::Hold(self.delay(headers, policy, delay)));
        }
        self.decide(&policy)?;
        Ok(HeadersOutcome::Continue(headers))
    }

    fn poll_actions(&mut self, _is_held: bool) -> Result<Resume, Interrupt> {
        let is_over = |delayed: &&Delayed| delayed.until <= tokio::time::Instant::now();
        let Some(delayed) = self.delayed.as_deref().filter(is_over) else {
            return Ok(Resume::default());
        };
        self.decide(&delayed.policy)?;
        Ok(Resume { request: true, response: false })
    }

    fn release_headers(&mut self, _side: Side) -> Option<Fields> {
        let mut delayed = self.delayed.take()?;
        let nothing = Fields::new(FieldsKind::Request);
        Some(std::mem::replace(&mut delayed.headers, nothing))
    }
}

// === impl Delayed ===

impl Drop for Delayed {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_grpc_have_names_and_numbers() {
        assert_eq!(grpc_status("UNAVAILABLE"), Some(14));
        assert_eq!(grpc_status("7"), Some(7));
        assert_eq!(grpc_status("unavailable"), None);
        assert_eq!(grpc_status("17"), None);
    }

    #[test]
    fn all_none_and_about_half_are_hit() {
        assert!((0..1000).all(|_| is_hit(MILLION)));
        assert!(!(0..1000).any(|_| is_hit(0)));
        let hits = (0..10_000).filter(|_| is_hit(MILLION / 2)).count();
        assert!((4000..6000).contains(&hits), "{hits}");
    }
}
