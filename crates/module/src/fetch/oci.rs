//! A module in an image in a registry.
//!
//! Every byte is checked against a digest: the manifest against the reference or index, the layer
//! against the manifest. The client is our own because the address guard must sit behind name
//! resolution and every redirect, which existing clients do not let in.
//!
//! Source: OCI Distribution Specification 1.1, "Pull".

mod challenge;
mod session;
mod signatures;

use bytes::Bytes;
use reqwest::header::HeaderMap;
use wasmplug_api::{Digest, ImageReference};

pub(crate) use self::session::{Session, Site};
use super::{Fetcher, FoundSignatures, Identity, blocking, unpack};
use crate::{
    auth::RegistryCredentials,
    error::FetchError,
    image::{
        ACCEPTED_MANIFESTS, Document, ImageError, ImageManifest, IndexEntry, ModuleLayer, Packing,
    },
    options::StoreOptions,
    progress::Progress,
    transport::{Transport, read_body},
    unpack::{inflate, module_in_tar},
};

/// Largest manifest or index in bytes.
///
/// Source: the OCI Distribution Specification asks registries to accept at least this much.
const MAX_MANIFEST_BYTES: u64 = 4 * 1024 * 1024;
/// Header by which registries name the digest of what they send.
const CONTENT_DIGEST: &str = "docker-content-digest";

pub(crate) struct OciFetcher<'a> {
    session: Session<'a>,
    /// Where it is asked for.
    reference: ImageReference,
    url: String,
    limit: u64,
    /// What was fetched on the way from the reference to the module.
    parts: Vec<Bytes>,
}

// === impl OciFetcher ===

impl<'a> OciFetcher<'a> {
    pub(crate) fn new(
        transport: &'a Transport,
        options: &'a StoreOptions,
        url: String,
        reference: &ImageReference,
        credentials: Option<&'a RegistryCredentials>,
        progress: Progress,
    ) -> Result<Self, FetchError> {
        let site = Site { transport, options, progress };
        let reference = options.located(reference);
        let session = Session::new(site, url.clone(), &reference, credentials)?;
        Ok(Self { session, reference, url, limit: options.max_module_bytes, parts: Vec::new() })
    }

    /// A document on the way to the module.
    async fn part(
        &mut self,
        name: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Document), FetchError> {
        let (digest, body) = manifest_bytes(&mut self.session, name, expected).await?;
        let document = Document::parse(&body).map_err(|source| self.no_module(source))?;
        self.parts.push(body);
        Ok((digest, document))
    }

    async fn document(
        &mut self,
        name: &str,
        expected: Option<&Digest>,
    ) -> Result<(Digest, Document), FetchError> {
        let (actual, body) = manifest_bytes(&mut self.session, name, expected).await?;
        let document = Document::parse(&body).map_err(|source| self.no_module(source))?;
        Ok((actual, document))
    }

    async fn blob(
        &mut self,
        digest: &Digest,
        what: &'static str,
        limit: u64,
    ) -> Result<Bytes, FetchError> {
        blob_bytes(&mut self.session, digest, what, limit).await
    }

    pub(crate) fn session(&mut self) -> &mut Session<'a> {
        &mut self.session
    }

    /// The module's URL, for errors.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    fn no_module(&self, source: ImageError) -> FetchError {
        FetchError::Image { url: self.url.clone(), source }
    }
}

impl Fetcher for OciFetcher<'_> {
    type Located = ImageManifest;

    async fn locate(&mut self) -> Result<(Identity, ImageManifest), FetchError> {
        let reference = self.reference.clone();
        let name = reference.manifest_name();
        let (digest, document) = self.part(&name, reference.digest.as_ref()).await?;
        let (index, manifest, image) = match document {
            Document::Image(image) => (None, digest, image),
            Document::Index(entries) => {
                let child =
                    IndexEntry::choose(&entries).map_err(|source| self.no_module(source))?;
                match self.part(&child.to_string(), Some(&child)).await? {
                    (manifest, Document::Image(image)) => (Some(digest), manifest, image),
                    (_, Document::Index(_)) => {
                        return Err(self.no_module(ImageError::NestedIndex));
                    }
                }
            }
        };
        let private = self.session.is_private();
        Ok((Identity { manifest: Some(manifest), index, private }, image))
    }

    async fn signatures(&mut self, identity: &Identity) -> Result<FoundSignatures, FetchError> {
        let mut found = FoundSignatures::default();
        // A signature of an index speaks for all that it lists.
        for subject in [&identity.manifest, &identity.index].into_iter().flatten() {
            self.find_signatures(subject, &mut found).await?;
        }
        Ok(found)
    }

    async fn download(&mut self, image: ImageManifest) -> Result<Bytes, FetchError> {
        let ModuleLayer { digest, size, packing } =
            image.module_layer().map_err(|source| self.no_module(source))?;
        let limit = self.limit;
        if size > limit {
            return Err(FetchError::TooLarge { url: self.url.clone(), what: "layer", limit });
        }
        let layer = self.blob(&digest, "layer", limit).await?;
        match packing {
            Packing::Bare => Ok(layer),
            Packing::Tar(compression) => {
                self.parts.push(layer.clone());
                unpack(&self.url, move || {
                    module_in_tar(&inflate(&layer, compression, limit)?, limit)
                })
                .await
            }
        }
    }

    fn chain(&self) -> Vec<Bytes> {
        self.parts.clone()
    }
}

/// A manifest or index as it is, and its digest.
pub(crate) async fn manifest_bytes(
    session: &mut Session<'_>,
    name: &str,
    expected: Option<&Digest>,
) -> Result<(Digest, Bytes), FetchError> {
    // Signatures are often not there, and nobody wants to know what else is.
    let tags = !name.starts_with("sha256-");
    let answer = session.get(&["manifests", name], Some(ACCEPTED_MANIFESTS), tags).await?;
    let announced = announced_digest(answer.headers());
    let body = read_body(session.errand(), "manifest", answer, MAX_MANIFEST_BYTES).await?;
    let actual = Digest::sha256_of(&body);
    check(&session.url(), "manifest", expected.or(announced.as_ref()), &actual)?;
    Ok((actual, body))
}

/// A blob, compared with its digest.
pub(crate) async fn blob_bytes(
    session: &mut Session<'_>,
    digest: &Digest,
    what: &'static str,
    limit: u64,
) -> Result<Bytes, FetchError> {
    let answer = session.get(&["blobs", &digest.to_string()], None, false).await?;
    let blob = read_body(session.errand(), what, answer, limit).await?;
    let (url, hashed) = (session.url(), blob.clone());
    let actual = blocking(&url, move || Digest::sha256_of(&hashed)).await?;
    check(&url, what, Some(digest), &actual)?;
    Ok(blob)
}

fn check(
    url: &str,
    what: &'static str,
    expected: Option<&Digest>,
    actual: &Digest,
) -> Result<(), FetchError> {
    match expected {
        Some(expected) if expected != actual => Err(FetchError::Corrupt {
            url: url.to_owned(),
            what,
            expected: expected.clone(),
            actual: actual.clone(),
        }),
        _ => Ok(()),
    }
}

/// The digest that the registry announces, if it is one that can be checked.
fn announced_digest(headers: &HeaderMap) -> Option<Digest> {
    let value = headers.get(CONTENT_DIGEST)?.to_str().ok()?;
    value.trim().parse().ok()
}
