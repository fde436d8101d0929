//! `cargo xtask crash`: one crash in a thousand requests, and what becomes of the others.
//!
//! A plugin marks every request and traps where one asks for it. Another request succeeds if its
//! answer is whole and shows that the upstream saw the mark: the plugin was in effect.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use fs_err as fs;
use serde::Serialize;
use serde_json::{Value, json};

use crate::process;
use crate::repository::Repository;
use crate::traffic::program::{self, Program, WORKERS};
use crate::traffic::{Answer, Connection, Upstream, text};

/// What `cargo xtask crash` is told.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Proxies to measure.
    #[arg(long, value_delimiter = ',', value_enum, default_values = ["wasmplug", "envoy"])]
    engines: Vec<Engine>,
    /// How many requests each engine gets with each policy.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    requests: u64,
    /// One of so many requests crashes the plugin.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(2..=1_000_000))]
    every: u64,
    /// Connections that ask at one time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Another build of the product, in place of one of this checkout.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Write all numbers and the commands to this file, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the plugin hears of a stream, which decides what a crash means to those beside it: a stream
/// on its way to the upstream needs a fresh VM if the plugin is to hear of the response as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Hears {
    Request,
    Both,
}

/// A proxy that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum Engine {
    /// The product, built with the profile `dist`.
    Wasmplug,
    /// Envoy with its V8.
    Envoy,
}

/// What becomes of streams whose plugin cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Policy {
    #[serde(rename = "FAIL_CLOSED")]
    Closed,
    #[serde(rename = "FAIL_RELOAD")]
    Reload,
    #[serde(rename = "FAIL_OPEN")]
    Open,
}

/// What one engine did with one policy.
#[derive(Serialize)]
struct Row {
    engine: Engine,
    policy: Policy,
    hears: Hears,
    seconds: f64,
    /// Requests that crashed the plugin, or would have if it had run.
    crashing: u64,
    /// All others.
    others: u64,
    /// Whole, and with the plugin in effect.
    succeeded: u64,
    /// Whole, but the plugin was not in effect.
    without_plugin: u64,
    /// 503 or another error.
    refused: u64,
    /// No whole answer.
    lost: u64,
    /// Something else than was asked for.
    wrong: u64,
    succeeded_percent: f64,
    command: String,
}

/// What became of a request that does not crash the plugin itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Succeeded,
    WithoutPlugin,
    Refused,
    Wrong,
}

/// Counts of one run.
#[derive(Default)]
struct Counts {
    next: AtomicU64,
    crashing: AtomicU64,
    succeeded: AtomicU64,
    without_plugin: AtomicU64,
    refused: AtomicU64,
    lost: AtomicU64,
    wrong: AtomicU64,
}

/// Longest time from start to the first marked request.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// Time between two tries of it.
const START_POLL: Duration = Duration::from_millis(10);
/// Of the requests that do not crash the plugin themselves, what must succeed here.
const REQUIRED_PERCENT: f64 = 99.8;

/// Measures and prints.
///
/// # Errors
///
/// If a program is missing, or this proxy does not reach what it promises.
pub(crate) fn run(repository: &Repository, options: &Options) -> anyhow::Result<()> {
    let work = repository.target("crash");
    fs::create_dir_all(&work)?;
    let upstream = Upstream::start()?;
    let mut rows = Vec::new();
    for &engine in &options.engines {
        let binary = match engine {
            Engine::Wasmplug => program::wasmplug_binary(repository, options.binary.as_deref())?,
            Engine::Envoy => program::envoy(repository)?,
        };
        for (policy, hears) in cases() {
            eprintln!("{} with {}, hears {}", engine.name(), policy.envoy(), hears.name());
            let module = work.join(format!("hears-{}.wasm", hears.name()));
            fs::write(&module, wat::parse_str(hears.module())?)?;
            let case =
                Case { engine, policy, hears, binary: &binary, module: &module, work: &work };
            rows.push(case.measure(&upstream, options)?);
        }
    }
    print!("{}", table(&rows));
    if let Some(path) = &options.json {
        let root = format!("{}/", repository.path("").display()).replace("//", "/");
        let report = json!({ "every": options.every, "connections": options.connections, "workers": WORKERS, "rows": rows });
        fs::write(path, serde_json::to_string_pretty(&report)?.replace(&root, "") + "\n")?;
        eprintln!("wrote `{}`", path.display());
    }
    let missed = rows.iter().filter(|row| row.engine == Engine::Wasmplug);
    let missed = missed.filter(|row| row.succeeded_percent < REQUIRED_PERCENT).count();
    ensure!(missed == 0, "fewer than {REQUIRED_PERCENT} % of the others succeeded here");
    Ok(())
}

