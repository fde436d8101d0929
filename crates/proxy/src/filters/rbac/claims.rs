//! What other filters said about the stream: claims of tokens, and metadata in general.

use serde_json::Value;

use super::Cause;
use super::string_match::StringMatch;
use super::subject::Metadata;
use crate::filters::jwt_authn::{NAME as JWT_FILTER, PAYLOAD};

/// A text somewhere in what a filter said.
#[derive(Debug)]
pub(super) struct ValueAt {
    filter: Box<str>,
    path: Box<[Box<str>]>,
    form: Form,
    value: StringMatch,
}

/// In what form the text is to be there. Source: Envoy, value matchers, which take no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    ElementOfList,
    TextOrElementOfList,
}

/// Issuer and subject of a verified token.
#[derive(Debug)]
pub(super) struct RequestPrincipal {
    issuer: StringMatch,
    subject: StringMatch,
}

// === impl ValueAt ===

impl ValueAt {
    /// A claim of the token, or a text in the list that it is.
    pub(super) fn claim(names: &[&str], value: &str) -> Self {
        let path = std::iter::once(PAYLOAD).chain(names.iter().copied()).map(Box::from).collect();
        let value = StringMatch::parse(value);
        Self { filter: JWT_FILTER.into(), path, form: Form::TextOrElementOfList, value }
    }

    /// `filter[key]`, with `[value]` for a text in a list.
    pub(super) fn metadata(place: &str, value: &str) -> Result<Self, Cause> {
        let (filter, key) =
            place.strip_suffix(']').and_then(|place| place.split_once('[')).ok_or(Cause::Key)?;
        let element = value.strip_prefix('[').and_then(|value| value.strip_suffix(']'));
        let (form, value) = match element {
            // Istio takes away all brackets at both ends.
            Some(_) => (Form::ElementOfList, value.trim_matches(['[', ']'])),
            None => (Form::Text, value),
        };
        let (path, value) = ([key.into()].into(), StringMatch::parse(value));
        Ok(Self { filter: filter.into(), path, form, value })
    }

    pub(super) fn matches(&self, metadata: &Metadata) -> bool {
        let value = metadata.get(&*self.filter);
        let value = self.path.iter().try_fold(value, |value, name| match value {
            Some(Value::Object(fields)) => Some(fields.get(&**name)),
            _ => None,
        });
        let is_text =
            |value: &Value| value.as_str().is_some_and(|text| self.value.matches(text.as_bytes()));
        match value.flatten() {
            Some(Value::Array(items)) => self.form != Form::Text && items.iter().any(is_text),
            Some(value) => self.form != Form::ElementOfList && is_text(value),
            None => false,
        }
    }
}

// === impl RequestPrincipal ===

impl RequestPrincipal {
    /// `ISSUER/SUBJECT`, divided at the last slash, with a star at one of its ends.
    ///
    /// Source: Istio, `requestPrincipals`.
    pub(super) fn parse(text: &str) -> Self {
        let (issuer, subject) = if text == "*" {
            (StringMatch::NonEmpty, StringMatch::NonEmpty)
        } else if let Some(rest) = text.strip_prefix('*') {
            match rest.rsplit_once('/') {
                Some((issuer, subject)) => {
                    (StringMatch::suffix(issuer), StringMatch::exact(subject))
                }
                None => (StringMatch::NonEmpty, StringMatch::suffix(rest)),
            }
        } else if let Some(rest) = text.strip_suffix('*') {
            match rest.rsplit_once('/') {
                Some((issuer, subject)) => {
                    (StringMatch::exact(issuer), StringMatch::prefix(subject))
                }
                None => (StringMatch::prefix(rest), StringMatch::NonEmpty),
            }
        } else {
            let (issuer, subject) = text.rsplit_once('/').unwrap_or((text, ""));
            (StringMatch::exact(issuer), StringMatch::exact(subject))
        };
        Self { issuer, subject }
    }

