//! What URLs are known to point at: `index.json`, which survives restarts.
//!
//! The index only ever says what was true and verified once. Losing it costs downloads, so a
//! damaged one is dropped with a warning.
//!
//! Processes share it: each change is made to what is in the file at that moment, under a lock,
//! and a change by another process is read when it is noticed.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use serde::{Deserialize, Deserializer, Serialize};
use wasmplug_api::Digest;

use crate::{lock::Locks, request::ContentDigests, write::Writer};

const FILE_NAME: &str = "index.json";
/// Version of the file's format; another one is dropped.
const FORMAT: u32 = 1;
/// Largest index that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 64 * 1024 * 1024;
/// How many different credentials are remembered for one URL.
const MAX_AUTHORIZED: usize = 16;
/// Bytes that make fingerprints of credentials useless outside this index.
const SALT_BYTES: usize = 16;

/// Name of the lock under which the file is rewritten.
const LOCK: &str = "index";

/// Thread-safe; every function may wait for the disk.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    locks: Locks,
    writer: Writer,
    known: Mutex<Known>,
    /// Held while the file is written, so that it is written in order.
    writing: Mutex<()>,
}

/// What was last read or written.
#[derive(Debug)]
struct Known {
    document: Document,
    stamp: Option<Stamp>,
}

/// What changes when a file is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// What is known about one URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(deserialize_with = "digest")]
    pub(crate) module: Digest,
    #[serde(default, deserialize_with = "optional_digest")]
    pub(crate) manifest: Option<Digest>,
    #[serde(default, deserialize_with = "optional_digest")]
    pub(crate) index: Option<Digest>,
    /// By what a web server knows it again.
    #[serde(default)]
    pub(crate) validator: Option<String>,
    /// Who got it: fingerprints of credentials; absent if it was got without any.
    #[serde(default)]
    authorized: Option<Vec<String>>,
    /// Version of each resource (`namespace/name`) when it last asked and succeeded.
    #[serde(default)]
    pub(crate) versions: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Document {
    format: u32,
    salt: String,
    urls: BTreeMap<String, Entry>,
    /// Module by manifest, of every image ever fetched, so that a tag that moves back is known.
    manifests: BTreeMap<String, String>,
}

// === impl Index ===

impl Index {
    /// Reads the index of a directory, or begins a new one.
    pub(crate) fn open(directory: &Path, locks: Locks, writer: Writer) -> io::Result<Self> {
        let path = directory.join(FILE_NAME);
        let stamp = Stamp::of(&path);
        let document = match read(&path)? {
            Some(document) => document,
            None => Document::new()?,
        };
        let known = Mutex::new(Known { document, stamp });
        Ok(Self { path, locks, writer, known, writing: Mutex::new(()) })
    }

    /// What fingerprints of credentials are made with.
    pub(crate) fn salt(&self) -> String {
        self.known().document.salt.clone()
    }

    pub(crate) fn entry(&self, url: &str) -> Option<Entry> {
        self.current().document.urls.get(url).cloned()
    }

    /// All URLs and what is known about them.
    pub(crate) fn entries(&self) -> BTreeMap<String, Entry> {
        self.current().document.urls.clone()
    }

    /// The module that an image with this manifest holds.
    pub(crate) fn module_of(&self, manifest: &Digest) -> Option<Digest> {
        self.current().document.manifests.get(&manifest.to_string())?.parse().ok()
    }

    /// The digests of all modules and manifests, in hexadecimal.
    pub(crate) fn subjects(&self) -> HashSet<String> {
        let known = self.current();
        let document = &known.document;
        let entries = document.urls.values();
        let mut known: HashSet<String> = entries
            .flat_map(|entry| [Some(&entry.module), entry.manifest.as_ref()])
            .flatten()
            .map(|digest| digest.hex().to_owned())
            .collect();
        let manifests = document.manifests.keys();
        known.extend(manifests.filter_map(|it| it.strip_prefix("sha256:")).map(str::to_owned));
        known
    }

    /// Forgets all that leads to modules which are no longer there, and writes the index.
    pub(crate) fn retain(&self, is_there: impl Fn(&Digest) -> bool) -> io::Result<()> {
        self.rewrite(|document| {
            let before = (document.urls.len(), document.manifests.len());
            document.urls.retain(|_, entry| is_there(&entry.module));
            document.manifests.retain(|_, module| module.parse().is_ok_and(|it| is_there(&it)));
            before != (document.urls.len(), document.manifests.len())
        })
    }

    /// Changes the entry of a URL and writes the index.
    pub(crate) fn update(
        &self,
        url: &str,
        change: impl FnOnce(Option<Entry>) -> Entry,
    ) -> io::Result<()> {
        self.rewrite(|document| {
            let old = document.urls.remove(url);
            let before = old.clone();
            let new = change(old);
            if let Some(manifest) = &new.manifest {
                let module = new.module.to_string();
                document.manifests.insert(manifest.to_string(), module);
            }
            let is_changed = before.as_ref() != Some(&new);
            document.urls.insert(url.to_owned(), new);
            is_changed
        })
    }

