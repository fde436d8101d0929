//! A worker's connections to the upstream.
//!
//! Each connection has one task on the worker that reads and writes it. A connection is leased for
//! one request and comes back when the response has been read to its end.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::UpstreamAddress;
use crate::body::UpstreamBody;
use crate::config::ProxyLimits;

/// Connections of one worker to one upstream.
pub(crate) struct Pool {
    address: UpstreamAddress,
    connect_timeout: Duration,
    max_idle: usize,
    max_headers: usize,
    idle: RefCell<Vec<Connection>>,
}

struct Connection {
    sender: SendRequest<UpstreamBody>,
    peer: SocketAddr,
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
            match connection.sender.try_send_request(request).await {
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

    /// An idle connection that is ready for a request.
    async fn take_idle(&self) -> Option<Connection> {
        loop {
            let mut connection = self.idle.borrow_mut().pop()?;
            if connection.sender.is_ready() || connection.sender.ready().await.is_ok() {
                return Some(connection);
            }
        }
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
        // Without it small requests wait for an acknowledgement; if it fails, they do.
        let _ = stream.set_nodelay(true);
        let mut builder = Builder::new();
        builder.max_headers(self.max_headers);
        let handshake = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(UpstreamError::Request)?;
        // Ends when the sender is dropped or the upstream closes.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = %error, "upstream connection ended");
            }
        });
        Ok(Connection { sender, peer })
    }
}

// === impl Lease ===

impl Lease {
    /// The upstream's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.connection.peer
    }

    /// Gives the connection back: its response was read to the end.
    pub(crate) fn release(self) {
        let mut idle = self.pool.idle.borrow_mut();
        if !self.connection.sender.is_closed() && idle.len() < self.pool.max_idle {
            idle.push(self.connection);
        }
    }
}
