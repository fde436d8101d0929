//! What was measured, compared with what is wanted.
//!
//! Each figure is a ratio within one round, so that the machine's mood cancels out; the median over
//! the rounds is compared. Nothing fails here: a table says what is met.

use std::fmt::{self, Write as _};

use serde::Serialize;

use crate::bench::cores;
use crate::bench::engine::Engine;
use crate::bench::measure::Sample;
use crate::bench::report::median;
use crate::bench::workload::{Case, Workload};

/// Part of a constant rate that must have been answered: below, an engine is late with everything
/// and its percentiles compare with nothing.
const KEPT_RATE: f64 = 0.95;

/// The goals for which something was measured.
#[derive(Serialize)]
#[serde(transparent)]
pub(super) struct Goals(Vec<Goal>);

/// One of them.
#[derive(Serialize)]
struct Goal {
    what: String,
    bound: Bound,
    median: f64,
    min: f64,
    max: f64,
    /// Rounds in which all of it was measured.
    rounds: usize,
    verdict: Verdict,
}

/// What a ratio may be.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Met,
    Missed,
    /// The load took time from the engine, so the figure says nothing.
    CoresShared,
}

/// The samples of one round.
struct Round<'a>(Vec<&'a Sample>);

/// None where a part of it was not measured in the round.
type Ratio = Box<dyn Fn(&Round<'_>) -> Option<f64>>;

/// A wanted ratio.
struct Check {
    what: String,
    bound: Bound,
    ratio: Ratio,
    /// Whether it means something only with cores for the load.
    needs_cores_for: Option<usize>,
}

// === impl Goals ===

impl Goals {
    /// Compares what was measured on a machine with so many cores.
    pub(super) fn new(samples: &[Sample], cores: usize) -> Self {
        let mut numbers: Vec<_> = samples.iter().map(|sample| sample.round).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let rounds: Vec<_> = numbers
            .into_iter()
            .map(|number| Round(samples.iter().filter(|sample| sample.round == number).collect()))
            .collect();
        Self(checks().iter().filter_map(|check| Goal::new(check, &rounds, cores)).collect())
    }
}

impl fmt::Display for Goals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        writeln!(
            formatter,
            "\n| goal {:<58} | wanted | median | min – max       | rounds | verdict      |\n\
             |{:-<65}|-------:|-------:|----------------:|-------:|--------------|",
            "", ""
        )?;
        for goal in &self.0 {
            let mut range = String::new();
            write!(range, "{:.3} – {:.3}", goal.min, goal.max)?;
            writeln!(
                formatter,
                "| {:<63} | {:>6} | {:>6.3} | {range:>15} | {:>6} | {:<12} |",
                goal.what,
                goal.bound.to_string(),
                goal.median,
                goal.rounds,
                goal.verdict.name(),
            )?;
        }
        Ok(())
    }
}

// === impl Goal ===

impl Goal {
    /// None for what was not measured.
    fn new(check: &Check, rounds: &[Round<'_>], cores: usize) -> Option<Self> {
        let ratios: Vec<_> = rounds.iter().filter_map(|round| (check.ratio)(round)).collect();
        let median = median(ratios.iter().copied())?;
        let is_shared =
            check.needs_cores_for.is_some_and(|workers| cores::placement(cores, workers).is_shared);
        Some(Self {
            what: check.what.clone(),
            bound: check.bound,
            median,
            min: ratios.iter().copied().reduce(f64::min)?,
            max: ratios.iter().copied().reduce(f64::max)?,
            rounds: ratios.len(),
            verdict: match is_shared {
                true => Verdict::CoresShared,
                false if check.bound.holds(median) => Verdict::Met,
                false => Verdict::Missed,
            },
        })
    }
}

// === impl Bound ===

impl Bound {
    fn holds(self, ratio: f64) -> bool {
        match self {
            Self::AtMost(most) => ratio <= most,
            Self::AtLeast(least) => ratio >= least,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(formatter, "≤ {most:.2}"),
            Self::AtLeast(least) => write!(formatter, "≥ {least:.2}"),
        }
    }
}

// === impl Verdict ===

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "missed",
            Self::CoresShared => "cores shared",
        }
    }
}

// === impl Round ===

