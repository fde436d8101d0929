//! An axum service that runs a plugin in three lines.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower_service::Service;
use wasmplug_host::tower::{LayerError, LayerLimits, PluginLayer};

/// Answers with what it got, behind a plugin.
async fn call(plugin: PluginLayer, request: Request<Body>) -> (Response<()>, String) {
    let mut app = Router::new().route("/", post(|body: String| async move { body })).layer(plugin);
    let response = app.call(request).await.unwrap();
    let (head, body) = response.into_parts();
    let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    (Response::from_parts(head, ()), text)
}

fn prebuilt(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/prebuilt");
    std::fs::read(format!("{folder}/{name}.wasm")).unwrap()
}

fn request(body: &'static str) -> Request<Body> {
    Request::post("/").header("host", "a.test").body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn a_plugin_marks_the_answers_of_a_router() {
    let plugin = PluginLayer::new(&prebuilt("rate-limit-rust"), r#"{"hello":"config"}"#).unwrap();
    let (response, text) = call(plugin.clone(), request("hello")).await;
    assert_eq!((response.status(), text.as_str()), (StatusCode::OK, "hello"));
    assert_eq!(response.headers()["who-am-i"], "wasm-extension");
    assert_eq!(response.headers()["configdata"], r#"{"hello":"config"}"#);
}

#[tokio::test]
async fn a_plugin_answers_in_place_of_the_router() {
    let plugin = PluginLayer::new(&prebuilt("rate-limit-rust"), "{}").unwrap();
    let mut last = None;
    // Two a second pass; more than that do not.
    for _ in 0..50 {
        let (response, text) = call(plugin.clone(), request("hello")).await;
        last = Some(text);
        if response.status() == StatusCode::FORBIDDEN {
            break;
        }
    }
    assert_eq!(last.as_deref(), Some("rate limited, wait and retry."));
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused() {
    let limits = LayerLimits { body_bytes: 4, ..LayerLimits::default() };
    let plugin = PluginLayer::new(&prebuilt("rate-limit-rust"), "{}").unwrap().with_limits(limits);
    let (response, _) = call(plugin.clone(), request("hello")).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let (response, _) = call(plugin, request("four")).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_plugin_that_dies_costs_one_request() {
    let module = wat::parse_str(
        r#"(module
          (import "env" "proxy_get_buffer_bytes"
            (func $get (param i32 i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 2)
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
          (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (drop (call $get (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 4)))
            (if (i32.eq (i32.load8_u (i32.load (i32.const 0))) (i32.const 33)) (then unreachable))
            (i32.const 0)))"#,
    );
    let plugin = PluginLayer::new(&module.unwrap(), "").unwrap();
    assert_eq!(call(plugin.clone(), request("a")).await.0.status(), StatusCode::OK);
    assert_eq!(
        call(plugin.clone(), request("!")).await.0.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(call(plugin, request("a")).await.0.status(), StatusCode::OK);
}

#[test]
fn what_is_no_plugin_makes_no_layer() {
    assert!(matches!(PluginLayer::new(b"no module", ""), Err(LayerError::Load(_))));
}

#[tokio::test]
async fn a_message_that_is_held_too_long_is_answered() {
    let module = wat::parse_str(
        r#"(module
          (memory (export "memory") 2)
          (func (export "proxy_abi_version_0_2_1"))
          (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
          (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
            (i32.gt_u (local.get 1) (i32.const 4))))"#,
    );
    // What is not held at all does not meet even the shortest bound.
    let limits = LayerLimits { hold: std::time::Duration::ZERO, ..LayerLimits::default() };
    let plugin = PluginLayer::new(&module.unwrap(), "").unwrap().with_limits(limits);
    let (response, _) = call(plugin.clone(), request("hello")).await;
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    let (response, text) = call(plugin, request("four")).await;
    assert_eq!((response.status(), text.as_str()), (StatusCode::OK, "four"));
}
