//! HTTP calls of plugins, from wherever they are made.

use wasmplug_testkit::{End, Reply, Scripted, Upstream, UpstreamThread};

use super::{assert_story, guest, stat, storyteller};
use crate::harness::{Plugin, Running, Setup, eventually};

/// A chain whose plugins may call `c`, which is at that cluster.
fn start(cluster: &UpstreamThread, plugins: impl IntoIterator<Item = Plugin>) -> Running {
    let address = cluster.addr().to_string().parse().unwrap();
    let setup = Setup::new().tune(move |config| {
        config.clusters.insert("c".to_owned(), address);
        config.limits.buffer_bytes = 10_000;
    });
    let setup = setup.plugin(storyteller()).admin();
    plugins.into_iter().fold(setup, Setup::plugin).start()
}

fn cluster(script: impl Fn() -> Scripted + Send + Sync + 'static) -> UpstreamThread {
    UpstreamThread::start(Upstream::scripted(move |_| script())).unwrap()
}

/// The headers that a call must have.
const CALL: &str = "{:method: GET; :path: /; :authority: a.test}";

/// A plugin that holds each request for a call, and tells all about its answer.
fn asking(timeout_ms: u32) -> Plugin {
    let text = "
        (global $stream (mut i32) (i32.const 0))
        on request_headers:
            (global.set $stream (local.get $context))
            (if (call $ask 'c' CALL '' #TIMEOUT) (then (unreachable)))
            (return #pause)
        on http_call_response:
            (call $tell 'context ')
            (call $tell_number (local.get $context))
            (if (i32.eq (local.get $token) (i32.load (i32.const 0x10c)))
                (then (call $tell ', its token')))
            (call $tell ', headers ')
            (call $tell_number (local.get $headers))
            (call $tell ', trailers ')
            (call $tell_number (local.get $trailers))
            (call $tell ', ')
            (call $tell_number (local.get $size))
            (call $tell ' bytes: ')
            (call $tell (call $get (i32.const 6) ':status'))
            (call $tell ' ')
            (call $tell (call $get (i32.const 7) 'x-t'))
            (call $tell ' ')
            (call $tell (call $body (i32.const 4)))
            (call $effective (global.get $stream))
            (call $continue #0)";
    guest(&text.replace("CALL", CALL).replace("TIMEOUT", &timeout_ms.to_string()))
}

// Checks: HC-01, HC-03
#[test]
fn an_answer_comes_to_the_plugin_with_all_its_parts() {
    let cluster = cluster(|| {
        Reply::new(200).header("x-a", "1").chunked(["answer"]).trailer("x-t", "t").into()
    });
    let proxy = start(&cluster, [asking(0)]);
    assert_eq!(proxy.get("/").status, 200);
    // Status, x-a and transfer-encoding.
    let story = "context 1, its token, headers 4, trailers 1, 6 bytes: 200 t answer";
    assert_story(&proxy, story);
}

// Checks: HC-08
#[test]
fn a_timeout_has_a_body_that_says_so() {
    let cluster = cluster(Scripted::never);
    let proxy = start(&cluster, [asking(30)]);
    assert_eq!(proxy.get("/").status, 200);
    let story = "context 1, its token, headers 3, trailers 0, 24 bytes: \
        504 - upstream request timeout";
    assert_story(&proxy, story);
}

// Checks: HC-18
#[test]
fn an_answer_over_the_limit_is_a_failure() {
    for (size, expected) in [
        (10_001, "context 1, its token, headers 0, trailers 0, 0 bytes: - - -".to_owned()),
        (
            10_000,
            format!(
                "context 1, its token, headers 3, trailers 0, 10000 bytes: 200 - {}",
                "b".repeat(10_000)
            ),
        ),
    ] {
        let cluster = cluster(move || Reply::new(200).body("b".repeat(size)).into());
        let proxy = start(&cluster, [asking(0)]);
        assert_eq!(proxy.get("/").status, 200);
        assert_story(&proxy, &expected);
    }
}

// Checks: HC-11
#[test]
fn an_answer_that_breaks_off_is_a_failure() {
    let cluster =
        cluster(|| Scripted::raw("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", End::Close));
    let proxy = start(&cluster, [asking(0)]);
    assert_eq!(proxy.get("/").status, 200);
    assert_story(&proxy, "context 1, its token, headers 0, trailers 0, 0 bytes: - - -");
}

// Checks: HC-02
#[test]
fn body_and_trailers_of_a_call_are_sent() {
    let cluster = UpstreamThread::start(Upstream::echo()).unwrap();
    let plugin = guest(
        "on configure:
            (return (i32.eqz (call $proxy_call 'c'
                {:method: POST; :path: /ask; :authority: a.test} 'question' {x-t: t}
                (i32.const 0) (i32.const 0x10c))))
        on http_call_response:
            (call $bump 'answered')",
    );
    let proxy = start(&cluster, [plugin]);
    proxy.wait_for_stat("answered 1");
    let received = &cluster.received()[0];
    assert_eq!((received.method.as_str(), received.path.as_str()), ("POST", "/ask"));
    assert_eq!(received.body, b"question");
    assert_eq!(received.trailers, [("x-t".to_owned(), "t".to_owned())]);
}

// Checks: HC-12
#[test]
fn five_calls_at_a_time_are_each_answered_once() {
    let cluster = cluster(|| Reply::new(200).into());
    let five = format!("(drop (call $ask 'c' {CALL} '' #0))\n").repeat(5);
    let plugin = guest(&format!(
        "on configure:
            {five}
        on http_call_response:
            (call $tell_number (local.get $token))
            (call $tell ' ')
            (call $bump 'answered')"
    ));
    let proxy = start(&cluster, [plugin]);
    proxy.wait_for_stat("answered 5");
    let story = proxy.get("/story").text();
    let mut tokens: Vec<u32> = story.split_whitespace().map(|t| t.parse().unwrap()).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, [4, 8, 12, 16, 20]);
    assert_eq!(cluster.received().len(), 5);
}

// Checks: HC-13
#[test]
fn an_answer_for_a_stream_that_is_gone_comes_to_the_plugin() {
    let cluster = cluster(Scripted::never);
    let text = "
        (global $stream (mut i32) (i32.const 0))
        on request_headers:
            (if (call $is (call $get #request ':path') '/') (then
                (global.set $stream (local.get $context))
                (drop (call $ask 'c' CALL '' #20))
                (call $bump 'asked')
                (return #pause)))
        on http_call_response:
            (if (i32.ne (local.get $context) (i32.const 1)) (then (unreachable)))
            ;; While the client has not left yet, asks again.
            (if (i32.eqz (call $proxy_effective (global.get $stream))) (then
                (drop (call $ask 'c' CALL '' #20))
                (return)))
            (if (i32.eq (call $proxy_effective (global.get $stream)) (i32.const 2)) (then
                (call $bump 'gone')))";
    let proxy = start(&cluster, [guest(&text.replace("CALL", CALL))]);
    let mut client = proxy.client();
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    proxy.wait_for_stat("asked 1");
    drop(client);
    proxy.wait_for_stat("gone 1");
    assert_eq!(proxy.get("/other").status, 200);
}

// Checks: HC-14, HC-17
#[test]
fn a_tick_calls_and_the_answers_call_again() {
    let cluster = cluster(|| Reply::new(200).into());
    let plugin = guest(&format!(
        "on configure:
            (call $tick #1)
        on tick:
            (call $tick #0)
            (if (call $ask 'c' {CALL} '' #0) (then (unreachable)))
        on http_call_response:
            (call $bump 'answered')
            (if (i32.lt_u (call $count) (i32.const 3)) (then
                (if (call $ask 'c' {CALL} '' #0) (then (unreachable)))))"
    ));
    let proxy = start(&cluster, [plugin]);
    proxy.wait_for_stat("answered 3");
    assert_eq!(cluster.received().len(), 3);
}

// Checks: HC-15
#[test]
fn the_log_of_a_stream_calls() {
    let cluster = cluster(|| Reply::new(200).into());
    let plugin = guest(&format!(
        "on log:
            (if (call $ask 'c' {CALL} '' #0) (then (unreachable)))
        on http_call_response:
            (call $bump 'answered')"
    ));
    let proxy = start(&cluster, [plugin]);
    assert_eq!(proxy.get("/").status, 200);
    proxy.wait_for_stat("answered 1");
}

// Checks: HC-16
#[test]
fn a_response_that_waits_for_a_call_goes_on() {
    let cluster = cluster(|| Reply::new(202).into());
    let text = "
        (global $stream (mut i32) (i32.const 0))
        on response_headers:
            (global.set $stream (local.get $context))
            (if (call $ask 'c' CALL '' #0) (then (unreachable)))
            (return #pause)
        on http_call_response:
            (local $status i32)
            (local $len i32)
            (call $get (i32.const 6) ':status')
            (local.set $len)
            (local.set $status)
            (call $effective (global.get $stream))
            (call $add #response 'x-call' (local.get $status) (local.get $len))
            (call $continue (i32.const 1))";
    let proxy = start(&cluster, [guest(&text.replace("CALL", CALL))]);
    let response = proxy.get("/bytes/20");
    assert_eq!((response.header("x-call"), response.body.len()), (Some("202"), 20));
}

// Checks: HC-21
#[test]
fn a_plugin_that_was_removed_is_not_called_back() {
    let cluster = cluster(Scripted::never);
    let calls = |name: &str, timeout: u32| {
        guest(&format!(
            "on configure:
                (return (i32.eqz (call $ask 'c' {CALL} '' #{timeout})))
            on http_call_response:
                (call $bump '{name}')"
        ))
    };
    let mut proxy = start(&cluster, [calls("removed", 20)]);
    let spec = proxy.specs().pop().unwrap();
    assert_eq!(spec.stats.running(), 1);
    // Its timeout began later and is longer.
    assert!(proxy.load(&[storyteller(), calls("present", 60).named("other")]).is_empty());
    eventually(|| spec.stats.running() == 0);
    let before = stat(&proxy, "removed");
    proxy.wait_for_stat("present 1");
    assert_eq!(stat(&proxy, "removed"), before);
}

#[test]
fn calls_that_wait_for_an_answer_are_bounded() {
    let plugin = guest(
        "on request_headers:
            (local $n i32)
            (loop $again
                (if (call $ask 'c' {:method: GET; :path: /; :authority: a} '' (i32.const 60000))
                    (then (call $bump 'refused'))
                    (else (call $bump 'made')))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $n) (i32.const 1030))))
        on http_call_response:
            (call $bump 'answered')",
    );
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let setup = Setup::new().tune(move |config| {
        config.clusters.insert("c".to_owned(), nobody.into());
        config.upstreams.max_connections = 1;
    });
    let proxy = setup.plugin(plugin).admin().start();
    assert_eq!(proxy.get("/").status, 200);
    proxy.wait_for_stat("made 1024");
    proxy.wait_for_stat("refused 6");
    // Answers make room again.
    proxy.wait_for_stat("answered 1024");
    assert_eq!(proxy.get("/").status, 200);
    proxy.wait_for_stat("made 2048");
}
