//! Compiled code kept on disk, so that a module is compiled once and not at each start.
//!
//! This is the one place of the workspace with `unsafe`: loading compiled code means to run it as it
//! is. A file is loaded only if it is whole, was written by an engine of the same version and
//! settings, and lies where nobody but this user can write. Everything else is compiled anew.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::process::geteuid;
use sha2::{Digest, Sha256};
use wasmtime::Module;

use crate::compiled_module::CompiledModule;
use crate::error::LoadError;
use crate::host::Host;

/// Most bytes of compiled code that are kept unless it is said otherwise. Source: ours.
pub const MAX_COMPILED_BYTES: u64 = 1 << 30;
/// Length of the digest in front of the code.
const DIGEST_BYTES: usize = 32;
/// Ending of the files.
const ENDING: &str = "cwasm";
/// Bits of a mode that let others write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Compiled modules in a directory. Several processes may share it.
#[derive(Debug)]
pub struct CompiledCache {
    directory: PathBuf,
    max_bytes: u64,
}

/// Why a directory cannot hold compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CompiledCacheError {
    /// It cannot be made or looked at.
    #[error("cannot use `{}` for compiled modules", .directory.display())]
    Io {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Code in it would be run, and somebody else could put it there.
    #[error(
        "`{}` belongs to another user or can be written by others, so compiled code in it is not \
         trusted", .directory.display()
    )]
    Exposed {
        /// The directory.
        directory: PathBuf,
    },
}

// === impl CompiledCache ===

impl CompiledCache {
    /// Opens a directory, which is made if it is not there, and holds at most `max_bytes`.
    ///
    /// # Errors
    /// [`CompiledCacheError`] if it cannot be used, or others can write to it.
    pub fn open(directory: impl Into<PathBuf>, max_bytes: u64) -> Result<Self, CompiledCacheError> {
        let directory = directory.into();
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        let owned = made.and_then(|()| is_ours(&directory));
        match owned {
            Ok(true) => Ok(Self { directory, max_bytes }),
            Ok(false) => Err(CompiledCacheError::Exposed { directory }),
            Err(source) => Err(CompiledCacheError::Io { directory, source }),
        }
    }

    /// Loads compiled code of a module, or compiles it and keeps that for the next time. A file
    /// that cannot be used, or a disk that is full, only costs the time.
    ///
    /// Blocks, up to seconds: never call it on a worker.
    ///
    /// # Errors
    /// [`LoadError`] as of [`CompiledModule::compile`].
    pub fn compile(&self, host: &Arc<Host>, bytes: &[u8]) -> Result<CompiledModule, LoadError> {
        let path = self.path(host, bytes);
        if let Some(module) = load(host, &path) {
            return CompiledModule::of(host, &module);
        }
        let module =
            Module::from_binary(&host.engine().inner, bytes).map_err(LoadError::Compile)?;
        let compiled = CompiledModule::of(host, &module)?;
        if let Ok(code) = module.serialize() {
            // The next start compiles again, which is all that is lost.
            let _ = self.keep(&path, &code);
        }
        Ok(compiled)
    }

    /// Names the code after the module and everything that the engine's code depends on.
    fn path(&self, host: &Host, bytes: &[u8]) -> PathBuf {
        let mut engine = DefaultHasher::new();
        host.engine().inner.precompile_compatibility_hash().hash(&mut engine);
        let module = hex(&Sha256::digest(bytes));
        self.directory.join(format!("{module}-{:016x}.{ENDING}", engine.finish()))
    }

    /// Writes a file under another name and renames it, so that nobody reads half of it.
    fn keep(&self, path: &Path, code: &[u8]) -> std::io::Result<()> {
        let size = u64::try_from(code.len()).unwrap_or(u64::MAX);
        if size > self.max_bytes {
            return Ok(());
        }
        self.make_room(size)?;
        let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
        let mut options = std::fs::OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let written = file
            .write_all(&Sha256::digest(code))
            .and_then(|()| file.write_all(code))
            .and_then(|()| std::fs::rename(&temporary, path));
        if written.is_err() {
            let _ = std::fs::remove_file(&temporary);
        }
        written
    }

    /// Removes what was not used for the longest time.
    fn make_room(&self, wanted: u64) -> std::io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if let Ok(metadata) = path.metadata()
                && metadata.is_file()
            {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                files.push((used, metadata.len(), path));
            }
        }
        files.sort_unstable();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files {
            if total.saturating_add(wanted) <= self.max_bytes {
                break;
            }
            // Another process may have been faster.
            if std::fs::remove_file(path).is_ok() {
                total = total.saturating_sub(size);
            }
        }
        Ok(())
    }
}

