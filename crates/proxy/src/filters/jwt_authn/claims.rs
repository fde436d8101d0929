//! What becomes of claims: headers and metadata.

use serde_json::{Map, Value};

use super::encoding::encode_standard;
use super::json;

/// Claims that are split at blanks in any case. Source: Istio.
pub(super) const SPACE_DELIMITED: [&str; 2] = ["scope", "permission"];

/// The text of a claim for a header; `None` if there is nothing to tell.
///
/// Dots in the name lead into objects. Source: Envoy: strings as they are, whole numbers without
/// a fraction, others with six digits, objects and lists as JSON in base64.
pub(super) fn header_text(claims: &Map<String, Value>, name: &str) -> Option<String> {
    let mut path = name.split('.');
    let first = claims.get(path.next()?)?;
    let claim = path.try_fold(first, |claim, name| claim.as_object()?.get(name))?;
    let text = match claim {
        Value::Null => return None,
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number_text(number.as_f64()?),
        Value::String(text) => text.clone(),
        Value::Array(_) | Value::Object(_) => encode_standard(json::text(claim).as_bytes()),
    };
    Some(text).filter(|text| !text.is_empty())
}

/// Source: Envoy; numbers are doubles there.
fn number_text(number: f64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "the bound is a double in Envoy, too")]
    let is_whole = (0.0..u64::MAX as f64).contains(&number) && number.fract() == 0.0;
    if is_whole { format!("{number:.0}") } else { format!("{number:.6}") }
}

/// The claims as plugins and policies read them: some texts are lists of words.
///
/// Source: Istio and Envoy; a text without a word stays one.
pub(super) fn metadata(claims: &Map<String, Value>, space_delimited: &[String]) -> Value {
    let mut claims = claims.clone();
    for name in space_delimited {
        let Some(Value::String(text)) = claims.get(name.as_str()) else { continue };
        let words = text.split(' ').filter(|word| !word.is_empty());
        let words: Vec<Value> = words.map(Value::from).collect();
        if !words.is_empty() {
            claims.insert(name.clone(), Value::Array(words));
        }
    }
    Value::Object(claims)
}

#[cfg(test)]
mod tests {
    use super::{SPACE_DELIMITED, header_text, metadata};
    use serde_json::{Map, Value, json};

    fn claims(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(fields) => fields,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn claims_become_text() {
        let rows = [
            (json!("s"), Some("s")),
            (json!("ü"), Some("ü")),
            (json!(""), None),
            (json!(null), None),
            (json!(true), Some("true")),
            (json!(false), Some("false")),
            (json!(0), Some("0")),
            (json!(123_456_789), Some("123456789")),
            (json!(1e15), Some("1000000000000000")),
            (json!(1e19), Some("10000000000000000000")),
            (json!(1.9e19), Some("19000000000000000000.000000")),
            (json!(-1), Some("-1.000000")),
            (json!(1.5), Some("1.500000")),
            (json!(-0.5), Some("-0.500000")),
            (json!(["a", "b"]), Some("WyJhIiwiYiJd")),
            (json!({"a": 1}), Some("eyJhIjoxfQ==")),
            (json!([]), Some("W10=")),
        ];
        for (claim, expected) in rows {
            let text = header_text(&claims(json!({ "c": claim })), "c");
            assert_eq!(text.as_deref(), expected, "{claim}");
        }
    }

    #[test]
    fn dots_lead_into_objects() {
        let claims = claims(json!({"a": {"b": {"c": "v"}}, "a.b": "literal", "l": [{"b": 1}]}));
        assert_eq!(header_text(&claims, "a.b.c").as_deref(), Some("v"));
        for name in ["a.b.c.d", "a.c", "x", "l.b", "l.0.b", "", ".", "a."] {
            assert_eq!(header_text(&claims, name), None, "{name}");
        }
        assert!(header_text(&claims, "a.b").is_some_and(|text| text != "literal"));
    }

    #[test]
    fn some_texts_are_lists_of_words() {
        let names: Vec<String> =
            SPACE_DELIMITED.iter().copied().chain(["mine"]).map(str::to_owned).collect();
        let given = json!({
            "scope": "a b  c ", "permission": "x", "mine": " y", "other": "p q",
        });
        let expected = json!({
            "scope": ["a", "b", "c"], "permission": ["x"], "mine": ["y"], "other": "p q",
        });
        assert_eq!(metadata(&claims(given), &names), expected);
        let kept = json!({"scope": "  ", "permission": "", "mine": ["a b"]});
        assert_eq!(metadata(&claims(kept.clone()), &names), kept);
    }
}
