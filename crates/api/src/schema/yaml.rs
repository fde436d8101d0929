//! JSON values as YAML for people.

use std::fmt::Write as _;

use serde_json::Value;

/// Writes a value in block style. Every string that could be taken for something else is quoted.
pub fn to_yaml(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value, 0);
    text
}

/// Writes a value that begins on a line of its own, each line indented by `depth` levels.
fn write(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let _ = write!(text, "{}{}:", "  ".repeat(depth), scalar(key));
                write_behind(text, value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let mut block = String::new();
                write(&mut block, item, depth + 1);
                // The first line shares its line with the dash.
                let indent = "  ".repeat(depth);
                let first = block.trim_start_matches(' ');
                let _ = write!(text, "{indent}- {first}");
            }
        }
        other => {
            let _ = writeln!(text, "{}{}", "  ".repeat(depth), inline(other));
        }
    }
}

/// Writes a value behind a key and its colon.
fn write_behind(text: &mut String, value: &Value, depth: usize) {
    let is_block = match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => false,
    };
    if is_block {
        text.push('\n');
        write(text, value, depth + 1);
    } else {
        let _ = writeln!(text, " {}", inline(value));
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A string as it is if nobody can take it for something else, or else in quotes.
fn scalar(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '$');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '$')
        && text.len() > 3
        && text.chars().all(is_plain);
    let is_special = ["true", "false", "null"].iter().any(|word| text.eq_ignore_ascii_case(word));
    if is_word && !is_special { text.to_owned() } else { Value::from(text).to_string() }
}
