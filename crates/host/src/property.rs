//! Values of properties and how they look as bytes.
//!
//! Source: Envoy's attributes (CEL values) and the serialisation of its `proxy_get_property`.

use std::borrow::Cow;

use crate::abi::pairs;

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum PropertyValue {
    /// Text or bytes, given as they are.
    Bytes(Vec<u8>),
    /// Eight bytes, little-endian.
    Int(i64),
    /// Eight bytes, little-endian.
    Uint(u64),
    /// Eight bytes, IEEE 754, little-endian.
    Double(f64),
    /// One byte.
    Bool(bool),
    /// A time span or a moment, in nanoseconds as [`PropertyValue::Int`].
    Nanoseconds(i64),
    /// Pairs in the encoding of header maps.
    Map(Vec<(Vec<u8>, Vec<u8>)>),
    /// Items, as names without values in the encoding of header maps.
    List(Vec<Vec<u8>>),
    /// The name of a group of attributes; it has no bytes.
    Namespace,
}

// === impl PropertyValue ===

impl PropertyValue {
    /// Text as a value.
    pub fn text(text: impl AsRef<[u8]>) -> Self {
        Self::Bytes(text.as_ref().to_vec())
    }

    /// The bytes that the plugin gets. `None` for a value without a byte form.
    pub fn to_bytes(&self) -> Option<Cow<'_, [u8]>> {
        Some(match self {
            Self::Bytes(bytes) => Cow::Borrowed(bytes),
            Self::Int(value) | Self::Nanoseconds(value) => Cow::Owned(value.to_le_bytes().to_vec()),
            Self::Uint(value) => Cow::Owned(value.to_le_bytes().to_vec()),
            Self::Double(value) => Cow::Owned(value.to_le_bytes().to_vec()),
            Self::Bool(value) => Cow::Owned(vec![u8::from(*value)]),
            Self::Map(map) => {
                let entries = map.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                let mut out = vec![0; pairs::encoded_len(entries.clone())];
                pairs::encode(entries, &mut out).then_some(Cow::Owned(out))?
            }
            Self::List(items) => {
                let entries = items.iter().map(|item| (item.as_slice(), b"".as_slice()));
                let mut out = vec![0; pairs::encoded_len(entries.clone())];
                pairs::encode(entries, &mut out).then_some(Cow::Owned(out))?
            }
            Self::Namespace => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::PropertyValue;

    #[test]
    fn numbers_are_little_endian_and_flags_one_byte() {
        assert_eq!(PropertyValue::Int(-1).to_bytes().unwrap().as_ref(), [0xff; 8]);
        assert_eq!(PropertyValue::Uint(1).to_bytes().unwrap().as_ref(), [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(PropertyValue::Bool(true).to_bytes().unwrap().as_ref(), [1]);
    }

    #[test]
    fn an_empty_map_is_four_zero_bytes_and_a_namespace_has_none() {
        assert_eq!(PropertyValue::Map(vec![]).to_bytes().unwrap().as_ref(), [0; 4]);
        assert_eq!(PropertyValue::Namespace.to_bytes(), None);
    }
}
