//! Clusters of several endpoints: which one a request goes to, and which ones are left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmplug_proxy::{EjectionOptions, ListenerProtocol, LoadBalancing, ProxyConfig};
use wasmplug_testkit::{Received, Reply, Scripted, Upstream, UpstreamThread};

use super::{Down, addresses, fine};
use crate::harness::{RawUpstream, Running, Setup, TcpClient, eventually};

/// Longer than any test takes.
const LONG: Duration = Duration::from_hours(1);

/// A proxy in front of a cluster of these, which take turns.
fn in_turns(hosts: String, tune: impl FnOnce(&mut ProxyConfig) + 'static) -> Running {
    let tune = move |config: &mut ProxyConfig| {
        config.upstream = hosts.parse().unwrap();
        config.upstreams.load_balancing = LoadBalancing::RoundRobin;
        config.upstreams.ejection.base_time = LONG;
        config.upstreams.ejection.max_time = LONG;
        tune(config);
    };
    Setup::new().tune(tune).admin().start()
}

fn upstream(script: impl Fn(&Received) -> Scripted + Send + Sync + 'static) -> UpstreamThread {
    UpstreamThread::start(Upstream::scripted(script)).unwrap()
}

fn ejection(config: &mut ProxyConfig) -> &mut EjectionOptions {
    &mut config.upstreams.ejection
}

#[test]
fn endpoints_take_turns() {
    let upstreams = [upstream(fine), upstream(fine), upstream(fine)];
    let proxy = in_turns(addresses(upstreams.iter().map(|of| of.addr())), |_| {});
    let mut client = proxy.client();
    for _ in 0..9 {
        assert_eq!(client.get("/").unwrap().text(), "fine");
    }
    assert_eq!(upstreams.each_ref().map(|of| of.received().len()), [3, 3, 3]);
    proxy.wait_for_stat(r#"envoy_cluster_membership_total{envoy_cluster_name="upstream"} 3"#);
}

/// How many of ten requests go to each of two endpoints, one of which has a request that hangs.
fn beside_a_busy_one(balancing: LoadBalancing) -> [usize; 2] {
    let script = |received: &Received| match received.path.as_str() {
        "/hang" => Scripted::never(),
        _ => fine(received),
    };
    let upstreams = [upstream(script), upstream(script)];
    let hosts = addresses(upstreams.iter().map(|of| of.addr()));
    let proxy = in_turns(hosts, move |config| config.upstreams.load_balancing = balancing);
    let mut hanging = proxy.client();
    hanging.send("GET /hang HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let counts = || upstreams.each_ref().map(|of| of.received().len());
    eventually(|| counts() != [0, 0]);
    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "fine");
    }
    let mut counts = counts();
    counts.sort_unstable();
    counts
}

#[test]
fn the_less_busy_endpoint_gets_requests() {
    assert_eq!(beside_a_busy_one(LoadBalancing::LeastRequest), [1, 10]);
}

#[test]
fn in_turns_a_busy_endpoint_gets_its_share() {
    assert_eq!(beside_a_busy_one(LoadBalancing::RoundRobin), [5, 6]);
}

