//! wrk: the load, and what it says of the answers.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};

use crate::bench::load::Load;

/// Connections that are kept alive.
const CONNECTIONS: u32 = 32;

/// The command that loads a URL, with the requests of a script if there is one.
pub(super) fn command(url: &str, threads: usize, seconds: u32, script: Option<&Path>) -> Command {
    let mut command = Command::new("wrk");
    command.args(["--threads", &threads.to_string(), "--connections", &CONNECTIONS.to_string()]);
    command.args(["--duration", &format!("{seconds}s"), "--latency"]);
    if let Some(script) = script {
        command.arg("--script").arg(script);
    }
    command.arg(url);
    command
}

/// What wrk says that it measured.
///
/// # Errors
///
/// If an answer was an error, or none came.
pub(super) fn parse(output: &str) -> anyhow::Result<Load> {
    let lines = || output.lines().map(str::trim);
    for trouble in ["Socket errors:", "Non-2xx or 3xx responses:"] {
        if let Some(line) = lines().find(|line| line.starts_with(trouble)) {
            bail!("answers were lost or errors: {line}");
        }
    }
    let after = |key: &str| lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let found = || {
        Some(Load {
            requests: lines().find_map(|line| line.split_once(" requests in ")?.0.parse().ok())?,
            requests_per_second: after("Requests/sec:")?.parse().ok()?,
            p50_micros: micros(after("50%")?)?,
            p99_micros: micros(after("99%")?)?,
        })
    };
    let load = found().with_context(|| format!("wrk did not say what it measured: {output}"))?;
    if load.requests == 0 {
        bail!("no request was answered");
    }
    Ok(load)
}

/// A time as wrk writes it, such as `1.23ms`.
fn micros(text: &str) -> Option<f64> {
    // `us` and `ms` end in `s`, so that comes last.
    [("us", 1.0), ("ms", 1e3), ("m", 6e7), ("s", 1e6)].into_iter().find_map(|(unit, factor)| {
        text.strip_suffix(unit)?.parse::<f64>().ok().map(|number| number * factor)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "Running 3s test @ http://127.0.0.1:8080/
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.14ms  250.31us   8.43ms   91.37%
    Req/Sec    28.15k     1.35k   29.94k    76.67%
  Latency Distribution
     50%  842.00us
     75%    1.19ms
     90%    1.31ms
     99%    1.92ms
  84072 requests in 3.00s, 20.93MB read
Requests/sec:  28008.93
Transfer/sec:      6.97MB
";

    #[test]
    fn the_figures_of_a_run_are_read() {
        let load = parse(OUTPUT).unwrap();
        assert_eq!(load.requests, 84072);
        for (found, expected) in [
            (load.requests_per_second, 28008.93),
            (load.p50_micros, 842.0),
            (load.p99_micros, 1920.0),
        ] {
            assert!((found - expected).abs() < 0.001, "{load:?}");
        }
    }

    #[test]
    fn runs_with_errors_are_refused() {
        for trouble in [
            "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
            "  Non-2xx or 3xx responses: 12\n",
        ] {
            let output = OUTPUT.replace("Requests/sec", &(trouble.to_owned() + "Requests/sec"));
            assert!(parse(&output).is_err(), "{trouble}");
        }
        assert!(parse(&OUTPUT.replace("84072", "0")).is_err());
    }

    #[test]
    fn cut_output_is_refused() {
        for key in ["50%", "99%", " requests in ", "Requests/sec:"] {
            assert!(parse(&OUTPUT.replace(key, "-")).is_err(), "{key}");
        }
        assert!(parse("").is_err());
    }

    #[test]
    fn times_are_read_in_each_unit() {
        for (text, expected) in
            [("842.00us", 842.0), ("2.5ms", 2500.0), ("1.5s", 1.5e6), ("2m", 1.2e8)]
        {
            assert_eq!(micros(text), Some(expected), "{text}");
        }
        for text in ["", "us", "12", "12h", "x.yms"] {
            assert_eq!(micros(text), None, "{text}");
        }
    }
}
