//! The binary as a user meets it: exit status, what it prints, what its traffic does.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod access_log;
mod authentication;
mod authorizers;
mod errors;
mod examples;
mod explain;
mod handover;
mod limits;
mod modules;
mod process;
mod pull_secret;
mod quickstart;
mod reload;
mod scenario;
mod schema;
mod tls;
mod upstreams;
mod walkthrough;
mod workloads;
