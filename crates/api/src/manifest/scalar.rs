//! What a scalar means, decided as Kubernetes decides it.
//!
//! Kubernetes turns YAML into JSON with the rules of YAML 1.1 for booleans and integers:
//! `on` and `y` are booleans, `0x10` and `010` are numbers, `1_000` is a thousand.
//! Base 60 is not supported there, and timestamps stay strings.
//!
//! Source: Kubernetes, `sigs.k8s.io/yaml`; YAML 1.1, "Language-Independent Types".

use super::node::Value;

/// A scalar whose explicit tag does not fit its text, or a tag that JSON has no value for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TagMismatch;

/// Resolves a scalar without a tag and without quotes.
pub(super) fn resolve_plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Value::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Value::Float(f64::NEG_INFINITY),
        _ => resolve_number(text).unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

/// Resolves a scalar with a tag of YAML's core schema, such as `str` for `!!str`.
pub(super) fn resolve_tagged(tag: &str, text: &str) -> Result<Value, TagMismatch> {
    let value = resolve_plain(text);
    match (tag, value) {
        ("str", _) => Ok(Value::String(text.to_owned())),
        ("null", value @ Value::Null)
        | ("bool", value @ Value::Bool(_))
        | ("int", value @ Value::Int(_))
        | ("float", value @ Value::Float(_)) => Ok(value),
        #[expect(clippy::cast_precision_loss, reason = "the tag asks for a float")]
        ("float", Value::Int(number)) => Ok(Value::Float(number as f64)),
        ("timestamp", Value::String(text)) => Ok(Value::String(text)),
        _ => Err(TagMismatch),
    }
}

/// Key of a mapping in JSON; `None` for a key that JSON cannot have.
pub(super) fn key_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) => None,
    }
}

fn resolve_number(text: &str) -> Option<Value> {
    let first = text.bytes().next()?;
    if first == b'.' {
        return is_decimal_float(text).then(|| text.parse().ok().map(Value::Float))?;
    }
    if !first.is_ascii_digit() && first != b'+' && first != b'-' {
        return None;
    }
    let plain = text.replace('_', "");
    resolve_integer(&plain)
        .or_else(|| is_decimal_float(&plain).then(|| plain.parse().ok().map(Value::Float))?)
}

fn resolve_integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let lower = digits.get(..2).unwrap_or_default().to_ascii_lowercase();
    let (radix, digits) = match lower.as_str() {
        "0x" => (16, &digits[2..]),
        "0o" => (8, &digits[2..]),
        "0b" => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    // `from_str_radix` would accept a second sign.
    if digits.is_empty() || !digits.bytes().all(|b| char::from(b).is_digit(radix)) {
        return None;
    }
    let in_range = |n: &i128| (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(n);
    match i128::from_str_radix(digits, radix).map(|n| n * sign) {
        Ok(number) if in_range(&number) => Some(Value::Int(number)),
        // Beyond 64 bits it is only ever used as a float.
        #[expect(clippy::cast_precision_loss, reason = "a float is what is wanted")]
        Ok(number) => Some(Value::Float(number as f64)),
        Err(_) if radix == 10 => text.parse().ok().map(Value::Float),
        Err(_) => None,
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`, so that Rust's `inf` stays a string.
fn is_decimal_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = digits(rest);
    let (fraction, rest) = match rest[whole..].strip_prefix('.') {
        Some(after) => (digits(after), &after[digits(after)..]),
        None => (0, &rest[whole..]),
    };
    if whole + fraction == 0 {
        return false;
    }
    match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => {
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            !exponent.is_empty() && digits(exponent) == exponent.len()
        }
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_scalars_mean_what_kubernetes_takes_them_for() {
        use Value::{Bool, Float, Int, Null};
        let rows = [
            ("", Null),
            ("~", Null),
            ("NULL", Null),
            ("yes", Bool(true)),
            ("On", Bool(true)),
            ("y", Bool(true)),
            ("OFF", Bool(false)),
            ("n", Bool(false)),
            ("0", Int(0)),
            ("-0", Int(0)),
            ("+12", Int(12)),
            ("1_000", Int(1000)),
            ("010", Int(8)),
            ("0o17", Int(15)),
            ("0x1F", Int(31)),
            ("-0b101", Int(-5)),
            ("18446744073709551615", Int(u64::MAX.into())),
            ("-9223372036854775808", Int(i64::MIN.into())),
            ("18446744073709551616", Float(18_446_744_073_709_551_616.0)),
            ("09", Float(9.0)),
            ("1.", Float(1.0)),
            (".5", Float(0.5)),
            ("-1.5e-3", Float(-0.0015)),
            ("1e3", Float(1000.0)),
            ("-.inf", Float(f64::NEG_INFINITY)),
        ];
        for (text, expected) in rows {
            assert_eq!(resolve_plain(text), expected, "{text:?}");
        }
        assert!(matches!(resolve_plain(".nan"), Float(number) if number.is_nan()));
        assert_eq!(resolve_plain(&"9".repeat(60)), Float(1e60));
    }

    #[test]
    fn other_plain_scalars_are_strings() {
        for text in [
            "yEs",
            "tRUE",
            "nil",
            "inf",
            "nan",
            "NaN",
            "0x",
            "0xg",
            "1.2.3",
            "1e",
            "1e+",
            "+",
            "-",
            "--1",
            "1:30",
            "190:20:30",
            "2024-01-02",
            "2024-01-02T03:04:05Z",
            ".",
            "._1",
            "1 2",
            "é",
            "-é",
            "0é",
            "0b2",
            "1e5x",
        ] {
            assert_eq!(resolve_plain(text), Value::String(text.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn explicit_tags_decide_or_refuse() {
        assert_eq!(resolve_tagged("str", "010"), Ok(Value::String("010".into())));
        assert_eq!(resolve_tagged("float", "1"), Ok(Value::Float(1.0)));
        assert_eq!(resolve_tagged("int", "1"), Ok(Value::Int(1)));
        for (tag, text) in
            [("int", "x"), ("int", "1.5"), ("bool", "1"), ("binary", "AA=="), ("set", "")]
        {
            assert_eq!(resolve_tagged(tag, text), Err(TagMismatch), "!!{tag} {text}");
        }
    }

    #[test]
    fn keys_are_written_as_json_keys() {
        assert_eq!(key_text(&resolve_plain("on")).as_deref(), Some("true"));
        assert_eq!(key_text(&resolve_plain("010")).as_deref(), Some("8"));
        assert_eq!(key_text(&resolve_plain("1.50")).as_deref(), Some("1.5"));
        assert_eq!(key_text(&Value::Null), None);
        assert_eq!(key_text(&Value::Sequence(Vec::new())), None);
    }
}
