//! What plugins see and cause: one module per chapter of the ABI, each test a small plugin in
//! WebAssembly text, a script and what must come of it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![expect(clippy::needless_pass_by_value, reason = "`expect![…]` is made where it is passed")]
#![expect(clippy::needless_raw_string_hashes, reason = "so they are rewritten when asked")]

mod access_logs;
mod buffered;
mod buffers;
mod calls;
mod capabilities;
mod connections;
mod embedding;
mod expressions;
mod failures;
mod filter_state;
mod flow;
mod foreign;
mod grpc;
mod harness;
mod header_phases;
mod headers;
mod hostile;
mod lifecycle;
mod limits;
mod loading;
mod local_replies;
mod metrics;
mod properties;
mod shared_data;
mod signatures;
mod vms;
mod wasi;
