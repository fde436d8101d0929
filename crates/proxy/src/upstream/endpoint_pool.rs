//! One worker's connections to one endpoint, and the requests that wait for one.
//!
//! ```text
//! lease: an idle one ── there is none ──> pending ──> may connect? ── connect
//!            │                                             │
//!            │                                             └─ wait until one is free or has ended
//!            └──────────────> lease
//! ```

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use super::cluster::{Cluster, WorkerCounters, add, count, subtract};
use super::connect::{ConnectionPermit, Connections, Ends, UpstreamIo};
use super::endpoint::Endpoint;
use super::error::{ConnectError, UpstreamError};
use super::lease::{Connection, Http1, Http2, Http2Driver, Http2Stream, InFlight, Lease};
use crate::executor::LocalExecutor;

/// What pools are told of the proxy's limits.
#[derive(Clone, Copy)]
pub(super) struct PoolLimits {
    pub(super) connect_timeout: Duration,
    pub(super) max_idle: usize,
    pub(super) max_headers: usize,
}

/// Connections of one worker to one endpoint.
pub(crate) struct EndpointPool {
    endpoint: Arc<Endpoint>,
    cluster: Arc<Cluster>,
    counters: Arc<WorkerCounters>,
    limits: PoolLimits,
    /// Seconds, roughly, that the worker has been counting.
    clock: Rc<Cell<u32>>,
    is_http2: bool,
    connections: Arc<Connections>,
    /// The longest idle come first.
    idle: RefCell<Vec<Http1>>,
    http2: RefCell<Vec<Rc<Http2>>>,
    /// Requests that were given to this endpoint and are not over.
    pub(super) active: Cell<u32>,
    /// Requests that wait for [`Connections::changed`].
    waiting: Cell<u32>,
    connecting: RefCell<Connecting>,
    is_retired: Cell<bool>,
}

/// The connection of HTTP/2 that is being made, for which all requests wait.
#[derive(Default)]
struct Connecting {
    is_on: bool,
    /// Number of the attempt.
    attempt: u64,
    /// How that one ended, if it failed.
    failure: Option<ConnectError>,
}

/// Counts a request as waiting for a connection.
struct Pending<'a>(&'a Cluster);

/// Counts a request as waiting for others to end.
struct Waiting<'a>(&'a Cell<u32>);

// === impl EndpointPool ===

