//! What an operator decides about the proxy itself, resolved.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use http::HeaderValue;
use wasmplug_host::LimitSlot;

use crate::access_log::AccessLog;
use crate::listener::TlsSettings;
use crate::node::Node;
use crate::route::Route;
use crate::upstream::{ClusterConfig, UpstreamOptions};

/// Settings of one proxy process. Plugins are not part of it: they come in a [`crate::Snapshot`].
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Where clients connect. Port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where `/ready`, `/stats/prometheus` and `/config_dump` answer. `None` for no admin.
    pub admin: Option<SocketAddr>,
    /// Where requests go.
    pub upstream: ClusterConfig,
    /// Clusters that plugins may call, by name.
    ///
    /// `outbound|PORT|SUBSET|HOST`, as Istio names them, finds the one with that host and port.
    pub clusters: BTreeMap<String, ClusterConfig>,
    /// Which requests go to which of the clusters, in order; all others go to the upstream.
    pub routes: Vec<Route>,
    /// What plugins see as `xds.node`.
    pub node: Node,
    /// What clients speak.
    pub listener: ListenerProtocol,
    /// How clients are met in TLS. `None` for plain text.
    pub tls: Option<TlsSettings>,
    /// Whether every connection begins with a header of the PROXY protocol, version 1 or 2, which
    /// tells whose it is. Whoever can connect can say what it likes there. Default: false.
    pub has_proxy_protocol: bool,
    /// Number of worker threads, at least 1.
    pub workers: usize,
    /// Value of the `server` response header. Default: `wasmplug`.
    pub server_name: HeaderValue,
    /// Whether responses tell in a `server-timing` header how long each plugin took until then; for
    /// development, because clients see it. Default: false.
    pub has_server_timing: bool,
    /// Where a line about each stream goes. Default: nowhere.
    pub access_log: Option<AccessLog>,
    /// Limits of a stream and of a connection.
    pub limits: ProxyLimits,
    /// What holds for all clusters.
    pub upstreams: UpstreamOptions,
}

/// What clients speak, and so what stands at the end of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenerProtocol {
    /// HTTP; network plugins see its bytes before they are parsed.
    #[default]
    Http,
    /// Bytes, which go to the upstream as they are; HTTP plugins see nothing of them.
    Tcp,
}

/// Limits of the data plane, beside those of VMs in [`wasmplug_host::Limits`].
#[derive(Clone, Debug)]
pub struct ProxyLimits {
    /// Most connections that clients have at one time, over all workers; further ones are closed as
    /// they come. Default: 65 536. Source: ours; Envoy warns if none is set.
    pub connections: usize,
    /// Most body bytes that are held for a plugin in one direction of one stream.
    ///
    /// Beyond it a request is refused with 413 and a response with 500, or the peer is slowed
    /// down, as the plugin's action says. Default: 1 MiB. Source: Envoy's buffer limit.
    pub buffer_bytes: usize,
    /// Most headers of one message. Default: 100.
    pub headers: usize,
    /// Most bytes of one message's head. Default: 60 KiB. Source: Envoy.
    pub header_bytes: usize,
    /// Most streams of one HTTP/2 connection at one time; further ones are refused.
    ///
    /// Default: 200. Source: hyper; RFC 9113, 6.5.2 asks for 100 or more.
    pub concurrent_streams: usize,
    /// Most streams of one HTTP/2 connection that the client has reset before anybody looked at
    /// them; beyond it the connection is closed with `ENHANCE_YOUR_CALM`.
    ///
    /// Default: 20. Source: h2, against CVE-2023-44487.
    pub pending_reset_streams: usize,
    /// Most streams of one HTTP/2 connection that are reset because the client broke a rule;
    /// beyond it the connection is closed with `ENHANCE_YOUR_CALM`.
    ///
    /// Default: 1024. Source: h2.
    pub error_reset_streams: usize,
    /// Longest time from the first byte of a request to the end of its head. Default: 30 s.
    pub header_timeout: Duration,
    /// Longest time from accepting a connection until its PROXY header has come and its TLS
    /// handshake is done. Default: 15 s. Source: Envoy's `listener_filters_timeout`.
    pub handshake_timeout: Duration,
    /// Longest time to connect to an endpoint, with the TLS handshake, and for which a request waits
    /// until the names of a cluster are looked up for the first time. Default: 5 s. Source: Envoy.
    pub connect_timeout: Duration,
    /// Longest time from the end of a request to the end of its response: beyond it 504, or the
    /// response is cut if it has begun. Default: none. Source: Istio's timeout of a route.
    pub request_timeout: Option<Duration>,
    /// Longest time in which nothing moves in a stream before it is ended, with 408 or 504 if the
    /// response has not begun. Default: 5 min. Source: Envoy's `stream_idle_timeout`.
    pub stream_idle_timeout: Duration,
    /// Longest time that a connection of HTTP/2 stays open without a stream, a head that does not
    /// end being none yet; it is looked at once in that time. Default: 1 h. Source: Envoy's
    /// `idle_timeout`.
    pub connection_idle_timeout: Duration,
    /// Longest time in which nothing moves on a TCP connection before it is closed.
    ///
    /// Default: 1 h. Source: Envoy's TCP proxy.
    pub tcp_idle_timeout: Duration,
    /// Longest time that streams may go on after the proxy was asked to stop. Default: 10 s.
    pub drain_timeout: Duration,
    /// How long a connection that has asked for nothing yet is kept after the proxy was asked to
    /// stop. Default: 500 ms. Source: ours; a client that has just connected is about to ask.
    pub last_call_timeout: Duration,
    /// Most idle connections that a worker keeps to one endpoint. Default: 256.
    pub idle_upstream_connections: usize,
}

