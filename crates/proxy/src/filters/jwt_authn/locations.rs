//! Where tokens are looked for in a request, and how they are taken out of it.

use http::HeaderValue;
use wasmplug_api::JwtRule;
use wasmplug_host::{Fields, Pseudo};

/// Source: Envoy and Istio, where a rule that names no location looks.
const DEFAULT_HEADER: &str = "authorization";
const DEFAULT_PREFIX: &str = "Bearer ";
const DEFAULT_PARAMETER: &str = "access_token";

/// The places of one rule, each kind in the order of its names, as in Envoy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Locations {
    headers: Vec<HeaderLocation>,
    parameters: Vec<String>,
    cookies: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
struct HeaderLocation {
    /// In lower case.
    name: String,
    prefix: String,
}

/// A token and where it was.
pub(super) struct Found<'a> {
    pub(super) token: Vec<u8>,
    place: Place<'a>,
}

enum Place<'a> {
    Header(&'a str),
    Parameter(&'a str),
    Cookie,
}

// === impl Locations ===

impl Locations {
    pub(super) fn new(rule: &JwtRule) -> Self {
        let mut headers: Vec<HeaderLocation> = rule
            .from_headers
            .iter()
            .map(|header| HeaderLocation {
                name: header.name.to_ascii_lowercase(),
                prefix: header.prefix.clone(),
            })
            .collect();
        let mut parameters = rule.from_params.clone();
        let mut cookies = rule.from_cookies.clone();
        if headers.is_empty() && parameters.is_empty() && cookies.is_empty() {
            let (name, prefix) = (DEFAULT_HEADER.to_owned(), DEFAULT_PREFIX.to_owned());
            headers.push(HeaderLocation { name, prefix });
            parameters.push(DEFAULT_PARAMETER.to_owned());
        }
        headers.sort_by_key(|header| format!("{}{}", header.name, header.prefix));
        headers.dedup();
        for names in [&mut parameters, &mut cookies] {
            names.sort_unstable();
            names.dedup();
        }
        Self { headers, parameters, cookies }
    }

    /// All tokens in the order in which Envoy finds them: headers, query, cookies.
    pub(super) fn find<'a>(&'a self, headers: &Fields) -> Vec<Found<'a>> {
        let mut found = Vec::new();
        for location in &self.headers {
            for value in values(headers, &location.name) {
                if let Some(token) = after_prefix(value, location.prefix.as_bytes()) {
                    let place = Place::Header(&location.name);
                    found.push(Found { token: token.to_vec(), place });
                }
            }
        }
        let path = headers.pseudo(Pseudo::Path).map(HeaderValue::as_bytes).unwrap_or_default();
        for name in &self.parameters {
            let mut pairs = query(path).map(|part| (part, name_and_value(part)));
            let value = pairs.find_map(|(_, (found, value))| {
                (percent_decoded(found) == name.as_bytes()).then(|| percent_decoded(value))
            });
            found.extend(value.map(|token| Found { token, place: Place::Parameter(name) }));
        }
        for name in &self.cookies {
            let token = cookie(headers, name.as_bytes()).map(<[u8]>::to_vec);
            found.extend(token.map(|token| Found { token, place: Place::Cookie }));
        }
        found
    }
}

// === impl Found ===

impl Found<'_> {
    /// Takes the token out of the request. Source: Envoy; cookies stay.
    pub(super) fn remove(&self, headers: &mut Fields) {
        match self.place {
            Place::Header(name) => headers.remove(name.as_bytes()),
            Place::Parameter(name) => remove_parameter(headers, name),
            Place::Cookie => {}
        }
    }
}

/// All values of a header; of those that the proxy holds once, the one.
fn values<'a>(headers: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    let name = name.as_bytes();
    let mut values: Vec<&[u8]> =
        headers.iter().filter(|(found, _)| *found == name).map(|(_, value)| value).collect();
    if values.is_empty() {
        // `host` is what `:authority` is called in HTTP/1.
        values.extend(headers.get(name).map(HeaderValue::as_bytes));
    }
    values
}

/// What follows the prefix, wherever that is, from the first character on that a token can have.
///
/// Source: Envoy, which takes the rest of the value and looks at it later.
fn after_prefix<'a>(value: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    if prefix.is_empty() {
        return Some(value);
    }
    let at = value.windows(prefix.len()).position(|window| window == prefix)?;
    let rest = value.get(at.saturating_add(prefix.len())..)?;
    let is_of_token =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match rest.iter().position(is_of_token) {
        Some(start) => rest.get(start..),
        None => Some(value),
    }
}

/// The parts of a query, undecoded.
fn query(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let start = path.iter().position(|byte| *byte == b'?');
    let query = start.and_then(|start| path.get(start.saturating_add(1)..));
    query.into_iter().flat_map(|query| query.split(|byte| *byte == b'&'))
}

fn name_and_value(part: &[u8]) -> (&[u8], &[u8]) {
    match part.iter().position(|byte| *byte == b'=') {
        Some(at) => (
            part.get(..at).unwrap_or_default(),
            part.get(at.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (part, b""),
    }
}

/// Decodes `%` and two hexadecimal digits; anything else stays. Source: Envoy, `+` stays too.
fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, after @ ..]) => hex(*high).zip(hex(*low)).map(|pair| (pair, after)),
            _ => None,
        };
        match escaped {
            Some(((high, low), after)) => {
                decoded.push(high << 4 | low);
                rest = after;
            }
            None => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    decoded
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Takes every parameter of this name out of the path.
///
/// Differs: Envoy writes all others anew, sorted and decoded, so that `%26` becomes `&`.
fn remove_parameter(headers: &mut Fields, name: &str) {
    let Some(path) = headers.pseudo(Pseudo::Path).map(HeaderValue::as_bytes) else { return };
    let before = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let mut kept = before.to_vec();
    let others =
        query(path).filter(|part| percent_decoded(name_and_value(part).0) != name.as_bytes());
    for (index, part) in others.enumerate() {
        kept.push(if index == 0 { b'?' } else { b'&' });
        kept.extend_from_slice(part);
    }
    // A part of a valid value is one.
    if let Ok(path) = HeaderValue::from_bytes(&kept) {
        headers.set_pseudo(Pseudo::Path, path);
    }
}

/// The first cookie of this name. Source: Envoy, quotes around a value are not part of it.
fn cookie<'a>(headers: &'a Fields, name: &[u8]) -> Option<&'a [u8]> {
    let lists = headers.iter().filter(|(found, _)| *found == b"cookie");
    let mut cookies = lists.flat_map(|(_, list)| list.split(|byte| *byte == b';'));
    let value = cookies.find_map(|cookie| {
        let at = cookie.iter().position(|byte| *byte == b'=')?;
        let spaces = cookie.iter().take_while(|byte| **byte == b' ').count();
        (cookie.get(spaces..at)? == name).then(|| cookie.get(at.saturating_add(1)..))?
    })?;
    match value {
        [b'"', inner @ .., b'"'] => Some(inner),
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests;
