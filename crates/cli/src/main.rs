//! The `wasmplug` binary.
fn main() {}
