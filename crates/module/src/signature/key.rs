//! Public keys in PEM, and what they say about a signature.

use std::{fmt, sync::Arc};

use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use spki::{
    ObjectIdentifier, SubjectPublicKeyInfoRef,
    der::{Decode as _, asn1::ObjectIdentifier as Oid},
};
use wasmplug_api::Digest;

/// Most keys of one `verificationKey`.
const MAX_KEYS: usize = 32;

/// Source: RFC 5480, section 2.1.1.
pub(super) const EC_PUBLIC_KEY: Oid = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
pub(super) const SECP256R1: Oid = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
pub(super) const SECP384R1: Oid = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// Source: RFC 8410, section 3.
pub(super) const ED25519_KEY: Oid = ObjectIdentifier::new_unwrap("1.3.101.112");
/// Source: RFC 8017, appendix A.1.
pub(super) const RSA_ENCRYPTION: Oid = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

static ECDSA_P256: [&dyn VerificationAlgorithm; 2] =
    [&ECDSA_P256_SHA256_ASN1, &ECDSA_P256_SHA384_ASN1];
static ECDSA_P384: [&dyn VerificationAlgorithm; 2] =
    [&ECDSA_P384_SHA384_ASN1, &ECDSA_P384_SHA256_ASN1];
static ED25519_ALONE: [&dyn VerificationAlgorithm; 1] = [&ED25519];
static RSA: [&dyn VerificationAlgorithm; 6] = [
    &RSA_PKCS1_2048_8192_SHA256,
    &RSA_PKCS1_2048_8192_SHA384,
    &RSA_PKCS1_2048_8192_SHA512,
    &RSA_PSS_2048_8192_SHA256,
    &RSA_PSS_2048_8192_SHA384,
    &RSA_PSS_2048_8192_SHA512,
];

/// Public keys, any one of which may have signed a module; cheap to clone.
///
/// ECDSA on P-256 and P-384, Ed25519, and RSA of 2048 to 8192 bits, each as `PUBLIC KEY` in PEM.
///
/// Source: `WasmPlugin.verificationKey`, which Istio reserves and does not act upon.
#[derive(Clone, PartialEq, Eq)]
pub struct VerificationKeys {
    keys: Arc<Vec<PublicKey>>,
}

/// Why a text holds no keys to verify with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No `-----BEGIN PUBLIC KEY-----` in it.
    #[error("there is no `PUBLIC KEY` in PEM in it")]
    Absent,
    /// What stands between the lines of PEM cannot be decoded.
    #[error("it is not well-formed PEM")]
    Pem,
    /// A private key, which must not be where everybody reads it.
    #[error("it holds a private key")]
    Private,
    /// A certificate or a key in another format.
    #[error("it holds a `{label}`, and only a `PUBLIC KEY` is understood")]
    Label {
        /// What PEM calls it.
        label: &'static str,
    },
    /// Not the DER of a public key.
    #[error("key {number} is malformed")]
    Malformed {
        /// Its place in the text, from 1.
        number: usize,
    },
    /// Another kind of key or another curve.
    #[error("key {number} is of a kind that is not supported ({oid})")]
    Algorithm {
        /// Its place in the text, from 1.
        number: usize,
        /// The object identifier of the kind or the curve.
        oid: String,
    },
    /// More than anybody needs.
    #[error("there are more than {limit} keys")]
    TooMany {
        /// The bound.
        limit: usize,
    },
}

#[derive(Clone, PartialEq, Eq)]
struct PublicKey {
    algorithm: Algorithm,
    /// What the algorithm takes: a point, or an RSA key in DER.
    bytes: Vec<u8>,
    fingerprint: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    EcdsaP256,
    EcdsaP384,
    Ed25519,
    Rsa,
}

// === impl VerificationKeys ===

