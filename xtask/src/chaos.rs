//! `cargo xtask chaos`: the chaos tests of the proxy in release mode, for as long as one likes.

use std::process::Command;

use anyhow::Context;
use fs_err as fs;
use serde_json::{Map, Value};

use crate::process;
use crate::repository::Repository;

/// What `cargo xtask chaos` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Length of the storms, in minutes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=24 * 60))]
    minutes: u32,
    /// How many changes of configuration are made under load, behind the storms; 0 for none.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    swaps: u32,
    /// The seed of an earlier run.
    #[arg(long)]
    seed: Option<u64>,
    /// Write all numbers to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
}

/// A test of the proxy's `chaos`, and the name of its report.
const STORMS: (&str, &str) = ("storms::every_answer_is_right_while_everything_breaks", "chaos");
const SWAPS: (&str, &str) =
    ("swaps::no_request_and_no_memory_is_lost_to_changes_of_configuration", "swaps");

/// Runs the tests one after the other, each in a process of its own, so that memory is its own.
///
/// # Errors
///
/// If one fails; what it printed says why, and gives the seed.
pub(crate) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    let reports = repository.target("chaos");
    fs::create_dir_all(&reports)?;
    let mut all = Map::new();
    let mut failed = None;
    for (test, name) in tests(options) {
        let report = reports.join(format!("{name}.json"));
        drop(fs::remove_file(&report));
        let mut command = command(repository, options, test);
        command.env("WASMPLUG_CHAOS_REPORTS", &reports);
        failed = process::run(&mut command).err().or(failed);
        // A test that fails early has no numbers.
        if let Ok(text) = fs::read_to_string(&report) {
            let value: Value = serde_json::from_str(&text).context("the report is no JSON")?;
            all.insert(name.to_owned(), value);
        }
    }
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
        eprintln!("wrote `{}`", path.display());
    }
    failed.map_or(Ok(()), Err)
}

fn tests(options: &Options) -> Vec<(&'static str, &'static str)> {
    if options.swaps == 0 { vec![STORMS] } else { vec![STORMS, SWAPS] }
}

fn command(repository: &Repository, options: &Options, test: &str) -> Command {
    let mut command = Command::new("cargo");
    command
        .args(["test", "--release", "--package", "wasmplug-proxy", "--test", "chaos"])
        .args(["--", "--nocapture", "--exact", test])
        .env("WASMPLUG_CHAOS_MINUTES", options.minutes.to_string())
        .env("WASMPLUG_CHAOS_SWAPS", options.swaps.to_string())
        .current_dir(repository.path(""));
    if let Some(seed) = options.seed {
        command.env("WASMPLUG_CHAOS_SEED", seed.to_string());
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(swaps: u32) -> Options {
        Options { minutes: 2, swaps, seed: Some(7), json: None }
    }

    #[test]
    fn the_seed_and_the_length_are_passed_on() {
        let repository = Repository::find().unwrap();
        let shown = process::display(&command(&repository, &options(0), "a"));
        for part in ["WASMPLUG_CHAOS_MINUTES=2", "WASMPLUG_CHAOS_SEED=7", "--release", "--exact a"]
        {
            assert!(shown.contains(part), "{shown}");
        }
        let unseeded = Options { seed: None, ..options(0) };
        assert!(!process::display(&command(&repository, &unseeded, "a")).contains("SEED"));
    }

    #[test]
    fn the_tests_that_are_named_are_there() {
        assert_eq!(tests(&options(0)).len(), 1);
        let repository = Repository::find().unwrap();
        for (test, _) in tests(&options(1)) {
            let (module, function) = test.split_once("::").unwrap();
            let path = format!("crates/proxy/tests/chaos/{module}.rs");
            let source = fs::read_to_string(repository.path(&path)).unwrap();
            assert!(source.contains(&format!("fn {function}()")), "{test}");
        }
    }
}
