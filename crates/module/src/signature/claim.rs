//! What a signature claims to be about: the forms that signatures of images have.
//!
//! Nothing here trusts anything: a claim is read first, and counts only if it is about the module
//! at hand and a key made its signature.
//!
//! Source: sigstore/cosign, "Signature Specification" (simple signing); sigstore,
//! `bundle/v1/sigstore_bundle.proto`; in-toto, "Statement"; secure-systems-lab, "DSSE".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use wasmplug_api::Digest;

use super::{Rejection, VerificationKeys};

/// What `critical.type` of a simple signing payload must be.
pub(super) const SIMPLE_SIGNING_TYPE: &str = "cosign container image signature";
/// Statements that say "I signed this"; others are attestations about something else.
const SIGNATURE_PREDICATE: &str = "https://sigstore.dev/cosign/sign/v1";
/// The only payload of an envelope that is understood.
const IN_TOTO_PAYLOAD: &str = "application/vnd.in-toto+json";
/// Signatures in one envelope that are looked at.
const MAX_ENVELOPE_SIGNATURES: usize = 16;

/// A signature as it was found, before anybody believed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Evidence {
    /// Where it was found, for people.
    pub(crate) place: String,
    pub(crate) form: Form,
}

/// The forms of evidence; bytes are in base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Form {
    /// A payload that names the digest of a manifest, and its signature.
    SimpleSigning { payload: String, signature: String },
    /// A sigstore bundle, as JSON.
    Bundle(String),
    /// A signature of the module itself.
    Detached(String),
}

/// What a signature has to be about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    /// The module, once it is there.
    pub(crate) module: Option<(&'a Digest, &'a [u8])>,
    pub(crate) manifest: Option<&'a Digest>,
    pub(crate) index: Option<&'a Digest>,
}

#[derive(Deserialize)]
struct SimpleSigning {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: CriticalImage,
    #[serde(rename = "type")]
    type_: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct CriticalImage {
    docker_manifest_digest: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    dsse_envelope: Option<Envelope>,
    message_signature: Option<MessageSignature>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    sig: String,
}

#[derive(Deserialize)]
struct MessageSignature {
    signature: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statement {
    predicate_type: String,
    #[serde(default)]
    subject: Vec<StatementSubject>,
}

#[derive(Deserialize)]
struct StatementSubject {
    digest: StatementDigest,
}

#[derive(Deserialize)]
struct StatementDigest {
    #[serde(default)]
    sha256: String,
}

// === impl Evidence ===

impl Evidence {
    /// The key that made the signature, if it is about the subject.
    pub(super) fn check<'k>(
        &self,
        keys: &'k VerificationKeys,
        subject: Subject<'_>,
    ) -> Result<&'k Digest, Rejection> {
        match &self.form {
            Form::SimpleSigning { payload, signature } => {
                let payload = decode(payload)?;
                let simple: SimpleSigning =
                    serde_json::from_slice(&payload).map_err(|_| Rejection::Malformed)?;
                if simple.critical.type_ != SIMPLE_SIGNING_TYPE {
                    return Err(Rejection::Purpose { purpose: shorten(&simple.critical.type_) });
                }
                let named = simple.critical.image.docker_manifest_digest;
                if !subject.is_image(&named) {
                    return Err(Rejection::Subject { named: vec![shorten(&named)] });
                }
                keys.signer(&payload, &decode(signature)?).ok_or(Rejection::Key)
            }
            Form::Bundle(json) => {
                let bundle: Bundle =
                    serde_json::from_str(json).map_err(|_| Rejection::Malformed)?;
                match (bundle.dsse_envelope, bundle.message_signature) {
                    (Some(envelope), None) => envelope.check(keys, subject),
                    (None, Some(message)) => subject.signed(keys, &message.signature),
                    _ => Err(Rejection::Malformed),
                }
            }
            Form::Detached(signature) => subject.signed(keys, signature),
        }
    }
}

// === impl Envelope ===

impl Envelope {
    fn check<'k>(
        &self,
        keys: &'k VerificationKeys,
        subject: Subject<'_>,
    ) -> Result<&'k Digest, Rejection> {
        if self.payload_type != IN_TOTO_PAYLOAD {
            return Err(Rejection::Purpose { purpose: shorten(&self.payload_type) });
        }
        let payload = decode(&self.payload)?;
        let statement: Statement =
            serde_json::from_slice(&payload).map_err(|_| Rejection::Malformed)?;
        if statement.predicate_type != SIGNATURE_PREDICATE {
            return Err(Rejection::Purpose { purpose: shorten(&statement.predicate_type) });
        }
        let named: Vec<String> =
            statement.subject.iter().map(|it| format!("sha256:{}", it.digest.sha256)).collect();
        if !named.iter().any(|digest| subject.is_named(digest)) {
            let named = named.iter().take(4).map(|digest| shorten(digest)).collect();
            return Err(Rejection::Subject { named });
        }
        let signed = pre_authentication(&self.payload_type, &payload);
        let signatures = self.signatures.iter().take(MAX_ENVELOPE_SIGNATURES);
        let decoded: Vec<Vec<u8>> = signatures.filter_map(|it| decode(&it.sig).ok()).collect();
        decoded.iter().find_map(|it| keys.signer(&signed, it)).ok_or(Rejection::Key)
    }
}

// === impl Subject ===

impl<'a> Subject<'a> {
    /// The digests by which evidence about it is kept.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &'a Digest> {
        [self.module.map(|(digest, _)| digest), self.manifest, self.index].into_iter().flatten()
    }

    fn is_image(&self, digest: &str) -> bool {
        let images = [self.manifest, self.index];
        images.into_iter().flatten().any(|image| image.to_string() == digest)
    }

    fn is_named(&self, digest: &str) -> bool {
        self.is_image(digest) || self.module.is_some_and(|(it, _)| it.to_string() == digest)
    }

    /// Checks a signature of the module's bytes.
    fn signed<'k>(
        &self,
        keys: &'k VerificationKeys,
        signature: &str,
    ) -> Result<&'k Digest, Rejection> {
        let Some((_, bytes)) = self.module else { return Err(Rejection::OfBytes) };
        keys.signer(bytes, &decode(signature)?).ok_or(Rejection::Key)
    }
}

/// What an envelope's signature is made of.
///
/// Source: DSSE, "Signature Definition".
pub(super) fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head =
        format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    [head.as_slice(), payload].concat()
}

fn decode(text: &str) -> Result<Vec<u8>, Rejection> {
    STANDARD.decode(text.trim()).map_err(|_| Rejection::Malformed)
}

/// A hostile text for an error message.
fn shorten(text: &str) -> String {
    text.chars().take(120).collect::<String>().escape_debug().to_string()
}
