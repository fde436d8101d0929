//! One cluster, as all workers see it: its endpoints, its limits and what is counted about it.
//!
//! A worker looks at it where its own [`Pool`](super::Pool) does not know: when it connects, when a
//! request waits or fails. The lock in here is never taken for a request that finds a connection.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::endpoint::Endpoint;
use super::options::UpstreamOptions;
use super::tls::TlsClient;
use super::{ClusterConfig, LoadBalancing, UpstreamProtocol};

/// Most endpoints of one cluster. Source: ours.
pub(crate) const MAX_ENDPOINTS: usize = 256;

/// One cluster. Workers share it.
#[derive(Debug)]
pub(crate) struct Cluster {
    name: String,
    config: ClusterConfig,
    options: UpstreamOptions,
    tls: Option<TlsClient>,
    clock: Instant,
    known: Mutex<Known>,
    pub(super) permits: Permits,
    pub(crate) counters: ClusterCounters,
    /// What each worker counts; only that worker writes.
    workers: Vec<Arc<WorkerCounters>>,
}

/// What is known of a cluster's endpoints.
#[derive(Debug)]
struct Known {
    /// Addresses of each host, in the order of the hosts; `None` before it was looked up.
    by_host: Vec<Option<Vec<SocketAddr>>>,
    endpoints: Arc<[Arc<Endpoint>]>,
}

/// How much of a cluster's limits is taken.
#[derive(Debug, Default)]
pub(super) struct Permits {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
}

/// What happens seldom enough that all workers may count it in one place.
#[derive(Debug, Default)]
pub(crate) struct ClusterCounters {
    pub(crate) connections: AtomicU64,
    pub(crate) connect_failures: AtomicU64,
    pub(crate) connect_timeouts: AtomicU64,
    pub(crate) resets: AtomicU64,
    pub(crate) retries: AtomicU64,
    pub(crate) request_timeouts: AtomicU64,
    pub(crate) connection_overflow: AtomicU64,
    pub(crate) overflow: AtomicU64,
    pub(crate) no_endpoint: AtomicU64,
    pub(crate) look_ups: AtomicU64,
    pub(crate) failed_look_ups: AtomicU64,
}

/// What one worker counts about a cluster.
#[derive(Debug, Default)]
pub(crate) struct WorkerCounters {
    pub(crate) requests: AtomicU64,
    pub(crate) active: AtomicU64,
    pub(crate) idle: AtomicU64,
}

// === impl Cluster ===

