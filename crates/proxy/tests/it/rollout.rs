//! Canaries and shadows: another version of a plugin that is tried out on traffic.

use std::collections::BTreeSet;

use wasmplug_proxy::RejectedEffect;
use wasmplug_testkit::{Response, Upstream, UpstreamThread};

use crate::harness::{Plugin, Running, Setup};

/// Writes which version it is.
fn version(name: &str) -> Plugin {
    Plugin::guest(&format!("on response_headers:\n(call $add #response 'x-version' '{name}')"))
}

/// Dies of every request.
fn dying() -> Plugin {
    Plugin::guest("on request_headers:\n(unreachable)")
}

/// Starts version 1 of the plugin with this candidate.
fn start(candidate: &Plugin, options: &[(&str, &str)]) -> (Running, Plugin) {
    start_with(&version("1"), candidate, options)
}

fn start_with(stable: &Plugin, candidate: &Plugin, options: &[(&str, &str)]) -> (Running, Plugin) {
    load(Setup::new().tune(|config| config.workers = 2), stable, candidate, options)
}

fn load(
    setup: Setup,
    stable: &Plugin,
    candidate: &Plugin,
    options: &[(&str, &str)],
) -> (Running, Plugin) {
    let mut proxy = setup.admin().start_unconfigured();
    let plugin = stable.clone().with_candidate(proxy.modules(), candidate, options);
    let rejected = proxy.load(std::slice::from_ref(&plugin));
    assert!(rejected.is_empty(), "{rejected:?}");
    (proxy, plugin)
}

fn get(proxy: &Running, headers: &str) -> Response {
    proxy.exchange(format!("GET / HTTP/1.1\r\nhost: a\r\n{headers}\r\n"))
}

/// Which version answered.
fn answered(response: &Response) -> String {
    assert_eq!(response.status, 200);
    response.header("x-version").unwrap().to_owned()
}

fn chosen(proxy: &Running, ids: std::ops::Range<u32>) -> BTreeSet<u32> {
    let is_chosen =
        |id: &u32| answered(&get(proxy, &format!("x-request-id: request-{id}\r\n"))) == "2";
    ids.filter(is_chosen).collect()
}

#[test]
fn a_share_of_requests_meets_the_canary_and_the_same_ones_again() {
    let (proxy, _) = start(&version("2"), &[("percent", "30")]);
    let first = chosen(&proxy, 0..200);
    assert!((40..=80).contains(&first.len()), "{}", first.len());
    // Whichever worker they meet.
    assert_eq!(chosen(&proxy, 0..200), first);
    let count = 2 * first.len();
    let spec = &proxy.specs()[0];
    let rollout = spec.rollout.as_ref().unwrap();
    let expected = [400 - count, count].map(|count| u64::try_from(count).unwrap());
    assert_eq!(rollout.streams(), expected);
    let labels = "{plugin=\"default/plugin-0\",version=\"candidate\"}";
    proxy.wait_for_stat(&format!("wasmplug_candidate_streams_total{labels} {count}"));
    // Each version has its own counters.
    proxy.wait_for_stat("wasmplug_plugin_running{plugin=\"default/plugin-0~candidate\"} 2");
}

#[test]
fn none_and_all_are_shares_as_well() {
    for (percent, expected) in [("0", "1"), ("100", "2")] {
        let (proxy, _) = start(&version("2"), &[("percent", percent)]);
        for _ in 0..20 {
            assert_eq!(answered(&get(&proxy, "")), expected);
        }
    }
}

#[test]
fn a_header_leads_to_the_canary_and_others_do_not() {
    let (proxy, _) = start(&version("2"), &[("header", "X-Try=yes")]);
    for (headers, expected) in
        [("x-try: yes\r\n", "2"), ("x-try: no\r\n", "1"), ("x-other: yes\r\n", "1"), ("", "1")]
    {
        assert_eq!(answered(&get(&proxy, headers)), expected, "{headers}");
    }
}

