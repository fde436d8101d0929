//! What to fetch, for which resource and under which policy; and what came of it.

use std::time::SystemTime;

use bytes::Bytes;
use wasmplug_api::{Digest, ModuleUrl, NamespacedName, PlannedPlugin, PullPolicy};

use crate::{
    auth::RegistryCredentials,
    lock::ModuleLease,
    progress::Progress,
    signature::{Subject, VerifiedSignature},
};

/// A module that a resource wants.
#[derive(Debug, Clone)]
pub struct ModuleRequest {
    /// The resource that wants it.
    pub resource: NamespacedName,
    /// Version of the resource; a change makes [`PullPolicy::Always`] ask again.
    ///
    /// An empty one is unknown, and counts as changed each time.
    pub resource_version: String,
    /// Where the module is.
    pub url: ModuleUrl,
    /// What has to be found there; see [`ChecksumMatch`].
    pub sha256: Option<Digest>,
    /// When what is in the cache is good enough.
    pub pull_policy: PullPolicy,
    /// Who pulls, if not anyone may. Used for `oci` only.
    pub credentials: Option<RegistryCredentials>,
    /// Whether to ask again now although the resource has not changed.
    ///
    /// Under a policy that pulls always, what is found takes effect. Under another one it is only
    /// compared with what is in the cache, so that a tag that was moved is noticed.
    pub refresh: bool,
    /// Tells how far the fetch has come, to whoever has a clone of it.
    pub progress: Progress,
    /// Public keys in PEM, one of which must have signed the module; see [`VerificationKeys`].
    ///
    /// [`VerificationKeys`]: crate::VerificationKeys
    pub verification_key: Option<String>,
}

/// A verified module.
#[derive(Debug, Clone)]
pub struct FetchedModule {
    /// The module.
    pub bytes: Bytes,
    /// SHA-256 of these bytes.
    pub digest: Digest,
    /// Digest of the image's manifest, after a platform was chosen; only for `oci`.
    pub manifest_digest: Option<Digest>,
    /// Digest of the index in which the manifest was found, if there was one.
    pub index_digest: Option<Digest>,
    /// What the requested `sha256` was found to be; `None` if none was requested.
    pub checksum: Option<ChecksumMatch>,
    /// The signatures that count; empty if none was asked for.
    pub signatures: Vec<VerifiedSignature>,
    /// Where the bytes were taken from.
    pub source: FetchSource,
    /// Keeps the module in the cache for as long as it is held.
    pub lease: ModuleLease,
}

/// Which digest a requested `sha256` is equal to.
///
/// Source: `WasmPlugin.sha256`. Differs: Istio compares an image only with the manifest of
/// `linux/amd64`, and does not look at files at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChecksumMatch {
    /// That of the module; the only possibility for `http`, `https` and `file`.
    Module,
    /// That of the image's manifest, after a platform was chosen.
    Manifest,
    /// That of the image index, which is what registries show for a multi-platform tag.
    Index,
}

/// Where bytes were taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchSource {
    /// The cache; the registry may have been asked for the manifest.
    Cache,
    /// A download during this call, of this or a concurrent request.
    Network,
    /// The file that a `file` URL names.
    File,
}

/// What a store has done since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounters {
    /// Requests that the cache answered.
    pub hits: u64,
    /// Requests that it could not answer.
    pub misses: u64,
    /// Fetches that brought a module, or found that it is the one in the cache.
    pub fetched: u64,
    /// Fetches that failed before there was a module.
    pub failed_downloads: u64,
    /// Fetches whose module was not the one that was wanted: another digest, not a module.
    pub wrong_modules: u64,
    /// Fetches that were refused for their signature.
    pub refused_signatures: u64,
    /// Tags that were found to point at another image than before.
    pub moved_tags: u64,
}

/// A module in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedModule {
    /// Its digest, under which it lies.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// When it was last got from the cache, or put there.
    pub last_used: SystemTime,
    /// Whether a process has loaded it.
    pub in_use: bool,
    /// The URLs that are known to point at it.
    pub urls: Vec<String>,
}

/// What came of [`ModuleStore::remove`](crate::ModuleStore::remove).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Done,
    /// It was not there.
    Absent,
    /// A process has loaded it, so it stays.
    InUse,
}

