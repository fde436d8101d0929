//! `cargo xtask bench plan`: how the time to plan a mesh grows with it.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::process;

/// Measures, prints every round as it is, and then how the medians grow.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut command = Command::new("cargo");
    command.args(["run", "--release", "--quiet", "-p", "wasmplug-api", "--example", "plan_growth"]);
    let text = process::output(&mut command)?;
    println!("{text}");
    print!("{}", table(&text)?);
    Ok(())
}

/// The median of each size, and how much more each size takes than the one before.
fn table(text: &str) -> anyhow::Result<String> {
    let mut sizes: Vec<(u64, Vec<u64>)> = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).context("a line is not JSON")?;
        let number = |key: &str| line.get(key).and_then(Value::as_u64).context(key.to_owned());
        let (size, time) = (number("plugins")? + number("workloads")?, number("all_us")?);
        match sizes.last_mut() {
            Some((last, times)) if *last == size => times.push(time),
            _ => sizes.push((size, vec![time])),
        }
    }
    ensure!(!sizes.is_empty(), "nothing was measured");
    let mut table = String::from(
        "\nplugins and workloads | median µs | µs for each | times the size | times the time\n\
         ---|---|---|---|---\n",
    );
    let mut before: Option<(f64, f64)> = None;
    for (size, mut times) in sizes {
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let (size_f, median_f) = (to_float(size), to_float(median));
        let _ = write!(table, "{size} | {median} | {:.2} | ", median_f / size_f);
        let _ = match before {
            Some((size, time)) => {
                writeln!(table, "{:.1} | {:.1}", size_f / size, median_f / time.max(1.0))
            }
            None => writeln!(table, " | "),
        };
        before = Some((size_f, median_f));
    }
    Ok(table)
}

fn to_float(number: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts and microseconds are far below 2^53")]
    let number = number as f64;
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_compared_with_the_size_before() {
        let line = |size: u64, time: u64| {
            format!("{{\"plugins\": {size}, \"workloads\": {size}, \"all_us\": {time}}}\n")
        };
        let text = [line(10, 30), line(10, 20), line(10, 900), line(100, 330)].concat();
        let table = table(&text).unwrap();
        assert!(table.contains("20 | 30 | 1.50 |  | \n"), "{table}");
        assert!(table.contains("200 | 330 | 1.65 | 10.0 | 11.0\n"), "{table}");
    }

    #[test]
    fn other_output_is_refused() {
        assert!(table("").is_err());
        assert!(table("error\n").is_err());
        assert!(table("{}\n").is_err());
    }
}
