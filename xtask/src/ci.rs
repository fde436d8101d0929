//! `cargo xtask ci`: everything that must hold before a change lands.
//!
//! Every step runs even if an earlier one failed, so that one run shows all that is wrong. The
//! last line on standard output counts the tests: `N passed, N failed, N skipped`.

mod names;
mod stream;
mod tally;

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

pub(crate) use self::names::{FAILED, PASSED, SKIPPED};
use crate::ci::tally::Tally;
use crate::process;
use crate::repository::Repository;

/// How long tests wait for programs that they start, see the testkit; in seconds.
const PATIENCE_VARIABLE: &str = "WASMPLUG_TEST_PATIENCE";
/// What is off by default and must hold all the same.
const FEATURES: &str = "--features=wasmplug-host/tower";
/// Busy machines start an Envoy in many seconds. It only decides how fast a broken test fails.
const CI_PATIENCE_SECONDS: &str = "120";
/// The step whose tests are remembered by name, for the step that compares them with the marks.
const TESTS: &str = "tests";
/// Where they are listed, in the target folder.
const RESULTS: &str = "ci/tests.txt";

/// What `cargo xtask ci` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Leave out the documentation, the rebuild of the plugins, the release build and its instructions.
    #[arg(long)]
    fast: bool,
}

/// One command, streamed and timed.
struct Step {
    name: &'static str,
    command: Command,
    is_slow: bool,
}

/// How a step ended.
struct Outcome {
    name: &'static str,
    time: Duration,
    failure: Option<String>,
}

/// Runs all steps and sums up.
pub(crate) fn run(repository: &Repository, options: &Options) -> ExitCode {
    let mut tally = Tally::default();
    let mut outcomes = Vec::new();
    for mut step in steps(repository) {
        if step.is_slow && options.fast {
            continue;
        }
        println!("\n=== {}", step.name);
        let started = Instant::now();
        let failure = stream::run(&mut step.command, &mut tally, &mut std::io::stdout()).err();
        if step.name == TESTS
            && let Err(error) = write_results(repository, &tally)
        {
            println!("the tests cannot be listed: {error}");
        }
        let outcome = Outcome {
            name: step.name,
            time: started.elapsed(),
            failure: failure.map(|error| format!("{error:#}")),
        };
        println!("{}", outcome.line());
        outcomes.push(outcome);
    }
    sum_up(&outcomes, &tally)
}

/// Lists how each test ended.
fn write_results(repository: &Repository, tally: &Tally) -> std::io::Result<()> {
    let path = repository.target(RESULTS);
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    fs_err::write(path, tally.names())
}

fn steps(repository: &Repository) -> Vec<Step> {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command.args(arguments).current_dir(repository.path(""));
        command
    };
    let quick = |name, arguments: &[&str]| Step { name, command: cargo(arguments), is_slow: false };
    let slow = |name, arguments: &[&str]| Step { name, command: cargo(arguments), is_slow: true };
    let mut docs = slow("docs", &["doc", "--workspace", FEATURES, "--no-deps"]);
    docs.command.env("RUSTDOCFLAGS", "-D warnings");
    let mut conformance = quick("conformance", &["xtask", "conformance", "--check", "--results"]);
    conformance.command.arg(repository.target(RESULTS));
    let mut tests = quick(TESTS, test_arguments(process::find("cargo-nextest").is_some()));
    tests.command.env(PATIENCE_VARIABLE, CI_PATIENCE_SECONDS);
    vec![
        quick("fmt", &["fmt", "--all", "--check"]),
        quick(
            "clippy",
            &["clippy", "--workspace", "--all-targets", FEATURES, "--", "-D", "warnings"],
        ),
        quick("tidy", &["xtask", "tidy"]),
        quick("deps", &["xtask", "deps"]),
        quick("tools", &["xtask", "tools"]),
        slow("plugins", &["xtask", "plugins", "--check"]),
        quick("build", &["build", "--package", "wasmplug"]),
        quick("gen", &["xtask", "gen", "--check"]),
        tests,
        conformance,
        quick("doctests", &["test", "--workspace", FEATURES, "--doc", "--no-fail-fast"]),
        docs,
        slow(
            "quickstart",
            // As the README gives it.
            &["run", "--release", "--", "quickstart", "--once"],
        ),
        // Of the same build.
        slow("instructions", &["xtask", "bench", "instructions", "--check"]),
    ]
}

/// Shows the output of tests that pass, too: it says which of them were skipped, and why.
fn test_arguments(has_nextest: bool) -> &'static [&'static str] {
    if has_nextest {
        &[
            "nextest",
            "run",
            "--workspace",
            FEATURES,
            "--no-fail-fast",
            "--success-output",
            "immediate",
        ]
    } else {
        &[
            "test",
            "--workspace",
            FEATURES,
            "--lib",
            "--bins",
            "--tests",
            "--no-fail-fast",
            "--",
            "--show-output",
        ]
    }
}

fn sum_up(outcomes: &[Outcome], tally: &Tally) -> ExitCode {
    println!("\n=== summary");
    for outcome in outcomes {
        println!("{}", outcome.line());
    }
    for reason in tally.skipped() {
        println!("SKIPPED: {reason}");
    }
    let has_run_tests = tally.passed() > 0;
    if !has_run_tests {
        println!("no test has run");
    }
    println!("{tally}");
    let is_fine = outcomes.iter().all(|outcome| outcome.failure.is_none());
    if is_fine && has_run_tests && tally.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Outcome {
    fn line(&self) -> String {
        let seconds = self.time.as_secs_f64();
        match &self.failure {
            None => format!("{:<12} ok     {seconds:>7.1} s", self.name),
            Some(reason) => format!("{:<12} FAILED {seconds:>7.1} s  {reason}", self.name),
        }
    }
}
