//! Why an upstream did not answer.

use std::io;
use std::net::SocketAddr;

/// Why the upstream did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error(transparent)]
    Connect(ConnectError),
    #[error("the cluster `{cluster}` has no endpoint: no name of it has an address")]
    NoEndpoint { cluster: String },
    #[error("the cluster `{cluster}` has as many {what} as it may have")]
    Overflow { cluster: String, what: &'static str },
    #[error("the upstream did not answer in time")]
    RequestTimeout,
    #[error("the upstream did not answer")]
    Request(#[source] hyper::Error),
    #[error("the upstream's answer says in two ways how long it is, or in one that is not known")]
    Framing,
    #[error("the upstream switched protocols, for which nobody had asked")]
    UnaskedSwitch,
}

/// Why there is no connection to an endpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect to the upstream `{address}`")]
    Failed {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no connection to the upstream `{address}` in time")]
    Timeout { address: SocketAddr },
    #[error("the TLS handshake with the upstream `{address}` failed")]
    Tls {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
}

// === impl UpstreamError ===

impl UpstreamError {
    /// The upstream did answer, but not in HTTP.
    pub(crate) fn is_protocol_error(&self) -> bool {
        match self {
            Self::Request(error) => error.is_parse(),
            Self::Framing | Self::UnaskedSwitch => true,
            _ => false,
        }
    }

    /// What the operator could do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Connect(error) => error.hint(),
            Self::NoEndpoint { .. } => {
                Some("look at the names of the cluster, and at the name server")
            }
            Self::Overflow { .. } => Some(
                "raise `--upstream-max-connections`, `--upstream-max-pending` or \
                 `--upstream-max-requests`, or add endpoints",
            ),
            Self::Request(error) if is_not_http2(error) => {
                Some("does the upstream speak HTTP/2? `h2c://` and `h2://` say that it does")
            }
            _ => None,
        }
    }
}

// === impl ConnectError ===

impl ConnectError {
    /// What the operator could do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Tls { source, .. } => tls_hint(source),
            Self::Failed { .. } | Self::Timeout { .. } => None,
        }
    }

    /// The same for another request that waited for the same connection.
    pub(super) fn again(&self) -> Self {
        let copy = |source: &io::Error| io::Error::new(source.kind(), source.to_string());
        match self {
            Self::Failed { address, source } => {
                Self::Failed { address: *address, source: copy(source) }
            }
            Self::Tls { address, source } => Self::Tls { address: *address, source: copy(source) },
            Self::Timeout { address } => Self::Timeout { address: *address },
        }
    }
}

fn is_not_http2(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    cause.is_some_and(|cause: &h2::Error| cause.reason() == Some(h2::Reason::FRAME_SIZE_ERROR))
}

fn tls_hint(error: &io::Error) -> Option<&'static str> {
    use rustls::{CertificateError, Error};
    Some(match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>())? {
        Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the certificate is for another name; `--upstream-sni` says which name is expected",
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "trust the authority that signed it with `--upstream-ca`"
        }
        Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the certificate has expired: renew it",
        Error::InvalidMessage(_) => "does the upstream speak TLS at all? if not, use `http://`",
        Error::AlertReceived(_) => {
            "the upstream refused the handshake; it may ask for a certificate, see \
             `--upstream-tls-cert`"
        }
        _ => return None,
    })
}
