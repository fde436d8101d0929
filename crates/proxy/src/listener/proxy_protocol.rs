//! The PROXY protocol, versions 1 and 2: a proxy in front tells whose connection it forwards.
//!
//! Source: the PROXY protocol, 2020/03/05. Exactly the header is taken from the connection, so that
//! whoever comes next reads from the socket itself.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

/// What a header of version 2 begins with. Source: section 2.2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What a header of version 1 begins with. Source: section 2.1.
const V1_START: &[u8] = b"PROXY ";
/// Longest header of version 1, with its end. Source: section 2.1.
const V1_MAX_BYTES: usize = 107;
/// Longest header of version 2 behind its first 16 bytes. Source: ours; the addresses are at most
/// 216 bytes, and the longest that is sent with them is a certificate.
const V2_MAX_BYTES: usize = 16 << 10;
/// Addresses and ports of TCP over IPv4, and over IPv6. Source: section 2.2.
const V2_IPV4_BYTES: usize = 12;
const V2_IPV6_BYTES: usize = 36;

/// Both ends of the connection that is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

/// Why a header cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyHeaderError {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    #[error("the PROXY header tells of something else than TCP over IP")]
    Unsupported,
    #[error("the connection ended within its PROXY header")]
    Ended(#[from] io::Error),
}

/// Where bytes come from: what has arrived can be looked at before it is taken.
pub(super) trait Arriving: AsyncRead + Unpin {
    /// Copies what has arrived, at least one byte, or none at the end.
    async fn look(&mut self, into: &mut [u8]) -> io::Result<usize>;
}

/// What the first 16 bytes of version 2 say.
enum V2 {
    /// The proxy speaks for itself, or does not know for whom.
    Own,
    Ipv4,
    Ipv6,
}

/// Takes the header from the beginning of a connection. `None` if it tells nobody's addresses, so
/// that those of the connection itself count.
///
/// # Errors
/// [`ProxyHeaderError`]; the connection is to be closed.
pub(super) async fn read(stream: &mut impl Arriving) -> Result<Option<Told>, ProxyHeaderError> {
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == *SIGNATURE {
        return read_v2(stream).await;
    }
    if start.starts_with(V1_START) {
        return read_v1(stream, &start).await;
    }
    Err(ProxyHeaderError::Missing)
}

async fn read_v1(
    stream: &mut impl Arriving,
    start: &[u8],
) -> Result<Option<Told>, ProxyHeaderError> {
    let mut line = Vec::with_capacity(V1_MAX_BYTES);
    line.extend_from_slice(start);
    while line.last() != Some(&b'\n') {
        let room = V1_MAX_BYTES.saturating_sub(line.len());
        if room == 0 {
            return Err(ProxyHeaderError::TooLong(V1_MAX_BYTES));
        }
        let mut arrived = [0; V1_MAX_BYTES];
        let arrived = arrived.get_mut(..room).unwrap_or_default();
        let count = stream.look(arrived).await?;
        let arrived = arrived.get_mut(..count).unwrap_or_default();
        // Nothing behind the end is taken.
        let end = arrived.iter().position(|byte| *byte == b'\n');
        let count = end.map_or(count, |end| end.saturating_add(1));
        let taken = arrived.get_mut(..count).unwrap_or_default();
        if taken.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        stream.read_exact(taken).await?;
        line.extend_from_slice(taken);
    }
    parse_v1(&line)
}

