//! JSON Web Tokens for tests: keys made on the spot, tokens signed with every usual algorithm.
//!
//! The RSA key is the exception: making one takes seconds, so that one is fixed. It was made for
//! these tests, protects nothing, and must never be trusted anywhere.

#![expect(clippy::missing_panics_doc, reason = "only a machine without random numbers panics")]

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use p521::ecdsa::signature::Signer as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaEncoding, RsaKeyPair,
};
use ring::{hmac, rsa};
use serde_json::{Value, json};

/// PKCS#8 of the key of [`Key::rsa`], of 2048 bits, made with OpenSSL for these tests alone.
pub const TEST_ONLY_RSA_KEY: &[u8] = include_bytes!("jwt/test_only_rsa_key.der");

/// A private key that signs tokens, and its public half as a JSON Web Key.
pub struct Key {
    kid: Option<String>,
    /// What tokens say about it, and what it signs with unless told otherwise.
    alg: &'static str,
    /// Whether the JSON Web Key names the algorithm.
    names_alg: bool,
    secret: Secret,
}

enum Secret {
    Ecdsa { pair: EcdsaKeyPair, curve: &'static str },
    P521(Box<p521::ecdsa::SigningKey>),
    Rsa(Box<RsaKeyPair>),
    Ed25519(Ed25519KeyPair),
    Hmac(Vec<u8>),
}

// === impl Key ===

impl Key {
    /// A new key on P-256 for ES256.
    pub fn es256() -> Self {
        Self::ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "ES256", "P-256")
    }

    /// A new key on P-384 for ES384.
    pub fn es384() -> Self {
        Self::ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "ES384", "P-384")
    }

    /// A new key on P-521 for ES512.
    pub fn es512() -> Self {
        loop {
            let mut scalar: [u8; 66] = random();
            // The order of the curve has 521 bits; a number above it is thrown away.
            scalar[0] &= 1;
            if let Ok(key) = p521::ecdsa::SigningKey::from_slice(&scalar) {
                return Self::new("ES512", Secret::P521(Box::new(key)));
            }
        }
    }

    /// The fixed RSA key, for RS256 and, with [`Self::with_alg`], for the other five.
    pub fn rsa() -> Self {
        let pair = RsaKeyPair::from_pkcs8(TEST_ONLY_RSA_KEY).expect("the file is an RSA key");
        Self::new("RS256", Secret::Rsa(Box::new(pair)))
    }

    /// A new Ed25519 key.
    pub fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("random numbers");
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).expect("it was just made");
        Self::new("EdDSA", Secret::Ed25519(pair))
    }

    /// A new secret that both sides have, for HS256 and, with [`Self::with_alg`], for HS384 and
    /// HS512.
    pub fn hmac() -> Self {
        Self::new("HS256", Secret::Hmac(random::<64>().to_vec()))
    }

    fn ecdsa(
        algorithm: &'static EcdsaSigningAlgorithm,
        alg: &'static str,
        curve: &'static str,
    ) -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("random numbers");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random);
        Self::new(alg, Secret::Ecdsa { pair: pair.expect("it was just made"), curve })
    }

    fn new(alg: &'static str, secret: Secret) -> Self {
        Self { kid: None, alg, names_alg: false, secret }
    }

    /// The same key with an id, which its tokens carry.
    #[must_use]
    pub fn with_kid(self, kid: &str) -> Self {
        Self { kid: Some(kid.to_owned()), ..self }
    }

    /// The same key with another algorithm of its kind.
    #[must_use]
    pub fn with_alg(self, alg: &'static str) -> Self {
        Self { alg, ..self }
    }

    /// Names the algorithm in the JSON Web Key as well. Default: it is left open.
    #[must_use]
    pub fn naming_alg(self) -> Self {
        Self { names_alg: true, ..self }
    }

    /// The algorithm that its tokens name.
    pub fn alg(&self) -> &'static str {
        self.alg
    }

    /// What verifies its signatures, as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.secret.jwk();
        if let Some(kid) = &self.kid {
            jwk["kid"] = Value::from(kid.as_str());
        }
        if self.names_alg {
            jwk["alg"] = Value::from(self.alg);
        }
        jwk
    }

    /// A token with these claims, signed.
    pub fn token(&self, claims: &Value) -> String {
        self.token_of(&self.header(), claims.to_string().as_bytes())
    }

    /// What a token of this key has for a header.
    pub fn header(&self) -> Value {
        let mut header = json!({ "alg": self.alg, "typ": "JWT" });
        if let Some(kid) = &self.kid {
            header["kid"] = Value::from(kid.as_str());
        }
        header
    }

    /// A token with any header and any bytes for a payload, signed.
    pub fn token_of(&self, header: &Value, payload: &[u8]) -> String {
        self.token_of_parts(&encode(header.to_string()), &encode(payload))
    }

    /// A token whose first two parts are these texts, signed.
    pub fn token_of_parts(&self, header: &str, payload: &str) -> String {
        let signed = format!("{header}.{payload}");
        let signature = self.sign(signed.as_bytes());
        format!("{signed}.{}", encode(signature))
    }

    /// Signs bytes as the algorithm of this key does.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.secret {
            Secret::Ecdsa { pair, .. } => {
                pair.sign(&random, message).expect("random numbers").as_ref().to_vec()
            }
            Secret::P521(key) => {
                let signature: p521::ecdsa::Signature = key.sign(message);
                signature.to_bytes().to_vec()
            }
            Secret::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let padding = rsa_padding(self.alg);
                pair.sign(padding, &random, message, &mut signature)
                    .expect("the key is long enough");
                signature
            }
            Secret::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Secret::Hmac(secret) => {
                let key = hmac::Key::new(hmac_algorithm(self.alg), secret);
                hmac::sign(&key, message).as_ref().to_vec()
            }
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("alg", &self.alg)
            .finish_non_exhaustive()
    }
}

