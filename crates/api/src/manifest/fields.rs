//! Reads the fields of one object, type by type, and reports what does not fit.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::findings::Findings;
use super::node::{Entry, Mark, Node, Value, snake_case};
use crate::diagnostic::quoted;
use crate::field_path::FieldPath;

/// How far a misspelt name may be from a known one to be suggested, as a part of its length.
const SUGGESTION_DIVISOR: usize = 3;
/// Longest misspelt name for which a suggestion is looked for.
const MAX_MISSPELT_LEN: usize = 64;

/// An enumeration of the resource, as its schema spells it.
pub(crate) trait ProtoEnum: Copy + 'static {
    /// Names and numbers of all values.
    const VALUES: &'static [(&'static str, i128, Self)];
}

/// Reads the entries of one object and knows which of them nobody asked for.
pub(super) struct Fields<'a> {
    path: FieldPath,
    mark: Mark,
    entries: &'a [Entry],
    known: Vec<&'static str>,
    /// Whether the original name of a field is accepted beside its JSON name.
    accepts_snake_case: bool,
}

/// A value that was asked for, and where it belongs.
pub(super) struct Field<'a> {
    pub(super) path: FieldPath,
    pub(super) node: &'a Node,
    pub(super) key_mark: Mark,
}

// === impl Fields ===

impl<'a> Fields<'a> {
    /// Reads an object with the names of the protobuf JSON mapping: both spellings are accepted.
    pub(super) fn of(field: &Field<'a>, findings: &mut Findings) -> Option<Self> {
        match &field.node.value {
            Value::Mapping(entries) => Some(Self {
                path: field.path.clone(),
                mark: field.node.mark,
                entries,
                known: Vec::new(),
                accepts_snake_case: true,
            }),
            _ => {
                field.mismatch("an object", findings);
                None
            }
        }
    }

    /// Only the JSON names, as Kubernetes' own types have it.
    pub(super) fn exact_names(mut self) -> Self {
        self.accepts_snake_case = false;
        self
    }