    /// Changes what is in the file now, and writes it if the change says that it made one.
    ///
    /// If the file cannot be written, the change is in effect for this process.
    fn rewrite(&self, change: impl FnOnce(&mut Document) -> bool) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = self.locks.exclusive(LOCK);
        let bytes = {
            let mut known = self.current();
            if !change(&mut known.document) {
                return Ok(());
            }
            serde_json::to_vec_pretty(&known.document)?
        };
        let _lock = lock?;
        self.writer.replace(&self.path, &bytes)?;
        self.known().stamp = Stamp::of(&self.path);
        Ok(())
    }

    /// What is known, after another process may have changed it.
    fn current(&self) -> MutexGuard<'_, Known> {
        let mut known = self.known();
        let stamp = Stamp::of(&self.path);
        if stamp.is_some() && stamp != known.stamp {
            // One that is damaged keeps what is known here.
            if let Ok(Some(document)) = read(&self.path) {
                known.document = document;
            }
            known.stamp = stamp;
        }
        known
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Stamp ===

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs_err::metadata(path).ok()?;
        let (inode, bytes) = (metadata.ino(), metadata.len());
        Some(Self { inode, bytes, modified: metadata.modified().ok() })
    }
}

// === impl Entry ===

impl Entry {
    /// A new finding; who was let in and which versions were served carries over from the old
    /// entry if it was about the same content.
    pub(crate) fn renewed(
        old: Option<Self>,
        found: ContentDigests,
        fingerprint: Option<Digest>,
    ) -> Self {
        let ContentDigests { module, manifest, index } = found;
        let old = old.filter(|old| old.module == module && old.manifest == manifest);
        let authorized = match (fingerprint, &old) {
            (None, _) | (Some(_), Some(Self { authorized: None, .. })) => None,
            (Some(new), old) => {
                let known = old.as_ref().and_then(|old| old.authorized.clone());
                let mut known = known.unwrap_or_default();
                known.retain(|one| *one != new.hex());
                known.insert(0, new.hex().to_owned());
                known.truncate(MAX_AUTHORIZED);
                Some(known)
            }
        };
        let versions = old.map(|old| old.versions).unwrap_or_default();
        Self { module, manifest, index, validator: None, authorized, versions }
    }

    /// Whether who has this credential (or none) got it before, or anyone may.
    pub(crate) fn allows(&self, fingerprint: Option<&Digest>) -> bool {
        match (&self.authorized, fingerprint) {
            (None, _) => true,
            (Some(known), Some(fingerprint)) => known.iter().any(|it| it == fingerprint.hex()),
            (Some(_), None) => false,
        }
    }

    pub(crate) fn digests(&self) -> ContentDigests {
        ContentDigests {
            module: self.module.clone(),
            manifest: self.manifest.clone(),
            index: self.index.clone(),
        }
    }
}

// === impl Document ===

impl Document {
    fn new() -> io::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(|error| io::Error::other(error.to_string()))?;
        // The digest is merely a way to write it as text.
        let salt = Digest::sha256_of(&salt).hex().to_owned();
        Ok(Self { format: FORMAT, salt, urls: BTreeMap::new(), manifests: BTreeMap::new() })
    }
}

fn read(path: &Path) -> io::Result<Option<Document>> {
    match fs_err::metadata(path) {
        Ok(metadata) if metadata.len() <= MAX_INDEX_BYTES => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let document = serde_json::from_slice::<Document>(&fs_err::read(path)?);
    match document {
        Ok(document) if document.format == FORMAT => Ok(Some(document)),
        Ok(document) => {
            tracing::warn!(format = document.format, "dropping a module index of another format");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!(error = %error, "dropping a damaged module index");
            Ok(None)
        }
    }
}

fn digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(serde::de::Error::custom)
}

