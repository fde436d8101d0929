//! `cargo xtask plugins`: the example plugins, from source to `plugins/prebuilt`.
//!
//! The modules are kept in the tree, so that building and testing the product needs no WebAssembly
//! toolchain. `--check` proves that they still are what their sources make.

mod build;
mod check;
mod interface;
mod manifest;
mod source;
mod sysroot;

use std::path::{Path, PathBuf};

use anyhow::Context;
use sha2::{Digest, Sha256};

use crate::plugins::build::Toolchains;
use crate::plugins::manifest::{Entry, Manifest};
use crate::repository::Repository;

/// What `cargo xtask plugins` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rebuild into the target folder and compare with what is in the tree.
    #[arg(long)]
    check: bool,
}

/// An example plugin: a folder of `plugins/`.
#[derive(Clone, Copy)]
struct Plugin {
    name: &'static str,
    language: Language,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    Go,
}

const PLUGINS: [Plugin; 3] = [
    Plugin { name: "rate-limit-go", language: Language::Go },
    Plugin { name: "rate-limit-rust", language: Language::Rust },
    Plugin { name: "tag-headers-rust", language: Language::Rust },
];

impl Plugin {
    fn folder(self, repository: &Repository) -> PathBuf {
        repository.path("plugins").join(self.name)
    }

    fn prebuilt(self, repository: &Repository) -> PathBuf {
        prebuilt(repository).join(self.file_name())
    }

    fn file_name(self) -> String {
        format!("{}.wasm", self.name)
    }
}

/// Builds all plugins, or checks the prebuilt ones.
pub(crate) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    if options.check { check::run(repository) } else { build_all(repository) }
}

fn build_all(repository: &Repository) -> anyhow::Result<()> {
    let toolchains = Toolchains::new(repository);
    let mut manifest = Manifest::default();
    fs_err::create_dir_all(prebuilt(repository))?;
    for plugin in PLUGINS {
        let folder = plugin.folder(repository);
        let module = build_in_tree(repository, &toolchains, plugin)?;
        let elsewhere = build_elsewhere(&toolchains, plugin, &folder)?;
        let entry = Entry {
            source_sha256: source::digest(&folder)?,
            module_sha256: sha256(&module),
            size: module.len(),
            toolchain: toolchains.version(plugin.language)?,
            reproducible: module == elsewhere,
        };
        fs_err::write(plugin.prebuilt(repository), &module)?;
        println!("{}: {entry}", plugin.name);
        manifest.plugins.insert(plugin.name.to_owned(), entry);
    }
    manifest.write(&prebuilt(repository))
}

/// Builds a plugin where it is and leaves the module in `plugins/` of the target folder.
fn build_in_tree(
    repository: &Repository,
    toolchains: &Toolchains<'_>,
    plugin: Plugin,
) -> anyhow::Result<Vec<u8>> {
    let work = repository.target("plugins-build").join(plugin.name);
    let module = toolchains.build(plugin, &plugin.folder(repository), &work)?;
    fs_err::create_dir_all(repository.target("plugins"))?;
    fs_err::write(repository.target("plugins").join(plugin.file_name()), &module)?;
    Ok(module)
}

/// Builds a copy of the plugin in another folder: equal bytes prove that a module holds no path of
/// the machine and no chance.
fn build_elsewhere(
    toolchains: &Toolchains<'_>,
    plugin: Plugin,
    folder: &Path,
) -> anyhow::Result<Vec<u8>> {
    let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
    let copy = temporary.path().join("another-place");
    source::copy(folder, &copy)?;
    toolchains.build(plugin, &copy, &temporary.path().join("work"))
}

fn prebuilt(repository: &Repository) -> PathBuf {
    repository.path("plugins/prebuilt")
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("writing to a string cannot fail");
        hex
    })
}
