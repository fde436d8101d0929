//! What stands in front of HTTP, or of plain bytes, on a connection: the PROXY protocol, and TLS.
//!
//! ```text
//! accept ─> PROXY header ─> first byte: TLS or plain text? ─> handshake ─> connection.rs
//! ```
//!
//! A listener without either has no [`Front`], and its connections pass nothing of this.

mod certificate;
mod credentials;
mod proxy_protocol;
mod session;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use self::credentials::{ClientAuth, TlsCredentials, TlsCredentialsError, TlsOptions};
use self::proxy_protocol::ProxyHeaderError;
pub(crate) use self::session::{Identities, TlsSession};
pub use self::tls::{TlsListener, TlsMode, TlsSettings};

/// First byte of a TLS record that begins a handshake. Source: RFC 8446, section 5.1.
const HANDSHAKE_RECORD: u8 = 0x16;

/// What a listener asks for before anything is served.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) tls: Option<Arc<TlsListener>>,
    pub(crate) has_proxy_protocol: bool,
    /// Longest time until everything in front is done.
    pub(crate) timeout: Duration,
}

/// A connection that has passed the front.
pub(crate) struct Opened {
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) transport: Transport,
}

/// What carries the bytes of a connection; chosen once.
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Arc<TlsSession>),
}

/// Why a connection was closed before anything was served on it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrontError {
    #[error("no PROXY header that can be used")]
    ProxyHeader(#[from] ProxyHeaderError),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the client's certificate was verified and cannot be read")]
    Certificate,
    #[error("the client was not ready in time")]
    Timeout,
    #[error("the connection broke")]
    Broken(#[from] io::Error),
}

// === impl Front ===

impl Front {
    /// Leads a new connection through everything in front. With `is_mutual`, only a client with a
    /// certificate passes.
    ///
    /// # Errors
    /// [`FrontError`]; the connection is to be closed.
    pub(crate) async fn open(
        &self,
        mut stream: TcpStream,
        is_mutual: bool,
    ) -> Result<Opened, FrontError> {
        let begin = Instant::now();
        let deadline = begin.checked_add(self.timeout).unwrap_or(begin);
        let (mut remote, mut local) = (stream.peer_addr()?, stream.local_addr()?);
        if self.has_proxy_protocol {
            let read = timeout_at(deadline, proxy_protocol::read(&mut stream));
            if let Some(told) = read.await.map_err(|_| FrontError::Timeout)?? {
                (remote, local) = (told.source, told.destination);
            }
        }
        let Some(tls) = &self.tls else {
            return Ok(Opened { remote, local, transport: Transport::Plain(stream) });
        };
        let may_be_plain = tls.mode() == TlsMode::Permissive && !is_mutual;
        if may_be_plain && !begins_handshake(&stream, deadline).await {
            return Ok(Opened { remote, local, transport: Transport::Plain(stream) });
        }
        let credentials = tls.current();
        let acceptor = TlsAcceptor::from(credentials.server_config(is_mutual));
        let accepted = timeout_at(deadline, acceptor.accept(stream));
        let accepted = accepted.await.map_err(|_| FrontError::Timeout)?;
        let stream = accepted.map_err(FrontError::Handshake)?;
        let session = TlsSession::new(stream.get_ref().1, credentials.certificate());
        let session = session.map_err(|_| FrontError::Certificate)?;
        let transport = Transport::Tls(Box::new(stream), Arc::new(session));
        Ok(Opened { remote, local, transport })
    }
}

/// Whether the client begins a TLS handshake. One that says nothing in time speaks plain text: it
/// waits for the server's first word. Source: Istio, which goes on after that time as well.
async fn begins_handshake(stream: &TcpStream, deadline: Instant) -> bool {
    let mut first = [0];
    let peeked = timeout_at(deadline, stream.peek(&mut first)).await;
    matches!(peeked, Ok(Ok(1))) && first == [HANDSHAKE_RECORD]
}

// === impl Opened ===

impl Opened {
    /// What is known of a connection that passes no front.
    pub(crate) fn plain(stream: TcpStream) -> io::Result<Self> {
        let (remote, local) = (stream.peer_addr()?, stream.local_addr()?);
        Ok(Self { remote, local, transport: Transport::Plain(stream) })
    }

    /// Whether the client has shown a certificate, which was verified.
    pub(crate) fn is_mutual(&self) -> bool {
        matches!(&self.transport, Transport::Tls(_, session) if session.is_mutual())
    }
}
