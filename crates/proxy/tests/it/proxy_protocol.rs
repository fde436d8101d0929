//! Connections that a proxy in front forwards, with a header that tells whose they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use wasmplug_proxy::{ListenerProtocol, ProxyConfig};
use wasmplug_testkit::RawClient;

use crate::harness::{
    Authority, Dialer, Plugin, RawUpstream, Running, SERVER_NAME, Setup, permissive, strict,
};

const LINE: &str = "PROXY TCP4 10.1.2.3 10.9.9.9 4660 8443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a.test\r\n\r\n";

/// Tells both ends of the connection in headers of the response.
const TELLER: &str = "on response_headers:
    (call $add #response 'source' (call $property 'source\\00address'))
    (call $add #response 'destination' (call $property 'destination\\00address'))";

fn with_proxy_protocol(config: &mut ProxyConfig) {
    config.has_proxy_protocol = true;
}

fn setup() -> Setup {
    Setup::new().tune(with_proxy_protocol).admin().plugin(Plugin::guest(TELLER))
}

fn address(proxy: &Running) -> SocketAddr {
    proxy.proxy().listen_address()
}

fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[version_and_command, family], &len, rest].concat()
}

const IPV4: [u8; 12] = [10, 1, 2, 3, 10, 9, 9, 9, 0x12, 0x34, 0x20, 0xfb];

/// Source and destination that a plugin sees behind this header, sent in pieces of a size.
fn ends(proxy: &Running, header: &[u8], piece: usize) -> (String, String) {
    let mut client = RawClient::connect(address(proxy)).unwrap();
    let bytes = [header, REQUEST.as_bytes()].concat();
    let (last, first) = bytes.split_last().unwrap();
    first.chunks(piece).for_each(|piece| client.send(piece).unwrap());
    let response = client.exchange([*last]).unwrap();
    assert_eq!(response.status, 200);
    let told = |name: &str| response.header(name).unwrap().to_owned();
    (told("source"), told("destination"))
}