impl Round<'_> {
    fn get(&self, case: Case) -> Option<&Sample> {
        self.0.iter().copied().find(|sample| sample.case == case)
    }

    /// A figure of ours over that of another engine with the same chain, load and workers.
    fn ratio(&self, ours: Case, other: Engine, figure: fn(&Sample) -> f64) -> Option<f64> {
        let other = self.get(Case { engine: other, ..ours })?;
        quotient(figure(self.get(ours)?), figure(other))
    }

    /// Processor time that each of ten plugins adds on average.
    fn plugin_cost(&self, engine: Engine) -> Option<f64> {
        let with = |plugins| Some(cpu(self.get(small(engine, plugins, 1))?));
        Some((with(10)? - with(0)?) / 10.0)
    }
}

/// None where the figure below is nothing, or less by noise.
fn quotient(above: f64, below: f64) -> Option<f64> {
    (below > 0.0).then(|| above / below)
}

fn small(engine: Engine, plugins: usize, workers: usize) -> Case {
    Case { engine, plugins, workload: Workload::Small, workers }
}

fn cpu(sample: &Sample) -> f64 {
    sample.cpu_micros_per_request
}

#[expect(clippy::cast_precision_loss, reason = "no process has 2^52 KiB")]
fn memory(sample: &Sample) -> f64 {
    sample.resident_kib as f64
}

fn first_answer(sample: &Sample) -> f64 {
    sample.first_answer_millis
}

fn p99(sample: &Sample) -> f64 {
    sample.load.p99_micros
}

fn has_kept_rate(sample: &Sample) -> bool {
    sample.rate.is_some_and(|rate| sample.load.requests_per_second >= rate * KEPT_RATE)
}

/// All that is wanted.
fn checks() -> Vec<Check> {
    let ours = |plugins, workers| small(Engine::Wasmplug, plugins, workers);
    let against = |what: String, most, case: Case, other, figure: fn(&Sample) -> f64| Check {
        what,
        bound: Bound::AtMost(most),
        ratio: Box::new(move |round| round.ratio(case, other, figure)),
        needs_cores_for: None,
    };
    let mut checks = Vec::new();
    for (plugins, most) in [(0, 0.36), (1, 0.32), (10, 0.30)] {
        let what = format!("CPU with {plugins} plugins, ours / Envoy");
        checks.push(against(what, most, ours(plugins, 1), Engine::Envoy, cpu));
    }
    checks.push(Check {
        what: "one more plugin, (CPU with 10 - CPU with 0) / 10, ours / Envoy".to_owned(),
        bound: Bound::AtMost(0.25),
        ratio: Box::new(|round| {
            let cost = |engine| round.plugin_cost(engine);
            quotient(cost(Engine::Wasmplug)?, cost(Engine::Envoy)?)
        }),
        needs_cores_for: None,
    });
    let what = "CPU with 0 plugins, ours / nginx".to_owned();
    checks.push(against(what, 1.3, ours(0, 1), Engine::Nginx, cpu));
    let what = "first 200 with 10 plugins, ours / Envoy".to_owned();
    checks.push(against(what, 0.05, ours(10, 1), Engine::Envoy, first_answer));
    for (workers, most) in [(1, 0.3), (4, 0.4)] {
        let what = format!("RSS with 10 plugins, {workers} workers, ours / Envoy");
        checks.push(against(what, most, ours(10, workers), Engine::Envoy, memory));
    }
    checks.extend([0, 1, 10].map(constant_rate));
    checks.push(Check {
        what: "req/s without plugins, our 2 workers / 1".to_owned(),
        bound: Bound::AtLeast(1.8),
        ratio: Box::new(move |round| {
            let rate = |workers| Some(round.get(ours(0, workers))?.load.requests_per_second);
            quotient(rate(2)?, rate(1)?)
        }),
        needs_cores_for: Some(2),
    });
    checks
}

