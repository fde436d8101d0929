//! Modules on disk under their digest: `blobs/sha256/HEX`.
//!
//! What is read is hashed; a file that does not have its digest is removed and counts as absent.
//! The time of a file's last change is that of its last use.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use wasmplug_api::Digest;

use crate::{lock::ModuleLease, request::Pruned, write::Writer};

/// After this long a file that is not complete was left by a crash.
const UNFINISHED_FOR: Duration = Duration::from_hours(1);

/// All functions wait for the disk.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    blobs: PathBuf,
    max_bytes: u64,
    writer: Writer,
}

/// A file of the cache.
#[derive(Debug)]
pub(crate) struct Blob {
    path: PathBuf,
    /// `None` for one that is not complete.
    pub(crate) digest: Option<Digest>,
    pub(crate) bytes: u64,
    pub(crate) last_used: SystemTime,
}

// === impl Cache ===

impl Cache {
    /// Makes the directory if it is not there.
    ///
    /// On a disk that is read-only it is an empty cache: modules run from memory.
    pub(crate) fn open(directory: &Path, max_bytes: u64, writer: Writer) -> io::Result<Self> {
        let blobs = directory.join("blobs").join("sha256");
        match fs_err::create_dir_all(&blobs) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                tracing::warn!(error = %error, "modules cannot be kept and are fetched each time");
            }
            other => other?,
        }
        Ok(Self { blobs, max_bytes, writer })
    }

    /// The module with this digest, if it is there and intact; held until the lease is dropped.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Option<(Bytes, ModuleLease)>> {
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
            return Ok(Some((Bytes::from(bytes), ModuleLease::of(file.into_file()))));
        }
        tracing::warn!(path = %path.display(), "removing a corrupt module from the cache");
        fs_err::remove_file(&path)?;
        Ok(None)
    }

    /// Keeps a module and holds it; the caller has computed its digest.
    pub(crate) fn insert(&self, digest: &Digest, bytes: &[u8]) -> io::Result<ModuleLease> {
        let path = self.path(digest);
        self.writer.replace(&path, bytes)?;
        Ok(ModuleLease::of(fs_err::File::open(path)?.into_file()))
    }

    /// Every module, the one that was used last at the end.
    pub(crate) fn list(&self) -> io::Result<Vec<Blob>> {
        let mut blobs = Vec::new();
        let entries = match fs_err::read_dir(&self.blobs) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(blobs),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let metadata = match entry.metadata() {
                Ok(metadata) if metadata.is_file() => metadata,
                Ok(_) => continue,
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let (path, last_used) = (entry.path(), metadata.modified()?);
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            blobs.push(Blob { path, digest, bytes: metadata.len(), last_used });
        }
        blobs.sort_by(|a, b| (a.last_used, &a.path).cmp(&(b.last_used, &b.path)));
        Ok(blobs)
    }

    /// Removes what was last used before `unused_since`, and the longest unused until all together
    /// have at most `max_bytes`; nothing that anybody holds.
    ///
    /// Files that a crash left half-written go as well, once nobody can be writing them.
    pub(crate) fn evict(&self, unused_since: SystemTime, max_bytes: u64) -> io::Result<Pruned> {
        let abandoned = SystemTime::now().checked_sub(UNFINISHED_FOR);
        let blobs = self.list()?;
        let mut total: u64 = blobs.iter().map(|blob| blob.bytes).sum();
        let mut pruned = Pruned::default();
        for blob in blobs {
            let is_unused = blob.last_used < unused_since;
            let goes = match blob.digest {
                Some(_) => is_unused || total > max_bytes,
                None => is_unused || abandoned.is_some_and(|since| blob.last_used < since),
            };
            if goes && blob.remove()? {
                total = total.saturating_sub(blob.bytes);
                pruned.files = pruned.files.saturating_add(1);
                pruned.bytes = pruned.bytes.saturating_add(blob.bytes);
            }
        }
        Ok(pruned)
    }

    /// Removes one module; false if it is not there or somebody holds it.
    pub(crate) fn remove(&self, digest: &Digest) -> io::Result<bool> {
        let blob = self.list()?.into_iter().find(|blob| blob.digest.as_ref() == Some(digest));
        blob.map_or(Ok(false), |blob| blob.remove())
    }

    /// Whether there is a file under this digest, intact or not.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }
}

// === impl Blob ===

impl Blob {
    /// Whether anybody has loaded it.
    pub(crate) fn is_held(&self) -> bool {
        fs_err::File::open(&self.path).is_ok_and(|file| ModuleLease::is_held(file.file()))
    }

