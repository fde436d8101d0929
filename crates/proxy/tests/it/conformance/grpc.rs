//! gRPC calls and streams of plugins, against a server over HTTP/2.

use super::{assert_story, guest, storyteller};
use crate::harness::{GrpcServer, Plugin, Running, Setup};

/// Imports, and a story of everything that comes back. Requests to `/` begin it with `$begin`.
const WORDS: &str = r#"
(import "env" "proxy_grpc_call" (func $grpc_call (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_stream" (func $grpc_stream (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_send" (func $grpc_send (param i32 i32 i32 i32) (result i32)))
(import "env" "proxy_grpc_close" (func $grpc_close (param i32) (result i32)))
(import "env" "proxy_grpc_cancel" (func $grpc_cancel (param i32) (result i32)))
(import "env" "proxy_get_status" (func $proxy_status (param i32 i32 i32) (result i32)))
(func $status (param i32) (call $tell_number (local.get 0)) (call $tell ', '))
on request_headers:
    (if (call $is (call $get #request ':path') '/') (then (call $begin)))
on grpc_receive_initial_metadata:
    (call $tell 'initial ')
    (call $tell (call $get (i32.const 4) 'x-bin'))
    (call $tell ', ')
on grpc_receive:
    (call $tell 'message ')
    (call $tell (call $body (i32.const 5)))
    (call $tell ', ')
on grpc_receive_trailing_metadata:
    (call $tell 'trailing ')
    (call $tell (call $get (i32.const 5) 'x-t'))
    (call $tell ', ')
on grpc_close:
    (call $tell 'close ')
    (call $status (local.get $status))
    (call $tell (call $returned (call $proxy_status
        (i32.const 0x10c) (i32.const 0x100) (i32.const 0x104))))
    (call $tell '. ')
"#;

/// A plugin that does this for each request to `/`.
fn calling(begin: &str) -> Plugin {
    guest(&format!("(func $begin {begin})\n{WORDS}"))
}

/// A proxy whose cluster `c` is a gRPC server and `plain` speaks HTTP/1.
fn start(server: &GrpcServer, begin: &str) -> Running {
    let cluster: wasmplug_proxy::ClusterConfig = server.url().parse().unwrap();
    let nobody = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let setup = Setup::new().tune(move |config| {
        config.clusters.insert("empty".to_owned(), cluster.clone());
        config.clusters.insert("c".to_owned(), cluster);
        config.clusters.insert("plain".to_owned(), nobody.into());
    });
    setup.plugin(storyteller()).plugin(calling(begin)).start()
}

/// What a request to `/` leads to.
fn assert_told(begin: &str, expected: &str) {
    let server = GrpcServer::start();
    let proxy = start(&server, begin);
    assert_eq!(proxy.get("/").status, 200);
    assert_story(&proxy, expected);
}

/// A call of this method in this cluster.
fn call(cluster: &str, method: &str, metadata: &str, timeout: u32) -> String {
    format!(
        "(call $grpc_call '{cluster}' 'pkg.Service' '{method}' {metadata} 'question'
            (i32.const {timeout}) (i32.const 0x10c))"
    )
}

/// The same as a statement that fails loudly.
fn made(call: &str) -> String {
    format!("(if {call} (then (unreachable)))\n")
}

// Checks: GC-01
#[test]
fn a_call_is_answered_with_a_message_alone() {
    assert_told(&made(&call("c", "Echo", "''", 0)), "message question, ");
}

// Checks: GC-02
#[test]
fn an_error_comes_with_its_message() {
    assert_told(&made(&call("c", "Fail", "''", 0)), "close 7, not allowed{via_upstream}. ");
    assert_told(&made(&call("c", "Http", "''", 0)), "close 14, . ");
}

// Checks: GC-03
#[test]
fn a_call_that_is_not_answered_in_time_is_closed() {
    assert_told(&made(&call("c", "Never", "''", 20)), "close 13, response_timeout. ");
}

// Checks: GC-04
#[test]
fn clusters_that_are_unknown_or_speak_http1_are_refused() {
    let status = |call: String| format!("(call $status {call})\n");
    let unknown = status(call("unknown", "Echo", "''", 0));
    let plain = status(call("plain", "Echo", "''", 0));
    assert_told(&format!("{unknown}{plain}"), "4, 10, ");
}

// Checks: GC-05
#[test]
fn a_cancelled_call_is_not_answered() {
    // The second one is answered after the first would have been.
    let begin = format!(
        "{}
        (call $status (call $grpc_cancel (i32.load (i32.const 0x10c))))
        (call $status (call $grpc_cancel (i32.load (i32.const 0x10c))))
        {}",
        made(&call("c", "Fail", "''", 0)),
        made(&call("c", "Echo", "''", 0)),
    );
    assert_told(&begin, "0, 1, message question, ");
}

/// A stream with these messages.
fn streaming(method: &str, messages: &[&str]) -> String {
    let send = |message: &&str| {
        format!(
            "(call $status (call $grpc_send (i32.load (i32.const 0x10c)) '{message}'
                (i32.const 0)))"
        )
    };
    let lines: Vec<String> = messages.iter().map(send).collect();
    format!(
        "(if (call $grpc_stream 'c' 'pkg.Service' '{method}' {{x-bin: AAEC}}
            (i32.const 0x10c)) (then (unreachable)))\n{}\n",
        lines.join("\n")
    )
}

