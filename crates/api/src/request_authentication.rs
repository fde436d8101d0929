//! `RequestAuthentication` exactly as Istio's schema spells it.
//!
//! Source: Istio API, `security/v1beta1/request_authentication.proto`.

use std::time::Duration;

use serde::Serialize;

use crate::meta::Object;
use crate::selector::{PolicyTargetReference, WorkloadSelector};

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtRule {
    /// `issuer`: what `iss` must be; empty for no check.
    pub issuer: String,
    /// `audiences`: one of them must be in `aud`; none for no check.
    pub audiences: Vec<String>,
    /// `jwksUri`: where the key set is, `http` or `https`.
    pub jwks_uri: Option<String>,
    /// `jwks`: the key set itself, as JSON.
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
