//! Which files a plugin is built from.

use std::path::{Path, PathBuf};

use anyhow::Context;
use fs_err as fs;

use crate::plugins::sha256;

/// Names of files that decide what the module is; a README or a Dockerfile does not.
const SOURCE_EXTENSIONS: [&str; 10] =
    ["rs", "toml", "lock", "go", "mod", "sum", "ts", "json", "cc", "h"];
/// Folders of what compilers and package clients leave behind.
const BUILT_FOLDERS: [&str; 3] = ["target", "build", "node_modules"];

/// SHA-256 over the source files of a plugin: for each, in the order of its folders and their
/// paths, the path, the length and the content.
pub(super) fn digest(folders: &[PathBuf]) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    for folder in folders {
        for path in files(folder)? {
            let content = fs::read(folder.join(&path))?;
            let path =
                path.to_str().with_context(|| format!("`{}` is no UTF-8", path.display()))?;
            bytes.extend_from_slice(format!("{path}\0{}\0", content.len()).as_bytes());
            bytes.extend_from_slice(&content);
        }
    }
    Ok(sha256(&bytes))
}

/// Copies the source files of a plugin.
pub(super) fn copy(folder: &Path, to: &Path) -> anyhow::Result<()> {
    for path in files(folder)? {
        let target = to.join(&path);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(folder.join(&path), target)?;
    }
    Ok(())
}

/// The source files, relative to the folder, sorted.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        for entry in fs::read_dir(&current)? {
            let path = entry?.path();
            if path.is_dir() {
                if !BUILT_FOLDERS.iter().any(|built| path.ends_with(built)) {
                    folders.push(path);
                }
            } else if is_source(&path) {
                found.push(path.strip_prefix(folder)?.to_path_buf());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn is_source(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| SOURCE_EXTENSIONS.contains(&extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plugin(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        folder
    }

    fn digest_of(folder: &tempfile::TempDir) -> String {
        digest(&[folder.path().to_path_buf()]).unwrap()
    }

    const FILES: [(&str, &str); 3] =
        [("Cargo.toml", "a"), ("src/lib.rs", "b"), ("src/bucket.rs", "c")];

    #[test]
    fn the_digest_is_of_the_sources_alone_wherever_they_are() {
        let original = plugin(&FILES);
        let documented =
            plugin(&[&FILES[..], &[("README.md", "text"), ("target/x.rs", "built")]].concat());
        assert_eq!(digest_of(&original), digest_of(&documented));
    }

    #[test]
    fn the_digest_changes_with_content_name_and_number_of_sources() {
        let original = digest_of(&plugin(&FILES));
        let changed: [&[(&str, &str)]; 4] = [
            &[("Cargo.toml", "a"), ("src/lib.rs", "b"), ("src/bucket.rs", "d")],
            &[("Cargo.toml", "a"), ("src/lib.rs", "b"), ("src/pail.rs", "c")],
            &[("Cargo.toml", "a"), ("src/lib.rs", "b")],
            &[("Cargo.toml", "a"), ("src/lib.rs", "b"), ("src/bucket.rs", "c"), ("Cargo.lock", "")],
        ];
        for files in changed {
            assert_ne!(digest_of(&plugin(files)), original, "{files:?}");
        }
    }

    #[test]
    fn the_digest_changes_with_what_other_plugins_share() {
        let paths = |folders: &[&tempfile::TempDir]| -> Vec<PathBuf> {
            folders.iter().map(|folder| folder.path().to_path_buf()).collect()
        };
        let (own, library) = (plugin(&FILES), plugin(&[("go.mod", "a")]));
        let changed = plugin(&[("go.mod", "b")]);
        let original = digest(&paths(&[&own, &library])).unwrap();
        assert_ne!(digest(&paths(&[&own])).unwrap(), original);
        assert_ne!(digest(&paths(&[&own, &changed])).unwrap(), original);
    }

    #[test]
    fn a_copy_has_the_same_digest() {
        let original = plugin(&FILES);
        let copied = tempfile::tempdir().unwrap();
        copy(original.path(), copied.path()).unwrap();
        assert_eq!(digest_of(&original), digest_of(&copied));
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        assert!(digest(&[PathBuf::from("no/such/folder")]).is_err());
    }
}