    /// The name in the object's metadata, if it has a sound one.
    pub(super) fn name(&self) -> Option<&'a str> {
        self.entries.iter().find(|entry| entry.key == "metadata")?.value.text("name")
    }

    /// The field, or `None` if it is absent or null.
    pub(super) fn get(&mut self, name: &'static str, findings: &mut Findings) -> Option<Field<'a>> {
        self.known.push(name);
        let find = |key: &str| self.entries.iter().find(|entry| entry.key == key);
        let camel = find(name);
        let snake = snake_case(name);
        let snake = if self.accepts_snake_case && snake != name { find(&snake) } else { None };
        if let (Some(_), Some(snake)) = (camel, snake) {
            let message = format!("`{}` is ignored because `{name}` is given too", snake.key);
            findings.warning(snake.key_mark, &self.path.field(name), message, None);
        }
        let entry = camel.or(snake)?;
        (entry.value.value != Value::Null).then(|| Field {
            path: self.path.field(name),
            node: &entry.value,
            key_mark: entry.key_mark,
        })
    }

    /// The field; its absence is reported.
    pub(super) fn required(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> Option<Field<'a>> {
        let field = self.get(name, findings);
        if field.is_none() {
            let entry = self.entries.iter().find(|entry| entry.key == name);
            let mark = entry.map_or(self.mark, |entry| entry.key_mark);
            findings.error(mark, &self.path.field(name), "is required", None);
        }
        field
    }

    /// Accepts fields without reading them.
    pub(super) fn ignore(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    pub(super) fn string(&mut self, name: &'static str, findings: &mut Findings) -> Option<String> {
        self.get(name, findings)?.string(findings)
    }

    /// A value of an enumeration, its default if the field is absent or wrong.
    pub(super) fn enumeration<E: ProtoEnum + Default>(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> E {
        self.get(name, findings).and_then(|field| field.enumeration(findings)).unwrap_or_default()
    }

    /// A nested object, read by `read`.
    pub(super) fn object<T>(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
        read: impl FnOnce(Fields<'a>, &mut Findings) -> T,
    ) -> Option<T> {
        let field = self.get(name, findings)?;
        let fields = Fields::of(&field, findings)?;
        Some(read(fields, findings))
    }

    /// A list of objects, each read by `read`.
    ///
    /// An element that is none is reported and has its default, so that the others keep their
    /// numbers.
    pub(super) fn objects<T: Default>(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
        mut read: impl FnMut(Fields<'a>, &mut Findings) -> T,
    ) -> Vec<T> {
        let Some(field) = self.get(name, findings) else { return Vec::new() };
        let items = field.items(findings);
        let mut read_item = |item: &Field<'a>| {
            Fields::of(item, findings).map(|fields| read(fields, findings)).unwrap_or_default()
        };
        items.iter().map(&mut read_item).collect()
    }

    /// A map from strings to strings.
    pub(super) fn string_map(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> BTreeMap<String, String> {
        let entries = self.entries(name, findings);
        let text = |(key, item): (String, Field<'_>)| Some((key, item.string(findings)?));
        entries.into_iter().filter_map(text).collect()
    }

    /// The entries of a map, each with its place.
    pub(super) fn entries(
        &mut self,
        name: &'static str,
        findings: &mut Findings,
    ) -> Vec<(String, Field<'a>)> {
        let Some(field) = self.get(name, findings) else { return Vec::new() };
        let Value::Mapping(entries) = &field.node.value else {
            field.mismatch("an object", findings);
            return Vec::new();
        };
        let entry = |Entry { key, key_mark, value, .. }: &'a Entry| {
            let item = Field { path: field.path.key(key), node: value, key_mark: *key_mark };
            (key.clone(), item)
        };
        entries.iter().map(entry).collect()
    }

    /// Reports the fields that nobody asked for.
    pub(super) fn finish(self, findings: &mut Findings) {
        for entry in self.entries {
            let is_known = |name: &&'static str| {
                entry.key == **name || self.accepts_snake_case && entry.key == snake_case(name)
            };
            if !self.known.iter().any(is_known) {
                let message = format!("unknown field `{}`", quoted(&entry.key));
                let hint =
                    nearest(&entry.key, &self.known).map(|name| format!("did you mean `{name}`?"));
                findings.warning(entry.key_mark, &self.path, message, hint);
            }
        }
    }
}

// === impl Field ===

impl<'a> Field<'a> {
    pub(super) fn mark(&self) -> Mark {
        self.node.mark_or(self.key_mark)
    }

    pub(super) fn error(&self, message: String, hint: Option<String>, findings: &mut Findings) {
        findings.error(self.mark(), &self.path, message, hint);
    }

    pub(super) fn mismatch(&self, expected: &str, findings: &mut Findings) {
        let message = format!("must be {expected}, not {}", self.node.value.kind());
        self.error(message, None, findings);
    }

    pub(super) fn string(&self, findings: &mut Findings) -> Option<String> {
        match &self.node.value {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Bool(_) | Value::Int(_) | Value::Float(_)) => {
                let message = format!("must be a string, not {}", value.kind());
                self.error(message, Some("put the value in quotes".into()), findings);
                None
            }
            _ => {
                self.mismatch("a string", findings);
                None
            }
        }
    }

    pub(super) fn enumeration<E: ProtoEnum>(&self, findings: &mut Findings) -> Option<E> {
        let names = || E::VALUES.iter().map(|(name, ..)| *name);
        match &self.node.value {
            Value::String(text) => {
                let value = E::VALUES.iter().find(|(name, ..)| name == text);
                if value.is_none() {
                    let list = names().map(|name| format!("`{name}`")).collect::<Vec<_>>();
                    let message =
                        format!("must be one of {}, not `{}`", list.join(", "), quoted(text));
                    let hint = nearest(text, &names().collect::<Vec<_>>())
                        .map(|name| format!("did you mean `{name}`?"));
                    self.error(message, hint, findings);
                }
                value.map(|(.., value)| *value)
            }
            Value::Int(number) => {
                let value = E::VALUES.iter().find(|(_, known, _)| known == number);
                if value.is_none() {
                    self.error(format!("no value has the number {number}"), None, findings);
                }
                value.map(|(.., value)| *value)
            }
            _ => {
                self.mismatch("a string", findings);
                None
            }
        }
    }

    /// An integer in `range`, written as a number or as a number in a string.
    ///
    /// Source: Protocol Buffers, "JSON Mapping", `int32`.
    pub(super) fn integer(
        &self,
        range: RangeInclusive<i32>,
        findings: &mut Findings,
    ) -> Option<i32> {
        let (shown, number) = match &self.node.value {
            Value::Int(number) => (number.to_string(), Some(*number)),
            Value::Float(number) => (quoted(&number.to_string()), whole(*number)),
            Value::String(text) => (format!("`{}`", quoted(text)), text.parse().ok()),
            _ => {
                self.mismatch("a number", findings);
                return None;
            }
        };
        let Some(number) = number else {
            self.error(format!("must be an integer, not {shown}"), None, findings);
            return None;
        };
        let in_range = i32::try_from(number).ok().filter(|number| range.contains(number));
        if in_range.is_none() {
            let message = format!("must be from {} to {}, not {shown}", range.start(), range.end());
            self.error(message, None, findings);
        }
        in_range
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Sequence(_))
    }

    /// The elements of a list.
    pub(super) fn items(&self, findings: &mut Findings) -> Vec<Field<'a>> {
        let Value::Sequence(items) = &self.node.value else {
            self.mismatch("a list", findings);
            return Vec::new();
        };
        let item = |(index, node): (usize, &'a Node)| Field {
            path: self.path.index(index),
            node,
            key_mark: node.mark,
        };
        items.iter().enumerate().map(item).collect()
    }
}

/// The integer that a float is, if it is one; one that is too large saturates.
fn whole(number: f64) -> Option<i128> {
    #[expect(clippy::cast_possible_truncation, reason = "saturating is out of every range")]
    (number.fract() == 0.0).then_some(number as i128)
}

/// The known name that is most like `name`, if any is alike.
pub(crate) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    if name.len() > MAX_MISSPELT_LEN {
        return None;
    }
    // Case, dashes and underscores are what people get wrong most and mean least.
    let canonical = |text: &str| text.replace(['_', '-'], "").to_ascii_lowercase();
    let wanted = canonical(name);
    let most = (wanted.chars().count() / SUGGESTION_DIVISOR).max(1);
    known
        .iter()
        .map(|known| (strsim::osa_distance(&wanted, &canonical(known)), *known))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_suggested_only_if_it_is_alike() {
        let known = ["selector", "url", "sha256", "pluginConfig", "phase", "priority", "match"];
        let rows = [
            ("priorty", Some("priority")),
            ("plugin-config", Some("pluginConfig")),
            ("PluginConfig", Some("pluginConfig")),
            ("prioirty", Some("priority")),
            ("matches", Some("match")),
            ("ur", Some("url")),
            ("env", None),
            ("rootID", None),
            ("", None),
        ];
        for (name, expected) in rows {
            assert_eq!(nearest(name, &known), expected, "{name:?}");
        }
        assert_eq!(nearest(&"u".repeat(1_000_000), &known), None);
    }
}
