//! One worker: a thread with its own listening socket, connections, upstream pool and VMs.
//!
//! A request never leaves its worker, so nothing here is shared or locked.

use std::cell::RefCell;
use std::future::Future;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use wasmplug_api::{PathNormalization, VmScope};
use wasmplug_host::Host;

use crate::attributes::Surroundings;
use crate::callout::Clusters;
use crate::config::ProxyConfig;
use crate::connection;
use crate::connection_limit::ConnectionLimit;
use crate::filters::AnyFactory;
use crate::filters::rollout::RolloutFactory;
use crate::filters::stats::WorkerStats;
use crate::filters::substitute::Substitute;
use crate::filters::wasm::{RemoteFactory, WasmFactory};
use crate::idle::IdleWatch;
use crate::listener::Front;
use crate::metrics::WorkerMetrics;
use crate::network::NetworkFactory;
use crate::plugin_home::PluginHome;
use crate::route::Routes;
use crate::snapshot::{FilterSpec, PluginSpec, Refusal, Snapshot};
use crate::upstream::Upstreams;

/// How often a worker looks for what has waited too long. Source: ours.
pub(crate) const SWEEP_PERIOD: Duration = Duration::from_secs(1);

/// What one worker needs to start.
pub(crate) struct WorkerSeed {
    /// Number of the worker, from 0.
    pub(crate) index: u64,
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) host: Arc<Host>,
    pub(crate) listener: TcpListener,
    /// What stands in front of connections; `None` if nothing does.
    pub(crate) front: Option<Arc<Front>>,
    /// What all workers' connections together are bounded by.
    pub(crate) connections: Arc<ConnectionLimit>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Version of the snapshot that this worker serves.
    pub(crate) applied: Arc<AtomicU64>,
    /// Tells that `applied` has changed.
    pub(crate) applied_changed: Arc<tokio::sync::Notify>,
}

/// State of one worker thread.
pub(crate) struct Worker {
    config: Arc<ProxyConfig>,
    front: Option<Arc<Front>>,
    connections: Arc<ConnectionLimit>,
    home: Rc<PluginHome>,
    chain: RefCell<Rc<WorkerChain>>,
    metrics: Arc<WorkerMetrics>,
    index: u64,
    tunnels: RefCell<JoinSet<()>>,
    date: RefCell<(u64, HeaderValue)>,
}

/// A snapshot's chain on one worker. Streams keep the one that they began with.
#[derive(Debug)]
pub(crate) struct WorkerChain {
    factories: Vec<AnyFactory>,
    /// What sees connections; `None` if a plugin cannot run and must not be skipped.
    network: Option<Vec<NetworkFactory>>,
    path_normalization: PathNormalization,
    requires_mutual_tls: bool,
    stats: Option<Rc<WorkerStats>>,
}

/// What streams and plugins of one thread have around them; a number beyond the workers' is not
/// counted with them.
///
/// # Errors
/// A route leads nowhere, which was looked at before any thread was started.
pub(crate) fn surroundings(
    config: &ProxyConfig,
    upstreams: &Upstreams,
    number: usize,
    metrics: Arc<WorkerMetrics>,
) -> std::io::Result<Rc<Surroundings>> {
    let limits = &config.limits;
    let clusters = Rc::new(Clusters::new(upstreams, number, limits));
    let routes = Routes::new(&config.routes, &clusters);
    let routes = routes.map_err(|route| std::io::Error::other(route.cluster))?;
    let idle_sweeps = limits.stream_idle_timeout.as_secs_f64() / SWEEP_PERIOD.as_secs_f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let idle = IdleWatch::new(idle_sweeps.ceil() as u32);
    Ok(Rc::new(Surroundings {
        routes,
        node: config.node.clone(),
        idle,
        metrics,
        clusters,
        is_timing_all: config.has_server_timing || config.access_log.is_some(),
        access_log: config.access_log.clone(),
    }))
}

// === impl WorkerSeed ===

