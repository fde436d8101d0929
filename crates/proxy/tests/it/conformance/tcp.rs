//! Network plugins: TCP connections between a raw client and a raw upstream.

use std::io::{Read, Write};
use std::time::Duration;

use wasmplug_proxy::{ListenerProtocol, ProxyConfig};
use wasmplug_testkit::{Upstream, UpstreamThread};

use super::{FOREIGN, guest};
use crate::harness::{Plugin, RawUpstream, Running, Setup, TcpClient};

/// Words for network plugins.
///
/// ```text
/// $note TEXT NUMBER   logs both
/// $shown KIND TEXT    whether the data is this: 2 of the client, 3 of the upstream
/// ```
const WORDS: &str = "
(func $note (param $text i32) (param $len i32) (param $number i32)
    (local $digits i32)
    (local $count i32)
    (memory.copy (i32.const 0x3ff000) (local.get $text) (local.get $len))
    (call $decimal (local.get $number))
    (local.set $count)
    (local.set $digits)
    (memory.copy (i32.add (i32.const 0x3ff000) (local.get $len))
        (local.get $digits) (local.get $count))
    (call $log (i32.const 0x3ff000) (i32.add (local.get $len) (local.get $count))))
(func $shown (param $kind i32) (param $text i32) (param $len i32) (result i32)
    (call $is (call $body (local.get $kind)) (local.get $text) (local.get $len)))
";

/// Tells every callback, each line with `NAME` in front.
const STORY: &str = "
on context_create:
    (if (local.get $parent) (then (call $log 'NAMEcreate')))
on new_connection:
    (call $log 'NAMEnew connection')
on downstream_data:
    (call $note 'NAMEdownstream ' (local.get $size))
    (if (local.get $end) (then (call $log 'NAMEdownstream ends')))
on upstream_data:
    (call $note 'NAMEupstream ' (local.get $size))
    (if (local.get $end) (then (call $log 'NAMEupstream ends')))
on downstream_connection_close:
    (call $note 'NAMEdownstream closed by ' (local.get $peer))
on upstream_connection_close:
    (call $note 'NAMEupstream closed by ' (local.get $peer))
on done:
    (call $log 'NAMEdone')
on log:
    (call $log 'NAMElog')
on delete:
    (call $log 'NAMEdelete')";

pub(super) fn network(text: &str) -> Plugin {
    guest(&format!("{WORDS}{text}")).network()
}

pub(super) fn story(name: &str) -> Plugin {
    network(&STORY.replace("NAME", name))
}

/// A TCP proxy in front of this upstream.
fn setup(upstream: &RawUpstream) -> Setup {
    let address = upstream.address().into();
    Setup::new().tune(move |config| as_tcp(config, address))
}

pub(super) fn as_tcp(config: &mut ProxyConfig, upstream: wasmplug_proxy::ClusterConfig) {
    config.listener = ListenerProtocol::Tcp;
    config.upstream = upstream;
}

pub(super) fn start(upstream: &RawUpstream, plugins: impl IntoIterator<Item = Plugin>) -> Running {
    plugins.into_iter().fold(setup(upstream).admin(), Setup::plugin).start()
}

#[test]
fn without_plugins_bytes_pass_both_ways() {
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, []);
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    client.send(&"x".repeat(100_000));
    client.finish();
    assert_eq!(client.read_to_end().len(), 100_000);
}

// Checks: NT-01, NT-04, LC-20
#[test]
fn a_connection_is_told_from_its_beginning_to_its_end() {
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, [story("")]);
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    client.finish();
    assert_eq!(client.read_to_end(), "");
    proxy.assert_log(&[
        "create",
        "new connection",
        "downstream 5",
        "upstream 5",
        "downstream 0",
        "downstream ends",
        "upstream 0",
        "upstream ends",
        "upstream closed by 0",
        "downstream closed by 1",
        "done",
        "log",
        "delete",
    ]);
}