/// One proxy with one policy.
struct Case<'a> {
    engine: Engine,
    policy: Policy,
    hears: Hears,
    binary: &'a Path,
    module: &'a Path,
    work: &'a Path,
}

impl Case<'_> {
    fn measure(&self, upstream: &Upstream, options: &Options) -> anyhow::Result<Row> {
        let [listen, admin] = program::free_ports()?;
        let command = self.command([listen, admin, upstream.port])?;
        let log = self.work.join(format!("{}.log", self.engine.name()));
        let mut running = Program::start(&command, &log)?;
        wait_until_in_effect(&mut running, listen)?;
        let (counts, begun) = (Counts::default(), Instant::now());
        thread::scope(|scope| {
            for _ in 0..options.connections {
                scope.spawn(|| ask(listen, options, &counts));
            }
        });
        let seconds = begun.elapsed().as_secs_f64();
        running.ensure_alive()?;
        let case = (self.engine, self.policy, self.hears);
        Ok(counts.row(case, seconds, process::display(&command)))
    }

    fn command(&self, ports: [u16; 3]) -> anyhow::Result<Command> {
        let path = self.work.join(format!("{}.yaml", self.engine.name()));
        match self.engine {
            Engine::Wasmplug => {
                fs::write(&path, resource(self.module, self.policy))?;
                Ok(program::wasmplug(self.binary, &path, ports))
            }
            Engine::Envoy => {
                let [listen, _, upstream] = ports;
                let bootstrap = envoy_bootstrap(self.module, self.policy, [listen, upstream]);
                // JSON is YAML.
                fs::write(&path, serde_json::to_string_pretty(&bootstrap)?)?;
                let mut command = Command::new(self.binary);
                command.args(["--concurrency", WORKERS, "--disable-hot-restart"]);
                command.args(["--log-level", "off", "--config-path"]).arg(path);
                Ok(command)
            }
        }
    }
}

