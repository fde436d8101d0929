//! Why a token is refused, in Envoy's words.
//!
//! Source: Envoy, the texts that its `jwt_authn` filter answers with.

/// Why a request does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// There is no token where the rule looks for one.
    Missing,
    /// Not three parts.
    BadFormat,
    HeaderNotBase64,
    HeaderNotJson,
    /// No `alg`, or it is not a string.
    HeaderBadAlg,
    HeaderUnknownAlg,
    HeaderBadKid,
    PayloadNotBase64,
    PayloadNotJson,
    IssuerNotString,
    SubjectNotString,
    IssuedAtNotInteger,
    IssuedAtOutOfRange,
    NotBeforeNotInteger,
    NotBeforeOutOfRange,
    ExpiresNotInteger,
    ExpiresOutOfRange,
    IdNotString,
    AudienceNotStrings,
    SignatureNotBase64,
    UnknownIssuer,
    NotYetValid,
    Expired,
    AudienceNotAllowed,
    /// Neither id nor algorithm leads to a key.
    NoMatchingKey,
    Ed25519WrongLength,
    VerificationFails,
}

// === impl Status ===

impl Status {
    /// The body of the answer.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Missing => "Jwt is missing",
            Self::BadFormat => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            Self::HeaderNotBase64 => "Jwt header is an invalid Base64url encoded",
            Self::HeaderNotJson => "Jwt header is an invalid JSON",
            Self::HeaderBadAlg => "Jwt header [alg] field is required and must be a string",
            Self::HeaderUnknownAlg => "Jwt header [alg] is not supported",
            Self::HeaderBadKid => "Jwt header [kid] field is not a string",
            Self::PayloadNotBase64 => "Jwt payload is an invalid Base64url encoded",
            Self::PayloadNotJson => "Jwt payload is an invalid JSON",
            Self::IssuerNotString => "Jwt payload [iss] field is not a string",
            Self::SubjectNotString => "Jwt payload [sub] field is not a string",
            Self::IssuedAtNotInteger => "Jwt payload [iat] field is not an integer",
            Self::IssuedAtOutOfRange => "Jwt payload [iat] field is not a positive 64 bit integer",
            Self::NotBeforeNotInteger => "Jwt payload [nbf] field is not an integer",
            Self::NotBeforeOutOfRange => "Jwt payload [nbf] field is not a positive 64 bit integer",
            Self::ExpiresNotInteger => "Jwt payload [exp] field is not an integer",
            Self::ExpiresOutOfRange => "Jwt payload [exp] field is not a positive 64 bit integer",
            Self::IdNotString => "Jwt payload [jti] field is not a string",
            Self::AudienceNotStrings => "Jwt payload [aud] field is not a string or string list",
            Self::SignatureNotBase64 => "Jwt signature is an invalid Base64url encoded",
            Self::UnknownIssuer => "Jwt issuer is not configured",
            Self::NotYetValid => "Jwt not yet valid",
            Self::Expired => "Jwt is expired",
            Self::AudienceNotAllowed => "Audiences in Jwt are not allowed",
            Self::NoMatchingKey => "Jwks doesn't have key to match kid or alg from Jwt",
            Self::Ed25519WrongLength => "Jwt ED25519 signature is wrong length",
            Self::VerificationFails => "Jwt verification fails",
        }
    }

    /// The status of the answer.
    pub(super) fn code(self) -> u16 {
        if self == Self::AudienceNotAllowed { 403 } else { 401 }
    }

    /// Response code details. Source: Envoy; blanks would break logs.
    pub(super) fn details(self) -> String {
        format!("jwt_authn_access_denied{{{}}}", self.text().replace(' ', "_"))
    }

    /// Which of two alternatives' failures is told: the later one, unless it says less.
    ///
    /// Source: Envoy; `Missing` says least, then `UnknownIssuer`.
    pub(super) fn or_rather(self, later: Self) -> Self {
        let says_little = matches!(later, Self::Missing | Self::UnknownIssuer);
        if says_little && self != Self::Missing { self } else { later }
    }
}

#[cfg(test)]
mod tests {
    use super::Status;

    #[test]
    fn the_failure_that_says_most_is_told() {
        use Status::{Expired, Missing, NotYetValid, UnknownIssuer};
        let rows = [
            (Missing, Missing, Missing),
            (Missing, UnknownIssuer, UnknownIssuer),
            (UnknownIssuer, Missing, UnknownIssuer),
            (UnknownIssuer, UnknownIssuer, UnknownIssuer),
            (Expired, Missing, Expired),
            (Expired, UnknownIssuer, Expired),
            (UnknownIssuer, Expired, Expired),
            (Expired, NotYetValid, NotYetValid),
        ];
        for (first, later, told) in rows {
            assert_eq!(first.or_rather(later), told, "{first:?} and {later:?}");
        }
    }

    #[test]
    fn only_a_wrong_audience_is_forbidden() {
        assert_eq!(Status::AudienceNotAllowed.code(), 403);
        assert_eq!(Status::Expired.code(), 401);
        assert_eq!(Status::Expired.details(), "jwt_authn_access_denied{Jwt_is_expired}");
    }
}
