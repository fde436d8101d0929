//! Bytes for a URL; nothing about caching.

pub(crate) mod beside;
pub(crate) mod file;
pub(crate) mod http;
pub(crate) mod oci;

use bytes::Bytes;
use wasmplug_api::Digest;

use crate::{
    error::FetchError,
    request::ContentDigests,
    signature::{Evidence, Subject},
    unpack::UnpackError,
};

/// A way to get at a module, in two steps so that a cache can stand between them.
pub(crate) trait Fetcher: Send {
    /// What the first step found and the second needs.
    type Located: Send;

    /// Finds out what the URL refers to now, without the module where that is possible.
    fn locate(
        &mut self,
    ) -> impl Future<Output = Result<(Identity, Self::Located), FetchError>> + Send;

    /// Finds the signatures of what was located; whether any of them counts is not decided here.
    fn signatures(
        &mut self,
        identity: &Identity,
    ) -> impl Future<Output = Result<FoundSignatures, FetchError>> + Send;

    /// Gets the module, unpacked; nobody has looked at it yet.
    fn download(
        &mut self,
        located: Self::Located,
    ) -> impl Future<Output = Result<Bytes, FetchError>> + Send;

    /// The parts of an image that lead to its module, as far as they were fetched.
    fn chain(&self) -> Vec<Bytes> {
        Vec::new()
    }

    /// By what the server will know again what was downloaded.
    fn validator(&self) -> Option<String> {
        None
    }
}

/// What is known about content before the module is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Digest of the image's manifest.
    pub(crate) manifest: Option<Digest>,
    /// Digest of the index that led to it.
    pub(crate) index: Option<Digest>,
    /// Whether credentials were shown to get this far.
    pub(crate) private: bool,
}

// === impl Identity ===

impl Identity {
    /// The same, with a module that may be that of the image.
    pub(crate) fn with(&self, module: &Digest) -> ContentDigests {
        let (manifest, index) = (self.manifest.clone(), self.index.clone());
        ContentDigests { module: module.clone(), manifest, index }
    }

    /// What signatures are about before the module is there.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject { module: None, manifest: self.manifest.as_ref(), index: self.index.as_ref() }
    }
}

/// Signatures, and where they were looked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct FoundSignatures {
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) looked: Vec<String>,
}

/// Runs what would keep the runtime's thread busy, or waits for the disk.
pub(crate) async fn blocking<T: Send + 'static>(
    url: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FetchError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| FetchError::Cache {
        url: url.to_owned(),
        source: std::sync::Arc::new(std::io::Error::other(error)),
    })
}

/// Unpacks away from the runtime's thread.
pub(crate) async fn unpack(
    url: &str,
    work: impl FnOnce() -> Result<Bytes, UnpackError> + Send + 'static,
) -> Result<Bytes, FetchError> {
    let unpacked = blocking(url, work).await?;
    unpacked.map_err(|source| FetchError::Unpack { url: url.to_owned(), source })
}