// === impl Secret ===

impl Secret {
    fn jwk(&self) -> Value {
        match self {
            Self::Ecdsa { pair, curve } => ec_jwk(curve, pair.public_key().as_ref()),
            Self::P521(key) => ec_jwk("P-521", key.verifying_key().to_sec1_point(false).as_bytes()),
            Self::Rsa(pair) => {
                let public: rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                json!({ "kty": "RSA", "n": encode(public.n), "e": encode(public.e) })
            }
            Self::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key()) })
            }
            Self::Hmac(secret) => json!({ "kty": "oct", "k": encode(secret) }),
        }
    }
}

/// A set of the public halves of these keys, as text.
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a Key>) -> String {
    json!({ "keys": keys.into_iter().map(Key::jwk).collect::<Vec<Value>>() }).to_string()
}

/// Base64url without padding, as all parts of a token have it.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The JSON Web Key of an uncompressed point.
fn ec_jwk(curve: &str, point: &[u8]) -> Value {
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
}

fn rsa_padding(alg: &str) -> &'static dyn RsaEncoding {
    match alg {
        "RS256" => &RSA_PKCS1_SHA256,
        "RS384" => &RSA_PKCS1_SHA384,
        "RS512" => &RSA_PKCS1_SHA512,
        "PS256" => &RSA_PSS_SHA256,
        "PS384" => &RSA_PSS_SHA384,
        "PS512" => &RSA_PSS_SHA512,
        other => panic!("`{other}` is not an algorithm of an RSA key"),
    }
}

fn hmac_algorithm(alg: &str) -> hmac::Algorithm {
    match alg {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        "HS512" => hmac::HMAC_SHA512,
        other => panic!("`{other}` is not an algorithm of a shared secret"),
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("random numbers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Key, encode, jwks};
    use serde_json::{Value, json};

    #[test]
    fn a_token_has_three_parts_and_names_key_and_algorithm() {
        let key = Key::es256().with_kid("a");
        let token = key.token(&json!({ "iss": "me" }));
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[0], encode(key.header().to_string()));
        assert_eq!(key.header(), json!({ "alg": "ES256", "typ": "JWT", "kid": "a" }));
        assert_eq!(parts[1], encode(r#"{"iss":"me"}"#));
    }

    #[test]
    fn every_kind_of_key_signs_and_shows_its_public_half() {
        let keys = [
            (Key::es256(), "EC", 64),
            (Key::es384(), "EC", 96),
            (Key::es512(), "EC", 132),
            (Key::rsa().with_alg("PS512"), "RSA", 256),
            (Key::ed25519(), "OKP", 64),
            (Key::hmac().with_alg("HS384"), "oct", 48),
        ];
        for (key, kty, length) in &keys {
            assert_eq!(key.jwk()["kty"], *kty);
            assert_eq!(key.sign(b"x").len(), *length, "{key:?}");
        }
        let set: Value = serde_json::from_str(&jwks(keys.iter().map(|(key, ..)| key))).unwrap();
        assert_eq!(set["keys"].as_array().map(Vec::len), Some(6));
    }

    #[test]
    fn the_algorithm_is_in_the_public_half_only_if_asked_for() {
        assert!(Key::es256().jwk().get("alg").is_none());
        assert_eq!(Key::rsa().with_alg("PS256").naming_alg().jwk()["alg"], "PS256");
    }
}