/// The module in a file, if it can be trusted.
fn load(host: &Host, path: &Path) -> Option<Module> {
    if !is_ours(path).ok()? {
        return None;
    }
    let content = std::fs::read(path).ok()?;
    let (digest, code) = content.split_at_checked(DIGEST_BYTES)?;
    if Sha256::digest(code).as_slice() != digest {
        let _ = std::fs::remove_file(path);
        return None;
    }
    // Says that it was used; a read-only disk forgets it.
    let used = std::fs::File::options().append(true).open(path);
    let _ = used.and_then(|file| file.set_modified(SystemTime::now()));
    deserialize(host, code)
}

#[expect(unsafe_code, reason = "compiled code can only be loaded this way; see the decisions")]
fn deserialize(host: &Host, code: &[u8]) -> Option<Module> {
    // SAFETY: the code was made by `Module::serialize` of an engine of this version with these
    // settings (the file's name says so, and wasmtime compares them again), it is whole (its digest
    // was just compared), and nobody but this user can have written it (its directory and the file
    // were looked at).
    unsafe { Module::deserialize(&host.engine().inner, code) }.ok()
}

/// Whether only this user can write there.
fn is_ours(path: &Path) -> std::io::Result<bool> {
    let metadata = std::fs::symlink_metadata(path)?;
    let is_of_user = metadata.uid() == geteuid().as_raw();
    Ok(is_of_user && metadata.mode() & WRITABLE_BY_OTHERS == 0 && !metadata.is_symlink())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::{CompiledCache, CompiledCacheError, DIGEST_BYTES, MAX_COMPILED_BYTES};
    use crate::host::Host;

    const MODULE: &str = r#"(module
        (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1"))
        (func (export "malloc") (param i32) (result i32) (i32.const 8)))"#;

    fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_was_compiled_once_is_loaded_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("compiled");
        let module = wat::parse_str(MODULE).unwrap();
        for _ in 0..2 {
            let cache = CompiledCache::open(&directory, MAX_COMPILED_BYTES).unwrap();
            let host = Arc::new(Host::new().unwrap());
            assert_eq!(cache.compile(&host, &module).unwrap().abi_version().to_string(), "0.2.1");
            assert_eq!(files(&directory).len(), 1);
        }
        let path = files(&directory).remove(0);
        assert!(super::load(&Host::new().unwrap(), &path).is_some());
    }

    #[test]
    fn altered_cut_and_exposed_files_are_not_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("compiled");
        let cache = CompiledCache::open(&directory, MAX_COMPILED_BYTES).unwrap();
        let host = Arc::new(Host::new().unwrap());
        let module = wat::parse_str(MODULE).unwrap();
        cache.compile(&host, &module).unwrap();
        let path = files(&directory).remove(0);
        let whole = std::fs::read(&path).unwrap();
        let mut altered = whole.clone();
        altered[DIGEST_BYTES + 100] ^= 1;
        for content in [&altered[..], &whole[..whole.len() - 1], &whole[..10], b""] {
            std::fs::write(&path, content).unwrap();
            assert!(super::load(&host, &path).is_none());
            assert!(cache.compile(&host, &module).is_ok(), "it is compiled anew");
            assert_eq!(std::fs::read(&path).unwrap(), whole, "and kept again");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(super::load(&host, &path).is_none());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let opened = CompiledCache::open(folder.path(), MAX_COMPILED_BYTES);
        assert!(matches!(opened, Err(CompiledCacheError::Exposed { .. })));
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let opened = CompiledCache::open(file.join("below"), MAX_COMPILED_BYTES);
        assert!(matches!(opened, Err(CompiledCacheError::Io { .. })));
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("compiled");
        let host = Arc::new(Host::new().unwrap());
        let module = |name: &str| {
            let export = format!(r#"(func (export "{name}"))"#);
            wat::parse_str(MODULE.trim_end_matches(')').to_owned() + "))" + &export + ")").unwrap()
        };
        let first = CompiledCache::open(&directory, MAX_COMPILED_BYTES).unwrap();
        first.compile(&host, &module("a")).unwrap();
        let old = files(&directory).remove(0);
        let size = old.metadata().unwrap().len();
        let small = CompiledCache::open(&directory, size + size / 2).unwrap();
        small.compile(&host, &module("b")).unwrap();
        assert_eq!(files(&directory).len(), 1);
        assert!(!old.exists());
    }
}