impl EndpointPool {
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        cluster: &Arc<Cluster>,
        counters: &Arc<WorkerCounters>,
        limits: PoolLimits,
        clock: &Rc<Cell<u32>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            endpoint,
            cluster: Arc::clone(cluster),
            counters: Arc::clone(counters),
            limits,
            clock: Rc::clone(clock),
            is_http2: cluster.is_http2(),
            connections: Arc::default(),
            idle: RefCell::default(),
            http2: RefCell::default(),
            active: Cell::new(0),
            waiting: Cell::new(0),
            connecting: RefCell::default(),
            is_retired: Cell::new(false),
        })
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(super) fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    pub(super) fn tick(&self) -> u32 {
        self.clock.get()
    }

    /// A connection for a request, and whether it was there before. With `is_fresh` it was not, if
    /// the cluster's limits allow it.
    pub(super) async fn lease(
        self: &Rc<Self>,
        is_fresh: bool,
    ) -> Result<(Lease, bool), UpstreamError> {
        let mut in_flight = InFlight::begin(self);
        let lease = |connection, in_flight| Lease { connection, in_flight, deadline: None };
        if self.is_http2 && !in_flight.take_permit() {
            count(&self.cluster.counters.overflow);
            return Err(self.overflow("requests"));
        }
        // Who has waited longer comes first.
        if !is_fresh
            && self.waiting.get() == 0
            && let Some(found) = self.take_ready().await
        {
            return Ok((lease(found, in_flight), true));
        }
        // Apart, so that the future of a request that finds a connection stays small.
        let (connection, is_reused) = Box::pin(self.wait_for_connection(is_fresh)).await?;
        Ok((lease(connection, in_flight), is_reused))
    }

    async fn wait_for_connection(
        self: &Rc<Self>,
        mut is_fresh: bool,
    ) -> Result<(Connection, bool), UpstreamError> {
        let _pending =
            Pending::begin(&self.cluster).ok_or_else(|| self.overflow("requests that wait"))?;
        let mut has_waited = self.waiting.get() == 0;
        loop {
            let mut changed = pin!(self.connections.changed.notified());
            // Registered before the look, so that no change is missed.
            changed.as_mut().enable();
            if !is_fresh
                && has_waited
                && let Some(found) = self.take_ready().await
            {
                return Ok((found, true));
            }
            has_waited = true;
            let attempt = self.connecting_attempt();
            if attempt.is_none() {
                if let Some(permit) = ConnectionPermit::take(&self.cluster, &self.connections) {
                    let connected = self.connect(permit).await;
                    return connected.map(|found| (found, false)).map_err(UpstreamError::Connect);
                }
                count(&self.cluster.counters.connection_overflow);
                if is_fresh {
                    // Its end makes room for the new one.
                    self.drop_idle();
                }
            }
            let waiting = Waiting::begin(&self.waiting);
            changed.await;
            drop(waiting);
            if let Some(failure) = attempt.and_then(|attempt| self.failure_of(attempt)) {
                return Err(UpstreamError::Connect(failure));
            }
            if self.is_http2 {
                is_fresh = false;
            }
        }
    }

    /// Connects without speaking HTTP.
    pub(super) async fn connect_raw(self: &Rc<Self>) -> Result<(UpstreamIo, Ends), UpstreamError> {
        let Some(permit) = ConnectionPermit::take(&self.cluster, &self.connections) else {
            count(&self.cluster.counters.connection_overflow);
            return Err(self.overflow("connections"));
        };
        let connected = UpstreamIo::connect(permit, &self.endpoint, self.limits.connect_timeout);
        connected.await.map_err(UpstreamError::Connect)
    }

    /// The number of the attempt that requests of HTTP/2 wait for, if one is on.
    fn connecting_attempt(&self) -> Option<u64> {
        let connecting = self.connecting.borrow();
        connecting.is_on.then_some(connecting.attempt)
    }

    fn failure_of(&self, attempt: u64) -> Option<ConnectError> {
        let connecting = self.connecting.borrow();
        let failure = connecting.failure.as_ref().filter(|_| connecting.attempt == attempt);
        failure.map(ConnectError::again)
    }

    /// A connection that can take a request now.
    async fn take_ready(self: &Rc<Self>) -> Option<Connection> {
        if self.is_http2 {
            return self.open_stream().map(Connection::Http2);
        }
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            subtract(&self.counters.idle);
            if connection.sender.is_ready() || connection.sender.ready().await.is_ok() {
                return Some(Connection::Http1(connection));
            }
        }
    }

    /// Takes a connection back whose response was read to the end.
    pub(super) fn take_back(&self, mut connection: Http1) {
        connection.served = connection.served.saturating_add(1);
        let may_serve = self.may_serve(connection.served) && !self.is_retired.get();
        let mut idle = self.idle.borrow_mut();
        if may_serve && !connection.sender.is_closed() && idle.len() < self.limits.max_idle {
            connection.idle_since = self.tick();
            idle.push(connection);
            add(&self.counters.idle);
            drop(idle);
            self.has_room();
        }
    }

    /// Wakes the request that has waited for longest.
    pub(super) fn has_room(&self) {
        if self.waiting.get() > 0 {
            self.connections.changed.notify_one();
        }
    }

    fn may_serve(&self, served: u32) -> bool {
        let most = self.cluster.options().requests_per_connection;
        most == 0 || served < most
    }

    /// A place on a connection of HTTP/2 that has one left.
    fn open_stream(self: &Rc<Self>) -> Option<Http2Stream> {
        let mut all = self.http2.borrow_mut();
        if all.iter().any(|connection| connection.sender.is_closed()) {
            all.retain(|connection| !connection.sender.is_closed());
        }
        let most = self.cluster.options().streams_per_connection;
        let has_place = |connection: &Rc<Http2>| {
            let streams = connection.streams.get();
            let allowed = connection.peer_streams.get();
            streams < most && usize::try_from(streams).is_ok_and(|streams| streams < allowed)
        };
        let at = all.iter().position(has_place)?;
        let connection = Rc::clone(all.get(at)?);
        let stream = Http2Stream::new(Rc::clone(&connection), self);
        if !self.may_serve(connection.served.get()) {
            all.remove(at);
        }
        Some(stream)
    }

    async fn connect(
        self: &Rc<Self>,
        permit: ConnectionPermit,
    ) -> Result<Connection, ConnectError> {
        if !self.is_http2 {
            return self.connect_http1(permit).await.map(Connection::Http1);
        }
        let _others_wait = ConnectingGuard::begin(self);
        match self.connect_http2(permit).await {
            Ok(connection) => {
                let stream = Http2Stream::new(Rc::clone(&connection), self);
                if self.may_serve(1) && !self.is_retired.get() {
                    self.http2.borrow_mut().push(connection);
                }
                Ok(Connection::Http2(stream))
            }
            Err(error) => {
                self.connecting.borrow_mut().failure = Some(error.again());
                Err(error)
            }
        }
    }

    async fn connect_http1(&self, permit: ConnectionPermit) -> Result<Http1, ConnectError> {
        let timeout = self.limits.connect_timeout;
        let (io, ends) = UpstreamIo::connect(permit, &self.endpoint, timeout).await?;
        let received = io.received();
        let mut builder = http1::Builder::new();
        builder.max_headers(self.limits.max_headers);
        let handshake = builder.handshake(TokioIo::new(io)).await;
        let (sender, connection) = handshake.map_err(|error| not_begun(ends, error))?;
        run(connection.with_upgrades());
        Ok(Http1 { sender, ends, received, served: 0, idle_since: 0 })
    }

    async fn connect_http2(&self, permit: ConnectionPermit) -> Result<Rc<Http2>, ConnectError> {
        let timeout = self.limits.connect_timeout;
        let (io, ends) = UpstreamIo::connect(permit, &self.endpoint, timeout).await?;
        let handshake = http2::Builder::new(LocalExecutor).handshake(TokioIo::new(io)).await;
        let (sender, connection) = handshake.map_err(|error| not_begun(ends, error))?;
        let peer_streams = Rc::new(Cell::new(connection.current_max_send_streams()));
        run(Http2Driver { connection, peer_streams: Rc::clone(&peer_streams) });
        Ok(Rc::new(Http2 {
            sender,
            ends,
            streams: Cell::new(0),
            peer_streams,
            served: Cell::new(0),
            idle_since: Cell::new(self.tick()),
        }))
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self) {
        let timeout = u32::try_from(self.cluster.options().idle_timeout.as_secs());
        let (now, timeout) = (self.tick(), timeout.unwrap_or(u32::MAX));
        let is_old = |since: u32| now.saturating_sub(since) > timeout;
        let mut idle = self.idle.borrow_mut();
        let old = idle.iter().take_while(|connection| is_old(connection.idle_since)).count();
        idle.drain(..old).for_each(|_| subtract(&self.counters.idle));
        let is_used = |connection: &Rc<Http2>| {
            connection.streams.get() > 0 || !is_old(connection.idle_since.get())
        };
        self.http2.borrow_mut().retain(is_used);
    }

    /// Lets requests that have begun end, and keeps no connection for others.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        while self.drop_idle() {}
        self.http2.borrow_mut().clear();
    }

    fn drop_idle(&self) -> bool {
        let dropped = self.idle.borrow_mut().pop();
        if dropped.is_some() {
            subtract(&self.counters.idle);
        }
        dropped.is_some()
    }

    fn overflow(&self, what: &'static str) -> UpstreamError {
        UpstreamError::Overflow { cluster: self.cluster.name().to_owned(), what }
    }
}

