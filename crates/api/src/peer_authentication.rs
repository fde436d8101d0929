//! `PeerAuthentication` exactly as Istio's schema spells it.
//!
//! Source: Istio API, `security/v1beta1/peer_authentication.proto`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::meta::Object;
use crate::selector::WorkloadSelector;

/// A `PeerAuthentication` object.
pub type PeerAuthentication = Object<PeerAuthenticationSpec>;

/// `spec` of a `PeerAuthentication`, field by field, nothing resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerAuthenticationSpec {
    /// `selector`: the workloads it applies to; absent means all of the namespace.
    pub selector: Option<WorkloadSelector>,
    /// `mtls.mode`; absent inherits.
    pub mode: MutualTlsMode,
    /// `portLevelMtls`: modes of single ports of the workload; absent if not given.
    pub port_modes: Option<BTreeMap<u32, MutualTlsMode>>,
}

/// Whether connections must be, may be or are not mutual TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MutualTlsMode {
    /// Not given: that of the wider scope.
    #[default]
    Unset,
    /// Plain text only.
    Disable,
    /// Either.
    Permissive,
    /// Mutual TLS only; connections in plain text are closed.
    Strict,
}

// === impl MutualTlsMode ===

impl MutualTlsMode {
    /// The name that authors write.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "UNSET",
            Self::Disable => "DISABLE",
            Self::Permissive => "PERMISSIVE",
            Self::Strict => "STRICT",
        }
    }
}
