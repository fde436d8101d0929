//! What a registry wants to be shown: the `www-authenticate` header.
//!
//! Source: RFC 9110, section 11.6.1; RFC 6750, section 3; Docker Registry v2 token authentication.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// Longest header that is looked at, in bytes.
const MAX_CHALLENGE_BYTES: usize = 8 * 1024;

/// One challenge that can be met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The first challenge that can be met.
pub(super) fn first(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let mut challenges = values.filter_map(|value| value.to_str().ok()).flat_map(parse);
    challenges.find_map(|raw| Challenge::from_raw(&raw))
}

#[derive(Debug, Default)]
struct RawChallenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

// === impl Challenge ===

impl Challenge {
    fn from_raw(raw: &RawChallenge) -> Option<Self> {
        let parameter = |name: &str| {
            let mut found = raw.parameters.iter().filter(|(candidate, _)| candidate == name);
            found.next().map(|(_, value)| value.clone())
        };
        match raw.scheme.as_str() {
            "basic" => Some(Self::Basic),
            "bearer" => Some(Self::Bearer {
                realm: parameter("realm")?,
                service: parameter("service"),
                scope: parameter("scope"),
            }),
            _ => None,
        }
    }
}

/// Splits a header into challenges; what is malformed ends it.
fn parse(value: &str) -> Vec<RawChallenge> {
    let mut challenges: Vec<RawChallenge> = Vec::new();
    if value.len() > MAX_CHALLENGE_BYTES {
        return challenges;
    }
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (token, after) = split_token(rest);
        if token.is_empty() {
            return challenges;
        }
        let after_blank = after.trim_start();
        match (after_blank.strip_prefix('='), challenges.last_mut()) {
            (Some(text), Some(challenge)) => {
                let Some((value, after)) = parse_value(text.trim_start()) else {
                    return challenges;
                };
                challenge.parameters.push((token.to_ascii_lowercase(), value));
                rest = after;
            }
            (Some(_), None) => return challenges,
            (None, _) => {
                let scheme = token.to_ascii_lowercase();
                challenges.push(RawChallenge { scheme, parameters: Vec::new() });
                rest = after;
            }
        }
    }
}

/// A quoted string or a token.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (token, after) = split_token(text);
        return Some((token.to_owned(), after));
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(characters.next()?),
            other => value.push(other),
        }
    }
}

/// What stands before the next separator.
fn split_token(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t', ',', '=', '"']).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn first_of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        first(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn parameters_are_read_in_every_spelling() {
        let full =
            r#"Bearer realm="https://a/t?x=1,2",service="s",scope="repository:a/b:pull,push""#;
        let scope = Some("repository:a/b:pull,push");
        assert_eq!(first_of(&[full]), Some(bearer("https://a/t?x=1,2", Some("s"), scope)));
        assert_eq!(first_of(&["bearer Realm = unquoted"]), Some(bearer("unquoted", None, None)));
        assert_eq!(first_of(&[r#"BEARER realm="a\"b""#]), Some(bearer("a\"b", None, None)));
    }

    #[test]
    fn the_first_challenge_that_can_be_met_counts() {
        assert_eq!(first_of(&[r#"Negotiate, Basic realm="x""#]), Some(Challenge::Basic));
        assert_eq!(first_of(&["Digest realm=x", "Basic"]), Some(Challenge::Basic));
        let both = r#"Bearer realm="r",error="invalid_token", Basic realm="x""#;
        assert_eq!(first_of(&[both]), Some(bearer("r", None, None)));
    }

    #[test]
    fn malformed_challenges_are_none() {
        let huge = format!("Basic realm=\"{}\"", "x".repeat(MAX_CHALLENGE_BYTES));
        for value in ["", "=", "Bearer", "Bearer service=x", "Bearer realm=\"open", "\"", &huge] {
            assert_eq!(first_of(&[value]), None, "{value}");
        }
    }

    #[test]
    fn a_challenge_beyond_the_bound_is_none_and_one_at_it_is_met() {
        let mut value = "Basic realm=".to_owned();
        value.push_str(&"x".repeat(MAX_CHALLENGE_BYTES - value.len()));
        assert_eq!(first_of(&[&value]), Some(Challenge::Basic));
        value.push('x');
        assert_eq!(first_of(&[&value]), None);
    }
}
