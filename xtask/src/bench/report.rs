//! The rounds summed up, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::bench::engine::Engine;
use crate::bench::measure::{Case, Sample};

/// All that was measured.
#[derive(Serialize)]
pub(super) struct Report {
    /// Length of each measurement.
    seconds: u32,
    /// Cores of this machine; the engine has one, the upstream and the load another.
    cores: usize,
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
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { seconds, cores, summary, rounds }
    }

    /// A table in Markdown.
    pub(super) fn table(&self) -> String {
        let mut table = String::from(
            "| engine   | plugins | CPU µs/req | min – max     | req/s   | p50 µs  | p99 µs  \
             | RSS MiB | first 200 ms | Envoy / this |\n\
             |----------|--------:|-----------:|--------------:|--------:|--------:|--------:\
             |--------:|-------------:|-------------:|\n",
        );
        for row in &self.summary {
            let range = format!(
                "{:.1} – {:.1}",
                row.cpu_micros_per_request_min, row.cpu_micros_per_request_max
            );
            let ratio = row.envoy_ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
            writeln!(
                table,
                "| {:<8} | {:>7} | {:>10.1} | {range:>13} | {:>7.0} | {:>7.0} | {:>7.0} | {:>7.1} \
                 | {:>12.1} | {ratio:>12} |",
                row.case.engine.name(),
                row.case.plugins,
                row.cpu_micros_per_request,
                row.requests_per_second,
                row.p50_micros,
                row.p99_micros,
                row.resident_kib / 1024.0,
                row.first_answer_millis,
            )
            .expect("writing to a string cannot fail");
        }
        table
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

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len().checked_sub(1)?) / 2)?;
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Load;

    fn sample(round: u32, engine: Engine, cpu: f64) -> Sample {
        Sample {
            round,
            case: Case { engine, plugins: 0 },
            load: Load { requests: 1, requests_per_second: 1.0, p50_micros: 1.0, p99_micros: 1.0 },
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
        let case = |engine| Case { engine, plugins: 0 };
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
        let table = report().table();
        assert_eq!(table.lines().count(), 4);
        assert!(table.contains("| nginx    |       0 |       12.0 |"), "{table}");
    }
}
