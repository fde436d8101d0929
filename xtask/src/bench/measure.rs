//! One measurement: start, first answer, warm-up, load, stop.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use serde::Serialize;

use crate::bench::cores;
use crate::bench::engine::{Engine, Ports, Programs};
use crate::bench::http::{self, Answer};
use crate::bench::load::{Load, Plan};
use crate::bench::proc;
use crate::bench::process_guard::ProcessGuard;
use crate::bench::workload::{Case, Workload};
use crate::process;

/// Longest time from start to the first answer; under valgrind everything takes long.
const START_DEADLINE: Duration = Duration::from_mins(3);

/// Time between two tries of the first answer: what the time to it is exact to.
const START_POLL: Duration = Duration::from_millis(1);

/// Load before the measurement, so that connections, caches and tiers are warm; in seconds.
const WARM_UP_SECONDS: u32 = 1;

/// One measurement.
#[derive(Clone, Serialize)]
pub(super) struct Sample {
    pub(super) round: u32,
    #[serde(flatten)]
    pub(super) case: Case,
    #[serde(flatten)]
    pub(super) load: Load,
    /// Requests per second that were asked for; none where they were sent as they were answered.
    pub(super) rate: Option<f64>,
    /// Bodies moved, in MiB per second, where the workload is about bodies.
    pub(super) mib_per_second: Option<f64>,
    /// User and system time of the engine over the requests served meanwhile, in microseconds.
    pub(super) cpu_micros_per_request: f64,
    /// Resident memory after the load, of all processes of the engine.
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

/// Starts the upstream of all engines.
pub(super) fn start_upstream(programs: &Programs) -> anyhow::Result<Upstream> {
    let [port] = http::free_ports()?;
    let command = programs.upstream(port)?;
    let log = programs.work.join("upstream.log");
    let mut process = ProcessGuard::start(&command, &cores::upstream(), &log)?;
    wait_for_answer(&mut process, 0, || http::get(port))?;
    Ok(Upstream { port, _process: process })
}

/// Measures one case once. The round is left at 0.
pub(super) fn run(
    programs: &Programs,
    upstream: &Upstream,
    case: Case,
    rate: Option<f64>,
    seconds: u32,
) -> anyhow::Result<Sample> {
    let [listen, admin] = http::free_ports()?;
    let ports = Ports { listen, admin, upstream: upstream.port };
    let command = programs.command(case, &ports)?;
    let log = programs.work.join(format!("{}.log", case.engine.name()));
    let placement = cores::placement(cores::count(), case.workers);

    let started = Instant::now();
    let mut process = ProcessGuard::start(&command, &placement.engine, &log)?;
    wait_for_answer(&mut process, case.plugins, || probe(case, &ports))?;
    let first_answer = started.elapsed();

    let plan = Plan {
        workload: case.workload,
        rate,
        port: listen,
        placement: &placement,
        work: &programs.work,
    };
    plan.run(WARM_UP_SECONDS)?;
    let ticks_before = proc::family_cpu_ticks(process.id())?;
    let load = plan.run(seconds)?;
    let ticks = proc::family_cpu_ticks(process.id())?.saturating_sub(ticks_before);
    process.ensure_alive()?;
    Ok(Sample {
        round: 0,
        case,
        load,
        rate,
        mib_per_second: case.workload.body().map(|body| mib(body) * load.requests_per_second),
        cpu_micros_per_request: micros_per_request(ticks, proc::ticks_per_second()?, load.requests),
        resident_kib: proc::family_resident_kib(process.id())?,
        first_answer_millis: first_answer.as_secs_f64() * 1e3,
        engine_command: process::display(&command),
        load_command: process::display(&plan.command(seconds)?),
    })
}

/// One request in the protocol of the case, if a small client can.
fn probe(case: Case, ports: &Ports) -> Option<Answer> {
    match (case.workload, case.engine) {
        (Workload::Tls, _) => http::get_tls(ports.listen),
        // Its port for HTTP/2 speaks nothing else.
        (Workload::Http2, Engine::Nginx) => http::get(ports.admin),
        _ => http::get(ports.listen),
    }
}

/// Waits for a 200 that all plugins have seen.
pub(super) fn wait_for_answer(
    process: &mut ProcessGuard,
    plugins: usize,
    probe: impl Fn() -> Option<Answer>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_DEADLINE;
    while Instant::now() < deadline {
        if let Some(Answer { status: 200, tags }) = probe() {
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

fn mib(bytes: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "bodies are far smaller than 2^52 bytes")]
    let bytes = bytes as f64;
    bytes / f64::from(1024 * 1024)
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
    fn another_chain_than_the_wanted_one_is_not_measured() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sleep");
        let log = folder.path().join("log");
        let mut process = ProcessGuard::start(command.arg("600"), "0", &log).unwrap();
        let answer = || Some(Answer { status: 200, tags: 1 });
        assert!(wait_for_answer(&mut process, 1, answer).is_ok());
        let error = wait_for_answer(&mut process, 10, answer).expect_err("nine are missing");
        assert!(error.to_string().contains("1 of 10 plugins"), "{error}");
    }

    #[test]
    fn an_engine_that_ends_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [port] = http::free_ports().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo broken; exit 1"]);
        let mut process = ProcessGuard::start(&command, "0", &folder.path().join("log")).unwrap();
        let error = wait_for_answer(&mut process, 0, || http::get(port));
        let error = error.expect_err("it never answers");
        assert!(error.to_string().contains("broken"), "{error}");
    }
}
