//! What is known about a TLS connection after its handshake.

use std::sync::Arc;

use rustls::{ProtocolVersion, ServerConnection};
use wasmplug_host::PropertyValue;

use super::certificate::{Certificate, UnreadableCertificate};

/// A TLS connection, as plugins, policies and metrics see it.
#[derive(Debug)]
pub(crate) struct TlsSession {
    version: &'static str,
    server_name: String,
    /// Whether HTTP/2 was agreed upon; `None` if nothing was.
    is_http2: Option<bool>,
    local: Arc<Certificate>,
    peer: Option<Certificate>,
    identities: Arc<Identities>,
}

/// Who speaks on a connection, by certificates; what metrics tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identities {
    /// The client has shown a certificate.
    pub(crate) is_mutual: bool,
    /// First URI of the client's certificate.
    pub(crate) source: Option<Arc<str>>,
    /// First URI of the certificate that was shown to it.
    pub(crate) destination: Option<Arc<str>>,
}

// === impl Identities ===

impl Identities {
    /// The same without what could be different in every connection.
    pub(crate) fn without_names(&self) -> Self {
        Self { is_mutual: self.is_mutual, source: None, destination: None }
    }
}

// === impl TlsSession ===

impl TlsSession {
    /// # Errors
    /// [`UnreadableCertificate`] of the client.
    pub(super) fn new(
        connection: &ServerConnection,
        local: &Arc<Certificate>,
    ) -> Result<Self, UnreadableCertificate> {
        let peer = connection.peer_certificates().and_then(<[_]>::first);
        let peer = peer.map(|peer| Certificate::parse(peer.clone())).transpose()?;
        let identities = Identities {
            is_mutual: peer.is_some(),
            source: peer.as_ref().and_then(Certificate::uri_san).cloned(),
            destination: local.uri_san().cloned(),
        };
        Ok(Self {
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                // No other one is spoken.
                _ => "TLSv1.3",
            },
            server_name: connection.server_name().unwrap_or_default().to_owned(),
            is_http2: connection.alpn_protocol().map(|protocol| protocol == b"h2"),
            local: Arc::clone(local),
            peer,
            identities: Arc::new(identities),
        })
    }

    /// Whether the client has shown a certificate, which was verified.
    pub(crate) fn is_mutual(&self) -> bool {
        self.peer.is_some()
    }

    /// Name that the client asked for; empty if it asked for none.
    pub(crate) fn server_name(&self) -> &str {
        &self.server_name
    }

    /// Whether HTTP/2 was agreed upon; `None` if nothing was.
    pub(crate) fn is_http2(&self) -> Option<bool> {
        self.is_http2
    }

    /// The client's identity, a SPIFFE URI.
    pub(crate) fn peer_identity(&self) -> Option<&str> {
        self.peer.as_ref()?.identity().map(|identity| &**identity)
    }

    pub(crate) fn identities(&self) -> &Arc<Identities> {
        &self.identities
    }

    /// An attribute of the connection that only TLS has. Source: Envoy; what a peer without a
    /// certificate has no value for is absent, but its subject is empty.
    pub(crate) fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let peer = self.peer.as_ref();
        let text = |text: &str| Some(PropertyValue::text(text));
        match path {
            [b"tls_version"] => text(self.version),
            [b"subject_local_certificate"] => text(self.local.subject()),
            [b"subject_peer_certificate"] => text(peer.map_or("", Certificate::subject)),
            [b"dns_san_local_certificate"] => text(self.local.dns_san()?),
            [b"dns_san_peer_certificate"] => text(peer?.dns_san()?),
            [b"uri_san_local_certificate"] => text(self.local.uri_san()?),
            [b"uri_san_peer_certificate"] => text(peer?.uri_san()?),
            [b"sha256_peer_certificate_digest"] => text(&peer?.sha256()),
            [b"peer_certificate"] => text(&peer?.pem()),
            _ => None,
        }
    }
}
