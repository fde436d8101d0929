//! The part of Kubernetes' object metadata that decides something here, and where in a file an
//! object was written.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Namespace of an object whose document names none.
///
/// Source: Kubernetes, `metav1.NamespaceDefault`.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Annotation that lets an `AuthorizationPolicy` be tried out without effect.
///
/// Source: Istio, `istio.io/dry-run`.
pub const DRY_RUN_ANNOTATION: &str = "istio.io/dry-run";

/// What identifies an object of one kind; displayed as `namespace/name`, or as the name alone if
/// objects of its kind have no namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NamespacedName {
    /// Namespace, empty only for a kind whose objects have none.
    pub namespace: String,
    /// Name inside the namespace.
    pub name: String,
}

/// The subset of `metadata` that selection, ordering and caching look at.
///
/// Source: Kubernetes, `metav1.ObjectMeta`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Name inside the namespace.
    pub name: String,
    /// Namespace; [`DEFAULT_NAMESPACE`] if the document names none.
    pub namespace: String,
    /// Labels of the object itself (not of the workloads that it selects).
    pub labels: BTreeMap<String, String>,
    /// Annotations of the object.
    pub annotations: BTreeMap<String, String>,
    /// Opaque version that changes with every write; absent in files written by people.
    pub resource_version: Option<String>,
    /// When the object was created; absent in files written by people.
    pub creation: Option<CreationTime>,
    /// Counter of changes to `spec`.
    pub generation: Option<i64>,
}

/// An object of one kind and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Object<S> {
    /// Name, namespace and the like.
    pub meta: ObjectMeta,
    /// What the author asks for.
    pub spec: S,
    /// Where the document begins.
    pub position: Position,
}

/// A creation timestamp, ordered by time.
///
/// Source: Kubernetes, `metav1.Time` (RFC 3339).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CreationTime(jiff::Timestamp);

/// A text is not an RFC 3339 timestamp.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an RFC 3339 timestamp")]
pub struct CreationTimeError {
    text: String,
    #[source]
    source: jiff::Error,
}

/// A place in a file; displayed as `file:line:column`.
///
/// Ordered by file, then line, then column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Name of the file as the caller gave it.
    pub file: Arc<str>,
    /// Line, the first one is 1.
    pub line: u32,
    /// Column in characters, the first one is 1.
    pub column: u32,
}

// === impl NamespacedName ===

impl NamespacedName {
    /// Makes the identity from its two parts.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

// === impl ObjectMeta ===

impl ObjectMeta {
    /// The object's identity.
    pub fn namespaced_name(&self) -> NamespacedName {
        NamespacedName::new(&self.namespace, &self.name)
    }
}

// === impl CreationTime ===

impl std::str::FromStr for CreationTime {
    type Err = CreationTimeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|source| CreationTimeError { text: text.to_owned(), source })
    }
}

impl Serialize for CreationTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for CreationTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Position ===

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creation_times_are_ordered_by_instant_not_by_text() {
        let utc: CreationTime = "2024-01-02T03:04:05Z".parse().unwrap();
        let earlier: CreationTime = "2024-01-02T04:04:04+01:00".parse().unwrap();
        assert!(earlier < utc);
        assert_eq!(utc.to_string(), "2024-01-02T03:04:05Z");
    }

    #[test]
    fn text_that_is_no_timestamp_is_refused() {
        for text in ["", "yesterday", "2024-01-02", "2024-13-02T03:04:05Z", "2024-01-02T03:04:05"] {
            assert!(text.parse::<CreationTime>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn identity_and_position_are_displayed_as_people_write_them() {
        assert_eq!(NamespacedName::new("ns", "a").to_string(), "ns/a");
        assert_eq!(NamespacedName::new("", "a").to_string(), "a");
        let position = Position { file: "a.yaml".into(), line: 3, column: 7 };
        assert_eq!(position.to_string(), "a.yaml:3:7");
        assert_eq!(serde_json::to_string(&position).unwrap(), "\"a.yaml:3:7\"");
    }
}
