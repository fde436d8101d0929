//! A module that is the one that was asked for.

use bytes::Bytes;
use wasmplug_api::Digest;

use crate::{
    contents::check_module,
    demand::Met,
    error::{FetchError, Mismatch},
    fetch::{Identity, blocking},
    lock::ModuleLease,
    request::{ChecksumMatch, ContentDigests, FetchSource, FetchedModule, ModuleRequest},
};

/// A module that passed every check.
pub(crate) struct Verified {
    pub(crate) bytes: Bytes,
    pub(crate) digests: ContentDigests,
    pub(crate) checksum: Option<ChecksumMatch>,
    pub(crate) signed: Met,
    pub(crate) lease: ModuleLease,
}

// === impl Verified ===

impl Verified {
    pub(crate) fn into_module(self, source: FetchSource) -> FetchedModule {
        let ContentDigests { module, manifest, index } = self.digests;
        FetchedModule {
            bytes: self.bytes,
            digest: module,
            manifest_digest: manifest,
            index_digest: index,
            checksum: self.checksum,
            signatures: self.signed.verified,
            source,
            lease: self.lease,
        }
    }
}

/// Checks that it is a module, and the one that was asked for.
pub(crate) async fn verify(
    request: &ModuleRequest,
    bytes: Bytes,
    identity: &Identity,
) -> Result<Verified, FetchError> {
    let url = request.url.to_string();
    // What is no module at all is said first: it explains a wrong digest.
    if let Err(contents) = check_module(&bytes) {
        return Err(FetchError::NotWasm { url, contents });
    }
    let hashed = bytes.clone();
    let module = blocking(&url, move || Digest::sha256_of(&hashed)).await?;
    let (manifest, index) = (identity.manifest.clone(), identity.index.clone());
    let digests = ContentDigests { module, manifest, index };
    let checksum = match &request.sha256 {
        None => None,
        Some(wanted) => match digests.find(wanted) {
            Some(found) => Some(found),
            None => {
                let mismatch = Mismatch::new(url, wanted.clone(), digests);
                return Err(FetchError::DigestMismatch(Box::new(mismatch)));
            }
        },
    };
    Ok(Verified { bytes, digests, checksum, signed: Met::default(), lease: ModuleLease::default() })
}
