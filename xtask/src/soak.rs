//! `cargo xtask soak`: the product with a plugin of each language, under a steady load.
//!
//! The chain is the tour in every language in which it is built. Each answer shows what all of
//! them did to its request, and is compared to the byte.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use fs_err as fs;
use serde::Serialize;

use crate::process;
use crate::repository::Repository;
use crate::traffic::program::{self, Program};
use crate::traffic::{Connection, Upstream, text};

/// What `cargo xtask soak` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Length of the load, in minutes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=24 * 60))]
    minutes: u32,
    /// Requests a second, over all connections.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Connections that ask at one time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// Another build of the product, in place of one of this checkout.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Write all samples and the command to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Time between two samples.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);
/// The first part of this many of the samples is the warm-up, which counts for no slope.
const WARM_UP: usize = 5;
/// Longest time from start to the first answer: modules are compiled.
const START_DEADLINE: Duration = Duration::from_mins(3);
/// Time between two tries of it.
const START_POLL: Duration = Duration::from_millis(50);
/// Wrong answers that are kept to be shown.
const SHOWN: usize = 5;

/// What is asked, in turn.
const KINDS: [Kind; 4] = [Kind::Get, Kind::Post, Kind::Ask, Kind::Wait];

/// A stop of the tour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Headers and the response's body.
    Get,
    /// The body is held and changed.
    Post,
    /// A cluster is asked.
    Ask,
    /// Held until the next tick.
    Wait,
}

/// Memory and files at one time.
#[derive(Clone, Copy, Serialize)]
struct Sample {
    seconds: f64,
    resident_kib: u64,
    files: usize,
    requests: u64,
}

/// All that was found.
#[derive(Serialize)]
struct Report {
    languages: Vec<String>,
    minutes: u32,
    rate: u32,
    requests: u64,
    verified: u64,
    wrong: u64,
    resident_kib_at_start: u64,
    resident_kib_after_warm_up: u64,
    resident_kib_at_end: u64,
    /// Least squares over the samples behind the warm-up.
    slope_kib_per_minute: Option<f64>,
    files_after_warm_up: usize,
    files_at_end: usize,
    command: String,
    samples: Vec<Sample>,
}

/// What the clients share.
struct Load {
    port: u16,
    languages: usize,
    /// Between two requests of one connection.
    pause: Duration,
    is_over: AtomicBool,
    requests: AtomicU64,
    wrong: AtomicU64,
    shown: Mutex<Vec<String>>,
}

/// Runs and prints.
///
/// # Errors
///
/// If the product ends, or an answer was wrong.
pub(crate) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    let languages = languages(&repository.path("plugins/prebuilt"))?;
    let binary = program::wasmplug_binary(repository, options.binary.as_deref())?;
    let work = repository.target("soak");
    fs::create_dir_all(&work)?;
    let resources = work.join("plugins.yaml");
    fs::write(&resources, chain(&repository.path("plugins/prebuilt"), &languages))?;
    let upstream = Upstream::start()?;
    let [listen, admin] = program::free_ports()?;
    let mut command = program::wasmplug(&binary, &resources, [listen, admin, upstream.port]);
    command.args(["--cluster", &format!("users=127.0.0.1:{}", upstream.port)]);
    command.arg("--cache-dir").arg(work.join("cache"));
    let mut running = Program::start(&command, &work.join("wasmplug.log"))?;
    let load = Load::new(listen, languages.len(), options);
    load.wait_for_the_first(&mut running)?;
    let samples = thread::scope(|scope| {
        for client in 0..options.connections {
            let load = &load;
            scope.spawn(move || load.ask(u64::from(client)));
        }
        let samples = sample(&mut running, &load, options);
        load.is_over.store(true, Ordering::Release);
        samples
    })?;
    let report = Report::new(languages, options, &load, samples, process::display(&command))?;
    print!("{}", report.table());
    if let Some(path) = &options.json {
        let root = format!("{}/", repository.path("").display()).replace("//", "/");
        fs::write(path, serde_json::to_string_pretty(&report)?.replace(&root, "") + "\n")?;
        eprintln!("wrote `{}`", path.display());
    }
    let shown = load.shown.into_inner().unwrap_or_default();
    ensure!(report.wrong == 0, "{} answers were wrong:\n{}", report.wrong, shown.join("\n"));
    Ok(())
}

/// The languages in which the tour is built, in order.
fn languages(prebuilt: &Path) -> anyhow::Result<Vec<String>> {
    let mut languages = Vec::new();
    for entry in fs::read_dir(prebuilt)? {
        let name = entry?.file_name();
        let language =
            name.to_str().and_then(|name| name.strip_prefix("tour-")?.strip_suffix(".wasm"));
        languages.extend(language.map(str::to_owned));
    }
    languages.sort();
    ensure!(!languages.is_empty(), "no tour in `{}`", prebuilt.display());
    Ok(languages)
}