#[test]
fn a_canary_has_its_own_configuration_and_that_of_the_plugin_without_one() {
    let shows = Plugin::prebuilt("tag-headers-rust").configured(r#"{"tag": "one"}"#);
    let tag = |proxy: &Running, headers: &str| {
        get(proxy, headers).header("x-chain-response").unwrap().to_owned()
    };
    let options = [("header", "x-try"), ("config", r#"{"tag": "two"}"#)];
    let (proxy, _) = start_with(&shows, &shows, &options);
    assert_eq!((tag(&proxy, ""), tag(&proxy, "x-try: 1\r\n")), ("one".into(), "two".into()));
    let (proxy, _) = start_with(&shows, &shows, &options[..1]);
    assert_eq!(tag(&proxy, "x-try: 1\r\n"), "one");
}

#[test]
fn a_canary_that_fails_too_often_is_given_up_until_the_resource_changes() {
    let (mut proxy, plugin) = start(&dying(), &[("header", "x-try"), ("max-failures", "2")]);
    let try_it = |proxy: &Running| get(proxy, "x-try: 1\r\n").status;
    assert_eq!((0..3).map(|_| try_it(&proxy)).collect::<Vec<_>>(), [503; 3]);
    // From now on everybody meets the old version.
    for _ in 0..5 {
        assert_eq!(answered(&get(&proxy, "x-try: 1\r\n")), "1");
    }
    proxy.wait_for_stat("wasmplug_candidate_given_up{plugin=\"default/plugin-0\"} 1");
    let dump = proxy.admin("/config_dump").json().unwrap();
    let reason = dump["chain"][0]["candidate"]["given_up"].as_str().unwrap();
    assert!(reason.contains("3 streams failed"), "{reason}");
    // The same again changes nothing.
    assert!(proxy.load(&[plugin]).is_empty());
    assert_eq!(answered(&get(&proxy, "x-try: 1\r\n")), "1");
    // A good version does.
    let options = [("header", "x-try"), ("max-failures", "2")];
    let edited = version("1").with_candidate(proxy.modules(), &version("2"), &options);
    assert!(proxy.load(&[edited]).is_empty());
    assert_eq!(answered(&get(&proxy, "x-try: 1\r\n")), "2");
    proxy.wait_for_stat("wasmplug_candidate_given_up{plugin=\"default/plugin-0\"} 0");
}

#[test]
fn failures_of_the_plugin_itself_do_not_count_for_its_candidate() {
    let options = [("header", "x-try"), ("max-failures", "1")];
    let (proxy, _) = start_with(&dying(), &version("2"), &options);
    for _ in 0..5 {
        assert_eq!(get(&proxy, "").status, 503);
    }
    assert_eq!(answered(&get(&proxy, "x-try: 1\r\n")), "2");
}

#[test]
fn a_canary_that_is_too_slow_is_given_up_and_one_that_is_not_stays() {
    let slow = Plugin::guest(
        "on response_headers:
            (local $n i32)
            (loop $l
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $n) (i32.const 1000000))))
            (call $add #response 'x-version' '2')",
    );
    for (most, is_given_up) in [("1", true), ("4000000000", false)] {
        let options = [("percent", "100"), ("max-latency-us", most)];
        let (proxy, _) = start(&slow, &options);
        for _ in 0..30 {
            assert_eq!(get(&proxy, "").status, 200);
        }
        let spec = proxy.specs().remove(0);
        assert_eq!(spec.rollout.as_ref().unwrap().is_given_up(), is_given_up);
        let expected = if is_given_up { "1" } else { "2" };
        assert_eq!(answered(&get(&proxy, "")), expected);
    }
}

#[test]
fn a_candidate_that_cannot_be_had_leaves_the_plugin_alone() {
    let mut proxy = Setup::new().start_unconfigured();
    let broken = Plugin::bytes(*b"not a module");
    let plugin = version("1").with_candidate(proxy.modules(), &broken, &[("percent", "100")]);
    let rejected = proxy.load(&[plugin]);
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].resource.to_string(), "default/plugin-0~candidate");
    assert_eq!(rejected[0].effect, RejectedEffect::KeepsLastGood);
    assert_eq!(answered(&get(&proxy, "")), "1");
}

