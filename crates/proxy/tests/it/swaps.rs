//! New configurations under traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use wasmplug_proxy::{PluginSpec, RejectedEffect};
use wasmplug_testkit::RawClient;

use crate::harness::{Plugin, Setup, eventually};

/// Shows its configuration.
fn shows(number: u64) -> Plugin {
    Plugin::prebuilt("tag-headers-rust").configured(&format!(r#"{{"tag": "{number}"}}"#))
}

fn shown(client: &mut RawClient) -> u64 {
    let response = client.get("/").unwrap();
    assert_eq!(response.status, 200);
    response.header("x-chain-response").unwrap().parse().unwrap()
}

// Checks: UP-09
#[test]
fn swaps_lose_no_request_and_show_old_or_new() {
    const SWAPS: u64 = 200;
    for workers in [1, 2] {
        let mut proxy =
            Setup::new().tune(move |config| config.workers = workers).plugin(shows(0)).start();
        let address = proxy.proxy().listen_address();
        let (applied, published) = (AtomicU64::new(0), AtomicU64::new(0));
        let is_done = AtomicBool::new(false);
        let mut specs: Vec<Arc<PluginSpec>> = proxy.specs();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    let mut client = RawClient::connect(address).unwrap();
                    while !is_done.load(Ordering::Acquire) {
                        let oldest = applied.load(Ordering::Acquire);
                        let shown = shown(&mut client);
                        let newest = published.load(Ordering::Acquire);
                        assert!((oldest..=newest).contains(&shown), "{oldest} {shown} {newest}");
                    }
                });
            }
            for number in 1..=SWAPS {
                published.store(number, Ordering::Release);
                assert!(proxy.load(&[shows(number)]).is_empty());
                applied.store(number, Ordering::Release);
                specs.extend(proxy.specs());
            }
            is_done.store(true, Ordering::Release);
        });
        assert_eq!(shown(&mut proxy.client()), SWAPS);
        let newest = specs.pop().unwrap();
        assert_eq!(newest.stats.running(), u64::try_from(workers).unwrap());
        eventually(|| specs.iter().all(|spec| spec.stats.running() == 0));
    }
}

// Checks: UP-02
#[test]
fn a_stream_keeps_the_configuration_that_it_began_with() {
    let begun = || Plugin::guest("on request_headers:\n(call $bump 'begun')");
    let mut proxy = Setup::new().plugin(shows(1)).plugin(begun()).admin().start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\n").unwrap();
    proxy.wait_for_stat("begun 1");
    let old = proxy.specs().remove(0);
    assert!(proxy.load(&[shows(2), begun()]).is_empty());
    assert_eq!(old.stats.running(), 1);
    assert_eq!(proxy.get("/").header("x-chain-response"), Some("2"));
    client.send("body").unwrap();
    assert_eq!(client.read_response().unwrap().header("x-chain-response"), Some("1"));
    eventually(|| old.stats.running() == 0);
}

#[test]
fn what_did_not_change_goes_on() {
    let counts = || {
        Plugin::guest(
            "on response_headers:\n(call $add #response 'x-n' (call $decimal (call $count)))",
        )
    };
    let mut proxy = Setup::new().plugin(counts()).start();
    assert_eq!(proxy.get("/").header("x-n"), Some("1"));
    assert!(proxy.load(&[counts(), shows(1)]).is_empty());
    assert_eq!(proxy.get("/").header("x-n"), Some("2"));
    assert!(proxy.load(&[]).is_empty());
    assert_eq!(proxy.get("/").header("x-n"), None);
}

// Checks: LC-11, UP-10
#[test]
fn a_rejected_update_keeps_the_last_good_plugin() {
    let mut proxy = Setup::new().plugin(shows(1)).start();
    let refuses = Plugin::guest("on configure:\n(return #0)");
    let updates = [Plugin::missing(), Plugin::bytes(*b"not a module"), refuses];
    for update in updates {
        let rejected = proxy.load(&[update]);
        assert_eq!(rejected.len(), 1);
        assert_eq!(rejected[0].effect, RejectedEffect::KeepsLastGood);
        assert_eq!(shown(&mut proxy.client()), 1);
    }
    assert!(proxy.load(&[shows(2)]).is_empty());
    assert_eq!(shown(&mut proxy.client()), 2);
}
