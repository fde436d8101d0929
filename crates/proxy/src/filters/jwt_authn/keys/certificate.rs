//! Keys in certificates.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use spki::der::Decode as _;
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

/// Source: RFC 8017, appendix A.1.
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Whether a text looks like a certificate. Source: Envoy, which is exact about it.
pub(super) fn is_pem(text: &str) -> bool {
    let inner = text.strip_prefix("-----BEGIN CERTIFICATE-----\n");
    inner.is_some_and(|inner| inner.ends_with("\n-----END CERTIFICATE-----\n"))
}

/// The RSA key of a certificate, as PKCS#1 has it.
pub(super) fn rsa_key(pem: &str) -> Option<Vec<u8>> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let certificate = webpki::EndEntityCert::try_from(&certificate).ok()?;
    let info = certificate.subject_public_key_info();
    let info = SubjectPublicKeyInfoRef::from_der(&info).ok()?;
    let key =
        info.subject_public_key.as_bytes().filter(|_| info.algorithm.oid == RSA_ENCRYPTION)?;
    Some(key.to_vec())
}