impl WorkerSeed {
    /// Runs the worker until it is told to stop and its connections are done.
    pub(crate) fn run(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let number = usize::try_from(self.index).unwrap_or_default();
        // Before the look at the endpoints, so that no change is missed.
        let mut endpoints_changed = self.upstreams.changes();
        let metrics = Arc::clone(&self.metrics);
        let surroundings = surroundings(&self.config, &self.upstreams, number, metrics)?;
        let name = self.index.to_string();
        let shared = (Arc::clone(&self.config), self.upstreams);
        let home = PluginHome::new(self.host, shared, surroundings, name);
        let worker = Rc::new(Worker {
            config: self.config,
            front: self.front,
            connections: self.connections,
            home,
            chain: RefCell::default(),
            metrics: self.metrics,
            index: self.index,
            tunnels: RefCell::default(),
            date: RefCell::new((0, HeaderValue::from_static(""))),
        });
        let mut snapshots = self.snapshots;
        let (applied, changed) = (self.applied, self.applied_changed);
        let (listener, stop) = (self.listener, self.stop);
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            // No request is served before there is a configuration.
            let mut stop_before = stop.clone();
            let is_configured = tokio::select! {
                // Cancel-safe: both only look at a value.
                configured = snapshots.wait_for(|snapshot| snapshot.version > 0) => {
                    configured.is_ok()
                }
                _ = stop_before.wait_for(|stop| *stop) => false,
            };
            if !is_configured {
                return Ok(());
            }
            let apply = |worker: &Worker, snapshot: &Snapshot| {
                worker.apply(snapshot);
                applied.store(snapshot.version, Ordering::Release);
                changed.notify_waiters();
            };
            let first = Arc::clone(&snapshots.borrow_and_update());
            apply(&worker, &first);
            drop(first);
            let updates = async {
                while snapshots.changed().await.is_ok() {
                    let snapshot = Arc::clone(&snapshots.borrow_and_update());
                    apply(&worker, &snapshot);
                }
                std::future::pending::<()>().await;
            };
            let sweeps = async {
                loop {
                    tokio::time::sleep(SWEEP_PERIOD).await;
                    worker.home.sweep(tokio::time::Instant::now());
                    worker.home.surroundings.idle.sweep();
                    worker.clusters().sweep();
                }
            };
            let resolved = async {
                while endpoints_changed.changed().await.is_ok() {
                    worker.clusters().refresh();
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                // Cancel-safe: connections that are open go on to their end inside it.
                result = connection::accept(Rc::clone(&worker), listener, stop) => result,
                // Cancel-safe: what is not applied when the worker ends matters to nobody.
                () = updates => Ok(()),
                // Cancel-safe: what is not swept when the worker ends matters to nobody.
                () = sweeps => Ok(()),
                // Cancel-safe: so are endpoints.
                () = resolved => Ok(()),
            }
        })
    }
}

// === impl Worker ===

impl Worker {
    pub(crate) fn config(&self) -> &ProxyConfig {
        &self.config
    }

    pub(crate) fn connections(&self) -> &Arc<ConnectionLimit> {
        &self.connections
    }

    pub(crate) fn front(&self) -> Option<&Front> {
        self.front.as_deref()
    }

    pub(crate) fn surroundings(&self) -> &Rc<Surroundings> {
        &self.home.surroundings
    }

    pub(crate) fn clusters(&self) -> &Rc<Clusters> {
        &self.home.clusters
    }

    pub(crate) fn metrics(&self) -> &Arc<WorkerMetrics> {
        &self.metrics
    }

    /// The first connection's id less its distance to the next one: different on each worker.
    pub(crate) fn first_id(&self) -> u64 {
        self.index
    }

    /// Distance of the ids of two connections.
    pub(crate) fn id_step(&self) -> u64 {
        u64::try_from(self.config.workers.max(1)).unwrap_or(1)
    }

    /// Runs an upgraded connection, which outlives the one that it came from.
    pub(crate) fn spawn_tunnel(&self, tunnel: impl Future<Output = ()> + 'static) {
        let mut tunnels = self.tunnels.borrow_mut();
        while tunnels.try_join_next().is_some() {}
        tunnels.spawn_local(tunnel);
    }

    /// Waits for upgraded connections.
    pub(crate) async fn tunnels_ended(&self) {
        let mut tunnels = std::mem::take(&mut *self.tunnels.borrow_mut());
        while tunnels.join_next().await.is_some() {}
    }

    /// The chain for a stream that begins now.
    pub(crate) fn chain(&self) -> Rc<WorkerChain> {
        Rc::clone(&self.chain.borrow())
    }

    /// The value of a `date` header, made once a second.
    pub(crate) fn date(&self) -> HeaderValue {
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut cached = self.date.borrow_mut();
        if cached.0 != since
            && let Ok(value) = HeaderValue::from_str(&httpdate::fmt_http_date(now))
        {
            *cached = (since, value);
        }
        cached.1.clone()
    }

