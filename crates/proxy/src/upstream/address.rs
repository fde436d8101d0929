//! What a user writes about a cluster: hosts with ports, and what is spoken there.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// Most hosts that one cluster may be given. Source: ours.
const MAX_HOSTS: usize = 256;

/// Host and port of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddress {
    host: String,
    port: u16,
}

/// One cluster: its hosts, and what is spoken with all of them.
///
/// Written as `HOST:PORT[,HOST:PORT]…`, with a scheme in front of the first one or of each.
///
/// | scheme | speaks | default port |
/// |---|---|---|
/// | none | HTTP/1.1 | none |
/// | `http://` | HTTP/1.1 | 80 |
/// | `h2c://` | HTTP/2 without TLS, what gRPC needs | 80 |
/// | `https://` | HTTP/1.1 over TLS | 443 |
/// | `h2://` | HTTP/2 over TLS | 443 |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    hosts: Vec<UpstreamAddress>,
    protocol: UpstreamProtocol,
    is_tls: bool,
    server_name: Option<String>,
}

/// What is spoken to an upstream, with TLS or without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1, written `http://` or `https://`.
    Http1,
    /// HTTP/2 from the first byte, written `h2c://` or `h2://`. What gRPC needs.
    Http2,
}

/// Why a text is not an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamAddressError {
    /// Another scheme than those that are spoken.
    #[error(
        "upstream `{text}` has the scheme `{scheme}`; `http`, `https`, `h2c` and `h2` are spoken to upstreams"
    )]
    Scheme {
        /// What was given.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// Hosts of one cluster with which different things would be spoken.
    #[error(
        "upstream `{text}` has hosts of more than one scheme, and a cluster speaks one protocol"
    )]
    Mixed {
        /// What was given.
        text: String,
    },
    /// No port, or none that is a number.
    #[error("upstream `{text}` has no valid port")]
    Port {
        /// What was given.
        text: String,
    },
    /// Nothing before the port, or something after it.
    #[error("upstream `{text}` is not of the form `host:port`")]
    Form {
        /// What was given.
        text: String,
    },
    /// More hosts than a cluster may have.
    #[error("a cluster has {count} hosts, and at most {MAX_HOSTS} are possible")]
    TooMany {
        /// How many were given.
        count: usize,
    },
}

/// What a scheme means.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Scheme {
    protocol: UpstreamProtocol,
    is_tls: bool,
}

// === impl Scheme ===

impl Scheme {
    const PLAIN: Self = Self { protocol: UpstreamProtocol::Http1, is_tls: false };

    fn named(name: &str) -> Option<Self> {
        let (protocol, is_tls) = match name {
            "http" => (UpstreamProtocol::Http1, false),
            "https" => (UpstreamProtocol::Http1, true),
            "h2c" => (UpstreamProtocol::Http2, false),
            "h2" => (UpstreamProtocol::Http2, true),
            _ => return None,
        };
        Some(Self { protocol, is_tls })
    }

    fn default_port(self) -> u16 {
        if self.is_tls { 443 } else { 80 }
    }
}

// === impl UpstreamAddress ===

