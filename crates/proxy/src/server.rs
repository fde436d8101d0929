//! Starting and stopping the whole data plane.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::{Notify, watch};
use wasmplug_host::Host;

use crate::admin::{Admin, AdminState};
use crate::config::{ListenerProtocol, ProxyConfig};
use crate::connection_limit::ConnectionLimit;
use crate::handover::Sockets;
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
    /// For a successor; gone once this proxy is told to stop.
    sockets: Option<Arc<Sockets>>,
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
    /// Sockets were handed over that listen elsewhere.
    #[error(
        "the process before listens on `{found}` for {purpose}, and this one is to on `{wanted}`"
    )]
    Inherited {
        /// Where they listen.
        found: SocketAddr,
        /// Where they should.
        wanted: SocketAddr,
        /// What they are for.
        purpose: &'static str,
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
    fn listen(address: SocketAddr, purpose: &'static str, source: std::io::Error) -> Self {
        Self::Listen { address, purpose, source }
    }

    /// What could be done about it.
    pub fn hint(&self) -> Option<String> {
        if let Self::Inherited { found, purpose, .. } = self {
            let option = if *purpose == "admin" { "--admin" } else { "--listen" };
            return Some(format!("give `{option} {found}`, or stop the other process first"));
        }
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
        Self::start_on(None, config, host)
    }

    /// The same on sockets that another process handed over. There are then at least as many workers
    /// as sockets, because connections wait in each of them.
    ///
    /// # Errors
    /// As [`Proxy::start`], and [`StartProxyError::Inherited`].
    pub fn start_on(
        inherited: Option<Sockets>,
        mut config: ProxyConfig,
        host: Arc<Host>,
    ) -> Result<Self, StartProxyError> {
        check_routes(&config)?;
        let upstreams = Upstreams::new(&config)?;
        let sockets = Sockets::open(inherited, &config)?;
        config.workers = sockets.traffic.len();
        let listen = local_address(sockets.traffic.first(), config.listen, "traffic")?;
        let (listeners, admin_listener) = sockets.duplicate(config.listen)?;
        let publisher = Publisher::new();
        let (stop, stopped) = watch::channel(false);
        let applied_changed = Arc::new(Notify::new());
        let tls = config.tls.clone().map(|settings| Arc::new(TlsListener::new(settings)));
        let front = front(&config, tls.clone());
        let connections = ConnectionLimit::new(config.limits.connections);
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
            sockets: Some(Arc::new(sockets)),
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
                connections: Arc::clone(&connections),
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
            proxy.admin = Some(local_address(Some(&listener), address, "admin")?);
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

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.applied.len()
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

    /// The listening sockets, to be handed over. They are gone once the proxy is told to stop.
    pub fn sockets(&self) -> Weak<Sockets> {
        self.sockets.as_ref().map(Arc::downgrade).unwrap_or_default()
    }

    fn join(&mut self) {
        // First, so that nobody can connect where nobody accepts.
        self.sockets = None;
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

// === impl Sockets ===

impl Sockets {
    /// Takes what was inherited, and binds what is missing.
    fn open(inherited: Option<Self>, config: &ProxyConfig) -> Result<Self, StartProxyError> {
        let workers = config.workers.max(1);
        let (traffic, admin) = match inherited {
            None => (bind_workers(config.listen, workers)?, None),
            Some(Self { traffic, admin }) => (traffic, admin),
        };
        let mut sockets = Self { traffic, admin: admin.filter(|_| config.admin.is_some()) };
        sockets.check(config.listen, config.admin)?;
        // Two workers may accept from one socket.
        let count = sockets.traffic.len();
        for index in count..workers {
            let same = sockets.traffic.get(index % count.max(1));
            let same = same.map(TcpListener::try_clone).transpose();
            let error = |source| StartProxyError::listen(config.listen, "traffic", source);
            sockets.traffic.extend(same.map_err(error)?);
        }
        if let (None, Some(address)) = (&sockets.admin, config.admin) {
            sockets.admin = Some(bind(address, false, "admin")?);
        }
        Ok(sockets)
    }

    /// Whether what was inherited is where it is wanted; a port of 0 is any.
    fn check(&self, listen: SocketAddr, admin: Option<SocketAddr>) -> Result<(), StartProxyError> {
        let is_other = |found: &SocketAddr, wanted: SocketAddr| {
            *found != wanted && !(wanted.port() == 0 && found.ip() == wanted.ip())
        };
        let traffic = (self.traffic.first(), Some(listen), "traffic");
        for (socket, wanted, purpose) in [traffic, (self.admin.as_ref(), admin, "admin")] {
            let found = socket.and_then(|socket| socket.local_addr().ok());
            if let (Some(found), Some(wanted)) = (found, wanted)
                && is_other(&found, wanted)
            {
                return Err(StartProxyError::Inherited { found, wanted, purpose });
            }
        }
        Ok(())
    }

    /// The same sockets once more, for the threads that accept.
    fn duplicate(
        &self,
        address: SocketAddr,
    ) -> Result<(Vec<TcpListener>, Option<TcpListener>), StartProxyError> {
        let error = |source| StartProxyError::listen(address, "traffic", source);
        let traffic = self.traffic.iter().map(TcpListener::try_clone);
        let traffic = traffic.collect::<std::io::Result<_>>().map_err(error)?;
        let admin = self.admin.as_ref().map(TcpListener::try_clone).transpose().map_err(error)?;
        Ok((traffic, admin))
    }
}

/// One socket per worker on the same address; the system spreads connections over them.
fn bind_workers(address: SocketAddr, workers: usize) -> Result<Vec<TcpListener>, StartProxyError> {
    if workers == 1 {
        return Ok(vec![bind(address, false, "traffic")?]);
    }
    // A shared port can be bound again by anybody of the same user: look first whether it is free.
    let probe = bind(address, false, "traffic")?;
    let address = local_address(Some(&probe), address, "traffic")?;
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
    listener: Option<&TcpListener>,
    address: SocketAddr,
    purpose: &'static str,
) -> Result<SocketAddr, StartProxyError> {
    let found = listener.map(TcpListener::local_addr).transpose();
    let found = found.map_err(|source| StartProxyError::listen(address, purpose, source))?;
    Ok(found.unwrap_or(address))
}
