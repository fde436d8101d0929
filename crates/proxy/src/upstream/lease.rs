//! A connection that serves a request.

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use http::header::HOST;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};

use super::cluster::{add, subtract};
use super::connect::Ends;
use super::endpoint_pool::EndpointPool;
use crate::body::UpstreamBody;

/// A connection that serves one request. Give it back with [`Lease::release`]; dropping it closes
/// the connection.
pub(crate) struct Lease {
    pub(super) connection: Connection,
    pub(super) in_flight: InFlight,
    pub(super) deadline: Option<Deadline>,
}

/// When the response must have ended.
pub(crate) type Deadline = Pin<Box<dyn Future<Output = ()>>>;

/// A connection on which a request may be sent.
pub(super) enum Connection {
    Http1(Http1),
    Http2(Http2Stream),
}

/// Serves one request at a time.
pub(super) struct Http1 {
    pub(super) sender: http1::SendRequest<UpstreamBody>,
    pub(super) ends: Ends,
    /// Whether bytes came since the request was sent.
    pub(super) received: Arc<AtomicBool>,
    /// Requests that it has served.
    pub(super) served: u32,
    /// Tick in which it became idle.
    pub(super) idle_since: u32,
}

/// Serves many requests at a time.
pub(super) struct Http2 {
    pub(super) sender: http2::SendRequest<UpstreamBody>,
    pub(super) ends: Ends,
    pub(super) streams: Cell<u32>,
    /// How many the upstream allows.
    pub(super) peer_streams: Rc<Cell<usize>>,
    pub(super) served: Cell<u32>,
    /// Tick in which its last stream ended.
    pub(super) idle_since: Cell<u32>,
}

/// One request's place on a connection of HTTP/2.
pub(super) struct Http2Stream {
    connection: Rc<Http2>,
    sender: http2::SendRequest<UpstreamBody>,
    endpoint: Rc<EndpointPool>,
}

/// Counts a request from when its endpoint is chosen until its response is gone.
pub(super) struct InFlight {
    endpoint: Rc<EndpointPool>,
    has_permit: bool,
}

// === impl Lease ===

impl Lease {
    /// Whether the connection speaks HTTP/1.
    pub(crate) fn is_http1(&self) -> bool {
        matches!(self.connection, Connection::Http1(_))
    }

    fn ends(&self) -> Ends {
        match &self.connection {
            Connection::Http1(connection) => connection.ends,
            Connection::Http2(stream) => stream.connection.ends,
        }
    }

    /// The upstream's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.ends().peer
    }

    /// The proxy's address on this connection, if the system tells it.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.ends().local
    }

    /// When the response must have ended, if it must.
    pub(crate) fn take_deadline(&mut self) -> Option<Deadline> {
        self.deadline.take()
    }

    /// Whether bytes came since the request was sent. Over HTTP/2 nobody knows for whom.
    pub(super) fn has_received(&self) -> bool {
        match &self.connection {
            Connection::Http1(connection) => connection.received.load(Ordering::Relaxed),
            Connection::Http2(_) => false,
        }
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        &mut self,
        mut request: Request<UpstreamBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<UpstreamBody>>> {
        match &mut self.connection {
            Connection::Http1(connection) => {
                connection.received.store(false, Ordering::Relaxed);
                connection.sender.try_send_request(request).await
            }
            Connection::Http2(stream) => {
                let is_tls = self.in_flight.endpoint.cluster().config().is_tls();
                address_for_http2(&mut request, is_tls);
                stream.sender.try_send_request(request).await
            }
        }
    }

    /// Gives the connection back: its response was read to the end.
    pub(crate) fn release(self) {
        let Self { connection, in_flight, .. } = self;
        if let Connection::Http1(connection) = connection {
            in_flight.endpoint.take_back(connection);
        }
    }
}

/// HTTP/2 says the authority in the request's target, not in a `host` header.
fn address_for_http2(request: &mut Request<UpstreamBody>, is_tls: bool) {
    *request.version_mut() = Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(HOST) else { return };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Authority::try_from(host.as_bytes()).ok();
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

// === impl Http2Stream ===

impl Http2Stream {
    pub(super) fn new(connection: Rc<Http2>, endpoint: &Rc<EndpointPool>) -> Self {
        connection.streams.set(connection.streams.get().saturating_add(1));
        connection.served.set(connection.served.get().saturating_add(1));
        let sender = connection.sender.clone();
        Self { connection, sender, endpoint: Rc::clone(endpoint) }
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        let streams = &self.connection.streams;
        streams.set(streams.get().saturating_sub(1));
        self.connection.idle_since.set(self.endpoint.tick());
        self.endpoint.has_room();
    }
}

// === impl InFlight ===

impl InFlight {
    pub(super) fn begin(endpoint: &Rc<EndpointPool>) -> Self {
        endpoint.active.set(endpoint.active.get().saturating_add(1));
        add(&endpoint.counters().active);
        Self { endpoint: Rc::clone(endpoint), has_permit: false }
    }

    /// Takes one of the requests that the cluster may have; returns whether there was one left.
    pub(super) fn take_permit(&mut self) -> bool {
        let cluster = self.endpoint.cluster();
        self.has_permit = cluster.permits.take_request(cluster.options().max_requests);
        self.has_permit
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let active = &self.endpoint.active;
        active.set(active.get().saturating_sub(1));
        subtract(&self.endpoint.counters().active);
        if self.has_permit {
            self.endpoint.cluster().permits.give_request();
        }
    }
}

// === impl Http2 ===

/// A connection of HTTP/2 that tells how many streams the upstream allows.
pub(super) struct Http2Driver<C> {
    pub(super) connection: C,
    pub(super) peer_streams: Rc<Cell<usize>>,
}

impl<T> Future for Http2Driver<http2::Connection<T, UpstreamBody, crate::executor::LocalExecutor>>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.connection).poll(cx);
        if result.is_pending() {
            this.peer_streams.set(this.connection.current_max_send_streams());
        }
        result
    }
}
