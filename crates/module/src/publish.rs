//! Pushes images to a registry and signs them there.
//!
//! Source: OCI Distribution Specification 1.1, "Push".

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use reqwest::header::LOCATION;
use wasmplug_api::{Digest, ImageReference, ModuleUrl};

use crate::{
    archive::layers_of,
    auth::RegistryCredentials,
    error::FetchError,
    fetch::oci::{Session, Site, manifest_bytes},
    pack::PackedImage,
    progress::Progress,
    signature::{SignError, SigningKey, payload},
    store::ModuleStore,
    transport::{Body, Call},
};

/// Why an image could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignImageError {
    /// The registry did not give the image or take the signature.
    #[error(transparent)]
    Registry(#[from] FetchError),
    /// The key could not be used.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// A signature that was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushedSignature {
    /// The digest that was signed: that of the index, where there is one.
    pub image: Digest,
    /// Where the signature lies, as a reference.
    pub place: String,
}

// === impl ModuleStore ===

impl ModuleStore {
    /// Pushes an image and returns the digest of its manifest.
    ///
    /// What the registry has already is not sent again. Nothing of the cache is touched.
    ///
    /// # Errors
    ///
    /// Those of connections, credentials and statuses; the tag is moved last, so that a failure
    /// leaves it where it was.
    pub async fn push(
        &self,
        reference: &ImageReference,
        image: &PackedImage,
        credentials: Option<&RegistryCredentials>,
        progress: &Progress,
    ) -> Result<Digest, FetchError> {
        let tag = reference.tag.as_deref().unwrap_or("latest").to_owned();
        let mut session = self.session(reference, credentials, progress)?;
        self.within_time(session.url(), progress, push(&mut session, image, &tag)).await?;
        Ok(image.digest())
    }

    /// Signs the image that a reference points at now, beside the signatures that it has.
    ///
    /// # Errors
    ///
    /// Every variant of [`SignImageError`].
    pub async fn sign(
        &self,
        reference: &ImageReference,
        key: &SigningKey,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<PushedSignature, SignImageError> {
        let progress = Progress::default();
        let mut session = self.session(reference, credentials, &progress)?;
        let url = session.url();
        let name = reference.manifest_name();
        let found = manifest_bytes(&mut session, &name, reference.digest.as_ref());
        let (image, _) = self.within_time(url.clone(), &progress, found).await?;
        let payload = Bytes::from(payload(reference, &image));
        let signature = STANDARD.encode(key.sign(&payload)?);
        let tag = format!("sha256-{}.sig", image.hex());
        let present = manifest_bytes(&mut session, &tag, None);
        let present = match self.within_time(url.clone(), &progress, present).await {
            Ok((_, bytes)) => layers_of(&bytes),
            Err(FetchError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let packed = PackedImage::of_signature(&payload, &signature, &present);
        self.within_time(url, &progress, push(&mut session, &packed, &tag)).await?;
        let place = format!("{}/{}:{tag}", reference.registry, reference.repository);
        Ok(PushedSignature { image, place })
    }

    /// Requests to exactly this repository, whatever mirrors there are.
    pub(crate) fn session<'a>(
        &'a self,
        reference: &ImageReference,
        credentials: Option<&'a RegistryCredentials>,
        progress: &Progress,
    ) -> Result<Session<'a>, FetchError> {
        let (transport, options) = self.transport();
        let site = Site { transport, options, progress: progress.clone() };
        let url = ModuleUrl::Oci(reference.clone()).to_string();
        Session::new(site, url, reference, credentials)
    }

    pub(crate) async fn within_time<T>(
        &self,
        url: String,
        progress: &Progress,
        work: impl Future<Output = Result<T, FetchError>>,
    ) -> Result<T, FetchError> {
        let limit = self.transport().1.fetch_timeout;
        tokio::select! {
            biased;
            done = work => done,
            () = progress.exhausted(limit) => Err(FetchError::TimedOut { url, limit }),
        }
    }
}

/// Blobs first, then the manifest, which moves the tag.
async fn push(session: &mut Session<'_>, image: &PackedImage, tag: &str) -> Result<(), FetchError> {
    for blob in &image.blobs {
        push_blob(session, blob).await?;
    }
    let body = Body::Put(image.manifest.clone(), PackedImage::media_type().to_owned());
    let answer = session
        .exchange(|session| Call { body: body.clone(), ..session.call(&["manifests", tag], None) })
        .await?;
    session.accept(answer, &[200, 201, 202]).map(drop)
}

async fn push_blob(session: &mut Session<'_>, blob: &Bytes) -> Result<(), FetchError> {
    let digest = Digest::sha256_of(blob).to_string();
    let path = ["blobs", digest.as_str()];
    let present =
        session.exchange(|session| Call { body: Body::Head, ..session.call(&path, None) }).await?;
    if present.status().as_u16() == 200 {
        return Ok(());
    }
    let path = ["blobs", "uploads", ""];
    let begun =
        session.exchange(|session| Call { body: Body::Post, ..session.call(&path, None) }).await?;
    let begun = session.accept(begun, &[202])?;
    let location = begun.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let location = location.unwrap_or_default().to_owned();
    let url = session.url();
    let no_place = || FetchError::Redirect {
        url: url.clone(),
        source: crate::error::RedirectRefused::Location,
    };
    session.call_to(&location).ok_or_else(no_place)?;
    let body = Body::Put(blob.clone(), "application/octet-stream".to_owned());
    let answer = session
        .exchange(|session| {
            let mut call = session.call_to(&location).unwrap_or_else(|| session.call(&[], None));
            call.url.query_pairs_mut().append_pair("digest", &digest);
            Call { body: body.clone(), ..call }
        })
        .await?;
    session.accept(answer, &[201, 202, 204]).map(drop)
}
