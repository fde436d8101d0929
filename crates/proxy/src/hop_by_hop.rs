//! Headers that are never passed on: those that concern one connection only, and those that no
//! client is believed.

use http::header::{CONNECTION, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Words that the `connection` headers of one request may have; with more it is refused. Source:
/// Envoy.
const MAX_WORDS: usize = 9;

/// The request asks to remove what it must not decide about.
#[derive(Debug)]
pub(crate) struct RefusedNomination;

type Names = SmallVec<[HeaderName; 2]>;

/// Whether a header concerns one connection only and is never passed on.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Takes away what concerns one connection.
pub(crate) fn remove(headers: &mut HeaderMap) {
    retain(headers, |name| !is_hop_by_hop(name));
}

/// The same for the request of a client, with what its `connection` header names. Of `te` only
/// `trailers` stays. What a WebSocket needs stays too, and what no client is believed goes.
///
/// It is done before filters add anything, so that a client cannot take away what they added.
/// Source: RFC 9110, 7.6.1 and 10.1.4; Envoy.
///
/// # Errors
/// [`RefusedNomination`]
pub(crate) fn remove_from_request(
    headers: &mut HeaderMap,
    is_upgrade: bool,
) -> Result<(), RefusedNomination> {
    let nominated = nominated(headers)?;
    let is_te_odd = headers.get_all(TE).iter().any(|te| te != "trailers");
    let has_trailers =
        is_te_odd && headers.get_all(TE).iter().flat_map(words).any(|word| word == b"trailers");
    if has_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let stays = |name: &HeaderName| {
        let is_needed = is_upgrade && (*name == CONNECTION || *name == UPGRADE);
        let is_odd_te = is_te_odd && !has_trailers && *name == TE;
        (is_needed || !is_hop_by_hop(name))
            && !is_odd_te
            && !is_claim(name)
            && !nominated.contains(name)
    };
    retain(headers, stays);
    if is_upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    Ok(())
}

/// Whether a header says what only a proxy in front could say, which there is none that is trusted:
/// that the client is inside, that it showed a certificate; or wishes to be asked for the body,
/// which has been done. Source: Envoy.
fn is_claim(name: &HeaderName) -> bool {
    *name == EXPECT || matches!(name.as_str(), "x-envoy-internal" | "x-forwarded-client-cert")
}

/// Names of further headers that `connection` takes away.
fn nominated(headers: &HeaderMap) -> Result<Names, RefusedNomination> {
    let mut names = Names::new();
    let values = headers.get_all(CONNECTION).iter();
    for (index, word) in values.flat_map(words).enumerate() {
        // Who it came from and how is not the client's to hide from filters.
        if index >= MAX_WORDS
            || word.starts_with(b":")
            || ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"]
                .iter()
                .any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
        {
            return Err(RefusedNomination);
        }
        let is_known = ["keep-alive", "close", "upgrade", "te"]
            .iter()
            .any(|known| word.eq_ignore_ascii_case(known.as_bytes()));
        if !is_known && let Ok(name) = HeaderName::from_bytes(word) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Words between commas.
fn words(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let words = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    words.filter(|word| !word.is_empty())
}

/// Keeps these headers, in their order: removing from an `http` map moves its last entry into the
/// gap.
fn retain(headers: &mut HeaderMap, stays: impl Fn(&HeaderName) -> bool) {
    if headers.keys().all(&stays) {
        return;
    }
    let mut current = None;
    for (name, value) in std::mem::take(headers) {
        if name.is_some() {
            current = name.filter(&stays);
        }
        if let Some(name) = &current {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header lines that are left.
    fn left(lines: &[(&'static str, &'static str)], is_upgrade: bool) -> Option<String> {
        let pair =
            |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(pair) {
            headers.append(name, value);
        }
        remove_from_request(&mut headers, is_upgrade).ok()?;
        let lines =
            headers.iter().map(|(name, value)| format!("{name}:{}", value.to_str().unwrap()));
        Some(lines.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn what_connection_names_goes_and_the_rest_keeps_its_order() {
        for (connection, expected) in [
            ("keep-alive", "x-a:1 x-b:2 x-c:3"),
            ("x-a", "x-b:2 x-c:3"),
            ("close, X-B", "x-a:1 x-c:3"),
            (", ,x-a ,", "x-b:2 x-c:3"),
            ("x-a x-b", "x-a:1 x-b:2 x-c:3"),
            ("a,b,c,d,e,f,g,h,x-c", "x-a:1 x-b:2"),
        ] {
            let lines = [("x-a", "1"), ("connection", connection), ("x-b", "2"), ("x-c", "3")];
            assert_eq!(left(&lines, false).as_deref(), Some(expected), "{connection}");
        }
        let twice = [("connection", "x-a"), ("connection", "x-b"), ("x-a", "1"), ("x-b", "2")];
        assert_eq!(left(&twice, false).as_deref(), Some(""));
    }

    #[test]
    fn what_a_client_must_not_take_away_is_refused() {
        for connection in ["X-Forwarded-For", "x-forwarded-proto", ":path", "a,b,c,d,e,f,g,h,i,j"] {
            assert_eq!(left(&[("connection", connection)], false), None, "{connection}");
        }
    }

    #[test]
    fn of_te_only_trailers_stays() {
        for (te, expected) in [
            ("trailers", "te:trailers x-a:1"),
            ("trailers, gzip", "te:trailers x-a:1"),
            ("Trailers", "x-a:1"),
            ("gzip", "x-a:1"),
            ("trailers;q=0.5", "x-a:1"),
        ] {
            assert_eq!(left(&[("te", te), ("x-a", "1")], false).as_deref(), Some(expected), "{te}");
        }
        let twice = [("te", "gzip"), ("te", "trailers")];
        assert_eq!(left(&twice, false).as_deref(), Some("te:trailers"));
        let named = [("connection", "te"), ("te", "trailers")];
        assert_eq!(left(&named, false).as_deref(), Some("te:trailers"));
    }

    #[test]
    fn an_upgrade_keeps_what_it_needs() {
        let lines =
            [("connection", "keep-alive, Upgrade, x-a"), ("upgrade", "websocket"), ("x-a", "1")];
        assert_eq!(left(&lines, true).as_deref(), Some("connection:upgrade upgrade:websocket"));
        assert_eq!(left(&lines, false).as_deref(), Some(""));
    }

    #[test]
    fn a_connection_names_nine_words_and_no_more() {
        let words = |count: usize| ["a"; 10][..count].join(",").leak() as &'static str;
        assert!(left(&[("connection", words(MAX_WORDS))], false).is_some());
        assert_eq!(left(&[("connection", words(MAX_WORDS + 1))], false), None);
        // Lines count together.
        let lines = [("connection", words(MAX_WORDS)), ("connection", "b")];
        assert_eq!(left(&lines, false), None);
    }
}
