//! `cargo xtask gen`: files that are made of the types, by a hidden subcommand of the binary.

use std::process::Command;

use anyhow::{Context, bail};
use fs_err as fs;

use crate::process;
use crate::repository::Repository;

/// What `cargo xtask gen` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compare with what is in the tree, and write nothing.
    #[arg(long)]
    check: bool,
}

/// Each file with the arguments that print it.
const FILES: [(&str, [&str; 3]); 4] = [
    ("docs/reference/crds/wasmplugins.yaml", ["schema", "crd", "WasmPlugin"]),
    ("docs/reference/crds/trafficextensions.yaml", ["schema", "crd", "TrafficExtension"]),
    ("docs/reference/schemas/wasmplugin.json", ["schema", "json", "WasmPlugin"]),
    ("docs/reference/schemas/trafficextension.json", ["schema", "json", "TrafficExtension"]),
];

/// Writes the files, or compares them.
pub(crate) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (file, arguments) in FILES {
        let mut command = Command::new("cargo");
        command.args(["run", "--quiet", "--package", "wasmplug", "--"]).args(arguments);
        let text = process::output(command.current_dir(repository.path("")))? + "\n";
        let path = repository.path(file);
        if options.check {
            if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
                stale.push(file);
            }
        } else {
            let folder = path.parent().context("a file is in a folder")?;
            fs::create_dir_all(folder)?;
            fs::write(&path, text)?;
            println!("wrote {file}");
        }
    }
    if !stale.is_empty() {
        bail!("not what is generated now: {}; run `cargo xtask gen`", stale.join(", "));
    }
    Ok(())
}