    /// Removes it, unless somebody holds it; false if it stays or was gone.
    fn remove(&self) -> io::Result<bool> {
        let file = match fs_err::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        // Held here until it is gone, so that nobody begins to hold it meanwhile.
        if ModuleLease::is_held(file.file()) {
            return Ok(false);
        }
        match fs_err::remove_file(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn cache(max_bytes: u64) -> (TempDir, Cache) {
        let directory = TempDir::new().unwrap();
        let cache = Cache::open(directory.path(), max_bytes, Writer::default()).unwrap();
        (directory, cache)
    }

    #[test]
    fn what_was_inserted_is_read_and_nothing_else() {
        let (_directory, cache) = cache(100);
        let digest = Digest::sha256_of(b"bytes");
        assert!(cache.read(&digest).unwrap().is_none());
        cache.insert(&digest, b"bytes").unwrap();
        assert_eq!(cache.read(&digest).unwrap().unwrap().0, b"bytes"[..]);
        assert!(cache.read(&Digest::sha256_of(b"other")).unwrap().is_none());
    }

    #[test]
    fn a_corrupt_file_is_removed() {
        let (_directory, cache) = cache(100);
        let digest = Digest::sha256_of(b"bytes");
        cache.insert(&digest, b"bytes").unwrap();
        fs_err::write(cache.path(&digest), b"bytez").unwrap();
        assert!(cache.read(&digest).unwrap().is_none());
        assert!(!cache.path(&digest).exists());
        cache.insert(&digest, b"bytes").unwrap();
        assert!(cache.read(&digest).unwrap().is_some());
    }

    #[test]
    fn a_file_beyond_the_bound_is_not_read() {
        let (directory, large) = cache(100);
        let digest = Digest::sha256_of(b"bytes");
        large.insert(&digest, b"bytes").unwrap();
        let small = Cache::open(directory.path(), 4, Writer::default()).unwrap();
        assert!(small.read(&digest).unwrap().is_none());
        assert!(large.read(&digest).unwrap().is_some());
    }

    /// Sets the time of the last use, in seconds since 1970.
    fn used_at(cache: &Cache, digest: &Digest, seconds: u64) {
        let file = fs_err::OpenOptions::new().write(true).open(cache.path(digest)).unwrap();
        file.file().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Modules of three, four and five bytes, used at 1, 2 and 3.
    fn three(cache: &Cache) -> [Digest; 3] {
        let mut time = 0;
        [&b"one"[..], b"four", b"fifth"].map(|bytes| {
            let digest = Digest::sha256_of(bytes);
            drop(cache.insert(&digest, bytes).unwrap());
            time += 1;
            used_at(cache, &digest, time);
            digest
        })
    }

    #[test]
    fn what_was_unused_for_longest_goes_first_and_only_as_far_as_needed() {
        let (_directory, cache) = cache(100);
        let [one, four, fifth] = three(&cache);
        assert_eq!(cache.evict(at(0), 12).unwrap(), Pruned::default());
        assert_eq!(cache.evict(at(0), 11).unwrap(), Pruned { files: 1, bytes: 3 });
        assert!(!cache.has(&one) && cache.has(&four));
        assert_eq!(cache.evict(at(3), u64::MAX).unwrap(), Pruned { files: 1, bytes: 4 });
        assert!(!cache.has(&four) && cache.has(&fifth));
    }

    #[test]
    fn what_is_held_stays_however_old_and_large() {
        let (_directory, cache) = cache(100);
        let [one, four, fifth] = three(&cache);
        let (_, lease) = cache.read(&four).unwrap().unwrap();
        let also = lease.clone();
        drop(lease);
        assert_eq!(cache.evict(SystemTime::now(), 0).unwrap(), Pruned { files: 2, bytes: 8 });
        assert!(!cache.has(&one) && cache.has(&four) && !cache.has(&fifth));
        assert!(!cache.remove(&four).unwrap());
        drop(also);
        assert!(cache.remove(&four).unwrap() && !cache.has(&four));
        assert!(!cache.remove(&four).unwrap());
    }

    #[test]
    fn reading_counts_as_use() {
        let (_directory, cache) = cache(100);
        let [one, ..] = three(&cache);
        drop(cache.read(&one).unwrap());
        assert_eq!(cache.evict(at(2), u64::MAX).unwrap(), Pruned::default());
        used_at(&cache, &one, 1);
        assert_eq!(cache.evict(at(2), u64::MAX).unwrap(), Pruned { files: 1, bytes: 3 });
    }

    #[test]
    fn what_a_crash_left_goes_once_nobody_can_be_writing_it() {
        let (_directory, cache) = cache(100);
        let [fresh, abandoned] = [".tmpfresh", ".tmpold"].map(|name| cache.blobs.join(name));
        fs_err::write(&fresh, "half").unwrap();
        fs_err::write(&abandoned, "half").unwrap();
        // The clock goes on, so the younger one has a margin.
        let margin = Duration::from_mins(10);
        for (path, age) in
            [(&fresh, UNFINISHED_FOR.saturating_sub(margin)), (&abandoned, UNFINISHED_FOR)]
        {
            let file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
            file.file().set_modified(SystemTime::now() - age).unwrap();
        }
        assert_eq!(cache.evict(at(0), 0).unwrap(), Pruned { files: 1, bytes: 4 });
        assert!(fresh.exists() && !abandoned.exists());
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
