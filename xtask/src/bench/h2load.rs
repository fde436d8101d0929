//! h2load: HTTP/2, and load at a constant rate.
//!
//! Its summary holds counts and no percentiles; those come from its log of all requests.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::bench::load::Load;

/// Connections of HTTP/2.
const CONNECTIONS: usize = 4;

/// Streams that are open at once on each.
const STREAMS: usize = 16;

/// Connections of the constant rate; each sends its share, one request at a time.
const RATE_CONNECTIONS: u32 = 32;

/// HTTP/2 without TLS and without an upgrade.
pub(super) fn http2(url: &str, threads: usize, seconds: u32, log: &Path) -> Command {
    let mut command = command(threads, seconds, log);
    command.args(["--clients", &CONNECTIONS.to_string()]);
    command.args(["--max-concurrent-streams", &STREAMS.to_string(), url]);
    command
}

/// HTTP/1.1 with this many requests per second over all connections.
pub(super) fn constant_rate(
    url: &str,
    threads: usize,
    seconds: u32,
    rate: f64,
    log: &Path,
) -> Command {
    let mut command = command(threads, seconds, log);
    command.args(["--h1", "--clients", &RATE_CONNECTIONS.to_string()]);
    let share = rate / f64::from(RATE_CONNECTIONS);
    command.args(["--max-concurrent-streams", "1", "--rps", &format!("{share:.2}"), url]);
    command
}

fn command(threads: usize, seconds: u32, log: &Path) -> Command {
    let mut command = Command::new("h2load");
    command.args(["--threads", &threads.to_string(), "--duration", &seconds.to_string()]);
    // Its parser wants this one in one word.
    command.arg(format!("--log-file={}", log.display()));
    command
}

/// What h2load says that it measured, with the percentiles of its log.
///
/// # Errors
///
/// If an answer was an error, or none came.
pub(super) fn parse(output: &str, log: impl Read) -> anyhow::Result<Load> {
    let lines = || output.lines().map(str::trim);
    let after = |key: &str| lines().find_map(|line| line.strip_prefix(key));
    let requests = after("requests:").with_context(|| said_nothing(output))?;
    let codes = after("status codes:").with_context(|| said_nothing(output))?;
    for (counts, trouble) in [
        (requests, "failed"),
        (requests, "errored"),
        (requests, "timeout"),
        (codes, "3xx"),
        (codes, "4xx"),
        (codes, "5xx"),
    ] {
        let count = count(counts, trouble).with_context(|| said_nothing(output))?;
        ensure!(count == 0, "answers were lost or errors: {count} {trouble}");
    }
    let succeeded = count(requests, "succeeded").with_context(|| said_nothing(output))?;
    ensure!(succeeded > 0, "no request was answered");
    let rate = after("finished in").and_then(rate).with_context(|| said_nothing(output))?;
    let mut times = times(log)?;
    times.sort_unstable();
    let percentile = |percent| percentile(&times, percent).context("the log of h2load is empty");
    Ok(Load {
        requests: succeeded,
        requests_per_second: rate,
        p50_micros: percentile(50)?,
        p99_micros: percentile(99)?,
    })
}

fn said_nothing(output: &str) -> String {
    format!("h2load did not say what it measured: {output}")
}

/// The number before a word in `3192 total, 3200 started`.
fn count(counts: &str, what: &str) -> Option<u64> {
    counts.split(',').find_map(|part| {
        let (number, name) = part.trim().split_once(' ')?;
        (name == what).then(|| number.parse().ok())?
    })
}

/// Requests per second in ` 2.01s, 1596.00 req/s, 282.11KB/s`.
fn rate(finished: &str) -> Option<f64> {
    finished.split(',').find_map(|part| part.trim().strip_suffix(" req/s")?.parse().ok())
}

