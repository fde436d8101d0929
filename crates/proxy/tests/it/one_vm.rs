//! Plugins with one VM for all workers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmplug_host::{Clock, Limits};

use crate::harness::{Plugin, Running, Setup, eventually, patient};

/// Time that goes on only when a test says so.
#[derive(Default)]
struct StoppedClock(AtomicU64);

impl StoppedClock {
    fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for StoppedClock {
    fn realtime_nanoseconds(&self) -> u64 {
        1_700_000_000_000_000_000 + self.0.load(Ordering::SeqCst)
    }

    fn monotonic_nanoseconds(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Says how often its VM was called.
fn counts() -> Plugin {
    Plugin::guest(
        "on response_headers:
            (call $add #response 'x-n' (call $decimal (call $count)))",
    )
}

fn start(workers: usize, plugin: Plugin) -> Running {
    Setup::new().tune(move |config| config.workers = workers).plugin(plugin).start()
}

/// Statuses of so many requests, each on a connection of its own.
fn statuses(proxy: &Running, requests: usize) -> Vec<u16> {
    (0..requests).map(|_| proxy.get("/").status).collect()
}

#[test]
fn all_workers_count_in_the_same_vm() {
    const REQUESTS: u64 = 60;
    for workers in [1, 2, 8] {
        let proxy = start(workers, counts().one_vm());
        let number = |_| proxy.get("/").header("x-n").unwrap().parse().unwrap();
        let numbers: Vec<u64> = (0..REQUESTS).map(number).collect();
        assert_eq!(numbers, (1..=REQUESTS).collect::<Vec<_>>(), "{workers} workers");
        assert_eq!(proxy.specs()[0].stats.running(), 1);
    }
}

#[test]
fn requests_at_the_same_time_are_counted_once_each() {
    const CLIENTS: u64 = 4;
    const EACH: u64 = 50;
    let proxy = start(4, counts().one_vm());
    let address = proxy.proxy().listen_address();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = wasmplug_testkit::RawClient::connect(address).unwrap();
                let mut number = || {
                    let response = client.get("/").unwrap();
                    response.header("x-n").unwrap().parse::<u64>().unwrap()
                };
                (0..EACH).map(|_| number()).collect::<Vec<_>>()
            })
        })
        .collect();
    let numbers: BTreeSet<u64> =
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(numbers, (1..=CLIENTS * EACH).collect());
}

#[test]
fn without_the_annotation_each_worker_counts_for_itself() {
    let proxy = start(2, counts().annotated("vm-scope", "worker"));
    let firsts = (0..100).filter(|_| proxy.get("/").header("x-n") == Some("1")).count();
    assert_eq!(firsts, 2);
}

#[test]
fn the_documented_rate_limiter_lets_exactly_two_requests_a_second_pass() {
    for workers in [1, 2, 8] {
        let clock = Arc::new(StoppedClock::default());
        let setup = Setup::new().tune(move |config| config.workers = workers);
        let plugin = Plugin::prebuilt("rate-limit-rust").one_vm();
        let proxy = setup.clock(Arc::clone(&clock) as _).plugin(plugin).start();
        for second in 0..3 {
            let statuses = statuses(&proxy, 24);
            let passed = statuses.iter().filter(|status| **status == 200).count();
            let refused = statuses.iter().filter(|status| **status == 403).count();
            assert_eq!((passed, refused), (2, 22), "{workers} workers, second {second}");
            // The limiter wants more than a second.
            clock.advance(Duration::from_millis(1001));
        }
    }
}

#[test]
fn by_itself_the_rate_limiter_lets_two_pass_on_each_worker() {
    let clock = Arc::new(StoppedClock::default());
    let setup = Setup::new().tune(|config| config.workers = 2).clock(clock);
    let plugin = Plugin::prebuilt("rate-limit-rust").annotated("vm-scope", "worker");
    let proxy = setup.plugin(plugin).start();
    let passed = statuses(&proxy, 100).into_iter().filter(|status| *status == 200).count();
    assert_eq!(passed, 4);
}

