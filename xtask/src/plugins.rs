//! `cargo xtask plugins`: the example plugins, from source to `plugins/prebuilt`.
//!
//! The modules are kept in the tree, so that building and testing the product needs no WebAssembly
//! toolchain. `--check` proves that they still are what their sources make.

mod assemblyscript;
mod build;
mod check;
mod cpp;
mod interface;
mod manifest;
mod source;
mod sysroot;

use std::path::PathBuf;

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
    /// Folder of `plugins/` that is compiled into this plugin and others.
    library: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    Go,
    AssemblyScript,
    Cpp,
}

/// What the plugins in Go have in common.
const GO_LIBRARY: Option<&str> = Some("proxywasm-go");

const PLUGINS: [Plugin; 8] = [
    Plugin { name: "rate-limit-go", language: Language::Go, library: GO_LIBRARY },
    Plugin { name: "rate-limit-rust", language: Language::Rust, library: None },
    Plugin { name: "tag-headers-rust", language: Language::Rust, library: None },
    Plugin { name: "tour-assemblyscript", language: Language::AssemblyScript, library: None },
    Plugin { name: "tour-cpp", language: Language::Cpp, library: None },
    Plugin { name: "tour-go", language: Language::Go, library: GO_LIBRARY },
    Plugin { name: "tour-rust", language: Language::Rust, library: None },
    Plugin { name: "witness-rust", language: Language::Rust, library: None },
];

impl Plugin {
    fn folder(self, repository: &Repository) -> PathBuf {
        repository.path("plugins").join(self.name)
    }

    /// The folders that it is built from, its own first.
    fn folders(self, repository: &Repository) -> Vec<PathBuf> {
        let library = self.library.map(|library| repository.path("plugins").join(library));
        [self.folder(repository)].into_iter().chain(library).collect()
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
        let folders = plugin.folders(repository);
        let module = build_in_tree(repository, &toolchains, plugin)?;
        let elsewhere = build_elsewhere(&toolchains, plugin, &folders)?;
        let entry = Entry {
            source_sha256: source::digest(&folders)?,
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
    folders: &[PathBuf],
) -> anyhow::Result<Vec<u8>> {
    let temporary = tempfile::tempdir().context("cannot make a temporary folder")?;
    let copies = temporary.path().join("another-place");
    for folder in folders {
        source::copy(folder, &copies.join(folder.file_name().context("a folder has a name")?))?;
    }
    toolchains.build(plugin, &copies.join(plugin.name), &temporary.path().join("work"))
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
