//! Paths of fields as Kubernetes writes them.

use std::fmt;
use std::sync::Arc;

/// Longest key of a map that a path shows in full, in characters; label keys are not longer.
const MAX_KEY_CHARS: usize = 320;

/// Path of a field from the root of its document: `spec.match[0].ports[1]`,
/// `spec.selector.matchLabels[app]`.
///
/// Cheap to extend and to clone, whatever the length: a path shares its beginning with others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct FieldPath {
    last: Option<Arc<Step>>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Step {
    parent: FieldPath,
    segment: Segment,
}

/// One step from an object or a list into it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// A field of the schema, in its camel case.
    Field(&'static str),
    /// A key that the author chose.
    Key(String),
    /// An element of a list.
    Index(usize),
}

// === impl FieldPath ===

impl FieldPath {
    /// The path of the document itself.
    pub fn root() -> Self {
        Self::default()
    }

    /// The path of a field of the schema.
    #[must_use]
    pub fn field(&self, name: &'static str) -> Self {
        self.child(Segment::Field(name))
    }

    /// The path of an entry of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.child(Segment::Key(key.to_owned()))
    }

    /// The path of an element of a list, the first one is 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.child(Segment::Index(index))
    }

    /// The steps from the root.
    pub(crate) fn segments(&self) -> Vec<&Segment> {
        let mut segments = Vec::new();
        let mut path = self;
        while let Some(step) = &path.last {
            segments.push(&step.segment);
            path = &step.parent;
        }
        segments.reverse();
        segments
    }

    fn child(&self, segment: Segment) -> Self {
        Self { last: Some(Arc::new(Step { parent: self.clone(), segment })) }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.segments().into_iter().enumerate() {
            match segment {
                Segment::Field(name) if index == 0 => f.write_str(name)?,
                Segment::Field(name) => write!(f, ".{name}")?,
                Segment::Key(key) => write!(f, "[{key:.MAX_KEY_CHARS$}]")?,
                Segment::Index(number) => write!(f, "[{number}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_written_as_kubernetes_writes_them() {
        let spec = FieldPath::root().field("spec");
        assert_eq!(FieldPath::root().to_string(), "");
        assert_eq!(
            spec.field("match").index(0).field("ports").index(1).to_string(),
            "spec.match[0].ports[1]"
        );
        let long = spec.key(&"k".repeat(1000));
        assert_eq!(long.to_string(), format!("spec[{}]", "k".repeat(320)));
        assert_eq!(spec.field("matchLabels").key("a.b/c").to_string(), "spec.matchLabels[a.b/c]");
    }
}
