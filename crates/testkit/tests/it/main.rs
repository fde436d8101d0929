//! The servers and the client against one another.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod registry;
mod upstream;
