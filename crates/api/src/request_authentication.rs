//! `RequestAuthentication` exactly as Istio's schema spells it.
//!
//! Source: Istio API, `security/v1beta1/request_authentication.proto`.

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::meta::Object;
use crate::module_url::redact_user_info;
use crate::selector::{PolicyTargetReference, WorkloadSelector};

/// What stands for an inline key set: it may hold private keys by mistake.
const INLINE: &str = "[inline]";

/// A `RequestAuthentication` object.
pub type RequestAuthentication = Object<RequestAuthenticationSpec>;

/// `spec` of a `RequestAuthentication`, field by field, nothing resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestAuthenticationSpec {
    /// `selector`: the workloads it applies to; absent means all of the namespace.
    pub selector: Option<WorkloadSelector>,
    /// `targetRef`: deprecated singular form, used only if `target_refs` is empty.
    pub target_ref: Option<PolicyTargetReference>,
    /// `targetRefs`: the objects it applies to.
    pub target_refs: Vec<PolicyTargetReference>,
    /// `jwtRules`: the issuers that are trusted; none leaves requests as they are.
    pub jwt_rules: Vec<JwtRule>,
}

/// How tokens of one issuer are found, verified and passed on.
///
/// `Debug` and serialisation show neither the key set nor user info of `jwks_uri`.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtRule {
    /// `issuer`: what `iss` must be; empty for no check.
    pub issuer: String,
    /// `audiences`: one of them must be in `aud`; none for no check.
    pub audiences: Vec<String>,
    /// `jwksUri`: where the key set is, `http` or `https`.
    #[serde(serialize_with = "serialize_without_user_info")]
    pub jwks_uri: Option<String>,
    /// `jwks`: the key set itself, as JSON.
    #[serde(serialize_with = "serialize_inline")]
    pub jwks: Option<String>,
    /// `fromHeaders`: headers that may hold a token.
    pub from_headers: Vec<JwtHeader>,
    /// `fromParams`: query parameters that may hold a token.
    pub from_params: Vec<String>,
    /// `fromCookies`: cookies that may hold a token.
    pub from_cookies: Vec<String>,
    /// `outputPayloadToHeader`: header that gets the payload in base64.
    pub output_payload_to_header: Option<String>,
    /// `outputClaimToHeaders`: headers that get single claims.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// `forwardOriginalToken`: whether the token stays in the request. Default: false.
    pub forward_original_token: bool,
    /// `timeout`: how long a fetch of the key set may take; absent for the data plane's default,
    /// which is 5 s in Istio.
    pub timeout: Option<Duration>,
    /// `spaceDelimitedClaims`: claims to split at blanks, beside `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
}

/// A header that may hold a token.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtHeader {
    /// Name of the header.
    pub name: String,
    /// What stands before the token, with its blank; empty for nothing.
    pub prefix: String,
}

/// A header that gets one claim.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimToHeader {
    /// Name of the header.
    pub header: String,
    /// The claim; dots lead into nested ones.
    pub claim: String,
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn serialize_inline<S: Serializer>(
    jwks: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    jwks.as_ref().map(|_| INLINE).serialize(serializer)
}

#[expect(clippy::ref_option, reason = "the signature is serde's")]
fn serialize_without_user_info<S: Serializer>(
    uri: &Option<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    uri.as_deref().map(redact_user_info).serialize(serializer)
}

// === impl JwtRule ===

impl fmt::Debug for JwtRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtRule")
            .field("issuer", &self.issuer)
            .field("audiences", &self.audiences)
            .field("jwks_uri", &self.jwks_uri.as_deref().map(redact_user_info))
            .field("jwks", &self.jwks.as_ref().map(|_| INLINE))
            .field("from_headers", &self.from_headers)
            .field("from_params", &self.from_params)
            .field("from_cookies", &self.from_cookies)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_keys_nor_user_info_are_shown() {
        let rule = JwtRule {
            issuer: "issuer".into(),
            jwks_uri: Some("https://user:hunter2@h/keys".into()),
            jwks: Some("hunter2".into()),
            ..JwtRule::default()
        };
        let texts = [format!("{rule:?}"), serde_json::to_string(&rule).unwrap()];
        for text in texts {
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("issuer") && text.contains("/keys"), "{text}");
        }
    }
}
