//! Decodes a `RequestAuthentication` from its document.
//!
//! Source: Istio API, `security/v1beta1/request_authentication.proto`.

use super::attachment;
use super::fields::Fields;
use super::findings::Findings;
use super::kinds::{self, Kind, SECURITY_API_VERSIONS};
use crate::field_path::FieldPath;
use crate::meta::Object;
use crate::request_authentication::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthenticationSpec};
use crate::validation::{self, Violations};

impl Kind for RequestAuthenticationSpec {
    const KIND: &'static str = "RequestAuthentication";
    const API_VERSIONS: &'static [&'static str] = SECURITY_API_VERSIONS;

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        kinds::optional_spec(document, findings, spec)
    }

    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations) {
        validation::request_authentication(&object.spec, &root.field("spec"), violations);
    }
}

fn spec(mut fields: Fields<'_>, findings: &mut Findings) -> RequestAuthenticationSpec {
    let (fields_of, f) = (&mut fields, findings);
    let spec = RequestAuthenticationSpec {
        selector: attachment::selector(fields_of, f),
        target_ref: attachment::target_ref(fields_of, f),
        target_refs: attachment::target_refs(fields_of, f),
        jwt_rules: fields_of.objects("jwtRules", f, jwt_rule),
    };
    fields.finish(f);
    spec
}

fn jwt_rule(mut fields: Fields<'_>, findings: &mut Findings) -> JwtRule {
    let f = findings;
    // The schema names one field in the other spelling, too; the decoder takes both everywhere.
    let rule = JwtRule {
        issuer: fields.text("issuer", f),
        audiences: fields.strings("audiences", f),
        jwks_uri: fields.non_empty("jwksUri", f),
        jwks: fields.non_empty("jwks", f),
        from_headers: fields.objects("fromHeaders", f, header),
        from_params: fields.strings("fromParams", f),
        from_cookies: fields.strings("fromCookies", f),
        output_payload_to_header: fields.non_empty("outputPayloadToHeader", f),
        output_claim_to_headers: fields.objects("outputClaimToHeaders", f, claim_to_header),
        forward_original_token: fields.flag("forwardOriginalToken", f).unwrap_or_default(),
        timeout: fields.duration("timeout", f),
        space_delimited_claims: fields.strings("spaceDelimitedClaims", f),
    };
    fields.finish(f);
    rule
}

fn header(mut fields: Fields<'_>, findings: &mut Findings) -> JwtHeader {
    let (name, prefix) = (fields.text("name", findings), fields.text("prefix", findings));
    fields.finish(findings);
    JwtHeader { name, prefix }
}

fn claim_to_header(mut fields: Fields<'_>, findings: &mut Findings) -> ClaimToHeader {
    let (header, claim) = (fields.text("header", findings), fields.text("claim", findings));
    fields.finish(findings);
    ClaimToHeader { header, claim }
}
