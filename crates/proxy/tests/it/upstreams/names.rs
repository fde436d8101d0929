//! Hosts that have names, which are looked up apart from requests.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wasmplug_proxy::{LoadBalancing, NameResolver, ProxyConfig};
use wasmplug_testkit::{Upstream, UpstreamThread};

use super::fine;
use crate::harness::{Running, Setup, eventually};

/// What a name server says now; `None` for an error.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Option<Vec<SocketAddr>>>>);

impl Names {
    fn say(&self, addresses: Option<Vec<SocketAddr>>) {
        *self.0.lock().unwrap() = addresses;
    }

    fn resolver(&self) -> NameResolver {
        let names = self.clone();
        NameResolver::new(move |host, _| {
            assert_eq!(host, "shop.test");
            let found = names.0.lock().unwrap().clone();
            found.ok_or_else(|| io::Error::other("no such name"))
        })
    }
}

fn start(resolver: NameResolver, tune: impl FnOnce(&mut ProxyConfig) + 'static) -> Running {
    let tune = move |config: &mut ProxyConfig| {
        config.upstream = "shop.test:80".parse().unwrap();
        config.upstreams.load_balancing = LoadBalancing::RoundRobin;
        config.upstreams.resolver = resolver;
        config.upstreams.resolve_interval = Duration::from_millis(1);
        tune(config);
    };
    Setup::new().tune(tune).admin().start()
}

fn upstream() -> UpstreamThread {
    UpstreamThread::start(Upstream::scripted(fine)).unwrap()
}

fn is_counted(proxy: &Running, name: &str) -> bool {
    let text = proxy.admin("/stats/prometheus").text();
    let line = format!(r#"{name}{{envoy_cluster_name="upstream"}} "#);
    let value = text.lines().find_map(|found| found.strip_prefix(&line));
    value.unwrap().parse::<u64>().unwrap() > 0
}

#[test]
fn each_address_of_a_name_is_an_endpoint() {
    let (names, upstreams) = (Names::default(), [upstream(), upstream()]);
    names.say(Some(upstreams.iter().map(|of| of.addr()).collect()));
    let proxy = start(names.resolver(), |_| {});
    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "fine");
    }
    assert_eq!(upstreams.each_ref().map(|of| of.received().len()), [5, 5]);
}

#[test]
fn a_name_that_moves_is_followed() {
    let (names, old, new) = (Names::default(), upstream(), upstream());
    names.say(Some(vec![old.addr()]));
    let proxy = start(names.resolver(), |_| {});
    let mut client = proxy.client();
    assert_eq!(client.get("/").unwrap().text(), "fine");
    names.say(Some(vec![new.addr()]));
    eventually(|| client.get("/").unwrap().text() == "fine" && !new.received().is_empty());
    let before = old.received().len();
    for _ in 0..10 {
        assert_eq!(client.get("/").unwrap().text(), "fine");
    }
    assert_eq!(old.received().len(), before);
    proxy.wait_for_stat(r#"envoy_cluster_upstream_cx_active{envoy_cluster_name="upstream"} 1"#);
}

#[test]
fn a_look_up_that_fails_keeps_the_last_good_addresses() {
    let (names, upstream) = (Names::default(), upstream());
    names.say(Some(vec![upstream.addr()]));
    let proxy = start(names.resolver(), |_| {});
    assert_eq!(proxy.get("/").text(), "fine");
    for failure in [None, Some(Vec::new())] {
        names.say(failure);
        eventually(|| is_counted(&proxy, "envoy_cluster_update_failure_total"));
        assert_eq!(proxy.get("/").text(), "fine");
    }
}

#[test]
fn without_any_address_there_is_no_healthy_upstream() {
    let proxy = start(Names::default().resolver(), |_| {});
    let response = proxy.get("/");
    assert_eq!((response.status, response.text().as_str()), (503, "no healthy upstream"));
    assert!(is_counted(&proxy, "envoy_cluster_upstream_cx_none_healthy_total"));
}

#[test]
fn a_name_that_is_found_late_is_used_from_then_on() {
    let (names, upstream) = (Names::default(), upstream());
    let proxy = start(names.resolver(), |_| {});
    assert_eq!(proxy.get("/").status, 503);
    names.say(Some(vec![upstream.addr()]));
    eventually(|| proxy.get("/").status == 200);
}

/// A name server that is asked and does not answer before it is told to.
fn silent(address: SocketAddr) -> (NameResolver, Sender<()>) {
    let (tell, told) = channel();
    let told = Mutex::new(told);
    let resolver = NameResolver::new(move |_, _| {
        // Nobody tells any more: neither does the name server.
        told.lock().unwrap().recv().map_err(io::Error::other)?;
        Ok(vec![address])
    });
    (resolver, tell)
}

#[test]
fn a_request_waits_for_the_first_look_up() {
    let upstream = upstream();
    let (resolver, tell) = silent(upstream.addr());
    let proxy = start(resolver, |config| config.limits.connect_timeout = Duration::from_hours(1));
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat(r#"envoy_cluster_upstream_rq_total{envoy_cluster_name="upstream"} 1"#);
    tell.send(()).unwrap();
    assert_eq!(client.read_response().unwrap().text(), "fine");
}

#[test]
fn a_request_waits_no_longer_than_for_a_connection() {
    let (resolver, _tell) = silent(([127, 0, 0, 1], 1).into());
    let proxy = start(resolver, |config| config.limits.connect_timeout = Duration::from_millis(10));
    assert_eq!(proxy.get("/").text(), "no healthy upstream");
}

#[test]
fn the_system_knows_this_machine() {
    let upstream = upstream();
    let port = upstream.addr().port();
    let tune = move |config: &mut ProxyConfig| {
        config.upstream = format!("localhost:{port}").parse().unwrap();
    };
    let proxy = Setup::new().tune(tune).start();
    for _ in 0..10 {
        assert_eq!(proxy.get("/").text(), "fine");
    }
}

#[test]
fn no_more_names_are_looked_up_at_one_time_than_allowed() {
    /// Look-ups that run, the most that ever did at one time, and those that have ended.
    #[derive(Default)]
    struct LookUps {
        running: usize,
        most: usize,
        ended: usize,
    }
    let look_ups = Arc::new((Mutex::new(LookUps::default()), Condvar::new()));
    let seen = Arc::clone(&look_ups);
    let resolver = NameResolver::new(move |_, _| {
        let (all, changed) = &*seen;
        let mut all = all.lock().unwrap();
        all.running += 1;
        all.most = all.most.max(all.running);
        changed.notify_all();
        // The first ones take so long that all come together that may.
        let mut all = changed.wait_while(all, |all| all.most < 16).unwrap();
        all.running -= 1;
        all.ended += 1;
        Err(io::Error::other("no such name"))
    });
    let hosts: Vec<String> = (0..40).map(|number| format!("n{number}.test:80")).collect();
    let _proxy = start(resolver, move |config| {
        config.upstream = hosts.join(",").parse().unwrap();
    });
    eventually(|| look_ups.0.lock().unwrap().ended >= 80);
    assert_eq!(look_ups.0.lock().unwrap().most, 16);
}
