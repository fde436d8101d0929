//! The whole data plane: a client, the proxy with real plugins, an upstream.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod admin;
mod callouts;
mod chains;
mod conformance;
mod differential;
mod failures;
mod framing;
mod harness;
mod limits;
mod loading;
mod local_replies;
mod pass_through;
mod pausing;
mod stats;
mod swaps;
mod upstreams;
mod workers;