fn not_begun(ends: Ends, error: hyper::Error) -> ConnectError {
    ConnectError::Failed { address: ends.peer, source: io::Error::other(error) }
}

/// Reads and writes a connection until its sender is dropped or the upstream closes.
fn run(connection: impl Future<Output = hyper::Result<()>> + 'static) {
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "upstream connection ended");
        }
    });
}

// === impl Pending ===

impl<'a> Pending<'a> {
    fn begin(cluster: &'a Cluster) -> Option<Self> {
        if cluster.permits.take_pending(cluster.options().max_pending_requests) {
            return Some(Self(cluster));
        }
        count(&cluster.counters.overflow);
        None
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.permits.give_pending();
    }
}

// === impl Waiting ===

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a Cell<u32>) -> Self {
        waiting.set(waiting.get().saturating_add(1));
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Lets other requests wait for the connection that is being made, until it is dropped.
struct ConnectingGuard<'a>(&'a EndpointPool);

// === impl ConnectingGuard ===

impl<'a> ConnectingGuard<'a> {
    fn begin(pool: &'a EndpointPool) -> Self {
        let mut connecting = pool.connecting.borrow_mut();
        let attempt = connecting.attempt.saturating_add(1);
        *connecting = Connecting { is_on: true, attempt, failure: None };
        Self(pool)
    }
}

impl Drop for ConnectingGuard<'_> {
    fn drop(&mut self) {
        self.0.connecting.borrow_mut().is_on = false;
        self.0.connections.changed.notify_waiters();
    }
}
