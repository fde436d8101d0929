//! The rounds summed up, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use crate::bench::cores;
use crate::bench::engine::Engine;
use crate::bench::goals::Goals;
use crate::bench::measure::Sample;
use crate::bench::workload::Case;

/// All that was measured.
#[derive(Serialize)]
pub(super) struct Report {
    /// Length of each measurement.
    seconds: u32,
    /// Cores of this machine; which of them an engine has depends on its workers.
    cores: usize,
    /// Workers with which the load ran on the engine's cores.
    workers_that_share_cores: Vec<usize>,
    goals: Goals,
    summary: Vec<Summary>,
    rounds: Vec<Sample>,
}

/// The medians of one case over all rounds.
#[derive(Serialize)]
struct Summary {
    #[serde(flatten)]
    case: Case,
    cpu_micros_per_request: f64,
    cpu_micros_per_request_min: f64,
    cpu_micros_per_request_max: f64,
    requests_per_second: f64,
    mib_per_second: Option<f64>,
    p50_micros: f64,
    p99_micros: f64,
    resident_kib: f64,
    first_answer_millis: f64,
    /// Envoy's processor time for the same chain over this one's, in the same round: how many
    /// times cheaper. None without Envoy.
    envoy_ratio: Option<f64>,
}

impl Report {
    pub(super) fn new(cases: &[Case], rounds: Vec<Sample>, seconds: u32) -> Self {
        let summary = cases.iter().filter_map(|case| Summary::new(*case, &rounds)).collect();
        let cores = cores::count();
        let mut workers: Vec<_> = cases.iter().map(|case| case.workers).collect();
        workers.retain(|workers| cores::placement(cores, *workers).is_shared);
        workers.sort_unstable();
        workers.dedup();
        let goals = Goals::new(&rounds, cores);
        Self { seconds, cores, workers_that_share_cores: workers, goals, summary, rounds }
    }
}

/// Tables in Markdown.
impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "| load   | workers | engine   | plugins | CPU µs/req | min – max       | req/s   \
             | MiB/s  | p50 µs  | p99 µs  | RSS MiB | first 200 ms | Envoy / this |\n\
             |--------|--------:|----------|--------:|-----------:|----------------:|--------:\
             |-------:|--------:|--------:|--------:|-------------:|-------------:|\n",
        )?;
        for row in &self.summary {
            writeln!(formatter, "{row}")?;
        }
        for workers in &self.workers_that_share_cores {
            writeln!(
                formatter,
                "\nNote: {workers} workers had all {} cores, which the load and the upstream \
                 shared; req/s and percentiles say little there.",
                self.cores
            )?;
        }
        write!(formatter, "{}", self.goals)
    }
}

/// A row of the table.
impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = format!(
            "{:.1} – {:.1}",
            self.cpu_micros_per_request_min, self.cpu_micros_per_request_max
        );
        let ratio = self.envoy_ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        let bodies = self.mib_per_second.map_or_else(String::new, |mib| format!("{mib:.0}"));
        let Case { engine, plugins, workload, workers } = self.case;
        write!(
            formatter,
            "| {:<6} | {workers:>7} | {:<8} | {plugins:>7} | {:>10.1} | {range:>15} | {:>7.0} \
             | {bodies:>6} | {:>7.0} | {:>7.0} | {:>7.1} | {:>12.1} | {ratio:>12} |",
            workload.name(),
            engine.name(),
            self.cpu_micros_per_request,
            self.requests_per_second,
            self.p50_micros,
            self.p99_micros,
            self.resident_kib / 1024.0,
            self.first_answer_millis,
        )
    }
}

impl Summary {
    /// None for a case without a sample.
    fn new(case: Case, rounds: &[Sample]) -> Option<Self> {
        let own: Vec<&Sample> = rounds.iter().filter(|sample| sample.case == case).collect();
        let over = |value: fn(&Sample) -> f64| own.iter().map(move |sample| value(sample));
        let of_cpu = |sample: &Sample| sample.cpu_micros_per_request;
        Some(Self {
            case,
            cpu_micros_per_request: median(over(of_cpu))?,
            cpu_micros_per_request_min: over(of_cpu).reduce(f64::min)?,
            cpu_micros_per_request_max: over(of_cpu).reduce(f64::max)?,
            requests_per_second: median(over(|sample| sample.load.requests_per_second))?,
            mib_per_second: median(own.iter().filter_map(|sample| sample.mib_per_second)),
            p50_micros: median(over(|sample| sample.load.p50_micros))?,
            p99_micros: median(over(|sample| sample.load.p99_micros))?,
            #[expect(clippy::cast_precision_loss, reason = "no process has 2^52 KiB")]
            resident_kib: median(over(|sample| sample.resident_kib as f64))?,
            first_answer_millis: median(over(|sample| sample.first_answer_millis))?,
            envoy_ratio: median(own.iter().filter_map(|sample| envoy_ratio(sample, rounds))),
        })
    }
}

