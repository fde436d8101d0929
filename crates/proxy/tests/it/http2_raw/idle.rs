//! Connections on which nobody asks for anything.

use std::io::Write as _;
use std::sync::{Arc, Barrier};
use std::time::Duration;

use super::client::Client;
use super::frames::{END_STREAM, GET, block, get, raw_headers};
use crate::harness::{RawUpstream, Running, Setup, read_head};

fn hasty() -> Setup {
    let timeout = Duration::from_millis(1);
    Setup::new().admin().tune(move |config| config.limits.connection_idle_timeout = timeout)
}

fn wait_for_connections(proxy: &Running, count: u32) {
    proxy.wait_for_stat(&format!("envoy_http_downstream_cx_active {count}"));
}

#[test]
fn a_connection_without_streams_is_closed() {
    let proxy = hasty().start();
    let _silent = Client::open(&proxy);
    proxy.wait_for_stat("envoy_http_downstream_cx_total 1");
    wait_for_connections(&proxy, 0);
}

#[test]
fn a_head_that_does_not_end_is_no_stream() {
    let proxy = hasty().start();
    let mut client = Client::open(&proxy);
    client.send(&raw_headers(1, END_STREAM, &block(GET)));
    proxy.wait_for_stat("envoy_http_downstream_cx_total 1");
    wait_for_connections(&proxy, 0);
    assert!(proxy.upstream().received().is_empty());
}

#[test]
fn a_connection_with_a_stream_that_takes_long_is_not_idle() {
    let (asked, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let waits = [Arc::clone(&asked), Arc::clone(&go_on)];
    let upstream = RawUpstream::start(move |mut stream| {
        read_head(&mut stream);
        for barrier in &waits {
            barrier.wait();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let address = upstream.address();
    let proxy = hasty().tune(move |config| config.upstream = address.into()).start();
    let mut client = Client::open(&proxy);
    client.send(&get(1, &[]));
    asked.wait();
    // Time for one that is idle to be found out.
    let _silent = Client::open(&proxy);
    proxy.wait_for_stat("envoy_http_downstream_cx_total 2");
    wait_for_connections(&proxy, 1);
    go_on.wait();
    assert_eq!(client.end_of(1), "200");
}