/// The time of each request, in microseconds. A line holds when it began, the status and the time,
/// with tabs between; newer versions may add columns.
fn times(log: impl Read) -> anyhow::Result<Vec<u32>> {
    let mut times = Vec::new();
    for line in BufReader::new(log).lines() {
        let line = line?;
        let mut columns = line.split('\t').skip(1);
        let status: Option<i32> = columns.next().and_then(|status| status.parse().ok());
        let time = columns.next().and_then(|time| time.parse().ok());
        let (Some(status), Some(time)) = (status, time) else {
            bail!("`{line}` is no line of a log of h2load");
        };
        ensure!((200..300).contains(&status), "an answer was an error: status {status}");
        times.push(time);
    }
    Ok(times)
}

/// The smallest value that so many of a hundred values do not exceed.
fn percentile(sorted: &[u32], percent: usize) -> Option<f64> {
    let rank = (sorted.len().checked_mul(percent)?).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "starting benchmark...
progress: 100% of clients started
Application protocol: h2c

finished in 2.01s, 1596.50 req/s, 282.11KB/s
requests: 3192 total, 3200 started, 3193 done, 3191 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 3191 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 564.21KB (577752) total, 339.77KB (347928) headers (space savings 0.00%)
                     min         max         mean         sd        +/- sd
time for request:       28us      8.53ms       428us       829us    93.48%
req/s           :     199.26      199.28      199.27        0.00    62.50%
";

    fn log(times: &[u32]) -> String {
        let lines = times.iter().map(|time| format!("1795887182170728\t200\t{time}\n"));
        lines.collect::<Vec<_>>().concat()
    }

    #[test]
    fn counts_come_from_the_summary_and_percentiles_from_the_log() {
        let times: Vec<u32> = (1..=200).rev().collect();
        let load = parse(OUTPUT, log(&times).as_bytes()).unwrap();
        let expected = Load {
            requests: 3191,
            requests_per_second: 1596.5,
            p50_micros: 100.0,
            p99_micros: 198.0,
        };
        assert_eq!(load, expected);
    }

    #[test]
    fn runs_with_errors_are_refused() {
        for (fine, trouble) in [
            (" 0 failed", " 3 failed"),
            (" 0 errored", " 1 errored"),
            (" 0 timeout", " 1 timeout"),
            (" 0 3xx", " 1 3xx"),
            (" 0 4xx", " 1 4xx"),
            (" 0 5xx", " 9 5xx"),
            ("3191 succeeded", "0 succeeded"),
        ] {
            let output = OUTPUT.replace(fine, trouble);
            assert_ne!(output, OUTPUT, "{trouble}");
            assert!(parse(&output, log(&[1]).as_bytes()).is_err(), "{trouble}");
        }
    }

    #[test]
    fn cut_output_is_refused() {
        for key in ["requests:", "status codes:", "finished in", " req/s", " succeeded", " errored"]
        {
            assert!(parse(&OUTPUT.replace(key, "-"), log(&[1]).as_bytes()).is_err(), "{key}");
        }
        assert!(parse("", log(&[1]).as_bytes()).is_err());
    }

    #[test]
    fn logs_with_errors_and_foreign_logs_are_refused() {
        for log in ["", "1\t-1\t20\n", "1\t503\t20\n", "1\t200\n", "1\t200\tx\n", "1 200 20\n"] {
            assert!(parse(OUTPUT, log.as_bytes()).is_err(), "{log}");
        }
        let newer = "1\t200\t20\t7\n";
        assert!(parse(OUTPUT, newer.as_bytes()).is_ok());
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        for (values, percent, expected) in
            [(&[7][..], 50, 7.0), (&[7], 99, 7.0), (&[1, 2], 50, 1.0), (&[1, 2], 99, 2.0)]
        {
            assert_eq!(percentile(values, percent), Some(expected), "{percent} of {values:?}");
        }
        assert_eq!(percentile(&[], 99), None);
    }

    #[test]
    fn a_rate_is_shared_out_among_the_connections() {
        let command = constant_rate("http://h/", 1, 2, 3200.0, Path::new("log"));
        let arguments: Vec<_> = command.get_args().filter_map(|word| word.to_str()).collect();
        let at = arguments.iter().position(|word| *word == "--rps").unwrap();
        assert_eq!(arguments.get(at + 1), Some(&"100.00"));
    }
}