/// A whole line with its end.
fn parse_v1(line: &[u8]) -> Result<Option<Told>, ProxyHeaderError> {
    let malformed = ProxyHeaderError::Malformed;
    let text = line.strip_prefix(V1_START).ok_or(ProxyHeaderError::Missing)?;
    let text = text.strip_suffix(b"\r\n").ok_or(malformed("its line does not end with CR LF"))?;
    let text = std::str::from_utf8(text).map_err(|_| malformed("it is no text"))?;
    let mut words = text.split(' ');
    let is_ipv6 = match words.next() {
        // What follows is not looked at.
        Some("UNKNOWN") => return Ok(None),
        Some("TCP4") => false,
        Some("TCP6") => true,
        _ => return Err(malformed("the protocol is none of TCP4, TCP6 and UNKNOWN")),
    };
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        let ipv6 = |word: &str| word.parse::<Ipv6Addr>().map(IpAddr::V6).ok();
        let ipv4 = |word: &str| word.parse::<Ipv4Addr>().map(IpAddr::V4).ok();
        if is_ipv6 { ipv6(word) } else { ipv4(word) }
    };
    let no_address = || malformed("an address is not one of its protocol");
    let source = address().ok_or_else(no_address)?;
    let destination = address().ok_or_else(no_address)?;
    let mut port = || port(words.next()?);
    let no_port = || malformed("a port is not a number from 0 to 65535");
    let source = SocketAddr::new(source, port().ok_or_else(no_port)?);
    let destination = SocketAddr::new(destination, port().ok_or_else(no_port)?);
    if words.next().is_some() {
        return Err(malformed("something stands behind the ports"));
    }
    Ok(Some(Told { source, destination }))
}

/// Digits alone, without a zero in front. Source: section 2.1.
fn port(word: &str) -> Option<u16> {
    let is_digits = word.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = word == "0" || !word.starts_with('0');
    if is_digits && is_short { word.parse().ok() } else { None }
}

async fn read_v2(stream: &mut impl Arriving) -> Result<Option<Told>, ProxyHeaderError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version_and_command, family, high, low] = head;
    let len = usize::from(u16::from_be_bytes([high, low]));
    let kind = parse_v2(version_and_command, family, len)?;
    let mut addresses = [0; V2_IPV6_BYTES];
    let used = match kind {
        V2::Own => 0,
        V2::Ipv4 => V2_IPV4_BYTES,
        V2::Ipv6 => V2_IPV6_BYTES,
    };
    stream.read_exact(addresses.get_mut(..used).unwrap_or_default()).await?;
    skip(stream, len.saturating_sub(used)).await?;
    Ok(match kind {
        V2::Own => None,
        V2::Ipv4 => Some(ends::<4>(&addresses)),
        V2::Ipv6 => Some(ends::<16>(&addresses)),
    })
}

fn parse_v2(version_and_command: u8, family: u8, len: usize) -> Result<V2, ProxyHeaderError> {
    let malformed = |what| Err(ProxyHeaderError::Malformed(what));
    if len > V2_MAX_BYTES {
        return Err(ProxyHeaderError::TooLong(V2_MAX_BYTES));
    }
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        other if other >> 4 != 2 => return malformed("its version is not 2"),
        _ => return malformed("its command is neither LOCAL nor PROXY"),
    };
    match family {
        _ if is_local => Ok(V2::Own),
        // Forwarded for somebody who is not known.
        0x00 => Ok(V2::Own),
        0x11 if len >= V2_IPV4_BYTES => Ok(V2::Ipv4),
        0x21 if len >= V2_IPV6_BYTES => Ok(V2::Ipv6),
        0x11 | 0x21 => malformed("it is too short for its addresses"),
        // UDP, and sockets of Unix.
        0x12 | 0x22 | 0x31 | 0x32 => Err(ProxyHeaderError::Unsupported),
        _ => malformed("its address family is unknown"),
    }
}

/// Takes what is not looked at.
async fn skip(stream: &mut impl Arriving, len: usize) -> Result<(), ProxyHeaderError> {
    let mut rest = len;
    let mut chunk = [0; 512];
    while rest > 0 {
        let count = rest.min(chunk.len());
        stream.read_exact(chunk.get_mut(..count).unwrap_or_default()).await?;
        rest = rest.saturating_sub(count);
    }
    Ok(())
}

/// Addresses of this many bytes, and then ports.
fn ends<const N: usize>(bytes: &[u8; V2_IPV6_BYTES]) -> Told
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
    let (destination, ports) = rest.split_first_chunk::<N>().unwrap_or((&[0; N], &[]));
    let [a, b, c, d] = *ports.first_chunk::<4>().unwrap_or(&[0; 4]);
    Told {
        source: SocketAddr::new((*source).into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new((*destination).into(), u16::from_be_bytes([c, d])),
    }
}

// === impl TcpStream ===

impl Arriving for TcpStream {
    async fn look(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.peek(into).await
    }
}

#[cfg(test)]
mod tests;
