//! Where requests go: clusters, their endpoints, and each worker's connections to them.
//!
//! ```text
//! Upstreams                    all workers share it; made at the start
//!   └─ Cluster                 endpoints, limits, counters
//!        └─ Endpoint           address, and whether it is left alone
//!   └─ Resolver                a thread that looks names up
//!
//! Pool                         one worker's side of a Cluster: balancing, retries
//!   └─ EndpointPool            its connections to an Endpoint, and who waits for one
//!        └─ Lease              one connection while it serves one request
//! ```

mod address;
mod cluster;
mod connect;
mod endpoint;
mod endpoint_pool;
mod error;
mod lease;
mod options;
mod pool;
mod resolver;
mod retry;
mod tls;

pub use self::address::{ClusterConfig, UpstreamAddress, UpstreamAddressError, UpstreamProtocol};
pub(crate) use self::cluster::{Cluster, ClusterCounters, WorkerCounters};
pub(crate) use self::connect::UpstreamIo;
pub(crate) use self::error::{ConnectError, UpstreamError};
pub(crate) use self::lease::{Deadline, Lease};
pub use self::options::{
    EjectionOptions, LoadBalancing, NameResolver, UpstreamOptions, UpstreamTls,
};
pub(crate) use self::pool::Pool;
pub(crate) use self::resolver::Resolver;
pub use self::tls::UpstreamTlsError;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use self::tls::TlsFactory;
use crate::config::{ListenerProtocol, ProxyConfig, ProxyLimits};
use crate::route::DEFAULT_CLUSTER;

/// The clusters of a process. Workers share them.
#[derive(Debug)]
pub(crate) struct Upstreams {
    default: Arc<Cluster>,
    by_name: BTreeMap<String, Arc<Cluster>>,
    changed: Arc<watch::Sender<()>>,
}

// === impl Upstreams ===

impl Upstreams {
    /// # Errors
    /// A cluster is to be encrypted, and what is given for that cannot be used.
    pub(crate) fn new(config: &ProxyConfig) -> Result<Arc<Self>, UpstreamTlsError> {
        let options = &config.upstreams;
        let is_raw = config.listener == ListenerProtocol::Tcp;
        let all = || config.clusters.values().chain([&config.upstream]);
        let tls = all().any(ClusterConfig::is_tls).then(|| TlsFactory::new(&options.tls, is_raw));
        let tls = tls.transpose()?;
        let workers = config.workers.max(1);
        let cluster = |name: &str, of: &ClusterConfig| {
            let tls = tls.as_ref().filter(|_| of.is_tls()).map(|tls| tls.client(of));
            Ok(Cluster::new(name, of.clone(), options, tls.transpose()?, workers))
        };
        let default = cluster(DEFAULT_CLUSTER, &config.upstream)?;
        let named = config.clusters.iter().map(|(name, of)| Ok((name.clone(), cluster(name, of)?)));
        let by_name = named.collect::<Result<_, _>>()?;
        let changed = Arc::new(watch::Sender::new(()));
        Ok(Arc::new(Self { default, by_name, changed }))
    }

    /// What looks the names of hosts up, if any host has one.
    pub(crate) fn resolver(&self) -> Option<Resolver> {
        Resolver::new(self.all(), Arc::clone(&self.changed))
    }

    /// Told when a cluster got other endpoints.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// All clusters, the one where no route fits first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Cluster>> {
        [&self.default].into_iter().chain(self.by_name.values())
    }

    /// One worker's side of the cluster that requests go to where no route fits.
    pub(crate) fn default_pool(&self, worker: usize, limits: &ProxyLimits) -> Rc<Pool> {
        Pool::new(&self.default, worker, limits)
    }

    /// One worker's side of all others.
    pub(crate) fn named_pools(
        &self,
        worker: usize,
        limits: &ProxyLimits,
    ) -> BTreeMap<String, Rc<Pool>> {
        let pool = |cluster| Pool::new(cluster, worker, limits);
        self.by_name.iter().map(|(name, cluster)| (name.clone(), pool(cluster))).collect()
    }
}
