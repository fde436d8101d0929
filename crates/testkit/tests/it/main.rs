//! The servers and the client against one another, and against Envoy where there is one.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod envoy;
mod http2;
mod registry;
mod upstream;
