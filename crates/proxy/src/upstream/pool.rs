//! One worker's side of a cluster: which endpoint a request goes to, and that it is sent once more
//! where that is safe.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio::sync::Notify;

use super::LoadBalancing;
use super::cluster::{Cluster, WorkerCounters, add, count};
use super::connect::{Ends, UpstreamIo};
use super::endpoint::Endpoint;
use super::endpoint_pool::{EndpointPool, PoolLimits};
use super::error::UpstreamError;
use super::lease::{Deadline, Lease};
use super::retry::Kept;
use crate::body::UpstreamBody;
use crate::config::ProxyLimits;

/// Tells the upstream how long it has, in milliseconds. Source: Envoy.
const EXPECTED_TIME: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Connections of one worker to one cluster.
pub(crate) struct Pool {
    cluster: Arc<Cluster>,
    counters: Arc<WorkerCounters>,
    limits: PoolLimits,
    /// What `endpoints` was made of.
    seen: RefCell<Arc<[Arc<Endpoint>]>>,
    endpoints: RefCell<Vec<Rc<EndpointPool>>>,
    /// Told when the endpoints may have changed.
    changed: Notify,
    /// Whose turn it is.
    turn: Cell<usize>,
    clock: Rc<Cell<u32>>,
}

type Sent = Result<(Response<Incoming>, Lease), UpstreamError>;

// === impl Pool ===

