//! The HTTP proxy that an operator names.

use std::fmt;

use url::Url;

/// `http://[user:password@]host:port`; `Debug` shows host and port alone.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyUrl(Url);

/// A text is not the URL of a proxy; it is not quoted, because it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proxy is not of the form `http://[USER:PASSWORD@]HOST:PORT`")]
pub struct ProxyUrlError;

// === impl ProxyUrl ===

impl ProxyUrl {
    pub(crate) fn url(&self) -> &Url {
        &self.0
    }
}

impl std::str::FromStr for ProxyUrl {
    type Err = ProxyUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url = Url::parse(text).ok().filter(|url| url.scheme() == "http" && url.has_host());
        url.map(Self).ok_or(ProxyUrlError)
    }
}

impl fmt::Debug for ProxyUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProxyUrl({})", crate::transport::target(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_is_one_and_its_password_is_not_shown() {
        let proxy: ProxyUrl = "http://user:hunter2@proxy.example:3128".parse().unwrap();
        assert_eq!(format!("{proxy:?}"), "ProxyUrl(proxy.example:3128)");
        for text in ["", "proxy:3128", "https://user:hunter2@proxy", "socks5://proxy", "http://"] {
            let error = text.parse::<ProxyUrl>().unwrap_err();
            assert!(!format!("{error}").contains("hunter2"), "{text}");
        }
    }
}
