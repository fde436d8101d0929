//! Writing files so that a crash leaves the old content or the new one.

use std::{
    io::{self, Write as _},
    path::Path,
};

use tempfile::{Builder, NamedTempFile};

/// What the names of unfinished files begin with.
pub(crate) const TEMPORARY_PREFIX: &str = ".tmp";

/// Called with the name of each step of writing a file, after it was made.
///
/// A test that ends the process in it shows what a crash at that point leaves behind.
pub type WriteHook = fn(&'static str);

/// Writes whole files.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Writer {
    pub(crate) hook: Option<WriteHook>,
}

// === impl Writer ===

impl Writer {
    /// Replaces a file so that it has either its old or its new content at any time.
    ///
    /// It is written under another name, flushed and renamed; a failure leaves no file behind.
    pub(crate) fn replace(self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let mut file: NamedTempFile =
            Builder::new().prefix(TEMPORARY_PREFIX).tempfile_in(directory)?;
        self.step("created");
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        file.write_all(first)?;
        self.step("half written");
        file.write_all(rest)?;
        self.step("written");
        file.as_file().sync_all()?;
        self.step("flushed");
        file.persist(path)?;
        self.step("renamed");
        // The rename itself is kept by the directory.
        fs_err::File::open(directory)?.sync_all()?;
        self.step("kept");
        Ok(())
    }

    fn step(self, name: &'static str) {
        if let Some(hook) = self.hook {
            hook(name);
        }
    }
}
