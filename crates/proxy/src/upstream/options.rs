//! What an operator decides about upstreams, resolved.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

/// Settings that all clusters of a process share.
#[derive(Clone, Debug)]
pub struct UpstreamOptions {
    /// Which endpoint of a cluster a request goes to. Default: least request.
    pub load_balancing: LoadBalancing,
    /// How often names are looked up. Default: 5 s. Source: Envoy's `dns_refresh_rate`.
    pub resolve_interval: Duration,
    /// How names are looked up. Default: as the system does.
    pub resolver: NameResolver,
    /// When an endpoint that fails is left alone.
    pub ejection: EjectionOptions,
    /// Most connections to one cluster, of all workers together, save that each worker may have one
    /// to each endpoint. Default: 1024. Source: Envoy's circuit breakers, as the next two.
    pub max_connections: u32,
    /// Most requests to one cluster that wait for a connection. Default: 1024.
    pub max_pending_requests: u32,
    /// Most requests to one cluster of HTTP/2 at one time. Those of HTTP/1 have a connection each,
    /// and so are bounded with them. Default: 1024.
    pub max_requests: u32,
    /// Most requests at one time over one connection of HTTP/2, whatever the upstream allows beyond.
    /// Default: 100. Source: RFC 9113, 6.5.2 recommends that upstreams allow as many.
    pub streams_per_connection: u32,
    /// Requests after which a connection is closed; 0 for any number. Default: 0. Source: Envoy's
    /// `max_requests_per_connection`.
    pub requests_per_connection: u32,
    /// Longest time that a connection waits for a request before it is closed. Default: 1 h.
    /// Source: Envoy's `idle_timeout`.
    pub idle_timeout: Duration,
    /// How connections are encrypted, in those clusters where they are.
    pub tls: UpstreamTls,
}

/// Which endpoint of a cluster a request goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadBalancing {
    /// One after the other.
    RoundRobin,
    /// Of two that are chosen at random, the one with fewer requests on this worker, so that a slow
    /// endpoint gets less. Source: Istio's default.
    #[default]
    LeastRequest,
}

/// When an endpoint that fails is left alone. It never happens to the only endpoint of a cluster.
///
/// Source: Envoy's outlier detection.
#[derive(Clone, Copy, Debug)]
pub struct EjectionOptions {
    /// Answers of 500 and above, resets, timeouts and failed connections in a row; 0 for never.
    /// Default: 5.
    pub consecutive_failures: u32,
    /// How long it is left alone, times the number of ejections in a row, and up to a tenth more at
    /// random. Default: 30 s.
    pub base_time: Duration,
    /// Longest such time, before the addition. Default: 300 s.
    pub max_time: Duration,
    /// Most endpoints that are left alone at one time, in percent; one may be in any case.
    /// Default: 10.
    pub max_percent: u32,
}

/// Whom a TLS upstream must prove to be, and what is shown to it.
#[derive(Clone, Default)]
pub struct UpstreamTls {
    /// Certificate authorities in PEM that are trusted in place of the system's. Default: none.
    pub authorities: Option<Vec<u8>>,
    /// Certificate chain and key of this proxy in PEM, for upstreams that ask for them.
    /// Default: none.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Looks names up. May block: it never runs on a worker.
#[derive(Clone)]
pub struct NameResolver(Arc<Resolve>);

type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

// === impl UpstreamOptions ===

impl Default for UpstreamOptions {
    fn default() -> Self {
        Self {
            load_balancing: LoadBalancing::default(),
            resolve_interval: Duration::from_secs(5),
            resolver: NameResolver::default(),
            ejection: EjectionOptions::default(),
            max_connections: 1024,
            max_pending_requests: 1024,
            max_requests: 1024,
            streams_per_connection: 100,
            requests_per_connection: 0,
            idle_timeout: Duration::from_hours(1),
            tls: UpstreamTls::default(),
        }
    }
}

// === impl EjectionOptions ===

impl Default for EjectionOptions {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            base_time: Duration::from_secs(30),
            max_time: Duration::from_mins(5),
            max_percent: 10,
        }
    }
}

// === impl UpstreamTls ===

/// Says nothing of the key.
impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("has_authorities", &self.authorities.is_some())
            .field("has_identity", &self.identity.is_some())
            .finish()
    }
}

// === impl NameResolver ===

impl NameResolver {
    /// Looks names up by this function, which is given a name and the port that the addresses are
    /// to have.
    pub fn new(
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(resolve))
    }

    pub(super) fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (self.0)(host, port)
    }
}

impl Default for NameResolver {
    fn default() -> Self {
        Self::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }
}

impl fmt::Debug for NameResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NameResolver")
    }
}
