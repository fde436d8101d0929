//! Finds the Wasm module in a manifest, and the manifest in an index.
//!
//! | layout | which layer | packing |
//! |---|---|---|
//! | Docker v2, OCI *compat* | the last one, if it is a tar of some kind | tar, gzip, zstd |
//! | OCI artifact with two layers | the one with a module's media type | none |
//! | single Wasm layer | the same | none |
//!
//! Nothing here performs I/O.
//!
//! Source: OCI Image Specification 1.1; Docker Image Manifest v2 schema 2; Istio's image
//! specification for Wasm modules. Differs: Istio reads the first three of these media types.

#![deny(clippy::arithmetic_side_effects)]

use std::collections::BTreeMap;

use serde::Deserialize;
use wasmplug_api::{Digest, DigestError};

use crate::unpack::Compression;

/// What is asked for, in order of preference.
pub(crate) const ACCEPTED_MANIFESTS: &str = "application/vnd.oci.image.manifest.v1+json, \
     application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json";

/// Layers that are a module, unpacked.
const MODULE_LAYERS: [&str; 3] = [
    "application/vnd.module.wasm.content.layer.v1+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/wasm",
];

/// Layers that are a tar archive.
const TAR_LAYERS: [(&str, Compression); 5] = [
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.diff.tar", Compression::None),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.oci.image.layer.v1.tar", Compression::None),
];

/// A layer that is the signed payload of a signature.
pub(crate) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// A layer or artifact that is a sigstore bundle, in any version.
const BUNDLE_PREFIX: &str = "application/vnd.dev.sigstore.bundle";
/// An artifact that holds simple signing layers.
const SIGNATURE_ARTIFACT: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Where a simple signing layer has its signature.
const SIGNATURE_ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// Marks an entry that buildx adds for provenance and the like.
const ATTESTATION_ANNOTATION: &str = "vnd.docker.reference.type";

/// How many media types or platforms an error lists.
const MAX_LISTED: usize = 8;

/// Why no module can be found in an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Not JSON, or not the fields that a manifest has.
    #[error("the manifest is malformed: {message}")]
    Malformed {
        /// What the parser says.
        message: String,
    },
    /// Both layers and manifests, or neither.
    #[error("the document is neither an image manifest nor an image index")]
    Neither,
    /// The manifest format of 2014, which has no layers with digests.
    #[error("the image has a manifest of Docker schema 1, which is no longer supported")]
    SchemaOne,
    /// No layers at all.
    #[error("the image has no layers")]
    NoLayers,
    /// No layer that can carry a module.
    #[error("no layer of the image can hold a module; its layers are {}", list(.media_types))]
    NoModuleLayer {
        /// Media types of the layers.
        media_types: Vec<String>,
    },
    /// Several bare modules.
    #[error("the image has {count} module layers, so it is not clear which one is meant")]
    SeveralModuleLayers {
        /// How many.
        count: usize,
    },
    /// No entry of an index can be chosen.
    #[error("the index has no image for Wasm, nor a single image, nor one for linux/amd64; it has {}", list(.platforms))]
    NoPlatform {
        /// Platforms of the entries.
        platforms: Vec<String>,
    },
    /// An index in an index.
    #[error("the index refers to another index")]
    NestedIndex,
    /// A digest that cannot be checked.
    #[error("the manifest contains the digest `{text}`")]
    Digest {
        /// As written, shortened.
        text: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
}

/// A parsed document: one image, or a list of them.
#[derive(Debug)]
pub(crate) enum Document {
    Image(ImageManifest),
    Index(Vec<IndexEntry>),
}

#[derive(Debug)]
pub(crate) struct ImageManifest {
    layers: Vec<Descriptor>,
}

/// Content by digest.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    artifact_type: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct IndexEntry {
    #[serde(flatten)]
    descriptor: Descriptor,
    platform: Option<Platform>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

/// The layer that holds the module.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModuleLayer {
    pub(crate) digest: Digest,
    /// Bytes as stored.
    pub(crate) size: u64,
    pub(crate) packing: Packing,
}

/// A layer that holds a signature, or what is signed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SignatureLayer {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    /// In base64; empty for a bundle, which holds its own.
    pub(crate) signature: String,
}

/// How the module lies in its layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Packing {
    /// The layer is the module.
    Bare,
    /// A file in an archive.
    Tar(Compression),
}

/// The fields of both kinds of document, before it is known which one it is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDocument {
    #[serde(default)]
    schema_version: u64,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<IndexEntry>>,
}

// === impl Document ===

impl Document {
    /// Parses a manifest or an index.
    ///
    /// Which of the two it is depends on its fields alone, so that a registry's content type
    /// cannot make one out of the other.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let raw: RawDocument = serde_json::from_slice(bytes)
            .map_err(|error| ImageError::Malformed { message: error.to_string() })?;
        match (raw.layers, raw.manifests) {
            (Some(layers), None) => Ok(Self::Image(ImageManifest { layers })),
            (None, Some(entries)) => Ok(Self::Index(entries)),
            (None, None) if raw.schema_version == 1 => Err(ImageError::SchemaOne),
            (Some(_), Some(_)) | (None, None) => Err(ImageError::Neither),
        }
    }
}

