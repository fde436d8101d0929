//! One worker: a thread with its own listening socket, connections, upstream pool and VMs.
//!
//! A request never leaves its worker, so nothing here is shared or locked.

use std::cell::RefCell;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::task::LocalSet;
use wasmplug_host::Host;

use crate::attributes::Surroundings;
use crate::callout::Clusters;
use crate::config::ProxyConfig;
use crate::connection;
use crate::filters::AnyFactory;
use crate::filters::substitute::Substitute;
use crate::filters::wasm::WasmFactory;
use crate::metrics::WorkerMetrics;
use crate::plugin_home::PluginHome;
use crate::route::Routes;
use crate::snapshot::{FilterSpec, Refusal, Snapshot};
use crate::upstream::Pool;

/// What one worker needs to start.
pub(crate) struct WorkerSeed {
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) host: Arc<Host>,
    pub(crate) listener: TcpListener,
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
    home: Rc<PluginHome>,
    chain: RefCell<Rc<WorkerChain>>,
    metrics: Arc<WorkerMetrics>,
    date: RefCell<(u64, HeaderValue)>,
}

/// A snapshot's chain on one worker. Streams keep the one that they began with.
#[derive(Debug, Default)]
pub(crate) struct WorkerChain {
    factories: Vec<AnyFactory>,
}

// === impl WorkerSeed ===

impl WorkerSeed {
    /// Runs the worker until it is told to stop and its connections are done.
    pub(crate) fn run(self) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let limits = &self.config.limits;
        let pool = Pool::new(self.config.upstream.clone(), limits);
        let clusters = Rc::new(Clusters::new(&self.config.clusters, limits));
        let routes = Routes::new(&self.config.routes, &clusters, pool);
        // Looked at before any worker was started.
        let routes = routes.map_err(|route| std::io::Error::other(route.cluster))?;
        let surroundings = Rc::new(Surroundings { routes, node: self.config.node.clone() });
        let worker = Rc::new(Worker {
            config: self.config,
            home: PluginHome::new(self.host, clusters, surroundings),
            chain: RefCell::default(),
            metrics: self.metrics,
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
            tokio::select! {
                // Cancel-safe: connections that are open go on to their end inside it.
                result = connection::accept(Rc::clone(&worker), listener, stop) => result,
                // Cancel-safe: what is not applied when the worker ends matters to nobody.
                () = updates => Ok(()),
            }
        })
    }
}

// === impl Worker ===

impl Worker {
    pub(crate) fn config(&self) -> &ProxyConfig {
        &self.config
    }

    pub(crate) fn surroundings(&self) -> &Rc<Surroundings> {
        &self.home.surroundings
    }

    pub(crate) fn clusters(&self) -> &Rc<Clusters> {
        &self.home.clusters
    }

    pub(crate) fn metrics(&self) -> &WorkerMetrics {
        &self.metrics
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
        let factories = snapshot.filters.iter().map(|filter| match filter {
            FilterSpec::Wasm(spec) => {
                let same = previous.factories.iter().find_map(|factory| match factory {
                    AnyFactory::Wasm(factory) if Arc::ptr_eq(factory.spec(), spec) => {
                        Some(Rc::clone(factory))
                    }
                    _ => None,
                });
                let start = || WasmFactory::start(Arc::clone(spec), Rc::clone(&self.home));
                AnyFactory::Wasm(same.unwrap_or_else(start))
            }
            FilterSpec::Refuse { with: Refusal::Forbidden, .. } => {
                AnyFactory::Substitute(Substitute::DenyAll)
            }
            FilterSpec::Refuse { with: Refusal::Unavailable, .. } => {
                AnyFactory::Substitute(Substitute::Unavailable)
            }
        });
        let chain = Rc::new(WorkerChain { factories: factories.collect() });
        self.chain.replace(chain);
    }
}

// === impl WorkerChain ===

impl WorkerChain {
    pub(crate) fn factories(&self) -> &[AnyFactory] {
        &self.factories
    }
}
