//! Several workers, and ports.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use wasmplug_host::Host;
use wasmplug_proxy::{Proxy, ProxyConfig, StartProxyError};

use crate::harness::{Plugin, Setup};

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
