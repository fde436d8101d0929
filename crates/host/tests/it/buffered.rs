//! Streams of whole messages.

use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use wasmplug_host::{BufferedStream, CompiledModule, Fields, FieldsKind, Message, Outcome, Plugin};

use crate::embedding::Sleeper;
use crate::harness::{Transcript, assemble, host, start};

/// How often a future may be polled to which nobody has anything to tell.
const MAX_POLLS: usize = 3;

/// What comes of a future that waits for nothing from outside.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    let ready = (0..MAX_POLLS).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    });
    ready.expect("it waits for ever")
}

fn plugin(guest: &str) -> Plugin {
    let host = host(&Transcript::default());
    start(&host, &CompiledModule::compile(&host, &assemble(guest)).unwrap())
}

fn stream(plugin: &Plugin) -> BufferedStream {
    BufferedStream::open(plugin, Rc::new(Sleeper::default())).unwrap()
}

/// A message with a body and trailers.
fn trailed(kind: FieldsKind) -> Message {
    let mut trailers = Fields::new(FieldsKind::Trailers);
    trailers.add(b"x-sum", b"1").unwrap();
    Message { headers: Fields::new(kind), body: "body".into(), trailers: Some(trailers) }
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// The body and the trailers, if the message passed.
fn passed(outcome: Outcome) -> (Bytes, Pairs) {
    let Outcome::Passed(Message { body, trailers, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    let trailers = trailers.unwrap();
    (body, trailers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
}

#[test]
fn a_body_that_is_replaced_with_nothing_has_no_length() {
    let plugin = plugin(
        "on request_body:
           (drop (call $proxy_set_buffer_bytes #request_body #0 #all ''))
         on response_body:
           (drop (call $proxy_set_buffer_bytes #response_body #0 #all ''))",
    );
    let mut stream = stream(&plugin);
    let request = Request::post("/").header(CONTENT_LENGTH, 4).body(Bytes::from("body")).unwrap();
    let request = now(stream.pass_request(request)).unwrap();
    assert_eq!(
        (&request.headers()[CONTENT_LENGTH], request.body().len()),
        (&"0".parse().unwrap(), 0)
    );
    let response = Response::builder().header(CONTENT_LENGTH, 4).body(Bytes::from("body"));
    let response = now(stream.pass_response(response.unwrap()));
    assert_eq!(
        (&response.headers()[CONTENT_LENGTH], response.body().len()),
        (&"0".parse().unwrap(), 0)
    );
}

#[test]
fn a_length_that_came_without_a_body_stays() {
    let plugin = plugin("on response_body:");
    let response = Response::builder().header(CONTENT_LENGTH, 4).body(Bytes::new()).unwrap();
    let response = now(stream(&plugin).pass_response(response));
    assert_eq!(response.headers()[CONTENT_LENGTH], "4");
}

#[test]
fn trailers_let_a_body_go_that_waits_for_its_end() {
    // Those that keep the body: with it, and with the next bytes only.
    for action in ["#1", "#2"] {
        let plugin = plugin(&format!(
            "on request_body:
               (if (i32.eqz (local.get $end)) (then (return {action})))
             on response_body:
               (if (i32.eqz (local.get $end)) (then (return {action})))"
        ));
        let mut stream = stream(&plugin);
        let trailers = vec![(b"x-sum".to_vec(), b"1".to_vec())];
        let outcome = now(stream.request(trailed(FieldsKind::Request))).unwrap();
        assert_eq!(passed(outcome), ("body".into(), trailers.clone()));
        let outcome = now(stream.response(trailed(FieldsKind::Response))).unwrap();
        assert_eq!(passed(outcome), ("body".into(), trailers));
    }
}

#[test]
fn a_body_that_is_dropped_does_not_come_back_with_the_trailers() {
    let plugin = plugin("on request_body:\n(return #3)");
    let outcome = now(stream(&plugin).request(trailed(FieldsKind::Request))).unwrap();
    assert_eq!(passed(outcome).0, "");
}

#[test]
fn trailers_that_are_held_hold_the_body() {
    let plugin = plugin(
        "on request_body:
           (return #1)
         on request_trailers:
           (return #1)
         on tick:
           (drop (call $proxy_set_effective_context #2))
           (drop (call $proxy_continue_stream #request))",
    );
    let mut stream = stream(&plugin);
    let mut request = pin!(stream.request(trailed(FieldsKind::Request)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(request.as_mut().poll(&mut cx).is_pending());
    plugin.tick().unwrap();
    assert_eq!(passed(now(request).unwrap()).0, "body");
}

#[test]
fn an_answer_to_a_body_comes_before_its_trailers() {
    let plugin = plugin(
        "on request_body:
           (drop (call $proxy_send_local_response #403 #0 #0 #0 #0 #0 #0 #-1))
         on response_body:
           (drop (call $proxy_close_stream #request))
         on request_trailers:
           (unreachable)
         on response_trailers:
           (unreachable)",
    );
    let mut stream = stream(&plugin);
    let outcome = now(stream.request(trailed(FieldsKind::Request))).unwrap();
    assert!(matches!(&outcome, Outcome::Reply(reply) if reply.status == 403), "{outcome:?}");
    let outcome = now(stream.response(trailed(FieldsKind::Response))).unwrap();
    assert!(matches!(outcome, Outcome::Closed), "{outcome:?}");
}