    /// Makes this worker's chain of a snapshot. Plugins that did not change go on as they are.
    fn apply(&self, snapshot: &Snapshot) {
        let previous = self.chain();
        let factory = |spec: &Arc<PluginSpec>| {
            let is_same = |factory: &&Rc<WasmFactory>| Arc::ptr_eq(factory.spec(), spec);
            let same = previous.plugins().find(is_same).map(Rc::clone);
            same.unwrap_or_else(|| WasmFactory::start(Arc::clone(spec), Rc::clone(&self.home)))
        };
        let remote = |spec: &Arc<PluginSpec>| {
            let is_same = |factory: &&Rc<RemoteFactory>| Arc::ptr_eq(factory.spec(), spec);
            let same = previous.remote_plugins().find(is_same).map(Rc::clone);
            same.unwrap_or_else(|| RemoteFactory::start(Arc::clone(spec), &self.home))
        };
        let factories = snapshot.filters.iter().map(|filter| match filter {
            FilterSpec::Wasm(spec) if spec.vm_scope == VmScope::Process => {
                AnyFactory::Remote(remote(spec))
            }
            FilterSpec::Wasm(spec) => match &spec.rollout {
                Some(rollout) => {
                    let (stable, candidate) = (factory(spec), factory(&rollout.candidate));
                    let limit = self.config.limits.buffer_bytes;
                    let rollout = Arc::clone(rollout);
                    AnyFactory::Rollout(RolloutFactory::new(rollout, stable, candidate, limit))
                }
                None => AnyFactory::Wasm(factory(spec)),
            },
            FilterSpec::Refuse { with: Refusal::Forbidden, .. } => {
                AnyFactory::Substitute(Substitute::DenyAll)
            }
            FilterSpec::Refuse { with: Refusal::Unavailable, .. } => {
                AnyFactory::Substitute(Substitute::Unavailable)
            }
            FilterSpec::BuiltIn(spec) => AnyFactory::BuiltIn(spec.clone()),
        });
        let network = snapshot.network_filters.iter().map(|filter| match filter {
            FilterSpec::Wasm(spec) => Some(NetworkFactory::Wasm(factory(spec))),
            FilterSpec::BuiltIn(spec) => spec.network_factory(),
            FilterSpec::Refuse { .. } => None,
        });
        let (factories, network) = (factories.collect(), network.collect());
        let path_normalization = snapshot.path_normalization;
        let stats = snapshot.stats.as_ref().map(|spec| {
            let same = previous.stats.as_ref().filter(|stats| Arc::ptr_eq(stats.spec(), spec));
            same.map_or_else(|| WorkerStats::new(Arc::clone(spec)), Rc::clone)
        });
        let requires_mutual_tls = snapshot.requires_mutual_tls;
        let chain =
            WorkerChain { factories, network, path_normalization, requires_mutual_tls, stats };
        let chain = Rc::new(chain);
        self.home
            .vms
            .retire_all_but(|key| chain.plugins().any(|plugin| plugin.spec().vm_key == *key));
        let is_kept = |old: &&Rc<WasmFactory>| chain.plugins().any(|new| Rc::ptr_eq(old, new));
        previous.plugins().filter(|old| !is_kept(old)).for_each(|old| old.retire());
        let is_kept =
            |old: &&Rc<RemoteFactory>| chain.remote_plugins().any(|new| Rc::ptr_eq(old, new));
        previous.remote_plugins().filter(|old| !is_kept(old)).for_each(|old| old.retire());
        self.chain.replace(chain);
    }
}

// === impl WorkerChain ===

impl Default for WorkerChain {
    fn default() -> Self {
        Self {
            factories: Vec::new(),
            network: Some(Vec::new()),
            path_normalization: PathNormalization::default(),
            requires_mutual_tls: false,
            stats: None,
        }
    }
}

impl WorkerChain {
    pub(crate) fn factories(&self) -> &[AnyFactory] {
        &self.factories
    }

    /// Whether nothing looks at streams on their way.
    pub(crate) fn is_straight(&self) -> bool {
        let looks = self.stats.as_ref().is_some_and(|stats| stats.spec().looks_at_streams());
        self.factories.is_empty() && !looks
    }

    /// The metrics that are made.
    pub(crate) fn stats(&self) -> Option<&Rc<WorkerStats>> {
        self.stats.as_ref()
    }

    /// What sees connections. `None` if every connection is to be refused.
    pub(crate) fn network(&self) -> Option<&[NetworkFactory]> {
        self.network.as_deref()
    }

    /// Whether connections without mutual TLS are refused.
    pub(crate) fn requires_mutual_tls(&self) -> bool {
        self.requires_mutual_tls
    }

    /// How paths are written before anything looks at them.
    pub(crate) fn path_normalization(&self) -> PathNormalization {
        self.path_normalization
    }

    fn remote_plugins(&self) -> impl Iterator<Item = &Rc<RemoteFactory>> {
        self.factories.iter().filter_map(|factory| match factory {
            AnyFactory::Remote(factory) => Some(factory),
            _ => None,
        })
    }

    fn plugins(&self) -> impl Iterator<Item = &Rc<WasmFactory>> {
        let http = self.factories.iter().flat_map(|factory| match factory {
            AnyFactory::Wasm(factory) => [Some(factory), None],
            AnyFactory::Rollout(factory) => factory.plugins().map(Some),
            AnyFactory::Remote(_) | AnyFactory::Substitute(_) | AnyFactory::BuiltIn(_) => {
                [None, None]
            }
        });
        let http = http.flatten();
        let network = self.network.iter().flatten().filter_map(|factory| match factory {
            NetworkFactory::Wasm(factory) => Some(factory),
            NetworkFactory::Rbac(_) => None,
        });
        http.chain(network)
    }
}
