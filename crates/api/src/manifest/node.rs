//! A document as a tree of values, each of which knows where it was written.

use crate::field_path::{FieldPath, Segment};

/// Line and column of a value, the first ones are 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mark {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) mark: Mark,
}

/// A value as Kubernetes decodes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// An integer of 64 bits, signed or not; a larger one is a float.
    Int(i128),
    Float(f64),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_mark: Mark,
    /// Whether the key was a boolean, such as an unquoted `n`, before it became JSON's `false`.
    pub(super) is_bool_key: bool,
    pub(super) value: Node,
}

// === impl Node ===

impl Node {
    /// Estimate of the memory that a copy takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        size_of::<Entry>()
            + match &self.value {
                Value::String(text) => text.len(),
                Value::Sequence(items) => items.iter().map(Self::weight).sum(),
                Value::Mapping(entries) => {
                    entries.iter().map(|entry| entry.key.len() + entry.value.weight()).sum()
                }
                Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 0,
            }
    }

    /// Levels of nesting: 0 for a scalar.
    pub(super) fn depth(&self) -> usize {
        match &self.value {
            Value::Sequence(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Value::Mapping(entries) => {
                1 + entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    #[cfg(test)]
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(number) => i64::try_from(*number).unwrap().into(),
            Value::Float(number) => (*number).into(),
            Value::String(text) => text.as_str().into(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
            }
        }
    }

    /// The entry of a mapping.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Mapping(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text of the entry of a mapping, if it is a string.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        match &self.entry(key)?.value.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Where the value at `path` is, or else the nearest value around it that exists.
    pub(super) fn locate(&self, path: &FieldPath) -> Mark {
        let (mut node, mut mark) = (self, self.mark);
        for segment in path.segments() {
            let (next, key_mark) = match (segment, &node.value) {
                (Segment::Field(name), Value::Mapping(_)) => {
                    let entry = node.entry(name).or_else(|| node.entry(&snake_case(name)));
                    let Some(entry) = entry else { break };
                    (&entry.value, entry.key_mark)
                }
                (Segment::Key(key), Value::Mapping(_)) => {
                    let Some(entry) = node.entry(key) else { break };
                    (&entry.value, entry.key_mark)
                }
                (Segment::Index(index), Value::Sequence(items)) => {
                    let Some(item) = items.get(*index) else { break };
                    (item, item.mark)
                }
                _ => break,
            };
            node = next;
            mark = next.mark_or(key_mark);
        }
        mark
    }

    /// The value's place; an absent value has none and is shown at its key.
    pub(super) fn mark_or(&self, key_mark: Mark) -> Mark {
        if self.value == Value::Null { key_mark } else { self.mark }
    }
}

// === impl Value ===

impl Value {
    /// What the value is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "an object",
        }
    }
}

/// The original name of a field whose JSON name is `name`.
///
/// Source: Protocol Buffers, "JSON Mapping".
pub(super) fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake
}
