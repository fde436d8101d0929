//! Attributes of real streams.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;
use wasmplug_testkit::{Reply, Upstream};

use super::{FOREIGN, assert_story, guest, stat, storyteller};
use crate::harness::{Plugin, Setup};

/// A plugin that puts properties into headers, texts as they are and numbers in decimal digits,
/// named after their paths.
fn asking(side: &str, texts: &[&str], numbers: &[&str]) -> Plugin {
    let add = |call: &str, path: &&str| {
        let (name, path) = (path.replace('.', "-"), path.replace('.', "\\00"));
        format!("(call $add #{side} 'x-got-{name}' (call ${call} '{path}'))\n")
    };
    let texts: String = texts.iter().map(|path| add("property", path)).collect();
    let numbers: String = numbers.iter().map(|path| add("number_property", path)).collect();
    Plugin::guest(&format!("on {side}_headers:\n{texts}{numbers}"))
}

// Checks: PR-01
#[test]
fn texts_of_the_request_are_those_of_its_head() {
    let paths = [
        "request.path",
        "request.url_path",
        "request.query",
        "request.host",
        "request.scheme",
        "request.method",
        "request.protocol",
        "request.id",
        "request.useragent",
        "request.referer",
    ];
    let proxy = Setup::new().plugin(asking("request", &paths, &[])).start();
    proxy.exchange(
        "PUT /a?b=c HTTP/1.1\r\nhost: h.test\r\nx-request-id: mine\r\nuser-agent: u\r\n\
         referer: r\r\ncontent-length: 0\r\n\r\n",
    );
    let received = &proxy.upstream().received()[0];
    let values = ["/a?b=c", "/a", "b=c", "h.test", "http", "PUT", "HTTP/1.1", "mine", "u", "r"];
    for (path, value) in paths.iter().zip(values) {
        let header = format!("x-got-{}", path.replace('.', "-"));
        assert_eq!(received.header(&header), Some(value), "{path}");
    }
}

// Checks: PR-05, TM-06
#[test]
fn times_are_those_of_the_wall_clock() {
    // Seconds fit into what can be written in digits.
    let plugin = guest(
        "(func $seconds (param $nanoseconds i64) (result i32 i32)
            (call $decimal (i32.wrap_i64
                (i64.div_u (local.get $nanoseconds) (i64.const 1000000000)))))
        on response_headers:
            (drop (call $proxy_time (i32.const 0x110)))
            (call $add #response 'x-now' (call $seconds (i64.load (i32.const 0x110))))
            (drop (call $proxy_get_property 'request\\00time' (i32.const 0x100) (i32.const 0x104)))
            (call $add #response 'x-length' (call $decimal (i32.load (i32.const 0x104))))
            (call $add #response 'x-time' (call $seconds
                (i64.load (i32.load (i32.const 0x100)))))",
    );
    let proxy = Setup::new().plugin(plugin).start();
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = seconds();
    let response = proxy.get("/");
    let between = before..=seconds();
    assert_eq!(response.header("x-length"), Some("8"));
    for name in ["x-now", "x-time"] {
        let told: u64 = response.header(name).unwrap().parse().unwrap();
        assert!(between.contains(&told), "{name}: {told}, not in {between:?}");
    }
}

// Checks: PR-06, PR-07
#[test]
fn sizes_and_duration_are_numbers_in_the_log() {
    let plugin = guest(
        "(func $number (param i32 i32) (result i64)
            (if (result i64) (call $proxy_get_property (local.get 0) (local.get 1)
                    (i32.const 0x100) (i32.const 0x104))
                (then (i64.const -1))
                (else (i64.load (i32.load (i32.const 0x100))))))
        on log:
            (if (i64.eq (call $number 'request\\00size') (i64.const 5))
                (then (call $bump 'size_is_that_of_the_body')))
            (if (i64.gt_s (call $number 'request\\00total_size') (i64.const 5))
                (then (call $bump 'total_is_more')))
            (if (i64.gt_s (call $number 'request\\00duration') (i64.const 0))
                (then (call $bump 'duration_is_positive')))
        on delete:
            (call $bump 'deleted')",
    );
    let proxy = Setup::new().plugin(plugin).admin().start();
    // In chunks: what was received counts, not what was announced.
    proxy.exchange(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    proxy.wait_for_stat("deleted 1");
    for name in ["size_is_that_of_the_body", "total_is_more", "duration_is_positive"] {
        assert_eq!(stat(&proxy, name), 1, "{name}");
    }
}

