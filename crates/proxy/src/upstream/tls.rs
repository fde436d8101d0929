//! TLS towards upstreams.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::options::UpstreamTls;
use super::{ClusterConfig, UpstreamProtocol};

/// How connections of one cluster are encrypted.
#[derive(Clone, Debug)]
pub(crate) struct TlsClient {
    config: Arc<ClientConfig>,
    /// What each host must prove to be.
    host_names: Vec<ServerName<'static>>,
}

/// Why connections cannot be encrypted as the operator wants it.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamTlsError {
    /// No certificate in what should be certificate authorities.
    #[error("there is no certificate in PEM among the authorities for upstreams")]
    Authorities,
    /// A certificate that cannot be one of an authority.
    #[error("a certificate authority for upstreams cannot be used")]
    Authority(#[source] rustls::Error),
    /// The system has no certificate authorities.
    #[error("the system has no certificate authorities to verify upstreams by")]
    NoAuthorities,
    /// No certificate, or no key, in what should be the proxy's own.
    #[error("there is no certificate or no private key in PEM in what is to be shown to upstreams")]
    Identity,
    /// Certificate and key do not go together.
    #[error("the certificate and the key that are to be shown to upstreams cannot be used")]
    IdentityPair(#[source] rustls::Error),
    /// A name that no certificate can have.
    #[error("`{name}` is no name that a certificate of an upstream could have")]
    ServerName {
        /// The name.
        name: String,
    },
    /// What is fixed in the program does not fit together.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

// === impl UpstreamTlsError ===

impl UpstreamTlsError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Authorities | Self::Authority(_) => {
                "give `--upstream-ca` a file with certificates in PEM"
            }
            Self::NoAuthorities => "name a file with certificate authorities by `--upstream-ca`",
            Self::Identity | Self::IdentityPair(_) => {
                "give `--upstream-tls-cert` the chain and `--upstream-tls-key` its key, both in PEM"
            }
            Self::ServerName { .. } => "name the upstream's certificate by `--upstream-sni`",
            Self::Setup(_) => return None,
        };
        Some(hint.to_owned())
    }
}

// === impl TlsClient ===

impl TlsClient {
    /// The name that the certificate of this host, by its number in the cluster, must have.
    pub(super) fn server_name(&self, host: usize) -> Option<ServerName<'static>> {
        self.host_names.get(host).cloned()
    }

    /// Whether it is said what will be spoken.
    pub(super) fn offers_protocol(&self) -> bool {
        !self.config.alpn_protocols.is_empty()
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

/// What all encrypted clusters share: whom to trust, and what to show.
pub(super) struct TlsFactory {
    base: ClientConfig,
    /// Bytes are passed on, in which nobody knows what is spoken.
    is_raw: bool,
}

// === impl TlsFactory ===

impl TlsFactory {
    pub(super) fn new(options: &UpstreamTls, is_raw: bool) -> Result<Self, UpstreamTlsError> {
        let roots = match &options.authorities {
            Some(pem) => given_roots(pem)?,
            None => system_roots()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(UpstreamTlsError::Setup)?
            .with_root_certificates(roots);
        let base = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
                let chain = chain.ok().filter(|chain| !chain.is_empty());
                let chain = chain.ok_or(UpstreamTlsError::Identity)?;
                let key = PrivateKeyDer::from_pem_slice(key);
                // What is wrong is not told in detail: it is about a secret.
                let key = key.map_err(|_| UpstreamTlsError::Identity)?;
                builder.with_client_auth_cert(chain, key).map_err(UpstreamTlsError::IdentityPair)?
            }
        };
        Ok(Self { base, is_raw })
    }

    /// For one cluster.
    pub(super) fn client(&self, cluster: &ClusterConfig) -> Result<TlsClient, UpstreamTlsError> {
        let host_names = cluster.hosts().iter().map(|host| {
            let name = cluster.server_name().unwrap_or_else(|| host.host());
            ServerName::try_from(name.to_owned())
                .map_err(|_| UpstreamTlsError::ServerName { name: name.to_owned() })
        });
        let host_names = host_names.collect::<Result<_, _>>()?;
        let mut config = self.base.clone();
        config.alpn_protocols = match cluster.protocol() {
            _ if self.is_raw => Vec::new(),
            UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
            UpstreamProtocol::Http2 => vec![b"h2".to_vec()],
        };
        Ok(TlsClient { config: Arc::new(config), host_names })
    }
}

fn given_roots(pem: &[u8]) -> Result<RootCertStore, UpstreamTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| UpstreamTlsError::Authorities)?;
        roots.add(certificate).map_err(UpstreamTlsError::Authority)?;
    }
    if roots.is_empty() { Err(UpstreamTlsError::Authorities) } else { Ok(roots) }
}

fn system_roots() -> Result<RootCertStore, UpstreamTlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(error = %error, "cannot read certificate authorities of the system");
    }
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() { Err(UpstreamTlsError::NoAuthorities) } else { Ok(roots) }
}
