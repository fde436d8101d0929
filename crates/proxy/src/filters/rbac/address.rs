//! Addresses, alone and in blocks, and whose address a request tells.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::Cause;

/// `10.0.0.1`, `10.0.0.0/8`, `::1`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IpBlock(IpNet);

// === impl IpBlock ===

impl IpBlock {
    pub(super) fn parse(text: &str) -> Result<Self, Cause> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| address()).map(Self).map_err(|_| Cause::Address)
    }

    /// Whether the address is in it; one of the other version never is.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

/// The client that a request is from: what the last trusted proxy wrote at the end of
/// `x-forwarded-for`, or the peer itself.
///
/// Source: Envoy without `use_remote_address`, which is how sidecars are configured.
pub(crate) fn client(forwarded: Option<&[u8]>, peer: SocketAddr) -> SocketAddr {
    let last = forwarded.and_then(|value| value.rsplit(|byte| *byte == b',').next());
    let last = last.map(<[u8]>::trim_ascii).and_then(|last| std::str::from_utf8(last).ok());
    // Nobody tells a port.
    let told = last.and_then(|last| last.parse::<IpAddr>().ok());
    told.map_or(peer, |address| SocketAddr::new(address, 0))
}

/// An address as policies see it: IPv4 even if the socket is one for both versions.
pub(crate) fn canonical(address: SocketAddr) -> IpAddr {
    address.ip().to_canonical()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};

    use super::{IpBlock, canonical, client};

    fn contains(block: &str, address: &str) -> bool {
        let address: IpAddr = address.parse().unwrap_or([0, 0, 0, 0].into());
        IpBlock::parse(block).is_ok_and(|block| block.contains(address))
    }

    #[test]
    fn a_block_has_the_addresses_of_its_prefix() {
        for (block, address) in [
            ("10.1.2.3", "10.1.2.3"),
            ("10.0.0.0/8", "10.255.0.1"),
            // Bits behind the prefix do not matter.
            ("10.1.2.3/8", "10.9.9.9"),
            ("0.0.0.0/0", "1.2.3.4"),
            ("::1", "::1"),
            ("2001:db8::/32", "2001:db8:1::2"),
            ("::/0", "::1"),
        ] {
            assert!(contains(block, address), "{block} {address}");
        }
        for (block, address) in [
            ("10.1.2.3", "10.1.2.4"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("0.0.0.0/0", "::1"),
            ("::/0", "1.2.3.4"),
            ("2001:db8::/32", "2001:db9::1"),
            ("10.0.0.0/8", "::ffff:10.1.1.1"),
        ] {
            assert!(!contains(block, address), "{block} {address}");
        }
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for text in ["", "10.0.0", "10.0.0.0/33", "010.0.0.1", "a", "10.0.0.0/", "::1/129", "[::1]"]
        {
            assert!(IpBlock::parse(text).is_err(), "{text}");
        }
    }

    /// Source: observed in Envoy 1.40.
    #[test]
    fn the_client_is_the_last_one_that_was_forwarded_for() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 5000));
        let rows: [(&[u8], &str); 15] = [
            (b"1.2.3.4", "1.2.3.4:0"),
            (b"1.2.3.4, 5.6.7.8", "5.6.7.8:0"),
            (b"1.2.3.4,\t5.6.7.8\t", "5.6.7.8:0"),
            (b"1.2.3.4,, 7.7.7.7", "7.7.7.7:0"),
            (b"2001:db8::1", "[2001:db8::1]:0"),
            (b"::ffff:1.2.3.4", "[::ffff:1.2.3.4]:0"),
            (b"1.2.3.4,garbage", "127.0.0.1:5000"),
            (b"1.2.3.4, ", "127.0.0.1:5000"),
            (b"1.2.3.4:80", "127.0.0.1:5000"),
            (b"[::1]", "127.0.0.1:5000"),
            (b"010.1.1.1", "127.0.0.1:5000"),
            (b"1.2.3", "127.0.0.1:5000"),
            (b"1.2.3.4 5.6.7.8", "127.0.0.1:5000"),
            (b"\xff\xfe", "127.0.0.1:5000"),
            (b"", "127.0.0.1:5000"),
        ];
        for (value, expected) in rows {
            assert_eq!(client(Some(value), peer).to_string(), expected, "{value:?}");
        }
        assert_eq!(client(None, peer), peer);
    }

    #[test]
    fn a_socket_for_both_versions_has_addresses_of_the_older_one() {
        let mapped: IpAddr = "::ffff:10.1.1.1".parse().unwrap_or([0, 0, 0, 0].into());
        assert_eq!(canonical(SocketAddr::new(mapped, 1)), IpAddr::from([10, 1, 1, 1]));
    }
}
