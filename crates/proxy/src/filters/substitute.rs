//! What stands in the place of a plugin that cannot run and is not to be skipped.
//!
//! Source: Istio's agent puts a deny-all RBAC filter there when a module cannot be fetched; Envoy
//! answers 503 for a plugin that is there but does not run.

use bytes::Bytes;
use wasmplug_host::{Fields, LocalReply};

use super::built_in::BuiltInFilter;
use crate::filter::{HeadersOutcome, Interrupt, Side};

/// A filter that refuses every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Substitute {
    /// The module could not be fetched or verified: 403 `RBAC: access denied`.
    DenyAll,
    /// The plugin could not be compiled, started or configured: 503 without a body.
    Unavailable,
}

// === impl Substitute ===

impl Substitute {
    fn refuse(self) -> Interrupt {
        match self {
            Self::DenyAll => {
                reply(403, "RBAC: access denied", "rbac_access_denied_matched_policy[none]")
            }
            Self::Unavailable => unavailable(),
        }
    }
}

impl BuiltInFilter for Substitute {
    fn on_headers(&mut self, _: Side, _: Fields, _: bool) -> Result<HeadersOutcome, Interrupt> {
        Err(self.refuse())
    }
}

/// The answer for a stream whose plugin failed: 503 without a body. Source: Envoy.
pub(crate) fn unavailable() -> Interrupt {
    reply(503, "", "wasm_fail_stream")
}

fn reply(status: u16, body: &'static str, details: &str) -> Interrupt {
    Interrupt::LocalReply(LocalReply {
        status,
        details: details.to_owned(),
        body: Bytes::from_static(body.as_bytes()),
        headers: Vec::new(),
        grpc_status: u32::MAX,
    })
}
