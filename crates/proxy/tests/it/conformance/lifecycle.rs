//! Starts, trials, and the end of streams.

use wasmplug_testkit::{Reply, Upstream, UpstreamThread};

use super::{guest, stat};
use crate::harness::{Plugin, Setup};

/// Counts the responses of its VM.
fn counting() -> Plugin {
    guest("on response_headers:\n(call $add #response 'x-n' (call $decimal (call $count)))")
}

// Checks: LD-27, LC-12
#[test]
fn plugins_of_one_module_share_a_vm() {
    let proxy = Setup::new().plugin(counting()).plugin(counting()).start();
    assert_eq!(proxy.get("/").header_values("x-n"), ["1", "2"]);
}

// Checks: LC-13
#[test]
fn plugins_of_one_module_with_other_variables_do_not_share_a_vm() {
    let with = |value: &str| counting().with_variable("A", value);
    let proxy = Setup::new().plugin(with("b")).plugin(with("c")).plugin(with("b")).start();
    assert_eq!(proxy.get("/").header_values("x-n"), ["1", "1", "2"]);
}

// Checks: LC-15
#[test]
fn what_the_trial_stored_is_found_by_workers() {
    let plugin = guest(
        "on configure:
            (if (call $is (call $recall 'k') '-')
                (then (call $bump 'missing'))
                (else (call $bump 'found')))
            (call $share 'k' 'v')",
    );
    let proxy = Setup::new().tune(|config| config.workers = 2).plugin(plugin).admin().start();
    proxy.wait_for_stat("found 2");
    assert_eq!(stat(&proxy, "missing"), 1);
}