/// What [`ModuleStore::evict`](crate::ModuleStore::evict) freed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
}

/// Everything that names one piece of content, to compare a requested `sha256` with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContentDigests {
    pub(crate) module: Digest,
    pub(crate) manifest: Option<Digest>,
    pub(crate) index: Option<Digest>,
}

// === impl ModuleRequest ===

impl From<&PlannedPlugin> for ModuleRequest {
    /// The request without credentials; whoever can read secrets adds them.
    fn from(plugin: &PlannedPlugin) -> Self {
        Self {
            resource: plugin.resource.clone(),
            resource_version: plugin.resource_version.clone(),
            url: plugin.url.clone(),
            sha256: plugin.sha256.clone(),
            pull_policy: plugin.pull_policy,
            credentials: None,
            refresh: false,
            progress: Progress::default(),
            verification_key: plugin.verification_key.clone(),
        }
    }
}

impl ModuleRequest {
    /// Whether a changed resource asks the registry or server again.
    ///
    /// A URL with a digest never does: its content cannot change.
    ///
    /// Source: `WasmPlugin.imagePullPolicy`. Differs: Istio takes a reference without a tag for
    /// `IfNotPresent` although it means `latest`.
    pub(crate) fn pulls_always(&self) -> bool {
        let tag = match &self.url {
            ModuleUrl::Oci(reference) if reference.digest.is_some() => return false,
            ModuleUrl::Oci(reference) => Some(reference.tag.as_deref().unwrap_or("latest")),
            ModuleUrl::Http(_) | ModuleUrl::File(_) => None,
        };
        match self.pull_policy {
            PullPolicy::Always => true,
            PullPolicy::IfNotPresent => false,
            PullPolicy::Unspecified => tag == Some("latest"),
        }
    }
}

// === impl ContentDigests ===

impl ContentDigests {
    /// What signatures of this content are about.
    pub(crate) fn subject<'a>(&'a self, bytes: &'a [u8]) -> Subject<'a> {
        let (manifest, index) = (self.manifest.as_ref(), self.index.as_ref());
        Subject { module: Some((&self.module, bytes)), manifest, index }
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Digest> {
        [Some(&self.module), self.manifest.as_ref(), self.index.as_ref()].into_iter().flatten()
    }

    /// Which of them the wanted digest is, the most specific first.
    pub(crate) fn find(&self, wanted: &Digest) -> Option<ChecksumMatch> {
        if self.module == *wanted {
            Some(ChecksumMatch::Module)
        } else if self.manifest.as_ref() == Some(wanted) {
            Some(ChecksumMatch::Manifest)
        } else if self.index.as_ref() == Some(wanted) {
            Some(ChecksumMatch::Index)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, pull_policy: PullPolicy) -> ModuleRequest {
        ModuleRequest {
            resource: NamespacedName { namespace: "default".into(), name: "demo".into() },
            resource_version: String::new(),
            url: ModuleUrl::parse(url).unwrap(),
            sha256: None,
            pull_policy,
            credentials: None,
            refresh: false,
            progress: Progress::default(),
            verification_key: None,
        }
    }

    #[test]
    fn an_unspecified_policy_depends_on_the_tag() {
        let digest = Digest::sha256_of(b"");
        let pinned = format!("oci://r.io/a:latest@{digest}");
        let rows = [
            ("oci://r.io/a", true),
            ("oci://r.io/a:latest", true),
            ("oci://r.io/a:v1", false),
            (pinned.as_str(), false),
            ("http://r.io/a:latest", false),
        ];
        for (url, always) in rows {
            assert_eq!(request(url, PullPolicy::Unspecified).pulls_always(), always, "{url}");
        }
    }

    #[test]
    fn a_given_policy_wins_over_the_tag_but_not_over_a_digest() {
        assert!(request("oci://r.io/a:v1", PullPolicy::Always).pulls_always());
        assert!(request("https://r.io/a", PullPolicy::Always).pulls_always());
        assert!(!request("oci://r.io/a:latest", PullPolicy::IfNotPresent).pulls_always());
        let pinned = format!("oci://r.io/a@{}", Digest::sha256_of(b""));
        assert!(!request(&pinned, PullPolicy::Always).pulls_always());
    }
}
