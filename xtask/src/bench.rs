//! `cargo xtask bench`: what a request costs in this proxy, in Envoy and in nginx.
//!
//! Each engine in turn runs with a core for each worker; the upstream and the load generator share
//! others, if there are. Every round starts each case afresh, so that the machine's mood falls on
//! all alike.
//! Processor time per request is the figure to compare: requests per second depend on neighbours.
//! Nothing is asserted.

mod cores;
mod engine;
mod goals;
mod h2load;
mod http;
mod instructions;
mod load;
mod measure;
mod plan;
mod proc;
mod process_guard;
mod report;
mod workload;
mod wrk;

use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;

use crate::bench::engine::{Engine, Needs, Programs};
use crate::bench::measure::{Sample, Upstream};
use crate::bench::report::Report;
use crate::bench::workload::{Case, Choice, Workload};
use crate::repository::Repository;

/// What `cargo xtask bench` is told.
#[derive(clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:
  cargo xtask bench
  cargo xtask bench --workload all --workers 1,2,4 --rounds 5 --json results.json
  cargo xtask bench --workload rate --plugins 10
  cargo xtask bench --workload tls,http2 --engines wasmplug,nginx --plugins 0
  cargo xtask bench --binary target/dist/wasmplug --before old/wasmplug --engines wasmplug
  cargo xtask bench instructions --check"
)]
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
    /// What the load asks for.
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["small"])]
    workload: Vec<Choice>,
    /// Workers of each engine; more than one may use all cores, see the note below the table.
    #[arg(
        long,
        value_delimiter = ',',
        default_values = ["1"],
        value_parser = clap::value_parser!(u16).range(1..=64)
    )]
    workers: Vec<u16>,
    /// Rounds; the table shows the median over them.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of each measurement, in seconds.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=60))]
    seconds: u32,
    /// A build of the product, such as `target/dist/wasmplug`; without it, one is built with the
    /// profile `dist`.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
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
    /// Count the instructions of a request under valgrind, where noise of the machine does not
    /// reach, and compare them with those that are kept.
    Instructions(instructions::Options),
}

/// Most copies of the plugin that a chain is measured with.
const MAX_PLUGINS: usize = 100;

/// Measures and prints.
pub(crate) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    match &options.what {
        Some(What::Plan) => return plan::run(),
        Some(What::Instructions(options)) => return instructions::run(repository, options),
        None => {}
    }
    let cases = cases(options)?;
    let programs = programs(repository, options, &cases)?;
    let upstream = measure::start_upstream(&programs)?;
    let mut run = Run { programs, upstream, options, samples: Vec::new() };
    for round in 1..=options.rounds {
        for case in &cases {
            run.measure(round, *case)?;
        }
    }
    let samples = run.samples;
    let report = Report::new(&cases, samples, options.seconds);
    print!("{report}");
    if let Some(path) = &options.json {
        // Commands as one would type them in the repository: results are kept in the tree.
        let root = format!("{}/", repository.path("").display()).replace("//", "/");
        let text = serde_json::to_string_pretty(&report)?.replace(&root, "");
        fs_err::write(path, text + "\n")?;
        eprintln!("wrote `{}`", path.display());
    }
    Ok(())
}

/// What has been measured so far, and with what.
struct Run<'a> {
    programs: Programs,
    upstream: Upstream,
    options: &'a Options,
    samples: Vec<Sample>,
}

// === impl Run ===

