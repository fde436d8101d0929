//! What a plugin costs, as the admin pages tell it.

use crate::harness::{Plugin, Running, Setup};

const GET: &str = "
    on context_create:
        (drop (local.get $parent))
    on request_headers:
        (drop (call $get #request ':path'))
        (drop)
    on response_headers:
        (drop (call $get #response 'x-none'))
        (drop)";

/// The value of a sample, if it is there.
fn sample(proxy: &Running, name: &str) -> Option<String> {
    let page = proxy.admin("/stats/prometheus").text();
    let value = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
    page.lines().find_map(value)
}

fn calls(plugin: &str, callback: &str) -> String {
    format!(
        "wasmplug_plugin_callbacks_total{{plugin=\"default/{plugin}\",callback=\"{callback}\"}}"
    )
}

fn hostcalls(plugin: &str, function: &str, status: &str) -> String {
    format!(
        "wasmplug_plugin_hostcalls_total{{plugin=\"default/{plugin}\",function=\"{function}\",status=\"{status}\"}}"
    )
}

#[test]
fn callbacks_and_calls_of_the_host_are_counted() {
    let proxy = Setup::new().plugin(Plugin::guest(GET).named("p")).admin().start();
    proxy.get("/");
    proxy.get("/");
    proxy.wait_until_idle();
    let two = Some("2".to_owned());
    assert_eq!(sample(&proxy, &calls("p", "proxy_on_request_headers")), two);
    // The plugin itself is one.
    assert_eq!(sample(&proxy, &calls("p", "proxy_on_context_create")), Some("3".to_owned()));
    let get = |status| sample(&proxy, &hostcalls("p", "proxy_get_header_map_value", status));
    assert_eq!((get("ok"), get("not_found")), (two.clone(), two));
    // What the plugin does not have or do is not told.
    assert_eq!(sample(&proxy, &calls("p", "proxy_on_request_body")), None);
    assert_eq!(get("bad_argument"), None);
    assert_eq!(sample(&proxy, &hostcalls("p", "proxy_http_call", "ok")), None);
}

#[test]
fn times_fall_into_buckets_and_add_up() {
    let proxy = Setup::new().plugin(Plugin::guest(GET).named("p")).admin().start();
    proxy.get("/");
    proxy.wait_until_idle();
    let of = |part: &str, bound: &str| {
        let name = format!(
            "wasmplug_plugin_callback_seconds_{part}{{{bound}plugin=\"default/p\",callback=\"proxy_on_request_headers\"}}"
        );
        sample(&proxy, &name).unwrap_or_else(|| panic!("{name}"))
    };
    assert!(of("sum", "").parse::<f64>().unwrap() > 0.0);
    assert_eq!(of("bucket", "le=\"+Inf\","), of("count", ""));
}

#[test]
fn bodies_and_memory_are_told() {
    let body = "on request_body:\n (drop (local.get $size))";
    let proxy = Setup::new().plugin(Plugin::guest(body).named("p")).admin().start();
    proxy.exchange("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    proxy.wait_until_idle();
    let bytes = |message: &str| {
        let name = format!(
            "wasmplug_plugin_body_bytes_total{{plugin=\"default/p\",message=\"{message}\"}}"
        );
        sample(&proxy, &name).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(bytes("request"), 5);
    assert!(bytes("response") > 0);
    let memory = sample(&proxy, "wasmplug_plugin_memory_bytes{plugin=\"default/p\"}").unwrap();
    assert!(memory.parse::<u64>().unwrap() >= 65_536, "{memory}");
}

#[test]
fn responses_tell_how_long_each_plugin_took_if_that_is_asked_for() {
    let setup = || {
        let setup = Setup::new().plugin(Plugin::guest(GET).named("a"));
        setup.plugin(
            Plugin::guest("on request_headers:\n (call $reply #403 'no' {x-a: 1})").named("b"),
        )
    };
    let proxy = setup().tune(|config| config.has_server_timing = true).start();
    let response = proxy.get("/");
    let header = response.header("server-timing").unwrap();
    let told: Vec<&str> = header.split(", ").collect();
    assert_eq!(told.len(), 2, "{header}");
    for (told, name) in told.into_iter().zip(["a", "b"]) {
        let beginning = format!("{name};desc=\"default/{name}\";dur=");
        let milliseconds = told.strip_prefix(&beginning).unwrap_or_else(|| panic!("{told}"));
        assert!(milliseconds.parse::<f64>().unwrap() > 0.0, "{told}");
    }
    assert_eq!(setup().start().get("/").header("server-timing"), None);
}

#[test]
fn plugins_in_one_vm_are_told_apart() {
    let alike = |name| Plugin::guest(GET).named(name);
    let proxy = Setup::new().plugin(alike("a")).plugin(alike("b")).admin().start();
    proxy.get("/");
    proxy.wait_until_idle();
    for plugin in ["a", "b"] {
        let count = sample(&proxy, &hostcalls(plugin, "proxy_get_header_map_value", "ok"));
        assert_eq!(count, Some("1".to_owned()), "{plugin}");
    }
}

#[test]
fn a_crash_does_not_begin_the_count_anew() {
    let guest = format!("{GET}\n    on request_trailers:\n        (unreachable)");
    let proxy = Setup::new().plugin(Plugin::guest(&guest).named("p")).admin().start();
    proxy.get("/");
    let trailed =
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-t: t\r\n\r\n";
    assert_eq!(proxy.exchange(trailed).status, 503);
    proxy.get("/");
    proxy.wait_until_idle();
    let count = sample(&proxy, &calls("p", "proxy_on_request_headers"));
    assert_eq!(count, Some("3".to_owned()));
    // Three streams, and the plugin itself twice.
    assert_eq!(sample(&proxy, &calls("p", "proxy_on_context_create")), Some("5".to_owned()));
    let dump = proxy.admin("/config_dump").json().unwrap();
    let costs = &dump["chain"][0]["state"]["costs"];
    assert_eq!(costs["callbacks"]["proxy_on_request_trailers"]["calls"], 1);
    assert!(costs["hostcalls_not_ok"].as_u64().unwrap() > 0);
}
