//! Finds the signatures of an image: where cosign puts them, in all of its generations.
//!
//! Source: sigstore/cosign, "Signature Specification", "Storage"; OCI Distribution Specification
//! 1.1, "Listing Referrers" and "Referrers Tag Schema".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use wasmplug_api::Digest;

use super::{OciFetcher, read_body};
use crate::{
    error::FetchError,
    fetch::FoundSignatures,
    image::{Document, SIMPLE_SIGNING, SignatureLayer},
    signature::{Evidence, Form},
};

/// Largest signed payload or bundle, in bytes.
const MAX_SIGNATURE_BYTES: u64 = 256 * 1024;
/// Most signatures of one image that are looked at, by each of the ways to find them.
const MAX_SIGNATURES: usize = 16;
/// What a list of referrers is asked for as.
const ACCEPTED_INDEX: &str = "application/vnd.oci.image.index.v1+json";

// === impl OciFetcher ===

impl OciFetcher<'_> {
    /// Every signature of the image with this digest, under every scheme.
    pub(crate) async fn find_signatures(
        &mut self,
        subject: &Digest,
        found: &mut FoundSignatures,
    ) -> Result<(), FetchError> {
        let tag = format!("sha256-{}.sig", subject.hex());
        let place = self.place(&format!(":{tag}"));
        if let Some((_, document)) = absent(self.document(&tag, None).await)? {
            self.take(document, &place, found).await?;
        }
        found.looked.push(place);
        let place = format!("referrers of {subject}");
        for digest in self.referrers(subject).await? {
            let name = digest.to_string();
            if let Some((_, document)) = absent(self.document(&name, Some(&digest)).await)? {
                let place = self.place(&format!("@{digest}"));
                self.take(document, &place, found).await?;
            }
        }
        found.looked.push(place);
        Ok(())
    }

    /// The artifacts that refer to an image and may be signatures of it.
    async fn referrers(&mut self, subject: &Digest) -> Result<Vec<Digest>, FetchError> {
        let path = ["referrers", &subject.to_string()];
        let listed = match self.session.get(&path, Some(ACCEPTED_INDEX), false).await {
            Ok(answer) => {
                let errand = self.session.errand();
                let body = read_body(errand, "list", answer, super::MAX_MANIFEST_BYTES).await?;
                // A registry that does not know the question may answer anything.
                Document::parse(&body).ok()
            }
            Err(error) if is_unknown(&error) => None,
            Err(error) => return Err(error),
        };
        let listed = match listed {
            Some(document) => Some(document),
            None => {
                let tag = format!("sha256-{}", subject.hex());
                absent(self.document(&tag, None).await)?.map(|(_, document)| document)
            }
        };
        Ok(match listed {
            Some(Document::Index(entries)) => {
                let signatures = entries.iter().filter(|entry| entry.may_be_signature());
                signatures.filter_map(|it| it.digest().ok()).take(MAX_SIGNATURES).collect()
            }
            _ => Vec::new(),
        })
    }

    /// Takes the signatures out of an image of them.
    async fn take(
        &mut self,
        document: Document,
        place: &str,
        found: &mut FoundSignatures,
    ) -> Result<(), FetchError> {
        let Document::Image(image) = document else { return Ok(()) };
        for layer in image.signature_layers().take(MAX_SIGNATURES) {
            let SignatureLayer { digest, media_type, signature } = layer;
            let payload = self.blob(&digest, "signature", MAX_SIGNATURE_BYTES).await?;
            let form = if media_type == SIMPLE_SIGNING {
                Form::SimpleSigning { payload: STANDARD.encode(payload), signature }
            } else {
                Form::Bundle(String::from_utf8_lossy(&payload).into_owned())
            };
            found.evidence.push(Evidence { place: place.to_owned(), form });
        }
        Ok(())
    }

    /// What stands behind the repository, as a reference.
    fn place(&self, rest: &str) -> String {
        format!("{}/{}{rest}", self.reference.registry, self.reference.repository)
    }
}

/// Tells what is not there from what cannot be had.
fn absent<T>(result: Result<T, FetchError>) -> Result<Option<T>, FetchError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(FetchError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a registry does not know the question.
fn is_unknown(error: &FetchError) -> bool {
    match error {
        FetchError::NotFound { .. } => true,
        FetchError::Status { status, .. } => matches!(status, 400 | 405 | 406),
        _ => false,
    }
}