// Checks: PR-10, PR-11
#[test]
fn without_tls_there_is_no_version_and_no_certificate() {
    let plugin = guest(
        "on response_headers:
            (drop (call $proxy_get_property 'connection\\00mtls'
                (i32.const 0x100) (i32.const 0x104)))
            (call $add #response 'x-length' (call $decimal (i32.load (i32.const 0x104))))
            (call $add #response 'x-mtls' (call $decimal
                (i32.load8_u (i32.load (i32.const 0x100)))))",
    );
    let version = asking("response", &["connection.tls_version"], &[]);
    let proxy = Setup::new().plugin(version).plugin(plugin).start();
    let response = proxy.get("/");
    assert_eq!((response.header("x-length"), response.header("x-mtls")), (Some("1"), Some("0")));
    assert_eq!(response.header("x-got-connection-tls_version"), Some("-"));
}

// Checks: PR-28
#[test]
fn names_that_envoy_has_removed_are_still_answered() {
    let tune = |config: &mut wasmplug_proxy::ProxyConfig| {
        config.node.id = "node-1".to_owned();
        config.node.listener_direction = 1;
    };
    let plugin =
        asking("response", &["cluster_name", "route_name", "node.id"], &["listener_direction"]);
    let proxy = Setup::new().tune(tune).plugin(plugin).start();
    let response = proxy.get("/");
    let header = |name: &str| response.header(&format!("x-got-{name}")).unwrap();
    assert_eq!((header("cluster_name"), header("route_name")), ("upstream", "default"));
    assert_eq!((header("node-id"), header("listener_direction")), ("node-1", "1"));
}

// Checks: PR-13, PR-14
#[test]
fn addresses_are_those_of_the_sockets() {
    let texts = ["source.address", "destination.address", "upstream.address"];
    let numbers = ["source.port", "destination.port"];
    let request = asking("request", &["upstream.address"], &[]);
    let proxy = Setup::new().plugin(request).plugin(asking("response", &texts, &numbers)).start();
    let response = proxy.get("/");
    let (listen, upstream) = (proxy.proxy().listen_address(), proxy.upstream().addr());
    let header = |name: &str| response.header(name).unwrap();
    assert_eq!(header("x-got-destination-address"), listen.to_string());
    assert_eq!(header("x-got-destination-port"), listen.port().to_string());
    assert_eq!(
        header("x-got-source-address"),
        format!("127.0.0.1:{}", header("x-got-source-port"))
    );
    assert_eq!(header("x-got-upstream-address"), upstream.to_string());
    assert_eq!(proxy.upstream().received()[0].header("x-got-upstream-address"), Some("-"));
}

