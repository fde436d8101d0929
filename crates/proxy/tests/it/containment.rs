//! What one death costs: who feels it, and what comes after it.

use wasmplug_proxy::{BreakerReport, BreakerState};

use crate::harness::{Plugin, Running, Setup, eventually};

/// Dies of `/die`, holds `/hold`, counts its starts, and tells how often its VM was called.
const MORTAL: &str = "
    on configure:
        (call $bump 'started')
    on request_headers:
        (if (call $is (call $get #request ':path') '/die') (then (unreachable)))
        (if (call $is (call $get #request ':path') '/hold')
            (then (call $bump 'held') (return #pause)))
    on response_headers:
        (call $add #response 'x-count' (call $decimal (call $count)))";

fn only_breaker(proxy: &Running) -> BreakerReport {
    let mut reports = proxy.specs()[0].stats.breakers().reports();
    assert_eq!(reports.len(), 1);
    reports.remove(0)
}

/// Dies until its breaker is open; the first two deaths are free.
fn open_breaker(proxy: &Running) -> BreakerReport {
    loop {
        assert_eq!(proxy.get("/die").status, 503);
        let report = only_breaker(proxy);
        if report.opened > 0 {
            return report;
        }
    }
}

#[test]
fn a_plugin_that_died_is_started_anew_before_a_stream_asks_for_it() {
    let proxy = Setup::new().plugin(Plugin::guest(MORTAL)).start();
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(proxy.get("/die").status, 503);
    let spec = proxy.specs().remove(0);
    eventually(|| spec.stats.restarts() == 1 && spec.stats.running() == 1);
    assert_eq!(proxy.get("/").header("x-count"), Some("1"));
    assert_eq!(spec.stats.restarts(), 1);
}

#[test]
fn a_plugin_that_was_replaced_and_then_died_is_not_started_anew() {
    let mut proxy = Setup::new().plugin(Plugin::guest(MORTAL)).admin().start();
    let old = proxy.specs().remove(0);
    let mut late = proxy.client();
    late.send("POST /hold HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n").unwrap();
    proxy.wait_for_stat("held 1");
    let ticks = "
        on configure:
            (call $tick #1)
        on tick:
            (call $bump 'ticked')
            (unreachable)";
    assert!(proxy.load(&[Plugin::guest(ticks)]).is_empty());
    // Its VM serves the stream that it holds and nobody else.
    proxy.wait_for_stat("wasmplug_vms{state=\"retired\"} 1");
    assert_eq!(old.stats.running(), 1);
    drop(late);
    eventually(|| old.stats.running() == 0);
    assert_eq!(old.stats.restarts(), 0);
    // Whereas one that is still wanted comes back, also if no stream asks for it.
    let new = proxy.specs().remove(0);
    eventually(|| new.stats.restarts() > 1);
}

#[test]
fn streams_that_another_plugin_of_the_same_vm_holds_end_at_once() {
    // The same module and variables: both plugins share a VM.
    let dies = Plugin::guest(MORTAL).named("first").configured(r#"{"a": 1}"#);
    let proxy = Setup::new().plugin(dies.clone()).plugin(dies.named("second")).admin().start();
    let mut held = proxy.client();
    held.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("held 1");
    assert_eq!(proxy.get("/die").status, 503);
    assert_eq!(held.read_response().unwrap().status, 503);
    // Both are there again, in one VM.
    assert_eq!(proxy.get("/").status, 200);
    proxy.wait_for_stat("wasmplug_vms{state=\"live\"} 1");
    for spec in proxy.specs() {
        eventually(|| (spec.stats.running(), spec.stats.restarts()) == (1, 1));
    }
}

#[test]
fn a_breaker_opens_says_why_and_until_when_and_closes_by_itself() {
    let proxy = Setup::new().plugin(Plugin::guest(MORTAL)).admin().start();
    assert_eq!(only_breaker(&proxy).state, BreakerState::Closed);
    let report = open_breaker(&proxy);
    assert!(report.reason.contains("proxy_on_request_headers"), "{}", report.reason);
    assert_eq!(report.worker, "0");
    let dump = proxy.admin("/config_dump").json().unwrap();
    let breaker = &dump["chain"][0]["state"]["breakers"][0];
    assert_eq!(breaker["opened"], report.opened, "{breaker}");
    assert!(breaker["reason"].as_str().unwrap().contains("proxy_on_request_headers"));
    // Nobody has to do anything for it to be tried again.
    eventually(|| only_breaker(&proxy).state == BreakerState::HalfOpen);
    let labels = "{plugin=\"default/plugin-0\",worker=\"0\"}";
    proxy.wait_for_stat(&format!("wasmplug_plugin_breaker_half_open{labels} 1"));
    proxy.wait_for_stat(&format!("wasmplug_plugin_breaker_open{labels} 0"));
    assert_eq!(proxy.get("/").status, 200);
    eventually(|| only_breaker(&proxy).state == BreakerState::Closed);
    proxy.wait_for_stat(&format!("wasmplug_plugin_breaker_half_open{labels} 0"));
}

#[test]
fn an_open_breaker_refuses_streams_or_lets_them_pass_as_the_strategy_says() {
    for (is_open, expected) in [(false, 503), (true, 200)] {
        let plugin = Plugin::guest(MORTAL);
        let plugin = if is_open { plugin.fail_open() } else { plugin };
        let proxy = Setup::new().plugin(plugin).start();
        let spec = proxy.specs().remove(0);
        // Deaths in a row lengthen the wait until a request falls into it.
        while spec.stats.refused_starts() == 0 {
            assert_eq!(proxy.get("/die").status, expected);
        }
        assert!(only_breaker(&proxy).opened > 0);
    }
}

#[test]
fn a_plugin_that_dies_now_and_then_never_opens_its_breaker() {
    let proxy = Setup::new().plugin(Plugin::guest(MORTAL)).start();
    for _ in 0..20 {
        assert_eq!(proxy.get("/die").status, 503);
        assert_eq!(proxy.get("/").header("x-count"), Some("1"));
        eventually(|| !proxy.specs()[0].stats.running().eq(&0));
    }
    assert_eq!(only_breaker(&proxy).opened, 0);
}

fn tagged() -> Plugin {
    Plugin::prebuilt("tag-headers-rust").configured(r#"{"tag": "a"}"#)
}

#[test]
fn after_many_swaps_and_deaths_there_are_as_many_vms_as_plugins() {
    let numbered = |number: usize| {
        Plugin::guest(&format!("{MORTAL}\n(call $add #response 'x-number' '{number}')"))
    };
    let setup = Setup::new().tune(|config| config.workers = 2).plugin(numbered(0));
    let mut proxy = setup.plugin(tagged()).admin().start();
    proxy.wait_for_stat("wasmplug_vms{state=\"live\"} 4");
    for number in 1..50 {
        let plugins = [numbered(number), tagged()];
        assert!(proxy.load(&plugins).is_empty());
        assert_eq!(proxy.get("/").header("x-number"), Some(number.to_string().as_str()));
        if number % 10 == 0 {
            assert_eq!(proxy.get("/die").status, 503);
        }
    }
    proxy.wait_for_stat("wasmplug_vms{state=\"retired\"} 0");
    proxy.wait_for_stat("wasmplug_vms{state=\"live\"} 4");
    assert!(proxy.load(&[]).is_empty());
    proxy.wait_for_stat("wasmplug_vms{state=\"live\"} 0");
    proxy.wait_for_stat("wasmplug_vms{state=\"retired\"} 0");
}
