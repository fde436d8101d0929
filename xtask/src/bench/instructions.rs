//! `cargo xtask bench instructions`: how many instructions a worker executes for a request.
//!
//! Time depends on what else the machine does; this does not, so it is what changes are held
//! against. The product runs under callgrind. One client sends the same bytes over one connection,
//! each request after the answer to the one before: with more, it would depend on timing how many
//! of them one wake-up of the worker finds. Instructions of the kernel are not counted.

mod baseline;
mod callgrind;
mod traffic;

use std::path::{Path, PathBuf};

use anyhow::Context;
use fs_err as fs;

use crate::bench::engine::{self, Engine, Ports};
use crate::bench::instructions::baseline::{Baseline, Comparison, Surroundings};
use crate::bench::instructions::callgrind::Callgrind;
use crate::bench::instructions::traffic::{Client, Traffic, Upstream};
use crate::bench::workload::{Case, Workload};
use crate::bench::{http, measure};
use crate::process;
use crate::repository::Repository;

/// What `cargo xtask bench instructions` is told.
#[derive(clap::Args)]
#[command(after_long_help = "Examples:
  cargo xtask bench instructions
  cargo xtask bench instructions --check
  cargo xtask bench instructions --bless
  cargo xtask bench instructions --binary target/dist/wasmplug")]
pub(super) struct Options {
    /// Fail if a request takes over 3 % more than is kept in `xtask/instructions.json`.
    #[arg(long)]
    check: bool,
    /// Keep what is measured in `xtask/instructions.json`.
    #[arg(long, conflicts_with_all = ["check", "binary"])]
    bless: bool,
    /// A build of the product; without it, one is built with the profile `release`. What is kept
    /// holds for that profile only.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// The profile that CI builds with.
const PROFILE: &str = "release";

/// Where the counts are kept.
const BASELINE: &str = "xtask/instructions.json";

/// Requests before anything is counted: connections are open, caches full, code compiled.
const WARM_UP_REQUESTS: u64 = 300;

/// Requests that are counted together.
const REQUESTS: u64 = 500;

/// How often so many are counted; the median is taken. A timer of the worker that fires meanwhile
/// is seldom in more than one.
const WINDOWS: usize = 3;

/// What is counted: its name, plugins, and the bodies.
const CASES: [(&str, usize, Traffic); 5] = [
    ("get, 0 plugins", 0, Traffic { request_body: 0, answer_body: 96 }),
    ("get, 1 plugin", 1, Traffic { request_body: 0, answer_body: 96 }),
    ("get, 10 plugins", 10, Traffic { request_body: 0, answer_body: 96 }),
    ("get of 64 KiB, 1 plugin", 1, Traffic { request_body: 0, answer_body: 64 * 1024 }),
    ("post of 16 KiB, 1 plugin", 1, Traffic { request_body: 16 * 1024, answer_body: 96 }),
];

/// Counts, and prints or keeps or checks.
pub(super) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    for program in ["valgrind", "vgdb", "taskset", "setpriv"] {
        if process::find(program).is_none() {
            println!("SKIPPED: `{program}` is missing; run `cargo xtask tools`");
            return Ok(());
        }
    }
    let path = repository.path(BASELINE);
    let surroundings = Surroundings::here()?;
    // What is written anew may be broken.
    let mut baseline = if options.bless { Baseline::default() } else { Baseline::read(&path)? };
    if options.check
        && let Some(reason) = baseline.is_foreign_to(&surroundings)
    {
        println!("SKIPPED: {reason}");
        return Ok(());
    }
    let program = match &options.binary {
        Some(binary) => engine::existing(binary)?,
        None => engine::build(repository, PROFILE)?,
    };
    let work = repository.target("bench/instructions");
    fs::create_dir_all(&work)?;
    let module = engine::module(repository);
    let mut counted = Vec::new();
    for (name, plugins, traffic) in CASES {
        eprintln!("counting: {name}");
        let count = count(&program, &work, &module, plugins, traffic)
            .with_context(|| format!("cannot count `{name}`"))?;
        counted.push((name.to_owned(), count));
    }
    if options.bless {
        baseline = Baseline::new(PROFILE, surroundings, &counted);
        baseline.write(&path)?;
        eprintln!("wrote `{}`", path.display());
    }
    let comparison = Comparison::new(&baseline, &counted);
    print!("{comparison}");
    if options.check { comparison.ensure() } else { Ok(()) }
}

/// Instructions per request.
fn count(
    program: &Path,
    work: &Path,
    module: &Path,
    plugins: usize,
    traffic: Traffic,
) -> anyhow::Result<u64> {
    let [listen, admin] = http::free_ports()?;
    let upstream = Upstream::start(traffic)?;
    let ports = Ports { listen, admin, upstream: upstream.port };
    let case = Case { engine: Engine::Wasmplug, plugins, workload: Workload::Small, workers: 1 };
    let command = engine::wasmplug::command(program, work, module, case, &ports)?;
    let mut callgrind = Callgrind::start(&command, work)?;
    measure::wait_for_answer(&mut callgrind.process, plugins, || http::get(listen))?;
    let mut client = Client::connect(listen, traffic, plugins)?;
    client.send(WARM_UP_REQUESTS)?;
    let mut counts = Vec::new();
    for _ in 0..WINDOWS {
        callgrind.switch_on()?;
        client.send(REQUESTS)?;
        callgrind.switch_off()?;
        counts.push(callgrind.worker_total()? / REQUESTS);
    }
    callgrind.process.ensure_alive()?;
    eprintln!("  windows of {REQUESTS} requests: {counts:?}");
    counts.sort_unstable();
    counts.get(WINDOWS / 2).copied().context("nothing was counted")
}
