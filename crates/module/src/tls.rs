//! Which certificates are trusted.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};

use crate::error::StoreError;

/// Looks at the certificate that a server shows; that the server has its key is checked in any case.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
}

/// Which certificates are good.
#[derive(Debug)]
enum Trust {
    /// Every one.
    Any,
    /// Those of the system's authorities and of further ones.
    ///
    /// The system keeps its own in more than a hundred files, which are read when the first server
    /// shows a certificate: a start from files or from the cache needs none of them.
    System {
        further: RootCertStore,
        verifier: OnceLock<Result<Arc<WebPkiServerVerifier>, rustls::Error>>,
    },
}

/// TLS for clients: the system's authorities and these further ones.
///
/// A machine without any, such as an empty container, trusts Mozilla's.
pub(crate) fn client_config(authorities_pem: &[u8]) -> Result<ClientConfig, StoreError> {
    let mut further = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities_pem) {
        let certificate = certificate.map_err(|_| StoreError::CertificateAuthorities)?;
        further.add(certificate).map_err(|_| StoreError::CertificateAuthorities)?;
    }
    config(Trust::System { further, verifier: OnceLock::new() })
}

/// TLS for servers whose certificate is not looked at, because the operator said so.
pub(crate) fn unverified_config() -> Result<ClientConfig, StoreError> {
    config(Trust::Any)
}

fn config(trust: Trust) -> Result<ClientConfig, StoreError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier { provider: Arc::clone(&provider), trust };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| StoreError::Tls { source })?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

/// Who says which certificates the system's authorities and further ones have issued.
fn system_verifier(
    provider: &Arc<CryptoProvider>,
    further: &RootCertStore,
) -> Result<Arc<WebPkiServerVerifier>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(error = %error, "cannot read certificate authorities of the system");
    }
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots.extend(further.roots.iter().cloned());
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))
}

// === impl Verifier ===

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match &self.trust {
            Trust::Any => Ok(ServerCertVerified::assertion()),
            Trust::System { further, verifier } => verifier
                .get_or_init(|| system_verifier(&self.provider, further))
                .as_ref()
                .map_err(Clone::clone)?
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
