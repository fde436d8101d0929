//! `verify_signature` and `sign`. Source: Envoy's foreign functions.
//!
//! Keys come as DER or PEM: public ones as `SubjectPublicKeyInfo`, private ones as PKCS #8 or, for
//! RSA, as PKCS #1. RSA signatures are PKCS #1 v1.5, those on curves are ASN.1.

use prost::Message;
use ring::rand::SystemRandom;
use ring::signature::{
    self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use spki::der::{self, Decode};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

use crate::abi::Status;
use crate::error::HostError;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Source: Envoy, `VerifySignatureArguments`.
#[derive(Clone, PartialEq, Message)]
struct VerifyArguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
    #[prost(string, tag = "5")]
    public_key_pem: String,
}

/// Source: Envoy, `VerifySignatureResult`.
#[derive(Clone, PartialEq, Message)]
struct VerifyResult {
    #[prost(bool, tag = "1")]
    result: bool,
    #[prost(string, tag = "2")]
    error: String,
}

/// Source: Envoy, `SignArguments`. Its `Debug` must never be shown: it holds a key.
#[derive(Clone, PartialEq, Message)]
struct SignArguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    #[prost(bytes = "vec", tag = "2")]
    private_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    text: Vec<u8>,
    #[prost(string, tag = "4")]
    private_key_pem: String,
}

/// Source: Envoy, `SignResult`.
#[derive(Clone, PartialEq, Message)]
struct SignResult {
    #[prost(bool, tag = "1")]
    result: bool,
    #[prost(bytes = "vec", tag = "2")]
    signature: Vec<u8>,
    #[prost(string, tag = "3")]
    error: String,
}

/// A hash by the name that plugins give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// Takes a signature, a text and a key; gives whether they belong together.
pub(super) fn verify(arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    let arguments = VerifyArguments::decode(arguments).map_err(|_| Status::BadArgument)?;
    let key = one_of(arguments.public_key, &arguments.public_key_pem)?;
    let verified =
        verify_with(&key, &arguments.hash_function, &arguments.text, &arguments.signature);
    let error = verified.err().unwrap_or_default();
    Ok(VerifyResult { result: error.is_empty(), error }.encode_to_vec())
}

/// Takes a text and a private key; gives a signature.
pub(super) fn sign(arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    let arguments = SignArguments::decode(arguments).map_err(|_| Status::BadArgument)?;
    let key = one_of(arguments.private_key, &arguments.private_key_pem)?;
    let result = match sign_with(&key, &arguments.hash_function, &arguments.text) {
        Ok(signature) => SignResult { result: true, signature, error: String::new() },
        Err(error) => SignResult { result: false, signature: Vec::new(), error },
    };
    Ok(result.encode_to_vec())
}

/// The key in DER.
///
/// # Errors
/// [`Status::BadArgument`] if there is none or more than one, or the text is no PEM.
fn one_of(der: Vec<u8>, pem: &str) -> Result<Vec<u8>, Status> {
    match (der.is_empty(), pem.is_empty()) {
        (false, true) => Ok(der),
        (true, false) => {
            let decoded = der::pem::decode_vec(pem.as_bytes());
            decoded.map(|(_, bytes)| bytes).map_err(|_| Status::BadArgument)
        }
        _ => Err(Status::BadArgument),
    }
}

fn verify_with(key: &[u8], hash: &str, text: &[u8], signature: &[u8]) -> Result<(), String> {
    let hash = Hash::named(hash)?;
    let unreadable = |_| "the public key cannot be read".to_owned();
    let info = SubjectPublicKeyInfoRef::from_der(key).map_err(unreadable)?;
    let curve = || info.algorithm.parameters_oid().ok();
    let algorithm: &'static dyn VerificationAlgorithm = match (info.algorithm.oid, hash) {
        (RSA, Hash::Sha1) => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
        (RSA, Hash::Sha256) => &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
        (RSA, Hash::Sha384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (RSA, Hash::Sha512) => &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
        (EC, Hash::Sha256) if curve() == Some(P256) => &signature::ECDSA_P256_SHA256_ASN1,
        (EC, Hash::Sha384) if curve() == Some(P256) => &signature::ECDSA_P256_SHA384_ASN1,
        (EC, Hash::Sha256) if curve() == Some(P384) => &signature::ECDSA_P384_SHA256_ASN1,
        (EC, Hash::Sha384) if curve() == Some(P384) => &signature::ECDSA_P384_SHA384_ASN1,
        (ED25519, _) => &signature::ED25519,
        _ => return Err("this kind of key is not supported with this hash function".into()),
    };
    let bits = info.subject_public_key.raw_bytes();
    UnparsedPublicKey::new(algorithm, bits)
        .verify(text, signature)
        .map_err(|_| "the signature does not belong to the text and the key".to_owned())
}

fn sign_with(key: &[u8], hash: &str, text: &[u8]) -> Result<Vec<u8>, String> {
    let hash = Hash::named(hash)?;
    let random = SystemRandom::new();
    if let Ok(pair) = RsaKeyPair::from_pkcs8(key).or_else(|_| RsaKeyPair::from_der(key)) {
        let encoding: &'static dyn RsaEncoding = match hash {
            Hash::Sha256 => &signature::RSA_PKCS1_SHA256,
            Hash::Sha384 => &signature::RSA_PKCS1_SHA384,
            Hash::Sha512 => &signature::RSA_PKCS1_SHA512,
            Hash::Sha1 => return Err("signing with sha1 is not supported".into()),
        };
        let mut out = vec![0; pair.public().modulus_len()];
        let signed = pair.sign(encoding, &random, text, &mut out);
        return signed.map(|()| out).map_err(|_| "the text cannot be signed".to_owned());
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key) {
        return Ok(pair.sign(text).as_ref().to_vec());
    }
    let curves: [(Hash, &'static EcdsaSigningAlgorithm); 2] = [
        (Hash::Sha256, &signature::ECDSA_P256_SHA256_ASN1_SIGNING),
        (Hash::Sha384, &signature::ECDSA_P384_SHA384_ASN1_SIGNING),
    ];
    let pair = curves
        .into_iter()
        .filter(|(signs, _)| *signs == hash)
        .find_map(|(_, algorithm)| EcdsaKeyPair::from_pkcs8(algorithm, key, &random).ok());
    let pair = pair.ok_or("the private key cannot be used with this hash function")?;
    let signed = pair.sign(&random, text);
    signed.map(|signed| signed.as_ref().to_vec()).map_err(|_| "the text cannot be signed".into())
}

// === impl Hash ===

impl Hash {
    fn named(name: &str) -> Result<Self, String> {
        match name.to_ascii_lowercase().as_str() {
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha384" => Ok(Self::Sha384),
            "sha512" => Ok(Self::Sha512),
            _ => Err(format!("{} is not supported.", name.escape_default())),
        }
    }
}
