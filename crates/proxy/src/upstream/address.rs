use std::fmt;
use std::str::FromStr;

/// Host, port and protocol of the upstream, as a user writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamAddress {
    host: String,
    port: u16,
    protocol: UpstreamProtocol,
}

/// What is spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/1.1, written `http://`.
    Http1,
    /// HTTP/2 without TLS, from the first byte, written `h2c://`. What gRPC needs.
    Http2,
}

/// Why a text is not an upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamAddressError {
    /// Another scheme than `http` and `h2c`.
    #[error(
        "upstream `{text}` has the scheme `{scheme}`, only `http` and `h2c` are spoken to upstreams"
    )]
    Scheme {
        /// What was given.
        text: String,
        /// Its scheme.
        scheme: String,
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

    /// What is spoken there.
    pub fn protocol(&self) -> UpstreamProtocol {
        self.protocol
    }
}

impl From<std::net::SocketAddr> for UpstreamAddress {
    fn from(address: std::net::SocketAddr) -> Self {
        let protocol = UpstreamProtocol::Http1;
        Self { host: address.ip().to_string(), port: address.port(), protocol }
    }
}

/// Reads `host:port`, `[v6]:port`, `http://host[:port]` or `h2c://host[:port]`.
impl FromStr for UpstreamAddress {
    type Err = UpstreamAddressError;

    fn from_str(text: &str) -> Result<Self, UpstreamAddressError> {
        let form = || UpstreamAddressError::Form { text: text.to_owned() };
        let mut protocol = UpstreamProtocol::Http1;
        let (authority, default_port) = match text.split_once("://") {
            Some((scheme @ ("http" | "h2c"), rest)) => {
                if scheme == "h2c" {
                    protocol = UpstreamProtocol::Http2;
                }
                (rest.strip_suffix('/').unwrap_or(rest), Some(80))
            }
            Some((scheme, _)) => {
                let scheme = scheme.to_owned();
                return Err(UpstreamAddressError::Scheme { text: text.to_owned(), scheme });
            }
            None => (text, None),
        };
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
        Ok(Self { host: host.to_owned(), port, protocol })
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

#[cfg(test)]
mod tests {
    use super::{UpstreamAddress, UpstreamAddressError};

    fn parse(text: &str) -> Result<String, UpstreamAddressError> {
        text.parse::<UpstreamAddress>().map(|address| address.to_string())
    }

    #[test]
    fn hosts_with_ports_are_read() {
        for (text, expected) in [
            ("localhost:80", "localhost:80"),
            ("127.0.0.1:3000", "127.0.0.1:3000"),
            ("[::1]:3000", "[::1]:3000"),
            ("http://a.b:1/", "a.b:1"),
            ("http://a.b", "a.b:80"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn the_scheme_says_what_is_spoken() {
        use super::UpstreamProtocol;
        let protocol = |text: &str| text.parse::<UpstreamAddress>().unwrap().protocol();
        assert_eq!(protocol("h2c://a:1"), UpstreamProtocol::Http2);
        assert_eq!(protocol("http://a:1"), UpstreamProtocol::Http1);
        assert_eq!(protocol("a:1"), UpstreamProtocol::Http1);
    }

    #[test]
    fn what_is_not_a_host_with_a_port_is_refused() {
        for text in
            ["localhost", ":80", "a:b", "a:99999", "https://a", "http://a/b", "[::1", "", "u@a:1"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
