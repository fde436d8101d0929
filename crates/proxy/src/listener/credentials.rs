//! Certificate, key and certificate authorities of a listener, checked before they are used.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::certificate::Certificate;
use crate::config::ListenerProtocol;

/// First line of a key that wants a password.
const ENCRYPTED_KEY: &[u8] = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
/// Header of a key that wants a password, in the older form.
const ENCRYPTED_OLD_KEY: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They have to.
    #[default]
    Required,
    /// They may; one that does not verify is refused all the same.
    Optional,
}

/// What decides about a handshake beside certificates.
#[derive(Clone, Copy, Debug, Default)]
pub struct TlsOptions {
    /// Whether clients have to show a certificate, if there is an authority to verify it.
    pub client_auth: ClientAuth,
    /// What is spoken inside TLS; HTTP is negotiated as `h2` or `http/1.1`.
    pub protocol: ListenerProtocol,
}

/// Certificate and key of a listener, and the authorities that verify its clients.
pub struct TlsCredentials {
    /// As the options say.
    server_config: Arc<ServerConfig>,
    /// The same with a certificate that clients have to show; `None` without authorities.
    mutual: Option<Arc<ServerConfig>>,
    certificate: Arc<Certificate>,
    client_auth: ClientAuth,
}

/// Why credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsCredentialsError {
    /// The certificates are not what they have to be.
    #[error("there is no certificate in PEM in it, or one that is broken")]
    NoCertificate,
    /// A certificate in PEM has something else in it.
    #[error("its first certificate cannot be read")]
    UnreadableCertificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The certificate is of no use yet.
    #[error("the certificate is not valid before {}", date(.0))]
    NotYetValid(SystemTime),
    /// The certificate is of no use any more.
    #[error("the certificate has expired on {}", date(.0))]
    Expired(SystemTime),
    /// The key is not what it has to be.
    #[error("there is no private key in PEM in it, or one that is broken")]
    NoKey,
    /// The key wants a password.
    #[error("the private key is encrypted")]
    EncryptedKey,
    /// The key is of a kind that cannot sign here.
    #[error("the private key cannot be used")]
    UnusableKey,
    /// The certificate is of another key.
    #[error("the certificate does not belong to the private key")]
    Mismatch,
    /// The authorities are not what they have to be.
    #[error("there is no certificate authority in PEM in it, or one that is broken")]
    NoClientCa,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Setup(#[source] Box<dyn std::error::Error + Send + Sync>),
}

// === impl TlsCredentials ===

impl TlsCredentials {
    /// Credentials of files in PEM: the certificate with those that lead to its authority, its key,
    /// and the authorities that verify clients, if they are to be asked.
    ///
    /// # Errors
    /// [`TlsCredentialsError`]; nothing of the key is in it.
    pub fn from_pem(
        certificates: &[u8],
        key: &[u8],
        client_ca: Option<&[u8]>,
        options: TlsOptions,
    ) -> Result<Self, TlsCredentialsError> {
        use TlsCredentialsError as Error;
        let chain = certificates_of(certificates).ok_or(Error::NoCertificate)?;
        let first = chain.first().ok_or(Error::NoCertificate)?.clone();
        let certificate = Certificate::parse(first)
            .map_err(|error| Error::UnreadableCertificate(error.into()))?;
        check_validity(&certificate, SystemTime::now())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = private_key(key)?;
        let key = provider.key_provider.load_private_key(key).map_err(|_| Error::UnusableKey)?;
        let certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(Error::Mismatch),
        }
        let certified = Arc::new(certified);
        let build = |verifier| server_config(&provider, &certified, verifier, options.protocol);
        let authorities = client_ca.map(authorities).transpose()?;
        let verifier = |is_required: bool| match &authorities {
            Some(roots) => client_verifier(&provider, roots, is_required).map(Some),
            None => Ok(None),
        };
        let mutual = verifier(true)?.map(|verifier| build(Some(verifier))).transpose()?;
        let server_config = match (&mutual, options.client_auth) {
            (Some(mutual), ClientAuth::Required) => Arc::clone(mutual),
            _ => build(verifier(false)?)?,
        };
        let certificate = Arc::new(certificate);
        Ok(Self { server_config, mutual, certificate, client_auth: options.client_auth })
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.certificate.not_after
    }

    /// The same as headers of HTTP write it.
    pub fn not_after_text(&self) -> String {
        date(&self.certificate.not_after)
    }

    /// Whether clients can be verified, so that mutual TLS can be asked for.
    pub fn verifies_clients(&self) -> bool {
        self.mutual.is_some()
    }

    pub(super) fn certificate(&self) -> &Arc<Certificate> {
        &self.certificate
    }

    /// What a handshake goes by; with `is_mutual`, clients have to show a certificate if they can
    /// be verified.
    pub(super) fn server_config(&self, is_mutual: bool) -> Arc<ServerConfig> {
        let mutual = self.mutual.as_ref().filter(|_| is_mutual);
        Arc::clone(mutual.unwrap_or(&self.server_config))
    }

    pub(super) fn dump(&self) -> Value {
        let client_auth = match (&self.mutual, self.client_auth) {
            (None, _) => "none",
            (Some(_), ClientAuth::Required) => "required",
            (Some(_), ClientAuth::Optional) => "optional",
        };
        json!({
            "subject": self.certificate.subject(),
            "dns_san": self.certificate.dns_san(),
            "uri_san": self.certificate.uri_san().map(|uri| &**uri),
            "sha256": self.certificate.sha256(),
            "not_before": date(&self.certificate.not_before),
            "not_after": self.not_after_text(),
            "client_auth": client_auth,
        })
    }
}

