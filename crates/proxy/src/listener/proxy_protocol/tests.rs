//! Headers as bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::{Arriving, ProxyHeaderError, SIGNATURE, Told, V1_MAX_BYTES, V2_MAX_BYTES, read};

/// Bytes that arrive a few at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Pieces<'_> {
    fn arrived(&self) -> &[u8] {
        &self.rest[..self.piece.min(self.rest.len())]
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.arrived().len().min(out.remaining());
        out.put_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        Poll::Ready(Ok(()))
    }
}

impl Arriving for Pieces<'_> {
    async fn look(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.arrived().len().min(into.len());
        into[..count].copy_from_slice(&self.rest[..count]);
        Ok(count)
    }
}

/// Reads a header however it arrives, and makes sure that what follows it is still there.
fn header(bytes: &[u8]) -> Result<Option<Told>, ProxyHeaderError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let follows = b"GET / HTTP/1.1\r\n\r\n";
    let whole = [bytes, follows].concat();
    let mut results = [1, 7, whole.len()].map(|piece| {
        let mut stream = Pieces { rest: &whole, piece };
        let result = runtime.block_on(read(&mut stream));
        if result.is_ok() {
            let mut rest = Vec::new();
            runtime.block_on(stream.read_to_end(&mut rest)).unwrap();
            assert_eq!(rest, follows, "in pieces of {piece}");
        }
        Some(result)
    });
    let texts: Vec<String> = results.iter().map(|result| format!("{result:?}")).collect();
    assert!(texts.windows(2).all(|pair| pair[0] == pair[1]), "{texts:?}");
    results[0].take().unwrap()
}

fn told(source: &str, destination: &str) -> Told {
    Told { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[version_and_command, family], &len, rest].concat()
}

const IPV4: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80];

#[test]
fn a_line_tells_both_ends() {
    for (line, expected) in [
        ("PROXY TCP4 10.0.0.1 10.0.0.2 4660 80\r\n", Some(told("10.0.0.1:4660", "10.0.0.2:80"))),
        (
            "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
            Some(told("0.0.0.0:0", "255.255.255.255:65535")),
        ),
        ("PROXY TCP6 2001:db8::1 ::1 4660 80\r\n", Some(told("[2001:db8::1]:4660", "[::1]:80"))),
        ("PROXY UNKNOWN\r\n", None),
        ("PROXY UNKNOWN ffff::1 what ever 1\r\n", None),
    ] {
        assert_eq!(header(line.as_bytes()).unwrap(), expected, "{line}");
    }
    // The longest one.
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_MAX_BYTES - 16));
    assert_eq!(longest.len(), V1_MAX_BYTES);
    assert_eq!(header(longest.as_bytes()).unwrap(), None);
}

#[test]
fn a_line_that_is_malformed_is_refused() {
    for line in [
        "PROXY TCP4 10.0.0.1 10.0.0.2 4660 80\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 4660 80 \r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 4660 80 1\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 4660\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2\r\n",
        "PROXY TCP4 10.0.0.1\r\n",
        "PROXY TCP4\r\n\r\n",
        "PROXY TCP4  10.0.0.1 10.0.0.2 4660 80\r\n",
        "PROXY  TCP4 10.0.0.1 10.0.0.2 4660 80\r\n",
        "PROXY TCP4\t10.0.0.1 10.0.0.2 4660 80\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 65536 80\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 -1 80\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 +1 80\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 01 80\r\n",
        "PROXY TCP4 10.0.0.1 10.0.0.2 4660 \r\n",
        "PROXY TCP4 10.0.0.256 10.0.0.2 4660 80\r\n",
        "PROXY TCP4 10.0.0.01 10.0.0.2 4660 80\r\n",
        "PROXY TCP4 ::1 ::1 4660 80\r\n",
        "PROXY TCP6 10.0.0.1 10.0.0.2 4660 80\r\n",
        "PROXY TCP6 [::1] ::1 4660 80\r\n",
        "PROXY TCP6 ::1%eth0 ::1 4660 80\r\n",
        "PROXY UDP4 10.0.0.1 10.0.0.2 4660 80\r\n",
        "PROXY tcp4 10.0.0.1 10.0.0.2 4660 80\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n and more\r\n",
    ] {
        let refused = header(line.as_bytes());
        assert!(matches!(refused, Err(ProxyHeaderError::Malformed(_))), "{line:?}: {refused:?}");
    }
    let refused = header(b"PROXY TCP4 10.0.0.1\xff 10.0.0.2 1 2\r\n");
    assert!(matches!(refused, Err(ProxyHeaderError::Malformed(_))), "{refused:?}");
}

