//! Connections with network plugins that end early, on one side or in a plugin.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc;
use std::time::Duration;

use wasmplug_proxy::ProxyConfig;

use super::tcp::{as_tcp, network, start, story};
use crate::harness::{RawUpstream, Setup, TcpClient};

#[test]
fn what_a_dead_plugin_kept_of_the_other_direction_goes_on() {
    let (go_on, is_held) = mpsc::channel();
    let is_held = Mutex::new(is_held);
    let upstream = RawUpstream::start(move |mut stream| {
        stream.write_all(b"1").unwrap();
        is_held.lock().unwrap().recv().unwrap();
        stream.write_all(b"die").unwrap();
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&bytes).unwrap();
    });
    let plugin = network(
        "on downstream_data:
            (call $bump 'held')
            (return #pause)
        on upstream_data:
            (if (call $shown #upstream 'die') (then (unreachable)))",
    );
    let proxy = start(&upstream, [plugin.fail_open()]);
    let mut client = TcpClient::connect(&proxy);
    assert_eq!(client.read(1), "1");
    client.send("hello");
    proxy.wait_for_stat("held 1");
    go_on.send(()).unwrap();
    assert_eq!(client.read_to_end(), "diehello");
}

#[test]
fn http_that_is_over_ends_a_connection_whose_client_stays_silent() {
    let proxy = Setup::new().admin().plugin(story("")).start();
    let mut client = TcpClient::connect(&proxy);
    client.send("GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n");
    assert!(client.read_to_end().starts_with("HTTP/1.1 200 OK\r\n"));
    proxy.wait_until_idle();
    let told = proxy.told();
    assert_eq!(told[told.len() - 4..], ["downstream closed by 1", "done", "log", "delete"]);
}

#[test]
fn an_answer_passes_also_when_http_takes_no_more_of_the_request() {
    let proxy = Setup::new().plugin(network("on new_connection:\n")).start();
    let mut client = TcpClient::connect(&proxy);
    client.send(&format!("no request at all\r\n\r\n{}", "x".repeat(200 << 10)));
    assert!(client.read_to_end().starts_with("HTTP/1.1 400 Bad Request\r\n"));
}

#[test]
fn who_never_heard_of_a_connection_does_not_hear_of_its_end() {
    let upstream = RawUpstream::echo();
    let stopping = network("on new_connection:\n(call $bump 'held')\n(return #pause)");
    let proxy = start(&upstream, [stopping, story("")]);
    let client = TcpClient::connect(&proxy);
    proxy.wait_for_stat("held 1");
    client.reset();
    let told = proxy.stop();
    // The end of the plugin itself.
    assert_eq!(told, ["done", "delete"]);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_connection_that_a_drain_cuts_ends_for_its_plugins() {
    let upstream = RawUpstream::echo();
    let address = upstream.address().into();
    let tune = move |config: &mut ProxyConfig| {
        as_tcp(config, address);
        config.limits.drain_timeout = Duration::ZERO;
    };
    let proxy = Setup::new().tune(tune).plugin(story("")).start();
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    let told = proxy.stop();
    let end = ["downstream closed by 1", "done", "log", "delete"];
    assert!(told.windows(end.len()).any(|lines| lines == end), "{told:?}");
}
