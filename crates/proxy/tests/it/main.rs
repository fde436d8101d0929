//! The whole data plane: a client, the proxy with real plugins, an upstream.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod access_log;
mod admin;
mod authentication;
mod authorization;
mod callouts;
mod chains;
mod conformance;
mod containment;
mod costs;
mod differential;
mod failures;
mod framing;
mod harness;
mod http2_raw;
mod limits;
mod loading;
mod local_replies;
mod one_vm;
mod pass_through;
mod paths;
mod pausing;
mod proxy_protocol;
mod recovery;
mod rollout;
mod slow_clients;
mod smuggling;
mod stats;
mod swaps;
mod tcp_authorization;
mod tls;
mod tls_identities;
mod upstreams;
mod workers;
