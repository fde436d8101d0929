//! How much of an upstream a cluster may use.

use std::time::Duration;

use wasmplug_proxy::{ProxyConfig, UpstreamOptions};
use wasmplug_testkit::{RawClient, Received, Response, Scripted, Upstream};

use super::fine;
use crate::harness::{Running, Setup, eventually};

/// In front of an upstream that never answers to `/hang`.
fn start(scheme: &'static str, tune: impl FnOnce(&mut UpstreamOptions) + 'static) -> Running {
    let upstream = Upstream::scripted(|received: &Received| match received.path.as_str() {
        "/hang" => Scripted::never(),
        _ => fine(received),
    });
    let tune = move |config: &mut ProxyConfig| {
        config.upstream = format!("{scheme}{}", config.upstream).parse().unwrap();
        tune(&mut config.upstreams);
    };
    Setup::new().upstream(upstream).tune(tune).admin().start()
}

/// A request that the upstream has and does not answer.
fn hang(proxy: &Running) -> RawClient {
    let before = proxy.upstream().received().len();
    let client = ask(proxy, "/hang");
    eventually(|| proxy.upstream().received().len() > before);
    client
}

fn ask(proxy: &Running, path: &str) -> RawClient {
    let mut client = proxy.client();
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).unwrap();
    client
}

fn assert_overflow(response: &Response) {
    assert_eq!(response.status, 503);
    let reason =
        "upstream connect error or disconnect/reset before headers. reset reason: overflow";
    assert_eq!(response.text(), reason);
    assert_eq!(response.header("x-envoy-overloaded"), Some("true"));
}

fn of(name: &str, value: u64) -> String {
    format!(r#"{name}{{envoy_cluster_name="upstream"}} {value}"#)
}

#[test]
fn requests_beyond_the_connections_wait_and_those_beyond_them_are_refused() {
    let proxy = start("", |options| {
        options.max_connections = 1;
        options.max_pending_requests = 1;
    });
    let hanging = hang(&proxy);
    let mut waiting = ask(&proxy, "/");
    proxy.wait_for_stat(&of("envoy_cluster_upstream_rq_pending_active", 1));
    assert_overflow(&proxy.get("/"));
    proxy.wait_for_stat(&of("envoy_cluster_upstream_rq_pending_overflow_total", 1));
    proxy.wait_for_stat(&of("envoy_cluster_upstream_cx_active", 1));
    drop(hanging);
    assert_eq!(waiting.read_response().unwrap().text(), "fine");
    proxy.wait_for_stat(&of("envoy_cluster_upstream_rq_pending_active", 0));
    proxy.wait_for_stat(&of("envoy_cluster_upstream_rq_active", 0));
}

#[test]
fn a_request_that_waits_gets_the_connection_that_another_one_gives_back() {
    let proxy = start("", |options| options.max_connections = 1);
    let mut first = proxy.client();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n";
    first.send(head).unwrap();
    proxy.wait_for_stat(&of("envoy_cluster_upstream_cx_active", 1));
    let mut second = ask(&proxy, "/");
    let mut leaving = ask(&proxy, "/");
    proxy.wait_for_stat(&of("envoy_cluster_upstream_rq_pending_active", 2));
    leaving = {
        drop(leaving);
        ask(&proxy, "/")
    };
    first.send("xy").unwrap();
    assert_eq!(first.read_response().unwrap().text(), "fine");
    assert_eq!(second.read_response().unwrap().text(), "fine");
    assert_eq!(leaving.read_response().unwrap().text(), "fine");
    assert_eq!(proxy.upstream().connections(), 1);
}

#[test]
fn within_the_limits_nothing_waits() {
    let proxy = start("", |options| options.max_connections = 2);
    let _hanging = hang(&proxy);
    assert_eq!(proxy.get("/").text(), "fine");
    proxy.wait_for_stat(&of("envoy_cluster_upstream_cx_active", 2));
    proxy.wait_for_stat(&of("wasmplug_upstream_cx_idle", 1));
    proxy.wait_for_stat(&of("envoy_cluster_upstream_cx_overflow_total", 0));
}

#[test]
fn requests_of_http2_beyond_the_limit_are_refused() {
    let proxy = start("h2c://", |options| options.max_requests = 1);
    let hanging = hang(&proxy);
    assert_overflow(&proxy.get("/"));
    drop(hanging);
    proxy.wait_for_stat(&of("envoy_cluster_upstream_rq_active", 0));
    assert_eq!(proxy.get("/").text(), "fine");
}

#[test]
fn requests_of_http2_share_a_connection_up_to_the_limit() {
    for (streams, connections) in [(1, 2), (2, 1)] {
        let proxy = start("h2c://", move |options| options.streams_per_connection = streams);
        let _hanging = hang(&proxy);
        assert_eq!(proxy.get("/").text(), "fine");
        assert_eq!(proxy.upstream().connections(), connections, "{streams} streams");
    }
}

#[test]
fn requests_of_http2_wait_for_a_place() {
    let proxy = start("h2c://", |options| {
        options.streams_per_connection = 1;
        options.max_connections = 1;
    });
    let hanging = hang(&proxy);
    let mut waiting = ask(&proxy, "/");
    proxy.wait_for_stat(&of("envoy_cluster_upstream_rq_pending_active", 1));
    drop(hanging);
    assert_eq!(waiting.read_response().unwrap().text(), "fine");
    assert_eq!(proxy.upstream().connections(), 1);
}

#[test]
fn a_connection_serves_so_many_requests() {
    for scheme in ["", "h2c://"] {
        for (most, connections) in [(2, 3), (0, 1)] {
            let proxy = start(scheme, move |options| options.requests_per_connection = most);
            let mut client = proxy.client();
            for _ in 0..6 {
                assert_eq!(client.get("/").unwrap().text(), "fine");
            }
            assert_eq!(proxy.upstream().connections(), connections, "{scheme}{most}");
        }
    }
}

#[test]
fn idle_connections_are_closed_after_a_while() {
    for scheme in ["", "h2c://"] {
        let proxy = start(scheme, |options| options.idle_timeout = Duration::ZERO);
        assert_eq!(proxy.get("/").text(), "fine");
        proxy.wait_for_stat(&of("envoy_cluster_upstream_cx_active", 0));
        proxy.wait_for_stat(&of("wasmplug_upstream_cx_idle", 0));
        assert_eq!(proxy.get("/").text(), "fine");
        assert_eq!(proxy.upstream().connections(), 2);
    }
}

#[test]
fn no_more_idle_connections_are_kept_than_allowed() {
    let setup = Setup::new().tune(|config| config.limits.idle_upstream_connections = 1);
    let proxy = setup.admin().start();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n";
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        client.send(head).unwrap();
    }
    proxy.wait_for_stat(&of("envoy_cluster_upstream_cx_active", 2));
    for client in &mut clients {
        client.send("x").unwrap();
        assert_eq!(client.read_response().unwrap().status, 200);
    }
    proxy.wait_for_stat(&of("envoy_cluster_upstream_cx_active", 1));
    proxy.wait_for_stat(&of("wasmplug_upstream_cx_idle", 1));
}
