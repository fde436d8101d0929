//! Header maps. Source: Proxy-Wasm 0.2.1, "HTTP fields", with Envoy's rules about phases.

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::{AbiVersion, MapType, Status, pairs};
use crate::context::Input;
use crate::error::HostError;
use crate::fields::Fields;
use crate::limits::LimitKind;
use crate::vm_state::{Running, VmState};

/// Most bytes of names and values that a plugin may add to the maps of one stream.
///
/// Source: ours. Added in a loop, they would let the host hold far more than any message may have.
const MAX_ADDED_BYTES: usize = 4 << 20;

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_get_header_map_size" => size { map, size_out };
        "proxy_get_header_map_pairs" => get_pairs { map, ptr_out, len_out };
        "proxy_set_header_map_pairs" => set_pairs { map, ptr, len };
        "proxy_get_header_map_value" => get { map, name_ptr, name_len, ptr_out, len_out };
        "proxy_add_header_map_value" => add { map, name_ptr, name_len, value_ptr, value_len };
        "proxy_replace_header_map_value" => replace { map, name_ptr, name_len, value_ptr, value_len };
        "proxy_remove_header_map_value" => remove { map, name_ptr, name_len };
    }
    Ok(())
}

/// The map if it can be read now.
fn readable(state: &VmState, map: MapType) -> Option<&Fields> {
    let input = || state.contexts.root(state.current)?.input.as_ref();
    match map {
        MapType::HttpCallResponseHeaders => match input()? {
            Input::HttpResponse(response) => Some(&response.headers),
            _ => None,
        },
        MapType::HttpCallResponseTrailers => match input()? {
            Input::HttpResponse(response) => Some(&response.trailers),
            _ => None,
        },
        MapType::GrpcReceiveInitialMetadata => match input()? {
            Input::GrpcInitialMetadata(metadata) => Some(metadata),
            _ => None,
        },
        MapType::GrpcReceiveTrailingMetadata => match input()? {
            Input::GrpcTrailingMetadata(metadata) => Some(metadata),
            _ => None,
        },
        _ => state.stream()?.fields(map),
    }
}

fn size(cx: &mut Cx<'_>, map: u32, size_out: u32) -> Result<(), HostError> {
    let map = MapType::try_from(map)?;
    let stream = cx.state_mut().stream_mut().ok_or(Status::BadArgument)?;
    // Asking for the size of trailers at the end of a body creates them, as in Envoy.
    let size = stream.fields_mut(map)?.byte_size();
    Ok(cx.write_u32(size_out, u32::try_from(size).unwrap_or(u32::MAX))?)
}

fn get_pairs(cx: &mut Cx<'_>, map: u32, ptr_out: u32, len_out: u32) -> Result<(), HostError> {
    let map = MapType::try_from(map)?;
    let entries = readable(cx.state(), map).filter(|fields| !fields.is_empty());
    let len = entries.map_or(0, |fields| pairs::encoded_len(fields.iter()));
    cx.give_with(len, ptr_out, len_out, |state, out| {
        if let Some(fields) = readable(state, map) {
            pairs::encode(fields.iter(), out);
        }
    })
}

fn set_pairs(cx: &mut Cx<'_>, map: u32, ptr: u32, len: u32) -> Result<(), HostError> {
    let map = MapType::try_from(map)?;
    let (bytes, state) = cx.read(ptr, len)?;
    // What cannot be read counts as an empty list, as in Envoy.
    let entries = pairs::decode(bytes).unwrap_or_default();
    change(state, map, 0, |fields| fields.set_pairs(&entries))
}

fn get(
    cx: &mut Cx<'_>,
    map: u32,
    name_ptr: u32,
    name_len: u32,
    ptr_out: u32,
    len_out: u32,
) -> Result<(), HostError> {
    let map = MapType::try_from(map)?;
    let (name, state) = cx.read(name_ptr, name_len)?;
    let found = match readable(state, map) {
        Some(fields) => fields.find(name).and_then(|index| {
            let value = fields.value_at(index)?;
            Some((index, value.len()))
        }),
        // In the log an absent map is merely not found.
        None if state.stream().is_some_and(|stream| stream.is_read_only) => None,
        None => return Err(Status::BadArgument.into()),
    };
    let Some((index, len)) = found else {
        return if state.abi == AbiVersion::V0_1_0 {
            // The oldest version has no "not found": a miss is an empty value.
            cx.give(&[], ptr_out, len_out)
        } else {
            Err(Status::NotFound.into())
        };
    };
    cx.give_with(len, ptr_out, len_out, |state, out| {
        if let Some(fields) = readable(state, map)
            && let Some(value) = fields.value_at(index)
        {
            out.copy_from_slice(value.as_bytes());
        }
    })
}

fn add(
    cx: &mut Cx<'_>,
    map: u32,
    name_ptr: u32,
    name_len: u32,
    value_ptr: u32,
    value_len: u32,
) -> Result<(), HostError> {
    let map = MapType::try_from(map)?;
    let (memory, state) = cx.parts()?;
    let name = crate::memory::read(memory, name_ptr, name_len)?;
    let value = crate::memory::read(memory, value_ptr, value_len)?;
    let added = name.len().saturating_add(value.len());
    change(state, map, added, |fields| fields.add(name, value))
}

fn replace(
    cx: &mut Cx<'_>,
    map: u32,
    name_ptr: u32,
    name_len: u32,
    value_ptr: u32,
    value_len: u32,
) -> Result<(), HostError> {
    let map = MapType::try_from(map)?;
    let (memory, state) = cx.parts()?;
    let name = crate::memory::read(memory, name_ptr, name_len)?;
    let value = crate::memory::read(memory, value_ptr, value_len)?;
    let added = name.len().saturating_add(value.len());
    change(state, map, added, |fields| fields.replace(name, value))
}

fn remove(cx: &mut Cx<'_>, map: u32, name_ptr: u32, name_len: u32) -> Result<(), HostError> {
    let map = MapType::try_from(map)?;
    let (name, state) = cx.read(name_ptr, name_len)?;
    change(state, map, 0, |fields| {
        fields.remove(name);
        Ok(())
    })
}

/// Changes a map of the stream; a change of request headers makes its route be chosen anew.
///
/// Bytes that are added are counted, because they live outside of the plugin's own memory and its
/// limit.
fn change(
    state: &mut VmState,
    map: MapType,
    added: usize,
    change: impl FnOnce(&mut Fields) -> Result<(), Status>,
) -> Result<(), HostError> {
    let stream = state.stream_mut().ok_or(Status::BadArgument)?;
    if added > 0 {
        let bytes = stream.added_bytes.saturating_add(added);
        if bytes > MAX_ADDED_BYTES {
            return Err(state.beyond(LimitKind::AddedHeaderBytes, Status::BadArgument));
        }
        stream.added_bytes = bytes;
    }
    change(stream.fields_mut(map)?)?;
    if map == MapType::HttpRequestHeaders {
        stream.host.clear_route_cache(stream.fields(MapType::HttpRequestHeaders));
    }
    Ok(())
}
