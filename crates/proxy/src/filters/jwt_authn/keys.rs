//! Key sets: which keys are in them, and which one verifies a token.
//!
//! Source: RFC 7517, RFC 7518, RFC 8037; Envoy for how keys are chosen.

mod certificate;

use ring::{hmac, signature};
use serde_json::{Map, Value};

use super::encoding::decode;
use super::json;
use super::status::Status;
use super::token::{Algorithm, Token};

/// Most keys of a set: a token that names none is tried with all of them. Source: ours.
const MAX_KEYS: usize = 256;
/// Shortest RSA key in bytes. Source: `ring`; RFC 7518, 3.3 demands as much.
const MIN_MODULUS_BYTES: usize = 256;
/// Longest RSA key in bytes. Source: `ring`.
const MAX_MODULUS_BYTES: usize = 1024;
const ED25519_SIGNATURE_BYTES: usize = 64;

/// The keys of an issuer.
#[derive(Debug)]
pub(crate) struct KeySet {
    keys: Vec<Key>,
}

/// Why a text is no key set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeySetError {
    #[error("it is not a JSON object")]
    NotJson,
    #[error("it has no list `keys`")]
    NoKeys,
    #[error("it has {0} keys, and {MAX_KEYS} are allowed")]
    TooMany(usize),
    #[error("it has no usable key")]
    NoneUsable,
    #[error("it has no usable key: {0}")]
    Unusable(&'static str),
}

#[derive(Debug)]
struct Key {
    /// Empty if it has none.
    kid: String,
    /// What it is for; absent for everything that its kind can do.
    algorithm: Option<Algorithm>,
    material: Material,
}

/// What verifies.
enum Material {
    P256(Vec<u8>),
    P384(Vec<u8>),
    P521(Box<p521::ecdsa::VerifyingKey>),
    Rsa(signature::RsaPublicKeyComponents<Vec<u8>>),
    /// The same, as it stands in a certificate.
    CertifiedRsa(Vec<u8>),
    Ed25519(Vec<u8>),
    Hmac(Vec<u8>),
}

// === impl KeySet ===

impl KeySet {
    /// Reads a key set. Keys that are of no use are left out, as in Envoy, if others are left.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, KeySetError> {
        let set = json::object(text).ok_or(KeySetError::NotJson)?;
        let Some(listed) = set.get("keys") else { return Self::of_certificates(&set) };
        let listed = listed.as_array().ok_or(KeySetError::NoKeys)?;
        if listed.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(listed.len()));
        }
        let mut keys = Vec::with_capacity(listed.len());
        let mut problem = None;
        for jwk in listed.iter().filter_map(Value::as_object) {
            match Key::parse(jwk) {
                Ok(key) => keys.push(key),
                Err(reason) => problem = Some(reason),
            }
        }
        match problem {
            _ if !keys.is_empty() => Ok(Self { keys }),
            Some(reason) => Err(KeySetError::Unusable(reason)),
            None => Err(KeySetError::NoneUsable),
        }
    }

    /// Reads a set of RSA certificates by the ids of their keys. Only the keys are looked at.
    ///
    /// Source: Envoy; Google publishes such sets.
    fn of_certificates(set: &Map<String, Value>) -> Result<Self, KeySetError> {
        let certificate = |value: &Value| {
            let text = value.as_str().filter(|text| certificate::is_pem(text))?;
            Some(certificate::rsa_key(text))
        };
        if set.is_empty() || !set.values().all(|value| certificate(value).is_some()) {
            return Err(KeySetError::NoKeys);
        }
        if set.len() > MAX_KEYS {
            return Err(KeySetError::TooMany(set.len()));
        }
        let keys = set.iter().map(|(kid, value)| {
            let key = certificate(value).flatten();
            let key =
                key.ok_or(KeySetError::Unusable("a certificate is not one with an RSA key"))?;
            Ok(Key { kid: kid.clone(), algorithm: None, material: Material::CertifiedRsa(key) })
        });
        Ok(Self { keys: keys.collect::<Result<_, _>>()? })
    }

    /// How many keys there are to use.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether a key of the set has signed the token.
    ///
    /// Source: Envoy, `kid` and `alg` choose among the keys where both sides have them. Differs:
    /// a key is used only with algorithms of its kind.
    pub(super) fn verify(&self, token: &Token) -> Result<(), Status> {
        let mut status = Status::NoMatchingKey;
        for key in self.keys.iter().filter(|key| key.is_for(token)) {
            status = match key.material.verify(token) {
                Ok(()) => return Ok(()),
                Err(Status::Ed25519WrongLength) => return Err(Status::Ed25519WrongLength),
                Err(status) => status,
            };
        }
        Err(status)
    }
}

