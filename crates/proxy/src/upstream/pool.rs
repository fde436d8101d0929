//! A worker's connections to the upstream.
//!
//! Each connection has one task on the worker that reads and writes it. A connection is leased for
//! one request and comes back when the response has been read to its end.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{UpstreamAddress, UpstreamProtocol};
use crate::body::UpstreamBody;
use crate::config::ProxyLimits;
use crate::executor::LocalExecutor;

/// Connections of one worker to one upstream.
pub(crate) struct Pool {
    address: UpstreamAddress,
    connect_timeout: Duration,
    max_idle: usize,
    max_headers: usize,
    idle: RefCell<Vec<Connection>>,
}

struct Connection {
    sender: Sender,
    ends: Ends,
}

/// Addresses of both ends of a connection.
#[derive(Clone, Copy)]
struct Ends {
    peer: SocketAddr,
    local: Option<SocketAddr>,
}

enum Sender {
    /// Serves one request at a time.
    Http1(http1::SendRequest<UpstreamBody>),
    /// Serves many; clones share the connection.
    Http2(http2::SendRequest<UpstreamBody>),
}

/// A connection that serves one request. Give it back with [`Lease::release`]; dropping it closes
/// the connection.
pub(crate) struct Lease {
    connection: Connection,
    pool: Rc<Pool>,
}

/// Why the upstream did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("cannot connect to the upstream `{address}`")]
    Connect {
        address: UpstreamAddress,
        #[source]
        source: io::Error,
    },
    #[error("no connection to the upstream `{address}` in time")]
    ConnectTimeout { address: UpstreamAddress },
    #[error("the upstream did not answer")]
    Request(#[source] hyper::Error),
    #[error("the upstream's answer says in two ways how long it is, or in one that is not known")]
    Framing,
    #[error("the upstream switched protocols, for which nobody had asked")]
    UnaskedSwitch,
}

// === impl UpstreamError ===

impl UpstreamError {
    /// The upstream did answer, but not in HTTP.
    pub(crate) fn is_protocol_error(&self) -> bool {
        match self {
            Self::Request(error) => error.is_parse(),
            Self::Framing | Self::UnaskedSwitch => true,
            Self::Connect { .. } | Self::ConnectTimeout { .. } => false,
        }
    }
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(address: UpstreamAddress, limits: &ProxyLimits) -> Rc<Self> {
        Rc::new(Self {
            address,
            connect_timeout: limits.connect_timeout,
            max_idle: limits.idle_upstream_connections,
            max_headers: limits.headers,
            idle: RefCell::default(),
        })
    }

    pub(crate) fn address(&self) -> &UpstreamAddress {
        &self.address
    }

    /// Sends a request over an idle connection or a new one.
    ///
    /// A request that an idle connection gave back unsent goes out over another one.
    pub(crate) async fn send(
        self: &Rc<Self>,
        mut request: Request<UpstreamBody>,
    ) -> Result<(Response<Incoming>, Lease), UpstreamError> {
        loop {
            let (mut connection, is_new) = match self.take_idle().await {
                Some(connection) => (connection, false),
                None => (self.connect().await?, true),
            };
            let sent = match &mut connection.sender {
                Sender::Http1(sender) => sender.try_send_request(request).await,
                Sender::Http2(sender) => {
                    address_for_http2(&mut request);
                    sender.try_send_request(request).await
                }
            };
            match sent {
                Ok(response) if !is_framed_once(response.headers()) => {
                    return Err(UpstreamError::Framing);
                }
                Ok(response) => {
                    return Ok((response, Lease { connection, pool: Rc::clone(self) }));
                }
                Err(mut error) => match error.take_message() {
                    // Closed by the upstream while it was idle: not the request's fault.
                    Some(unsent) if !is_new => request = unsent,
                    _ => return Err(UpstreamError::Request(error.into_error())),
                },
            }
        }
    }

    /// An idle connection that is ready for a request. One of HTTP/2 stays for others.
    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            match &mut connection.sender {
                Sender::Http1(sender) => {
                    if sender.is_ready() || sender.ready().await.is_ok() {
                        return Some(connection);
                    }
                }
                Sender::Http2(sender) if sender.is_closed() => {}
                Sender::Http2(sender) => {
                    let shared = Sender::Http2(sender.clone());
                    let ends = connection.ends;
                    self.idle.borrow_mut().push(Connection { sender: shared, ends });
                    return Some(connection);
                }
            }
        }
    }

    /// Connects without speaking HTTP.
    pub(crate) async fn connect_raw(&self) -> io::Result<TcpStream> {
        let target = (self.address.host(), self.address.port());
        let connecting = tokio::time::timeout(self.connect_timeout, TcpStream::connect(target));
        let stream = connecting.await.map_err(|_| io::ErrorKind::TimedOut)??;
        let _ = stream.set_nodelay(true);
        Ok(stream)
    }

    async fn connect(&self) -> Result<Connection, UpstreamError> {
        let address = || self.address.clone();
        let target = (self.address.host(), self.address.port());
        let connected =
            tokio::time::timeout(self.connect_timeout, TcpStream::connect(target)).await;
        let stream = connected
            .map_err(|_| UpstreamError::ConnectTimeout { address: address() })?
            .map_err(|source| UpstreamError::Connect { address: address(), source })?;
        let peer = stream.peer_addr();
        let peer = peer.map_err(|source| UpstreamError::Connect { address: address(), source })?;
        let ends = Ends { peer, local: stream.local_addr().ok() };
        // Without it small requests wait for an acknowledgement; if it fails, they do.
        let _ = stream.set_nodelay(true);
        let stream = TokioIo::new(stream);
        let sender = match self.address.protocol() {
            UpstreamProtocol::Http1 => {
                let mut builder = http1::Builder::new();
                builder.max_headers(self.max_headers);
                let handshake = builder.handshake(stream).await;
                let (sender, connection) = handshake.map_err(UpstreamError::Request)?;
                run(connection.with_upgrades());
                Sender::Http1(sender)
            }
            UpstreamProtocol::Http2 => {
                let handshake = http2::Builder::new(LocalExecutor).handshake(stream).await;
                let (sender, connection) = handshake.map_err(UpstreamError::Request)?;
                run(connection);
                let shared = Sender::Http2(sender.clone());
                self.idle.borrow_mut().push(Connection { sender: shared, ends });
                Sender::Http2(sender)
            }
        };
        Ok(Connection { sender, ends })
    }
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

/// HTTP/2 says the authority in the request's target, not in a `host` header.
fn address_for_http2(request: &mut Request<UpstreamBody>) {
    *request.version_mut() = Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(HOST) else { return };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Authority::try_from(host.as_bytes()).ok();
    if parts.path_and_query.is_none() {
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
}

/// Reads and writes a connection until its sender is dropped or the upstream closes.
fn run(connection: impl Future<Output = hyper::Result<()>> + 'static) {
    tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = %error, "upstream connection ended");
        }
    });
}

// === impl Lease ===

impl Lease {
    /// Whether the connection speaks HTTP/1.
    pub(crate) fn is_http1(&self) -> bool {
        matches!(self.connection.sender, Sender::Http1(_))
    }

    /// The upstream's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.connection.ends.peer
    }

    /// The proxy's address on this connection, if the system tells it.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.connection.ends.local
    }

    /// Gives the connection back: its response was read to the end.
    pub(crate) fn release(self) {
        let Sender::Http1(sender) = &self.connection.sender else { return };
        let mut idle = self.pool.idle.borrow_mut();
        if !sender.is_closed() && idle.len() < self.pool.max_idle {
            idle.push(self.connection);
        }
    }
}