/// One resource for each language, the first one nearest to the client.
fn chain(prebuilt: &Path, languages: &[String]) -> String {
    let mut text = String::new();
    for (index, language) in languages.iter().enumerate() {
        let module = prebuilt.join(format!("tour-{language}.wasm"));
        let _ = write!(
            text,
            "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  \
             name: tour-{language}\nspec:\n  url: file://{}\n  priority: {}\n  pluginConfig:\n    \
             cluster: users\n    period: 20\n",
            module.display(),
            1000_usize.saturating_sub(index),
        );
    }
    text
}

fn sample(running: &mut Program, load: &Load, options: &Options) -> anyhow::Result<Vec<Sample>> {
    let begun = Instant::now();
    let end = Duration::from_secs(u64::from(options.minutes) * 60);
    let mut samples = Vec::new();
    loop {
        running.ensure_alive()?;
        samples.push(Sample {
            seconds: begun.elapsed().as_secs_f64(),
            resident_kib: running.resident_kib()?,
            files: running.open_files()?,
            requests: load.requests.load(Ordering::Relaxed),
        });
        if begun.elapsed() >= end {
            return Ok(samples);
        }
        let next = begun + SAMPLE_EVERY * u32::try_from(samples.len()).unwrap_or(u32::MAX);
        park_until(next);
    }
}

fn park_until(time: Instant) {
    while let Some(left) =
        time.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    {
        thread::park_timeout(left);
    }
}

// === impl Load ===

impl Load {
    fn new(port: u16, languages: usize, options: &Options) -> Self {
        Self {
            port,
            languages,
            pause: Duration::from_secs(1) * options.connections / options.rate,
            is_over: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            shown: Mutex::default(),
        }
    }

    fn wait_for_the_first(&self, running: &mut Program) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < START_DEADLINE {
            running.ensure_alive()?;
            if self.check(&mut Connection::new(self.port), Kind::Get, 0).is_ok() {
                return Ok(());
            }
            thread::park_timeout(START_POLL);
        }
        bail!("no right answer within {} s", START_DEADLINE.as_secs())
    }

    /// Asks at a steady rate until it is over; who is late does not catch up.
    fn ask(&self, client: u64) {
        let mut connection = Connection::new(self.port);
        let mut next = Instant::now();
        for (number, kind) in (client << 40..).zip(KINDS.into_iter().cycle()) {
            if self.is_over.load(Ordering::Acquire) {
                return;
            }
            let checked = self.check(&mut connection, kind, number);
            self.requests.fetch_add(1, Ordering::Relaxed);
            if let Err(wrong) = checked {
                self.wrong.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut shown) = self.shown.lock()
                    && shown.len() < SHOWN
                {
                    shown.push(format!("{kind:?} {number}: {wrong:#}"));
                }
            }
            next = (next + self.pause).max(Instant::now());
            park_until(next);
        }
    }

    /// Asks, and compares the answer with what every plugin of the chain does to it.
    fn check(&self, connection: &mut Connection, kind: Kind, number: u64) -> anyhow::Result<()> {
        let (method, folder, body) = match kind {
            Kind::Get => ("GET", "get", String::new()),
            Kind::Post => ("POST", "post", format!("Body of request {number}. ").repeat(40)),
            Kind::Ask => ("GET", "ask", String::new()),
            Kind::Wait => ("POST", "wait", format!("waits {number}")),
        };
        let path = format!("/{folder}/{number}");
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: soak\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let answer = connection.exchange(request.as_bytes())?;
        ensure!(answer.status == 200, "status {}", answer.status);
        let marks = answer.header_values("x-tour").join(",");
        let count = marks.split(',').filter(|mark| !mark.trim().is_empty()).count();
        ensure!(count == self.languages, "marked by `{marks}`");
        let user = if kind == Kind::Ask { path.as_str() } else { "-" };
        let received = text(method, &path, user, "-", &body.to_ascii_uppercase());
        let expected = toured(received, self.languages);
        let body = String::from_utf8(answer.body).context("the body is no text")?;
        ensure!(body == expected, "got {body:?} in place of {expected:?}");
        Ok(())
    }
}

/// What so many copies of the tour make of a text: each adds how long it was.
fn toured(mut text: String, copies: usize) -> String {
    for _ in 0..copies {
        let line = format!("tour: {} bytes\n", text.len());
        text.push_str(&line);
    }
    text
}

// === impl Report ===