/// Asks until all requests were asked.
fn ask(port: u16, options: &Options, counts: &Counts) {
    let mut connection = Connection::new(port);
    loop {
        let number = counts.next.fetch_add(1, Ordering::Relaxed);
        if number >= options.requests {
            return;
        }
        let crashes = number % options.every == options.every / 2;
        let crash = if crashes { "x-crash: 1\r\n" } else { "" };
        let path = format!("/{number}");
        let answer = connection
            .exchange(format!("GET {path} HTTP/1.1\r\nhost: bench\r\n{crash}\r\n").as_bytes());
        let counter = match (&answer, crashes) {
            (_, true) => &counts.crashing,
            (Err(_), _) => &counts.lost,
            (Ok(answer), _) => counts.of(Outcome::of(answer, &path)),
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

fn wait_until_in_effect(program: &mut Program, port: u16) -> anyhow::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < START_DEADLINE {
        program.ensure_alive()?;
        let answer = Connection::new(port).exchange(b"GET /first HTTP/1.1\r\nhost: bench\r\n\r\n");
        if answer.is_ok_and(|answer| Outcome::of(&answer, "/first") == Outcome::Succeeded) {
            return Ok(());
        }
        thread::park_timeout(START_POLL);
    }
    bail!("the plugin was not in effect within {} s", START_DEADLINE.as_secs())
}

// === impl Outcome ===

impl Outcome {
    fn of(answer: &Answer, path: &str) -> Self {
        let with = |mark: &str| text("GET", path, "-", mark, "").into_bytes();
        match answer.status {
            200 if answer.body == with("in effect") => Self::Succeeded,
            200 if answer.body == with("-") => Self::WithoutPlugin,
            500..=599 => Self::Refused,
            _ => Self::Wrong,
        }
    }
}

// === impl Counts ===

impl Counts {
    fn of(&self, outcome: Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Succeeded => &self.succeeded,
            Outcome::WithoutPlugin => &self.without_plugin,
            Outcome::Refused => &self.refused,
            Outcome::Wrong => &self.wrong,
        }
    }

    fn row(
        &self,
        (engine, policy, hears): (Engine, Policy, Hears),
        seconds: f64,
        command: String,
    ) -> Row {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let bad = [&self.without_plugin, &self.refused, &self.lost, &self.wrong].map(get);
        let succeeded = get(&self.succeeded);
        let others = bad.iter().sum::<u64>().saturating_add(succeeded);
        let [without_plugin, refused, lost, wrong] = bad;
        Row {
            engine,
            policy,
            hears,
            seconds,
            crashing: get(&self.crashing),
            others,
            succeeded,
            without_plugin,
            refused,
            lost,
            wrong,
            succeeded_percent: percent(succeeded, others),
            command,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "no run has 2^52 requests")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

// === impl Engine ===

impl Engine {
    fn name(self) -> &'static str {
        match self {
            Self::Wasmplug => "wasmplug",
            Self::Envoy => "envoy",
        }
    }
}

// === impl Hears ===

impl Hears {
    fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Both => "both",
        }
    }

    /// The plugin as WebAssembly text.
    fn module(self) -> String {
        let text = include_str!("crash.wat");
        let response = "(func (export \"proxy_on_response_headers\") (param i32 i32 i32) (result i32)\n    \
                        (i32.const 0))\n)";
        match self {
            Self::Request => text.to_owned(),
            Self::Both => text.trim_end().strip_suffix(')').unwrap_or(text).to_owned() + response,
        }
    }
}

/// All policies with both plugins.
fn cases() -> impl Iterator<Item = (Policy, Hears)> {
    let policies = [Policy::Closed, Policy::Reload, Policy::Open];
    policies.into_iter().flat_map(|policy| [(policy, Hears::Request), (policy, Hears::Both)])
}

// === impl Policy ===

impl Policy {
    fn envoy(self) -> &'static str {
        match self {
            Self::Closed => "FAIL_CLOSED",
            Self::Reload => "FAIL_RELOAD",
            Self::Open => "FAIL_OPEN",
        }
    }

    fn istio(self) -> &'static str {
        match self {
            Self::Closed => "FAIL_CLOSE",
            Self::Reload => "FAIL_RELOAD",
            Self::Open => "FAIL_OPEN",
        }
    }
}

fn resource(module: &Path, policy: Policy) -> String {
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: crash\n\
         spec:\n  url: file://{}\n  failStrategy: {}\n",
        module.display(),
        policy.istio()
    )
}

fn envoy_bootstrap(module: &Path, policy: Policy, [listen, upstream]: [u16; 2]) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions.filters";
    let address =
        |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    let to_upstream = json!([{ "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }]);
    let wasm = json!({
        "@type": format!("{TYPES}.http.wasm.v3.Wasm"),
        "config": {
            "name": "crash",
            "failure_policy": policy.envoy(),
            "vm_config": {
                "runtime": "envoy.wasm.runtime.v8",
                "code": { "local": { "filename": module } },
            },
        },
    });
    let router = json!({ "@type": format!("{TYPES}.http.router.v3.Router") });
    let manager = json!({
        "@type": format!("{TYPES}.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "crash",
        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": to_upstream }] },
        "http_filters": [
            { "name": "crash", "typed_config": wasm },
            { "name": "envoy.filters.http.router", "typed_config": router },
        ],
    });
    let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address(upstream) } }] }]);
    json!({
        "static_resources": {
            "listeners": [{
                "address": address(listen),
                "filter_chains": [{ "filters": [{ "name": "http", "typed_config": manager }] }],
            }],
            "clusters": [{
                "name": "upstream",
                "type": "STATIC",
                "load_assignment": { "cluster_name": "upstream", "endpoints": endpoints },
            }],
        },
    })
}

