//! Protocol-level servers and clients: an echo upstream, an OCI registry, a raw HTTP client, and
//! a real Envoy.
//!
//! Tests of every crate use them, and so does the product's own quickstart; nothing in here knows
//! what a `WasmPlugin` is.
//! Everything binds loopback, on a port that the operating system chooses, unless the caller asks
//! for an address.
//! The HTTP/1.1 code is hand-written on purpose: what a proxy did to the order, the case and the
//! repetition of headers must be visible, and a usual HTTP library hides all three.
//!
//! - [`upstream`]: a server that tells what it received, or plays a script, broken ones included.
//! - [`client`]: sends raw bytes and reads exactly one response.
//! - [`Http2Client`]: the same over HTTP/2, which every server here speaks as well.
//! - [`registry`]: an OCI distribution registry with images built in memory or pushed to it.
//! - [`envoy`]: starts the Envoy binary, when there is one, with a Wasm filter in its chain.
//! - [`jwt`]: makes keys and signs tokens.

#![forbid(unsafe_code)]

mod http1;
mod http2;
mod message;
mod server;

pub mod client;
pub mod envoy;
pub mod jwt;
pub mod registry;
pub mod upstream;

pub use client::{RawClient, Response};
pub use http2::Http2Client;
pub use message::{End, Received, Reply, Scripted};
pub use registry::{Image, Registry, RegistryThread};
pub use upstream::{Upstream, UpstreamThread};

use std::time::Duration;

/// Environment variable that overrides [`patience`], in whole seconds.
pub const PATIENCE_VARIABLE: &str = "WASMPLUG_TEST_PATIENCE";

/// How long anything here waits for something outside the process before it gives up.
///
/// Default: 30 s. It only decides how fast a broken test fails, never whether a correct one
/// passes.
pub fn patience() -> Duration {
    let seconds = std::env::var(PATIENCE_VARIABLE).ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(30))
}
