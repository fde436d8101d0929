//! `cargo xtask deny`: licences, bans and sources of dependencies, by cargo-deny.

use std::process::Command;

use crate::process;
use crate::repository::Repository;

/// Runs cargo-deny with `deny.toml`, or says that it is not installed.
pub(crate) fn run(repository: &Repository) -> anyhow::Result<()> {
    if process::find("cargo-deny").is_none() {
        println!("SKIPPED: cargo-deny is not installed; run `cargo install --locked cargo-deny`");
        return Ok(());
    }
    process::run(
        Command::new("cargo")
            .args(["deny", "--all-features", "check", "licenses", "bans", "sources"])
            .current_dir(repository.path("")),
    )
}
