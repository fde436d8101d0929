//! `cargo xtask plugins --check`: the prebuilt modules are what their sources make.

use std::process::Command;

use anyhow::{Context, bail};
use fs_err as fs;

use crate::plugins::build::Toolchains;
use crate::plugins::interface::Interface;
use crate::plugins::manifest::{Entry, Manifest};
use crate::plugins::{PLUGINS, Plugin, build_in_tree, prebuilt, sha256, source};
use crate::process;
use crate::repository::Repository;

const REBUILD_HINT: &str = "run `cargo xtask plugins` and commit `plugins/prebuilt`";

/// What the comparison of a rebuilt module with the prebuilt one showed.
enum Verdict {
    /// The same bytes.
    Identical,
    /// Other bytes from another compiler, with the same imports and exports.
    SameInterface,
    /// No rebuild: why not.
    Skipped(String),
}

pub(super) fn run(repository: &Repository) -> anyhow::Result<()> {
    let manifest = Manifest::read(&prebuilt(repository))?;
    let toolchains = Toolchains::new(repository);
    let mut is_behaviour_open = false;
    for plugin in PLUGINS {
        let entry = manifest
            .plugins
            .get(plugin.name)
            .with_context(|| format!("`{}` is not in the manifest; {REBUILD_HINT}", plugin.name))?;
        match check(repository, &toolchains, plugin, entry)? {
            Verdict::Identical => println!("{}: identical, byte for byte", plugin.name),
            Verdict::SameInterface => {
                is_behaviour_open = true;
                println!("{}: other bytes, same imports and exports", plugin.name);
            }
            Verdict::Skipped(reason) => println!("SKIPPED: rebuilding {}: {reason}", plugin.name),
        }
    }
    if is_behaviour_open { check_behaviour(repository) } else { Ok(()) }
}

fn check(
    repository: &Repository,
    toolchains: &Toolchains<'_>,
    plugin: Plugin,
    entry: &Entry,
) -> anyhow::Result<Verdict> {
    let name = plugin.name;
    if source::digest(&plugin.folders(repository))? != entry.source_sha256 {
        bail!("the sources of `{name}` changed since its module was built; {REBUILD_HINT}");
    }
    let kept = fs::read(plugin.prebuilt(repository))?;
    if sha256(&kept) != entry.module_sha256 {
        bail!("`{name}.wasm` is not the module of the manifest; {REBUILD_HINT}");
    }
    let version = match toolchains.version(plugin.language) {
        Ok(version) => version,
        Err(error) => return Ok(Verdict::Skipped(format!("{error:#}"))),
    };
    toolchains.test(plugin, &plugin.folder(repository))?;
    let rebuilt = build_in_tree(repository, toolchains, plugin)?;
    compare(name, entry, &version, &kept, &rebuilt)
}

fn compare(
    name: &str,
    entry: &Entry,
    version: &str,
    kept: &[u8],
    rebuilt: &[u8],
) -> anyhow::Result<Verdict> {
    if kept == rebuilt {
        return Ok(Verdict::Identical);
    }
    if entry.reproducible && entry.toolchain == version {
        bail!("`{name}` rebuilt by the same toolchain ({version}) has other bytes; {REBUILD_HINT}");
    }
    let differences = Interface::read(kept)?.differences(&Interface::read(rebuilt)?);
    if !differences.is_empty() {
        bail!("`{name}` rebuilt by {version} differs: {}", differences.join(", "));
    }
    Ok(Verdict::SameInterface)
}

/// Runs the data plane's tests on the rebuilt modules.
fn check_behaviour(repository: &Repository) -> anyhow::Result<()> {
    println!("comparing by behaviour: the proxy's tests run on the rebuilt modules");
    process::run(
        Command::new("cargo")
            .args(["test", "--package", "wasmplug-proxy", "--no-fail-fast"])
            .env("WASMPLUG_PREBUILT_DIR", repository.target("plugins")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";
    /// The same with a custom section of the name `a`, which no host sees.
    const ANNOTATED_MODULE: &[u8] = b"\0asm\x01\0\0\0\x00\x02\x01a";
    /// A module that exports its memory.
    const OTHER_MODULE: &[u8] = b"\0asm\x01\0\0\0\x05\x03\x01\0\x01\x07\x05\x01\x01m\x02\0";

    fn verdict(reproducible: bool, version: &str, rebuilt: &[u8]) -> anyhow::Result<Verdict> {
        let entry = Entry {
            source_sha256: String::new(),
            module_sha256: String::new(),
            size: 0,
            toolchain: "rustc 1".to_owned(),
            reproducible,
        };
        compare("plugin", &entry, version, EMPTY_MODULE, rebuilt)
    }

    #[test]
    fn equal_bytes_are_identical_whatever_built_them() {
        for version in ["rustc 1", "rustc 2"] {
            let verdict = verdict(true, version, EMPTY_MODULE);
            assert!(matches!(verdict, Ok(Verdict::Identical)), "{version}");
        }
    }

    #[test]
    fn other_bytes_are_compared_by_interface_unless_the_build_is_reproducible() {
        for (reproducible, version) in [(false, "rustc 1"), (true, "rustc 2")] {
            let verdict = verdict(reproducible, version, ANNOTATED_MODULE);
            assert!(matches!(verdict, Ok(Verdict::SameInterface)), "{reproducible} {version}");
        }
        assert!(verdict(true, "rustc 1", ANNOTATED_MODULE).is_err());
    }

    #[test]
    fn another_interface_is_refused() {
        assert!(verdict(false, "rustc 2", OTHER_MODULE).is_err());
    }
}