/// Dies of `/die`, loops at `/loop`, holds `/hold` and says how often its VM was called.
const MORTAL: &str = "
    on request_headers:
        (if (call $is (call $get #request ':path') '/die') (then (unreachable)))
        (if (call $is (call $get #request ':path') '/loop') (then (loop $l (br $l))))
        (if (call $is (call $get #request ':path') '/hold')
            (then (call $bump 'held') (return #pause)))
    on response_headers:
        (call $add #response 'x-count' (call $decimal (call $count)))";

#[test]
fn a_death_costs_the_streams_in_the_vm_and_the_next_ones_have_a_fresh_one() {
    let plugin = Plugin::guest(MORTAL).one_vm();
    let setup = Setup::new().tune(|config| config.workers = 2).plugin(plugin);
    let proxy = setup.admin().start();
    assert_eq!(proxy.get("/").header("x-count"), Some("1"));
    let mut held: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut held {
        client.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    }
    proxy.wait_for_stat("held 8");
    assert_eq!(proxy.get("/die").status, 503);
    for client in &mut held {
        assert_eq!(client.read_response().unwrap().status, 503);
    }
    assert_eq!(proxy.get("/").header("x-count"), Some("1"));
    assert!(proxy.upstream().received().len() == 2);
    let breakers = proxy.specs()[0].stats.breakers().reports();
    assert_eq!(breakers.iter().map(|of| of.worker.as_str()).collect::<Vec<_>>(), ["process"]);
}

#[test]
fn with_fail_open_streams_go_on_without_the_plugin_that_died() {
    let plugin = Plugin::guest(MORTAL).one_vm().fail_open();
    let proxy = Setup::new().plugin(plugin).admin().start();
    let mut held = proxy.client();
    held.send("POST /hold HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").unwrap();
    proxy.wait_for_stat("held 1");
    let post = "POST /die HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nbye";
    assert_eq!(proxy.exchange(post).json().unwrap()["body"], "bye");
    let response = held.read_response().unwrap();
    assert_eq!(response.json().unwrap()["body"], "hello");
    assert_eq!(response.header("x-count"), None);
}

#[test]
fn while_the_plugin_is_stuck_its_worker_serves_other_streams() {
    let limits = Limits { callback_deadline: Duration::from_mins(1), ..patient() };
    let stuck = "
        on request_headers:
            (call $bump 'stuck')
            (if (call $is (call $get #request ':path') '/') (then (loop $l (br $l))))";
    // The other plugin answers before the stuck one is asked.
    let answers = "
        on request_headers:
            (if (call $is (call $get #request ':path') '/free')
                (then (call $reply #204 'free' {a: b}) (return #pause)))";
    let setup =
        Setup::new().limits(limits).plugin(Plugin::guest(answers).annotated("vm-scope", "worker"));
    let proxy = setup.plugin(Plugin::guest(stuck).one_vm()).admin().start();
    let mut waiting = proxy.client();
    waiting.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("stuck 1");
    for _ in 0..5 {
        assert_eq!(proxy.get("/free").status, 204);
    }
}

#[test]
fn a_deadline_ends_what_is_stuck_and_the_plugin_comes_back() {
    let limits = Limits { callback_deadline: Duration::from_millis(50), ..patient() };
    let proxy = Setup::new().limits(limits).plugin(Plugin::guest(MORTAL).one_vm()).start();
    assert_eq!(proxy.get("/loop").status, 503);
    eventually(|| proxy.get("/").status == 200);
}

#[test]
fn a_plugin_that_was_replaced_ends_with_its_last_stream() {
    let plugin = || Plugin::guest(MORTAL).one_vm();
    let setup = Setup::new().tune(|config| config.workers = 2).plugin(plugin());
    let mut proxy = setup.admin().start();
    let old = proxy.specs().remove(0);
    let mut held = proxy.client();
    held.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("held 1");
    assert!(proxy.load(&[plugin().configured(r#"{"a": 1}"#)]).is_empty());
    proxy.wait_for_stat("wasmplug_vms{state=\"retired\"} 1");
    proxy.wait_for_stat("wasmplug_vms{state=\"live\"} 1");
    drop(held);
    eventually(|| old.stats.running() == 0);
    proxy.wait_for_stat("wasmplug_vms{state=\"retired\"} 0");
    assert_eq!(proxy.get("/").header("x-count"), Some("1"));
}

#[test]
fn what_is_no_scope_is_refused() {
    let text = "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\n\
        metadata: {name: a, annotations: {wasmplug.dev/vm-scope: all}}\nspec: {url: 'oci://r.io/a:1'}\n";
    let found = wasmplug_api::parse_file("a.yaml", text).diagnostics;
    assert!(found.iter().any(|of| of.to_string().contains("must be `worker` or `process`")));
}
