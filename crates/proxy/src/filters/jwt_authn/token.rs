//! A token, taken apart but not yet believed.

use serde_json::{Map, Value};

use super::encoding::decode;
use super::json;
use super::status::Status;

/// Longest token in bytes; a longer one is none. Source: ours; no client's head is that long.
const MAX_BYTES: usize = 1 << 20;
/// How far the clocks of issuer and proxy may be apart, in seconds. Source: Envoy.
const CLOCK_SKEW_SECONDS: u64 = 60;

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Es256,
    Es384,
    Es512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Hs256,
    Hs384,
    Hs512,
    EdDsa,
}

/// A token, taken apart.
pub(super) struct Token {
    /// What is signed: the first two parts as they came.
    signed: Vec<u8>,
    /// Where the payload begins in it.
    payload_at: usize,
    pub(super) algorithm: Algorithm,
    /// Empty if it names no key.
    pub(super) kid: String,
    /// Empty if it has none.
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    /// Seconds since 1970; 0 for always.
    not_before: u64,
    /// Seconds since 1970; 0 for never.
    expires: u64,
    pub(super) claims: Map<String, Value>,
    pub(super) signature: Vec<u8>,
}

// === impl Algorithm ===

impl Algorithm {
    const ALL: [(&'static str, Self); 13] = [
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("ES512", Self::Es512),
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
        ("EdDSA", Self::EdDsa),
    ];

    /// Source: RFC 7518, 3.1; RFC 8037. `none` is none.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }
}

// === impl Token ===

impl Token {
    /// Takes a token apart. Parts that are empty count for nothing, as in Envoy.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Status> {
        if text.len() > MAX_BYTES {
            return Err(Status::BadFormat);
        }
        let mut parts = text.split(|byte| *byte == b'.').filter(|part| !part.is_empty());
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Status::BadFormat);
        };
        let header_text = decode(header).ok_or(Status::HeaderNotBase64)?;
        let fields = json::object(&header_text).ok_or(Status::HeaderNotJson)?;
        let alg = string(&fields, "alg", Status::HeaderBadAlg)?.ok_or(Status::HeaderBadAlg)?;
        let algorithm = Algorithm::from_name(alg).ok_or(Status::HeaderUnknownAlg)?;
        let kid = string(&fields, "kid", Status::HeaderBadKid)?.unwrap_or_default().to_owned();

        let payload_text = decode(payload).ok_or(Status::PayloadNotBase64)?;
        let claims = json::object(&payload_text).ok_or(Status::PayloadNotJson)?;
        let issuer =
            string(&claims, "iss", Status::IssuerNotString)?.unwrap_or_default().to_owned();
        string(&claims, "sub", Status::SubjectNotString)?;
        seconds(&claims, "iat", Status::IssuedAtNotInteger, Status::IssuedAtOutOfRange)?;
        let not_before =
            seconds(&claims, "nbf", Status::NotBeforeNotInteger, Status::NotBeforeOutOfRange)?;
        let expires =
            seconds(&claims, "exp", Status::ExpiresNotInteger, Status::ExpiresOutOfRange)?;
        string(&claims, "jti", Status::IdNotString)?;
        let audiences = audiences(&claims)?;
        let signature = decode(signature).ok_or(Status::SignatureNotBase64)?;
        let signed = [header, payload].join(&b'.');
        let payload_at = header.len().saturating_add(1);
        Ok(Self {
            signed,
            payload_at,
            algorithm,
            kid,
            issuer,
            audiences,
            not_before,
            expires,
            claims,
            signature,
        })
    }

    /// What the signature is about.
    pub(super) fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// The payload as it came, in base64url.
    pub(super) fn payload(&self) -> &[u8] {
        self.signed.get(self.payload_at..).unwrap_or_default()
    }

    /// Whether it is time for the token; `now` is in seconds since 1970.
    pub(super) fn check_time(&self, now: u64) -> Result<(), Status> {
        if now.saturating_add(CLOCK_SKEW_SECONDS) < self.not_before {
            return Err(Status::NotYetValid);
        }
        if self.expires != 0 && now > self.expires.saturating_add(CLOCK_SKEW_SECONDS) {
            return Err(Status::Expired);
        }
        Ok(())
    }
}

/// A field that is a string if it is there.
fn string<'a>(
    fields: &'a Map<String, Value>,
    name: &str,
    otherwise: Status,
) -> Result<Option<&'a str>, Status> {
    fields.get(name).map(|value| value.as_str().ok_or(otherwise)).transpose()
}

/// A point in time; 0 if it is not there. Source: Envoy reads a double and cuts its fraction.
fn seconds(
    claims: &Map<String, Value>,
    name: &str,
    not_integer: Status,
    out_of_range: Status,
) -> Result<u64, Status> {
    let Some(value) = claims.get(name) else { return Ok(0) };
    let number = value.as_f64().ok_or(not_integer)?;
    #[expect(clippy::cast_precision_loss, reason = "the bound is a double in Envoy, too")]
    if number < 0.0 || number >= u64::MAX as f64 {
        return Err(out_of_range);
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is in range")]
    Ok(number as u64)
}

fn audiences(claims: &Map<String, Value>) -> Result<Vec<String>, Status> {
    match claims.get("aud") {
        None => Ok(Vec::new()),
        Some(Value::String(one)) => Ok(vec![one.clone()]),
        Some(Value::Array(several)) => several
            .iter()
            .map(|one| one.as_str().map(str::to_owned).ok_or(Status::AudienceNotStrings))
            .collect(),
        Some(_) => Err(Status::AudienceNotStrings),
    }
}

#[cfg(test)]
mod tests;