/// A table in Markdown.
fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "| engine   | policy      | hears   | others  | succeeded | without the plugin | refused | lost | wrong \
         | succeeded % |\n\
         |----------|-------------|---------|--------:|----------:|-------------------:|--------:|-----:|------:\
         |------------:|\n",
    );
    for row in rows {
        let _ = writeln!(
            table,
            "| {:<8} | {:<11} | {:<7} | {:>7} | {:>9} | {:>18} | {:>7} | {:>4} | {:>5} | {:>11.3} |",
            row.engine.name(),
            row.policy.envoy(),
            row.hears.name(),
            row.others,
            row.succeeded,
            row.without_plugin,
            row.refused,
            row.lost,
            row.wrong,
            row.succeeded_percent,
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks a proxy that is none: the upstream itself, which sees no mark.
    fn counted(requests: u64) -> Row {
        let upstream = Upstream::start().unwrap();
        let counts = Counts::default();
        let options = Options {
            engines: Vec::new(),
            requests,
            every: 10,
            connections: 1,
            binary: None,
            json: None,
        };
        ask(upstream.port, &options, &counts);
        counts.row((Engine::Wasmplug, Policy::Open, Hears::Both), 1.0, String::new())
    }

    #[test]
    fn who_has_no_plugin_does_not_succeed() {
        let row = counted(100);
        assert_eq!((row.crashing, row.others, row.succeeded), (10, 90, 0));
        assert_eq!((row.without_plugin, row.lost, row.wrong), (90, 0, 0));
        assert!(row.succeeded_percent < REQUIRED_PERCENT);
    }

    #[test]
    fn the_mark_makes_the_difference() {
        let upstream = Upstream::start().unwrap();
        let outcome = |mark: &str, path: &str| {
            let request = format!("GET /a HTTP/1.1\r\nhost: a\r\nx-mark: {mark}\r\n\r\n");
            let answer = Connection::new(upstream.port).exchange(request.as_bytes()).unwrap();
            Outcome::of(&answer, path)
        };
        assert_eq!(outcome("in effect", "/a"), Outcome::Succeeded);
        assert_eq!(outcome("other", "/a"), Outcome::Wrong);
        assert_eq!(outcome("in effect", "/b"), Outcome::Wrong);
    }

    #[test]
    fn both_plugins_are_modules() {
        for (hears, callbacks) in [(Hears::Request, 0), (Hears::Both, 1)] {
            assert!(wat::parse_str(hears.module()).is_ok());
            assert_eq!(hears.module().matches("proxy_on_response_headers").count(), callbacks);
        }
    }

    #[test]
    fn nothing_of_nothing_is_no_success() {
        assert!((percent(1, 2) - 50.0).abs() < 1e-9);
        assert!(percent(0, 0).abs() < 1e-9);
    }

    #[test]
    fn both_engines_are_told_the_same_policy() {
        let module = Path::new("/m.wasm");
        for (policy, ours, theirs) in [
            (Policy::Closed, "FAIL_CLOSE\n", "FAIL_CLOSED"),
            (Policy::Reload, "FAIL_RELOAD\n", "FAIL_RELOAD"),
            (Policy::Open, "FAIL_OPEN\n", "FAIL_OPEN"),
        ] {
            assert!(resource(module, policy).ends_with(ours));
            let bootstrap = envoy_bootstrap(module, policy, [1, 2]).to_string();
            assert!(bootstrap.contains(&format!(r#""failure_policy":"{theirs}""#)), "{bootstrap}");
        }
    }
}