// Checks: LC-16
#[test]
fn a_call_of_the_trial_is_taken_and_not_made() {
    let cluster = UpstreamThread::start(Upstream::echo()).unwrap();
    let address = cluster.addr().to_string().parse().unwrap();
    // A plugin that insists on its call is not refused for that.
    let plugin = guest(
        "on configure:
            (return (i32.eqz (call $ask 'c' {:method: GET; :path: /; :authority: a} '' #0)))
        on http_call_response:
            (call $bump 'answered')",
    );
    let tune = move |config: &mut wasmplug_proxy::ProxyConfig| {
        config.clusters.insert("c".to_owned(), address);
    };
    let proxy = Setup::new().tune(tune).plugin(plugin).admin().start();
    proxy.wait_for_stat("answered 1");
    assert_eq!(cluster.received().len(), 1, "the worker's call alone");
}

// Checks: LC-17
#[test]
fn start_code_runs_in_the_trial_and_on_each_worker() {
    let plugin = guest(
        "(global $initialized (mut i32) (i32.const 0))
        (func (export \"_initialize\")
            (global.set $initialized (i32.add (global.get $initialized) (i32.const 1))))
        on vm_start:
            (if (i32.eq (global.get $initialized) (i32.const 1)) (then (call $bump 'once')))
            (call $bump 'started')",
    );
    let proxy = Setup::new().tune(|config| config.workers = 2).plugin(plugin).admin().start();
    proxy.wait_for_stat("started 3");
    assert_eq!(stat(&proxy, "once"), 3);
}

/// Holds `/hold` and counts every callback.
fn holding() -> Plugin {
    guest(
        "on context_create:
            (if (local.get $parent) (then (call $bump 'created')))
        on request_headers:
            (call $bump 'begun')
            (if (call $is (call $get #request ':path') '/hold') (then (return #pause)))
        on response_headers:
            (call $bump 'response')
        on log:
            (call $bump 'logged')
        on done:
            (call $bump 'ended')
        on delete:
            (call $bump 'deleted')",
    )
}

// Checks: LC-25
#[test]
fn a_client_that_leaves_a_held_request_ends_it_without_a_response() {
    let proxy = Setup::new().plugin(holding()).admin().start();
    let mut client = proxy.client();
    client.send("GET /hold HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("begun 1");
    drop(client);
    proxy.wait_for_stat("deleted 1");
    for (name, count) in [("logged", 1), ("ended", 1), ("response", 0)] {
        assert_eq!(stat(&proxy, name), count, "{name}");
    }
}

// Checks: LC-26
#[test]
fn plugins_do_not_hear_of_what_is_no_request() {
    let proxy = Setup::new().plugin(holding()).admin().start();
    let response = proxy.exchange("GET / HTTP/1.1\r\nhost: a\r\nno header\r\n\r\n");
    assert_eq!(response.status, 400);
    assert_eq!(proxy.get("/").status, 200);
    proxy.wait_for_stat("deleted 1");
    for name in ["created", "logged", "ended"] {
        assert_eq!(stat(&proxy, name), 1, "{name}: of the request that was one");
    }
}

// Checks: LC-27
#[test]
fn each_stream_is_logged_once() {
    let proxy = Setup::new().plugin(holding()).admin().start();
    let mut client = proxy.client();
    let post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello";
    for _ in 0..3 {
        assert_eq!(client.exchange(post).unwrap().status, 200);
    }
    proxy.wait_for_stat("deleted 3");
    assert_eq!((stat(&proxy, "logged"), stat(&proxy, "ended")), (3, 3));
}

/// Starts in the trial and never again.
fn once() -> Plugin {
    guest(
        "on configure:
            (if (call $is (call $recall 'tried') '-') (then
                (call $share 'tried' 'yes')
                (return (i32.const 1))))
            (return (i32.const 0))",
    )
}

// Checks: LC-31, CH-13
#[test]
fn a_plugin_that_starts_in_the_trial_alone_refuses_requests() {
    let mark = |name: &str| {
        Plugin::guest(&format!(
            "on request_headers:
                (call $bump '{name}')
            on response_headers:
                (call $add #response 'x-seen' '{name}')"
        ))
    };
    let setup = Setup::new().plugin(mark("before")).plugin(once()).plugin(mark("behind"));
    let proxy = setup.admin().start();
    let response = proxy.get("/");
    assert_eq!((response.status, response.text().as_str()), (503, ""));
    assert_eq!(response.header_values("x-seen"), ["before"]);
    assert_eq!((stat(&proxy, "before"), stat(&proxy, "behind")), (1, 0));
    assert!(proxy.upstream().received().is_empty());
}

#[test]
fn a_plugin_that_starts_in_the_trial_alone_is_passed_if_it_fails_open() {
    let proxy = Setup::new().plugin(once().fail_open()).start();
    assert_eq!(proxy.get("/").status, 200);
}

// Checks: BD-47
#[test]
fn interim_responses_are_not_shown_to_plugins() {
    let upstream = Upstream::scripted(|_| Reply::new(200).informational(103).body("x").into());
    let proxy = Setup::new().plugin(holding()).upstream(upstream).admin().start();
    assert_eq!(proxy.get("/").text(), "x");
    proxy.wait_for_stat("deleted 1");
    assert_eq!(stat(&proxy, "response"), 1);
}

// Checks: LC-22, LC-23
#[test]
fn a_plugin_that_asks_for_time_is_deleted_after_it_says_that_it_is_done() {
    let plugin = |done: u32| {
        guest(&format!(
            "(import \"env\" \"proxy_done\" (func $proxy_done (result i32)))
            (global $is_ending (mut i32) (i32.const 0))
            on configure:
                (call $tick #1)
            on tick:
                (if (global.get $is_ending) (then
                    (global.set $is_ending (i32.const 0))
                    (if (i32.eqz (call $proxy_done)) (then (call $bump 'said_so')))))
            on done:
                (if (i32.eq (local.get $context) (i32.const 1)) (then
                    (call $bump 'done')
                    (global.set $is_ending (i32.const 1))
                    (return (i32.const {done}))))
            on delete:
                (if (i32.eq (local.get $context) (i32.const 1)) (then (call $bump 'deleted')))"
        ))
    };
    for (done, said_so) in [(0, 1), (1, 0)] {
        let mut proxy = Setup::new().plugin(plugin(done)).admin().start();
        assert!(proxy.load(&[]).is_empty());
        proxy.wait_for_stat("deleted 1");
        assert_eq!((stat(&proxy, "done"), stat(&proxy, "said_so")), (1, said_so));
    }
}
