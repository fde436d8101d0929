//! A real Envoy with a Wasm filter in front of an upstream, when the machine has the binary.
//!
//! It is the oracle of the differential tests: whatever a plugin can observe or cause there must
//! be the same in our data plane.

mod bootstrap;
mod log;

use std::{
    fmt, io,
    io::BufReader,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use serde_json::{Map, Value};
use tempfile::TempDir;

use crate::{client::RawClient, patience};

pub use self::bootstrap::{FailurePolicy, WasmFilter};
pub use self::log::PluginLine;

/// Environment variable that names the Envoy binary.
pub const ENVOY_VARIABLE: &str = "WASMPLUG_ENVOY";

/// What Envoy logs when listeners accept and all filters are configured.
const READY_LINE: &str = "starting workers";

/// A running Envoy; dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    process: Process,
    admin: SocketAddr,
    listener: SocketAddr,
    // Removed only after the process is gone.
    _directory: TempDir,
}

/// What an Envoy is to run.
#[derive(Debug, Clone)]
pub struct EnvoyBuilder {
    upstream: Option<SocketAddr>,
    traffic: Traffic,
    log_level: String,
}

/// What an Envoy does with requests, apart from where they go.
#[derive(Debug, Clone, Default)]
struct Traffic {
    /// HTTP filters in front of the router, as they stand in the document.
    filters: Vec<Value>,
    /// Further settings of the HTTP connection manager.
    manager: Map<String, Value>,
    /// Further settings of the one route.
    route: Map<String, Value>,
    /// Further clusters, by name.
    clusters: Vec<(String, SocketAddr)>,
    /// The same for those that speak HTTP/2.
    http2_clusters: Vec<(String, SocketAddr)>,
    /// Switches of the process.
    runtime: Map<String, Value>,
    passes_trailers: bool,
    has_http2_upstream: bool,
    /// Requests that may wait for a connection to the upstream.
    max_pending_requests: Option<u32>,
}

/// Why an Envoy that is there did not start.
#[derive(Debug, thiserror::Error)]
pub enum EnvoyError {
    /// A file, the process or the admin interface failed.
    #[error("cannot run Envoy: {step}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No upstream was named.
    #[error("no upstream was named")]
    NoUpstream,
    /// It refused its configuration, or was not ready in time; the log says why.
    #[error("Envoy is not ready; its log ends with\n{log_tail}")]
    NotReady {
        /// The last lines of its log.
        log_tail: String,
    },
    /// The admin interface answered with something else than expected.
    #[error("unexpected answer of the admin interface to `{path}`")]
    Admin {
        /// What was asked.
        path: &'static str,
    },
}

/// The child process and its log.
struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

// === impl Envoy ===

impl Envoy {
    /// An Envoy without filters.
    pub fn builder() -> EnvoyBuilder {
        EnvoyBuilder { upstream: None, traffic: Traffic::default(), log_level: "info".to_owned() }
    }

    /// The Envoy binary: `WASMPLUG_ENVOY`, or `target/tools/bin/envoy` of this workspace.
    pub fn binary() -> Option<PathBuf> {
        let named = std::env::var_os(ENVOY_VARIABLE).map(PathBuf::from);
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/envoy");
        named.into_iter().chain([fetched]).find(|path| path.is_file())
    }

    /// Where it accepts traffic.
    pub fn addr(&self) -> SocketAddr {
        self.listener
    }

    /// Where its admin interface is.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its log so far, which may lag behind what it did; [`Self::stop`] returns all of it.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// The metrics in the text form of Prometheus, histograms up to date.
    ///
    /// # Errors
    ///
    /// As [`Self::admin_get`].
    pub fn prometheus(&self) -> io::Result<String> {
        self.admin_get("/stats/prometheus")
    }

    /// The answer of the admin interface to a path, as text.
    ///
    /// # Errors
    ///
    /// When the admin interface does not answer.
    pub fn admin_get(&self, path: &str) -> io::Result<String> {
        Ok(RawClient::connect(self.admin)?.get(path)?.text())
    }