/// What is told about a token of an issuer whose keys could never be had.
///
/// Source: Istio puts a key there that nobody has, with an id of its own and for any algorithm.
pub(super) fn without_keys(token: &Token) -> Status {
    if token.kid.is_empty() { Status::VerificationFails } else { Status::NoMatchingKey }
}

// === impl Key ===

impl Key {
    fn parse(jwk: &Map<String, Value>) -> Result<Self, &'static str> {
        let text = |name: &str| jwk.get(name).and_then(Value::as_str);
        let bytes = |name: &str| decode(text(name)?.as_bytes());
        let alg = text("alg").filter(|alg| !alg.is_empty());
        let material = match text("kty").ok_or("a key has no type `kty`")? {
            "EC" => ec(text("crv").filter(|crv| !crv.is_empty()), alg, bytes("x"), bytes("y"))?,
            "RSA" => rsa(bytes("n"), bytes("e"))?,
            "oct" => {
                let secret = bytes("k").filter(|secret| !secret.is_empty());
                Material::Hmac(secret.ok_or("a shared secret has no valid `k`")?)
            }
            "OKP" => match text("crv") {
                Some("Ed25519") => {
                    let x = bytes("x").filter(|x| x.len() == signature::ED25519_PUBLIC_KEY_LEN);
                    Material::Ed25519(x.ok_or("an Ed25519 key has no valid `x`")?)
                }
                _ => return Err("the curve of a key of type `OKP` is not `Ed25519`"),
            },
            _ => return Err("a key has none of the types `EC`, `RSA`, `OKP` and `oct`"),
        };
        let algorithm = alg.map(|alg| {
            Algorithm::from_name(alg)
                .filter(|algorithm| material.is_able_to(*algorithm))
                .ok_or("the `alg` of a key does not fit its type")
        });
        let kid = text("kid").unwrap_or_default().to_owned();
        Ok(Self { kid, algorithm: algorithm.transpose()?, material })
    }

    fn is_for(&self, token: &Token) -> bool {
        let names_other = !token.kid.is_empty() && !self.kid.is_empty() && self.kid != token.kid;
        !names_other && self.algorithm.is_none_or(|algorithm| algorithm == token.algorithm)
    }
}

/// Source: RFC 7518, 6.2.1; Envoy for curves that are not named.
fn ec(
    curve: Option<&str>,
    alg: Option<&str>,
    x: Option<Vec<u8>>,
    y: Option<Vec<u8>>,
) -> Result<Material, &'static str> {
    let invalid = "an EC key has no valid `x` and `y`";
    let (x, y) = x.zip(y).ok_or(invalid)?;
    let point = |size| Some([&[4], &*padded(&x, size)?, &*padded(&y, size)?].concat());
    match (curve, alg) {
        (Some("P-256"), _) | (None, Some("ES256") | None) => {
            point(32).map(Material::P256).ok_or(invalid)
        }
        (Some("P-384"), _) | (None, Some("ES384")) => point(48).map(Material::P384).ok_or(invalid),
        (Some("P-521"), _) | (None, Some("ES512")) => {
            let point = point(66).ok_or(invalid)?;
            let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(&point);
            key.map(|key| Material::P521(Box::new(key))).map_err(|_| invalid)
        }
        _ => Err("the curve of an EC key is none of `P-256`, `P-384` and `P-521`"),
    }
}

/// Source: RFC 7518, 6.3.1; Envoy for the exponents.
fn rsa(n: Option<Vec<u8>>, e: Option<Vec<u8>>) -> Result<Material, &'static str> {
    let (n, e) = n.zip(e).ok_or("an RSA key has no valid `n` and `e`")?;
    let (n, e) = (without_zeros(&n).to_vec(), without_zeros(&e).to_vec());
    if !matches!(*e, [3] | [1, 0, 1]) {
        return Err("the exponent of an RSA key is neither 3 nor 65537");
    }
    if n.len() < MIN_MODULUS_BYTES || n.len() > MAX_MODULUS_BYTES {
        return Err("an RSA key has fewer than 2048 or more than 8192 bits");
    }
    Ok(Material::Rsa(signature::RsaPublicKeyComponents { n, e }))
}