    pub(super) fn matches(&self, metadata: &Metadata) -> bool {
        let Some(payload) = metadata.get(JWT_FILTER).and_then(|said| said.get(PAYLOAD)) else {
            return false;
        };
        let claim = |name| payload.get(name).and_then(Value::as_str).map(str::as_bytes);
        claim("iss").is_some_and(|issuer| self.issuer.matches(issuer))
            && claim("sub").is_some_and(|subject| self.subject.matches(subject))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{JWT_FILTER, Metadata, RequestPrincipal, ValueAt};

    fn verified(payload: &Value) -> Metadata {
        [(JWT_FILTER.to_owned(), json!({ "payload": payload }))].into()
    }

    #[test]
    fn issuer_and_subject_are_found_in_every_form() {
        let token = |text: &str| {
            let (issuer, subject) = text.split_once(' ').unwrap_or_default();
            verified(&json!({ "iss": issuer, "sub": subject }))
        };
        let rows: [(&str, &[&str], &[&str]); 12] = [
            ("*", &["a b"], &[" b", "a ", " "]),
            ("*S", &["a S", "a xS"], &[" S", "a s", "a Sx"]),
            ("*X/SUB", &["X SUB", "https://X SUB"], &["Xa SUB", "X SUBx", "a SUB"]),
            ("*/SUB", &["a SUB", "b SUB"], &[" SUB", "a SUBx"]),
            ("P*", &["P a", "Px a"], &["P ", "xP a"]),
            ("https://a/P*", &["https://a P", "https://a Px"], &["https://ab P", "https://a xP"]),
            ("https://a/*", &["https://a s"], &["https://a ", "https://ab s"]),
            ("https://a/b/s", &["https://a/b s"], &["https://a b/s", "https://a/b sx"]),
            ("https://a/s", &["https://a s"], &["https://a S", "https:// a/s"]),
            ("ISS", &["ISS "], &["ISS s", " ISS"]),
            // A star within is a star, and the first one of two counts.
            ("a*b/s", &["a*b s"], &["axb s"]),
            ("*a/s*", &["xa s*"], &["xa sx"]),
        ];
        for (value, found, other) in rows {
            let principal = RequestPrincipal::parse(value);
            for text in found {
                assert!(principal.matches(&token(text)), "{value} and {text}");
            }
            for text in other {
                assert!(!principal.matches(&token(text)), "{value} and {text}");
            }
        }
    }

    #[test]
    fn without_a_verified_token_there_is_no_principal() {
        let any = RequestPrincipal::parse("*");
        assert!(!any.matches(&Metadata::new()));
        for payload in [json!({}), json!({"iss": "a"}), json!({"iss": 1, "sub": "b"}), json!(null)]
        {
            assert!(!any.matches(&verified(&payload)), "{payload}");
        }
        // A token without a subject is not one with an empty subject.
        assert!(!RequestPrincipal::parse("a").matches(&verified(&json!({"iss": "a"}))));
    }

    #[test]
    fn claims_are_found_as_texts_and_in_lists() {
        let payload = json!({
            "aud": ["a", "b"], "azp": "c", "n": 1, "t": true, "o": {"p": {"q": "deep", "r": ["x"]}},
            "mixed": [1, {"a": "a"}, ["b"], "d"], "empty": "", "none": null,
        });
        let rows: [(&[&str], &str, bool); 17] = [
            (&["aud"], "a", true),
            (&["aud"], "b", true),
            (&["aud"], "c", false),
            (&["aud"], "*", true),
            (&["azp"], "c", true),
            (&["azp"], "C", false),
            (&["azp"], "c*", true),
            (&["n"], "1", false),
            (&["t"], "true", false),
            (&["o", "p", "q"], "deep", true),
            (&["o", "p", "r"], "x", true),
            (&["o", "p"], "*", false),
            (&["o", "x", "q"], "deep", false),
            (&["azp", "c"], "c", false),
            (&["mixed"], "d", true),
            (&["mixed"], "b", false),
            (&["empty"], "*", false),
        ];
        for (names, value, expected) in rows {
            let found = ValueAt::claim(names, value).matches(&verified(&payload));
            assert_eq!(found, expected, "{names:?} and {value}");
        }
        assert!(!ValueAt::claim(&["aud"], "*").matches(&Metadata::new()));
    }

    #[test]
    fn metadata_of_any_filter_is_found_as_text_or_in_a_list() {
        let said = json!({"list": ["a", "bc"], "text": "a", "a.b": "dotted"});
        let metadata: Metadata = [("envoy.filters.x".to_owned(), said)].into();
        let rows = [
            ("envoy.filters.x[list]", "[a]", true),
            ("envoy.filters.x[list]", "[b*]", true),
            ("envoy.filters.x[list]", "[c]", false),
            ("envoy.filters.x[list]", "a", false),
            ("envoy.filters.x[text]", "a", true),
            ("envoy.filters.x[text]", "[a]", false),
            ("envoy.filters.x[text]", "b", false),
            ("envoy.filters.x[a.b]", "dotted", true),
            ("envoy.filters.x[none]", "*", false),
            ("envoy.filters.y[text]", "a", false),
        ];
        for (place, value, expected) in rows {
            let matcher = ValueAt::metadata(place, value);
            assert_eq!(matcher.is_ok_and(|it| it.matches(&metadata)), expected, "{place} {value}");
        }
        assert!(ValueAt::metadata("envoy.filters.x", "a").is_err());
    }
}
