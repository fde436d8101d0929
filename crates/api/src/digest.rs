//! Content digests.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// Characters of a SHA-256 in hexadecimal.
const SHA256_HEX_LEN: usize = 64;

/// SHA-256 of some bytes; displayed as `sha256:HEX` with 64 lower-case digits.
///
/// Source: OCI image specification, "Digests"; `WasmPlugin.sha256` is the bare hexadecimal form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    hex: String,
}

/// Why a text is not a [`Digest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Another algorithm than SHA-256.
    #[error("digest algorithm `{algorithm}` is not supported, only `sha256` is")]
    Algorithm {
        /// What stands before the colon.
        algorithm: String,
    },
    /// Too few or too many digits.
    #[error("a sha256 has 64 hexadecimal digits, this one has {length} characters")]
    Length {
        /// Characters after the algorithm.
        length: usize,
    },
    /// Something else than `0` to `9` and `a` to `f`.
    #[error("a sha256 consists of the digits `0` to `9` and `a` to `f`, found `{found}`")]
    Character {
        /// The first character that is none.
        found: char,
    },
}

// === impl Digest ===

impl Digest {
    /// Computes the digest of `bytes`.
    pub fn sha256_of(bytes: &[u8]) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut hex = String::with_capacity(SHA256_HEX_LEN);
        for byte in Sha256::digest(bytes) {
            hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
            hex.push(char::from(DIGITS[usize::from(byte & 0x0f)]));
        }
        Self { hex }
    }

    /// The 64 lower-case hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    /// Accepts `sha256:HEX` and the bare `HEX`; upper-case digits are refused, as Istio and OCI do.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = match text.split_once(':') {
            None => text,
            Some(("sha256", hex)) => hex,
            Some((algorithm, _)) => {
                return Err(DigestError::Algorithm { algorithm: algorithm.to_owned() });
            }
        };
        let length = hex.chars().count();
        if length != SHA256_HEX_LEN {
            return Err(DigestError::Length { length });
        }
        match hex.chars().find(|c| !matches!(c, '0'..='9' | 'a'..='f')) {
            Some(found) => Err(DigestError::Character { found }),
            None => Ok(Self { hex: hex.to_owned() }),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl DigestError ===

impl DigestError {
    /// What the author can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Character { found: 'A'..='F' } => Some("write the digits in lower case".into()),
            Self::Length { .. } => Some("`sha256sum FILE` prints the right text".into()),
            Self::Character { .. } | Self::Algorithm { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4 example: the digest of no bytes at all.
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_bytes_is_sha256() {
        assert_eq!(Digest::sha256_of(b"").hex(), EMPTY);
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::sha256_of(b"abc").to_string(), format!("sha256:{abc}"));
    }

    #[test]
    fn both_spellings_are_the_same_digest() {
        let bare: Digest = EMPTY.parse().unwrap();
        let prefixed: Digest = format!("sha256:{EMPTY}").parse().unwrap();
        assert_eq!(bare, prefixed);
        assert_eq!(bare, Digest::sha256_of(b""));
    }

    #[test]
    fn malformed_digests_are_refused_with_the_reason() {
        let upper = EMPTY.to_uppercase();
        let rows = [
            ("", DigestError::Length { length: 0 }),
            ("01ba47", DigestError::Length { length: 6 }),
            (&EMPTY[1..], DigestError::Length { length: 63 }),
            (&format!("{EMPTY}0"), DigestError::Length { length: 65 }),
            (&upper, DigestError::Character { found: 'E' }),
            (&"é".repeat(64), DigestError::Character { found: 'é' }),
            ("sha512:00", DigestError::Algorithm { algorithm: "sha512".into() }),
            ("sha256:", DigestError::Length { length: 0 }),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse::<Digest>(), Err(expected), "{text:?}");
        }
    }
}
