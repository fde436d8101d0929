//! Images in a file, for places that no registry reaches: an OCI layout in a tar archive, with the
//! signatures of each image.
//!
//! Source: OCI Image Layout Specification 1.1.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use wasmplug_api::{Digest, ImageReference, ModuleUrl};

use crate::{
    auth::RegistryCredentials,
    contents::check_module,
    disk::Keep,
    error::FetchError,
    fetch::oci::{Session, blob_bytes, manifest_bytes},
    image::{Document, ImageError, ImageManifest, IndexEntry, Packing, SIMPLE_SIGNING},
    progress::Progress,
    request::ContentDigests,
    signature::{Evidence, Form},
    store::ModuleStore,
    unpack::{UnpackError, inflate, module_in_tar},
};

/// Names an image in the index of a layout.
const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// Most blobs of one archive.
const MAX_BLOBS: usize = 100_000;
/// Largest index, manifest or signed payload, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The registry did not give an image.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The file cannot be read or written.
    #[error("cannot use the archive")]
    Io(#[from] io::Error),
    /// Not an archive of images.
    #[error("it is not an OCI layout in a tar archive: {message}")]
    Layout {
        /// What is wrong.
        message: String,
    },
    /// Bytes that do not have the digest under which they lie.
    #[error("the content of `{digest}` is missing, or is another than its digest says")]
    Blob {
        /// The digest.
        digest: Digest,
    },
    /// An image without a module.
    #[error("no module in the image `{reference}`")]
    Image {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: ImageError,
    },
    /// A module that cannot be taken out of its layer.
    #[error("cannot unpack `{reference}`")]
    Unpack {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// What an image holds is not a module.
    #[error("`{reference}` holds no Wasm module: {contents}")]
    NotWasm {
        /// The image.
        reference: String,
        /// What it looks like.
        contents: String,
    },
}

/// An image that was saved or loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchivedImage {
    /// Its reference.
    pub reference: ImageReference,
    /// Digest of the index, or of the manifest if there is none.
    pub digest: Digest,
    /// How many signatures came with it.
    pub signatures: usize,
}

/// Writes an archive, each blob once.
struct Writer<W: Write> {
    tar: tar::Builder<W>,
    written: BTreeSet<Digest>,
    entries: Vec<Value>,
}

/// An archive whose blobs are read where they lie.
struct Reader {
    path: PathBuf,
    /// Offset and size by digest.
    blobs: BTreeMap<Digest, (u64, u64)>,
    index: Vec<u8>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

// === impl ModuleStore ===

impl ModuleStore {
    /// Writes images with their signatures into a tar archive that `skopeo` reads as
    /// `oci-archive:`.
    ///
    /// # Errors
    ///
    /// Those of fetching and of writing; then the archive is not complete.
    pub async fn save(
        &self,
        images: &[(ImageReference, Option<RegistryCredentials>)],
        into: impl Write,
        progress: &Progress,
    ) -> Result<Vec<ArchivedImage>, ArchiveError> {
        let mut writer =
            Writer { tar: tar::Builder::new(into), written: BTreeSet::new(), entries: Vec::new() };
        writer.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        let mut saved = Vec::new();
        for (reference, credentials) in images {
            let located = self.transport().1.located(reference);
            let mut session = self.session(&located, credentials.as_ref(), progress)?;
            saved.push(save(&mut writer, &mut session, reference).await?);
        }
        let index = json!({ "schemaVersion": 2, "manifests": writer.entries }).to_string();
        writer.file("index.json", index.as_bytes())?;
        writer.tar.into_inner()?.flush()?;
        Ok(saved)
    }

    /// Takes the images of an archive into the cache, as if they had been pulled; waits for the
    /// disk.
    ///
    /// They are then served to everyone, whatever credentials their registry asks for.
    /// Signatures are taken along, and checked when somebody demands them.
    ///
    /// # Errors
    ///
    /// When the archive or a part of it is malformed; what was loaded before stays.
    pub fn load(&self, path: &Path) -> Result<Vec<ArchivedImage>, ArchiveError> {
        let reader = Reader::open(path)?;
        let index: Index = serde_json::from_slice(&reader.index)
            .map_err(|error| ArchiveError::Layout { message: error.to_string() })?;
        let mut images: Vec<(ImageReference, Digest)> = Vec::new();
        for entry in &index.manifests {
            let parsed = entry.annotations.get(REFERENCE).map(|it| it.parse());
            let (Some(Ok(reference)), Ok(digest)) = (parsed, entry.digest.parse()) else {
                let message = format!("an image is not named by `{REFERENCE}` and a digest");
                return Err(ArchiveError::Layout { message });
            };
            images.push((reference, digest));
        }
        let is_signature = |reference: &ImageReference| {
            reference.tag.as_deref().is_some_and(|tag| tag.starts_with("sha256-"))
        };
        let loaded = images.iter().filter(|(reference, _)| !is_signature(reference));
        loaded.map(|(reference, digest)| self.take(&reader, reference, digest, &images)).collect()
    }