impl Report {
    fn new(
        languages: Vec<String>,
        options: &Options,
        load: &Load,
        samples: Vec<Sample>,
        command: String,
    ) -> anyhow::Result<Self> {
        let warm = samples.get(samples.len() / WARM_UP..).unwrap_or_default();
        let (first, last) = (samples.first(), samples.last());
        let (first, last) = first.zip(last).context("no sample")?;
        let after_warm_up = warm.first().unwrap_or(last);
        let requests = load.requests.load(Ordering::Relaxed);
        let wrong = load.wrong.load(Ordering::Relaxed);
        Ok(Self {
            languages,
            minutes: options.minutes,
            rate: options.rate,
            requests,
            verified: requests.saturating_sub(wrong),
            wrong,
            resident_kib_at_start: first.resident_kib,
            resident_kib_after_warm_up: after_warm_up.resident_kib,
            resident_kib_at_end: last.resident_kib,
            slope_kib_per_minute: slope_per_minute(warm),
            files_after_warm_up: after_warm_up.files,
            files_at_end: last.files,
            command,
            samples,
        })
    }

    /// A table in Markdown.
    fn table(&self) -> String {
        let slope = self.slope_kib_per_minute.map_or("-".to_owned(), |slope| format!("{slope:.1}"));
        format!(
            "| what | value |\n|---|---:|\n| languages | {} |\n| minutes | {} |\n| requests | {} |\n\
             | verified | {} |\n| wrong | {} |\n| resident KiB at start | {} |\n\
             | resident KiB after warm-up | {} |\n| resident KiB at end | {} |\n\
             | slope, KiB a minute | {slope} |\n| files after warm-up | {} |\n| files at end | {} |\n",
            self.languages.join(", "),
            self.minutes,
            self.requests,
            self.verified,
            self.wrong,
            self.resident_kib_at_start,
            self.resident_kib_after_warm_up,
            self.resident_kib_at_end,
            self.files_after_warm_up,
            self.files_at_end,
        )
    }
}

/// Least squares; none for fewer than two samples.
#[expect(clippy::cast_precision_loss, reason = "no process has 2^52 KiB, no run as many samples")]
fn slope_per_minute(samples: &[Sample]) -> Option<f64> {
    let count = samples.len() as f64;
    let point = |sample: &Sample| (sample.seconds / 60.0, sample.resident_kib as f64);
    let points: Vec<_> = samples.iter().map(point).collect();
    let mean = |value: fn(&(f64, f64)) -> f64| points.iter().map(value).sum::<f64>() / count;
    let (x_mean, y_mean) = (mean(|point| point.0), mean(|point| point.1));
    let spread = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum::<f64>();
    let rise = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum::<f64>();
    (samples.len() > 1 && spread > 0.0).then(|| rise / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, resident_kib: u64) -> Sample {
        Sample { seconds, resident_kib, files: 9, requests: 1 }
    }

    #[test]
    fn the_slope_is_that_of_the_line_through_the_samples() {
        let rising = [sample(0.0, 1000), sample(30.0, 1030), sample(60.0, 1060)];
        assert!((slope_per_minute(&rising).unwrap() - 60.0).abs() < 1e-6);
        let flat = [sample(0.0, 1000), sample(30.0, 1010), sample(60.0, 1000)];
        assert!(slope_per_minute(&flat).unwrap().abs() < 1e-6);
        assert_eq!(slope_per_minute(&rising[..1]), None);
        assert_eq!(slope_per_minute(&[]), None);
    }

    #[test]
    fn each_copy_of_the_tour_adds_how_long_the_text_was() {
        assert_eq!(toured("ab\n".to_owned(), 2), "ab\ntour: 3 bytes\ntour: 17 bytes\n");
        assert_eq!(toured("ab\n".to_owned(), 0), "ab\n");
    }

    #[test]
    fn an_answer_without_the_plugins_is_wrong() {
        let upstream = Upstream::start().unwrap();
        let options = Options { minutes: 1, rate: 1, connections: 1, binary: None, json: None };
        let load = Load::new(upstream.port, 1, &options);
        for kind in KINDS {
            let error = load.check(&mut Connection::new(upstream.port), kind, 1).unwrap_err();
            assert!(error.to_string().contains("marked by"), "{error}");
        }
    }

    #[test]
    fn the_tour_is_there_in_several_languages() {
        let repository = Repository::find().unwrap();
        let prebuilt = repository.path("plugins/prebuilt");
        let languages = languages(&prebuilt).unwrap();
        assert!(languages.len() > 1, "{languages:?}");
        assert_eq!(
            chain(&prebuilt, &languages).matches("kind: WasmPlugin").count(),
            languages.len()
        );
    }
}
