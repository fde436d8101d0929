//! Locks between processes that share a directory; the system lets go of them when a process
//! ends, however it ends.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use wasmplug_api::Digest;

/// How many different turns there are; requests whose URLs share one wait for one another.
const TURNS: u8 = 64;

/// Keeps a module in the cache while it is held; cheap to clone.
///
/// No process evicts a module that any process holds. Whoever has loaded a module holds it, so
/// that a restart finds it although nobody has asked for it for weeks.
#[derive(Debug, Clone, Default)]
pub struct ModuleLease {
    /// Open with a shared lock; absent for what is not in the cache.
    _file: Option<Arc<File>>,
}

/// A turn at fetching, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _file: File,
}

/// The locks of one directory.
#[derive(Debug, Clone)]
pub(crate) struct Locks {
    directory: PathBuf,
}

// === impl ModuleLease ===

impl ModuleLease {
    /// Holds an open file of the cache.
    ///
    /// Where the file system knows no locks, nothing is held: eviction then goes by age alone.
    pub(crate) fn of(file: File) -> Self {
        match file.lock_shared() {
            Ok(()) => Self { _file: Some(Arc::new(file)) },
            Err(_) => Self::default(),
        }
    }

    /// Whether anybody, here or in another process, holds this file.
    pub(crate) fn is_held(file: &File) -> bool {
        matches!(file.try_lock(), Err(TryLockError::WouldBlock))
    }
}

// === impl Locks ===

impl Locks {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.join("locks") }
    }

    /// Waits for the right to rewrite a file that processes share.
    pub(crate) fn exclusive(&self, name: &str) -> io::Result<File> {
        let file = self.open(name)?;
        file.lock()?;
        Ok(file)
    }

    /// Takes the turn of this URL; `None` if somebody else has it.
    pub(crate) fn try_turn(&self, url: &str) -> io::Result<Option<Turn>> {
        let digest = Digest::sha256_of(url.as_bytes());
        let number = u8::from_str_radix(digest.hex().get(..2).unwrap_or_default(), 16);
        let file = self.open(&format!("turn-{:02}", number.unwrap_or_default() % TURNS))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Turn { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn open(&self, name: &str) -> io::Result<File> {
        fs_err::create_dir_all(&self.directory)?;
        let path = self.directory.join(name);
        let file =
            fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
        Ok(file.into_file())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn one_at_a_time_has_the_turn_of_a_url() {
        let directory = TempDir::new().unwrap();
        let locks = Locks::new(directory.path());
        let turn = locks.try_turn("oci://r.example/a").unwrap();
        assert!(turn.is_some());
        assert!(Locks::new(directory.path()).try_turn("oci://r.example/a").unwrap().is_none());
        assert!(locks.try_turn("oci://r.example/b").unwrap().is_some());
        drop(turn);
        assert!(locks.try_turn("oci://r.example/a").unwrap().is_some());
    }

    #[test]
    fn a_directory_that_cannot_be_written_gives_no_turn() {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("file");
        fs_err::write(&file, "").unwrap();
        assert!(Locks::new(&file).try_turn("oci://r.example/a").is_err());
    }

    #[test]
    fn turns_are_as_many_as_the_bound_and_urls_share_them() {
        let directory = TempDir::new().unwrap();
        let locks = Locks::new(directory.path());
        let turns: Vec<_> = (0..1000)
            .filter_map(|number| locks.try_turn(&format!("oci://r.example/{number}")).unwrap())
            .collect();
        assert_eq!(turns.len(), usize::from(TURNS));
    }
}
