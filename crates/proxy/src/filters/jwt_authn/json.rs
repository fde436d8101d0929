//! JSON of tokens, bounded and strict, and the way back for headers.

use std::fmt::{self, Write as _};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting, the outermost object included. Source: Envoy's parser of `Struct`.
const MAX_DEPTH: usize = 100;

/// Reads an object; `null` counts as an empty one.
///
/// `None` for anything else, for what is nested too deeply, and for an object that says one thing
/// twice. Source: Envoy. Differs: what is no JSON by RFC 8259 is refused, where Envoy takes
/// trailing commas, names without quotes and the like.
pub(super) fn object(text: &[u8]) -> Option<Map<String, Value>> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Limited(MAX_DEPTH).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    match value {
        Value::Object(fields) => Some(fields),
        Value::Null => Some(Map::new()),
        _ => None,
    }
}

/// A value with at most so many levels.
#[derive(Clone, Copy)]
struct Limited(usize);

// === impl Limited ===

impl Limited {
    fn deeper<E: Error>(self) -> Result<Self, E> {
        self.0.checked_sub(1).map(Self).ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Limited {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Limited {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(deeper)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let deeper = self.deeper()?;
        let mut fields = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(deeper)?;
            if fields.insert(name, value).is_some() {
                return Err(A::Error::custom("a name twice"));
            }
        }
        Ok(Value::Object(fields))
    }
}

/// Writes a value as Envoy does: names in order, numbers as doubles, some characters escaped.
///
/// Source: Envoy, protobuf's JSON of `Struct` and `ListValue`.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => out.push_str(&shortest(number.as_f64().unwrap_or_default())),
        Value::String(text) => write_string(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            let mut fields: Vec<(&String, &Value)> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            out.push('{');
            for (index, (name, value)) in fields.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(name, out);
                out.push(':');
                write(value, out);
            }
            out.push('}');
        }
    }
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if must_be_escaped(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Characters that cannot be seen, and those that could end an HTML element. Source: Envoy.
fn must_be_escaped(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}'
            | '<'
            | '>'
            | '\u{7f}'..='\u{9f}'
            | '\u{ad}'
            | '\u{600}'..='\u{603}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{2064}'
            | '\u{206a}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0001}'
            | '\u{e0020}'..='\u{e007f}'
    )
}

/// A double with as many digits as it takes, like `%.15g` or, if that is not it, `%.17g` in C.
fn shortest(number: f64) -> String {
    let short = general(number, 15);
    if short.parse() == Ok(number) { short } else { general(number, 17) }
}

/// `%.*g` of C.
fn general(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return if number.is_sign_negative() { "-0".into() } else { "0".into() };
    }
    let scientific = format!("{number:.*e}", digits.saturating_sub(1));
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trimmed = |text: &str| {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    let precision = i32::try_from(digits).unwrap_or(i32::MAX);
    if exponent < -4 || exponent >= precision {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trimmed(mantissa), exponent.unsigned_abs());
    }
    let after = usize::try_from(precision.saturating_sub(1).saturating_sub(exponent));
    trimmed(&format!("{number:.*}", after.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::{object, text};
    use serde_json::{Value, json};

    #[test]
    fn objects_are_read_and_nothing_else() {
        let read = object(br#" {"a": [1, -2, 1.5, "x", null, true, {"b": {}}]} "#).unwrap();
        let expected = json!({"a": [1, -2, 1.5, "x", null, true, {"b": {}}]});
        assert_eq!(Value::Object(read), expected);
        assert!(object(b"null").unwrap().is_empty());
        for text in [
            "",
            "[]",
            "1",
            "\"a\"",
            "{",
            "{}x",
            "{\"a\":1,}",
            "{'a':1}",
            "{a:1}",
            "{\"a\":1e400}",
            "{\"a\":01}",
            "{\"a\":NaN}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\n\"}",
            "\u{feff}{}",
        ] {
            assert_eq!(object(text.as_bytes()), None, "{text}");
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), None);
    }

    #[test]
    fn saying_one_thing_twice_says_nothing() {
        assert!(object(br#"{"a":1,"b":1}"#).is_some());
        assert_eq!(object(br#"{"a":1,"a":1}"#), None);
        assert_eq!(object(br#"{"b":{"a":1,"\u0061":1}}"#), None);
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(nested(99).as_bytes()).is_some());
        assert_eq!(object(nested(100).as_bytes()), None);
        assert_eq!(object(nested(100_000).as_bytes()), None);
        assert_eq!(object("{\"x\":".repeat(100_000).as_bytes()), None);
    }

    #[test]
    fn values_are_written_as_envoy_writes_them() {
        let rows = [
            (json!({"z": 1, "a": [{"b": null}]}), r#"{"a":[{"b":null}],"z":1}"#),
            (json!([1.0, 1.5, 1e21, 1e-7, -3, 0]), "[1,1.5,1e+21,1e-07,-3,0]"),
            (
                json!([1e15, 123_456_789_012_345_u64, 0.1, 0.0001]),
                "[1e+15,123456789012345,0.1,0.0001]",
            ),
            (
                json!([1_234_567_890_123_456_u64, 0.1 + 0.2]),
                "[1234567890123456,0.30000000000000004]",
            ),
            (
                json!([true, false, "a\tb\n\r\u{8}\u{c}\u{1}"]),
                r#"[true,false,"a\tb\n\r\b\f\u0001"]"#,
            ),
            (json!("<>&\u{2028}\u{fc}\u{7f}'\"\\/"), r#""\u003c\u003e&\u2028ü\u007f'\"\\/""#),
            (
                json!("\u{ad}\u{feff}\u{1d173}\u{1f600}"),
                "\"\\u00ad\\ufeff\\ud834\\udd73\u{1f600}\"",
            ),
            (json!({}), "{}"),
        ];
        for (value, expected) in rows {
            assert_eq!(text(&value), expected);
        }
    }
}
