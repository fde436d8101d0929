//! From an address to a connection: TCP, TLS, and the bytes on them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::UpstreamProtocol;
use super::cluster::{Cluster, count};
use super::endpoint::Endpoint;
use super::error::ConnectError;

/// Addresses of both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
}

/// The bytes of a connection to an upstream.
pub(crate) struct UpstreamIo {
    bytes: Bytes,
    received: Arc<AtomicBool>,
    _permit: ConnectionPermit,
}

enum Bytes {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Connections of one worker to one endpoint.
///
/// Only that worker looks at it; the HTTP library wants its parts to be [`Send`] all the same.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: AtomicU32,
    /// Told when one ended, or can serve another request.
    pub(super) changed: Notify,
}

/// One connection of those that a cluster may have, given back when it is dropped.
pub(super) struct ConnectionPermit {
    cluster: Arc<Cluster>,
    connections: Arc<Connections>,
}

// === impl ConnectionPermit ===

impl ConnectionPermit {
    /// `None` if the cluster has as many as it may have. A worker's first one to an endpoint is
    /// always possible: who waits is woken by its own worker only.
    pub(super) fn take(cluster: &Arc<Cluster>, connections: &Arc<Connections>) -> Option<Self> {
        let is_first = connections.open.load(Ordering::Relaxed) == 0;
        if !cluster.permits.take_connection(cluster.options().max_connections, is_first) {
            return None;
        }
        connections.open.fetch_add(1, Ordering::Relaxed);
        Some(Self { cluster: Arc::clone(cluster), connections: Arc::clone(connections) })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.cluster.permits.give_connection();
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        self.connections.changed.notify_one();
    }
}

// === impl UpstreamIo ===

impl UpstreamIo {
    /// Connects, and encrypts the connection if the cluster wants it.
    pub(super) async fn connect(
        permit: ConnectionPermit,
        endpoint: &Endpoint,
        timeout: Duration,
    ) -> Result<(Self, Ends), ConnectError> {
        let cluster = Arc::clone(&permit.cluster);
        let unspecified = || SocketAddr::from(([0, 0, 0, 0], 0));
        let address = endpoint.address().unwrap_or_else(unspecified);
        let connected = tokio::time::timeout(timeout, connect(&cluster, endpoint, address)).await;
        let result = connected.unwrap_or(Err(ConnectError::Timeout { address }));
        let counters = &cluster.counters;
        match result {
            Ok((bytes, ends)) => {
                count(&counters.connections);
                Ok((Self { bytes, received: Arc::default(), _permit: permit }, ends))
            }
            Err(error) => {
                count(&counters.connect_failures);
                if matches!(error, ConnectError::Timeout { .. }) {
                    count(&counters.connect_timeouts);
                }
                Err(error)
            }
        }
    }

    /// Says whether anything came since it was last set to false.
    pub(super) fn received(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.received)
    }
}

async fn connect(
    cluster: &Cluster,
    endpoint: &Endpoint,
    address: SocketAddr,
) -> Result<(Bytes, Ends), ConnectError> {
    let failed = |source| ConnectError::Failed { address, source };
    let stream = TcpStream::connect(endpoint.addresses()).await.map_err(failed)?;
    let peer = stream.peer_addr().map_err(failed)?;
    let ends = Ends { peer, local: stream.local_addr().ok() };
    // Without it small requests wait for an acknowledgement; if it fails, they do.
    let _ = stream.set_nodelay(true);
    let Some(tls) = cluster.tls() else { return Ok((Bytes::Plain(stream), ends)) };
    let failed = |source| ConnectError::Tls { address: peer, source };
    let name = tls.server_name(endpoint.host());
    let name = name.ok_or_else(|| failed(io::Error::other("the host has no name")))?;
    let connector = TlsConnector::from(tls.config());
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    // Source: RFC 9113, 3.2.
    if cluster.config().protocol() == UpstreamProtocol::Http2 && !is_h2 && tls.offers_protocol() {
        return Err(failed(io::Error::other("the upstream does not agree to speak HTTP/2")));
    }
    Ok((Bytes::Tls(Box::new(stream)), ends))
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Bytes::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if buffer.filled().len() > before {
            this.received.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Bytes::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Bytes::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.bytes {
            Bytes::Plain(stream) => stream.is_write_vectored(),
            Bytes::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Bytes::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().bytes {
            Bytes::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Bytes::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
