//! Is a module signed by somebody who is trusted to.
//!
//! *Evidence* is a signature as it was found; it counts if it is about the image or the module at
//! hand, and one of the keys made it. Images are signed as cosign signs them with a key: in a
//! second image under the tag `sha256-HEX.sig`, or in an artifact that refers to the image. Files
//! and downloads are signed by a file beside them, `URL.sig`.

mod claim;
mod key;
mod policy;
mod sign;
#[cfg(test)]
mod tests;

use wasmplug_api::Digest;

pub(crate) use self::{
    claim::{Evidence, Form, Subject},
    sign::payload,
};
pub use self::{
    key::{KeyError, VerificationKeys},
    policy::{PolicyError, SignaturePolicy},
    sign::{SignError, SigningKey, SigningKeyError},
};

/// A signature that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedSignature {
    /// Where it was found.
    pub place: String,
    /// The key that made it, see [`VerificationKeys::fingerprints`].
    pub key: Digest,
}

/// Why none of the signatures of a module counts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("it is not signed: there is nothing at `{}`", .looked.join("` or `"))]
    None {
        /// Where signatures were looked for.
        looked: Vec<String>,
    },
    /// There are some.
    #[error("it has no signature that counts: {}", list(.found))]
    NoneCounts {
        /// Each of them, and why not.
        found: Vec<(String, Rejection)>,
    },
    /// The key in the resource cannot be used.
    #[error("the verification key cannot be used")]
    Key(#[source] KeyError),
    /// The policy of this process says nothing about this module.
    #[error("signatures are required, and the policy names no key for it")]
    NoRule,
}

/// Why one signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// It is about something else.
    #[error("it is for {}", quoted(.named))]
    Subject {
        /// The digests that it names.
        named: Vec<String>,
    },
    /// It says something else than that its author signed this.
    #[error("it is not a signature but says `{purpose}`")]
    Purpose {
        /// The type of its claim.
        purpose: String,
    },
    /// It was made by another key, or of other bytes.
    #[error("none of the keys made it, or what was signed has changed since")]
    Key,
    /// It is of bytes, where the digest of an image should be signed.
    #[error("it signs bytes, not this image")]
    OfBytes,
    /// It cannot be read.
    #[error("it is malformed")]
    Malformed,
}

/// Checks each piece of evidence until one counts.
pub(crate) fn verify(
    evidence: &[Evidence],
    keys: &VerificationKeys,
    subject: Subject<'_>,
) -> Result<(Evidence, VerifiedSignature), Vec<(String, Rejection)>> {
    let mut found = Vec::new();
    for one in evidence {
        match one.check(keys, subject) {
            Ok(key) => {
                let verified = VerifiedSignature { place: one.place.clone(), key: key.clone() };
                return Ok((one.clone(), verified));
            }
            Err(rejection) => found.push((one.place.clone(), rejection)),
        }
    }
    Err(found)
}

// === impl SignatureError ===

impl SignatureError {
    /// What may help, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::None { .. } => Some("sign it with `wasmplug sign`, or remove the key".into()),
            Self::NoneCounts { .. } => None,
            Self::Key(error) => error.hint().map(str::to_owned),
            Self::NoRule => {
                Some("add a rule for it to the policy, or set `verificationKey`".into())
            }
        }
    }
}

fn list(found: &[(String, Rejection)]) -> String {
    let each = found.iter().map(|(place, why)| format!("`{place}`: {why}"));
    each.collect::<Vec<_>>().join("; ")
}

fn quoted(digests: &[String]) -> String {
    match digests {
        [] => "nothing".to_owned(),
        some => format!("`{}`", some.join("`, `")),
    }
}