impl Run<'_> {
    fn measure(&mut self, round: u32, case: Case) -> anyhow::Result<()> {
        let rate = match case.workload {
            Workload::Rate => Some(self.envoys_maximum(round, case)? / 2.0),
            _ => None,
        };
        self.sample(round, case, rate)
    }

    fn sample(&mut self, round: u32, case: Case, rate: Option<f64>) -> anyhow::Result<()> {
        eprintln!("round {round} of {}: {case}", self.options.rounds);
        let sample = measure::run(&self.programs, &self.upstream, case, rate, self.options.seconds)
            .with_context(|| format!("cannot measure {case}"))?;
        self.samples.push(Sample { round, ..sample });
        Ok(())
    }

    /// Requests per second of Envoy with the same chain and workers in the same round, measured
    /// unless they are known.
    fn envoys_maximum(&mut self, round: u32, case: Case) -> anyhow::Result<f64> {
        let full = Case { engine: Engine::Envoy, workload: Workload::Small, ..case };
        let is_it = |sample: &&Sample| sample.round == round && sample.case == full;
        if !self.samples.iter().any(|sample| is_it(&sample)) {
            self.sample(round, full, None)?;
        }
        let sample = self.samples.iter().find(is_it).context("Envoy was not measured")?;
        Ok(sample.load.requests_per_second)
    }
}

fn programs(
    repository: &Repository,
    options: &Options,
    cases: &[Case],
) -> anyhow::Result<Programs> {
    let has_rate = cases.iter().any(|case| case.workload == Workload::Rate);
    let engines: Vec<_> = Engine::value_variants()
        .iter()
        .copied()
        .filter(|engine| {
            (has_rate && *engine == Engine::Envoy)
                || cases.iter().any(|case| case.engine == *engine)
        })
        .collect();
    let workloads: Vec<_> = cases.iter().map(|case| case.workload).collect();
    let needs = Needs {
        engines: &engines,
        workloads: &workloads,
        binary: options.binary.as_deref(),
        before: options.before.as_deref(),
    };
    Programs::find(repository, &needs)
}

/// What is compared stands together: all engines and chains of a workload with some workers.
fn cases(options: &Options) -> anyhow::Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    let before = options.before.as_ref().map(|_| Engine::Before);
    let engines: Vec<_> = before.into_iter().chain(options.engines.iter().copied()).collect();
    let most = options.plugins.iter().max().copied().unwrap_or_default();
    ensure!(most <= MAX_PLUGINS, "at most {MAX_PLUGINS} plugins can be measured");
    let workloads = options.workload.iter().flat_map(|choice| choice.workloads());
    for &workload in workloads {
        for workers in options.workers.iter().copied().map(usize::from) {
            for &engine in &engines {
                for &plugins in &options.plugins {
                    let case = Case { engine, plugins, workload, workers };
                    if (plugins == 0 || engine.runs_plugins()) && !cases.contains(&case) {
                        cases.push(case);
                    }
                }
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

    fn options(engines: &[Engine], plugins: &[usize]) -> Options {
        Options {
            what: None,
            engines: engines.to_vec(),
            plugins: plugins.to_vec(),
            workload: vec![Choice::Small],
            workers: vec![1],
            rounds: 1,
            seconds: 1,
            binary: None,
            before: None,
            json: None,
        }
    }

    fn names(options: &Options) -> anyhow::Result<Vec<String>> {
        Ok(cases(options)?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn each_engine_runs_with_each_number_of_plugins_but_nginx_with_none() {
        let cases = names(&options(&[Engine::Envoy, Engine::Nginx], &[0, 1, 0])).unwrap();
        assert_eq!(
            cases,
            [
                "envoy with 0 plugins, 1 workers, small",
                "envoy with 1 plugins, 1 workers, small",
                "nginx with 0 plugins, 1 workers, small",
            ]
        );
    }

    #[test]
    fn each_workload_runs_with_each_number_of_workers() {
        let mut options = options(&[Engine::Envoy], &[0]);
        options.workload = vec![Choice::Large, Choice::All];
        options.workers = vec![1, 4];
        let cases = names(&options).unwrap();
        assert_eq!(cases.len(), 12, "{cases:?}");
        assert_eq!(cases[1], "envoy with 0 plugins, 4 workers, large");
        assert_eq!(cases[2], "envoy with 0 plugins, 1 workers, upload");
    }

    #[test]
    fn no_case_and_too_many_plugins_are_refused() {
        assert!(names(&options(&[Engine::Nginx], &[1])).is_err());
        assert!(names(&options(&[Engine::Envoy], &[MAX_PLUGINS + 1])).is_err());
    }
}
