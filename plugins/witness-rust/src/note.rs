//! What a witness writes down.

use serde_json::Value;

/// What a witness looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// Whether there is a token.
    Token,
    /// Whom the token proved.
    Principal,
}

// === impl Subject ===

impl Subject {
    /// The plugin that a root id, `pluginName` in a `WasmPlugin`, stands for.
    pub(crate) fn of_root_id(root_id: &[u8]) -> Option<Self> {
        match root_id {
            b"token" => Some(Self::Token),
            b"principal" => Some(Self::Principal),
            _ => None,
        }
    }
}

/// What a witness is called: the string `name` of its configuration.
///
/// # Errors
///
/// The reason, for the log, if there is none or it cannot stand in a header.
pub(crate) fn name(configuration: &[u8]) -> Result<String, String> {
    let value: Value =
        serde_json::from_slice(configuration).map_err(|error| format!("not JSON: {error}"))?;
    let name = value.get("name").and_then(Value::as_str).ok_or("there is no string `name`")?;
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ' ');
    if name.is_empty() || !name.chars().all(is_harmless) {
        return Err("`name` must be letters, digits, dashes and blanks".to_owned());
    }
    Ok(name.to_owned())
}

/// Who was found in the token.
pub(crate) fn principal(subject: Option<Vec<u8>>) -> String {
    subject.map_or_else(
        || "nobody".to_owned(),
        |subject| String::from_utf8_lossy(&subject).chars().filter(|c| !c.is_control()).collect(),
    )
}

/// A note in front of others.
pub(crate) fn before(note: &str, others: Option<Vec<u8>>) -> Vec<u8> {
    let mut notes = note.as_bytes().to_vec();
    if let Some(others) = others {
        notes.extend_from_slice(b", ");
        notes.extend_from_slice(&others);
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_names_choose_a_plugin_and_others_do_not() {
        assert_eq!(Subject::of_root_id(b"token"), Some(Subject::Token));
        assert_eq!(Subject::of_root_id(b"principal"), Some(Subject::Principal));
        assert_eq!(Subject::of_root_id(b""), None);
        assert_eq!(Subject::of_root_id(b"tokens"), None);
    }

    #[test]
    fn a_name_is_configured() {
        assert_eq!(name(br#"{"name": "before authn"}"#), Ok("before authn".to_owned()));
        for wrong in
            [&b""[..], b"{}", br#"{"name": 1}"#, br#"{"name": ""}"#, br#"{"name": "a\r\nb"}"#]
        {
            assert!(name(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn without_a_verified_token_there_is_nobody() {
        assert_eq!(principal(None), "nobody");
        assert_eq!(principal(Some(b"ali\nce".to_vec())), "alice");
    }

    #[test]
    fn the_first_to_see_a_request_is_told_first() {
        assert_eq!(before("a: 1", None), b"a: 1");
        assert_eq!(before("a: 1", Some(b"b: 2".to_vec())), b"a: 1, b: 2");
    }
}
