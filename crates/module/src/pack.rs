//! Makes images of a module, in the two layouts that Istio and Envoy can load.
//!
//! The same module and annotations give the same bytes, so that pushing again changes nothing.
//!
//! Source: Istio's image specification for Wasm modules, "compat" and "oci" variants; OCI Image
//! Specification 1.1.

use std::{collections::BTreeMap, io::Write as _};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use wasmplug_api::Digest;

use crate::{image::SIMPLE_SIGNING, unpack::MODULE_FILE};

/// Media types of what is written.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const TAR_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MODULE_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
const MODULE_CONFIG: &str = "application/vnd.module.wasm.config.v1+json";
/// Names the layout in the manifest, as other builders of such images do.
const VARIANT_ANNOTATION: &str = "module.wasm.image/variant";

/// How a module lies in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageLayout {
    /// A container image whose layer is an archive with `plugin.wasm`, as `FROM scratch` and
    /// `COPY plugin.wasm` make it.
    Compat,
    /// An OCI artifact: the module itself and a configuration.
    Artifact,
}

/// An image that is ready to be pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedImage {
    pub(crate) manifest: Bytes,
    pub(crate) blobs: Vec<Bytes>,
}

// === impl PackedImage ===

impl PackedImage {
    /// Packs a module; the annotations are those of the manifest.
    pub fn of_module(
        module: &Bytes,
        layout: ImageLayout,
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let mut annotations = annotations.clone();
        let variant = match layout {
            ImageLayout::Compat => "compat",
            ImageLayout::Artifact => "oci",
        };
        annotations.insert(VARIANT_ANNOTATION.to_owned(), variant.to_owned());
        match layout {
            ImageLayout::Compat => {
                let archive = archive(module);
                let config = image_config(&[Digest::sha256_of(&archive)]);
                let layers = [(TAR_GZIP, gzip(&archive))];
                Self::assemble((IMAGE_CONFIG, config), &layers, &json!(annotations), None)
            }
            ImageLayout::Artifact => {
                let settings = Bytes::from_static(b"{}");
                let digests = [Digest::sha256_of(module), Digest::sha256_of(&settings)];
                let config = image_config(&digests);
                let layers = [(MODULE_LAYER, module.clone()), (MODULE_CONFIG, settings)];
                Self::assemble((IMAGE_CONFIG, config), &layers, &json!(annotations), None)
            }
        }
    }

    /// Packs a signed payload beside the signatures that are there already, given as the layers of
    /// their manifest.
    pub(crate) fn of_signature(payload: &Bytes, signature: &str, present: &[Value]) -> Self {
        let mut layer = descriptor(SIMPLE_SIGNING, payload);
        if let Some(object) = layer.as_object_mut() {
            let annotations = json!({ "dev.cosignproject.cosign/signature": signature });
            object.insert("annotations".to_owned(), annotations);
        }
        let layers: Vec<Value> = present.iter().cloned().chain([layer]).collect();
        let digests: Vec<Digest> =
            layers.iter().filter_map(|it| it.get("digest")?.as_str()?.parse().ok()).collect();
        let config = image_config(&digests);
        let mut image = Self::assemble((IMAGE_CONFIG, config), &[], &json!({}), Some(layers));
        image.blobs.push(payload.clone());
        image
    }

    /// Digest of the manifest, by which the image is known.
    pub fn digest(&self) -> Digest {
        Digest::sha256_of(&self.manifest)
    }

    pub(crate) fn media_type() -> &'static str {
        MANIFEST
    }

    fn assemble(
        config: (&str, Bytes),
        layers: &[(&str, Bytes)],
        annotations: &Value,
        descriptors: Option<Vec<Value>>,
    ) -> Self {
        let described = layers.iter().map(|(media_type, bytes)| descriptor(media_type, bytes));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(config.0, &config.1),
            "layers": descriptors.unwrap_or_else(|| described.collect()),
            "annotations": annotations,
        });
        let blobs = std::iter::once(config.1).chain(layers.iter().map(|(_, bytes)| bytes.clone()));
        Self { manifest: Bytes::from(manifest.to_string()), blobs: blobs.collect() }
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    let digest = Digest::sha256_of(bytes).to_string();
    json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
}

/// The platform is the one that Istio and container engines take for granted.
fn image_config(diff_ids: &[Digest]) -> Bytes {
    let diff_ids: Vec<String> = diff_ids.iter().map(ToString::to_string).collect();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    Bytes::from(config.to_string())
}

/// A tar archive with the module at its root, without times or owners.
fn archive(module: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_size(module.len() as u64);
    header.set_mode(0o644);
    let mut builder = tar::Builder::new(Vec::new());
    let appended = builder.append_data(&mut header, MODULE_FILE, module);
    appended.and_then(|()| builder.into_inner()).expect("a short name, and a vector grows")
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    Bytes::from(written.expect("a vector grows"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        image::{Document, Packing},
        unpack::{inflate, module_in_tar},
    };

    const MODULE: Bytes = Bytes::from_static(b"\0asm\x01\0\0\0");

    #[test]
    fn what_is_packed_is_found_again() {
        for layout in [ImageLayout::Compat, ImageLayout::Artifact] {
            let image = PackedImage::of_module(&MODULE, layout, &BTreeMap::new());
            let Ok(Document::Image(manifest)) = Document::parse(&image.manifest) else { panic!() };
            let layer = manifest.module_layer().unwrap();
            let blob = image.blobs.iter().find(|it| Digest::sha256_of(it) == layer.digest).unwrap();
            let module = match layer.packing {
                Packing::Bare => blob.clone(),
                Packing::Tar(compression) => {
                    module_in_tar(&inflate(blob, compression, 10_000).unwrap(), 100).unwrap()
                }
            };
            assert_eq!(module, MODULE, "{layout:?}");
        }
    }

    #[test]
    fn the_same_content_gives_the_same_digest_and_other_content_another() {
        let annotated =
            |text: &str| BTreeMap::from([("org.opencontainers.image.title".into(), text.into())]);
        let digest = |title: &str| {
            PackedImage::of_module(&MODULE, ImageLayout::Compat, &annotated(title)).digest()
        };
        assert_eq!(digest("a"), digest("a"));
        assert_ne!(digest("a"), digest("b"));
    }
}