impl Cluster {
    pub(super) fn new(
        name: &str,
        config: ClusterConfig,
        options: &UpstreamOptions,
        tls: Option<TlsClient>,
        workers: usize,
    ) -> Arc<Self> {
        let literal = |host: &super::UpstreamAddress| {
            let ip = host.host().parse().ok()?;
            Some(vec![SocketAddr::new(ip, host.port())])
        };
        let by_host: Vec<_> = config.hosts().iter().map(literal).collect();
        let known = Known { by_host, endpoints: Arc::new([]) };
        let cluster = Self {
            name: name.to_owned(),
            config,
            options: options.clone(),
            tls,
            clock: Instant::now(),
            known: Mutex::new(known),
            permits: Permits::default(),
            counters: ClusterCounters::default(),
            workers: (0..workers).map(|_| Arc::default()).collect(),
        };
        cluster.take_over(&mut cluster.known());
        Arc::new(cluster)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn config(&self) -> &ClusterConfig {
        &self.config
    }

    pub(super) fn options(&self) -> &UpstreamOptions {
        &self.options
    }

    pub(super) fn tls(&self) -> Option<&TlsClient> {
        self.tls.as_ref()
    }

    pub(super) fn is_http2(&self) -> bool {
        self.config.protocol() == UpstreamProtocol::Http2
    }

    pub(super) fn load_balancing(&self) -> LoadBalancing {
        self.options.load_balancing
    }

    /// What a worker counts.
    pub(super) fn worker(&self, index: usize) -> Arc<WorkerCounters> {
        self.workers.get(index).map(Arc::clone).unwrap_or_default()
    }

    pub(crate) fn workers(&self) -> &[Arc<WorkerCounters>] {
        &self.workers
    }

    /// Connections that are open.
    pub(crate) fn open_connections(&self) -> u32 {
        self.permits.connections.load(Ordering::Relaxed)
    }

    /// Requests that wait for a connection.
    pub(crate) fn pending_requests(&self) -> u32 {
        self.permits.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn endpoints(&self) -> Arc<[Arc<Endpoint>]> {
        Arc::clone(&self.known().endpoints)
    }

    /// Whether a host was not looked up yet.
    pub(super) fn is_unresolved(&self) -> bool {
        self.known().by_host.iter().any(Option::is_none)
    }

    /// Milliseconds since it was made.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.clock.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Addresses and ejections of its endpoints, and which of them are left alone now.
    pub(crate) fn states(&self) -> Vec<(SocketAddr, u64, bool)> {
        let now = self.now();
        let state = |endpoint: &Arc<Endpoint>| {
            Some((endpoint.address()?, endpoint.ejections(), endpoint.is_ejected(now)))
        };
        self.endpoints().iter().filter_map(state).collect()
    }

    /// Takes over what a look-up of a host brought; `None` if it failed, which changes nothing that
    /// was known. Returns whether the endpoints changed, or are known to be none.
    pub(super) fn resolved(&self, host: usize, found: Option<Vec<SocketAddr>>) -> bool {
        let mut known = self.known();
        let Some(slot) = known.by_host.get_mut(host) else { return false };
        let is_first = slot.is_none();
        match found {
            Some(addresses) => *slot = Some(addresses),
            None => *slot = Some(slot.take().unwrap_or_default()),
        }
        self.take_over(&mut known) || is_first
    }

    /// Makes the endpoints of the addresses. Those that stay keep their state.
    fn take_over(&self, known: &mut Known) -> bool {
        let old = &known.endpoints;
        let mut endpoints: Vec<Arc<Endpoint>> = Vec::new();
        let mut left_out: usize = 0;
        let by_host = known.by_host.iter().enumerate();
        let found = by_host.flat_map(|(host, found)| {
            let found = found.as_deref().unwrap_or_default();
            groups(found).into_iter().map(move |addresses| (host, addresses))
        });
        for (host, addresses) in found {
            let is_same = |of: &&Arc<Endpoint>| of.addresses() == addresses && of.host() == host;
            if endpoints.iter().any(|known| is_same(&known)) {
                continue;
            }
            if endpoints.len() >= MAX_ENDPOINTS {
                left_out = left_out.saturating_add(1);
                continue;
            }
            let same = old.iter().find(is_same).map(Arc::clone);
            endpoints.push(same.unwrap_or_else(|| Arc::new(Endpoint::new(host, addresses))));
        }
        let stays = |endpoint: &Arc<Endpoint>| old.iter().any(|of| Arc::ptr_eq(of, endpoint));
        if endpoints.len() == old.len() && endpoints.iter().all(stays) {
            // Name servers give the same addresses in ever another order.
            return false;
        }
        if left_out > 0 {
            tracing::warn!(
                cluster = self.name,
                left_out,
                "a cluster has more endpoints than the {MAX_ENDPOINTS} that are used"
            );
        }
        known.endpoints = endpoints.into();
        true
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an endpoint failed, and leaves it alone if that is too often.
    pub(super) fn note_failure(&self, endpoint: &Endpoint) {
        let options = &self.options.ejection;
        if !endpoint.failed(options) {
            return;
        }
        // Whoever decides sees all that are left alone.
        let known = self.known();
        let now = self.now();
        let (all, address) = (known.endpoints.len(), endpoint.address());
        let ejected = known.endpoints.iter().filter(|of| of.is_ejected(now)).count();
        let percent = usize::try_from(options.max_percent.min(100)).unwrap_or(100);
        let most = all.saturating_mul(percent).checked_div(100).unwrap_or_default().max(1);
        if all < 2 || ejected >= most || endpoint.is_ejected(now) {
            return;
        }
        let (lasts, times) = endpoint.eject(now, options);
        tracing::warn!(
            cluster = self.name,
            endpoint = address.map(tracing::field::display),
            milliseconds = u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX),
            times,
            "an endpoint failed too often in a row and is left alone"
        );
    }

    /// Whether an endpoint is not left alone. One whose time is over is taken back.
    pub(super) fn is_well(&self, endpoint: &Endpoint) -> bool {
        let Some(until) = endpoint.ejected_until() else { return true };
        let is_over = self.now() >= until;
        if is_over && endpoint.heal(until) {
            let address = endpoint.address().map(tracing::field::display);
            tracing::info!(cluster = self.name, endpoint = address, "an endpoint is used again");
        }
        is_over
    }
}

/// The endpoints that the addresses of one name are.
///
/// Both addresses of this machine, as `localhost` has them, are one endpoint, whichever of them it
/// listens on. Elsewhere IPv4 counts if there is any: many machines have no way to the other one.
/// Source: Envoy's `V4_PREFERRED`.
fn groups(found: &[SocketAddr]) -> Vec<Vec<SocketAddr>> {
    if let [one, other] = found
        && one.ip().is_loopback()
        && other.ip().is_loopback()
        && one.is_ipv4() != other.is_ipv4()
    {
        return vec![found.to_vec()];
    }
    let has_v4 = found.iter().any(SocketAddr::is_ipv4);
    let of_family = found.iter().filter(|address| address.is_ipv4() == has_v4);
    of_family.map(|address| vec![*address]).collect()
}

// === impl Permits ===

impl Permits {
    /// Takes a connection; `is_first` if the worker has none to the endpoint, which must not starve.
    pub(super) fn take_connection(&self, most: u32, is_first: bool) -> bool {
        take(&self.connections, if is_first { u32::MAX } else { most })
    }

    pub(super) fn take_pending(&self, most: u32) -> bool {
        take(&self.pending, most)
    }

    pub(super) fn take_request(&self, most: u32) -> bool {
        take(&self.requests, most)
    }

    pub(super) fn give_connection(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn give_pending(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn give_request(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one more if there are fewer than `most`. Nothing else depends on the number.
fn take(count: &AtomicU32, most: u32) -> bool {
    let more = |count: u32| (count < most).then(|| count.saturating_add(1));
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
}

/// Adds one. A plain store is enough, because one thread writes; it costs no bus lock.
pub(super) fn add(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// Takes one away again; see [`add`].
pub(super) fn subtract(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_sub(1), Ordering::Relaxed);
}

/// Adds one to what several threads count.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::{Cluster, MAX_ENDPOINTS, take};
    use crate::upstream::options::{EjectionOptions, UpstreamOptions};
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    fn cluster(text: &str, options: &UpstreamOptions) -> Arc<Cluster> {
        Cluster::new("c", text.parse().unwrap(), options, None, 1)
    }

    fn addresses(cluster: &Cluster) -> Vec<String> {
        cluster.states().iter().map(|(address, ..)| address.to_string()).collect()
    }

    /// Takes over that the name of this host has these addresses.
    fn found(cluster: &Cluster, host: usize, texts: &[&str]) -> bool {
        let addresses = texts.iter().map(|text| text.parse().unwrap()).collect();
        cluster.resolved(host, Some(addresses))
    }

    #[test]
    fn addresses_are_endpoints_from_the_start_and_names_when_they_are_looked_up() {
        let cluster = cluster("10.0.0.1:80,a.test:81", &UpstreamOptions::default());
        assert_eq!(addresses(&cluster), ["10.0.0.1:80"]);
        assert!(cluster.is_unresolved());
        assert!(found(&cluster, 1, &["10.0.0.2:81", "10.0.0.3:81"]));
        assert_eq!(addresses(&cluster), ["10.0.0.1:80", "10.0.0.2:81", "10.0.0.3:81"]);
        assert!(!cluster.is_unresolved());
    }

    #[test]
    fn another_order_is_no_change_and_a_failed_look_up_keeps_what_was_known() {
        let cluster = cluster("a.test:1", &UpstreamOptions::default());
        assert!(found(&cluster, 0, &["10.0.0.1:1", "10.0.0.2:1"]));
        assert!(!found(&cluster, 0, &["10.0.0.2:1", "10.0.0.1:1"]));
        assert!(!cluster.resolved(0, None));
        assert_eq!(addresses(&cluster), ["10.0.0.1:1", "10.0.0.2:1"]);
        assert!(found(&cluster, 0, &["10.0.0.2:1"]));
        assert_eq!(addresses(&cluster), ["10.0.0.2:1"]);
    }

    #[test]
    fn a_first_look_up_that_fails_is_told_too() {
        let cluster = cluster("a.test:1", &UpstreamOptions::default());
        assert!(cluster.resolved(0, None));
        assert!(!cluster.is_unresolved());
        assert!(addresses(&cluster).is_empty());
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_state() {
        let cluster = cluster("a.test:1", &UpstreamOptions::default());
        found(&cluster, 0, &["10.0.0.1:1", "10.0.0.2:1"]);
        let first = Arc::clone(&cluster.endpoints()[0]);
        (0..5).for_each(|_| cluster.note_failure(&first));
        found(&cluster, 0, &["10.0.0.3:1", "10.0.0.1:1"]);
        let ejected: Vec<bool> = cluster.states().iter().map(|(.., ejected)| *ejected).collect();
        assert_eq!(ejected, [false, true]);
    }

    #[test]
    fn ipv4_counts_if_there_is_any_and_this_machine_is_one_endpoint() {
        let cluster = cluster("a.test:1", &UpstreamOptions::default());
        found(&cluster, 0, &["[2001:db8::1]:1", "10.0.0.1:1"]);
        assert_eq!(addresses(&cluster), ["10.0.0.1:1"]);
        found(&cluster, 0, &["[2001:db8::1]:1", "[2001:db8::2]:1"]);
        assert_eq!(addresses(&cluster), ["[2001:db8::1]:1", "[2001:db8::2]:1"]);
        found(&cluster, 0, &["[::1]:1", "127.0.0.1:1"]);
        assert_eq!(addresses(&cluster), ["[::1]:1"]);
        assert_eq!(cluster.endpoints()[0].addresses().len(), 2);
    }

    #[test]
    fn endpoints_beyond_the_bound_are_left_out() {
        let cluster = cluster("a.test:1", &UpstreamOptions::default());
        let many = (0..300_u16).map(|n| SocketAddr::from(([10, 0, 0, 1], n + 1))).collect();
        cluster.resolved(0, Some(many));
        assert_eq!(cluster.endpoints().len(), MAX_ENDPOINTS);
    }

    #[test]
    fn no_more_are_left_alone_than_the_share_and_never_the_only_one() {
        let ejected = |hosts: usize, max_percent: u32| {
            let ejection = EjectionOptions { max_percent, ..EjectionOptions::default() };
            let options = UpstreamOptions { ejection, ..UpstreamOptions::default() };
            let hosts: Vec<String> = (0..hosts).map(|n| format!("10.0.0.{n}:1")).collect();
            let cluster = cluster(&hosts.join(","), &options);
            for endpoint in cluster.endpoints().iter() {
                (0..20).for_each(|_| cluster.note_failure(endpoint));
            }
            cluster.states().iter().filter(|(.., ejected)| *ejected).count()
        };
        assert_eq!(ejected(1, 100), 0);
        assert_eq!(ejected(2, 10), 1);
        assert_eq!(ejected(30, 10), 3);
        assert_eq!(ejected(3, 100), 3);
    }

    #[test]
    fn permits_run_out() {
        let count = AtomicU32::new(0);
        assert!(take(&count, 2) && take(&count, 2));
        assert!(!take(&count, 2));
        assert!(!take(&AtomicU32::new(0), 0));
    }
}