impl VerificationKeys {
    /// Reads one or several keys, one after the other.
    ///
    /// # Errors
    ///
    /// When there is no key, or one that cannot be used: a key that is silently passed over would
    /// be one that somebody relies upon.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut keys: Vec<PublicKey> = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let (kind, der) = section.map_err(|_| KeyError::Pem)?;
            if keys.len() == MAX_KEYS {
                return Err(KeyError::TooMany { limit: MAX_KEYS });
            }
            match kind {
                SectionKind::PublicKey => keys.push(PublicKey::parse(&der, keys.len() + 1)?),
                SectionKind::PrivateKey
                | SectionKind::RsaPrivateKey
                | SectionKind::EcPrivateKey => {
                    return Err(KeyError::Private);
                }
                SectionKind::Certificate => return Err(KeyError::Label { label: "CERTIFICATE" }),
                _ => return Err(KeyError::Absent),
            }
        }
        // The reader of PEM passes over labels that it does not know.
        if text.contains("BEGIN RSA PUBLIC KEY") {
            return Err(KeyError::Label { label: "RSA PUBLIC KEY" });
        }
        if keys.is_empty() { Err(KeyError::Absent) } else { Ok(Self { keys: Arc::new(keys) }) }
    }

    /// SHA-256 of each key in DER, which names it.
    ///
    /// Source: RFC 7469, section 2.4, in hexadecimal.
    pub fn fingerprints(&self) -> impl Iterator<Item = &Digest> {
        self.keys.iter().map(|key| &key.fingerprint)
    }

    /// The key that made this signature of these bytes.
    pub(crate) fn signer(&self, message: &[u8], signature: &[u8]) -> Option<&Digest> {
        let signer = self.keys.iter().find(|key| key.verifies(message, signature));
        signer.map(|key| &key.fingerprint)
    }
}

impl fmt::Debug for VerificationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.fingerprints()).finish()
    }
}

// === impl KeyError ===

impl KeyError {
    /// What may help, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Absent => Some("it begins with `-----BEGIN PUBLIC KEY-----`"),
            Self::Private => {
                Some("take the public key, `openssl pkey -in FILE -pubout`, and replace this pair")
            }
            Self::Label { label: "CERTIFICATE" } => {
                Some("take its key: `openssl x509 -in FILE -noout -pubkey`")
            }
            Self::Label { .. } => {
                Some("convert it: `openssl rsa -RSAPublicKey_in -in FILE -pubout`")
            }
            Self::Algorithm { .. } => {
                Some("ECDSA on P-256 or P-384, Ed25519 and RSA are supported")
            }
            Self::Pem | Self::Malformed { .. } | Self::TooMany { .. } => None,
        }
    }
}

// === impl PublicKey ===

impl PublicKey {
    fn parse(der: &[u8], number: usize) -> Result<Self, KeyError> {
        let malformed = || KeyError::Malformed { number };
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(|_| malformed())?;
        let oid = info.algorithm.oid;
        let unsupported = |oid: Oid| KeyError::Algorithm { number, oid: oid.to_string() };
        let algorithm = if oid == EC_PUBLIC_KEY {
            match info.algorithm.parameters_oid().map_err(|_| malformed())? {
                SECP256R1 => Algorithm::EcdsaP256,
                SECP384R1 => Algorithm::EcdsaP384,
                curve => return Err(unsupported(curve)),
            }
        } else if oid == ED25519_KEY {
            Algorithm::Ed25519
        } else if oid == RSA_ENCRYPTION {
            Algorithm::Rsa
        } else {
            return Err(unsupported(oid));
        };
        let bytes = info.subject_public_key.as_bytes().ok_or_else(malformed)?.to_vec();
        Ok(Self { algorithm, bytes, fingerprint: Digest::sha256_of(der) })
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.algorithm.variants().iter().any(|variant| {
            UnparsedPublicKey::new(*variant, &self.bytes).verify(message, signature).is_ok()
        })
    }
}

// === impl Algorithm ===

impl Algorithm {
    /// The hashes and paddings that tools use with such a key; a signature does not say which.
    fn variants(self) -> &'static [&'static dyn VerificationAlgorithm] {
        match self {
            Self::EcdsaP256 => &ECDSA_P256,
            Self::EcdsaP384 => &ECDSA_P384,
            Self::Ed25519 => &ED25519_ALONE,
            Self::Rsa => &RSA,
        }
    }
}
