//! Several workers, and ports.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use wasmplug_host::Host;
use wasmplug_proxy::{Proxy, ProxyConfig, StartProxyError};
use wasmplug_testkit::{RawClient, patience};

use crate::harness::{Authority, Dialer, Plugin, Running, Setup, eventually, strict};

#[test]
fn all_workers_serve() {
    const WORKERS: usize = 3;
    let counts = Plugin::guest(
        "on response_headers:
            (call $add #response 'x-n' (call $decimal (call $count)))",
    );
    let proxy = Setup::new().tune(|config| config.workers = WORKERS).plugin(counts).start();
    // The system spreads connections; each worker has a VM of its own, which counts for itself.
    let firsts = (0..100).filter(|_| proxy.get("/").header("x-n") == Some("1")).count();
    assert_eq!(firsts, WORKERS);
    assert_eq!(proxy.specs()[0].stats.running(), u64::try_from(WORKERS).unwrap());
}

#[test]
fn a_port_that_is_taken_is_an_error_with_a_hint() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let base = || ProxyConfig::new(address.into());
    for (config, option) in [
        (ProxyConfig { listen: address, ..base() }, "--listen"),
        (ProxyConfig { listen: address, workers: 2, ..base() }, "--listen"),
        (ProxyConfig { admin: Some(address), ..base() }, "--admin"),
    ] {
        let error = Proxy::start(config, Arc::new(Host::new().unwrap())).unwrap_err();
        assert!(matches!(error, StartProxyError::Listen { .. }), "{error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        let hint = error.hint().unwrap();
        assert!(hint.contains(&format!("`{option} 127.0.0.1:0`")), "{hint}");
    }
}

#[test]
fn a_proxy_that_stops_lets_streams_end() {
    let proxy = Setup::new().tune(|config| config.workers = 2).start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n").unwrap();
    let idle = proxy.client();
    client.send("body").unwrap();
    assert_eq!(client.read_response().unwrap().status, 200);
    drop(idle);
    // Ends the idle connection of `client` in good order.
    drop(proxy);
    assert_eq!(client.read_to_close().unwrap(), b"");
}

/// Stops a proxy while a connection has asked for nothing, lets it ask once nobody else can connect,
/// and returns what it got.
fn ask_during_the_stop<C: Send>(
    proxy: Running,
    client: C,
    ask: impl FnOnce(C) -> u16 + Send,
) -> u16 {
    let listen = proxy.proxy().listen_address();
    std::thread::scope(|scope| {
        let asked = scope.spawn(move || {
            eventually(|| RawClient::connect(listen).is_err());
            ask(client)
        });
        drop(proxy);
        asked.join().unwrap()
    })
}

#[test]
fn the_first_request_of_a_connection_is_answered_while_the_proxy_stops() {
    let setup = Setup::new().admin();
    let proxy = setup.tune(|config| config.limits.last_call_timeout = patience()).start();
    let client = proxy.client();
    proxy.wait_for_stat("envoy_http_downstream_cx_active 1");
    let status = ask_during_the_stop(proxy, client, |mut client| client.get("/").unwrap().status);
    assert_eq!(status, 200);
}

#[test]
fn so_is_that_of_one_that_has_to_agree_on_tls_first() {
    let authority = Authority::new();
    let settings = strict(authority.server());
    let setup = Setup::new().admin().tune(|config| {
        config.tls = Some(settings);
        config.limits.last_call_timeout = patience();
    });
    let proxy = setup.start();
    let stream = TcpStream::connect(proxy.proxy().listen_address()).unwrap();
    proxy.wait_for_stat("envoy_http_downstream_cx_active 1");
    let status = ask_during_the_stop(proxy, stream, |stream| {
        let mut client = Dialer::new(&authority).connect_over(stream).unwrap();
        client.get("/").unwrap().status
    });
    assert_eq!(status, 200);
}

#[test]
fn a_connection_that_asks_for_nothing_is_not_waited_for() {
    let setup = Setup::new().admin().tune(|config| {
        config.limits.drain_timeout = Duration::from_hours(1);
        config.limits.last_call_timeout = Duration::from_millis(1);
    });
    let proxy = setup.start();
    let mut client = proxy.client();
    proxy.wait_for_stat("envoy_http_downstream_cx_active 1");
    drop(proxy);
    assert_eq!(client.read_to_close().unwrap(), b"");
}