// === impl ImageManifest ===

impl ImageManifest {
    /// The layer that holds the module.
    pub(crate) fn module_layer(&self) -> Result<ModuleLayer, ImageError> {
        let last = self.layers.last().ok_or(ImageError::NoLayers)?;
        // As in Istio, an archive at the end wins over bare modules before it.
        let archive = TAR_LAYERS.iter().find(|(media_type, _)| *media_type == last.media_type);
        if let Some((_, compression)) = archive {
            return last.module_layer(Packing::Tar(*compression));
        }
        let bare: Vec<&Descriptor> = self
            .layers
            .iter()
            .filter(|layer| MODULE_LAYERS.contains(&layer.media_type.as_str()))
            .collect();
        match bare.as_slice() {
            [only] => only.module_layer(Packing::Bare),
            [] => Err(ImageError::NoModuleLayer {
                media_types: self.layers.iter().map(|layer| layer.media_type.clone()).collect(),
            }),
            several => Err(ImageError::SeveralModuleLayers { count: several.len() }),
        }
    }

    /// The layers that are signatures; those whose digest cannot be checked are passed over.
    pub(crate) fn signature_layers(&self) -> impl Iterator<Item = SignatureLayer> {
        self.layers.iter().filter_map(|layer| {
            let signature = layer.annotations.get(SIGNATURE_ANNOTATION);
            let is_bundle = layer.media_type.starts_with(BUNDLE_PREFIX);
            let is_simple = layer.media_type == SIMPLE_SIGNING && signature.is_some();
            (is_bundle || is_simple).then_some(())?;
            Some(SignatureLayer {
                digest: layer.parse_digest().ok()?,
                media_type: layer.media_type.clone(),
                signature: signature.cloned().unwrap_or_default(),
            })
        })
    }
}

// === impl Descriptor ===

impl Descriptor {
    fn parse_digest(&self) -> Result<Digest, ImageError> {
        self.digest.parse().map_err(|source| ImageError::Digest {
            text: self.digest.chars().take(80).collect(),
            source,
        })
    }

    fn module_layer(&self, packing: Packing) -> Result<ModuleLayer, ImageError> {
        Ok(ModuleLayer { digest: self.parse_digest()?, size: self.size, packing })
    }
}

// === impl IndexEntry ===

impl IndexEntry {
    /// Digest of the manifest to use: the one for Wasm, else the only image, else linux/amd64.
    ///
    /// Differs: Istio takes linux/amd64 or an entry without a platform, and nothing else.
    pub(crate) fn choose(entries: &[Self]) -> Result<Digest, ImageError> {
        let images: Vec<&Self> = entries.iter().filter(|entry| !entry.is_attestation()).collect();
        let for_wasm = images.iter().find(|entry| entry.architecture().starts_with("wasm"));
        let chosen = match (for_wasm, images.as_slice()) {
            (Some(entry), _) => Some(*entry),
            (None, [only]) => Some(*only),
            (None, _) => images.iter().find(|entry| entry.is_linux_amd64()).copied(),
        };
        match chosen {
            Some(entry) => entry.descriptor.parse_digest(),
            None => Err(ImageError::NoPlatform {
                platforms: entries.iter().map(Self::platform_text).collect(),
            }),
        }
    }

    /// Whether an entry of a list of referrers may be a signature; one that does not say may be.
    pub(crate) fn may_be_signature(&self) -> bool {
        let artifact_type = &self.descriptor.artifact_type;
        artifact_type.is_empty()
            || artifact_type == SIGNATURE_ARTIFACT
            || artifact_type.starts_with(BUNDLE_PREFIX)
    }

    pub(crate) fn digest(&self) -> Result<Digest, ImageError> {
        self.descriptor.parse_digest()
    }

    fn architecture(&self) -> &str {
        self.platform.as_ref().map_or("", |platform| &platform.architecture)
    }

    fn is_attestation(&self) -> bool {
        let unknown = self
            .platform
            .as_ref()
            .is_some_and(|it| it.os == "unknown" && it.architecture == "unknown");
        unknown || self.descriptor.annotations.contains_key(ATTESTATION_ANNOTATION)
    }

    fn is_linux_amd64(&self) -> bool {
        self.platform.as_ref().is_some_and(|platform| {
            platform.os == "linux" && platform.architecture == "amd64" && platform.variant.is_none()
        })
    }

    pub(crate) fn platform_text(&self) -> String {
        match &self.platform {
            Some(Platform { os, architecture, variant }) => {
                let variant = variant.as_ref().map(|it| format!("/{it}")).unwrap_or_default();
                format!("{os}/{architecture}{variant}")
            }
            None => "no platform".to_owned(),
        }
    }
}

/// The first few of hostile texts, each one shortened.
fn list(texts: &[String]) -> String {
    if texts.is_empty() {
        return "none".to_owned();
    }
    let shown: Vec<String> = texts
        .iter()
        .take(MAX_LISTED)
        .map(|text| format!("`{}`", text.chars().take(100).collect::<String>().escape_debug()))
        .collect();
    let more = if texts.len() > MAX_LISTED { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests;
