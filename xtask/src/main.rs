//! Repository tasks: `cargo xtask <task>`.
//!
//! Each task is a plain function over other programs; each program is printed before it runs, so
//! that a person can repeat it.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who started it"
)]

mod plugins;
mod process;
mod repository;

use clap::{Parser, Subcommand};

use crate::repository::Repository;

/// Repository tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the example plugins to WebAssembly and keep them in `plugins/prebuilt`.
    Plugins(plugins::Options),
}

fn main() -> anyhow::Result<()> {
    let repository = Repository::find()?;
    match Arguments::parse().task {
        Task::Plugins(options) => plugins::run(&repository, &options),
    }
}
