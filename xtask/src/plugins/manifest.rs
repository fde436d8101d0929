//! `plugins/prebuilt/manifest.json`: where each prebuilt module comes from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Context;
use fs_err as fs;
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "manifest.json";

/// The prebuilt plugins by name.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) plugins: BTreeMap<String, Entry>,
}

/// Where one prebuilt module comes from.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// SHA-256 over the plugin's source files, lock file included.
    pub(super) source_sha256: String,
    /// SHA-256 of the module.
    pub(super) module_sha256: String,
    /// Length of the module in bytes.
    pub(super) size: usize,
    /// The compiler, and the linker where it is another program.
    pub(super) toolchain: String,
    /// Whether a build of a copy in another folder gave the same bytes.
    pub(super) reproducible: bool,
}

impl Manifest {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let text = fs::read_to_string(&path)?;
        serde_json::from_str(&text).with_context(|| format!("cannot read `{}`", path.display()))
    }

    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(folder.join(FILE_NAME), text + "\n")?;
        Ok(())
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reproducible = if self.reproducible { "reproducible" } else { "not reproducible" };
        write!(
            formatter,
            "sha256:{}, {} bytes, {reproducible}, {}",
            self.module_sha256, self.size, self.toolchain
        )
    }
}
