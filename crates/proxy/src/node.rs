//! What the proxy knows about itself, and how plugins walk through it.

use serde_json::Value;
use wasmplug_host::PropertyValue;

/// Deepest path into structured values. Source: ours; deeper ones are not found.
const MAX_DEPTH: usize = 32;

/// This proxy, as plugins see it under `xds.node`.
///
/// Source: Envoy's `Node`, which Istio's plugins read for the workload's name and labels.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// The cluster of proxies that it belongs to.
    pub cluster: String,
    /// Anything else, an object; Istio's names are `NAMESPACE`, `LABELS`, `WORKLOAD_NAME`, ….
    pub metadata: Value,
    /// What the listener is for: 0 unspecified, 1 inbound, 2 outbound. Plugins see it as
    /// `xds.listener_direction`.
    pub listener_direction: u8,
}

// === impl Node ===

impl Node {
    /// The attribute below `xds.node`.
    pub(crate) fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        match path {
            [] => Some(PropertyValue::Namespace),
            [b"id"] => Some(PropertyValue::text(&self.id)),
            [b"cluster"] => Some(PropertyValue::text(&self.cluster)),
            [b"metadata", rest @ ..] => walk(&self.metadata, rest),
            _ => None,
        }
    }
}

/// Follows names of fields and indexes of lists into a structured value.
///
/// Source: Envoy walks `google.protobuf.Struct` in the same way; its numbers are doubles.
pub(crate) fn walk(value: &Value, path: &[&[u8]]) -> Option<PropertyValue> {
    let mut value = value;
    for name in path {
        let name = std::str::from_utf8(name).ok()?;
        value = match value {
            Value::Object(fields) => fields.get(name)?,
            Value::Array(items) => items.get(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    Some(property(value, MAX_DEPTH))
}

fn property(value: &Value, depth: usize) -> PropertyValue {
    let Some(deeper) = depth.checked_sub(1) else { return PropertyValue::Namespace };
    let bytes = |value: &Value| {
        let value = property(value, deeper);
        value.to_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default()
    };
    match value {
        Value::Null => PropertyValue::Namespace,
        Value::Bool(flag) => PropertyValue::Bool(*flag),
        Value::Number(number) => PropertyValue::Double(number.as_f64().unwrap_or_default()),
        Value::String(text) => PropertyValue::text(text),
        Value::Array(items) => PropertyValue::List(items.iter().map(bytes).collect()),
        Value::Object(fields) => {
            let entries =
                fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), bytes(value)));
            PropertyValue::Map(entries.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, Node, walk};
    use serde_json::json;
    use wasmplug_host::PropertyValue;

    #[test]
    fn paths_lead_through_objects_and_lists() {
        let value = json!({"a": {"b": [1, "two", true]}, "n": null});
        assert_eq!(walk(&value, &[b"a", b"b", b"1"]), Some(PropertyValue::text("two")));
        assert_eq!(walk(&value, &[b"a", b"b", b"0"]), Some(PropertyValue::Double(1.0)));
        assert_eq!(walk(&value, &[b"a", b"b", b"2"]), Some(PropertyValue::Bool(true)));
        assert_eq!(walk(&value, &[b"n"]), Some(PropertyValue::Namespace));
        for path in [&[b"a".as_slice(), b"c"][..], &[b"a", b"b", b"3"], &[b"a", b"b", b"x", b"y"]] {
            assert_eq!(walk(&value, path), None, "{path:?}");
        }
    }

    #[test]
    fn a_node_has_its_own_fields_and_metadata() {
        let node = Node {
            id: "sidecar~1".into(),
            metadata: json!({"LABELS": {"app": "web"}}),
            ..Node::default()
        };
        assert_eq!(node.property(&[b"id"]), Some(PropertyValue::text("sidecar~1")));
        let label = node.property(&[b"metadata", b"LABELS", b"app"]);
        assert_eq!(label, Some(PropertyValue::text("web")));
        assert_eq!(node.property(&[b"nothing"]), None);
        assert_eq!(node.property(&[]), Some(PropertyValue::Namespace));
    }

    #[test]
    fn what_is_too_deep_is_empty() {
        // The innermost text lies below so many lists.
        let nested = |levels: usize| (0..levels).fold(json!("x"), |value, _| json!([value]));
        let bytes = |levels| walk(&nested(levels), &[]).unwrap().to_bytes().unwrap().into_owned();
        assert!(bytes(MAX_DEPTH - 1).contains(&b'x'));
        assert!(!bytes(MAX_DEPTH).contains(&b'x'));
    }
}
