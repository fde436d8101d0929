//! Which certificate authorities are trusted.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::error::StoreError;

/// TLS for clients: the system's authorities and these further ones.
///
/// A machine without any, such as an empty container, trusts Mozilla's.
pub(crate) fn client_config(authorities_pem: &[u8]) -> Result<ClientConfig, StoreError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(error = %error, "cannot read certificate authorities of the system");
    }
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    for certificate in CertificateDer::pem_slice_iter(authorities_pem) {
        let certificate = certificate.map_err(|_| StoreError::CertificateAuthorities)?;
        roots.add(certificate).map_err(|_| StoreError::CertificateAuthorities)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|source| StoreError::Tls { source })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
