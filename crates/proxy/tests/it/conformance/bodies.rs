//! Bodies and flow control, between a client and an upstream.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use wasmplug_testkit::{RawClient, Reply, Upstream, UpstreamThread};

use super::{assert_story, guest, stat, storyteller};
use crate::harness::{Plugin, Setup};

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Tells size and end of every body callback of a request.
fn telling() -> Plugin {
    guest(
        "on request_headers:
            (call $add #request 'x-end' (call $decimal (local.get $end)))
        on request_body:
            (call $tell_number (local.get $size))
            (call $tell '/')
            (call $tell_number (local.get $end))
            (call $tell ', ')",
    )
}

/// A response over HTTP/2 without TLS.
pub(super) fn exchange_h2(
    address: SocketAddr,
    method: &str,
    body: &'static str,
) -> (http::response::Parts, Bytes) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder().method(method).uri("http://a.test/");
        let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    })
}

// Checks: BD-01
#[test]
fn a_get_ends_with_its_headers() {
    let proxy = Setup::new().plugin(storyteller()).plugin(telling()).start();
    proxy.exchange(GET);
    assert_eq!(proxy.upstream().received()[0].header("x-end"), Some("1"));
    assert_story(&proxy, "");
}

// Checks: BD-02
#[test]
fn a_body_with_a_length_ends_with_a_callback_of_its_own() {
    let proxy = Setup::new().plugin(storyteller()).plugin(telling()).start();
    proxy.exchange("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(proxy.upstream().received()[0].header("x-end"), Some("0"));
    assert_story(&proxy, "5/0, 0/1, ");
}

// Checks: BD-02
#[test]
fn the_end_of_a_body_with_a_length_is_told_however_long_it_is() {
    const SIZE: usize = 2 << 20;
    let counts = |side: &str| {
        Plugin::guest(&format!(
            "on {side}_body:
                (if (local.get $end) (then (call $bump '{side}_ended')))"
        ))
    };
    let proxy = Setup::new().plugin(counts("request")).plugin(counts("response")).admin().start();
    let path = format!("/bytes/{SIZE}");
    let body = "b".repeat(SIZE);
    let post = format!("POST {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n{body}");
    assert_eq!(proxy.exchange(post).body.len(), SIZE);
    proxy.wait_for_stat("request_ended 1");
    proxy.wait_for_stat("response_ended 1");
}

// Checks: BD-03
#[test]
fn the_last_bytes_of_http2_end_the_body() {
    let proxy = Setup::new().plugin(storyteller()).plugin(telling()).start();
    let (head, _) = exchange_h2(proxy.proxy().listen_address(), "POST", "hello");
    assert_eq!(head.status, 200);
    assert_eq!(proxy.upstream().received()[0].body, b"hello");
    assert_story(&proxy, "5/1, ");
}

// Checks: BD-45
#[test]
fn a_body_without_chunks_is_one_empty_callback() {
    let proxy = Setup::new().plugin(storyteller()).plugin(telling()).start();
    proxy.exchange("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(proxy.upstream().received()[0].header("x-end"), Some("0"));
    assert_story(&proxy, "0/1, ");
}

// Checks: BD-43, BD-44
#[test]
fn responses_without_a_body_have_no_callback_for_one() {
    let counts = || Plugin::guest("on response_body:\n(call $bump 'bodies')");
    let proxy = Setup::new().plugin(counts()).admin().start();
    let mut client = proxy.client();
    client.send("HEAD /bytes/5 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let head = client.read_response_to_head().unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    for path in ["/status/204", "/status/304"] {
        client.get(path).unwrap();
    }
    assert_eq!(stat(&proxy, "bodies"), 0);
    client.get("/bytes/5").unwrap();
    assert!(stat(&proxy, "bodies") > 0);
}

// Checks: BD-46
#[test]
fn a_client_that_waits_for_100_gets_it() {
    for setup in [Setup::new(), Setup::new().plugin(telling())] {
        let proxy = setup.start();
        let mut client = proxy.client();
        client
            .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
            .unwrap();
        client.send("body").unwrap();
        let response = client.read_response().unwrap();
        assert_eq!(response.informational, ["HTTP/1.1 100 Continue"]);
        assert_eq!(response.json().unwrap()["body"], "body");
    }
}

const LIMIT: usize = 16 << 10;

// Checks: BD-22
#[test]
fn a_response_that_grows_too_large_behind_held_headers_is_replaced() {
    // The first holds the headers of the response for ever; the second lets them go and collects.
    let holds = Plugin::guest("on response_headers:\n(return #pause)");
    let collects = Plugin::guest("on response_body:\n(return #buffer)");
    let setup = Setup::new().tune(|config| config.limits.buffer_bytes = LIMIT);
    let proxy = setup.plugin(holds).plugin(collects).start();
    let response = proxy.get(&format!("/bytes/{}", LIMIT * 2));
    assert_eq!((response.status, response.text().as_str()), (500, "Internal Server Error"));
}

// Checks: BD-24
#[test]
fn a_watermark_shows_what_is_new_and_keeps_what_was_shown() {
    let plugin = guest(
        "on request_body:
            (call $bump 'callbacks')
            (call $tell (call $body #0))
            (call $tell ', ')
            (if (local.get $end) (then (return (i32.const 0))))
            (return #watermark)",
    );
    let proxy = Setup::new().plugin(storyteller()).plugin(plugin).admin().start();
    let mut client = proxy.client();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\none").unwrap();
    proxy.wait_for_stat("callbacks 1");
    client.send("two").unwrap();
    assert_eq!(client.read_response().unwrap().json().unwrap()["body"], "onetwo");
    assert_story(&proxy, "one, two, , ");
}

// Checks: BD-24
#[test]
fn a_watermark_in_the_body_slows_down_and_loses_nothing() {
    let plugin = guest(
        "on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then (call $continue #0)))
        on request_body:
            (call $hold (local.get $context))
            (return #watermark)",
    );
    let setup = Setup::new().tune(|config| config.limits.buffer_bytes = LIMIT);
    let proxy = setup.plugin(plugin).start();
    let body: Vec<String> = (0..LIMIT).map(|number| format!("{number:07} ")).collect();
    let body = body.concat();
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    assert_eq!(proxy.exchange(head + &body).status, 200);
    assert_eq!(proxy.upstream().received()[0].body, body.as_bytes());
}

/// Holds request headers until the proxy has received this many bytes of the body and a number of
/// ticks has passed since; counts those at which there were more than `most`.
fn holding_until(received: usize, ticks: usize, most: usize) -> Plugin {
    guest(&format!(
        "(global $full (mut i32) (i32.const 0))
        (global $waiting (mut i32) (i32.const 0))
        (func $received (result i32)
            (if (result i32) (call $proxy_get_property 'request\\00size'
                    (i32.const 0x100) (i32.const 0x104))
                (then (i32.const 0))
                (else (i32.load (i32.load (i32.const 0x100))))))
        on configure:
            (call $tick #1)
        on tick:
            (if (i32.eqz (global.get $waiting)) (then (return)))
            (call $effective (global.get $waiting))
            (if (i32.gt_u (call $received) (i32.const {most})) (then (call $bump 'too_many')))
            (if (i32.lt_u (call $received) (i32.const {received})) (then (return)))
            (global.set $full (i32.add (global.get $full) (i32.const 1)))
            (if (i32.lt_u (global.get $full) (i32.const {ticks})) (then (return)))
            (global.set $waiting (i32.const 0))
            (call $bump 'released')
            (call $continue #0)
        on request_headers:
            (if (local.get $end) (then (return (i32.const 0))))
            (global.set $waiting (local.get $context))
            (return #pause)
        on request_body:
            (call $tell_number (local.get $size))
            (call $tell '/')
            (call $tell_number (local.get $end))
            (call $tell ', ')"
    ))
}

// Checks: BD-28
#[test]
fn what_came_while_headers_were_held_is_shown_in_one_callback() {
    let plugin = holding_until(6, 1, usize::MAX >> 33);
    let counts = Plugin::guest("on request_headers:\n(call $bump 'behind')");
    let setup = Setup::new().plugin(storyteller()).plugin(plugin).plugin(counts);
    let proxy = setup.admin().start();
    let mut client = proxy.client();
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
    client.send(head).unwrap();
    assert_eq!((stat(&proxy, "released"), stat(&proxy, "behind")), (0, 0));
    client.send("3\r\ntwo\r\n").unwrap();
    proxy.wait_for_stat("released 1");
    client.send("0\r\n\r\n").unwrap();
    assert_eq!(client.read_response().unwrap().json().unwrap()["body"], "onetwo");
    assert_eq!(stat(&proxy, "behind"), 1);
    assert_story(&proxy, "6/0, 0/1, ");
}

// Checks: BD-30
#[test]
fn a_large_upload_waits_at_the_limit() {
    const SIZE: usize = 4 << 20;
    // What the HTTP library reads at once comes on top of the limit.
    let plugin = holding_until(LIMIT, 50, LIMIT + (512 << 10));
    let setup = Setup::new().tune(|config| config.limits.buffer_bytes = LIMIT);
    let proxy = setup.plugin(plugin).admin().start();
    let body = "b".repeat(SIZE);
    // In chunks, so that what is announced is not taken for what has come.
    let request = format!(
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{SIZE:x}\r\n{body}\r\n\
         0\r\n\r\n"
    );
    assert_eq!(proxy.exchange(request).status, 200);
    assert_eq!(proxy.upstream().received()[0].body.len(), SIZE);
    assert_eq!((stat(&proxy, "released"), stat(&proxy, "too_many")), (1, 0));
}

// Checks: BD-35
#[test]
fn a_body_that_waits_for_a_call_goes_on_when_it_is_answered() {
    let cluster = UpstreamThread::start(Upstream::echo()).unwrap();
    let address = cluster.addr().to_string().parse().unwrap();
    let plugin = guest(
        "(global $stream (mut i32) (i32.const 0))
        on request_body:
            (call $tell (call $body #0))
            (call $tell ', ')
            (if (i32.eqz (local.get $end)) (then (return #buffer)))
            (global.set $stream (local.get $context))
            (drop (call $ask 'c' {:method: GET; :path: /; :authority: a} '' #0))
            (return #buffer)
        on http_call_response:
            (call $effective (global.get $stream))
            (call $continue #0)",
    );
    let tune = move |config: &mut wasmplug_proxy::ProxyConfig| {
        config.clusters.insert("c".to_owned(), address);
    };
    let proxy = Setup::new().tune(tune).plugin(storyteller()).plugin(plugin).start();
    let response = proxy.exchange("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!(response.json().unwrap()["body"], "hello");
    assert_story(&proxy, "hello, hello, ");
}

// Checks: BD-50
#[test]
fn bits_of_a_response_are_not_kept_back() {
    let (sender, chunks) = mpsc::unbounded_channel();
    let chunks = std::sync::Mutex::new(Some(chunks));
    let upstream = Upstream::scripted(move |_| {
        let chunks = chunks.lock().unwrap().take().expect("one request is sent");
        Reply::new(200).header("content-type", "text/event-stream").streamed(chunks).into()
    });
    let plugin = Plugin::guest("on response_headers:\non response_body:\n(call $bump 'bodies')");
    let proxy = Setup::new().plugin(plugin).upstream(upstream).start();
    let mut client = std::net::TcpStream::connect(proxy.proxy().listen_address()).unwrap();
    client.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
    std::io::Write::write_all(&mut client, GET.as_bytes()).unwrap();
    let mut received = Vec::new();
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        // The next is handed over when the one before has arrived.
        sender.send(Bytes::from_static(event.as_bytes())).unwrap();
        while !String::from_utf8_lossy(&received).contains(event) {
            let mut buffer = [0; 1024];
            let len = std::io::Read::read(&mut client, &mut buffer).unwrap();
            assert_ne!(len, 0, "the connection ended");
            received.extend_from_slice(&buffer[..len]);
        }
    }
}

// Checks: BD-51
#[test]
fn ten_megabytes_that_are_rewritten_arrive_whole() {
    const SIZE: usize = 10 << 20;
    let plugin = Plugin::guest(
        "on request_headers:
            (call $remove #request 'content-length')
        on request_body:
            (if (local.get $size) (then (call $set_body #0 #0 #all (call $body #0))))
            (if (local.get $end) (then (call $set_body #0 #all #0 'end')))",
    );
    let proxy = Setup::new().plugin(plugin).start();
    let body: Vec<String> = (0..SIZE / 8).map(|number| format!("{number:08}")).collect();
    let body = body.concat();
    let request = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {SIZE}\r\n\r\n{body}");
    assert_eq!(proxy.exchange(request).status, 200);
    let received = &proxy.upstream().received()[0].body;
    assert!(*received == [body.as_bytes(), b"end"].concat(), "{} bytes came", received.len());
}

// Checks: BD-52
#[test]
fn pipelined_requests_that_are_held_are_answered_in_order() {
    let plugin = Plugin::guest(
        "on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then (call $continue #0)))
        on request_headers:
            (if (call $is (call $get #request ':path') '/2') (then (return (i32.const 0))))
            (call $hold (local.get $context))
            (return #pause)",
    );
    let proxy = Setup::new().plugin(plugin).start();
    let mut client: RawClient = proxy.client();
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    client.send(["/1", "/2", "/3"].map(get).concat()).unwrap();
    for path in ["/1", "/2", "/3"] {
        assert_eq!(client.read_response().unwrap().json().unwrap()["path"], path);
    }
}

// Checks: BD-48
#[test]
fn a_message_that_is_held_for_ever_is_ended() {
    let plugin = guest(
        "on request_headers:
            (if (call $is (call $get #request ':path') '/held') (then (return #pause)))
        on log:
            (call $log 'log')
        on done:
            (call $log 'done')
        on delete:
            (call $log 'delete')",
    );
    let setup =
        || Setup::new().tune(|config| config.limits.stream_idle_timeout = Duration::from_secs(1));
    let proxy = setup().plugin(plugin.clone()).start();
    assert_eq!(proxy.get("/other").status, 200);
    // The request is complete, and then it is not.
    assert_eq!(proxy.get("/held").status, 504);
    let half = "POST /held HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf";
    assert_eq!(proxy.exchange(half).status, 408);
    proxy.assert_log(&["log", "done", "delete"].repeat(3));
}
