//! What plugins see and cause: one module per chapter of the ABI, each test a small plugin in
//! WebAssembly text, a script and what must come of it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod harness;
mod header_phases;
mod headers;
mod lifecycle;
mod loading;
