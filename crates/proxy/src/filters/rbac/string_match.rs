//! Texts and what authors write to find them.

use regex::bytes::{Regex, RegexBuilder};

use super::Cause;

/// Most bytes that one compiled expression may take. Source: ours; thousands of segments fit.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// One value of an attribute that is a text.
///
/// Source: Istio, string matching of `AuthorizationPolicy`.
#[derive(Debug)]
pub(super) enum StringMatch {
    /// `*`: anything but nothing.
    NonEmpty,
    /// The text itself.
    Exact(Box<[u8]>),
    /// `a*`.
    Prefix(Box<[u8]>),
    /// `*a`, where every further `*` is literal.
    Suffix(Box<[u8]>),
    /// An expression for the whole text.
    Regex(Regex),
}

// === impl StringMatch ===

impl StringMatch {
    /// A value as an author writes it.
    pub(super) fn parse(text: &str) -> Self {
        let boxed = |text: &str| Box::from(text.as_bytes());
        if text == "*" {
            Self::NonEmpty
        } else if let Some(suffix) = text.strip_prefix('*') {
            Self::Suffix(boxed(suffix))
        } else if let Some(prefix) = text.strip_suffix('*') {
            Self::Prefix(boxed(prefix))
        } else {
            Self::Exact(boxed(text))
        }
    }

    /// The text and nothing else.
    pub(super) fn exact(text: &str) -> Self {
        Self::Exact(Box::from(text.as_bytes()))
    }

    /// Whatever ends like this; anything if that is nothing.
    pub(super) fn suffix(text: &str) -> Self {
        if text.is_empty() { Self::NonEmpty } else { Self::Suffix(Box::from(text.as_bytes())) }
    }

    /// Whatever begins like this; anything if that is nothing.
    pub(super) fn prefix(text: &str) -> Self {
        if text.is_empty() { Self::NonEmpty } else { Self::Prefix(Box::from(text.as_bytes())) }
    }

    /// An expression for the whole text, whose time is linear in its length.
    pub(super) fn regex(expression: &str) -> Result<Self, Cause> {
        let whole = format!(r"\A(?:{expression})\z");
        let mut builder = RegexBuilder::new(&whole);
        let compiled = builder.unicode(false).size_limit(MAX_REGEX_BYTES).build();
        compiled.map(Self::Regex).map_err(|source| Cause::Regex(Box::new(source)))
    }

    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            // The expression `.+` is what stands in Envoy, and its dot is no line feed.
            Self::NonEmpty => !text.is_empty() && !text.contains(&b'\n'),
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(prefix),
            Self::Suffix(suffix) => text.ends_with(suffix),
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    /// The same whatever the case of ASCII letters.
    pub(super) fn matches_ignoring_case(&self, text: &[u8]) -> bool {
        match self {
            Self::NonEmpty => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(text),
            Self::Prefix(prefix) => {
                text.get(..prefix.len()).is_some_and(|start| prefix.eq_ignore_ascii_case(start))
            }
            Self::Suffix(suffix) => {
                let start = text.len().checked_sub(suffix.len());
                let end = start.and_then(|start| text.get(start..));
                end.is_some_and(|end| suffix.eq_ignore_ascii_case(end))
            }
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// The port that a text names.
pub(super) fn port(text: &str) -> Result<u16, Cause> {
    text.parse().map_err(|_| Cause::Port)
}

#[cfg(test)]
mod tests {
    use super::{Cause, StringMatch, port};

    /// What a value matches and what not. Source: Istio, string matching.
    const ROWS: [(&str, &[&str], &[&str]); 9] = [
        ("abc", &["abc"], &["", "ab", "abcd", "ABC", "xabc"]),
        ("*", &["a", "*", "a b"], &["", "a\nb"]),
        ("abc*", &["abc", "abcd", "abc*"], &["ab", "xabc", "ABC", ""]),
        ("*abc", &["abc", "xabc", "*abc"], &["abcd", "ABC", ""]),
        // The star at the beginning counts first, and the other one is a star.
        ("*a*", &["a*", "xa*"], &["a", "xa", "ax"]),
        ("**", &["*", "x*"], &["", "x"]),
        ("a*b", &["a*b"], &["ab", "axb"]),
        ("a.c", &["a.c"], &["abc"]),
        ("[a-z]", &["[a-z]"], &["a"]),
    ];

    #[test]
    fn every_form_of_a_text_finds_what_it_says() {
        for (value, found, other) in ROWS {
            let matcher = StringMatch::parse(value);
            for text in found {
                assert!(matcher.matches(text.as_bytes()), "{value} and {text}");
            }
            for text in other {
                assert!(!matcher.matches(text.as_bytes()), "{value} and {text}");
            }
        }
    }

    #[test]
    fn hosts_are_found_whatever_their_case() {
        let rows: [(&str, &[&str], &[&str]); 4] = [
            ("Shop.Test", &["shop.test", "SHOP.TEST"], &["shop.test:80", "shop.tes", ""]),
            ("Shop*", &["shop", "SHOP.test"], &["sho", "ashop"]),
            ("*.Test:80", &["a.test:80", ".TEST:80"], &["a.test", "a.test:81", "t:80"]),
            ("*", &["a"], &[]),
        ];
        for (value, found, other) in rows {
            let matcher = StringMatch::parse(value);
            for text in found {
                assert!(matcher.matches_ignoring_case(text.as_bytes()), "{value} and {text}");
            }
            for text in other {
                assert!(!matcher.matches_ignoring_case(text.as_bytes()), "{value} and {text}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_compared_as_they_are() {
        assert!(StringMatch::parse("*").matches(b"\xff\xfe"));
        assert!(StringMatch::parse("a*").matches(b"a\xff"));
        assert!(StringMatch::parse("*z").matches(b"\xffz"));
        assert!(!StringMatch::parse("a").matches(b"a\xff"));
        let regex = StringMatch::regex("a.*").unwrap_or(StringMatch::NonEmpty);
        assert!(regex.matches(b"a\xff\xfe"));
        assert!(!regex.matches(b"\xffa"));
    }

    #[test]
    fn an_expression_is_for_the_whole_text() {
        let regex = StringMatch::regex("a|b").unwrap_or(StringMatch::NonEmpty);
        assert!(regex.matches(b"a") && regex.matches(b"b"));
        assert!(!regex.matches(b"ab") && !regex.matches(b"xa") && !regex.matches(b"a\n"));
    }

    #[test]
    fn expressions_that_are_none_or_too_large_are_refused() {
        assert!(matches!(StringMatch::regex("("), Err(Cause::Regex(_))));
        assert!(matches!(StringMatch::regex("((a{99}){99}){99}"), Err(Cause::Regex(_))));
    }

    #[test]
    fn an_expression_built_to_explode_takes_linear_time() {
        // Would take longer than the universe has existed in a matcher that goes back.
        let regex = StringMatch::regex("(a*)*(a*)*(a*)*b").unwrap_or(StringMatch::NonEmpty);
        assert!(!regex.matches(&vec![b'a'; 100_000]));
        assert!(regex.matches(&[vec![b'a'; 100_000], vec![b'b']].concat()));
    }

    #[test]
    fn ports_are_numbers_of_sixteen_bits() {
        assert!(matches!((port("0"), port("65535")), (Ok(0), Ok(65535))));
        for text in ["65536", "-1", "http", "", "80-90"] {
            assert!(matches!(port(text), Err(Cause::Port)), "{text}");
        }
    }
}
