//! The parts of an image that lead from a digest that was signed to its module, kept beside the
//! modules: `chains/HEX/HEX`, by manifest and by part.
//!
//! A signature names an image; that an image holds a module is otherwise only what the index of
//! the cache says. Where signatures are demanded, the way is walked again from part to part, each
//! of which has the digest that the one before it names.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use wasmplug_api::Digest;

use crate::{
    files,
    image::{Document, IndexEntry, Packing},
    request::ContentDigests,
    unpack::{inflate, module_in_tar},
    write::Writer,
};

/// All functions wait for the disk.
#[derive(Debug, Clone)]
pub(crate) struct ChainStore {
    directory: PathBuf,
    writer: Writer,
    /// Largest part, and largest module.
    max_bytes: u64,
}

// === impl ChainStore ===

impl ChainStore {
    pub(crate) fn new(directory: &Path, max_bytes: u64, writer: Writer) -> Self {
        Self { directory: directory.join("chains"), writer, max_bytes }
    }

    /// Keeps parts of the image with this manifest, beside those that are there.
    pub(crate) fn insert(&self, manifest: &Digest, parts: &[Bytes]) -> io::Result<()> {
        let directory = self.directory.join(manifest.hex());
        fs_err::create_dir_all(&directory)?;
        for part in parts {
            let digest = Digest::sha256_of(part);
            if self.part(manifest, &digest).is_none() {
                self.writer.replace(&directory.join(digest.hex()), part)?;
            }
        }
        Ok(())
    }

    /// Whether the parts lead from the index, if there is one, and the manifest to the module.
    pub(crate) fn proves(&self, digests: &ContentDigests) -> bool {
        self.walk(digests).unwrap_or(false)
    }

    /// Forgets all but the images with these manifests.
    pub(crate) fn retain(&self, is_wanted: impl Fn(&str) -> bool) -> io::Result<()> {
        files::retain(&self.directory, is_wanted, fs_err::remove_dir_all)
    }

    /// `None` where the way ends.
    fn walk(&self, digests: &ContentDigests) -> Option<bool> {
        let manifest = digests.manifest.as_ref()?;
        if let Some(index) = &digests.index {
            let Ok(Document::Index(entries)) = Document::parse(&self.part(manifest, index)?) else {
                return None;
            };
            if IndexEntry::choose(&entries).ok()? != *manifest {
                return None;
            }
        }
        let Ok(Document::Image(image)) = Document::parse(&self.part(manifest, manifest)?) else {
            return None;
        };
        let layer = image.module_layer().ok()?;
        let Packing::Tar(compression) = layer.packing else {
            return Some(layer.digest == digests.module);
        };
        let layer = self.part(manifest, &layer.digest)?;
        let archive = inflate(&layer, compression, self.max_bytes).ok()?;
        let module = module_in_tar(&archive, self.max_bytes).ok()?;
        Some(Digest::sha256_of(&module) == digests.module)
    }

    /// A part that has its digest.
    fn part(&self, manifest: &Digest, digest: &Digest) -> Option<Bytes> {
        let path = self.directory.join(manifest.hex()).join(digest.hex());
        let bytes = files::read_at_most(&path, self.max_bytes).ok()?;
        (Digest::sha256_of(&bytes) == *digest).then(|| Bytes::from(bytes))
    }
}
