//! The directory of a store: modules, what URLs point at, signatures, and who may write.
//!
//! Every function waits for the disk. None of them is the reason that a module cannot run: what
//! cannot be read counts as absent, and what cannot be written is a warning.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use wasmplug_api::Digest;

use crate::{
    cache::Cache,
    chain::ChainStore,
    evidence::EvidenceStore,
    index::{Entry, Index},
    lock::{Locks, ModuleLease, Turn},
    options::StoreOptions,
    request::{CachedModule, ContentDigests, Pruned, Removed},
    signature::Evidence,
    write::Writer,
};

#[derive(Debug)]
pub(crate) struct Disk {
    cache: Cache,
    pub(crate) index: Index,
    evidence: EvidenceStore,
    chains: ChainStore,
    locks: Locks,
    max_bytes: u64,
    max_unused: Duration,
}

/// A verified module that is to be kept.
pub(crate) struct Keep {
    pub(crate) url: String,
    pub(crate) digests: ContentDigests,
    /// Absent if the module is there already.
    pub(crate) bytes: Option<Bytes>,
    pub(crate) evidence: Vec<Evidence>,
    /// The parts of its image, if it must be shown that they lead to it.
    pub(crate) chain: Vec<Bytes>,
    /// By what a web server knows it again.
    pub(crate) validator: Option<String>,
    /// Who got it, if not everyone may.
    pub(crate) fingerprint: Option<Digest>,
}

// === impl Disk ===

impl Disk {
    /// Makes the directory if it is not there.
    pub(crate) fn open(options: &StoreOptions) -> io::Result<Self> {
        let directory = &options.directory;
        let writer = Writer { hook: options.write_hook };
        let locks = Locks::new(directory);
        Ok(Self {
            cache: Cache::open(directory, options.max_module_bytes, writer)?,
            index: Index::open(directory, locks.clone(), writer)?,
            evidence: EvidenceStore::new(directory, writer),
            chains: ChainStore::new(directory, options.max_module_bytes, writer),
            locks,
            max_bytes: options.max_cache_bytes,
            max_unused: options.max_unused,
        })
    }

    /// A module; a disk that cannot be read counts as an empty one.
    pub(crate) fn read(&self, digest: &Digest) -> Option<(Bytes, ModuleLease)> {
        self.cache.read(digest).unwrap_or_else(|error| {
            tracing::warn!(error = %error, "cannot read the module cache");
            None
        })
    }

    /// The signatures that are kept about any of these.
    pub(crate) fn evidence<'a>(&self, about: impl Iterator<Item = &'a Digest>) -> Vec<Evidence> {
        self.evidence.read(about)
    }

    /// Whether it is shown by its parts that an image holds a module; also for what is no image.
    pub(crate) fn proves(&self, digests: &ContentDigests) -> bool {
        digests.manifest.is_none() || self.chains.proves(digests)
    }

    /// Keeps a module, then makes room.
    ///
    /// The module comes first and the URL last: a crash in between leaves a module that nothing
    /// points at, and never a URL that points at nothing.
    pub(crate) fn keep(&self, keep: Keep) -> io::Result<ModuleLease> {
        let Keep { url, digests, bytes, evidence, chain, validator, fingerprint } = keep;
        let is_new = bytes.is_some();
        let lease = match bytes {
            // Whoever has loaded it holds this very file, which must not be replaced by its like.
            Some(bytes) => match self.read(&digests.module) {
                Some((_, lease)) => lease,
                None => self.cache.insert(&digests.module, &bytes)?,
            },
            None => ModuleLease::default(),
        };
        if !evidence.is_empty() {
            let subject = digests.manifest.as_ref().unwrap_or(&digests.module);
            self.evidence.insert(subject, &evidence)?;
        }
        if let (Some(manifest), false) = (&digests.manifest, chain.is_empty()) {
            self.chains.insert(manifest, &chain)?;
        }
        self.index.update(&url, |old| {
            let mut entry = Entry::renewed(old, digests, fingerprint);
            entry.validator = validator;
            entry
        })?;
        if is_new {
            let unused_since = SystemTime::now().checked_sub(self.max_unused);
            let unused_since = unused_since.unwrap_or(SystemTime::UNIX_EPOCH);
            let pruned = self.evict(unused_since, self.max_bytes)?;
            if pruned.files > 0 {
                let Pruned { files, bytes } = pruned;
                tracing::info!(files, bytes, "removed modules that were not used for long");
            }
        }
        Ok(lease)
    }

    /// Takes the turn at fetching from this URL; `None` if another process has it.
    pub(crate) fn try_turn(&self, url: &str) -> io::Result<Option<Turn>> {
        self.locks.try_turn(url)
    }

    /// Removes what nobody has used since then, and more until the size is within the bound.
    pub(crate) fn evict(&self, unused_since: SystemTime, max_bytes: u64) -> io::Result<Pruned> {
        let pruned = self.cache.evict(unused_since, max_bytes)?;
        if pruned.files > 0 {
            self.forget_what_is_gone()?;
        }
        Ok(pruned)
    }

    /// Removes one module.
    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<Removed> {
        if !self.cache.has(digest) {
            return Ok(Removed::Absent);
        }
        if !self.cache.remove(digest)? {
            return Ok(Removed::InUse);
        }
        self.forget_what_is_gone()?;
        Ok(Removed::Done)
    }

    /// All modules, the one that was used last at the end.
    pub(crate) fn list(&self) -> io::Result<Vec<CachedModule>> {
        let mut urls: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for (url, entry) in self.index.entries() {
            urls.entry(entry.module).or_default().push(url);
        }
        let modules = self.cache.list()?.into_iter().filter_map(|blob| {
            let digest = blob.digest.clone()?;
            Some(CachedModule {
                urls: urls.remove(&digest).unwrap_or_default(),
                bytes: blob.bytes,
                last_used: blob.last_used,
                in_use: blob.is_held(),
                digest,
            })
        });
        Ok(modules.collect())
    }

    fn forget_what_is_gone(&self) -> io::Result<()> {
        self.index.retain(|module| self.cache.has(module))?;
        let known = self.index.subjects();
        self.chains.retain(|hex| known.contains(hex))?;
        self.evidence.retain(|hex| known.contains(hex))
    }
}