#[test]
fn an_endpoint_that_is_down_costs_no_request() {
    let (up, down) = (upstream(fine), Down::new());
    let hosts = addresses([down.address(), up.addr()]);
    let proxy = in_turns(hosts, |config| ejection(config).consecutive_failures = 0);
    let request = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
    for _ in 0..10 {
        assert_eq!(proxy.exchange(request).text(), "fine");
    }
    assert_eq!(up.received().len(), 10);
    proxy
        .wait_for_stat(r#"envoy_cluster_upstream_rq_retry_total{envoy_cluster_name="upstream"} 5"#);
    let failed = r#"envoy_cluster_upstream_cx_connect_fail_total{envoy_cluster_name="upstream"} 5"#;
    proxy.wait_for_stat(failed);
}

#[test]
fn bytes_go_to_an_endpoint_that_is_up() {
    let (up, down) = (RawUpstream::echo(), Down::new());
    let hosts = addresses([down.address(), up.address()]);
    let proxy = in_turns(hosts, |config| config.listener = ListenerProtocol::Tcp);
    for _ in 0..4 {
        assert!(TcpClient::connect(&proxy).is_echoed("hello"));
    }
    let (one, other) = (Down::new(), Down::new());
    let hosts = addresses([one.address(), other.address()]);
    let proxy = in_turns(hosts, |config| config.listener = ListenerProtocol::Tcp);
    assert!(!TcpClient::connect(&proxy).is_echoed("hello"));
}

#[test]
fn connections_of_bytes_are_bounded_too() {
    let upstream = RawUpstream::echo();
    let proxy = in_turns(upstream.address().to_string(), |config| {
        config.listener = ListenerProtocol::Tcp;
        config.upstreams.max_connections = 1;
    });
    let mut first = TcpClient::connect(&proxy);
    assert!(first.is_echoed("hello"));
    assert!(!TcpClient::connect(&proxy).is_echoed("hello"));
    assert!(first.is_echoed("hello"));
    drop(first);
    proxy.wait_for_stat(r#"envoy_cluster_upstream_cx_active{envoy_cluster_name="upstream"} 0"#);
    assert!(TcpClient::connect(&proxy).is_echoed("hello"));
}

#[test]
fn a_request_is_tried_at_two_endpoints_and_no_more() {
    let (one, other, third) = (Down::new(), Down::new(), Down::new());
    let hosts = addresses([one.address(), other.address(), third.address()]);
    let proxy = in_turns(hosts, |_| {});
    assert_eq!(proxy.get("/").status, 503);
    let failed = r#"envoy_cluster_upstream_cx_connect_fail_total{envoy_cluster_name="upstream"} 2"#;
    proxy.wait_for_stat(failed);
}

#[test]
fn an_endpoint_that_fails_in_a_row_is_left_alone() {
    let (bad, good) = (upstream(|_| Reply::new(500).into()), upstream(fine));
    let hosts = addresses([bad.addr(), good.addr()]);
    let proxy = in_turns(hosts, |config| ejection(config).consecutive_failures = 3);
    for _ in 0..20 {
        proxy.get("/");
    }
    assert_eq!((bad.received().len(), good.received().len()), (3, 17));
    let of = |name: &str, of: &UpstreamThread, value: u64| {
        let address = of.addr();
        format!(r#"{name}{{envoy_cluster_name="upstream",address="{address}"}} {value}"#)
    };
    proxy.wait_for_stat(&of("wasmplug_upstream_endpoint_ejected", &bad, 1));
    proxy.wait_for_stat(&of("wasmplug_upstream_endpoint_ejected", &good, 0));
    proxy.wait_for_stat(&of("wasmplug_upstream_endpoint_ejections_total", &bad, 1));
    proxy.wait_for_stat(r#"envoy_cluster_membership_healthy{envoy_cluster_name="upstream"} 1"#);
}

#[test]
fn an_endpoint_that_is_down_is_left_alone_too() {
    let (up, down) = (upstream(fine), Down::new());
    let proxy = in_turns(addresses([down.address(), up.addr()]), |_| {});
    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "fine");
    }
    let failed = r#"envoy_cluster_upstream_cx_connect_fail_total{envoy_cluster_name="upstream"} 5"#;
    proxy.wait_for_stat(failed);
}

#[test]
fn an_endpoint_that_was_left_alone_is_used_again() {
    let is_bad = Arc::new(AtomicBool::new(true));
    let answer = Arc::clone(&is_bad);
    let healing = upstream(move |received| {
        if answer.load(Ordering::Acquire) { Reply::new(503).into() } else { fine(received) }
    });
    let good = upstream(fine);
    let proxy = in_turns(addresses([healing.addr(), good.addr()]), |config| {
        ejection(config).base_time = Duration::from_millis(1);
        ejection(config).consecutive_failures = 1;
    });
    let address = healing.addr();
    eventually(|| proxy.get("/").status == 503);
    is_bad.store(false, Ordering::Release);
    let before = healing.received().len();
    eventually(|| proxy.get("/").text() == "fine" && healing.received().len() > before);
    proxy.wait_for_stat(&format!(
        r#"wasmplug_upstream_endpoint_ejected{{envoy_cluster_name="upstream",address="{address}"}} 0"#
    ));
}

#[test]
fn the_only_endpoint_is_never_left_alone() {
    let bad = upstream(|_| Reply::new(500).into());
    let proxy = in_turns(bad.addr().to_string(), |config| ejection(config).max_percent = 100);
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 500);
    }
    proxy.wait_for_stat(r#"envoy_cluster_membership_healthy{envoy_cluster_name="upstream"} 1"#);
}

#[test]
fn if_all_are_left_alone_all_are_used() {
    let upstreams = [upstream(|_| Reply::new(500).into()), upstream(|_| Reply::new(500).into())];
    let proxy = in_turns(addresses(upstreams.iter().map(|of| of.addr())), |config| {
        ejection(config).max_percent = 100;
        ejection(config).consecutive_failures = 2;
    });
    for _ in 0..20 {
        assert_eq!(proxy.get("/").status, 500);
    }
    assert_eq!(upstreams.each_ref().map(|of| of.received().len()), [10, 10]);
    proxy.wait_for_stat(r#"envoy_cluster_membership_healthy{envoy_cluster_name="upstream"} 0"#);
}
