//! Whole manifests: text in, findings and plans out.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its functions as well")]

mod golden;
mod hostile;
mod limits;
mod properties;
mod random;