#[test]
fn a_line_beyond_the_bound_is_refused_without_its_end() {
    for line in [
        format!("PROXY UNKNOWN {}\r\n", "f".repeat(V1_MAX_BYTES - 15)),
        format!("PROXY UNKNOWN {}", "f".repeat(1 << 20)),
    ] {
        assert!(matches!(header(line.as_bytes()), Err(ProxyHeaderError::TooLong(_))));
    }
}

#[test]
fn what_is_no_header_is_refused() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PROXYTCP4 10.0.0.1",
        b"proxy TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
        b" PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
        b"\r\n\r\n\0\r\nQUIT\r\x21\x11\0\x0c",
        &[0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 0, 0],
    ] {
        assert!(matches!(header(bytes), Err(ProxyHeaderError::Missing)), "{bytes:?}");
    }
}

#[test]
fn a_header_in_bytes_tells_both_ends() {
    assert_eq!(header(&v2(0x21, 0x11, &IPV4)).unwrap(), Some(told("10.0.0.1:4660", "10.0.0.2:80")));
    // What follows the addresses is not looked at.
    let with_more = [&IPV4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    assert_eq!(
        header(&v2(0x21, 0x11, &with_more)).unwrap(),
        Some(told("10.0.0.1:4660", "10.0.0.2:80"))
    );
    let mut ipv6 = [0; 36];
    (ipv6[0], ipv6[1], ipv6[15], ipv6[31]) = (0x20, 0x01, 1, 2);
    ipv6[32..].copy_from_slice(&[0x12, 0x34, 0, 80]);
    assert_eq!(header(&v2(0x21, 0x21, &ipv6)).unwrap(), Some(told("[2001::1]:4660", "[::2]:80")));
    let longest = [&IPV4[..], &vec![0; V2_MAX_BYTES - IPV4.len()]].concat();
    assert!(header(&v2(0x21, 0x11, &longest)).unwrap().is_some());
}

#[test]
fn a_proxy_that_speaks_for_itself_or_for_nobody_known_tells_nothing() {
    for header_bytes in [
        v2(0x20, 0x00, &[]),
        v2(0x20, 0x11, &IPV4),
        // Whatever it says beside that.
        v2(0x20, 0xff, &[1, 2, 3]),
        v2(0x21, 0x00, &[]),
        v2(0x21, 0x00, &IPV4),
    ] {
        assert_eq!(header(&header_bytes).unwrap(), None, "{header_bytes:?}");
    }
}

#[test]
fn a_header_in_bytes_that_is_malformed_is_refused() {
    for header_bytes in [
        v2(0x11, 0x11, &IPV4),
        v2(0x31, 0x11, &IPV4),
        v2(0x01, 0x11, &IPV4),
        v2(0x22, 0x11, &IPV4),
        v2(0x2f, 0x11, &IPV4),
        v2(0x21, 0x11, &IPV4[..11]),
        v2(0x21, 0x11, &[]),
        v2(0x21, 0x21, &IPV4),
        v2(0x21, 0x10, &IPV4),
        v2(0x21, 0x13, &IPV4),
        v2(0x21, 0x41, &IPV4),
        v2(0x21, 0x01, &IPV4),
        v2(0x21, 0xff, &IPV4),
    ] {
        let refused = header(&header_bytes);
        assert!(matches!(refused, Err(ProxyHeaderError::Malformed(_))), "{header_bytes:?}");
    }
    for family in [0x12, 0x22, 0x31, 0x32] {
        let refused = header(&v2(0x21, family, &[0; 216]));
        assert!(matches!(refused, Err(ProxyHeaderError::Unsupported)), "{family:#x}");
    }
    let too_long = v2(0x21, 0x11, &vec![0; V2_MAX_BYTES + 1]);
    assert!(matches!(header(&too_long), Err(ProxyHeaderError::TooLong(_))));
}

#[test]
fn a_connection_that_ends_within_its_header_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let line = b"PROXY TCP4 10.0.0.1 10.0.0.2 4660 80\r\n";
    for whole in [&line[..], &v2(0x21, 0x11, &IPV4)] {
        for len in 0..whole.len() {
            let mut stream = Pieces { rest: &whole[..len], piece: len.max(1) };
            let refused = runtime.block_on(read(&mut stream));
            assert!(matches!(refused, Err(ProxyHeaderError::Ended(_))), "{len}: {refused:?}");
        }
    }
}