    /// All statistics in Envoy's plain text form.
    ///
    /// # Errors
    ///
    /// As [`Self::admin_get`].
    pub fn stats(&self) -> io::Result<String> {
        self.admin_get("/stats")
    }

    /// Asks it to quit, waits until it did, and returns its whole log.
    ///
    /// # Errors
    ///
    /// When the admin interface does not answer or the process cannot be waited for.
    pub fn stop(mut self) -> io::Result<String> {
        let request = "POST /quitquitquit HTTP/1.1\r\nhost: admin\r\ncontent-length: 0\r\n\r\n";
        RawClient::connect(self.admin)?.exchange(request)?;
        self.process.child.wait()?;
        self.process.join();
        Ok(self.process.log())
    }
}

// === impl EnvoyBuilder ===

impl EnvoyBuilder {
    /// Routes everything to this address.
    #[must_use]
    pub fn upstream(mut self, addr: SocketAddr) -> Self {
        self.upstream = Some(addr);
        self
    }

    /// Adds a Wasm filter after those already there; the router comes last.
    #[must_use]
    pub fn wasm_filter(mut self, filter: &WasmFilter) -> Self {
        self.traffic.filters.push(filter.document());
        self
    }

    /// Adds any HTTP filter after those already there; the router comes last.
    #[must_use]
    pub fn http_filter(mut self, filter: Value) -> Self {
        self.traffic.filters.push(filter);
        self
    }

    /// Sets fields of the HTTP connection manager.
    #[must_use]
    pub fn connection_manager(mut self, fields: Map<String, Value>) -> Self {
        self.traffic.manager.extend(fields);
        self
    }

    /// Sets fields of the route that all requests take.
    #[must_use]
    pub fn route(mut self, fields: Map<String, Value>) -> Self {
        self.traffic.route.extend(fields);
        self
    }

    /// Adds a cluster that plugins can call.
    #[must_use]
    pub fn cluster(mut self, name: &str, addr: SocketAddr) -> Self {
        self.traffic.clusters.push((name.to_owned(), addr));
        self
    }

    /// Adds a cluster that speaks HTTP/2, from the first byte and without TLS.
    #[must_use]
    pub fn http2_cluster(mut self, name: &str, addr: SocketAddr) -> Self {
        self.traffic.http2_clusters.push((name.to_owned(), addr));
        self
    }

    /// Speaks HTTP/2 with the upstream, without TLS and from the first byte. Default: HTTP/1.1.
    #[must_use]
    pub fn http2_upstream(mut self) -> Self {
        self.traffic.has_http2_upstream = true;
        self
    }

    /// Lets so many requests wait for a connection to the upstream. Default: 1024.
    #[must_use]
    pub fn max_pending_requests(mut self, most: u32) -> Self {
        self.traffic.max_pending_requests = Some(most);
        self
    }

    /// Sets the log level. Default: `info`; the `wasm` component always logs at `trace`.
    #[must_use]
    pub fn log_level(mut self, level: &str) -> Self {
        level.clone_into(&mut self.log_level);
        self
    }

    /// Lets HTTP/1 trailers pass in both directions. Default: Envoy drops them.
    #[must_use]
    pub fn trailers(mut self) -> Self {
        self.traffic.passes_trailers = true;
        self
    }

    /// Sets a switch of the process (`layered_runtime`), such as a feature that is off by default.
    #[must_use]
    pub fn runtime(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.traffic.runtime.insert(key.to_owned(), value.into());
        self
    }

