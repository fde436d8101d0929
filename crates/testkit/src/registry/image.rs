//! Images built in memory, in every layout that carries a Wasm module.
//!
//! Source: OCI Image Specification 1.1; Docker Image Manifest v2 schema 2.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Media types that the layouts use.
pub mod media_type {
    /// An OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// An OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// The configuration of an OCI image.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A gzipped OCI layer.
    pub const OCI_LAYER_TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// A plain OCI layer.
    pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    /// An OCI layer compressed with zstd.
    pub const OCI_LAYER_TAR_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// A Docker image manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// A Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// The configuration of a Docker image.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// A gzipped Docker layer.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// The module layer of the two-layer artifact.
    pub const MODULE_CONTENT: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
    /// The configuration layer of the two-layer artifact.
    pub const MODULE_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
    /// A bare module as a layer.
    pub const WASM: &str = "application/wasm";
    /// A bare module as a layer, older spelling.
    pub const WASM_CONTENT: &str = "application/vnd.wasm.content.layer.v1+wasm";
}

/// A manifest (or index), and everything it refers to.
#[derive(Debug, Clone)]
pub struct Image {
    pub(crate) media_type: String,
    pub(crate) manifest: Vec<u8>,
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) children: Vec<Image>,
}

/// One layer: its media type and its bytes as stored.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Media type, as the manifest states it.
    pub media_type: String,
    /// Bytes, compressed if the media type says so.
    pub bytes: Vec<u8>,
}

// === impl Layer ===

impl Layer {
    /// A layer.
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { media_type: media_type.to_owned(), bytes: bytes.into() }
    }

    /// Digest of the layer before it was compressed, which an image's configuration lists.
    ///
    /// Gzip is undone; of other compressions the stored bytes have to do.
    fn diff_id(&self) -> String {
        let mut inflated = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(self.bytes.as_slice());
        match decoder.read_to_end(&mut inflated) {
            Ok(_) => sha256(&inflated),
            Err(_) => sha256(&self.bytes),
        }
    }
}

// === impl Image ===

impl Image {
    /// The OCI *compat* variant: one gzipped tar layer with `plugin.wasm` at its root.
    pub fn compat(module: &[u8]) -> Self {
        let layer = gzip(&tar(&[("plugin.wasm", module)]));
        Self::oci([Layer::new(media_type::OCI_LAYER_TAR_GZIP, layer)])
    }

    /// The Docker variant: the same layer in a Docker v2 manifest.
    pub fn docker(module: &[u8]) -> Self {
        Self::docker_layers([Layer::new(
            media_type::DOCKER_LAYER,
            gzip(&tar(&[("plugin.wasm", module)])),
        )])
    }

    /// The OCI artifact: the bare module and a configuration, as two layers.
    pub fn artifact(module: &[u8]) -> Self {
        Self::oci([
            Layer::new(media_type::MODULE_CONTENT, module),
            Layer::new(media_type::MODULE_CONFIG, *b"{}"),
        ])
    }

    /// An artifact whose only layer is the bare module, under this media type.
    pub fn single_layer(layer_media_type: &str, module: &[u8]) -> Self {
        Self::oci([Layer::new(layer_media_type, module)])
    }

    /// An OCI image with these layers.
    pub fn oci(layers: impl IntoIterator<Item = Layer>) -> Self {
        Self::layered(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, layers)
    }

    /// A Docker v2 image with these layers.
    pub fn docker_layers(layers: impl IntoIterator<Item = Layer>) -> Self {
        Self::layered(media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG, layers)
    }

    /// An OCI index over images for the given platforms, `os/architecture`.
    ///
    /// An empty platform leaves the field out. The platform `attestation` makes what buildx adds:
    /// `unknown/unknown` with the annotation that marks an attestation manifest.
    pub fn index<'a>(children: impl IntoIterator<Item = (&'a str, Image)>) -> Self {
        let children: Vec<(&str, Image)> = children.into_iter().collect();
        let entries: Vec<Value> =
            children.iter().map(|(platform, child)| index_entry(platform, child)).collect();
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": entries,
        });
        Self {
            media_type: media_type::OCI_INDEX.to_owned(),
            manifest: document.to_string().into_bytes(),
            blobs: Vec::new(),
            children: children.into_iter().map(|(_, child)| child).collect(),
        }
    }

    /// Any manifest bytes and any blobs; nothing needs to fit together.
    pub fn custom(
        media_type: &str,
        manifest: impl Into<Vec<u8>>,
        blobs: impl IntoIterator<Item = Vec<u8>>,
    ) -> Self {
        Self {
            media_type: media_type.to_owned(),
            manifest: manifest.into(),
            blobs: blobs.into_iter().collect(),
            children: Vec::new(),
        }
    }

    /// The digest of the manifest, `sha256:HEX`.
    pub fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    /// The digest of the last layer (or other blob), `sha256:HEX`.
    pub fn last_blob_digest(&self) -> Option<String> {
        self.blobs.last().map(|blob| sha256(blob))
    }

    /// Media type and bytes of the manifest.
    pub fn manifest(&self) -> (&str, &[u8]) {
        (&self.media_type, &self.manifest)
    }

    /// The configuration and the layers, as stored.
    pub fn blobs(&self) -> impl Iterator<Item = &[u8]> {
        self.blobs.iter().map(Vec::as_slice)
    }

    fn layered(
        media_type: &str,
        config_type: &str,
        layers: impl IntoIterator<Item = Layer>,
    ) -> Self {
        let layers: Vec<Layer> = layers.into_iter().collect();
        let diff_ids: Vec<String> = layers.iter().map(Layer::diff_id).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let document = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": descriptor(config_type, &config),
            "layers": layers
                .iter()
                .map(|layer| descriptor(&layer.media_type, &layer.bytes))
                .collect::<Vec<_>>(),
        });
        let blobs = std::iter::once(config).chain(layers.into_iter().map(|layer| layer.bytes));
        Self {
            media_type: media_type.to_owned(),
            manifest: document.to_string().into_bytes(),
            blobs: blobs.collect(),
            children: Vec::new(),
        }
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
}

fn index_entry(platform: &str, child: &Image) -> Value {
    let mut entry = descriptor(&child.media_type, &child.manifest);
    match platform.split_once('/') {
        Some((os, architecture)) => {
            entry["platform"] = json!({ "os": os, "architecture": architecture });
        }
        None if platform == "attestation" => {
            entry["platform"] = json!({ "os": "unknown", "architecture": "unknown" });
            entry["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
        }
        None => {}
    }
    entry
}

/// The digest of bytes, `sha256:HEX`.
pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").expect("a string grows");
    }
    text
}

/// A tar archive of these files, reproducible byte for byte.
///
/// # Panics
///
/// When a path does not fit into a tar header.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, path, *bytes).expect("a short path fits a tar header");
    }
    archive.into_inner().expect("a vector grows")
}

/// The bytes, gzipped.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.unwrap_or_else(|error| unreachable!("a vector grows: {error}"))
}
