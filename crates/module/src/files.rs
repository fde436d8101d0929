//! Reading and removing what is kept beside the modules.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The first bytes of a file, so many at most.
pub(crate) fn read_at_most(path: &Path, max_bytes: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs_err::File::open(path)?.take(max_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes all entries of a directory but those with these names. One that is gone already is
/// another process's work.
pub(crate) fn retain(
    directory: &Path,
    is_wanted: impl Fn(&str) -> bool,
    remove: fn(PathBuf) -> io::Result<()>,
) -> io::Result<()> {
    let entries = match fs_err::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if !entry.file_name().to_str().is_some_and(&is_wanted) {
            match remove(entry.path()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}