impl Pool {
    /// For the worker of this number.
    pub(super) fn new(cluster: &Arc<Cluster>, worker: usize, limits: &ProxyLimits) -> Rc<Self> {
        let pool = Self {
            cluster: Arc::clone(cluster),
            counters: cluster.worker(worker),
            limits: PoolLimits {
                connect_timeout: limits.connect_timeout,
                max_idle: limits.idle_upstream_connections,
                max_headers: limits.headers,
            },
            seen: RefCell::new(Arc::new([])),
            endpoints: RefCell::default(),
            changed: Notify::new(),
            // Workers do not all begin with the same one.
            turn: Cell::new(fastrand::usize(..)),
            clock: Rc::default(),
        };
        pool.take_over();
        Rc::new(pool)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Takes over which endpoints the cluster has now, and tells who waits for one.
    pub(crate) fn refresh(&self) {
        self.take_over();
        self.changed.notify_waiters();
    }

    fn take_over(&self) {
        let now = self.cluster.endpoints();
        if !Arc::ptr_eq(&now, &self.seen.borrow()) {
            let mut old = self.endpoints.take();
            let pools = now.iter().map(|endpoint| {
                let same = old.iter().position(|pool| Arc::ptr_eq(pool.endpoint(), endpoint));
                let new = || {
                    let endpoint = Arc::clone(endpoint);
                    let (cluster, counters) = (&self.cluster, &self.counters);
                    EndpointPool::new(endpoint, cluster, counters, self.limits, &self.clock)
                };
                same.map_or_else(new, |at| old.swap_remove(at))
            });
            let pools = pools.collect();
            self.endpoints.replace(pools);
            for gone in old {
                gone.retire();
            }
            self.seen.replace(now);
        }
    }

    /// Closes what has been idle for too long. To be called once a second.
    pub(crate) fn sweep(&self) {
        self.clock.set(self.clock.get().saturating_add(1));
        self.endpoints.borrow().iter().for_each(|endpoint| endpoint.sweep());
    }

    /// Sends a request over an idle connection or a new one.
    pub(crate) async fn send(self: &Rc<Self>, request: Request<UpstreamBody>) -> Sent {
        self.send_noting(request, None).await
    }

    /// The same; from the end of the request to the end of the response no more than `timeout` may
    /// pass. Source: Envoy's route timeout.
    pub(crate) async fn send_within(
        self: &Rc<Self>,
        mut request: Request<UpstreamBody>,
        timeout: Option<Duration>,
    ) -> Sent {
        let Some(timeout) = timeout else { return self.send(request).await };
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        request.headers_mut().insert(EXPECTED_TIME, HeaderValue::from(milliseconds));
        let is_sent = request.body_mut().when_sent();
        let mut deadline: Deadline = Box::pin(async move {
            if let Some(is_sent) = is_sent {
                // An error says the same: the body is gone.
                let _ = is_sent.await;
            }
            tokio::time::sleep(timeout).await;
        });
        let tried = RefCell::new(None);
        let sent = tokio::select! {
            biased;
            // Not cancel-safe: a request that took too long is given up.
            sent = self.send_noting(request, Some(&tried)) => sent,
            // Cancel-safe: it goes on with the response.
            () = &mut deadline => Err(UpstreamError::RequestTimeout),
        };
        match sent {
            Ok((response, lease)) => Ok((response, Lease { deadline: Some(deadline), ..lease })),
            Err(UpstreamError::RequestTimeout) => {
                count(&self.cluster.counters.request_timeouts);
                if let Some(endpoint) = tried.take() {
                    self.note_failure(&endpoint);
                }
                Err(UpstreamError::RequestTimeout)
            }
            Err(error) => Err(error),
        }
    }

    /// Tells `tried` which endpoint has the request.
    async fn send_noting(
        self: &Rc<Self>,
        mut request: Request<UpstreamBody>,
        tried: Option<&RefCell<Option<Rc<EndpointPool>>>>,
    ) -> Sent {
        add(&self.counters.requests);
        let mut failed: Option<Rc<EndpointPool>> = None;
        loop {
            let endpoint = self.choose(failed.as_ref()).await?;
            if let Some(tried) = tried {
                tried.replace(Some(Rc::clone(&endpoint)));
            }
            let is_second = failed.is_some();
            let (mut lease, is_reused) = match endpoint.lease(is_second).await {
                Ok(leased) => leased,
                Err(error) => {
                    self.try_another(&endpoint, error, is_second)?;
                    failed = Some(endpoint);
                    continue;
                }
            };
            let kept = if is_second { None } else { Kept::of(&request, &lease, is_reused) };
            let mut error = match lease.send(request).await {
                Ok(response) => {
                    self.note_response(&endpoint, &response)?;
                    return Ok((response, lease));
                }
                Err(error) => error,
            };
            match (error.take_message(), kept) {
                // Closed by the upstream while it was idle, and not a byte was written.
                (Some(unsent), _) if is_reused => request = unsent,
                (None, Some(kept)) if kept.may_repeat(error.error(), &lease) => {
                    self.retry(&UpstreamError::Request(error.into_error()));
                    request = kept.into_request();
                    failed = Some(endpoint);
                }
                _ => {
                    self.note_failure(&endpoint);
                    count(&self.cluster.counters.resets);
                    return Err(UpstreamError::Request(error.into_error()));
                }
            }
        }
    }

    /// Whether a request for which there is no connection may go to another endpoint.
    ///
    /// # Errors
    /// Why there is none, if not.
    fn try_another(
        &self,
        endpoint: &EndpointPool,
        error: UpstreamError,
        is_second: bool,
    ) -> Result<(), UpstreamError> {
        if !matches!(error, UpstreamError::Connect(_)) {
            return Err(error);
        }
        self.note_failure(endpoint);
        if is_second || self.endpoints.borrow().len() < 2 {
            return Err(error);
        }
        self.retry(&error);
        Ok(())
    }

    /// Connects without speaking HTTP, and tries another endpoint if there is one.
    pub(crate) async fn connect_raw(&self) -> Result<(UpstreamIo, Ends), UpstreamError> {
        add(&self.counters.requests);
        let first = self.choose(None).await?;
        let (endpoint, connected) = match first.connect_raw().await {
            Ok(connected) => (first, Ok(connected)),
            Err(error) => {
                self.try_another(&first, error, false)?;
                let second = self.choose(Some(&first)).await?;
                let connected = second.connect_raw().await;
                (second, connected)
            }
        };
        match &connected {
            Ok(_) => endpoint.endpoint().succeeded(),
            Err(UpstreamError::Connect(_)) => self.note_failure(&endpoint),
            Err(_) => {}
        }
        connected
    }

    fn retry(&self, error: &UpstreamError) {
        count(&self.cluster.counters.retries);
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        tracing::debug!(cluster = self.cluster.name(), error = %error, cause, "sent once more");
    }

    /// Ejection is about endpoints among others, so nothing is noted of an only one.
    fn note_failure(&self, endpoint: &EndpointPool) {
        if self.endpoints.borrow().len() > 1 {
            self.cluster.note_failure(endpoint.endpoint());
        }
    }

    /// # Errors
    /// The response cannot be read in one way only.
    fn note_response(
        &self,
        endpoint: &EndpointPool,
        response: &Response<Incoming>,
    ) -> Result<(), UpstreamError> {
        let is_readable = is_framed_once(response.headers());
        if is_readable && !response.status().is_server_error() {
            endpoint.endpoint().succeeded();
        } else {
            self.note_failure(endpoint);
        }
        if is_readable { Ok(()) } else { Err(UpstreamError::Framing) }
    }

    /// The endpoint for a request; not the one that it failed at, if there is another one.
    async fn choose(
        &self,
        failed: Option<&Rc<EndpointPool>>,
    ) -> Result<Rc<EndpointPool>, UpstreamError> {
        match self.pick(failed) {
            Some(endpoint) => Ok(endpoint),
            None => Box::pin(self.first_endpoint()).await,
        }
    }

    /// Waits until the names of the cluster have been looked up for the first time.
    async fn first_endpoint(&self) -> Result<Rc<EndpointPool>, UpstreamError> {
        let resolved = async {
            loop {
                let mut changed = pin!(self.changed.notified());
                // Registered before the look, so that no change is missed.
                changed.as_mut().enable();
                let is_unresolved = self.cluster.is_unresolved();
                self.take_over();
                let found = self.pick(None);
                if found.is_some() || !is_unresolved {
                    return found;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(self.limits.connect_timeout, resolved).await;
        found.ok().flatten().ok_or_else(|| {
            count(&self.cluster.counters.no_endpoint);
            UpstreamError::NoEndpoint { cluster: self.cluster.name().to_owned() }
        })
    }

    fn pick(&self, failed: Option<&Rc<EndpointPool>>) -> Option<Rc<EndpointPool>> {
        let endpoints = self.endpoints.borrow();
        match endpoints.as_slice() {
            [] => return None,
            [only] => return Some(Rc::clone(only)),
            _ => {}
        }
        let is_failed = |of: &Rc<EndpointPool>| failed.is_some_and(|failed| Rc::ptr_eq(of, failed));
        let is_well = |of: &Rc<EndpointPool>| self.cluster.is_well(of.endpoint()) && !is_failed(of);
        let chosen = match self.cluster.load_balancing() {
            // Whose turn it is next does not depend on who failed.
            LoadBalancing::RoundRobin if failed.is_some() => {
                from(&endpoints, self.turn.get(), is_well)
            }
            LoadBalancing::RoundRobin => self.next(&endpoints, is_well),
            LoadBalancing::LeastRequest => less_busy(&endpoints, is_well),
        };
        // All are left alone, so none is: a failing endpoint is better than none.
        chosen.or_else(|| self.next(&endpoints, |of| !is_failed(of))).map(Rc::clone)
    }

    /// The one whose turn it is, of those that are fine.
    fn next<'a>(
        &self,
        endpoints: &'a [Rc<EndpointPool>],
        is_fine: impl Fn(&Rc<EndpointPool>) -> bool,
    ) -> Option<&'a Rc<EndpointPool>> {
        let turn = self.turn.get().checked_rem(endpoints.len())?;
        let passed = endpoints.iter().cycle().skip(turn).take(endpoints.len());
        let (passed, found) = passed.enumerate().find(|(_, endpoint)| is_fine(endpoint))?;
        self.turn.set(turn.wrapping_add(passed).wrapping_add(1));
        Some(found)
    }
}

/// Of two different ones, unless others are left alone, the one with fewer requests.
///
/// Source: Envoy's weighted least request, with which two are enough.
fn less_busy(
    endpoints: &[Rc<EndpointPool>],
    is_fine: impl Fn(&Rc<EndpointPool>) -> bool,
) -> Option<&Rc<EndpointPool>> {
    let begin = fastrand::usize(..endpoints.len().max(1));
    let step = fastrand::usize(1..endpoints.len().max(2));
    let first = from(endpoints, begin, &is_fine)?;
    let second = from(endpoints, begin.saturating_add(step), &is_fine)?;
    Some(if second.active.get() < first.active.get() { second } else { first })
}

/// The first from there on that is fine.
fn from(
    endpoints: &[Rc<EndpointPool>],
    begin: usize,
    is_fine: impl Fn(&Rc<EndpointPool>) -> bool,
) -> Option<&Rc<EndpointPool>> {
    let begin = begin.checked_rem(endpoints.len())?;
    let mut all = endpoints.iter().cycle().skip(begin).take(endpoints.len());
    all.find(|endpoint| is_fine(endpoint))
}

/// Whether a response says once how long it is, in a way that is known.
///
/// Who reads it otherwise would take a part of it for the next one. Source: RFC 9112, 6.1 and 6.3;
/// Envoy.
fn is_framed_once(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.next().is_none_or(|coding| {
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        is_chunked && codings.next().is_none() && !headers.contains_key(CONTENT_LENGTH)
    })
}
