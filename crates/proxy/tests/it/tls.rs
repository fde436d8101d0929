//! Clients that speak TLS.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use wasmplug_proxy::{ListenerProtocol, TlsCredentials, TlsOptions};
use wasmplug_testkit::RawClient;

use crate::harness::{
    Authority, Dialer, Plugin, RawUpstream, Running, SERVER_NAME, Setup, eventually, permissive,
    strict,
};

/// Tells what it sees of the connection in headers of the request.
const TELLER: &str = "on request_headers:
    (call $add #request 'x-got-scheme' (call $get #request ':scheme'))
    (call $add #request 'x-got-attribute' (call $property 'request\\00scheme'))
    (call $add #request 'x-got-version' (call $property 'connection\\00tls_version'))
    (call $add #request 'x-got-name' (call $property 'connection\\00requested_server_name'))";

fn address(proxy: &Running) -> SocketAddr {
    proxy.proxy().listen_address()
}

/// A proxy that speaks TLS alone.
fn start(authority: &Authority, plugins: impl IntoIterator<Item = Plugin>) -> Running {
    let settings = strict(authority.server());
    let setup = Setup::new().tune(|config| config.tls = Some(settings)).admin();
    plugins.into_iter().fold(setup, Setup::plugin).start()
}

/// Whether the other side closes without a word of its own.
fn is_closed_silently(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => said.is_empty(),
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn requests_over_tls_pass_plugins_that_know_of_it() {
    let authority = Authority::new();
    let proxy = start(&authority, [Plugin::guest(TELLER)]);
    for (version, name) in
        [(&rustls::version::TLS12, "TLSv1.2"), (&rustls::version::TLS13, "TLSv1.3")]
    {
        let dialer = Dialer::new(&authority).speaking(version);
        let mut client = dialer.connect(address(&proxy)).unwrap();
        // Several on one connection.
        for _ in 0..3 {
            assert_eq!(client.get("/").unwrap().status, 200);
        }
        let received = proxy.upstream().received();
        let received = received.last().unwrap();
        for (header, expected) in [
            ("x-got-scheme", "https"),
            ("x-got-attribute", "https"),
            ("x-got-version", name),
            ("x-got-name", SERVER_NAME),
            ("x-forwarded-proto", "https"),
        ] {
            assert_eq!(received.header(header), Some(expected), "{name}: {header}");
        }
    }
    proxy.wait_for_stat("envoy_listener_ssl_handshake_total 2");
}

#[test]
fn in_plain_text_nothing_of_it_is_there() {
    let proxy = Setup::new().plugin(Plugin::guest(TELLER)).start();
    proxy.get("/");
    // What a proxy in front tells counts for the scheme.
    proxy.exchange("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-proto: https\r\n\r\n");
    let received = proxy.upstream().received();
    for (received, scheme) in received.iter().zip(["http", "https"]) {
        assert_eq!(received.header("x-got-scheme"), Some(scheme));
        assert_eq!(received.header("x-forwarded-proto"), Some(scheme));
        assert_eq!(received.header("x-got-version"), Some("-"));
        assert_eq!(received.header("x-got-name"), Some(""));
    }
}

#[test]
fn without_plugins_requests_pass_as_well() {
    let authority = Authority::new();
    let proxy = start(&authority, []);
    let answer = Dialer::new(&authority).get(address(&proxy)).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(proxy.upstream().received()[0].header("x-forwarded-proto"), Some("https"));
}

#[test]
fn the_protocol_is_agreed_upon() {
    let authority = Authority::new();
    let proxy = start(&authority, []);
    let dialer = Dialer::new(&authority);
    for (offered, expected) in [
        (&["h2", "http/1.1"][..], Some(&b"h2"[..])),
        (&["http/1.1", "h2"], Some(b"h2")),
        (&["http/1.1"], Some(b"http/1.1")),
        (&["istio-http/1.1", "istio", "http/1.1"], Some(b"http/1.1")),
        (&[], None),
    ] {
        let client = dialer.offering(offered).connect(address(&proxy)).unwrap();
        assert_eq!(client.alpn(), expected, "{offered:?}");
    }
    let mut client = dialer.offering(&["http/1.1"]).connect(address(&proxy)).unwrap();
    assert_eq!(client.get("/").unwrap().status, 200);
    assert!(dialer.offering(&["smtp"]).connect(address(&proxy)).is_err());
}

#[test]
fn http2_over_tls_passes_plugins() {
    let authority = Authority::new();
    let proxy = start(&authority, [Plugin::guest(TELLER)]);
    let config = Dialer::new(&authority).offering(&["h2"]).config();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = address(&proxy);
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
        let io = TokioIo::new(stream);
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (mut sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        let uri = format!("https://{SERVER_NAME}/bytes/100000");
        let request = || Request::get(&uri).body(Empty::<Bytes>::new()).unwrap();
        let answers: Vec<_> = (0..10).map(|_| sender.send_request(request())).collect();
        for answer in answers {
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 100_000);
        }
    });
    for received in proxy.upstream().received() {
        assert_eq!(received.header("x-got-scheme"), Some("https"));
        assert_eq!(received.header("x-got-version"), Some("TLSv1.3"));
    }
}

#[test]
fn large_answers_arrive_whole_with_and_without_network_plugins() {
    let network = || Plugin::guest("on upstream_data:\n (return #0)").network();
    for plugins in [vec![], vec![network()], vec![network(), Plugin::guest(TELLER)]] {
        let authority = Authority::new();
        let proxy = start(&authority, plugins);
        let dialer = Dialer::new(&authority);
        let mut client = dialer.connect(address(&proxy)).unwrap();
        assert_eq!(client.get("/bytes/3000000").unwrap().body.len(), 3_000_000);
        // And the last one before the end.
        let request = "GET /bytes/1000000 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        assert_eq!(client.exchange(request).unwrap().body.len(), 1_000_000);
        assert!(client.is_ended());
    }
}

#[test]
fn tcp_over_tls_passes_network_plugins() {
    let authority = Authority::new();
    let upstream = RawUpstream::echo();
    let to = upstream.address().into();
    let options = TlsOptions { protocol: ListenerProtocol::Tcp, ..TlsOptions::default() };
    let settings = strict(authority.issue(SERVER_NAME, &[]).credentials(None, options));
    let teller = Plugin::guest(
        "on new_connection:
            (call $log (call $property 'connection\\00tls_version'))
         on downstream_data:
            (return #0)",
    );
    let setup = Setup::new().plugin(teller.network()).tune(move |config| {
        config.listener = ListenerProtocol::Tcp;
        config.upstream = to;
        config.tls = Some(settings);
    });
    let proxy = setup.start();
    // Nothing is agreed upon, whatever is offered.
    let mut client = Dialer::new(&authority).offering(&["smtp"]).connect(address(&proxy)).unwrap();
    assert_eq!(client.alpn(), None);
    for size in [5, 100_000, 5] {
        assert!(client.is_echoed(&"x".repeat(size)));
    }
    proxy.assert_log(&["TLSv1.3"]);
    let mut plain = TcpStream::connect(address(&proxy)).unwrap();
    plain.write_all(b"hello").unwrap();
    let mut alert = Vec::new();
    // An alert, and nothing of the upstream.
    let _ = plain.read_to_end(&mut alert);
    assert!(!alert.windows(5).any(|bytes| bytes == b"hello"));
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn new_credentials_are_shown_to_new_connections_and_no_request_is_lost() {
    let authority = Authority::new();
    let identities = [(); 2].map(|()| authority.issue(SERVER_NAME, &[]));
    let credentials =
        [0, 1].map(|at: usize| identities[at].credentials(None, TlsOptions::default()));
    let settings = strict(Arc::clone(&credentials[0]));
    let setup = Setup::new().plugin(Plugin::guest(TELLER)).admin().tune(|config| {
        config.tls = Some(settings);
        config.workers = 2;
    });
    let proxy = setup.start();
    let (address, dialer) = (address(&proxy), Dialer::new(&authority));
    let (is_over, on_old, on_new) =
        (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let mut old = dialer.connect(address).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                assert_eq!(old.get("/").unwrap().status, 200);
                on_old.fetch_add(1, Ordering::Release);
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Acquire) {
                assert_eq!(dialer.get(address).unwrap().status, 200);
                on_new.fetch_add(1, Ordering::Release);
            }
        });
        for round in 1..=20 {
            let at = round % 2;
            proxy.proxy().tls().unwrap().replace(Arc::clone(&credentials[at]));
            let shown = dialer.connect(address).unwrap().shown();
            assert!(shown == identities[at].der(), "round {round}");
            let before = [&on_old, &on_new].map(|count| count.load(Ordering::Acquire));
            let moved = |at: usize, count: &AtomicUsize| count.load(Ordering::Acquire) > before[at];
            eventually(|| moved(0, &on_old) && moved(1, &on_new));
        }
        is_over.store(true, Ordering::Release);
    });
    assert!(old.shown() == identities[0].der());
    proxy.wait_for_stat("wasmplug_tls_reloads_total{result=\"accepted\"} 20");
}

#[test]
fn credentials_that_were_rejected_change_nothing_and_are_told() {
    let authority = Authority::new();
    let (identity, other) = (authority.issue(SERVER_NAME, &[]), authority.issue("b.test", &[]));
    let settings = strict(identity.credentials(None, TlsOptions::default()));
    let proxy = Setup::new().admin().tune(|config| config.tls = Some(settings)).start();
    let dump = || proxy.admin("/config_dump").json().unwrap()["listener"]["tls"].clone();
    assert!(dump()["rejected"].is_null());
    assert_eq!(dump()["credentials"]["dns_san"], SERVER_NAME);
    let not_after = dump()["credentials"]["not_after"].as_str().unwrap().to_owned();
    assert!(not_after.ends_with("GMT"), "{not_after}");
    let (certificate, key) = (other.certificate.as_bytes(), identity.key.as_bytes());
    let refused = TlsCredentials::from_pem(certificate, key, None, TlsOptions::default());
    let tls = proxy.proxy().tls().unwrap();
    tls.reject(refused.unwrap_err().to_string());
    let shown = Dialer::new(&authority).connect(address(&proxy)).unwrap().shown();
    assert!(shown == identity.der());
    let told = dump()["rejected"].as_str().unwrap().to_owned();
    assert!(told.contains("does not belong"), "{told}");
    proxy.wait_for_stat("wasmplug_tls_reloads_total{result=\"rejected\"} 1");
    let page = proxy.admin("/stats/prometheus").text();
    assert!(
        page.lines().any(|line| line.starts_with("wasmplug_tls_certificate_not_after_seconds "))
    );
    // A good one ends it.
    tls.replace(authority.server());
    assert!(dump()["rejected"].is_null());
}

#[test]
fn what_is_no_handshake_is_closed_without_an_answer_of_http() {
    let authority = Authority::new();
    let proxy = start(&authority, []);
    let mut garbage = vec![0x16, 3, 1, 0xff, 0xff];
    garbage.extend(std::iter::repeat_n(0xaa, 20_000));
    let requests =
        [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], &[0; 64], b"PRI * HTTP/2.0\r\n\r\n", &garbage];
    for bytes in requests {
        let mut stream = TcpStream::connect(address(&proxy)).unwrap();
        stream.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
        // Who is closed already may not get all of it.
        let _ = stream.write_all(bytes);
        let mut said = Vec::new();
        let end = stream.read_to_end(&mut said);
        let is_late = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!is_late && !said.starts_with(b"HTTP"), "{said:?}");
    }
    proxy.wait_for_stat("envoy_listener_ssl_connection_error_total 4");
    assert!(proxy.upstream().received().is_empty());
    // Others are served as ever.
    assert_eq!(Dialer::new(&authority).get(address(&proxy)).unwrap().status, 200);
}