fn optional_digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Digest>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn found(name: &[u8]) -> ContentDigests {
        ContentDigests {
            module: Digest::sha256_of(name),
            manifest: Some(Digest::sha256_of(&[name, b" manifest"].concat())),
            index: None,
        }
    }

    fn open(directory: &TempDir) -> io::Result<Index> {
        Index::open(directory.path(), Locks::new(directory.path()), Writer::default())
    }

    fn record(index: &Index, url: &str, name: &[u8], fingerprint: Option<Digest>) {
        index.update(url, |old| Entry::renewed(old, found(name), fingerprint)).unwrap();
    }

    #[test]
    fn entries_and_salt_survive_a_restart() {
        let directory = TempDir::new().unwrap();
        let index = open(&directory).unwrap();
        record(&index, "oci://a", b"one", None);
        let again = open(&directory).unwrap();
        assert_eq!(again.entry("oci://a"), index.entry("oci://a"));
        assert_eq!(again.salt(), index.salt());
        assert_eq!(again.entry("oci://b"), None);
    }

    #[test]
    fn damaged_and_foreign_files_begin_anew() {
        let directory = TempDir::new().unwrap();
        for text in ["", "{", "[]", r#"{"format":2,"salt":"","urls":{},"manifests":{}}"#] {
            fs_err::write(directory.path().join(FILE_NAME), text).unwrap();
            let index = open(&directory).unwrap();
            assert_eq!(index.entry("oci://a"), None, "{text:?}");
            assert_eq!(index.salt().len(), 64, "{text:?}");
        }
        let bad = r#"{"format":1,"salt":"","urls":{"oci://a":{"module":"x"}},"manifests":{}}"#;
        fs_err::write(directory.path().join(FILE_NAME), bad).unwrap();
        assert_eq!(open(&directory).unwrap().entry("oci://a"), None);
    }

    #[test]
    fn modules_of_manifests_are_known_after_the_tag_moved() {
        let directory = TempDir::new().unwrap();
        let index = open(&directory).unwrap();
        record(&index, "oci://a", b"one", None);
        record(&index, "oci://a", b"two", None);
        for name in [&b"one"[..], b"two"] {
            let ContentDigests { module, manifest, .. } = found(name);
            assert_eq!(index.module_of(&manifest.unwrap()), Some(module));
        }
        assert_eq!(index.module_of(&Digest::sha256_of(b"unknown")), None);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let directory = TempDir::new().unwrap();
        let index = open(&directory).unwrap();
        record(&index, "oci://a", b"one", None);
        record(&index, "oci://b", b"two", None);
        index.retain(|module| *module == found(b"two").module).unwrap();
        let again = open(&directory).unwrap();
        assert_eq!(again.entry("oci://a"), None);
        assert_eq!(again.module_of(&found(b"one").manifest.unwrap()), None);
        assert!(again.entry("oci://b").is_some());
        assert!(again.module_of(&found(b"two").manifest.unwrap()).is_some());
    }

    #[test]
    fn private_content_is_for_those_who_got_it() {
        let (one, other) = (Digest::sha256_of(b"one"), Digest::sha256_of(b"other"));
        let private = Entry::renewed(None, found(b"x"), Some(one.clone()));
        assert!(private.allows(Some(&one)));
        assert!(!private.allows(Some(&other)) && !private.allows(None));
        let both = Entry::renewed(Some(private.clone()), found(b"x"), Some(other.clone()));
        assert!(both.allows(Some(&one)) && both.allows(Some(&other)) && !both.allows(None));
        let moved = Entry::renewed(Some(both), found(b"y"), Some(other.clone()));
        assert!(!moved.allows(Some(&one)));
        let public = Entry::renewed(Some(private), found(b"x"), None);
        assert!(public.allows(None) && public.allows(Some(&other)));
    }

    #[test]
    fn remembered_credentials_are_bounded() {
        let fingerprint = |number: u32| Digest::sha256_of(&number.to_le_bytes());
        let entry = (0..100).fold(None, |old, number| {
            Some(Entry::renewed(old, found(b"x"), Some(fingerprint(number))))
        });
        let entry = entry.unwrap();
        let remembered = (0..100).filter(|number| entry.allows(Some(&fingerprint(*number))));
        let newest = 100 - u32::try_from(MAX_AUTHORIZED).unwrap();
        assert!(remembered.eq(newest..100));
    }

    #[test]
    fn two_that_share_a_file_lose_nothing_of_one_another() {
        let directory = TempDir::new().unwrap();
        let [one, other] = [(); 2].map(|()| open(&directory).unwrap());
        record(&one, "oci://a", b"one", None);
        record(&other, "oci://b", b"two", None);
        for index in [&one, &other, &open(&directory).unwrap()] {
            assert!(index.entry("oci://a").is_some() && index.entry("oci://b").is_some());
        }
        // Fingerprints of credentials mean the same to both.
        assert_eq!(one.salt(), other.salt());
        one.retain(|module| *module == found(b"two").module).unwrap();
        assert_eq!(other.entry("oci://a"), None);
    }

    #[test]
    fn an_index_beyond_the_bound_begins_anew_and_one_at_it_is_read() {
        let directory = TempDir::new().unwrap();
        record(&open(&directory).unwrap(), "oci://a", b"one", None);
        let path = directory.path().join(FILE_NAME);
        let mut text = fs_err::read(&path).unwrap();
        text.resize(usize::try_from(MAX_INDEX_BYTES).unwrap(), b' ');
        fs_err::write(&path, &text).unwrap();
        assert!(open(&directory).unwrap().entry("oci://a").is_some());
        text.push(b' ');
        fs_err::write(&path, &text).unwrap();
        assert_eq!(open(&directory).unwrap().entry("oci://a"), None);
    }
}