// Checks: PR-16, PR-29
#[test]
fn the_node_is_what_is_configured() {
    let paths =
        ["xds.node.id", "xds.node.cluster", "xds.node.metadata.LABELS.app", "xds.node.metadata.NO"];
    // A plugin without a stream knows it as well, but no request.
    let plugin = guest(
        "on configure:
            (call $share 'id' (call $property 'xds\\00node\\00id'))
            (call $share 'path' (call $property 'request\\00path'))
        on request_headers:
            (call $add #request 'x-id' (call $recall 'id'))
            (call $add #request 'x-path' (call $recall 'path'))",
    );
    let tune = |config: &mut wasmplug_proxy::ProxyConfig| {
        config.node.id = "sidecar~1".to_owned();
        config.node.cluster = "web.default".to_owned();
        config.node.metadata = json!({"LABELS": {"app": "web"}});
    };
    let proxy =
        Setup::new().tune(tune).plugin(asking("request", &paths, &[])).plugin(plugin).start();
    proxy.get("/");
    let received = &proxy.upstream().received()[0];
    for (name, value) in [
        ("x-got-xds-node-id", "sidecar~1"),
        ("x-got-xds-node-cluster", "web.default"),
        ("x-got-xds-node-metadata-LABELS-app", "web"),
        ("x-got-xds-node-metadata-NO", "-"),
        ("x-id", "sidecar~1"),
        ("x-path", "-"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
    }
}

/// A plugin that tells at the end of each response how it came about.
fn telling() -> Plugin {
    let tell = |name: &str, call: &str| {
        format!(
            "(call $tell '{name} ')\n(call $tell (call ${call} 'response\\00{name}'))\n(call $tell ', ')\n"
        )
    };
    let all = [
        ("code", "number_property"),
        ("code_details", "property"),
        ("flags", "number_property"),
        ("grpc_status", "number_property"),
    ];
    let tell: String = all.into_iter().map(|(name, call)| tell(name, call)).collect();
    guest(&format!(
        "on log:
            (if (call $is (call $get #request ':path') '/') (then
                {tell}))"
    ))
}

// Checks: PR-08
#[test]
fn the_log_tells_how_a_response_came_about() {
    let setup = || Setup::new().plugin(storyteller()).plugin(telling());
    let not_found = Upstream::scripted(|_| Reply::new(404).into());
    let proxy = setup().upstream(not_found).start();
    proxy.get("/");
    assert_story(&proxy, "code 404, code_details via_upstream, flags 0, grpc_status 12, ");
    let grpc = Upstream::scripted(|_| {
        let reply = Reply::new(200).header("content-type", "application/grpc");
        reply.chunked(["x"]).trailer("grpc-status", "5").into()
    });
    let proxy = setup().upstream(grpc).start();
    proxy.get("/");
    assert_story(&proxy, "code 200, code_details via_upstream, flags 0, grpc_status 5, ");
    // Nobody listens there.
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let proxy = setup().tune(move |config| config.upstream = nobody.into()).start();
    assert_eq!(proxy.get("/").status, 503);
    let story = "code 503, code_details upstream_reset_before_response_started\
        {remote_connection_failure|delayed_connect_error:_Connection_refused}, flags 32, \
        grpc_status 14, ";
    assert_story(&proxy, story);
}

#[test]
fn streams_of_one_connection_have_its_id() {
    let proxy = Setup::new().plugin(asking("response", &[], &["connection.id"])).start();
    let id = |client: &mut wasmplug_testkit::RawClient| {
        client.get("/").unwrap().header("x-got-connection-id").unwrap().to_owned()
    };
    let (mut first, mut second) = (proxy.client(), proxy.client());
    let (one, two) = (id(&mut first), id(&mut second));
    assert_eq!(id(&mut first), one);
    assert_ne!(one, two);
}

#[test]
fn a_property_lives_as_long_as_it_was_declared_to() {
    // Field 1 is the name, field 5 the life span: 2 is that of the connection.
    let plugin = guest(&format!(
        "{FOREIGN}
        on configure:
            (return (i32.eqz (call $foreign 'declare_property' '\\0a\\04long\\28\\02'
                (i32.const 0) (i32.const 0))))
        on request_headers:
            (call $add #request 'x-long' (call $property 'long'))
            (call $add #request 'x-short' (call $property 'short'))
            (call $set_property 'long' 'kept')
            (call $set_property 'short' 'kept')"
    ));
    let proxy = Setup::new().plugin(plugin).start();
    let mut client = proxy.client();
    client.get("/").unwrap();
    client.get("/").unwrap();
    proxy.get("/");
    let received = proxy.upstream().received();
    let seen: Vec<_> = received.iter().map(|r| (r.header("x-long"), r.header("x-short"))).collect();
    let (absent, kept) = (Some("-"), Some("kept"));
    assert_eq!(seen, [(absent, absent), (kept, absent), (absent, absent)]);
}

#[test]
fn the_values_of_a_stream_and_of_a_connection_are_bounded() {
    let plugin = guest(
        "on request_headers:
            (local $n i32)
            (loop $again
                (if (call $proxy_set_property (call $decimal (local.get $n)) 'v')
                    (then (call $bump 'refused'))
                    (else (call $bump 'stored')))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $n) (i32.const 1030))))
            (if (call $proxy_set_property '7' 'w') (then (call $bump 'not_replaced')))",
    );
    // One plugin may declare less than a connection may hold: two fill it.
    let declaring = |prefix: &str| {
        guest(&format!(
            r#"{FOREIGN}
            (func $name (param $n i32)
                (i32.store8 (i32.const 0x803)
                    (i32.add (i32.const 32) (i32.div_u (local.get $n) (i32.const 64))))
                (i32.store8 (i32.const 0x804)
                    (i32.add (i32.const 32) (i32.rem_u (local.get $n) (i32.const 64)))))
            (data (i32.const 0x800) "\0a\03{prefix}..\28\02")
            on configure:
                (local $n i32)
                (loop $again
                    (call $name (local.get $n))
                    (if (call $foreign 'declare_property' (i32.const 0x800) (i32.const 7)
                            (i32.const 0x100) (i32.const 0x104))
                        (then (unreachable)))
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $again (i32.lt_u (local.get $n) (i32.const 515))))
            on request_headers:
                (local $n i32)
                (loop $again
                    (call $name (local.get $n))
                    (if (call $proxy_set_property (i32.const 0x802) (i32.const 3) 'v')
                        (then (call $bump 'connection_refused'))
                        (else (call $bump 'connection_stored')))
                    (local.set $n (i32.add (local.get $n) (i32.const 1)))
                    (br_if $again (i32.lt_u (local.get $n) (i32.const 515))))"#
        ))
    };
    let setup = Setup::new().plugin(plugin).plugin(declaring("a")).plugin(declaring("b"));
    let proxy = setup.admin().start();
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!((stat(&proxy, "stored"), stat(&proxy, "refused")), (1024, 6));
    assert_eq!(stat(&proxy, "not_replaced"), 0);
    let of_connection = (stat(&proxy, "connection_stored"), stat(&proxy, "connection_refused"));
    assert_eq!(of_connection, (1024, 6));
}
