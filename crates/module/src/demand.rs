//! What a request demands of signatures.

use wasmplug_api::ModuleUrl;

use crate::{
    error::FetchError,
    request::ModuleRequest,
    signature::{
        Evidence, Rejection, SignatureError, SignaturePolicy, Subject, VerificationKeys,
        VerifiedSignature, verify,
    },
};

/// One signature must count for each of these; none of them, and none must.
///
/// The resource and the policy of the process are apart: the author of a resource cannot choose
/// the keys that the policy is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demands {
    each: Vec<VerificationKeys>,
}

/// The signatures that meet all demands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Met {
    pub(crate) evidence: Vec<Evidence>,
    pub(crate) verified: Vec<VerifiedSignature>,
}

// === impl Demands ===

impl Demands {
    pub(crate) fn of(
        request: &ModuleRequest,
        policy: Option<&SignaturePolicy>,
    ) -> Result<Self, FetchError> {
        let refused = |source| refused(&request.url, source);
        let mut each = Vec::new();
        if let Some(text) = &request.verification_key {
            let keys = VerificationKeys::from_pem(text);
            each.push(keys.map_err(|error| refused(SignatureError::Key(error)))?);
        }
        match policy.map(|policy| policy.keys_for(&request.url)) {
            None | Some(Ok(None)) => {}
            Some(Ok(Some(keys))) => each.push(keys.clone()),
            // A policy without a rule is content with the key of the resource.
            Some(Err(SignatureError::NoRule)) if !each.is_empty() => {}
            Some(Err(error)) => return Err(refused(error)),
        }
        Ok(Self { each })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.each.is_empty()
    }

    /// Names the demands, so that requests with the same ones can share an answer.
    pub(crate) fn identity(&self) -> Vec<String> {
        let keys = |keys: &VerificationKeys| {
            keys.fingerprints().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        self.each.iter().map(keys).collect()
    }

    /// Looks for a signature that counts, for each demand.
    pub(crate) fn check(
        &self,
        evidence: &[Evidence],
        subject: Subject<'_>,
    ) -> Result<Met, Vec<(String, Rejection)>> {
        let mut met = Met::default();
        for keys in &self.each {
            let (evidence, verified) = verify(evidence, keys, subject)?;
            met.evidence.push(evidence);
            met.verified.push(verified);
        }
        Ok(met)
    }

    /// The same, for a module that is refused if it fails.
    pub(crate) fn enforce(
        &self,
        url: &ModuleUrl,
        evidence: &[Evidence],
        looked: Vec<String>,
        subject: Subject<'_>,
    ) -> Result<Met, FetchError> {
        self.check(evidence, subject).map_err(|found| {
            refused(
                url,
                if found.is_empty() {
                    SignatureError::None { looked }
                } else {
                    SignatureError::NoneCounts { found }
                },
            )
        })
    }
}

fn refused(url: &ModuleUrl, source: SignatureError) -> FetchError {
    FetchError::Signature { url: url.to_string(), source }
}
