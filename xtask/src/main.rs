//! Repository tasks: `cargo xtask <task>`.
//!
//! Each task is a plain function over other programs; each program is printed before it runs, so
//! that a person can repeat it.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a task talks to the person who started it"
)]

mod bench;
mod chaos;
mod ci;
mod conformance;
mod crash;
mod deny;
mod deps;
mod generate;
mod plugins;
mod process;
mod repository;
mod soak;
mod tidy;
mod tools;
mod traffic;

use std::process::ExitCode;

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
    /// Run everything that must hold before a change lands.
    Ci(ci::Options),
    /// Build the example plugins to WebAssembly and keep them in `plugins/prebuilt`.
    Plugins(plugins::Options),
    /// Install the programs that tests and benchmarks run, and show where they are.
    Tools(tools::Options),
    /// Check house rules: file sizes, names, links, unfinished code, machine paths.
    Tidy,
    /// Write which check of the plugin interface is proven by which test, in docs/conformance.md.
    Conformance(conformance::Options),
    /// Check that the crates depend on each other as drawn.
    Deps,
    /// Generate the files that are made of the types, or check that they are up to date.
    Gen(generate::Options),
    /// Measure what a request costs in this proxy, in Envoy and in nginx.
    Bench(bench::Options),
    /// Verify every answer while plugins, upstreams, clients and configurations break.
    Chaos(chaos::Options),
    /// Crash a plugin once in a thousand requests, and count what becomes of the others.
    Crash(crash::Options),
    /// Run a plugin of each language under a steady load, and watch memory and files.
    Soak(soak::Options),
    /// Check licences, bans and sources of dependencies by cargo-deny.
    Deny,
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(code) => code,
        // One line, and no backtrace even where `RUST_BACKTRACE` asks for one: the reader is
        // looking for what is wrong with the checkout, not with the task.
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<ExitCode> {
    let repository = Repository::find()?;
    match task {
        Task::Ci(options) => return Ok(ci::run(&repository, &options)),
        Task::Plugins(options) => plugins::run(&repository, &options)?,
        Task::Tools(options) => tools::run(&repository, &options),
        Task::Conformance(options) => conformance::run(&repository, &options)?,
        Task::Tidy => tidy::run(&repository)?,
        Task::Deps => deps::run(&repository)?,
        Task::Gen(options) => generate::run(&repository, &options)?,
        Task::Bench(options) => bench::run(&repository, &options)?,
        Task::Chaos(options) => chaos::run(&repository, &options)?,
        Task::Crash(options) => crash::run(&repository, &options)?,
        Task::Soak(options) => soak::run(&repository, &options)?,
        Task::Deny => deny::run(&repository)?,
    }
    Ok(ExitCode::SUCCESS)
}
