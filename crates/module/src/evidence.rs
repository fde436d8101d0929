//! Signatures that counted, kept beside the modules: `signatures/sha256/HEX`.
//!
//! They are checked anew whenever they are read: a module in the cache needs no registry to show
//! that it is signed, and what is enough for one key is not taken for enough by another.

use std::{
    io,
    path::{Path, PathBuf},
};

use wasmplug_api::Digest;

use crate::{files, signature::Evidence, write::Writer};

/// Largest file, in bytes.
const MAX_BYTES: u64 = 1024 * 1024;
/// Most signatures that are kept for one image or module.
const MAX_KEPT: usize = 32;

/// All functions wait for the disk.
#[derive(Debug, Clone)]
pub(crate) struct EvidenceStore {
    directory: PathBuf,
    writer: Writer,
}

// === impl EvidenceStore ===

impl EvidenceStore {
    pub(crate) fn new(directory: &Path, writer: Writer) -> Self {
        Self { directory: directory.join("signatures").join("sha256"), writer }
    }

    /// What is kept about any of these; a file that cannot be read counts as absent.
    pub(crate) fn read<'a>(&self, subjects: impl Iterator<Item = &'a Digest>) -> Vec<Evidence> {
        subjects.flat_map(|subject| self.read_one(subject).unwrap_or_default()).collect()
    }

    /// Keeps these beside those that are there.
    pub(crate) fn insert(&self, subject: &Digest, evidence: &[Evidence]) -> io::Result<()> {
        let mut kept = self.read_one(subject).unwrap_or_default();
        let before = kept.len();
        for one in evidence {
            if !kept.iter().any(|it| it.form == one.form) {
                kept.push(one.clone());
            }
        }
        if kept.len() == before {
            return Ok(());
        }
        // The newest are the ones that will be asked for.
        let excess = kept.len().saturating_sub(MAX_KEPT);
        kept.drain(..excess);
        fs_err::create_dir_all(&self.directory)?;
        self.writer.replace(&self.path(subject), &serde_json::to_vec(&kept)?)
    }

    /// Forgets all but these.
    pub(crate) fn retain(&self, is_wanted: impl Fn(&str) -> bool) -> io::Result<()> {
        files::retain(&self.directory, is_wanted, fs_err::remove_file)
    }

    fn read_one(&self, subject: &Digest) -> Option<Vec<Evidence>> {
        let bytes = files::read_at_most(&self.path(subject), MAX_BYTES).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn path(&self, subject: &Digest) -> PathBuf {
        self.directory.join(subject.hex())
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::signature::Form;

    fn evidence(signature: String) -> Evidence {
        Evidence { place: "there".to_owned(), form: Form::Detached(signature) }
    }

    fn store() -> (TempDir, EvidenceStore, Digest) {
        let directory = TempDir::new().unwrap();
        let store = EvidenceStore::new(directory.path(), Writer::default());
        (directory, store, Digest::sha256_of(b"module"))
    }

    #[test]
    fn the_newest_signatures_are_kept_and_as_many_as_the_bound() {
        let (_directory, store, subject) = store();
        let all: Vec<_> = (0..=MAX_KEPT).map(|number| evidence(number.to_string())).collect();
        store.insert(&subject, &all[..MAX_KEPT]).unwrap();
        assert_eq!(store.read([&subject].into_iter()), all[..MAX_KEPT]);
        store.insert(&subject, &all[MAX_KEPT..]).unwrap();
        assert_eq!(store.read([&subject].into_iter()), all[1..]);
    }

    #[test]
    fn a_file_of_signatures_beyond_the_bound_counts_as_absent() {
        let (_directory, store, subject) = store();
        let frame = serde_json::to_vec(&[evidence(String::new())]).unwrap().len();
        let room = usize::try_from(MAX_BYTES).unwrap() - frame;
        let write = |signature: usize| {
            let kept = serde_json::to_vec(&[evidence("x".repeat(signature))]).unwrap();
            fs_err::create_dir_all(&store.directory).unwrap();
            fs_err::write(store.path(&subject), kept).unwrap();
        };
        write(room);
        assert_eq!(store.read([&subject].into_iter()).len(), 1);
        write(room + 1);
        assert_eq!(store.read([&subject].into_iter()), []);
    }
}
