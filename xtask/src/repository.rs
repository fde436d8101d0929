//! Where things are in the checkout.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// The checkout that the tasks work on.
pub(crate) struct Repository {
    root: PathBuf,
    target: PathBuf,
}

impl Repository {
    /// Finds the checkout of the running xtask.
    ///
    /// # Errors
    ///
    /// If it was not started by cargo, which tells the place.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let manifest = env::var_os("CARGO_MANIFEST_DIR")
            .context("`CARGO_MANIFEST_DIR` is not set; start the tasks by `cargo xtask`")?;
        let root = Path::new(&manifest)
            .parent()
            .with_context(|| format!("`{}` has no parent folder", Path::new(&manifest).display()))?
            .to_path_buf();
        let target = env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), |target| root.join(target));
        Ok(Self { root, target })
    }

    /// A path in the checkout.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A path in cargo's target folder, wherever `CARGO_TARGET_DIR` puts it.
    pub(crate) fn target(&self, relative: &str) -> PathBuf {
        self.target.join(relative)
    }

    /// A path in `target/tools` of the checkout, which stays there whatever `CARGO_TARGET_DIR` is,
    /// because tests look for the tools at this one place.
    pub(crate) fn tools(&self, relative: &str) -> PathBuf {
        self.root.join("target/tools").join(relative)
    }
}