    fn take(
        &self,
        reader: &Reader,
        reference: &ImageReference,
        digest: &Digest,
        images: &[(ImageReference, Digest)],
    ) -> Result<ArchivedImage, ArchiveError> {
        let limit = self.transport().1.max_module_bytes;
        let text = reference.to_string();
        let no_module = |source| ArchiveError::Image { reference: text.clone(), source };
        let (manifest, image) = match reader.document(digest, &text)? {
            Document::Image(image) => (digest.clone(), image),
            Document::Index(entries) => {
                let child = IndexEntry::choose(&entries).map_err(no_module)?;
                match reader.document(&child, &text)? {
                    Document::Image(image) => (child, image),
                    Document::Index(_) => return Err(no_module(ImageError::NestedIndex)),
                }
            }
        };
        let layer = image.module_layer().map_err(no_module)?;
        let bytes = reader.blob(&layer.digest, limit)?;
        let packed = bytes.clone();
        let bytes = match layer.packing {
            Packing::Bare => Ok(bytes),
            Packing::Tar(compression) => {
                inflate(&bytes, compression, limit).and_then(|it| module_in_tar(&it, limit))
            }
        };
        let bytes =
            bytes.map_err(|source| ArchiveError::Unpack { reference: text.clone(), source })?;
        check_module(&bytes).map_err(|contents| ArchiveError::NotWasm {
            reference: text.clone(),
            contents: contents.to_string(),
        })?;
        let evidence = reader.evidence(reference, &[&manifest, digest], images)?;
        let signatures = evidence.len();
        let index = (manifest != *digest).then(|| digest.clone());
        let module = Digest::sha256_of(&bytes);
        let digests = ContentDigests { module, manifest: Some(manifest), index };
        let url = ModuleUrl::Oci(reference.clone()).to_string();
        let mut chain = Vec::new();
        if !evidence.is_empty() {
            // Whoever demands a signature also wants to see what it is of.
            for document in digests.manifest.iter().chain(&digests.index) {
                chain.push(reader.blob(document, MAX_DOCUMENT_BYTES)?);
            }
            chain.push(packed);
        }
        let (bytes, validator, fingerprint) = (Some(bytes), None, None);
        self.disk().keep(Keep { url, digests, bytes, evidence, chain, validator, fingerprint })?;
        Ok(ArchivedImage { reference: reference.clone(), digest: digest.clone(), signatures })
    }
}

async fn save<W: Write>(
    writer: &mut Writer<W>,
    session: &mut Session<'_>,
    reference: &ImageReference,
) -> Result<ArchivedImage, ArchiveError> {
    let name = reference.manifest_name();
    let (digest, bytes) = manifest_bytes(session, &name, reference.digest.as_ref()).await?;
    let text = reference.to_string();
    let image = |source| ArchiveError::Image { reference: text.clone(), source };
    let mut subjects = vec![digest.clone()];
    writer.manifest(session, &bytes).await?;
    if let Document::Index(entries) = Document::parse(&bytes).map_err(image)? {
        let child = IndexEntry::choose(&entries).map_err(image)?;
        let (_, bytes) = manifest_bytes(session, &child.to_string(), Some(&child)).await?;
        writer.manifest(session, &bytes).await?;
        subjects.push(child);
    }
    writer.name(&digest, &bytes, &text);
    let mut signatures = 0;
    for subject in subjects {
        let tag = format!("sha256-{}.sig", subject.hex());
        match manifest_bytes(session, &tag, None).await {
            Ok((digest, bytes)) => {
                writer.manifest(session, &bytes).await?;
                let place = format!("{}/{}:{tag}", reference.registry, reference.repository);
                writer.name(&digest, &bytes, &place);
                signatures += layers_of(&bytes).len();
            }
            Err(FetchError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(ArchivedImage { reference: reference.clone(), digest, signatures })
}

// === impl Writer ===

impl<W: Write> Writer<W> {
    /// Writes a manifest and the configuration and layers that it names.
    async fn manifest(
        &mut self,
        session: &mut Session<'_>,
        bytes: &Bytes,
    ) -> Result<(), ArchiveError> {
        self.blob(&Digest::sha256_of(bytes), bytes)?;
        let limit = session.max_module_bytes();
        let manifest: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let config = manifest.get("config").cloned();
        for descriptor in config.into_iter().chain(layers_of(bytes)) {
            let digest = descriptor.get("digest").and_then(Value::as_str);
            let Some(Ok(digest)) = digest.map(str::parse::<Digest>) else { continue };
            if !self.written.contains(&digest) {
                let blob = blob_bytes(session, &digest, "layer", limit).await?;
                self.blob(&digest, &blob)?;
            }
        }
        Ok(())
    }

    fn name(&mut self, digest: &Digest, bytes: &Bytes, reference: &str) {
        let document: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let fallback = json!("application/vnd.oci.image.manifest.v1+json");
        let media_type = document.get("mediaType").cloned().unwrap_or(fallback);
        self.entries.push(json!({
            "mediaType": media_type,
            "digest": digest.to_string(),
            "size": bytes.len(),
            "annotations": { REFERENCE: reference },
        }));
    }

    fn blob(&mut self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        if !self.written.insert(digest.clone()) {
            return Ok(());
        }
        self.file(&format!("blobs/sha256/{}", digest.hex()), bytes)
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        self.tar.append_data(&mut header, path, bytes)
    }
}

// === impl Reader ===

impl Reader {
    fn open(path: &Path) -> Result<Self, ArchiveError> {
        let mut archive = tar::Archive::new(io::BufReader::new(fs_err::File::open(path)?));
        let mut reader = Self { path: path.to_owned(), blobs: BTreeMap::new(), index: Vec::new() };
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let (offset, size) = (entry.raw_file_position(), entry.size());
            let name = entry.path()?.to_string_lossy().into_owned();
            let name = name.strip_prefix("./").unwrap_or(&name);
            if name == "index.json" {
                entry.take(MAX_DOCUMENT_BYTES).read_to_end(&mut reader.index)?;
            } else if let Some(Ok(digest)) = name.strip_prefix("blobs/sha256/").map(str::parse) {
                if reader.blobs.len() == MAX_BLOBS {
                    let message = format!("it has more than {MAX_BLOBS} blobs");
                    return Err(ArchiveError::Layout { message });
                }
                reader.blobs.insert(digest, (offset, size));
            }
        }
        if reader.index.is_empty() {
            return Err(ArchiveError::Layout { message: "it has no `index.json`".to_owned() });
        }
        Ok(reader)
    }

    /// A blob that has the digest under which it lies.
    fn blob(&self, digest: &Digest, limit: u64) -> Result<Bytes, ArchiveError> {
        let wrong = || ArchiveError::Blob { digest: digest.clone() };
        let (offset, size) = *self.blobs.get(digest).ok_or_else(wrong)?;
        if size > limit {
            return Err(wrong());
        }
        let mut file = fs_err::File::open(&self.path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes)?;
        if Digest::sha256_of(&bytes) == *digest { Ok(Bytes::from(bytes)) } else { Err(wrong()) }
    }

    fn document(&self, digest: &Digest, reference: &str) -> Result<Document, ArchiveError> {
        let bytes = self.blob(digest, MAX_DOCUMENT_BYTES)?;
        Document::parse(&bytes)
            .map_err(|source| ArchiveError::Image { reference: reference.to_owned(), source })
    }

    /// The signatures of an image that are in the archive.
    fn evidence(
        &self,
        reference: &ImageReference,
        subjects: &[&Digest],
        images: &[(ImageReference, Digest)],
    ) -> Result<Vec<Evidence>, ArchiveError> {
        let mut evidence = Vec::new();
        let tags: Vec<String> =
            subjects.iter().map(|subject| format!("sha256-{}.sig", subject.hex())).collect();
        for (signature, digest) in images {
            let is_beside = (&signature.registry, &signature.repository)
                == (&reference.registry, &reference.repository);
            if !is_beside || !signature.tag.as_ref().is_some_and(|tag| tags.contains(tag)) {
                continue;
            }
            if let Document::Image(image) = self.document(digest, &signature.to_string())? {
                evidence.extend(self.signatures(&image, &signature.to_string())?);
            }
        }
        Ok(evidence)
    }

    fn signatures(
        &self,
        image: &ImageManifest,
        place: &str,
    ) -> Result<Vec<Evidence>, ArchiveError> {
        let simple = image.signature_layers().filter(|layer| layer.media_type == SIMPLE_SIGNING);
        simple
            .map(|layer| {
                let payload = STANDARD.encode(self.blob(&layer.digest, MAX_DOCUMENT_BYTES)?);
                let form = Form::SimpleSigning { payload, signature: layer.signature };
                Ok(Evidence { place: place.to_owned(), form })
            })
            .collect()
    }
}

/// The layers of a manifest, as they are.
pub(crate) fn layers_of(manifest: &[u8]) -> Vec<Value> {
    let document: Option<Value> = serde_json::from_slice(manifest).ok();
    let layers = document.as_ref().and_then(|it| it.get("layers")).and_then(Value::as_array);
    layers.cloned().unwrap_or_default()
}