/// A number with so many digits, if it has no more.
fn padded(number: &[u8], size: usize) -> Option<Vec<u8>> {
    let number = without_zeros(number);
    let mut padded = vec![0; size.checked_sub(number.len())?];
    padded.extend_from_slice(number);
    Some(padded)
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|digit| **digit == 0).count();
    number.get(zeros..).unwrap_or_default()
}

// === impl Material ===

impl Material {
    fn is_able_to(&self, algorithm: Algorithm) -> bool {
        use Algorithm::{
            EdDsa, Es256, Es384, Es512, Hs256, Hs384, Hs512, Ps256, Ps384, Ps512, Rs256, Rs384,
            Rs512,
        };
        match self {
            Self::P256(_) => algorithm == Es256,
            Self::P384(_) => algorithm == Es384,
            Self::P521(_) => algorithm == Es512,
            Self::Rsa(_) | Self::CertifiedRsa(_) => {
                matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
            }
            Self::Ed25519(_) => algorithm == EdDsa,
            Self::Hmac(_) => matches!(algorithm, Hs256 | Hs384 | Hs512),
        }
    }

    fn verify(&self, token: &Token) -> Result<(), Status> {
        let (signed, given) = (token.signed(), &*token.signature);
        let with = |algorithm: &'static dyn signature::VerificationAlgorithm, key: &[u8]| {
            signature::UnparsedPublicKey::new(algorithm, key).verify(signed, given).is_ok()
        };
        let is_verified = match (self, token.algorithm) {
            (Self::P256(key), Algorithm::Es256) => with(&signature::ECDSA_P256_SHA256_FIXED, key),
            (Self::P384(key), Algorithm::Es384) => with(&signature::ECDSA_P384_SHA384_FIXED, key),
            (Self::P521(key), Algorithm::Es512) => {
                use p521::ecdsa::signature::Verifier as _;
                p521::ecdsa::Signature::from_slice(given)
                    .is_ok_and(|given| key.verify(signed, &given).is_ok())
            }
            (Self::Rsa(key), algorithm) => rsa_parameters(algorithm)
                .is_some_and(|parameters| key.verify(parameters, signed, given).is_ok()),
            (Self::CertifiedRsa(key), algorithm) => {
                rsa_parameters(algorithm).is_some_and(|parameters| with(parameters, key))
            }
            (Self::Ed25519(_), Algorithm::EdDsa) if given.len() != ED25519_SIGNATURE_BYTES => {
                return Err(Status::Ed25519WrongLength);
            }
            (Self::Ed25519(key), Algorithm::EdDsa) => with(&signature::ED25519, key),
            (Self::Hmac(secret), algorithm) => {
                let algorithm = match algorithm {
                    Algorithm::Hs256 => hmac::HMAC_SHA256,
                    Algorithm::Hs384 => hmac::HMAC_SHA384,
                    Algorithm::Hs512 => hmac::HMAC_SHA512,
                    _ => return Err(Status::VerificationFails),
                };
                // It compares in constant time.
                hmac::verify(&hmac::Key::new(algorithm, secret), signed, given).is_ok()
            }
            _ => false,
        };
        if is_verified { Ok(()) } else { Err(Status::VerificationFails) }
    }
}

/// How a signature of an RSA key is verified.
fn rsa_parameters(algorithm: Algorithm) -> Option<&'static signature::RsaParameters> {
    Some(match algorithm {
        Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

impl std::fmt::Debug for Material {
    /// A shared secret must not be shown, and what the others are is enough.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::P256(_) => "P-256",
            Self::P384(_) => "P-384",
            Self::P521(_) => "P-521",
            Self::Rsa(_) | Self::CertifiedRsa(_) => "RSA",
            Self::Ed25519(_) => "Ed25519",
            Self::Hmac(_) => "oct",
        })
    }
}

#[cfg(test)]
mod tests;
