//! Decodes a `PeerAuthentication` from its document.
//!
//! Source: Istio API, `security/v1beta1/peer_authentication.proto`.

use std::collections::BTreeMap;

use super::attachment;
use super::fields::{Fields, ProtoEnum};
use super::findings::Findings;
use super::kinds::{self, Kind, SECURITY_API_VERSIONS};
use crate::field_path::FieldPath;
use crate::meta::Object;
use crate::peer_authentication::{MutualTlsMode, PeerAuthenticationSpec};
use crate::validation::{self, Violations};

impl Kind for PeerAuthenticationSpec {
    const KIND: &'static str = "PeerAuthentication";
    const API_VERSIONS: &'static [&'static str] = SECURITY_API_VERSIONS;

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        kinds::optional_spec(document, findings, spec)
    }

    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations) {
        validation::peer_authentication(object, &root.field("spec"), violations);
    }
}

impl ProtoEnum for MutualTlsMode {
    const VALUES: &'static [(&'static str, i128, Self)] = &[
        ("UNSET", 0, Self::Unset),
        ("DISABLE", 1, Self::Disable),
        ("PERMISSIVE", 2, Self::Permissive),
        ("STRICT", 3, Self::Strict),
    ];
}

fn spec(mut fields: Fields<'_>, findings: &mut Findings) -> PeerAuthenticationSpec {
    let selector = attachment::selector(&mut fields, findings);
    let mode = fields.object("mtls", findings, mutual_tls).unwrap_or_default();
    let port_modes = fields.get("portLevelMtls", findings).map(|_| {
        let mut modes = BTreeMap::new();
        for (key, field) in fields.entries("portLevelMtls", findings) {
            // A key that is no number is reported as a port that does not exist.
            let port = key.parse().unwrap_or_default();
            let mode = Fields::of(&field, findings).map(|of| mutual_tls(of, findings));
            modes.insert(port, mode.unwrap_or_default());
        }
        modes
    });
    fields.finish(findings);
    PeerAuthenticationSpec { selector, mode, port_modes }
}

fn mutual_tls(mut fields: Fields<'_>, findings: &mut Findings) -> MutualTlsMode {
    let mode = fields.enumeration("mode", findings);
    fields.finish(findings);
    mode
}