// Checks: NT-02
#[test]
fn bytes_are_changed_both_ways() {
    let upstream = RawUpstream::echo();
    let plugin = network(
        "on downstream_data:
            (if (call $shown #downstream 'ask') (then
                (call $set_body #downstream (i32.const 0) #all 'question')))
        on upstream_data:
            (if (call $shown #upstream 'question') (then
                (call $set_body #upstream (i32.const 0) #all 'answer')))",
    );
    let proxy = start(&upstream, [plugin]);
    let mut client = TcpClient::connect(&proxy);
    client.send("ask");
    assert_eq!(client.read(6), "answer");
    client.send("other");
    assert_eq!(client.read(5), "other");
}

// Checks: NT-03
#[test]
fn a_held_connection_goes_on_with_all_its_bytes() {
    let upstream = RawUpstream::echo();
    // The first connection is held until there is a second one.
    let plugin = network(
        "(global $first (mut i32) (i32.const 0))
        on new_connection:
            (if (i32.eqz (global.get $first)) (then
                (global.set $first (local.get $context))
                (call $bump 'held')
                (return #pause)))
            (call $effective (global.get $first))
            (call $continue #downstream)",
    );
    // One in front of it sees the bytes at once, and only once.
    let before = network("on downstream_data:\n(call $note 'shown ' (local.get $size))");
    let proxy = start(&upstream, [before, plugin]);
    let mut first = TcpClient::connect(&proxy);
    first.send("early");
    proxy.wait_for_stat("held 1");
    assert_eq!(upstream.connections(), 0);
    let _second = TcpClient::connect(&proxy);
    assert_eq!(first.read(5), "early");
    first.send("late");
    assert_eq!(first.read(4), "late");
    proxy.assert_log(&["shown 5", "shown 4"]);
}

#[test]
fn held_data_is_shown_again_with_what_follows() {
    let upstream = RawUpstream::echo();
    let plugin = network(
        "on downstream_data:
            (call $note 'shown ' (local.get $size))
            (if (i32.lt_u (local.get $size) (i32.const 6)) (then
                (call $bump 'held')
                (return #pause)))",
    );
    let proxy = start(&upstream, [plugin]);
    let mut client = TcpClient::connect(&proxy);
    client.send("abc");
    proxy.wait_for_stat("held 1");
    client.send("def");
    assert_eq!(client.read(6), "abcdef");
    proxy.assert_log(&["shown 3", "shown 6"]);
}

// Checks: NT-05
#[test]
fn the_upstream_closes_before_the_client() {
    let upstream = RawUpstream::start(|mut stream| {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
    });
    let proxy = start(&upstream, [story("")]);
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read_to_end(), "");
    drop(client);
    proxy.assert_log(&[
        "create",
        "new connection",
        "downstream 5",
        "upstream 0",
        "upstream ends",
        "upstream closed by 0",
        "downstream 0",
        "downstream ends",
        "downstream closed by 2",
        "done",
        "log",
        "delete",
    ]);
}

// Checks: NT-06
#[test]
fn the_upstream_answers_a_client_that_has_closed_its_half() {
    let upstream = RawUpstream::start(|mut stream| {
        let mut asked = String::new();
        stream.read_to_string(&mut asked).unwrap();
        stream.write_all(format!("answer to {asked}").as_bytes()).unwrap();
    });
    // How many pieces an answer comes in is the system's business.
    let plugin = network(
        "on downstream_data:
            (if (local.get $end) (then (call $log 'downstream ends')))
        on upstream_data:
            (if (local.get $end) (then (call $log 'upstream ends')))
        on downstream_connection_close:
            (call $note 'downstream closed by ' (local.get $peer))
        on upstream_connection_close:
            (call $note 'upstream closed by ' (local.get $peer))",
    );
    let proxy = start(&upstream, [plugin]);
    let mut client = TcpClient::connect(&proxy);
    client.send("question");
    client.finish();
    assert_eq!(client.read_to_end(), "answer to question");
    proxy.assert_log(&[
        "downstream ends",
        "upstream ends",
        "upstream closed by 0",
        "downstream closed by 1",
    ]);
}

// Checks: NT-07
#[test]
fn a_plugin_closes_after_what_was_written() {
    let upstream = RawUpstream::echo();
    let plugin = network(
        "on downstream_data:
            (if (call $shown #downstream 'bye') (then (call $close #downstream)))
        on upstream_data:
            (if (call $shown #upstream 'over') (then (call $close #upstream)))
        on downstream_connection_close:
            (call $note 'closed by ' (local.get $peer))",
    );
    let proxy = start(&upstream, [plugin]);
    for last in ["bye", "over"] {
        let mut client = TcpClient::connect(&proxy);
        client.send("hello");
        assert_eq!(client.read(5), "hello");
        client.send(last);
        assert_eq!(client.read_to_end(), "", "{last}");
    }
    proxy.assert_log(&["closed by 1", "closed by 1"]);
}

// Checks: NT-08
#[test]
fn the_answer_of_a_call_lets_a_connection_go_on() {
    let upstream = RawUpstream::echo();
    let cluster = UpstreamThread::start(Upstream::echo()).unwrap();
    let plugin = network(
        "(global $held_id (mut i32) (i32.const 0))
        on new_connection:
            (global.set $held_id (local.get $context))
            (if (call $ask 'c' {:method: GET; :path: /; :authority: a.test} '' #0)
                (then (unreachable)))
            (return #pause)
        on http_call_response:
            (call $note 'answer to ' (local.get $context))
            (call $effective (global.get $held_id))
            (call $continue #downstream)",
    );
    let (address, at) = (upstream.address().into(), cluster.addr().into());
    let proxy = Setup::new()
        .tune(move |config| {
            as_tcp(config, address);
            config.clusters.insert("c".to_owned(), at);
        })
        .plugin(plugin)
        .start();
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    proxy.assert_log(&["answer to 1"]);
    assert_eq!(cluster.received().len(), 1);
}

// Checks: NT-09
#[test]
fn a_connection_has_addresses_and_no_request() {
    let upstream = RawUpstream::echo();
    let plugin = network(
        "on new_connection:
            (call $log (call $property 'source\\00address'))
            (call $log (call $property 'destination\\00address'))
            (call $log (call $number_property 'connection\\00id'))
            (call $log (call $property 'request\\00path'))
            (call $log (call $property 'request\\00protocol'))
            (call $log (call $property 'upstream\\00address'))
        on upstream_data:
            (call $log (call $property 'upstream\\00address'))",
    );
    let proxy = start(&upstream, [plugin]);
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    proxy.assert_log(&[
        &client.local_address().to_string(),
        &proxy.proxy().listen_address().to_string(),
        "1",
        "-",
        "-",
        "-",
        &upstream.address().to_string(),
    ]);
}

// Checks: NT-10
#[test]
fn a_local_reply_means_nothing_to_a_connection() {
    let upstream = RawUpstream::echo();
    let plugin = network(
        "on downstream_data:
            (call $note 'status ' (call $proxy_reply #403 '' 'no' {x-a: 1} (i32.const -1)))",
    );
    let proxy = start(&upstream, [plugin]);
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    proxy.assert_log(&["status 0"]);
}

// Checks: NT-11, FF-04
#[test]
fn a_plugin_chooses_the_cluster_of_a_connection() {
    let upstream = RawUpstream::echo();
    let other = RawUpstream::start(|mut stream| stream.write_all(b"the other").unwrap());
    // Fields 1 and 2: a key and the name of a cluster.
    let choosing = |field: &str| {
        network(&format!(
            "{FOREIGN}
            on new_connection:
                (if (call $foreign 'set_envoy_filter_state'
                    '\\0a\\17envoy.tcp_proxy.cluster\\12{field}' (i32.const 0) (i32.const 0))
                    (then (unreachable)))"
        ))
    };
    for (field, expected) in [("\\01c", "the other"), ("\\01d", "")] {
        let (address, at) = (upstream.address().into(), other.address().into());
        let proxy = Setup::new()
            .tune(move |config| {
                as_tcp(config, address);
                config.clusters.insert("c".to_owned(), at);
            })
            .plugin(choosing(field))
            .start();
        assert_eq!(TcpClient::connect(&proxy).read_to_end(), expected, "{field}");
    }
    assert_eq!(upstream.connections(), 0);
}

// Checks: NT-12
#[test]
fn a_reset_has_no_end() {
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, [story("")]);
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    client.reset();
    proxy.assert_log(&[
        "create",
        "new connection",
        "downstream 5",
        "upstream 5",
        "downstream closed by 2",
        "done",
        "log",
        "delete",
    ]);
}

// Checks: NT-13
#[test]
fn a_client_may_say_nothing() {
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, [story("")]);
    drop(TcpClient::connect(&proxy));
    proxy.assert_log(&[
        "create",
        "new connection",
        "downstream 0",
        "downstream ends",
        "upstream 0",
        "upstream ends",
        "upstream closed by 0",
        "downstream closed by 1",
        "done",
        "log",
        "delete",
    ]);
}

// Checks: NT-14
#[test]
fn two_plugins_see_bytes_in_order_and_end_one_after_the_other() {
    let upstream = RawUpstream::echo();
    let proxy = start(&upstream, [story("a "), story("b ")]);
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    client.reset();
    proxy.assert_log(&[
        "a create",
        "a new connection",
        "b create",
        "b new connection",
        "a downstream 5",
        "b downstream 5",
        "b upstream 5",
        "a upstream 5",
        "a downstream closed by 2",
        "a done",
        "a log",
        "a delete",
        "b downstream closed by 2",
        "b done",
        "b log",
        "b delete",
    ]);
}

// Checks: TR-18
#[test]
fn a_connection_whose_plugin_dies_is_closed_or_goes_on() {
    let upstream = RawUpstream::echo();
    let dying = || {
        network(
            "on downstream_data:
                (if (call $shown #downstream 'die') (then (unreachable)))",
        )
    };
    let proxy = start(&upstream, [dying()]);
    let mut client = TcpClient::connect(&proxy);
    client.send("hello");
    assert_eq!(client.read(5), "hello");
    client.send("die");
    assert_eq!(client.read_to_end(), "");
    let proxy = start(&upstream, [dying().fail_open()]);
    let mut client = TcpClient::connect(&proxy);
    client.send("die");
    assert_eq!(client.read(3), "die");
    client.send("on");
    assert_eq!(client.read(2), "on");
}

#[test]
fn network_plugins_stand_in_front_of_http() {
    let plugin = network(
        "on downstream_data:
            (if (local.get $size) (then
                (call $set_body #downstream (i32.const 0) (i32.const 6) 'GET /b')))
        on upstream_data:
            (if (local.get $size) (then (call $log 'response')))",
    );
    let http = guest("on request_headers:\n(call $log (call $get #request ':path'))");
    let proxy = Setup::new().plugin(plugin).plugin(http).start();
    assert_eq!(proxy.get("/a").status, 200);
    assert_eq!(proxy.upstream().received()[0].path, "/b");
    assert_eq!(proxy.told()[0], "/b");
    assert!(proxy.told()[1..].iter().all(|line| line == "response"), "{:?}", proxy.told());
}

#[test]
fn a_connection_on_which_nothing_moves_is_closed() {
    let upstream = RawUpstream::echo();
    let idle = || network("on downstream_data:\non upstream_data:");
    let with = |idle_timeout: Duration, plugins: Vec<Plugin>| {
        let tuned = setup(&upstream);
        let tuned = tuned.tune(move |config| config.limits.tcp_idle_timeout = idle_timeout);
        plugins.into_iter().fold(tuned, Setup::plugin).start()
    };
    for plugins in [vec![], vec![idle()]] {
        let proxy = with(Duration::from_millis(1), plugins);
        assert_eq!(TcpClient::connect(&proxy).read_to_end(), "");
    }
    for plugins in [vec![], vec![idle()]] {
        let proxy = with(Duration::from_hours(1), plugins);
        let mut client = TcpClient::connect(&proxy);
        client.send("hello");
        assert_eq!(client.read(5), "hello");
    }
}