/// Only from rounds in which both kept the rate.
fn constant_rate(plugins: usize) -> Check {
    let case = Case { workload: Workload::Rate, ..small(Engine::Wasmplug, plugins, 1) };
    Check {
        what: format!("p99 at constant rate, {plugins} plugins, ours / Envoy"),
        bound: Bound::AtMost(1.0),
        ratio: Box::new(move |round| {
            let envoy = Case { engine: Engine::Envoy, ..case };
            let kept = [case, envoy].map(|case| round.get(case).is_some_and(has_kept_rate));
            (kept == [true, true]).then(|| round.ratio(case, Engine::Envoy, p99))?
        }),
        needs_cores_for: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::report::tests::sample;

    fn with_cpu(round: u32, case: Case, cpu: f64) -> Sample {
        Sample { round, case, cpu_micros_per_request: cpu, ..sample(round, case.engine, cpu) }
    }

    fn found(samples: &[Sample], cores: usize) -> Vec<(String, String, Verdict)> {
        let goals = Goals::new(samples, cores).0;
        goals
            .into_iter()
            .map(|goal| (goal.what, format!("{:.2}", goal.median), goal.verdict))
            .collect()
    }

    /// The goal whose name begins so.
    fn goal(samples: &[Sample], cores: usize, start: &str) -> Option<(String, Verdict)> {
        let mut goals = found(samples, cores).into_iter();
        goals.find_map(|(what, median, verdict)| {
            what.starts_with(start).then_some((median, verdict))
        })
    }

    #[test]
    fn the_median_of_the_ratios_of_each_round_is_compared() {
        let (ours, envoy) = (small(Engine::Wasmplug, 0, 1), small(Engine::Envoy, 0, 1));
        let mut samples = Vec::new();
        for (round, cpu) in [(1, 3.0), (2, 4.0), (3, 9.0)] {
            samples.push(with_cpu(round, ours, cpu));
            samples.push(with_cpu(round, envoy, 10.0));
        }
        let start = "CPU with 0 plugins, ours / Envoy";
        assert_eq!(goal(&samples, 2, start), Some(("0.40".to_owned(), Verdict::Missed)));
        let better: Vec<_> = samples.into_iter().filter(|sample| sample.round != 3).collect();
        assert_eq!(goal(&better, 2, start), Some(("0.35".to_owned(), Verdict::Met)));
    }

    #[test]
    fn one_more_plugin_costs_a_tenth_of_what_ten_add() {
        let samples: Vec<_> = [
            (Engine::Wasmplug, 0, 10.0),
            (Engine::Wasmplug, 10, 20.0),
            (Engine::Envoy, 0, 30.0),
            (Engine::Envoy, 10, 80.0),
        ]
        .map(|(engine, plugins, cpu)| with_cpu(1, small(engine, plugins, 1), cpu))
        .into();
        assert_eq!(goal(&samples, 2, "one more"), Some(("0.20".to_owned(), Verdict::Met)));
        assert_eq!(goal(&samples[..3], 2, "one more"), None);
    }

    #[test]
    fn what_was_not_measured_has_no_row() {
        let ours = with_cpu(1, small(Engine::Wasmplug, 0, 1), 1.0);
        let of_another_round = with_cpu(2, small(Engine::Envoy, 0, 1), 1.0);
        assert!(found(&[ours, of_another_round], 2).is_empty());
        assert_eq!(Goals::new(&[], 2).to_string(), "");
    }

    #[test]
    fn percentiles_count_only_where_both_kept_the_rate() {
        let at = |engine, requests_per_second, p99_micros| {
            let case = Case { workload: Workload::Rate, ..small(engine, 1, 1) };
            let mut sample = with_cpu(1, case, 1.0);
            sample.rate = Some(100.0);
            sample.load.requests_per_second = requests_per_second;
            sample.load.p99_micros = p99_micros;
            sample
        };
        let envoy = at(Engine::Envoy, 99.0, 10.0);
        let start = "p99 at constant rate, 1 plugins";
        let samples = [at(Engine::Wasmplug, 99.0, 5.0), envoy.clone()];
        assert_eq!(goal(&samples, 2, start), Some(("0.50".to_owned(), Verdict::Met)));
        let samples = [at(Engine::Wasmplug, 80.0, 5.0), envoy];
        assert_eq!(goal(&samples, 2, start), None);
    }

    #[test]
    fn workers_are_compared_only_with_cores_for_the_load() {
        let with_rate = |workers, rate| {
            let mut sample = with_cpu(1, small(Engine::Wasmplug, 0, workers), 1.0);
            sample.load.requests_per_second = rate;
            sample
        };
        let samples = [with_rate(1, 10.0), with_rate(2, 19.0)];
        for (cores, verdict) in [(2, Verdict::CoresShared), (4, Verdict::Met)] {
            let found = goal(&samples, cores, "req/s without plugins");
            assert_eq!(found, Some(("1.90".to_owned(), verdict)), "{cores}");
        }
        let samples = [with_rate(1, 10.0), with_rate(2, 11.0)];
        let found = goal(&samples, 4, "req/s without plugins");
        assert_eq!(found, Some(("1.10".to_owned(), Verdict::Missed)));
    }
}
