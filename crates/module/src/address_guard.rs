//! Which addresses a fetch may reach.
//!
//! A URL of a resource, a redirect or a token service must not make this process talk to the
//! cloud's metadata service, which hands out credentials to whoever asks from this machine.
//! The guard sits behind name resolution, at the last moment before a connection is made, so that
//! no name can get around it.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Metadata services outside the link-local ranges: Alibaba, Azure, Oracle.
///
/// Source: the providers' documentation. Differs: Istio knows only the first one.
const METADATA_IPV4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200),
    Ipv4Addr::new(168, 63, 129, 16),
    Ipv4Addr::new(192, 0, 0, 192),
];
/// First 32 bits of the metadata service's IPv6 range on AWS, `fd00:ec2::/32`.
const METADATA_IPV6: [u16; 2] = [0xfd00, 0x0ec2];
/// First 96 bits of IPv4 addresses behind NAT64, `64:ff9b::/96` (RFC 6052).
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Decides about addresses; link-local and metadata addresses are always refused.
///
/// Private and loopback addresses are allowed: registries live there.
#[derive(Debug, Clone)]
pub struct AddressGuard {
    blocked: Arc<Vec<IpNet>>,
    hosts: Arc<BTreeMap<String, IpAddr>>,
    loopback: bool,
}

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockedAddress {
    /// Only reachable on this link; where metadata services live.
    #[error("the address `{0}` is link-local")]
    LinkLocal(IpAddr),
    /// A metadata service.
    #[error("the address `{0}` is a cloud metadata service")]
    Metadata(IpAddr),
    /// In a network that the operator blocked.
    #[error("the address `{address}` is in the blocked network `{network}`")]
    Network {
        /// The address.
        address: IpAddr,
        /// The network, as configured.
        network: IpNet,
    },
    /// This machine, named by a redirect or token service of another one.
    #[error("the address `{0}` is this machine, to which only a URL that names it may lead")]
    Loopback(IpAddr),
}

// === impl AddressGuard ===

impl AddressGuard {
    /// A guard that also refuses these networks, and knows these hosts.
    pub fn new(blocked: Vec<IpNet>, hosts: BTreeMap<String, IpAddr>) -> Self {
        Self { blocked: Arc::new(blocked), hosts: Arc::new(hosts), loopback: true }
    }

    /// The same guard for places that the user did not name.
    #[must_use]
    pub(crate) fn without_loopback(&self) -> Self {
        Self { loopback: false, ..self.clone() }
    }

    /// Checks one address.
    ///
    /// # Errors
    ///
    /// The rule that forbids it.
    pub fn check(&self, address: IpAddr) -> Result<(), BlockedAddress> {
        let effective = embedded_ipv4(address).map_or(address, IpAddr::V4);
        let link_local = match effective {
            IpAddr::V4(v4) => v4.is_link_local() || v4.octets().starts_with(&[224, 0, 0]),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || is_link_local_multicast(v6),
        };
        if link_local {
            return Err(BlockedAddress::LinkLocal(address));
        }
        let metadata = match effective {
            IpAddr::V4(v4) => METADATA_IPV4.contains(&v4),
            IpAddr::V6(v6) => v6.segments().starts_with(&METADATA_IPV6),
        };
        if metadata {
            return Err(BlockedAddress::Metadata(address));
        }
        if let Some(network) = self.blocked.iter().find(|network| network.contains(&effective)) {
            return Err(BlockedAddress::Network { address, network: *network });
        }
        if !self.loopback && (effective.is_loopback() || effective.is_unspecified()) {
            return Err(BlockedAddress::Loopback(address));
        }
        Ok(())
    }

    /// Checks a URL whose host is an address, which is never resolved.
    pub(crate) fn check_url(&self, url: &Url) -> Result<(), BlockedAddress> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(address.into()),
            Some(Host::Ipv6(address)) => self.check(address.into()),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }

    async fn lookup(&self, name: &str) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.hosts.get(name) {
            return Ok(vec![SocketAddr::new(*address, 0)]);
        }
        Ok(tokio::net::lookup_host((name, 0)).await?.collect())
    }
}

