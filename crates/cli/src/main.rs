//! The `wasmplug` binary: parses, runs, exits. Nothing else reads the environment or exits.

#![forbid(unsafe_code)]

mod access_log;
mod args;
mod chain;
mod commands;
mod credentials;
mod diagnostics;
mod enforcement;
mod environment;
mod exit;
mod handover;
mod logging;
mod login;
mod modules;
mod output;
mod progress;
mod reconcile;
mod signals;
mod sources;
mod store;
mod target;
mod upstreams;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Arguments;
use crate::environment::Environment;

/// A request makes some forty small things, and a proxy lives for months: this one is faster with
/// the former and gives memory back. Measured in `docs/performance.md`.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let environment = Environment::read();
    // clap answers `--help` and wrong usage itself, with status 2 for the latter.
    let arguments = Arguments::parse();
    match commands::run(arguments, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            diagnostics::print(&error, &environment);
            exit::code(&error)
        }
    }
}
