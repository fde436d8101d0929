//! Properties. Source: Proxy-Wasm 0.2.1, "Properties", with Envoy's attributes.

use smallvec::SmallVec;
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::attributes;
use crate::error::HostError;
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
        [b"request", rest @ ..] => {
            // They exist while the plugin sees the headers.
            let headers = stream.request_headers.as_ref().filter(|_| !stream.is_request_hidden);
            attributes::of_request(headers, rest).or_else(|| stream.host.property(path))
        }
        [b"response", rest @ ..] => {
            let (headers, trailers) = (&stream.response_headers, &stream.response_trailers);
            attributes::of_response(headers.as_ref(), trailers.as_ref(), rest)
                .or_else(|| stream.host.property(path))
        }
        _ => stream.host.property(path),
    }
}
