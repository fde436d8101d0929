//! How a text is compared.

use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;
use wasmplug_api::virtual_service::StringMatch;

/// Most bytes that one compiled expression may take. Source: ours.
const MAX_REGEX_BYTES: usize = 1 << 20;

/// A compiled comparison.
#[derive(Debug)]
pub(crate) enum Text {
    /// Whatever is there.
    Any,
    Exact(String),
    Prefix(String),
    Regex(Regex),
    /// An expression that is none, or is too large.
    Nothing,
}

// === impl Text ===

impl Text {
    pub(crate) fn new(matcher: &StringMatch) -> Self {
        let StringMatch { exact, prefix, regex } = matcher;
        match (exact, prefix, regex) {
            (Some(text), ..) => Self::Exact(text.clone()),
            (_, Some(text), _) => Self::Prefix(text.clone()),
            (.., Some(source)) => Self::regex(source),
            (None, None, None) => Self::Any,
        }
    }

    /// The same, as it is written in a resource.
    pub(super) fn of_json(value: &Value) -> Self {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Self::new(&StringMatch {
            exact: text("exact"),
            prefix: text("prefix"),
            regex: text("regex"),
        })
    }

    /// Source: Envoy's `safe_regex`, which has to match the whole text.
    fn regex(source: &str) -> Self {
        let whole = format!("^(?:{source})$");
        match RegexBuilder::new(&whole).size_limit(MAX_REGEX_BYTES).build() {
            Ok(regex) => Self::Regex(regex),
            Err(error) => {
                tracing::warn!(regex = source, error = %error, "a route fits no request");
                Self::Nothing
            }
        }
    }

    pub(crate) fn fits(&self, text: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => text == wanted.as_bytes(),
            Self::Prefix(wanted) => text.starts_with(wanted.as_bytes()),
            Self::Regex(regex) => regex.is_match(text),
            Self::Nothing => false,
        }
    }

    /// The same, whatever the case of letters; expressions have their own way to say that.
    pub(super) fn fits_any_case(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => text.eq_ignore_ascii_case(wanted.as_bytes()),
            Self::Prefix(wanted) => text
                .get(..wanted.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(wanted.as_bytes())),
            Self::Any | Self::Regex(_) | Self::Nothing => self.fits(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_is_too_large_fits_nothing() {
        let regex = |source: &str| Text::regex(source);
        assert!(regex("(?-u)(a{9}){9}").fits(&[b'a'; 81]));
        let too_large = regex("(?-u)((a{99}){99}){99}|b");
        assert!(matches!(too_large, Text::Nothing));
        assert!(!too_large.fits(b"b"));
    }
}
