//! Modules on disk under their digest: `blobs/sha256/HEX`.
//!
//! A file is written under another name in the same directory, flushed, and renamed, so that a
//! crash leaves either all of it or nothing under its digest. What is read is hashed; a file that
//! does not have its digest is removed and counts as absent.

use std::{
    collections::HashSet,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::Bytes;
use tempfile::NamedTempFile;
use wasmplug_api::Digest;

/// All functions wait for the disk.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    blobs: PathBuf,
    max_bytes: u64,
}

// === impl Cache ===

impl Cache {
    /// Makes the directory if it is not there.
    pub(crate) fn open(directory: &Path, max_bytes: u64) -> io::Result<Self> {
        let blobs = directory.join("blobs").join("sha256");
        fs_err::create_dir_all(&blobs)?;
        Ok(Self { blobs, max_bytes })
    }

    /// The module with this digest, if it is there and intact.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        let path = self.path(digest);
        let file = match fs_err::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() > self.max_bytes {
            // Kept under a larger bound than today's; the download will say what is wrong.
            return Ok(None);
        }
        let mut bytes = Vec::new();
        (&file).take(self.max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
        if Digest::sha256_of(&bytes) == *digest {
            // The time of the last change serves as the time of the last use.
            if let Err(error) = file.file().set_modified(SystemTime::now()) {
                tracing::debug!(error = %error, "cannot note the use of a cached module");
            }
            return Ok(Some(Bytes::from(bytes)));
        }
        tracing::warn!(path = %path.display(), "removing a corrupt module from the cache");
        fs_err::remove_file(&path)?;
        Ok(None)
    }

    /// Keeps a module; the caller has computed its digest.
    pub(crate) fn insert(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        write_atomically(&self.path(digest), bytes)
    }

    /// Removes what was last used before `unused_since`, except these modules; returns how many
    /// files and bytes that freed.
    ///
    /// Files that a crash left half-written go the same way.
    pub(crate) fn prune(
        &self,
        unused_since: SystemTime,
        keep: &HashSet<Digest>,
    ) -> io::Result<(u64, u64)> {
        let keep: HashSet<&str> = keep.iter().map(Digest::hex).collect();
        let (mut files, mut bytes) = (0_u64, 0_u64);
        for entry in fs_err::read_dir(&self.blobs)? {
            let entry = entry?;
            let kept = entry.file_name().to_str().is_some_and(|name| keep.contains(name));
            let metadata = entry.metadata()?;
            if kept || !metadata.is_file() || metadata.modified()? >= unused_since {
                continue;
            }
            match fs_err::remove_file(entry.path()) {
                Ok(()) => {
                    files = files.saturating_add(1);
                    bytes = bytes.saturating_add(metadata.len());
                }
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok((files, bytes))
    }

    /// Whether there is a file under this digest, intact or not.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }
}

/// Replaces a file so that it has either its old or its new content at any time.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The rename itself is kept by the directory.
    fs_err::File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn cache(max_bytes: u64) -> (TempDir, Cache) {
        let directory = TempDir::new().unwrap();
        let cache = Cache::open(directory.path(), max_bytes).unwrap();
        (directory, cache)
    }

    #[test]
    fn what_was_inserted_is_read_and_nothing_else() {
        let (_directory, cache) = cache(100);
        let digest = Digest::sha256_of(b"bytes");
        assert_eq!(cache.read(&digest).unwrap(), None);
        cache.insert(&digest, b"bytes").unwrap();
        assert_eq!(cache.read(&digest).unwrap().unwrap(), b"bytes"[..]);
        assert_eq!(cache.read(&Digest::sha256_of(b"other")).unwrap(), None);
    }

    #[test]
    fn a_corrupt_file_is_removed() {
        let (_directory, cache) = cache(100);
        let digest = Digest::sha256_of(b"bytes");
        cache.insert(&digest, b"bytes").unwrap();
        fs_err::write(cache.path(&digest), b"bytez").unwrap();
        assert_eq!(cache.read(&digest).unwrap(), None);
        assert!(!cache.path(&digest).exists());
        cache.insert(&digest, b"bytes").unwrap();
        assert!(cache.read(&digest).unwrap().is_some());
    }

    #[test]
    fn a_file_beyond_the_bound_is_not_read() {
        let (directory, large) = cache(100);
        let digest = Digest::sha256_of(b"bytes");
        large.insert(&digest, b"bytes").unwrap();
        let small = Cache::open(directory.path(), 4).unwrap();
        assert_eq!(small.read(&digest).unwrap(), None);
        assert!(large.read(&digest).unwrap().is_some());
    }

    #[test]
    fn pruning_takes_the_unused_and_keeps_the_named() {
        let (directory, cache) = cache(100);
        let [one, other] = [b"one", b"two"].map(|bytes| {
            let digest = Digest::sha256_of(bytes);
            cache.insert(&digest, bytes).unwrap();
            digest
        });
        fs_err::write(directory.path().join("blobs/sha256/.tmp1"), "half").unwrap();
        let keep = HashSet::from([other.clone()]);
        assert_eq!(cache.prune(SystemTime::UNIX_EPOCH, &keep).unwrap(), (0, 0));
        let tomorrow = SystemTime::now() + std::time::Duration::from_hours(24);
        assert_eq!(cache.prune(tomorrow, &keep).unwrap(), (2, 7));
        assert!(!cache.has(&one) && cache.has(&other));
    }

    #[test]
    fn reading_counts_as_use() {
        let (_directory, cache) = cache(100);
        let digest = Digest::sha256_of(b"bytes");
        cache.insert(&digest, b"bytes").unwrap();
        let age = |time| {
            let file = fs_err::OpenOptions::new().write(true).open(cache.path(&digest)).unwrap();
            file.file().set_modified(time).unwrap();
        };
        let limit = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        age(SystemTime::UNIX_EPOCH);
        cache.read(&digest).unwrap().unwrap();
        assert_eq!(cache.prune(limit, &HashSet::new()).unwrap(), (0, 0));
        age(SystemTime::UNIX_EPOCH);
        assert_eq!(cache.prune(limit, &HashSet::new()).unwrap(), (1, 5));
    }

    #[test]
    fn writing_leaves_no_other_files_behind() {
        let (directory, cache) = cache(100);
        for _ in 0..2 {
            cache.insert(&Digest::sha256_of(b"bytes"), b"bytes").unwrap();
        }
        let blobs = fs_err::read_dir(directory.path().join("blobs/sha256")).unwrap();
        assert_eq!(blobs.count(), 1);
    }
}
