//! A proxy on a free loopback port, with plugins, in front of an upstream.
//!
//! ```ignore
//! let proxy = Setup::new().plugin(Plugin::guest("on request_headers: …")).start();
//! assert_eq!(proxy.get("/").status, 200);
//! ```

mod grpc_server;
mod guest;
mod log_lines;
mod raw;
mod tls;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use wasmplug_api::{Diagnostic, Plan, Severity, Workload, WorkloadRole, parse_file, plan};
use wasmplug_host::{Clock, Host, Limits};
use wasmplug_module::{ModuleStore, StoreOptions};
use wasmplug_proxy::{FilterSpec, PluginSpec, Proxy, ProxyConfig, PullOptions, SnapshotBuilder};
use wasmplug_testkit::upstream::UpstreamBuilder;
use wasmplug_testkit::{RawClient, Response, Upstream, UpstreamThread};

pub(crate) use self::grpc_server::GrpcServer;
pub(crate) use self::log_lines::LogLines;
pub(crate) use self::raw::{RawUpstream, TcpClient, read_head};
pub(crate) use self::tls::{
    Authority, Dialer, Identity, SERVER_NAME, optional, permissive, strict,
};

/// Names the folder of the example plugins. Default: `plugins/prebuilt` of the repository.
const PREBUILT_VARIABLE: &str = "WASMPLUG_PREBUILT_DIR";

/// If it is `process`, every plugin has one VM for the process unless its test says otherwise.
const VM_SCOPE_VARIABLE: &str = "WASMPLUG_TEST_VM_SCOPE";

/// Namespace of all resources.
const NAMESPACE: &str = "default";

/// One `WasmPlugin`.
#[derive(Clone, Debug)]
pub(crate) struct Plugin {
    name: Option<String>,
    module: Arc<[u8]>,
    url: Option<String>,
    configuration: String,
    environment: Option<(String, String)>,
    is_fail_open: bool,
    is_network: bool,
    phase: Option<&'static str>,
    annotations: Vec<(String, String)>,
}

/// What a test starts with.
pub(crate) struct Setup {
    plugins: Vec<Plugin>,
    resources: String,
    workload: Workload,
    upstream: UpstreamBuilder,
    tune: Box<dyn FnOnce(&mut ProxyConfig)>,
    limits: Limits,
    clock: Option<Arc<dyn Clock>>,
}

/// Everything that runs in a test; ends when it is dropped.
pub(crate) struct Running {
    proxy: Proxy,
    upstream: UpstreamThread,
    modules: Modules,
    resources: String,
    workload: Workload,
    builder: SnapshotBuilder,
    runtime: Runtime,
    log: Arc<LogLines>,
}

/// Modules as files, and the plan of the resources that point at them.
pub(crate) struct Modules {
    directory: TempDir,
}

// === impl Plugin ===

impl Plugin {
    /// A plugin in the notation of [`guest`].
    pub(crate) fn guest(text: &str) -> Self {
        Self::bytes(guest::assemble(text))
    }