#[test]
fn a_handshake_that_takes_too_long_is_closed() {
    let authority = Authority::new();
    let settings = strict(authority.server());
    let setup = Setup::new().admin().tune(|config| {
        config.tls = Some(settings);
        config.limits.handshake_timeout = Duration::from_millis(20);
    });
    let proxy = setup.start();
    // Nothing at all, and the beginning of a record.
    for bytes in [&b""[..], &[0x16, 3, 1, 2, 0, 1, 0]] {
        let mut stream = TcpStream::connect(address(&proxy)).unwrap();
        stream.write_all(bytes).unwrap();
        assert!(is_closed_silently(&mut stream));
    }
    proxy.wait_for_stat("envoy_listener_downstream_pre_cx_timeout_total 2");
}

#[test]
fn a_permissive_listener_tells_plain_text_by_the_first_byte() {
    let authority = Authority::new();
    let settings = permissive(authority.server());
    let proxy = Setup::new().tune(|config| config.tls = Some(settings)).start();
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(Dialer::new(&authority).get(address(&proxy)).unwrap().status, 200);
    let received = proxy.upstream().received();
    assert_eq!(received[0].header("x-forwarded-proto"), Some("http"));
    assert_eq!(received[1].header("x-forwarded-proto"), Some("https"));
    // In pieces of one byte.
    let mut client = RawClient::connect(address(&proxy)).unwrap();
    for byte in b"GET / HTTP/1.1\r\nhost: a\r\n" {
        client.send([*byte]).unwrap();
    }
    assert_eq!(client.exchange("\r\n").unwrap().status, 200);
}

#[test]
fn a_permissive_listener_goes_on_in_plain_text_with_a_client_that_waits() {
    let authority = Authority::new();
    let upstream = RawUpstream::start(|mut stream| {
        let _ = stream.write_all(b"hello");
    });
    let (to, settings) = (upstream.address().into(), permissive(authority.server()));
    let setup = Setup::new().tune(move |config| {
        config.listener = ListenerProtocol::Tcp;
        config.upstream = to;
        config.tls = Some(settings);
        config.limits.handshake_timeout = Duration::from_millis(20);
    });
    let proxy = setup.start();
    let mut stream = TcpStream::connect(address(&proxy)).unwrap();
    stream.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
    let mut said = [0; 5];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"hello");
}

#[test]
fn a_proxy_that_stops_does_not_wait_for_handshakes() {
    let authority = Authority::new();
    let proxy = start(&authority, []);
    let mut stream = TcpStream::connect(address(&proxy)).unwrap();
    stream.write_all(&[0x16]).unwrap();
    proxy.wait_for_stat("envoy_http_downstream_cx_active 1");
    proxy.stop();
    assert!(is_closed_silently(&mut stream));
}
