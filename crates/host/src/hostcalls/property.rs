//! Properties. Source: Proxy-Wasm 0.2.1, "Properties", with Envoy's attributes.

use smallvec::SmallVec;
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::context::StreamContext;
use crate::error::HostError;
use crate::fields::{Fields, Pseudo};
use crate::limits::LimitKind;
use crate::memory;
use crate::property::PropertyValue;
use crate::vm_state::{Running, VmState};

/// Longest path or value that is taken, in bytes.
const MAX_BYTES: u32 = 1 << 20;

type Path<'a> = SmallVec<[&'a [u8]; 4]>;

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_get_property" => get { path_ptr, path_len, ptr_out, len_out };
        "proxy_set_property" => set { path_ptr, path_len, value_ptr, value_len };
    }
    Ok(())
}

fn get(
    cx: &mut Cx<'_>,
    path_ptr: u32,
    path_len: u32,
    ptr_out: u32,
    len_out: u32,
) -> Result<(), HostError> {
    let (path, state) = cx.read(path_ptr, path_len)?;
    let path = path.strip_suffix(b"\0").unwrap_or(path);
    if path.is_empty() {
        return Err(Status::SerializationFailure.into());
    }
    let value = {
        let segments: Path<'_> = path.split(|byte| *byte == 0).collect();
        if segments.iter().any(|segment| segment.is_empty()) {
            return Err(Status::NotFound.into());
        }
        lookup(state, &segments).ok_or(Status::NotFound)?
    };
    let bytes = value.to_bytes().ok_or(Status::SerializationFailure)?;
    cx.give(&bytes, ptr_out, len_out)
}

fn set(
    cx: &mut Cx<'_>,
    path_ptr: u32,
    path_len: u32,
    value_ptr: u32,
    value_len: u32,
) -> Result<(), HostError> {
    let (memory, state) = cx.parts()?;
    let path = memory::read(memory, path_ptr, path_len)?;
    let value = memory::read(memory, value_ptr, value_len)?;
    // An access logger sees a stream, but has none of its own to write to.
    let stream = state.contexts.stream(state.acting()).ok_or(Status::NotFound)?;
    if path_len.saturating_add(value_len) > MAX_BYTES {
        return Err(state.beyond(LimitKind::PropertyBytes, Status::BadArgument));
    }
    let root = state.contexts.root(state.acting());
    let declared = root.and_then(|root| root.declared.get(path)).copied().unwrap_or_default();
    if declared.is_read_only && stream.host.property(&[path]).is_some() {
        return Err(Status::BadArgument.into());
    }
    Ok(stream.host.set_property(path, value, declared.span)?)
}

fn lookup(state: &VmState, path: &[&[u8]]) -> Option<PropertyValue> {
    lookup_in(state, state.acting(), path)
}

/// The attribute as this context sees it.
pub(super) fn lookup_in(state: &VmState, id: u32, path: &[&[u8]]) -> Option<PropertyValue> {
    let root = || state.contexts.root(id);
    match path {
        [b"plugin_name"] => return Some(PropertyValue::text(&*root()?.plugin)),
        [b"plugin_root_id"] => return Some(PropertyValue::text(&*root()?.root_id)),
        [b"plugin_vm_id"] => return Some(PropertyValue::text(&state.config.vm_id)),
        _ => {}
    }
    let Some(stream) = state.contexts.stream(id).or(state.logging.as_deref()) else {
        let root = state.contexts.root_of(id)?;
        let (_, services) = state.services.iter().find(|(of, _)| *of == root)?;
        return services.property(path);
    };
    match path {
        [b"request" | b"response", ..] if stream.is_network => None,
        [b"request" | b"response"] => Some(PropertyValue::Namespace),
        [b"request", rest @ ..] => request(stream, rest).or_else(|| stream.host.property(path)),
        [b"response", rest @ ..] => response(stream, rest).or_else(|| stream.host.property(path)),
        _ => stream.host.property(path),
    }
}

/// Attributes that come from request headers; they exist while the plugin sees these.
fn request(stream: &StreamContext, path: &[&[u8]]) -> Option<PropertyValue> {
    let headers = stream.request_headers.as_ref().filter(|_| !stream.is_request_hidden);
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

fn response(stream: &StreamContext, path: &[&[u8]]) -> Option<PropertyValue> {
    let headers = stream.response_headers.as_ref();
    match path {
        [b"headers"] => Some(header_map(headers)),
        [b"headers_bytes"] => Some(size(headers)),
        [b"headers", name] => joined(headers?, name),
        [b"trailers"] => Some(header_map(stream.response_trailers.as_ref())),
        [b"trailers", name] => joined(stream.response_trailers.as_ref()?, name),
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
