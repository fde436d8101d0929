//! Starting and stopping the whole data plane.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Notify, watch};
use wasmplug_host::Host;

use crate::admin::{Admin, AdminState};
use crate::config::{ListenerProtocol, ProxyConfig};
use crate::listener::{Front, TlsListener};
use crate::metrics::{WorkerMetrics, registry};
use crate::route::DEFAULT_CLUSTER;
use crate::snapshot::{Publisher, Snapshot};
use crate::upstream::{UpstreamTlsError, Upstreams};
use crate::worker::WorkerSeed;

/// Connections that wait to be accepted, per listening socket.
const BACKLOG: i32 = 1024;

/// A running data plane. Dropping it stops it.
#[derive(Debug)]
pub struct Proxy {
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    listener: ListenerProtocol,
    tls: Option<Arc<TlsListener>>,
    publisher: Publisher,
    stop: watch::Sender<bool>,
    applied: Vec<Arc<AtomicU64>>,
    applied_changed: Arc<Notify>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

/// Why the data plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartProxyError {
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}` for {purpose}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What it is for.
        purpose: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A route leads nowhere.
    #[error("the route `{route}` goes to the cluster `{cluster}`, which does not exist")]
    UnknownCluster {
        /// Name of the route.
        route: String,
        /// The cluster that it names.
        cluster: String,
    },
    /// Connections to upstreams cannot be encrypted as they should be.
    #[error(transparent)]
    UpstreamTls(#[from] UpstreamTlsError),
    /// A thread cannot be started.
    #[error("cannot start a worker thread")]
    Thread(#[source] std::io::Error),
}

// === impl StartProxyError ===

impl StartProxyError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<String> {
        if let Self::UnknownCluster { cluster, .. } = self {
            return Some(format!("name it with `--cluster {cluster}=HOST:PORT`"));
        }
        if let Self::UpstreamTls(error) = self {
            return error.hint();
        }
        let Self::Listen { address, purpose, source } = self else { return None };
        let option = if *purpose == "admin" { "--admin" } else { "--listen" };
        match source.kind() {
            std::io::ErrorKind::AddrInUse => Some(format!(
                "another process uses port {}; stop it, or choose another with `{option} {}:0`",
                address.port(),
                address.ip()
            )),
            std::io::ErrorKind::PermissionDenied => {
                Some("ports below 1024 need a privilege; choose a higher one".into())
            }
            _ => None,
        }
    }
}

// === impl Proxy ===

impl Proxy {
    /// Binds, and starts the workers and the admin thread. No request is served before the first
    /// snapshot is published.
    ///
    /// # Errors
    /// [`StartProxyError`] if an address is taken or a thread cannot be started.
    pub fn start(config: ProxyConfig, host: Arc<Host>) -> Result<Self, StartProxyError> {
        check_routes(&config)?;
        let upstreams = Upstreams::new(&config)?;
        let workers = config.workers.max(1);
        let listeners = bind_workers(config.listen, workers)?;
        let listen = match listeners.first() {
            Some(listener) => local_address(listener, config.listen, "traffic")?,
            None => config.listen,
        };
        let admin_listener =
            config.admin.map(|address| bind(address, false, "admin")).transpose()?;
        let publisher = Publisher::new();
        let (stop, stopped) = watch::channel(false);
        let applied_changed = Arc::new(Notify::new());
        let tls = config.tls.clone().map(|settings| Arc::new(TlsListener::new(settings)));
        let front = front(&config, tls.clone());
        let config = Arc::new(config);
        let mut proxy = Self {
            listen,
            admin: None,
            listener: config.listener,
            tls,
            publisher,
            stop,
            applied: Vec::new(),
            applied_changed,
            threads: Vec::new(),
        };
        let mut all_metrics = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let metrics = Arc::new(WorkerMetrics::default());
            let applied = Arc::new(AtomicU64::new(0));
            all_metrics.push(Arc::clone(&metrics));
            proxy.applied.push(Arc::clone(&applied));
            let seed = WorkerSeed {
                index: u64::try_from(index).unwrap_or_default(),
                config: Arc::clone(&config),
                upstreams: Arc::clone(&upstreams),
                host: Arc::clone(&host),
                listener,
                front: front.clone(),
                snapshots: proxy.publisher.subscribe(),
                stop: stopped.clone(),
                metrics,
                applied,
                applied_changed: Arc::clone(&proxy.applied_changed),
            };
            proxy.spawn(format!("worker-{index}"), move || seed.run())?;
        }
        if let Some(resolver) = upstreams.resolver() {
            let stopped = stopped.clone();
            proxy.spawn("resolver".into(), move || resolver.run(stopped))?;
        }
        if let (Some(listener), Some(address)) = (admin_listener, config.admin) {
            proxy.admin = Some(local_address(&listener, address, "admin")?);
            let state = AdminState {
                publisher: proxy.publisher.clone(),
                registry: registry(
                    all_metrics,
                    front.clone(),
                    upstreams,
                    proxy.publisher.clone(),
                    host,
                    config.access_log.clone(),
                ),
                front,
                applied: proxy.applied.clone(),
            };
            proxy.spawn("admin".into(), move || Admin::new(state).run(listener, stopped))?;
        }
        Ok(proxy)
    }

    /// Where clients connect.
    pub fn listen_address(&self) -> SocketAddr {
        self.listen
    }

    /// Where the admin pages are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The credentials of the listener, to replace them. `None` if it speaks no TLS.
    pub fn tls(&self) -> Option<&TlsListener> {
        self.tls.as_deref()
    }

    /// Publishes a snapshot and waits until every worker serves it.
    pub async fn apply(&self, mut snapshot: Snapshot) {
        if self.listener == ListenerProtocol::Http {
            // Requests are judged, and the connections that they come on are not, as in Istio.
            snapshot.network_filters.retain(|filter| !filter.is_network_rbac());
        }
        let version = snapshot.version;
        self.publisher.publish(snapshot);
        loop {
            let changed = self.applied_changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that no change is missed.
            changed.as_mut().enable();
            if self.applied.iter().all(|applied| applied.load(Ordering::Acquire) >= version) {
                return;
            }
            changed.await;
        }
    }

    /// The snapshot that new streams get.
    pub fn current(&self) -> Arc<Snapshot> {
        self.publisher.current()
    }

    /// Stops accepting, lets streams end, then ends the threads. Blocks until then.
    pub fn stop(mut self) {
        self.join();
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), StartProxyError> {
        let thread = std::thread::Builder::new().name(name).spawn(run);
        self.threads.push(thread.map_err(StartProxyError::Thread)?);
        Ok(())
    }

    fn join(&mut self) {
        self.stop.send_replace(true);
        for thread in self.threads.drain(..) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(error = %error, "a thread ended with an error"),
                Err(_) => tracing::error!("a thread panicked"),
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.join();
    }
}

/// What stands in front of connections; `None` if nothing does.
fn front(config: &ProxyConfig, tls: Option<Arc<TlsListener>>) -> Option<Arc<Front>> {
    let has_proxy_protocol = config.has_proxy_protocol;
    let timeout = config.limits.handshake_timeout;
    let has_front = tls.is_some() || has_proxy_protocol;
    has_front.then(|| Arc::new(Front { tls, has_proxy_protocol, timeout }))
}

fn check_routes(config: &ProxyConfig) -> Result<(), StartProxyError> {
    let unknown = config.routes.iter().find(|route| {
        route.cluster != DEFAULT_CLUSTER && !config.clusters.contains_key(&route.cluster)
    });
    unknown.map_or(Ok(()), |route| {
        let (route, cluster) = (route.name.clone(), route.cluster.clone());
        Err(StartProxyError::UnknownCluster { route, cluster })
    })
}

/// One socket per worker on the same address; the system spreads connections over them.
fn bind_workers(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, StartProxyError> {
    if workers == 1 {
        return Ok(vec![bind(address, false, "traffic")?]);
    }
    // A shared port can be bound again by anybody of the same user: look first whether it is free.
    let probe = bind(address, false, "traffic")?;
    let address = local_address(&probe, address, "traffic")?;
    drop(probe);
    (0..workers).map(|_| bind(address, true, "traffic")).collect()
}

fn bind(
    address: SocketAddr,
    is_shared: bool,
    purpose: &'static str,
) -> Result<TcpListener, StartProxyError> {
    let bind = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(is_shared)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|source| StartProxyError::Listen { address, purpose, source })
}

fn local_address(
    listener: &TcpListener,
    address: SocketAddr,
    purpose: &'static str,
) -> Result<SocketAddr, StartProxyError> {
    listener.local_addr().map_err(|source| StartProxyError::Listen { address, purpose, source })
}