// Checks: GC-06, GC-12
#[test]
fn a_stream_echoes_to_its_end() {
    let mut begin = streaming("Echo", &["one", "two"]);
    begin += "(call $status (call $grpc_close (i32.load (i32.const 0x10c))))";
    assert_told(&begin, "0, 0, 0, initial AAEC, message one, message two, trailing t, close 0, . ");
}

#[test]
fn headers_alone_are_the_trailers_of_a_stream() {
    let fail = streaming("Fail", &[]);
    assert_told(&fail, "initial -, trailing -, close 7, not allowed{via_upstream}. ");
    assert_told(&streaming("Http", &[]), "initial -, close 14, . ");
}

// Checks: GC-07
#[test]
fn nothing_is_sent_on_a_stream_that_was_cancelled() {
    let mut begin = streaming("Echo", &["one"]);
    begin += "(call $status (call $grpc_cancel (i32.load (i32.const 0x10c))))
        (call $status (call $grpc_send (i32.load (i32.const 0x10c)) 'two' (i32.const 0)))\n";
    begin += &made(&call("c", "Fail", "''", 0));
    assert_told(&begin, "0, 0, 1, close 7, not allowed{via_upstream}. ");
}

// Checks: GC-10
#[test]
fn a_serialised_service_names_its_cluster() {
    // Field 1 is Envoy's own client, and field 1 of that the cluster.
    assert_told(&made(&call("\\0a\\03\\0a\\01c", "Echo", "''", 0)), "message question, ");
    let unknown = call("\\0a\\03\\0a\\01d", "Echo", "''", 0);
    assert_told(&format!("(call $status {unknown})"), "4, ");
}

// Checks: GC-11
#[test]
fn a_name_that_is_a_message_as_well_is_a_name() {
    assert_told(&made(&call("empty", "Echo", "''", 0)), "message question, ");
}

// Checks: GC-12
#[test]
fn the_server_gets_the_metadata() {
    assert_told(
        &made(&call("c", "Metadata", "{x-a: from the plugin}", 0)),
        "message from the plugin, ",
    );
}

#[test]
fn messages_of_a_stream_that_wait_are_bounded() {
    // Nothing is sent before the callback has returned.
    let begin = format!(
        "(local $sent i32)
        {}
        (loop $again
            (if (i32.eqz (call $grpc_send (i32.load (i32.const 0x10c)) 'x' (i32.const 0))) (then
                (local.set $sent (i32.add (local.get $sent) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $sent) (i32.const 2000))))))
        (call $status (local.get $sent))
        (call $status (call $grpc_send (i32.load (i32.const 0x10c)) 'x' (i32.const 0)))
        (call $status (call $grpc_cancel (i32.load (i32.const 0x10c))))",
        streaming("Echo", &[]),
    );
    assert_told(&begin, "1024, 10, 0, ");
}