impl std::fmt::Debug for TlsCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsCredentials")
            .field("subject", &self.certificate.subject())
            .field("client_auth", &self.client_auth)
            .finish_non_exhaustive()
    }
}

// === impl TlsCredentialsError ===

impl TlsCredentialsError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoCertificate => {
                "the file has to begin with the server's own certificate, between \
                 `-----BEGIN CERTIFICATE-----` and `-----END CERTIFICATE-----`"
            }
            Self::UnreadableCertificate(_) => {
                "look at it with `openssl x509 -in FILE -noout -text`"
            }
            Self::NotYetValid(_) => "look at the clock of this machine, or wait",
            Self::Expired(_) => "ask for a new one; clients would refuse this one",
            Self::NoKey => "a key is PKCS #8, PKCS #1 or SEC 1 in PEM",
            Self::EncryptedKey => "take the password off with `openssl pkey -in KEY -out NEW`",
            Self::UnusableKey => {
                "keys are RSA of 2048 bits or more, ECDSA with P-256 or P-384, or Ed25519"
            }
            Self::Mismatch => "name the certificate and the key of one and the same pair",
            Self::NoClientCa => "the file has one or more certificates of authorities in PEM",
            Self::Setup(_) => return None,
        };
        Some(hint.to_owned())
    }

    /// Whether the authorities are to blame, and not certificate or key.
    pub fn is_about_client_ca(&self) -> bool {
        matches!(self, Self::NoClientCa)
    }

    /// Whether the key is to blame.
    pub fn is_about_key(&self) -> bool {
        matches!(self, Self::NoKey | Self::EncryptedKey | Self::UnusableKey)
    }
}

/// How moments are written. Source: RFC 9110, as in headers.
fn date(moment: &SystemTime) -> String {
    httpdate::fmt_http_date(*moment)
}

fn certificates_of(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().ok()
}

fn check_validity(certificate: &Certificate, now: SystemTime) -> Result<(), TlsCredentialsError> {
    if now < certificate.not_before {
        return Err(TlsCredentialsError::NotYetValid(certificate.not_before));
    }
    if now > certificate.not_after {
        return Err(TlsCredentialsError::Expired(certificate.not_after));
    }
    Ok(())
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsCredentialsError> {
    let has = |line: &[u8]| pem.windows(line.len()).any(|window| window == line);
    if has(ENCRYPTED_KEY) || has(ENCRYPTED_OLD_KEY) {
        return Err(TlsCredentialsError::EncryptedKey);
    }
    // Its error could quote the file.
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| TlsCredentialsError::NoKey)
}

fn authorities(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsCredentialsError> {
    let certificates = certificates_of(pem).filter(|found| !found.is_empty());
    let mut store = RootCertStore::empty();
    for certificate in certificates.ok_or(TlsCredentialsError::NoClientCa)? {
        store.add(certificate).map_err(|_| TlsCredentialsError::NoClientCa)?;
    }
    Ok(Arc::new(store))
}

fn client_verifier(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    is_required: bool,
) -> Result<Arc<dyn ClientCertVerifier>, TlsCredentialsError> {
    let (roots, provider) = (Arc::clone(roots), Arc::clone(provider));
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    let builder = if is_required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| TlsCredentialsError::Setup(error.into()))
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    certified: &Arc<CertifiedKey>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    protocol: ListenerProtocol,
) -> Result<Arc<ServerConfig>, TlsCredentialsError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| TlsCredentialsError::Setup(error.into()))?;
    let verifies_clients = verifier.is_some();
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let resolver = Arc::new(SingleCertAndKey::from(Arc::clone(certified)));
    let mut config = builder.with_cert_resolver(resolver);
    if verifies_clients {
        // A session that is resumed would go on after the client's certificate has ended.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    if protocol == ListenerProtocol::Http {
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    }
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests;
