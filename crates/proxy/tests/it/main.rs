//! The whole data plane: a client, the proxy with real plugins, an upstream.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod differential;
mod harness;