    /// Starts it and waits until it is ready.
    ///
    /// `None` when there is no binary; a line that begins with `SKIPPED:` then says so on stdout.
    ///
    /// # Errors
    ///
    /// When there is one and it does not start; a module that Envoy refuses is such a case.
    #[expect(clippy::print_stdout, reason = "whoever counts skipped tests reads stdout")]
    pub fn start(self) -> Result<Option<Envoy>, EnvoyError> {
        let Some(binary) = Envoy::binary() else {
            println!("SKIPPED: no Envoy binary; name one in {ENVOY_VARIABLE}");
            return Ok(None);
        };
        self.start_binary(&binary).map(Some)
    }

    fn start_binary(self, binary: &Path) -> Result<Envoy, EnvoyError> {
        let upstream = self.upstream.ok_or(EnvoyError::NoUpstream)?;
        let at = |step| move |source| EnvoyError::Io { step, source };
        let directory = TempDir::new().map_err(at("make a directory"))?;
        let config = directory.path().join("bootstrap.json");
        let admin_path = directory.path().join("admin.txt");
        let document = bootstrap::document(upstream, &self.traffic);
        std::fs::write(&config, document.to_string()).map_err(at("write the bootstrap"))?;
        let child = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .arg("--admin-address-path")
            .arg(&admin_path)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--disable-hot-restart"])
            .args(["--log-level", &self.log_level, "--component-log-level", "wasm:trace"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(at("start the process"))?;
        let (process, ready) = Process::watch(child).map_err(at("read its log"))?;
        if ready.recv_timeout(patience()).is_err() {
            return Err(EnvoyError::NotReady { log_tail: process.log_tail() });
        }
        let admin = std::fs::read_to_string(&admin_path).map_err(at("read its admin address"))?;
        let admin = parse_addr(admin.trim(), "the admin address file")?;
        let listener = listener_addr(admin)?;
        Ok(Envoy { process, admin, listener, _directory: directory })
    }
}

/// Asks the admin interface where the one listener is.
fn listener_addr(admin: SocketAddr) -> Result<SocketAddr, EnvoyError> {
    const PATH: &str = "/listeners?format=json";
    let ask = || RawClient::connect(admin)?.get(PATH);
    let answer = ask().map_err(|source| EnvoyError::Io { step: "ask for listeners", source })?;
    let unexpected = EnvoyError::Admin { path: PATH };
    let Ok(document) = answer.json() else { return Err(unexpected) };
    let address = &document["listener_statuses"][0]["local_address"]["socket_address"];
    match (address["address"].as_str(), address["port_value"].as_u64()) {
        (Some(host), Some(port)) => parse_addr(&format!("{host}:{port}"), PATH),
        _ => Err(unexpected),
    }
}

fn parse_addr(text: &str, path: &'static str) -> Result<SocketAddr, EnvoyError> {
    text.parse().map_err(|_| EnvoyError::Admin { path })
}

// === impl Process ===

impl Process {
    /// Collects the log on a thread; the receiver gets one message when Envoy is ready.
    fn watch(mut child: Child) -> io::Result<(Self, Receiver<()>)> {
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (sender, ready) = channel();
        let collected = Arc::clone(&lines);
        let reader = std::thread::Builder::new()
            .name("envoy log".to_owned())
            .spawn(move || collect(BufReader::new(stderr), &collected, sender));
        match reader {
            Ok(reader) => Ok((Self { child, lines, reader: Some(reader) }, ready)),
            Err(error) => {
                child.kill()?;
                Err(error)
            }
        }
    }

    fn log(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    fn log_tail(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take() {
            // It only ends early by a panic, which its own thread has printed.
            drop(reader.join());
        }
    }
}

fn collect(stderr: impl io::BufRead, lines: &Mutex<Vec<String>>, ready: Sender<()>) {
    let mut ready = Some(ready);
    for line in stderr.split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line).into_owned();
        let is_ready = line.contains(READY_LINE);
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        if is_ready && let Some(ready) = ready.take() {
            // Nobody listens any more when the start was given up.
            ready.send(()).ok();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has already been waited for.
        drop(self.child.kill());
        drop(self.child.wait());
        self.join();
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("id", &self.child.id()).finish_non_exhaustive()
    }
}