impl UpstreamAddress {
    /// Name or address of the host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Reads `host[:port]` or `[v6][:port]`; `text` is what errors quote.
    fn read(
        authority: &str,
        default_port: Option<u16>,
        text: &str,
    ) -> Result<Self, UpstreamAddressError> {
        let form = || UpstreamAddressError::Form { text: text.to_owned() };
        let (host, rest) = match authority.strip_prefix('[') {
            Some(bracketed) => bracketed.split_once(']').ok_or_else(form)?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        if host.is_empty() || host.contains(['/', '@', ' ', '?', '#']) {
            return Err(form());
        }
        let port = match rest.strip_prefix(':') {
            Some(port) => port.parse().ok(),
            None if rest.is_empty() => default_port,
            None => None,
        };
        let port = port.ok_or_else(|| UpstreamAddressError::Port { text: text.to_owned() })?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

// === impl ClusterConfig ===

impl ClusterConfig {
    /// Its hosts, at least one.
    pub fn hosts(&self) -> &[UpstreamAddress] {
        &self.hosts
    }

    /// What is spoken there.
    pub fn protocol(&self) -> UpstreamProtocol {
        self.protocol
    }

    /// Whether connections are encrypted and the other side is verified.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The name that its hosts' certificates must have and that they are asked for. Default: the
    /// name of the host that is connected to.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The same cluster with another name in its hosts' certificates.
    #[must_use]
    pub fn with_server_name(self, name: impl Into<String>) -> Self {
        Self { server_name: Some(name.into()), ..self }
    }

    /// Whether one of its hosts is this one.
    pub(crate) fn has_host(&self, host: &str, port: u16) -> bool {
        self.hosts.iter().any(|of| of.port == port && of.host.eq_ignore_ascii_case(host))
    }
}

impl From<SocketAddr> for ClusterConfig {
    fn from(address: SocketAddr) -> Self {
        let host = UpstreamAddress { host: address.ip().to_string(), port: address.port() };
        let Scheme { protocol, is_tls } = Scheme::PLAIN;
        Self { hosts: vec![host], protocol, is_tls, server_name: None }
    }
}

impl FromStr for ClusterConfig {
    type Err = UpstreamAddressError;

    fn from_str(text: &str) -> Result<Self, UpstreamAddressError> {
        let mut scheme: Option<Scheme> = None;
        let mut hosts = Vec::new();
        let count = text.split(',').count();
        if count > MAX_HOSTS {
            return Err(UpstreamAddressError::TooMany { count });
        }
        for (at, part) in text.split(',').map(str::trim).enumerate() {
            let authority = match part.split_once("://") {
                None => {
                    // A scheme in front of the first one is that of all.
                    scheme = scheme.or(Some(Scheme::PLAIN));
                    part
                }
                Some((name, rest)) => {
                    let found = Scheme::named(name).ok_or_else(|| {
                        let (text, scheme) = (part.to_owned(), name.to_owned());
                        UpstreamAddressError::Scheme { text, scheme }
                    })?;
                    if at > 0 && scheme != Some(found) {
                        return Err(UpstreamAddressError::Mixed { text: text.to_owned() });
                    }
                    scheme = Some(found);
                    rest.strip_suffix('/').unwrap_or(rest)
                }
            };
            let has_scheme = authority.len() < part.len();
            let default_port = scheme.filter(|_| has_scheme).map(Scheme::default_port);
            hosts.push(UpstreamAddress::read(authority, default_port, part)?);
        }
        let Scheme { protocol, is_tls } = scheme.unwrap_or(Scheme::PLAIN);
        Ok(Self { hosts, protocol, is_tls, server_name: None })
    }
}

/// The hosts, without what is spoken there.
impl fmt::Display for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, host) in self.hosts.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{host}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{ClusterConfig, MAX_HOSTS, UpstreamAddressError, UpstreamProtocol};

    fn parse(text: &str) -> Result<String, UpstreamAddressError> {
        text.parse::<ClusterConfig>().map(|address| address.to_string())
    }

    #[test]
    fn hosts_with_ports_are_read() {
        for (text, expected) in [
            ("localhost:80", "localhost:80"),
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("[::1]:3000", "[::1]:3000"),
            ("http://a.b:1/", "a.b:1"),
            ("http://a.b", "a.b:80"),
            ("https://a.b", "a.b:443"),
            ("h2://a.b/", "a.b:443"),
            ("a:1,b:2", "a:1,b:2"),
            ("https://a, [::1]:2", "a:443,[::1]:2"),
            ("h2c://a,h2c://b", "a:80,b:80"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_scheme_says_what_is_spoken() {
        let spoken = |text: &str| {
            let cluster: ClusterConfig = text.parse().unwrap();
            (cluster.protocol(), cluster.is_tls())
        };
        assert_eq!(spoken("h2c://a:1"), (UpstreamProtocol::Http2, false));
        assert_eq!(spoken("http://a:1"), (UpstreamProtocol::Http1, false));
        assert_eq!(spoken("a:1,b:1"), (UpstreamProtocol::Http1, false));
        assert_eq!(spoken("https://a"), (UpstreamProtocol::Http1, true));
        assert_eq!(spoken("h2://a,b:1"), (UpstreamProtocol::Http2, true));
    }

    #[test]
    fn what_is_not_a_host_with_a_port_is_refused() {
        for text in
            ["localhost", ":80", "a:b", "a:99999", "ftp://a", "http://a/b", "[::1", "", "u@a:1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_cluster_speaks_one_protocol() {
        for text in ["http://a:1,h2c://b:1", "a:1,https://b:1", "a:1,", ",a:1", "https://a,b"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_hosts_of_a_cluster_are_counted() {
        let hosts = |count: usize| vec!["a:1"; count].join(",");
        assert!(parse(&hosts(MAX_HOSTS)).is_ok());
        let refused = UpstreamAddressError::TooMany { count: MAX_HOSTS + 1 };
        assert_eq!(parse(&hosts(MAX_HOSTS + 1)), Err(refused));
    }
}
