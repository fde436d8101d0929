//! Traps, restarts and loops.

use std::time::Duration;

use wasmplug_host::Limits;
use wasmplug_testkit::{RawClient, Reply, Upstream, UpstreamThread};

use super::{guest, stat};
use crate::harness::{Plugin, Running, Setup, eventually, patient};

/// Dies when it is asked to; tells its context and whether it died before.
fn mortal() -> Plugin {
    guest(
        "on configure:
            (call $tick #1)
            (return (i32.eqz (call $proxy_register 'q' (i32.const 0x120))))
        on tick:
            (if (call $is (call $recall 'died') 'yes') (then (call $bump 'ticked')))
        on queue_ready:
            (if (call $is (call $recall 'died') 'yes') (then (call $bump 'ready')))
        on request_headers:
            (if (call $is (call $get #request ':path') '/die') (then
                (call $share 'died' 'yes')
                (unreachable)))
            (drop (call $proxy_enqueue (i32.load (i32.const 0x120)) 'item'))
        on response_headers:
            (call $add #response 'x-context' (call $decimal (local.get $context)))
            (call $add #response 'x-died' (call $recall 'died'))
            (call $add #response 'x-n' (call $decimal (call $count)))",
    )
}

// Checks: TR-01
#[test]
fn a_trap_is_told_in_the_details_of_the_response() {
    let reads = Plugin::guest(
        "on response_headers:
            (call $add #response 'x-details' (call $property 'response\\00code_details'))",
    );
    let traps = Plugin::guest("on request_headers:\n(unreachable)");
    let proxy = Setup::new().plugin(reads).plugin(traps).start();
    let response = proxy.get("/");
    assert_eq!((response.status, response.text().as_str()), (503, ""));
    assert_eq!(response.header("x-details"), Some("wasm_fail_stream"));
}

// Checks: RL-01, RL-04, RL-05, RL-06
#[test]
fn a_fresh_vm_begins_anew_with_what_its_start_code_makes() {
    let proxy = Setup::new().plugin(mortal()).admin().start();
    let response = proxy.get("/");
    assert_eq!((response.header("x-context"), response.header("x-died")), (Some("2"), Some("-")));
    assert_eq!(proxy.get("/").header("x-context"), Some("3"));
    assert_eq!(proxy.get("/die").status, 503);
    let response = proxy.get("/");
    assert_eq!((response.status, response.header("x-context")), (200, Some("2")));
    assert_eq!(response.header("x-died"), Some("yes"), "shared data is kept");
    eventually(|| stat(&proxy, "ticked") > 0);
    eventually(|| stat(&proxy, "ready") > 0);
}

// Checks: RL-02
#[test]
fn a_plugin_that_keeps_dying_is_not_started_for_every_request() {
    let proxy = Setup::new().plugin(mortal()).start();
    let spec = proxy.specs().remove(0);
    // The wait doubles each time, so that even a slow client comes in one.
    eventually(|| {
        assert_eq!(proxy.get("/die").status, 503);
        spec.stats.refused_starts() > 0
    });
    let died: u64 = spec.stats.failures().map(|(_, count)| count).sum();
    assert_eq!(spec.stats.restarts() + 1, died, "each start but the last has died");
}

// Checks: RL-03
#[test]
fn a_fresh_start_that_is_refused_is_counted() {
    // The trial, the worker, and no more.
    let plugin = guest(
        "on configure:
            (if (call $is (call $recall 'worker') 'yes') (then (return (i32.const 0))))
            (if (call $is (call $recall 'trial') 'yes') (then (call $share 'worker' 'yes')))
            (call $share 'trial' 'yes')
        on request_headers:
            (unreachable)",
    );
    let proxy = Setup::new().plugin(plugin).start();
    let spec = proxy.specs().remove(0);
    assert_eq!(proxy.get("/").status, 503);
    eventually(|| spec.stats.failed_starts() > 0);
    assert_eq!(proxy.get("/").status, 503);
    assert!(proxy.upstream().received().is_empty());
}

/// Connections to two workers, as their counters tell.
fn two_workers(proxy: &Running) -> [RawClient; 2] {
    let mut first = proxy.client();
    let mut before = 0;
    loop {
        // Both workers count their own responses: a lower number comes from the other one.
        let number = |client: &mut RawClient| -> u64 {
            client.get("/").unwrap().header("x-n").unwrap().parse().unwrap()
        };
        before = before.max(number(&mut first));
        let mut second = proxy.client();
        if number(&mut second) <= before {
            return [first, second];
        }
        before += 1;
    }
}

// Checks: TR-09
#[test]
fn a_trap_on_one_worker_leaves_the_other_alone() {
    let proxy = Setup::new().tune(|config| config.workers = 2).plugin(mortal()).start();
    let [mut first, mut second] = two_workers(&proxy);
    let count = |client: &mut RawClient| -> u64 {
        client.get("/").unwrap().header("x-n").unwrap().parse().unwrap()
    };
    let before = count(&mut second);
    assert_eq!(first.get("/die").unwrap().status, 503);
    assert_eq!(count(&mut second), before + 1, "its VM goes on");
    assert_eq!(count(&mut first), 1, "the one that died is a fresh one");
}

// Checks: TR-07
#[test]
fn a_trap_in_the_answer_of_a_call_fails_who_waits_for_it() {
    let cluster = UpstreamThread::start(Upstream::scripted(|_| Reply::new(200).into())).unwrap();
    let address: wasmplug_proxy::ClusterConfig = cluster.addr().to_string().parse().unwrap();
    let plugin = || {
        guest(
            "on request_headers:
                (if (call $ask 'c' {:method: GET; :path: /; :authority: a} '' #0)
                    (then (return (i32.const 0))))
                (return #pause)
            on http_call_response:
                (unreachable)",
        )
    };
    for (plugin, status) in [(plugin(), 503), (plugin().fail_open(), 200)] {
        let address = address.clone();
        let tune = move |config: &mut wasmplug_proxy::ProxyConfig| {
            config.clusters.insert("c".to_owned(), address);
        };
        let proxy = Setup::new().tune(tune).plugin(plugin).start();
        assert_eq!(proxy.get("/").status, status);
    }
}

// Checks: LM-04
#[test]
fn an_endless_loop_costs_one_request() {
    let plugin = || {
        Plugin::guest(
            "on request_headers:
                (if (call $is (call $get #request ':path') '/loop') (then
                    (loop $forever (br $forever))))",
        )
    };
    let limits = || Limits { callback_deadline: Duration::from_millis(20), ..patient() };
    for (plugin, status) in [(plugin(), 503), (plugin().fail_open(), 200)] {
        let proxy = Setup::new().plugin(plugin).limits(limits()).start();
        assert_eq!(proxy.get("/").status, 200);
        assert_eq!(proxy.get("/loop").status, status);
        assert_eq!(proxy.get("/").status, 200);
        let spec = proxy.specs().remove(0);
        let deadlines = spec.stats.failures().filter(|(kind, _)| kind.as_str() == "deadline");
        assert_eq!(deadlines.map(|(_, count)| count).sum::<u64>(), 1);
    }
}
