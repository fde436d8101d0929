//! The one thing in JSON that YAML does not have: a character as two escapes.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::de::IgnoredAny;

/// Length of an escape such as `\ud83d`.
const ESCAPE_LEN: usize = 6;

/// Rewrites surrogate pairs (`\ud83d\ude00`) of a JSON text to YAML's escape of the character.
///
/// What follows a rewritten pair on its line is found two columns to the left of where it is.
///
/// Source: RFC 8259, 7 "Strings"; YAML 1.2, 5.7 "Escaped Characters".
pub(super) fn without_surrogate_pairs(text: &str) -> Cow<'_, str> {
    let has_surrogates = text.contains("\\ud") || text.contains("\\uD");
    // In YAML the same letters can be text; only valid JSON leaves no doubt.
    if !has_surrogates || serde_json::from_str::<IgnoredAny>(text).is_err() {
        return Cow::Borrowed(text);
    }
    let mut rewritten = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        rewritten.push_str(before);
        // An escape of valid JSON is two characters long, or six if it begins with `\u`.
        let length = if let Some(character) = surrogate_pair(escape) {
            write!(rewritten, "\\U{:08x}", u32::from(character))
                .expect("writing to a string cannot fail");
            2 * ESCAPE_LEN
        } else {
            rewritten.push_str(escape.get(..2).unwrap_or(escape));
            2
        };
        rest = escape.get(length..).unwrap_or_default();
    }
    rewritten.push_str(rest);
    Cow::Owned(rewritten)
}

/// The character whose two escapes `text` begins with.
fn surrogate_pair(text: &str) -> Option<char> {
    let unit = |escape: &str| u16::from_str_radix(escape.strip_prefix("\\u")?, 16).ok();
    let high = unit(text.get(..ESCAPE_LEN)?)?;
    let low = unit(text.get(ESCAPE_LEN..2 * ESCAPE_LEN)?)?;
    char::decode_utf16([high, low]).next()?.ok().filter(|c| c.len_utf16() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrogate_pairs_of_json_become_one_escape() {
        let rows = [
            (r#"{"a": "\ud83d\ude00"}"#, r#"{"a": "\U0001f600"}"#),
            (r#"["x\uD83D\uDE00y", "\n\u00e9"]"#, r#"["x\U0001f600y", "\n\u00e9"]"#),
            (r#"["\\ud83d\\ude00\ud83d\ude00"]"#, r#"["\\ud83d\\ude00\U0001f600"]"#),
            (r#"["\u0041\ud83d\ude00"]"#, r#"["\u0041\U0001f600"]"#),
        ];
        for (json, yaml) in rows {
            assert_eq!(without_surrogate_pairs(json), yaml);
        }
    }

    #[test]
    fn other_texts_stay_as_they_are() {
        for text in [r#"{"a": "\u00e9"}"#, r#"["\ud83d"]"#, r"a: '\ud83d\ude00'", "", r#"["\udead"#]
        {
            assert_eq!(without_surrogate_pairs(text), text);
        }
    }
}