/// Envoy's processor time over this one's, with the same chain in the same round.
fn envoy_ratio(sample: &Sample, rounds: &[Sample]) -> Option<f64> {
    let twin = Case { engine: Engine::Envoy, ..sample.case };
    let envoy = rounds.iter().find(|other| other.round == sample.round && other.case == twin)?;
    Some(envoy.cpu_micros_per_request / sample.cpu_micros_per_request)
}

/// The value in the middle, or between the two that are.
pub(super) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len().checked_sub(1)?) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::bench::load::Load;
    use crate::bench::workload::Workload;

    fn case(engine: Engine) -> Case {
        Case { engine, plugins: 0, workload: Workload::Small, workers: 1 }
    }

    /// What one measurement may be; only the processor time is of interest.
    pub(in crate::bench) fn sample(round: u32, engine: Engine, cpu: f64) -> Sample {
        Sample {
            round,
            case: case(engine),
            load: Load { requests: 1, requests_per_second: 1.0, p50_micros: 1.0, p99_micros: 1.0 },
            rate: None,
            mib_per_second: None,
            cpu_micros_per_request: cpu,
            resident_kib: 2048,
            first_answer_millis: 1.0,
            engine_command: String::new(),
            load_command: String::new(),
        }
    }

    fn report() -> Report {
        let rounds = vec![
            sample(1, Engine::Envoy, 30.0),
            sample(1, Engine::Nginx, 10.0),
            sample(2, Engine::Envoy, 40.0),
            sample(2, Engine::Nginx, 20.0),
            sample(3, Engine::Envoy, 60.0),
            sample(3, Engine::Nginx, 12.0),
        ];
        Report::new(&[case(Engine::Envoy), case(Engine::Nginx)], rounds, 3)
    }

    #[test]
    fn the_median_stands_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn a_case_is_summed_up_over_its_own_rounds() {
        let nginx = &report().summary[1];
        let cpu = [
            nginx.cpu_micros_per_request_min,
            nginx.cpu_micros_per_request,
            nginx.cpu_micros_per_request_max,
        ];
        assert_eq!(format!("{cpu:?}"), "[10.0, 12.0, 20.0]");
    }

    #[test]
    fn the_ratio_to_envoy_is_taken_within_each_round() {
        // 30 / 10, 40 / 20, 60 / 12
        assert_eq!(report().summary[1].envoy_ratio, Some(3.0));
        assert_eq!(report().summary[0].envoy_ratio, Some(1.0));
        let alone = [sample(1, Engine::Nginx, 10.0)];
        assert_eq!(envoy_ratio(&alone[0], &alone), None);
    }

    #[test]
    fn the_table_has_a_row_for_each_case() {
        let text = report().to_string();
        let table: Vec<_> = text.lines().take_while(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 4, "{text}");
        assert!(table[3].starts_with("| small  |       1 | nginx    |       0 |       12.0 |"));
        let columns = table.iter().map(|line| line.matches('|').count());
        assert!(columns.clone().all(|count| count == 14), "{text}");
    }

    #[test]
    fn a_note_says_where_the_load_took_time_from_the_engine() {
        let cases = [1, cores::count() + 1].map(|workers| Case { workers, ..case(Engine::Envoy) });
        let note = |workers| format!("Note: {workers} workers had all");
        let text = Report::new(&cases, Vec::new(), 1).to_string();
        assert!(text.contains(&note(cores::count() + 1)), "{text}");
        assert_eq!(text.contains(&note(1)), cores::count() == 1, "{text}");
    }

    #[test]
    fn an_extra_sample_is_in_no_row() {
        let extra = vec![sample(1, Engine::Envoy, 30.0), sample(1, Engine::Nginx, 10.0)];
        let report = Report::new(&[case(Engine::Nginx)], extra, 3);
        assert_eq!(report.summary.len(), 1);
        assert_eq!(report.rounds.len(), 2);
    }
}
