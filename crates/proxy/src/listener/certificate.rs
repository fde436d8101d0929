//! What a certificate says about who has it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

/// Scheme of the identities that Istio gives to workloads. Source: SPIFFE ID, section 2.
const SPIFFE: &str = "spiffe://";
/// Characters in a line of PEM. Source: RFC 7468.
const PEM_LINE: usize = 64;

/// A certificate, with what plugins, policies and metrics ask for.
#[derive(Debug)]
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    /// As RFC 2253 writes it, the most specific part first.
    subject: String,
    dns_san: Option<String>,
    uri_san: Option<Arc<str>>,
    /// There is more than one URI, so that none is the identity.
    has_several_uris: bool,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// It is no certificate, or one with a part that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the certificate cannot be read")]
pub(crate) struct UnreadableCertificate(#[source] x509_cert::der::Error);

// === impl Certificate ===

impl Certificate {
    /// # Errors
    /// [`UnreadableCertificate`].
    pub(crate) fn parse(der: CertificateDer<'static>) -> Result<Self, UnreadableCertificate> {
        let parsed = x509_cert::Certificate::from_der(&der).map_err(UnreadableCertificate)?;
        let certificate = parsed.tbs_certificate();
        let names = certificate.get_extension::<SubjectAltName>().map_err(UnreadableCertificate)?;
        let names = names.map(|(_, names)| names.0).unwrap_or_default();
        let dns_san = names.iter().find_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            _ => None,
        });
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
            _ => None,
        });
        let validity = certificate.validity();
        let moment =
            |time: Time| UNIX_EPOCH.checked_add(time.to_unix_duration()).unwrap_or(UNIX_EPOCH);
        Ok(Self {
            subject: certificate.subject().to_string(),
            dns_san,
            uri_san: uris.next().map(Arc::from),
            has_several_uris: uris.next().is_some(),
            not_before: moment(validity.not_before),
            not_after: moment(validity.not_after),
            der,
        })
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// The first DNS name.
    pub(crate) fn dns_san(&self) -> Option<&str> {
        self.dns_san.as_deref()
    }

    /// The first URI.
    pub(crate) fn uri_san(&self) -> Option<&Arc<str>> {
        self.uri_san.as_ref()
    }

    /// The workload's identity. Source: X.509-SVID, section 2: there is exactly one URI.
    pub(crate) fn identity(&self) -> Option<&Arc<str>> {
        let one = self.uri_san.as_ref().filter(|_| !self.has_several_uris);
        one.filter(|uri| uri.starts_with(SPIFFE))
    }

    /// SHA-256 of the whole, in hex digits.
    pub(crate) fn sha256(&self) -> String {
        let digest = digest(&SHA256, &self.der);
        digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            // A text takes whatever is written.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    pub(crate) fn pem(&self) -> String {
        let body = STANDARD.encode(&self.der);
        let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = body.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at_checked(PEM_LINE).unwrap_or((rest, ""));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END CERTIFICATE-----\n");
        text
    }
}
