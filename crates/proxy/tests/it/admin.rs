//! The admin pages.

use serde_json::json;

use crate::harness::{Plugin, Setup};

#[test]
fn ready_follows_the_first_configuration() {
    let mut proxy = Setup::new().admin().start_unconfigured();
    let response = proxy.admin("/ready");
    assert_eq!((response.status, response.text().as_str()), (503, "PRE_INITIALIZING\n"));
    proxy.load(&[]);
    let response = proxy.admin("/ready");
    assert_eq!((response.status, response.text().as_str()), (200, "LIVE\n"));
}

#[test]
fn unknown_pages_and_methods_are_refused() {
    let proxy = Setup::new().admin().start();
    assert_eq!(proxy.admin("/").status, 200);
    assert_eq!(proxy.admin("/nothing").status, 404);
    let address = proxy.proxy().admin_address().unwrap();
    let mut client = wasmplug_testkit::RawClient::connect(address).unwrap();
    let post = "POST /ready HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(client.exchange(post).unwrap().status, 405);
}

/// Name with labels, and value, of every sample.
fn samples(text: &str) -> Vec<(&str, f64)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        let bare = name.split('{').next().unwrap();
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        assert!(!bare.is_empty() && bare.chars().all(is_part), "no name: {line}");
        (name, value.parse().unwrap_or_else(|_| panic!("no value: {line}")))
    });
    samples.collect()
}

// Checks: MT-10
#[test]
fn counters_can_be_scraped() {
    let guest = "
        on response_headers:
            (call $bump 'my.own counter')
            (if (call $is (call $get #response ':status') '500') (then (unreachable)))";
    let proxy = Setup::new().plugin(Plugin::guest(guest).named("mine")).admin().start();
    for path in ["/", "/status/404", "/status/500"] {
        proxy.get(path);
    }
    let page = proxy.admin("/stats/prometheus");
    let text = page.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let samples = samples(&text);
    let value = |name: &str| {
        let found = samples.iter().find(|(present, _)| *present == name);
        found.unwrap_or_else(|| panic!("no {name} in\n{text}")).1
    };
    for (name, expected) in [
        ("envoy_http_downstream_rq_total", 3.0),
        (r#"envoy_http_downstream_rq_xx_total{envoy_response_code_class="2"}"#, 1.0),
        (r#"envoy_http_downstream_rq_xx_total{envoy_response_code_class="4"}"#, 1.0),
        (r#"envoy_http_downstream_rq_xx_total{envoy_response_code_class="5"}"#, 1.0),
        (r#"wasmplug_plugin_failures_total{plugin="default/mine",kind="trap"}"#, 1.0),
        ("wasmplug_config_version", 1.0),
        ("my_own_counter", 3.0),
    ] {
        assert!((value(name) - expected).abs() < f64::EPSILON, "{name} in\n{text}");
    }
}

#[test]
fn the_chain_and_what_was_rejected_are_dumped() {
    let mut proxy = Setup::new().admin().start_unconfigured();
    let plugin = Plugin::guest("on request_headers:").named("first").configured("{a: [1, x]}");
    proxy.load(&[plugin, Plugin::missing().named("second")]);
    let page = proxy.admin("/config_dump");
    assert_eq!(page.header("content-type"), Some("application/json"));
    let mut dump = page.json().unwrap();
    assert!(dump["chain"][0]["state"]["costs"].take().is_object());
    // What depends on the build of the test and on its folder.
    for field in ["url", "digest"] {
        let value = dump["chain"][0][field].take();
        assert!(value.as_str().is_some_and(|value| value.contains(':')), "{field}: {value}");
    }
    for field in ["reason", "hint"] {
        let value = dump["rejected"][0][field].take();
        assert!(!value.to_string().is_empty(), "{field}");
    }
    assert_eq!(
        dump,
        json!({
            "version": 1,
            "path_normalization": "BASE",
            "network": [],
            "chain": [
                {
                    "filter": "wasm",
                    "resource": "default/first",
                    "phase": "UNSPECIFIED_PHASE",
                    "priority": 1000,
                    "url": null,
                    "digest": null,
                    "abi_version": "0.2.1",
                    "root_id": "",
                    "configuration": r#"{"a":[1,"x"]}"#,
                    "environment": [],
                    "fail_strategy": "FAIL_CLOSE",
                    "vm_scope": "worker",
                    "candidate": null,
                    "state": {
                        "running_workers": 1,
                        "restarts": 0,
                        "failed_starts": 0,
                        "refused_starts": 0,
                        "recoveries": 0,
                        "failures": {
                            "trap": 0, "deadline": 0, "memory": 0, "restricted": 0, "exit": 0,
                        },
                        "breakers": [{
                            "worker": "0", "state": "closed", "opened": 0, "until": null, "reason": "",
                        }],
                        "costs": null,
                    },
                },
                {
                    "filter": "refuse",
                    "resource": "default/second",
                    "state": "every request is refused with 403",
                },
                {
                    "filter": "istio.stats",
                    "provider": "prometheus",
                    "reporter": {
                        "role": "sidecar-inbound",
                        "workload": null,
                        "namespace": "default",
                        "labels": {},
                        "service": null,
                    },
                    "overrides": [],
                    "refused_expressions": [],
                },
                { "filter": "router" },
            ],
            "rejected": [{
                "resource": "default/second",
                "reason": null,
                "hint": null,
                "effect": "every request is refused with 403",
            }],
        })
    );
}
