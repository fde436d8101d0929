//! Attributes of a stream that its headers and trailers give.
//!
//! Source: Envoy's attributes.

use smallvec::SmallVec;

use crate::fields::{Fields, Pseudo};
use crate::property::PropertyValue;

/// The attribute below `request` that these headers give.
pub fn of_request(headers: Option<&Fields>, path: &[&[u8]]) -> Option<PropertyValue> {
    match path {
        [b"headers"] => return Some(header_map(headers)),
        [b"headers_bytes"] => return Some(size(headers)),
        _ => {}
    }
    let headers = headers?;
    let pseudo = |pseudo| headers.pseudo(pseudo).map(PropertyValue::text);
    let path_text = || headers.pseudo(Pseudo::Path).map(http::HeaderValue::as_bytes);
    let split = |path: &[u8]| path.iter().position(|byte| *byte == b'?');
    match path {
        [b"path"] => pseudo(Pseudo::Path),
        [b"host"] => pseudo(Pseudo::Authority),
        [b"method"] => pseudo(Pseudo::Method),
        [b"scheme"] => pseudo(Pseudo::Scheme),
        [b"url_path"] => {
            let path = path_text()?;
            Some(PropertyValue::text(path.get(..split(path).unwrap_or(path.len()))?))
        }
        [b"query"] => {
            let path = path_text()?;
            let query = split(path).and_then(|at| path.get(at.saturating_add(1)..));
            Some(PropertyValue::text(query.unwrap_or_default()))
        }
        [b"referer"] => headers.get(b"referer").map(PropertyValue::text),
        [b"useragent"] => headers.get(b"user-agent").map(PropertyValue::text),
        [b"id"] => headers.get(b"x-request-id").map(PropertyValue::text),
        [b"headers", name] => joined(headers, name),
        _ => None,
    }
}

/// The attribute below `response` that these headers and trailers give.
pub fn of_response(
    headers: Option<&Fields>,
    trailers: Option<&Fields>,
    path: &[&[u8]],
) -> Option<PropertyValue> {
    match path {
        [b"headers"] => Some(header_map(headers)),
        [b"headers_bytes"] => Some(size(headers)),
        [b"headers", name] => joined(headers?, name),
        [b"trailers"] => Some(header_map(trailers)),
        [b"trailers", name] => joined(trailers?, name),
        _ => None,
    }
}

fn size(fields: Option<&Fields>) -> PropertyValue {
    let bytes = fields.map_or(0, Fields::byte_size);
    PropertyValue::Int(i64::try_from(bytes).unwrap_or(i64::MAX))
}

/// All values of a name, joined with commas.
fn joined(fields: &Fields, name: &[u8]) -> Option<PropertyValue> {
    let values = fields.iter().filter(|(present, _)| present.eq_ignore_ascii_case(name));
    let values: SmallVec<[&[u8]; 4]> = values.map(|(_, value)| value).collect();
    (!values.is_empty()).then(|| PropertyValue::Bytes(values.join(&b',')))
}

/// Every name once, with all its values.
fn header_map(fields: Option<&Fields>) -> PropertyValue {
    let mut map: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for (name, value) in fields.iter().flat_map(|fields| fields.iter()) {
        match map.iter_mut().find(|(present, _)| present == name) {
            Some((_, values)) => {
                values.push(b',');
                values.extend_from_slice(value);
            }
            None => map.push((name.to_vec(), value.to_vec())),
        }
    }
    PropertyValue::Map(map)
}
