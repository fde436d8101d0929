//! Where requests go: routes, and plugins that change them.

use wasmplug_proxy::{ProxyConfig, Route};
use wasmplug_testkit::{Upstream, UpstreamThread};

use super::{FOREIGN, guest};
use crate::harness::{Plugin, Running, Setup};

/// A proxy with a route by path to `c`, one by host to `d`, and its upstream for the rest.
struct Routed {
    proxy: Running,
    c: UpstreamThread,
    d: UpstreamThread,
}

fn start(plugins: impl IntoIterator<Item = Plugin>) -> Routed {
    let [c, d] = [(); 2].map(|()| UpstreamThread::start(Upstream::echo()).unwrap());
    let clusters = [("c", c.addr()), ("d", d.addr())];
    let route = |name: &str, host: Option<&str>, prefix: &str, cluster: &str| Route {
        name: name.to_owned(),
        host: host.map(str::to_owned),
        prefix: prefix.to_owned(),
        cluster: cluster.to_owned(),
    };
    let setup = Setup::new().tune(move |config: &mut ProxyConfig| {
        for (name, address) in clusters {
            config.clusters.insert(name.to_owned(), address.into());
        }
        config.routes = vec![
            route("by-path", None, "/api", "c"),
            route("by-host", Some("*.example.test"), "/", "d"),
        ];
        config.node.listener_direction = 2;
    });
    let proxy = plugins.into_iter().fold(setup, Setup::plugin).start();
    Routed { proxy, c, d }
}

// === impl Routed ===

impl Routed {
    /// How many requests came to the upstream, to `c` and to `d`.
    fn received(&self) -> [usize; 3] {
        [self.proxy.upstream().received(), self.c.received(), self.d.received()]
            .map(|received| received.len())
    }
}

/// A plugin that does this to the request and tells the names of its route, before and after.
fn changing(change: &str) -> Plugin {
    let tell = |when: &str| {
        format!(
            "(call $share '{when}' (call $property 'xds\\00route_name'))
            (call $share '{when}-cluster' (call $property 'xds\\00cluster_name'))
            (call $share '{when}-host' (call $property 'xds\\00virtual_host_name'))\n"
        )
    };
    let names = ["before", "before-cluster", "before-host", "after", "after-cluster", "after-host"];
    let show = |name| format!("(call $add #response 'x-{name}' (call $recall '{name}'))");
    let show = names.map(show).join("\n");
    let (before, after) = (tell("before"), tell("after"));
    guest(&format!(
        "{FOREIGN}
        on request_headers:
            {before}{change}{after}
        on response_headers:
            {show}
            (call $add #response 'x-direction'
                (call $number_property 'xds\\00listener_direction'))"
    ))
}

// Checks: PR-15
#[test]
fn plugins_know_the_names_of_the_route() {
    let routed = start([changing("")]);
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", ["default", "upstream", "*"]),
        ("GET /api/x HTTP/1.1\r\nhost: a\r\n\r\n", ["by-path", "c", "*"]),
        ("GET / HTTP/1.1\r\nhost: b.example.test:80\r\n\r\n", ["by-host", "d", "*.example.test"]),
    ] {
        let response = routed.proxy.exchange(request);
        let names = ["x-before", "x-before-cluster", "x-before-host"];
        assert_eq!(names.map(|name| response.header(name).unwrap()), expected, "{request}");
        assert_eq!(response.header("x-direction"), Some("2"));
    }
    assert_eq!(routed.received(), [1, 1, 1]);
}

// Checks: HD-20
#[test]
fn another_path_chooses_another_route() {
    let routed = start([changing("(call $replace #request ':path' '/api/y')")]);
    let response = routed.proxy.get("/");
    assert_eq!(
        (response.header("x-before"), response.header("x-after")),
        (Some("default"), Some("by-path"),)
    );
    assert_eq!(routed.received(), [0, 1, 0]);
    assert_eq!(routed.c.received()[0].path, "/api/y");
}

// Checks: HD-21
#[test]
fn another_authority_chooses_another_virtual_host() {
    let routed = start([changing("(call $replace #request ':authority' 'x.example.test')")]);
    let response = routed.proxy.get("/");
    assert_eq!(
        (response.header("x-before-host"), response.header("x-after-host")),
        (Some("*"), Some("*.example.test"))
    );
    assert_eq!(routed.received(), [0, 0, 1]);
    assert_eq!(routed.d.received()[0].header("host"), Some("x.example.test"));
}

// Checks: FF-09
#[test]
fn clearing_the_route_cache_chooses_the_route_of_the_headers_of_now() {
    let clear = "(if (call $foreign 'clear_route_cache' '' (i32.const 0) (i32.const 0))
            (then (unreachable)))";
    // Nothing was changed: the route is the same one.
    let same = start([changing(clear)]);
    assert_eq!(same.proxy.get("/").header("x-after"), Some("default"));
    let routed = start([changing(&format!("(call $replace #request ':path' '/api')\n{clear}"))]);
    assert_eq!(routed.proxy.get("/").header("x-after"), Some("by-path"));
    assert_eq!((same.received(), routed.received()), ([1, 0, 0], [0, 1, 0]));
}
