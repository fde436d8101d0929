//! The text that a plugin gets as its configuration.
//!
//! Plugins compare and hash this text, so it is the same byte for byte as Istio's: compact, keys
//! sorted, numbers and strings written as Go writes them.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// From this magnitude on a number is written with an exponent.
const EXPONENT_FROM: f64 = 1e21;
/// Below this magnitude a number other than zero is written with an exponent.
const EXPONENT_BELOW: f64 = 1e-6;

/// JSON text of `pluginConfig`, or the empty string if it has no fields.
///
/// Every number is a 64-bit float, so that integers above 2^53 lose precision, and is written
/// with the fewest digits that read back as the same float. `<`, `>`, `&`, U+2028 and U+2029 are
/// escaped in strings and keys; other characters beyond ASCII stay.
///
/// Source: Istio, `pluginConfig` as a `google.protobuf.Struct` in `jsonpb`; Go, `encoding/json`.
pub fn plugin_config_json(config: &Map<String, Value>) -> String {
    let mut text = String::new();
    if !config.is_empty() {
        write_object(&mut text, config);
    }
    text
}

fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Number(number) => write_number(text, number.as_f64().unwrap_or_default()),
        Value::String(string) => write_string(text, string),
        Value::Array(items) => write_array(text, items),
        Value::Object(map) => write_object(text, map),
    }
}

fn write_object(text: &mut String, map: &Map<String, Value>) {
    let mut fields: Vec<_> = map.iter().collect();
    fields.sort_unstable_by_key(|(key, _)| key.as_bytes());
    text.push('{');
    for (index, (key, value)) in fields.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_string(text, key);
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

fn write_array(text: &mut String, items: &[Value]) {
    text.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_value(text, item);
    }
    text.push(']');
}

fn write_number(text: &mut String, number: f64) {
    let magnitude = number.abs();
    let result = if magnitude >= EXPONENT_FROM {
        // Rust writes `1e21`, Go `1e+21`.
        write!(text, "{}", format!("{number:e}").replace('e', "e+"))
    } else if magnitude < EXPONENT_BELOW && magnitude != 0.0 {
        write!(text, "{number:e}")
    } else {
        write!(text, "{number}")
    };
    result.expect("writing to a string cannot fail");
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for character in string.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                write!(text, "\\u{:04x}", u32::from(character))
                    .expect("writing to a string cannot fail");
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests;