    /// One of the example plugins.
    pub(crate) fn prebuilt(name: &str) -> Self {
        let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins/prebuilt");
        let folder = std::env::var_os(PREBUILT_VARIABLE).map_or(default, PathBuf::from);
        let path = folder.join(format!("{name}.wasm"));
        let module = std::fs::read(&path);
        Self::bytes(module.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Whatever these bytes are.
    pub(crate) fn bytes(module: impl Into<Arc<[u8]>>) -> Self {
        Self {
            name: None,
            module: module.into(),
            url: None,
            configuration: String::new(),
            environment: None,
            is_fail_open: false,
            is_network: false,
            phase: None,
            annotations: Vec::new(),
        }
    }

    /// A plugin whose module is not there.
    pub(crate) fn missing() -> Self {
        let url = Some("file:///nonexistent/plugin.wasm".to_owned());
        Self { url, ..Self::bytes([]) }
    }

    /// The resource's name. Default: `plugin-` and the number in the chain.
    pub(crate) fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// `pluginConfig` as JSON.
    pub(crate) fn configured(self, configuration: &str) -> Self {
        Self { configuration: configuration.to_owned(), ..self }
    }

    /// One variable in `vmConfig.env`.
    pub(crate) fn with_variable(self, name: &str, value: &str) -> Self {
        Self { environment: Some((name.to_owned(), value.to_owned())), ..self }
    }

    /// `type: NETWORK`.
    pub(crate) fn network(self) -> Self {
        Self { is_network: true, ..self }
    }

    /// `phase`. Default: none.
    pub(crate) fn phase(self, phase: &'static str) -> Self {
        Self { phase: Some(phase), ..self }
    }

    /// An annotation of ours: its name without the prefix, and its value.
    pub(crate) fn annotated(mut self, name: &str, value: &str) -> Self {
        self.annotations.push((format!("wasmplug.dev/{name}"), value.to_owned()));
        self
    }

    /// Another version of it, by annotations whose names begin with `candidate-`; of these,
    /// `options` are names without that and values.
    pub(crate) fn with_candidate(
        self,
        modules: &Modules,
        candidate: &Self,
        options: &[(&str, &str)],
    ) -> Self {
        let url = modules.store(&candidate.module);
        let annotated = self.annotated("candidate-url", &url);
        options.iter().fold(annotated, |plugin, (name, value)| {
            plugin.annotated(&format!("candidate-{name}"), value)
        })
    }

    /// One VM for all workers.
    pub(crate) fn one_vm(self) -> Self {
        self.annotated("vm-scope", "process")
    }

    /// `failStrategy: FAIL_OPEN`.
    pub(crate) fn fail_open(self) -> Self {
        Self { is_fail_open: true, ..self }
    }
}

// === impl Modules ===

impl Modules {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    /// Plans the chain of these plugins, in this order within their phases, and of other resources.
    pub(crate) fn plan_for(
        &self,
        plugins: &[Plugin],
        resources: &str,
        workload: &Workload,
    ) -> Plan {
        let mut manifest = String::from(resources);
        if !manifest.is_empty() && !manifest.ends_with('\n') {
            manifest.push('\n');
        }
        for (index, plugin) in plugins.iter().enumerate() {
            let name = plugin.name.clone().unwrap_or_else(|| format!("plugin-{index}"));
            let url = plugin.url.clone().unwrap_or_else(|| self.store(&plugin.module));
            let strategy = if plugin.is_fail_open { "FAIL_OPEN" } else { "FAIL_CLOSE" };
            let priority = 1000 - index;
            let annotations = annotations(plugin);
            let _ = write!(
                manifest,
                "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\n\
                 metadata: {{name: {name}, namespace: {NAMESPACE}, annotations: {annotations}}}\n\
                 spec:\n  url: {url}\n  priority: {priority}\n  failStrategy: {strategy}\n"
            );
            if plugin.is_network {
                manifest.push_str("  type: NETWORK\n");
            }
            if let Some(phase) = plugin.phase {
                let _ = writeln!(manifest, "  phase: {phase}");
            }
            if !plugin.configuration.is_empty() {
                let _ = writeln!(manifest, "  pluginConfig: {}", plugin.configuration);
            }
            if let Some((name, value)) = &plugin.environment {
                let _ =
                    writeln!(manifest, "  vmConfig: {{env: [{{name: {name}, value: {value}}}]}}");
            }
        }
        let parsed = parse_file("test.yaml", &manifest);
        let is_error = |of: &Diagnostic| of.severity == Severity::Error;
        assert!(!parsed.diagnostics.iter().any(is_error), "{:?}\n{manifest}", parsed.diagnostics);
        plan(&parsed.resources, workload)
    }

    /// Writes a module, named after its content, and returns its URL.
    pub(crate) fn store(&self, module: &[u8]) -> String {
        let digest = wasmplug_testkit::registry::sha256(module).replace(':', "-");
        let path = self.directory.path().join(format!("{digest}.wasm"));
        if !path.exists() {
            std::fs::write(&path, module).unwrap();
        }
        format!("file://{}", path.display())
    }
}

// === impl Setup ===

impl Setup {
    /// No plugin, an upstream that tells what it received.
    pub(crate) fn new() -> Self {
        Self {
            plugins: Vec::new(),
            resources: String::new(),
            workload: workload(),
            upstream: Upstream::echo(),
            tune: Box::new(|_| {}),
            limits: patient(),
            clock: None,
        }
    }

    /// Adds a plugin behind those already there.
    pub(crate) fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Other resources that apply, as YAML.
    pub(crate) fn resources(self, resources: &str) -> Self {
        Self { resources: resources.to_owned(), ..self }
    }

    /// Another workload than an inbound sidecar without labels.
    pub(crate) fn workload(self, workload: Workload) -> Self {
        Self { workload, ..self }
    }

    /// Another upstream.
    pub(crate) fn upstream(self, upstream: UpstreamBuilder) -> Self {
        Self { upstream, ..self }
    }

    /// Changes settings of the proxy, after what was changed before.
    pub(crate) fn tune(self, tune: impl FnOnce(&mut ProxyConfig) + 'static) -> Self {
        let before = self.tune;
        Self {
            tune: Box::new(|config| {
                before(config);
                tune(config);
            }),
            ..self
        }
    }

    /// Another clock for plugins than the machine's.
    pub(crate) fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// Serves the admin pages as well.
    pub(crate) fn admin(self) -> Self {
        self.tune(|config| config.admin = Some(([127, 0, 0, 1], 0).into()))
    }

    /// Other limits of VMs than patient ones.
    pub(crate) fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Starts everything; every plugin must be taken over.
    pub(crate) fn start(self) -> Running {
        let plugins = self.plugins.clone();
        let mut running = self.start_unconfigured();
        let rejected = running.load(&plugins);
        assert!(rejected.is_empty(), "{rejected:?}");
        running
    }

    /// Starts everything without the plugins, for [`Running::load`].
    pub(crate) fn start_unconfigured(self) -> Running {
        let upstream = UpstreamThread::start(self.upstream).unwrap();
        let mut config = ProxyConfig::new(upstream.addr().into());
        (self.tune)(&mut config);
        let modules = Modules::new();
        let log = Arc::new(LogLines::default());
        let mut host = Host::new().unwrap().with_log_sink(Arc::clone(&log) as _);
        if let Some(clock) = self.clock {
            host = host.with_clock(clock);
        }
        let host = Arc::new(host);
        let store = StoreOptions::new(modules.directory.path().join("cache"));
        let store = Arc::new(ModuleStore::open(store).unwrap());
        let builder = SnapshotBuilder::new(Arc::clone(&host), store, self.limits, HashMap::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let proxy = Proxy::start(config, host).unwrap();
        let (resources, workload) = (self.resources, self.workload);
        Running { proxy, upstream, modules, resources, workload, builder, runtime, log }
    }
}

/// What stands below `metadata.annotations`.
fn annotations(plugin: &Plugin) -> String {
    let mut annotations = plugin.annotations.clone();
    let is_asked_for = std::env::var(VM_SCOPE_VARIABLE).is_ok_and(|scope| scope == "process");
    if annotations.is_empty() && is_asked_for && !plugin.is_network {
        annotations.push(("wasmplug.dev/vm-scope".to_owned(), "process".to_owned()));
    }
    let pairs = annotations.iter().map(|(name, value)| {
        let value = value.replace('\'', "''");
        format!("{name}: '{value}'")
    });
    format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
}

/// An inbound sidecar without labels.
pub(crate) fn workload() -> Workload {
    Workload::new(NAMESPACE, WorkloadRole::SidecarInbound)
}

/// Limits that no correct plugin reaches, however busy the machine is.
pub(crate) fn patient() -> Limits {
    Limits {
        callback_deadline: Duration::from_mins(1),
        start_deadline: Duration::from_mins(1),
        ..Limits::default()
    }
}

// === impl Running ===

impl Running {
    /// Replaces the other resources as well; see [`Self::load`].
    pub(crate) fn load_with(
        &mut self,
        plugins: &[Plugin],
        resources: &str,
    ) -> Vec<wasmplug_proxy::Rejected> {
        resources.clone_into(&mut self.resources);
        self.load(plugins)
    }

    /// Replaces the chain; returns why plugins were rejected, each with its resource.
    pub(crate) fn load(&mut self, plugins: &[Plugin]) -> Vec<wasmplug_proxy::Rejected> {
        let plan = self.modules.plan_for(plugins, &self.resources, &self.workload);
        self.runtime.block_on(async {
            let snapshot = self.builder.build(&plan, &PullOptions::default()).await;
            let rejected = snapshot.rejected.clone();
            self.proxy.apply(snapshot).await;
            rejected
        })
    }

    /// Fetches keys of token issuers that are due, as the command does; the chain stays.
    pub(crate) fn refresh_keys(&mut self, plugins: &[Plugin]) {
        let plan = self.modules.plan_for(plugins, &self.resources, &self.workload);
        self.runtime.block_on(async {
            let snapshot = self.builder.refresh_keys(&plan).await;
            self.proxy.apply(snapshot).await;
        });
    }

    /// How long until keys of token issuers are due.
    pub(crate) fn keys_due_in(&self) -> Option<Duration> {
        let _clock = self.runtime.enter();
        self.builder.keys_due().map(|due| due.duration_since(tokio::time::Instant::now()))
    }

    /// Makes so much time pass for whoever builds snapshots.
    pub(crate) fn later(&self, by: Duration) {
        self.runtime.block_on(async {
            tokio::time::pause();
            tokio::time::advance(by).await;
            tokio::time::resume();
        });
    }

    /// Replaces the resources for [`Self::load`].
    pub(crate) fn set_resources(&mut self, resources: &str) {
        resources.clone_into(&mut self.resources);
    }

    /// Where modules are kept.
    pub(crate) fn modules(&self) -> &Modules {
        &self.modules
    }

    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    pub(crate) fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// What plugins logged so far.
    pub(crate) fn log(&self) -> &LogLines {
        &self.log
    }

    /// Waits until no connection of a client is left, and with them no stream. Needs the admin
    /// pages.
    pub(crate) fn wait_until_idle(&self) {
        self.wait_for_stat("envoy_http_downstream_cx_active 0");
    }

    /// Stops the proxy; returns what plugins logged.
    pub(crate) fn stop(self) -> Vec<String> {
        let log = Arc::clone(&self.log);
        self.proxy.stop();
        texts(&log)
    }

    /// A connection to the proxy.
    pub(crate) fn client(&self) -> RawClient {
        RawClient::connect(self.proxy.listen_address()).unwrap()
    }

    /// One GET on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Response {
        self.client().get(path).unwrap()
    }

    /// One request, given as raw bytes, on a connection of its own.
    pub(crate) fn exchange(&self, request: impl AsRef<[u8]>) -> Response {
        self.client().exchange(request).unwrap()
    }

    /// One GET of an admin page.
    pub(crate) fn admin(&self, path: &str) -> Response {
        let address = self.proxy.admin_address().expect("the test asked for an admin address");
        RawClient::connect(address).unwrap().get(path).unwrap()
    }

    /// A text that is on the page of counters, sooner or later.
    pub(crate) fn wait_for_stat(&self, line: &str) {
        eventually(|| self.admin("/stats/prometheus").text().lines().any(|found| found == line));
    }

    /// Lines that plugins have logged so far.
    pub(crate) fn told(&self) -> Vec<String> {
        texts(&self.log)
    }

    /// Waits until plugins have logged these lines and no other ones.
    pub(crate) fn assert_log(&self, expected: &[&str]) {
        let begin = Instant::now();
        loop {
            let log = self.told();
            if log == expected {
                return;
            }
            // What is logged may come late, what is wrong stays wrong.
            let is_over = begin.elapsed() > wasmplug_testkit::patience();
            let is_beginning = log.len() < expected.len() && log == expected[..log.len()];
            assert!(is_beginning && !is_over, "{log:#?}\nexpected: {expected:#?}");
            std::thread::yield_now();
        }
    }

    /// The plugins that run now, in order of the chain.
    pub(crate) fn specs(&self) -> Vec<Arc<PluginSpec>> {
        let current = self.proxy.current();
        current.filters.iter().filter_map(FilterSpec::plugin).map(Arc::clone).collect()
    }
}

fn texts(log: &LogLines) -> Vec<String> {
    let lines = log.all().into_iter();
    lines.filter_map(|line| line.strip_prefix("info ").map(str::to_owned)).collect()
}

/// Waits for something that another thread does, as long as the testkit is patient.
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < wasmplug_testkit::patience(), "it did not come");
        std::thread::yield_now();
    }
}
