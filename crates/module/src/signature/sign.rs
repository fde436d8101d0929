//! Signs with a private key, as cosign does with a key of its own.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use serde_json::json;
use spki::{
    AlgorithmIdentifier, SubjectPublicKeyInfo,
    der::{
        Encode as _,
        asn1::{AnyRef, BitStringRef, Null},
    },
};
use wasmplug_api::{Digest, ImageReference};

use super::key::{EC_PUBLIC_KEY, ED25519_KEY, RSA_ENCRYPTION, SECP256R1, SECP384R1};

/// Characters of a line of PEM.
const PEM_LINE: usize = 64;

/// A private key that modules are signed with; `Debug` shows nothing of it.
pub struct SigningKey {
    pair: Pair,
    public: String,
}

/// Why a text is no key to sign with; no variant contains what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// No private key in PEM.
    #[error("there is no `PRIVATE KEY` in PEM in it")]
    Absent,
    /// One that a password protects.
    #[error("the private key is encrypted")]
    Encrypted,
    /// One in the format of elliptic curves alone.
    #[error("the private key is in the older format `EC PRIVATE KEY`")]
    Sec1,
    /// Another kind of key, another curve, or a short one.
    #[error("the private key is of a kind that is not supported, or malformed")]
    Unsupported,
}

/// The system has no random numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key could not be used to sign")]
pub struct SignError;

enum Pair {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

// === impl SigningKey ===

impl SigningKey {
    /// Reads a private key: ECDSA on P-256 or P-384, Ed25519, RSA of 2048 to 8192 bits.
    ///
    /// # Errors
    ///
    /// Every variant of [`SigningKeyError`].
    pub fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
        if text.contains("BEGIN ENCRYPTED") {
            return Err(SigningKeyError::Encrypted);
        }
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text.as_bytes()) {
            let (kind, der) = section.map_err(|_| SigningKeyError::Absent)?;
            let pair = match kind {
                SectionKind::PrivateKey => Pair::from_pkcs8(&der),
                SectionKind::RsaPrivateKey => {
                    RsaKeyPair::from_der(&der).ok().map(|pair| Pair::Rsa(Box::new(pair)))
                }
                SectionKind::EcPrivateKey => return Err(SigningKeyError::Sec1),
                _ => continue,
            };
            let pair = pair.ok_or(SigningKeyError::Unsupported)?;
            let public = pair.public_pem().ok_or(SigningKeyError::Unsupported)?;
            return Ok(Self { pair, public });
        }
        Err(SigningKeyError::Absent)
    }

    /// The signature of these bytes.
    ///
    /// # Errors
    ///
    /// When the system has no random numbers.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::P256(pair) | Pair::P384(pair) => {
                pair.sign(&random, message).map(|it| it.as_ref().to_vec()).map_err(|_| SignError)
            }
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map(|()| signature).map_err(|_| SignError)
            }
        }
    }

    /// The public key in PEM, as `verificationKey` wants it.
    pub fn public_pem(&self) -> &str {
        &self.public
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

// === impl SigningKeyError ===

impl SigningKeyError {
    /// What may help, where that is known.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            Self::Absent => Some("make one: `openssl genpkey -algorithm ed25519 -out key.pem`"),
            Self::Encrypted => Some("decrypt it: `openssl pkey -in FILE -out key.pem`"),
            Self::Sec1 => Some("convert it: `openssl pkcs8 -topk8 -nocrypt -in FILE -out key.pem`"),
            Self::Unsupported => Some("ECDSA on P-256 or P-384, Ed25519 and RSA are supported"),
        }
    }
}

// === impl Pair ===

impl Pair {
    fn from_pkcs8(der: &[u8]) -> Option<Self> {
        let random = SystemRandom::new();
        let ecdsa = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der, &random).ok();
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            Some(Self::Ed25519(pair))
        } else if let Some(pair) = ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING) {
            Some(Self::P256(pair))
        } else if let Some(pair) = ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING) {
            Some(Self::P384(pair))
        } else {
            RsaKeyPair::from_pkcs8(der).ok().map(|pair| Self::Rsa(Box::new(pair)))
        }
    }

    fn public_pem(&self) -> Option<String> {
        let (oid, parameters, key): (_, Option<AnyRef<'_>>, &[u8]) = match self {
            Self::P256(pair) => {
                (EC_PUBLIC_KEY, Some((&SECP256R1).into()), pair.public_key().as_ref())
            }
            Self::P384(pair) => {
                (EC_PUBLIC_KEY, Some((&SECP384R1).into()), pair.public_key().as_ref())
            }
            Self::Ed25519(pair) => (ED25519_KEY, None, pair.public_key().as_ref()),
            Self::Rsa(pair) => (RSA_ENCRYPTION, Some(Null.into()), pair.public().as_ref()),
        };
        let der = BitStringRef::from_bytes(key).and_then(|subject_public_key| {
            let algorithm = AlgorithmIdentifier { oid, parameters };
            SubjectPublicKeyInfo { algorithm, subject_public_key }.to_der()
        });
        let base64 = STANDARD.encode(der.ok()?);
        let mut text = String::from("-----BEGIN PUBLIC KEY-----\n");
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, after) = rest.split_at(rest.len().min(PEM_LINE));
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        text.push_str("-----END PUBLIC KEY-----\n");
        Some(text)
    }
}

/// What is signed for an image.
///
/// Source: sigstore/cosign, "Signature Specification".
pub(crate) fn payload(reference: &ImageReference, image: &Digest) -> String {
    json!({
        "critical": {
            "identity": {
                "docker-reference": format!("{}/{}", reference.registry, reference.repository),
            },
            "image": { "docker-manifest-digest": image.to_string() },
            "type": super::claim::SIMPLE_SIGNING_TYPE,
        },
        "optional": null,
    })
    .to_string()
}
