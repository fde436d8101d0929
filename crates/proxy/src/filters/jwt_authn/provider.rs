//! One rule, ready to verify tokens.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};
use wasmplug_api::{ClaimToHeader, PlannedJwtRule};
use wasmplug_host::Fields;

use super::KeyProblem;
use super::claims::{self, SPACE_DELIMITED};
use super::keys::{self, KeySet};
use super::locations::{Found, Locations};
use super::status::Status;
use super::token::Token;

/// The keys of a rule, and how it got them.
#[derive(Clone, Debug)]
pub(crate) struct RuleKeys {
    /// Where they are from, for people.
    pub(crate) origin: String,
    /// `None` if they could never be had.
    pub(crate) set: Option<Arc<KeySet>>,
    /// Why there are none, or none that are newer.
    pub(crate) problem: Option<String>,
}

/// One rule, ready to verify tokens.
pub(super) struct Provider {
    pub(super) locations: Locations,
    planned: PlannedJwtRule,
    /// Without scheme and slash; empty for any.
    audiences: Vec<String>,
    space_delimited: Vec<String>,
    keys: RuleKeys,
}

/// The header that cannot be set to what a claim says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidHeader(pub(super) String);

// === impl Provider ===

impl Provider {
    pub(super) fn new(planned: &PlannedJwtRule, keys: RuleKeys) -> Self {
        let rule = &planned.rule;
        let own = rule.space_delimited_claims.iter().map(String::as_str);
        Self {
            locations: Locations::new(rule),
            audiences: rule.audiences.iter().map(|audience| bare(audience).to_owned()).collect(),
            space_delimited: SPACE_DELIMITED.into_iter().chain(own).map(str::to_owned).collect(),
            planned: planned.clone(),
            keys,
        }
    }

    pub(super) fn keys(&self) -> &RuleKeys {
        &self.keys
    }

    /// What is wrong with the keys.
    pub(super) fn key_problem(&self) -> Option<KeyProblem> {
        Some(KeyProblem {
            reason: self.keys.problem.clone()?,
            resource: self.planned.resource.clone(),
            issuer: self.planned.rule.issuer.clone(),
            has_keys: self.keys.set.is_some(),
        })
    }

    /// Takes away what only a verified token may set.
    pub(super) fn remove_outputs(&self, headers: &mut Fields) {
        let rule = &self.planned.rule;
        let of_claims = rule.output_claim_to_headers.iter().map(|output| &output.header);
        let outputs = of_claims.chain(&rule.output_payload_to_header);
        outputs.for_each(|name| headers.remove(name.as_bytes()));
    }

    /// Whether a token is one of this issuer, for this audience, valid at `now`, and signed.
    pub(super) fn check(&self, token: &Token, now: u64) -> Result<(), Status> {
        let issuer = &self.planned.rule.issuer;
        if !issuer.is_empty() && *issuer != token.issuer {
            return Err(Status::UnknownIssuer);
        }
        token.check_time(now)?;
        let is_for_us =
            |audience: &String| self.audiences.iter().any(|allowed| *allowed == bare(audience));
        if !self.audiences.is_empty() && !token.audiences.iter().any(is_for_us) {
            return Err(Status::AudienceNotAllowed);
        }
        match &self.keys.set {
            Some(keys) => keys.verify(token),
            None => Err(keys::without_keys(token)),
        }
    }

    /// Tells the upstream what a verified token says, and takes the token out of the request.
    pub(super) fn pass_on(
        &self,
        token: &Token,
        found: &Found<'_>,
        headers: &mut Fields,
    ) -> Result<(), InvalidHeader> {
        let rule = &self.planned.rule;
        let mut add = |name: &str, value: &[u8]| {
            headers
                .add(name.as_bytes(), value)
                .map_err(|_| InvalidHeader(name.to_ascii_lowercase()))
        };
        if let Some(name) = &rule.output_payload_to_header {
            add(name, token.payload())?;
        }
        for ClaimToHeader { header, claim } in &rule.output_claim_to_headers {
            if let Some(text) = claims::header_text(&token.claims, claim) {
                add(header, text.as_bytes())?;
            }
        }
        if !rule.forward_original_token {
            found.remove(headers);
        }
        Ok(())
    }

    /// What plugins and policies see of a verified token.
    pub(super) fn metadata(&self, token: &Token) -> Value {
        claims::metadata(&token.claims, &self.space_delimited)
    }

    /// The rule and its keys, for people and scripts.
    pub(super) fn dump(&self) -> Value {
        let keys = json!({
            "origin": self.keys.origin,
            "count": self.keys.set.as_ref().map(|set| set.len()),
            "problem": self.keys.problem,
        });
        let mut dump = json!(self.planned);
        if let Some(fields) = dump.as_object_mut() {
            fields.insert("keys".to_owned(), keys);
        }
        dump
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("planned", &self.planned)
            .field("keys", &self.keys)
            .finish_non_exhaustive()
    }
}

/// An audience without its scheme and one slash at its end. Source: Envoy.
fn bare(audience: &str) -> &str {
    let name = audience
        .strip_prefix("http://")
        .or_else(|| audience.strip_prefix("https://"))
        .unwrap_or(audience);
    name.strip_suffix('/').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn audiences_are_compared_without_scheme_and_slash() {
        for (audience, expected) in [
            ("a", "a"),
            ("http://a", "a"),
            ("https://a/", "a"),
            ("a/", "a"),
            ("a//", "a/"),
            ("HTTPS://a", "HTTPS://a"),
            ("https://http://a", "http://a"),
            ("/", ""),
            ("", ""),
        ] {
            assert_eq!(bare(audience), expected, "{audience}");
        }
    }
}