/// Whether a connection is closed without an answer.
fn is_closed(proxy: &Running, bytes: &[u8]) -> bool {
    let mut stream = TcpStream::connect(address(proxy)).unwrap();
    stream.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
    // Who is closed already may not get all of it.
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => said.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn the_address_that_was_told_is_the_clients() {
    let proxy = setup().start();
    let expected = ("10.1.2.3:4660".to_owned(), "10.9.9.9:8443".to_owned());
    for header in [LINE.as_bytes(), &v2(0x21, 0x11, &IPV4)] {
        for piece in [1, 20, 1000] {
            assert_eq!(ends(&proxy, header, piece), expected);
        }
    }
    let line = b"PROXY TCP6 2001:db8::7 ::1 4660 80\r\n";
    let expected = ("[2001:db8::7]:4660".to_owned(), "[::1]:80".to_owned());
    assert_eq!(ends(&proxy, line, 1000), expected);
}

#[test]
fn without_an_address_in_it_the_connections_own_counts() {
    let proxy = setup().start();
    let own = address(&proxy).to_string();
    for header in [&b"PROXY UNKNOWN\r\n"[..], &v2(0x20, 0, &[]), &v2(0x21, 0, &IPV4)] {
        let (source, destination) = ends(&proxy, header, 1000);
        assert!(source.starts_with("127.0.0.1:"), "{source}");
        assert_eq!(destination, own);
    }
}

#[test]
fn a_connection_without_a_good_header_is_closed() {
    let proxy = setup().start();
    let request = REQUEST.as_bytes();
    let headers = [
        &b""[..],
        b"PROXY TCP4 10.1.2.3 10.9.9.9 4660\r\n",
        b"PROXY TCP4 999.1.2.3 10.9.9.9 4660 80\r\n",
        b"PROXY TCP6 10.1.2.3 10.9.9.9 4660 80\r\n",
        &v2(0x31, 0x11, &IPV4),
        &v2(0x23, 0x11, &IPV4),
        &v2(0x21, 0x11, &IPV4[..8]),
        &v2(0x21, 0x31, &[0; 216]),
        &v2(0x21, 0x55, &IPV4),
    ];
    for header in headers {
        assert!(is_closed(&proxy, &[header, request].concat()), "{header:?}");
    }
    proxy.wait_for_stat(&format!("wasmplug_proxy_protocol_rejected_total {}", headers.len()));
    assert!(proxy.upstream().received().is_empty());
    // Others are served as ever.
    ends(&proxy, LINE.as_bytes(), 1000);
}

#[test]
fn a_listener_that_was_not_asked_for_it_takes_no_header() {
    let proxy = Setup::new().plugin(Plugin::guest(TELLER)).start();
    let answer = RawClient::connect(address(&proxy)).unwrap().exchange([LINE, REQUEST].concat());
    assert_eq!(answer.unwrap().status, 400);
    assert!(proxy.upstream().received().is_empty());
}

#[test]
fn a_header_that_does_not_come_is_not_waited_for() {
    let tune = |config: &mut ProxyConfig| {
        config.has_proxy_protocol = true;
        config.limits.handshake_timeout = Duration::from_millis(20);
    };
    let proxy = Setup::new().tune(tune).admin().start();
    for bytes in
        [&b""[..], b"PROXY", b"PROXY TCP4 10.1.2.3", &SIGNATURE[..12], &v2(0x21, 0x11, &IPV4)[..20]]
    {
        assert!(is_closed(&proxy, bytes), "{bytes:?}");
    }
    proxy.wait_for_stat("envoy_listener_downstream_pre_cx_timeout_total 5");
}

#[test]
fn policies_judge_the_address_that_was_told() {
    for (block, expected) in [("10.1.0.0/16", 200), ("127.0.0.0/8", 403)] {
        for field in ["ipBlocks", "remoteIpBlocks"] {
            let policy = format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                 metadata: {{name: p, namespace: default}}\n\
                 spec: {{rules: [{{from: [{{source: {{{field}: [{block}]}}}}]}}]}}\n"
            );
            let proxy = Setup::new().tune(with_proxy_protocol).resources(&policy).start();
            let mut client = RawClient::connect(address(&proxy)).unwrap();
            let response = client.exchange([LINE, REQUEST].concat()).unwrap();
            assert_eq!(response.status, expected, "{field} {block}");
        }
    }
}

#[test]
fn the_header_stands_in_front_of_tls() {
    let authority = Authority::new();
    for mode in [strict, permissive] {
        let settings = mode(authority.server());
        let setup = Setup::new().plugin(Plugin::guest(TELLER)).tune(|config| {
            config.has_proxy_protocol = true;
            config.tls = Some(settings);
        });
        let proxy = setup.start();
        let mut stream = TcpStream::connect(address(&proxy)).unwrap();
        stream.write_all(LINE.as_bytes()).unwrap();
        let mut client = Dialer::new(&authority).connect_over(stream).unwrap();
        let answer = client.get("/").unwrap();
        assert_eq!(answer.header("source"), Some("10.1.2.3:4660"));
        assert!(answer.text().contains(SERVER_NAME));
        assert!(Dialer::new(&authority).is_refused(address(&proxy)));
    }
}

#[test]
fn tcp_behind_a_header_begins_right_behind_it() {
    let upstream = RawUpstream::echo();
    let to = upstream.address().into();
    let tell = "on new_connection:\n (call $log (call $property 'source\\00address'))";
    let setup = Setup::new().plugin(Plugin::guest(tell).network()).tune(move |config| {
        config.has_proxy_protocol = true;
        config.listener = ListenerProtocol::Tcp;
        config.upstream = to;
    });
    let proxy = setup.start();
    let mut stream = TcpStream::connect(address(&proxy)).unwrap();
    stream.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
    stream.write_all(&[LINE.as_bytes(), b"hello"].concat()).unwrap();
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"hello");
    proxy.assert_log(&["10.1.2.3:4660"]);
}