impl Resolve for AddressGuard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let addresses = guard.lookup(name.as_str()).await?;
            let mut allowed = Vec::with_capacity(addresses.len());
            let mut refused = None;
            for address in addresses {
                match guard.check(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(blocked) => refused = Some(blocked),
                }
            }
            match refused {
                Some(blocked) if allowed.is_empty() => Err(blocked.into()),
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether a URL names this machine in so many words.
pub(crate) fn names_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => {
            embedded_ipv4(address.into()).map_or(address.is_loopback(), |v4| v4.is_loopback())
        }
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

/// The IPv4 address that an IPv6 one stands for: IPv4-mapped, IPv4-compatible or NAT64.
fn embedded_ipv4(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(v6) = address else { return None };
    if v6.is_loopback() || v6.is_unspecified() {
        return None;
    }
    if v6.segments().starts_with(&NAT64) {
        let [.., a, b, c, d] = v6.octets();
        return Some(Ipv4Addr::new(a, b, c, d));
    }
    v6.to_ipv4()
}

/// `ff02::/16` and its variants with other flags.
fn is_link_local_multicast(address: Ipv6Addr) -> bool {
    let [first, ..] = address.segments();
    first & 0xff0f == 0xff02
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(blocked: &[&str]) -> AddressGuard {
        let blocked = blocked.iter().map(|network| network.parse().unwrap()).collect();
        AddressGuard::new(blocked, BTreeMap::new())
    }

    #[test]
    fn link_local_and_metadata_addresses_are_refused() {
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "224.0.0.251",
            "fe80::1",
            "febf::1",
            "ff02::fb",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
            "fd00:ec2::230",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
        ] {
            assert!(guard(&[]).check(address.parse().unwrap()).is_err(), "{address}");
        }
    }

    #[test]
    fn public_private_and_loopback_addresses_are_allowed() {
        for address in
            ["8.8.8.8", "10.0.0.1", "192.168.1.1", "127.0.0.1", "::1", "fc00::1", "2001:db8::1"]
        {
            guard(&[]).check(address.parse().unwrap()).unwrap();
        }
    }

    #[test]
    fn blocked_networks_are_refused_in_every_spelling() {
        let guard = guard(&["10.0.0.0/8"]);
        for address in ["10.1.2.3", "::ffff:10.1.2.3"] {
            let refused = guard.check(address.parse().unwrap());
            assert!(matches!(refused, Err(BlockedAddress::Network { .. })), "{address}");
        }
        guard.check("192.168.1.1".parse().unwrap()).unwrap();
    }

    #[test]
    fn loopback_is_refused_where_the_user_did_not_name_it() {
        let guard = guard(&[]).without_loopback();
        for address in ["127.0.0.1", "127.0.0.5", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"] {
            let refused = guard.check(address.parse().unwrap());
            assert!(matches!(refused, Err(BlockedAddress::Loopback(_))), "{address}: {refused:?}");
        }
        guard.check("10.0.0.1".parse().unwrap()).unwrap();
    }

    #[test]
    fn addresses_in_urls_are_checked_however_they_are_written() {
        for url in ["http://169.254.169.254/", "http://2852039166/", "http://[fe80::1]/"] {
            assert!(guard(&[]).check_url(&Url::parse(url).unwrap()).is_err(), "{url}");
        }
        for url in ["http://10.0.0.1/", "https://example.com/"] {
            guard(&[]).check_url(&Url::parse(url).unwrap()).unwrap();
        }
    }

    #[test]
    fn loopback_is_known_by_name_and_by_address() {
        for url in
            ["http://localhost:5000/", "http://a.localhost/", "http://127.9.9.9/", "http://[::1]/"]
        {
            assert!(names_loopback(&Url::parse(url).unwrap()), "{url}");
        }
        for url in ["http://localhost.example/", "http://128.0.0.1/", "http://[::2]/"] {
            assert!(!names_loopback(&Url::parse(url).unwrap()), "{url}");
        }
    }
}
