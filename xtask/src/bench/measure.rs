//! One measurement: start, first answer, warm-up, load, stop.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde::Serialize;

use crate::bench::engine::{Engine, Ports, Programs};
use crate::bench::http::{self, Answer};
use crate::bench::load::{self, Load};
use crate::bench::proc;
use crate::bench::process_guard::ProcessGuard;
use crate::process;

/// The engine's own core.
const ENGINE_CORE: usize = 0;

/// Longest time from start to the first answer.
const START_DEADLINE: Duration = Duration::from_mins(1);

/// Time between two tries of the first answer: what the time to it is exact to.
const START_POLL: Duration = Duration::from_millis(1);

/// Load before the measurement, so that connections, caches and tiers are warm; in seconds.
const WARM_UP_SECONDS: u32 = 1;

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Case {
    pub(super) engine: Engine,
    /// Copies of the plugin in the chain.
    pub(super) plugins: usize,
}

/// One measurement.
#[derive(Clone, Serialize)]
pub(super) struct Sample {
    pub(super) round: u32,
    #[serde(flatten)]
    pub(super) case: Case,
    #[serde(flatten)]
    pub(super) load: Load,
    /// User and system time of the engine over the requests served meanwhile, in microseconds.
    pub(super) cpu_micros_per_request: f64,
    /// Resident memory after the load.
    pub(super) resident_kib: u64,
    /// From the start of the process to its first 200.
    pub(super) first_answer_millis: f64,
    pub(super) engine_command: String,
    pub(super) load_command: String,
}

/// The upstream, running.
pub(super) struct Upstream {
    port: u16,
    _process: ProcessGuard,
}

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} with {} plugins", self.engine.name(), self.plugins)
    }
}

/// Starts the upstream of all engines.
pub(super) fn start_upstream(programs: &Programs) -> anyhow::Result<Upstream> {
    let [port] = http::free_ports()?;
    let command = programs.upstream(port)?;
    let log = programs.work.join("upstream.log");
    let mut process = ProcessGuard::start(&command, other_core(), &log)?;
    wait_for_answer(&mut process, port, 0)?;
    Ok(Upstream { port, _process: process })
}

/// Measures one case once. The round is left at 0.
pub(super) fn run(
    programs: &Programs,
    upstream: &Upstream,
    case: Case,
    seconds: u32,
) -> anyhow::Result<Sample> {
    let [listen, admin] = http::free_ports()?;
    let ports = Ports { listen, admin, upstream: upstream.port };
    let command = programs.command(case.engine, case.plugins, &ports)?;
    let log = programs.work.join(format!("{}.log", case.engine.name()));

    let started = Instant::now();
    let mut process = ProcessGuard::start(&command, ENGINE_CORE, &log)?;
    wait_for_answer(&mut process, listen, case.plugins)?;
    let first_answer = started.elapsed();

    load::run(listen, WARM_UP_SECONDS, other_core())?;
    let ticks_before = proc::cpu_ticks(process.id())?;
    let load = load::run(listen, seconds, other_core())?;
    let ticks = proc::cpu_ticks(process.id())?.saturating_sub(ticks_before);
    process.ensure_alive()?;
    Ok(Sample {
        round: 0,
        case,
        load,
        cpu_micros_per_request: micros_per_request(ticks, proc::ticks_per_second()?, load.requests),
        resident_kib: proc::resident_kib(process.id())?,
        first_answer_millis: first_answer.as_secs_f64() * 1e3,
        engine_command: process::display(&command),
        load_command: process::display(&load::command(listen, seconds)),
    })
}

/// Waits for a 200 that all plugins have seen.
fn wait_for_answer(process: &mut ProcessGuard, port: u16, plugins: usize) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        if let Some(Answer { status: 200, tags }) = http::get(port) {
            // Another chain than the wanted one would be measured otherwise.
            ensure!(tags == plugins, "{tags} of {plugins} plugins marked the answer");
            return Ok(());
        }
        process.ensure_alive()?;
        thread::park_timeout(START_POLL);
    }
    bail!("no 200 within {} s", START_DEADLINE.as_secs())
}

#[expect(clippy::cast_precision_loss, reason = "a measurement has far fewer than 2^52 ticks")]
fn micros_per_request(ticks: u64, ticks_per_second: u64, requests: u64) -> f64 {
    ticks as f64 * 1e6 / ticks_per_second as f64 / requests as f64
}

/// The core of the upstream and the load: the next one, if there is one.
fn other_core() -> usize {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores > 1 { ENGINE_CORE + 1 } else { ENGINE_CORE }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn processor_time_is_shared_out_among_the_requests() {
        assert!((micros_per_request(300, 100, 100_000) - 30.0).abs() < 1e-9);
    }

    #[test]
    fn an_engine_that_ends_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [port] = http::free_ports().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo broken; exit 1"]);
        let mut process =
            ProcessGuard::start(&command, ENGINE_CORE, &folder.path().join("log")).unwrap();
        let error = wait_for_answer(&mut process, port, 0).expect_err("it never answers");
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