// === impl ProxyConfig ===

impl ProxyConfig {
    /// A proxy on a free loopback port, with one worker, no admin and default limits.
    pub fn new(upstream: ClusterConfig) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            admin: None,
            upstream,
            clusters: BTreeMap::new(),
            routes: Vec::new(),
            node: Node::default(),
            listener: ListenerProtocol::Http,
            tls: None,
            has_proxy_protocol: false,
            workers: 1,
            server_name: HeaderValue::from_static("wasmplug"),
            has_server_timing: false,
            access_log: None,
            limits: ProxyLimits::default(),
            upstreams: UpstreamOptions::default(),
        }
    }
}

// === impl ProxyLimits ===

impl ProxyLimits {
    /// Names of all limits, as [`ProxyLimits::slot`] knows them.
    pub const NAMES: [&'static str; 17] = [
        "connections",
        "buffer_bytes",
        "headers",
        "header_bytes",
        "concurrent_streams",
        "pending_reset_streams",
        "error_reset_streams",
        "header_timeout",
        "handshake_timeout",
        "connect_timeout",
        "request_timeout",
        "stream_idle_timeout",
        "connection_idle_timeout",
        "tcp_idle_timeout",
        "drain_timeout",
        "last_call_timeout",
        "idle_upstream_connections",
    ];

    /// The limit of this name, to be set. `None` if there is none.
    pub fn slot(&mut self, name: &str) -> Option<LimitSlot<'_>> {
        // All of them, so that none is forgotten here.
        let Self {
            connections,
            buffer_bytes,
            headers,
            header_bytes,
            concurrent_streams,
            pending_reset_streams,
            error_reset_streams,
            header_timeout,
            handshake_timeout,
            connect_timeout,
            request_timeout,
            stream_idle_timeout,
            connection_idle_timeout,
            tcp_idle_timeout,
            drain_timeout,
            last_call_timeout,
            idle_upstream_connections,
        } = self;
        Some(match name {
            "connections" => LimitSlot::Count(connections),
            "buffer_bytes" => LimitSlot::Bytes(buffer_bytes),
            "headers" => LimitSlot::Count(headers),
            "header_bytes" => LimitSlot::Bytes(header_bytes),
            "concurrent_streams" => LimitSlot::Count(concurrent_streams),
            "pending_reset_streams" => LimitSlot::Count(pending_reset_streams),
            "error_reset_streams" => LimitSlot::Count(error_reset_streams),
            "header_timeout" => LimitSlot::Time(header_timeout),
            "handshake_timeout" => LimitSlot::Time(handshake_timeout),
            "connect_timeout" => LimitSlot::Time(connect_timeout),
            "request_timeout" => LimitSlot::OptionalTime(request_timeout),
            "stream_idle_timeout" => LimitSlot::Time(stream_idle_timeout),
            "connection_idle_timeout" => LimitSlot::Time(connection_idle_timeout),
            "tcp_idle_timeout" => LimitSlot::Time(tcp_idle_timeout),
            "drain_timeout" => LimitSlot::Time(drain_timeout),
            "last_call_timeout" => LimitSlot::Time(last_call_timeout),
            "idle_upstream_connections" => LimitSlot::Count(idle_upstream_connections),
            _ => return None,
        })
    }

    /// [`ProxyLimits::concurrent_streams`] as HTTP/2 announces it.
    pub(crate) fn announced_streams(&self) -> u32 {
        u32::try_from(self.concurrent_streams).unwrap_or(u32::MAX)
    }

    /// [`ProxyLimits::header_bytes`] as HTTP/2 announces it.
    pub(crate) fn header_list_bytes(&self) -> u32 {
        u32::try_from(self.header_bytes).unwrap_or(u32::MAX)
    }
}

impl Default for ProxyLimits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            buffer_bytes: 1 << 20,
            headers: 100,
            header_bytes: 60 << 10,
            concurrent_streams: 200,
            pending_reset_streams: 20,
            error_reset_streams: 1024,
            header_timeout: Duration::from_secs(30),
            handshake_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(5),
            request_timeout: None,
            stream_idle_timeout: Duration::from_mins(5),
            connection_idle_timeout: Duration::from_hours(1),
            tcp_idle_timeout: Duration::from_hours(1),
            drain_timeout: Duration::from_secs(10),
            last_call_timeout: Duration::from_millis(500),
            idle_upstream_connections: 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmplug_host::Limits;

    use super::ProxyLimits;

    #[test]
    fn each_name_has_a_limit_and_none_is_also_one_of_vms() {
        let mut limits = ProxyLimits::default();
        for name in ProxyLimits::NAMES {
            assert!(limits.slot(name).is_some(), "{name}");
            assert!(Limits::default().slot(name).is_none(), "{name}");
        }
        assert!(limits.slot("memory_bytes").is_none());
    }
}