/// Does whatever a plugin can do to a stream, and to others.
const MEDDLER: &str = "
    on request_headers:
        (call $add #request 'x-meddled' 'yes')
        (call $set_property 'meddled' 'yes')
        (drop (call $set_shared 'shared' 'meddled' #0))
        (call $bump 'meddled')
        (drop (call $http_call 'c' {:method: GET; :path: /; :authority: a} '' #1000))
        (if (call $is (call $get #request ':path') '/reply')
            (then (call $reply #403 'meddled' {x-meddled: yes}) (return #pause)))
        (if (call $is (call $get #request ':path') '/hold') (then (return #pause)))
        (if (call $is (call $get #request ':path') '/die') (then (unreachable)))
    on response_headers:
        (call $add #response 'x-meddled' 'yes')
    on response_body:
        (call $set_body #1 #0 #all 'meddled')";

/// Shows what a shadow must not have changed.
const WITNESS: &str = "
    on response_headers:
        (call $add #response 'x-property' (call $property 'meddled'))
        (call $add #response 'x-shared' (call $shared 'shared'))
        (call $add #response 'x-version' '1')";

fn shadowed_by(setup: Setup) -> Running {
    let options = [("mode", "shadow"), ("max-failures", "1")];
    load(setup, &Plugin::guest(WITNESS), &Plugin::guest(MEDDLER), &options).0
}

fn shadowed() -> Running {
    shadowed_by(Setup::new())
}

#[test]
fn nothing_that_a_shadow_does_reaches_anybody() {
    let cluster = UpstreamThread::start(Upstream::echo()).unwrap();
    let address = cluster.addr().to_string().parse().unwrap();
    let proxy = shadowed_by(Setup::new().tune(move |config| {
        config.clusters.insert("c".to_owned(), address);
    }));
    for path in ["/", "/reply", "/hold", "/die"] {
        let response = proxy.get(path);
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.json().unwrap()["path"], path);
        for (name, expected) in [("x-meddled", None), ("x-version", Some("1"))] {
            assert_eq!(response.header(name), expected, "{path}");
        }
        assert_eq!(response.header("x-property"), Some("-"), "{path}");
        assert_eq!(response.header("x-shared"), Some("-"), "{path}");
    }
    assert!(cluster.received().is_empty());
    let received = proxy.upstream().received();
    assert_eq!(received.len(), 4);
    assert!(received.iter().all(|request| request.header("x-meddled").is_none()));
}

#[test]
fn what_a_shadow_would_have_done_is_counted() {
    let proxy = shadowed();
    for path in ["/", "/", "/reply", "/hold", "/die"] {
        assert_eq!(proxy.get(path).status, 200);
    }
    for (effect, count) in [
        ("reply_403", 1),
        ("request_headers", 2),
        ("response_headers", 2),
        ("bodies", 2),
        ("held", 1),
    ] {
        let labels = format!("{{plugin=\"default/plugin-0\",effect=\"{effect}\"}}");
        proxy.wait_for_stat(&format!("wasmplug_shadow_effects_total{labels} {count}"));
    }
    // Its own metrics are told apart from those of the plugin.
    proxy.wait_for_stat("shadow_meddled 5");
    let dump = proxy.admin("/config_dump").json().unwrap();
    let candidate = &dump["chain"][0]["candidate"];
    assert_eq!(
        (&candidate["mode"], &candidate["shadow"]["reply_403"]),
        (&"shadow".into(), &1.into())
    );
    let failures = "{plugin=\"default/plugin-0~candidate\",kind=\"trap\"}";
    proxy.wait_for_stat(&format!("wasmplug_plugin_failures_total{failures} 1"));
}

#[test]
fn a_shadow_that_fails_too_often_sees_no_more() {
    let proxy = shadowed();
    for _ in 0..10 {
        assert_eq!(proxy.get("/die").status, 200);
    }
    let rollout = proxy.specs().remove(0).rollout.clone().unwrap();
    crate::harness::eventually(|| rollout.is_given_up());
    let seen = rollout.streams();
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(rollout.streams(), [seen[0] + 1, seen[1]]);
}

#[test]
fn a_plugin_without_a_candidate_has_no_metrics_of_one() {
    let proxy = Setup::new().plugin(version("1")).admin().start();
    assert_eq!(answered(&get(&proxy, "")), "1");
    assert!(!proxy.admin("/stats/prometheus").text().contains("wasmplug_candidate"));
}

fn shadow(guest: &str, tune: impl FnOnce(&mut wasmplug_proxy::ProxyConfig) + 'static) -> Running {
    let setup = Setup::new().tune(tune);
    load(setup, &version("1"), &Plugin::guest(guest), &[("mode", "shadow")]).0
}

#[test]
fn a_shadow_stores_so_many_values_and_no_more() {
    let proxy = shadow(
        "on request_headers:
            (local $n i32)
            (loop $l
                (if (call $proxy_set_property (call $decimal (local.get $n)) 'v')
                    (then (call $bump 'refused'))
                    (else (call $bump 'stored')))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $l (i32.lt_u (local.get $n) (i32.const 1030))))",
        |_| {},
    );
    assert_eq!(answered(&get(&proxy, "")), "1");
    proxy.wait_for_stat("shadow_stored 1024");
    proxy.wait_for_stat("shadow_refused 6");
}

#[test]
fn a_shadow_that_holds_too_much_slows_nobody_down() {
    let held = "on request_body:\n(return #watermark)";
    for (length, overflows) in [(100, 0), (100_000, 1)] {
        let proxy = shadow(held, |config| config.limits.buffer_bytes = 10_000);
        let body = "b".repeat(length);
        let request =
            format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{body}");
        assert_eq!(answered(&proxy.exchange(request)), "1");
        assert_eq!(proxy.upstream().received()[0].body.len(), length);
        let labels = "{plugin=\"default/plugin-0\",effect=\"overflows\"}";
        proxy.wait_for_stat(&format!("wasmplug_shadow_effects_total{labels} {overflows}"));
    }
}
