//! The tag: read from the plugin configuration, appended to header values.

use serde_json::Value;

/// Reads the tag from a plugin configuration: the string `tag` of a JSON object, or plain text.
///
/// # Errors
///
/// The reason, for the log, if there is no tag or it cannot stand in a header.
pub(crate) fn parse(configuration: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(configuration).map_err(|error| format!("not UTF-8: {error}"))?;
    let text = text.trim();
    let tag = if text.starts_with(['{', '[']) { parse_json(text)? } else { text.to_owned() };
    if tag.is_empty() {
        return Err("the tag is empty; give `{\"tag\": \"a\"}` or plain text".to_owned());
    }
    if tag.chars().any(char::is_control) {
        return Err("the tag holds a control character, which no header may carry".to_owned());
    }
    Ok(tag)
}

fn parse_json(text: &str) -> Result<String, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    match value.get("tag") {
        Some(Value::String(tag)) => Ok(tag.clone()),
        Some(_) => Err("`tag` is not a string".to_owned()),
        None => Err("the JSON has no `tag`".to_owned()),
    }
}

/// The header value `current` with `tag` behind a comma, or the tag alone if there was none.
pub(crate) fn append(current: Option<Vec<u8>>, tag: &str) -> Vec<u8> {
    match current {
        Some(mut value) if !value.is_empty() => {
            value.push(b',');
            value.extend_from_slice(tag.as_bytes());
            value
        }
        _ => tag.as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_comes_from_json_or_plain_text() {
        for configuration in [r#"{"tag":"a"}"#, " a\n", r#"{"other":1,"tag":"a"}"#] {
            assert_eq!(parse(configuration.as_bytes()).as_deref(), Ok("a"), "{configuration}");
        }
    }

    #[test]
    fn a_configuration_without_a_usable_tag_is_refused() {
        let cases: [(&[u8], &str); 8] = [
            (b"", "empty"),
            (b"  ", "empty"),
            (br#"{"tag":""}"#, "empty"),
            (b"{}", "no `tag`"),
            (br#"["a"]"#, "no `tag`"),
            (br#"{"tag":1}"#, "not a string"),
            (br#"{"tag":"a"#, "not JSON"),
            (b"\xff", "not UTF-8"),
        ];
        for (configuration, reason) in cases {
            let error = parse(configuration).expect_err("no usable tag");
            assert!(error.contains(reason), "{configuration:?}: {error}");
        }
        let error = parse(br#"{"tag":"a\r\nb: c"}"#).expect_err("a line break");
        assert!(error.contains("control character"), "{error}");
    }

    #[test]
    fn tags_are_joined_by_commas_in_order() {
        assert_eq!(append(None, "a"), b"a");
        assert_eq!(append(Some(Vec::new()), "a"), b"a");
        assert_eq!(append(Some(b"a,\xff".to_vec()), "b"), b"a,\xff,b");
    }
}
