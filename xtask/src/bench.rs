//! `cargo xtask bench`: what a request costs in this proxy, in Envoy and in nginx.
//!
//! Each engine in turn runs on one core with one worker; the upstream and the load generator share
//! another. Every round starts each case afresh, so that the machine's mood falls on all alike.
//! Processor time per request is the figure to compare: requests per second depend on neighbours.
//! Nothing is asserted.

mod engine;
mod http;
mod load;
mod measure;
mod plan;
mod proc;
mod process_guard;
mod report;

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use crate::bench::engine::{Engine, Programs};
use crate::bench::measure::{Case, Sample};
use crate::bench::report::Report;
use crate::repository::Repository;

/// What `cargo xtask bench` is told.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    /// Something else than requests.
    #[command(subcommand)]
    what: Option<What>,
    /// Engines to measure.
    #[arg(
        long,
        value_delimiter = ',',
        value_enum,
        default_values = ["wasmplug", "envoy", "nginx"]
    )]
    engines: Vec<Engine>,
    /// How many copies of the plugin `tag-headers-rust` run; nginx runs without in any case.
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1, 10])]
    plugins: Vec<usize>,
    /// Rounds; the table shows the median over them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of each measurement, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// Another build of the product, measured as the engine `before` in the same rounds.
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    /// Write all rounds and the commands to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What else can be measured.
#[derive(clap::Subcommand)]
enum What {
    /// Measure how the time to plan a mesh grows with the numbers of plugins and workloads.
    Plan,
}

/// Most copies of the plugin that a chain is measured with.
const MAX_PLUGINS: usize = 100;

/// Measures and prints.
pub(crate) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    if let Some(What::Plan) = options.what {
        return plan::run();
    }
    let cases = cases(options)?;
    let engines: Vec<_> = Engine::value_variants()
        .iter()
        .copied()
        .filter(|engine| cases.iter().any(|case| case.engine == *engine))
        .collect();
    let programs = Programs::find(repository, &engines, options.before.as_deref())?;
    let upstream = measure::start_upstream(&programs)?;
    let mut samples: Vec<Sample> = Vec::new();
    for round in 1..=options.rounds {
        for case in &cases {
            eprintln!("round {round} of {}: {case}", options.rounds);
            let sample = measure::run(&programs, &upstream, *case, options.seconds)
                .with_context(|| format!("cannot measure {case}"))?;
            samples.push(Sample { round, ..sample });
        }
    }
    let report = Report::new(&cases, samples, options.seconds);
    print!("{}", report.table());
    if let Some(path) = &options.json {
        // Commands as one would type them in the repository: results are kept in the tree.
        let root = format!("{}/", repository.path("").display()).replace("//", "/");
        let text = serde_json::to_string_pretty(&report)?.replace(&root, "");
        fs_err::write(path, text + "\n")?;
        eprintln!("wrote `{}`", path.display());
    }
    Ok(())
}

fn cases(options: &Options) -> anyhow::Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    let before = options.before.as_ref().map(|_| Engine::Before);
    for engine in before.into_iter().chain(options.engines.iter().copied()) {
        for &plugins in &options.plugins {
            ensure!(plugins <= MAX_PLUGINS, "at most {MAX_PLUGINS} plugins can be measured");
            let case = Case { engine, plugins };
            if (plugins == 0 || engine.runs_plugins()) && !cases.contains(&case) {
                cases.push(case);
            }
        }
    }
    if cases.is_empty() {
        bail!("nothing to measure: nginx runs without plugins only");
    }
    Ok(cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(engines: &[Engine], plugins: &[usize]) -> anyhow::Result<Vec<String>> {
        let options = Options {
            what: None,
            engines: engines.to_vec(),
            plugins: plugins.to_vec(),
            rounds: 1,
            seconds: 1,
            before: None,
            json: None,
        };
        Ok(cases(&options)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_engine_runs_with_each_number_of_plugins_but_nginx_with_none() {
        let cases = names(&[Engine::Envoy, Engine::Nginx], &[0, 1, 0]).unwrap();
        assert_eq!(cases, ["envoy with 0 plugins", "envoy with 1 plugins", "nginx with 0 plugins"]);
    }

    #[test]
    fn no_case_and_too_many_plugins_are_refused() {
        assert!(names(&[Engine::Nginx], &[1]).is_err());
        assert!(names(&[Engine::Envoy], &[MAX_PLUGINS + 1]).is_err());
    }
}
