//! Plugins in AssemblyScript, compiled by the compiler from npm that their lock file names.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use fs_err as fs;
use serde_json::Value;

use crate::plugins::source;
use crate::process;
use crate::repository::Repository;

/// The plugin whose lock file names the compiler.
const PLUGIN: &str = "tour-assemblyscript";
const PROGRAMS: [&str; 2] = ["node", "npm"];
/// Debian's packages of the same programs.
const DEBIAN_PACKAGES: [&str; 2] = ["nodejs", "npm"];

/// The compiler with its version; what runs it is installed if it is missing.
///
/// # Errors
///
/// If Node.js or npm is missing and cannot be installed; the text says what to install.
pub(super) fn version(repository: &Repository) -> anyhow::Result<String> {
    ensure_node()?;
    let path = repository.path("plugins").join(PLUGIN).join("package-lock.json");
    let lock: Value = serde_json::from_slice(&fs::read(&path)?)
        .with_context(|| format!("`{}` is not JSON", path.display()))?;
    let version = lock["packages"]["node_modules/assemblyscript"]["version"].as_str();
    let version = version.with_context(|| format!("no compiler in `{}`", path.display()))?;
    Ok(format!("assemblyscript {version}"))
}

fn ensure_node() -> anyhow::Result<()> {
    let has_all = || PROGRAMS.iter().all(|program| process::find(program).is_some());
    if has_all() {
        return Ok(());
    }
    let hint =
        format!("as root: `apt-get install --no-install-recommends {}`", DEBIAN_PACKAGES.join(" "));
    if !process::is_root() || process::find("apt-get").is_none() {
        bail!("plugins in AssemblyScript need Node.js 18 or newer with npm; {hint}");
    }
    process::apt_install(&DEBIAN_PACKAGES)?;
    if !has_all() {
        bail!("`node` or `npm` is missing; {hint}");
    }
    Ok(())
}

/// Compiles a copy of the plugin, so that its folder stays free of what npm unpacks.
///
/// # Errors
///
/// If the compiler cannot be had or refuses the plugin.
pub(super) fn build(folder: &Path, work: &Path) -> anyhow::Result<PathBuf> {
    let copy = work.join("source");
    if copy.exists() {
        fs::remove_dir_all(&copy)?;
    }
    source::copy(folder, &copy)?;
    // Scripts of packages are not run: none is needed.
    process::run(
        Command::new("npm")
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .current_dir(&copy),
    )?;
    process::run(Command::new("npm").args(["run", "build"]).current_dir(&copy))?;
    Ok(copy.join("build/plugin.wasm"))
}
