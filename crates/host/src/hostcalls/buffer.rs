//! Buffers. Source: Proxy-Wasm 0.2.1, "Buffers", with Envoy's rules about ranges.

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::{BufferType, Status};
use crate::body::BodyBuffer;
use crate::context::Input;
use crate::error::HostError;
use crate::limits::LimitKind;
use crate::vm_state::{Running, VmState};

/// What a buffer type stands for at this moment.
enum Shown<'a> {
    Body(&'a BodyBuffer),
    Bytes(&'a [u8]),
}

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_get_buffer_bytes" => get { buffer, start, max, ptr_out, len_out };
        "proxy_get_buffer_status" => status { buffer, len_out, flags_out };
        "proxy_set_buffer_bytes" => set { buffer, start, len, ptr, data_len };
        "proxy_get_configuration" => get_configuration { ptr_out, len_out };
    }
    Ok(())
}

/// The buffer that can be read now.
///
/// # Errors
/// [`Status::NotFound`] if there is none of this type outside its callback.
fn shown(state: &VmState, buffer: BufferType) -> Result<Shown<'_>, Status> {
    let input = || state.contexts.root(state.current).and_then(|root| root.input.as_ref());
    Ok(match buffer {
        BufferType::HttpRequestBody
        | BufferType::HttpResponseBody
        | BufferType::DownstreamData
        | BufferType::UpstreamData => {
            let body = state.stream().and_then(|stream| stream.body(buffer));
            body.map_or(Shown::Bytes(&[]), Shown::Body)
        }
        BufferType::HttpCallResponseBody => match input() {
            Some(Input::HttpResponse(response)) => Shown::Bytes(&response.body),
            _ => return Err(Status::NotFound),
        },
        BufferType::GrpcReceiveBuffer => match input() {
            Some(Input::GrpcMessage(message)) => Shown::Bytes(message),
            _ => Shown::Bytes(&[]),
        },
        BufferType::CallData => match input() {
            Some(Input::CallData(data)) => Shown::Bytes(data),
            _ => Shown::Bytes(&[]),
        },
        BufferType::VmConfiguration => Shown::Bytes(&state.config.configuration),
        BufferType::PluginConfiguration => {
            let root = state.configuring.and_then(|root| state.contexts.root(root));
            Shown::Bytes(&root.ok_or(Status::NotFound)?.configuration)
        }
    })
}

fn get(
    cx: &mut Cx<'_>,
    buffer: u32,
    start: u32,
    max: u32,
    ptr_out: u32,
    len_out: u32,
) -> Result<(), HostError> {
    let buffer = BufferType::try_from(buffer)?;
    give_range(cx, buffer, start, max, ptr_out, len_out)
}

/// Copies a range, clamped to what is there, straight into the guest.
fn give_range(
    cx: &mut Cx<'_>,
    buffer: BufferType,
    start: u32,
    max: u32,
    ptr_out: u32,
    len_out: u32,
) -> Result<(), HostError> {
    let available = shown(cx.state(), buffer)?.len();
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let len = available.saturating_sub(start).min(max);
    cx.give_with(len, ptr_out, len_out, |state, out| match shown(state, buffer) {
        Ok(Shown::Body(body)) => body.copy_range(start, out),
        Ok(Shown::Bytes(bytes)) => {
            let range = bytes.get(start..start.saturating_add(len)).unwrap_or_default();
            if range.len() == out.len() {
                out.copy_from_slice(range);
            }
        }
        Err(_) => {}
    })
}

fn status(cx: &mut Cx<'_>, buffer: u32, len_out: u32, flags_out: u32) -> Result<(), HostError> {
    let buffer = BufferType::try_from(buffer)?;
    let len = shown(cx.state(), buffer)?.len();
    cx.write_u32(len_out, u32::try_from(len).unwrap_or(u32::MAX))?;
    Ok(cx.write_u32(flags_out, 0)?)
}

fn set(
    cx: &mut Cx<'_>,
    buffer: u32,
    start: u32,
    len: u32,
    ptr: u32,
    data_len: u32,
) -> Result<(), HostError> {
    let buffer = BufferType::try_from(buffer)?;
    let (data, state) = cx.read(ptr, data_len)?;
    // What is not there now is not found, what is there but fixed is a bad argument.
    shown(state, buffer)?;
    let max = state.config.limits.memory_bytes;
    let stream = state.stream_mut().filter(|stream| !stream.is_read_only);
    let stream = stream.ok_or(Status::BadArgument)?;
    let body = stream.body_mut(buffer);
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let body = body.ok_or(Status::BadArgument)?;
    // Called in a loop, it would otherwise let the host hold far more than the guest may.
    let kept = if start == 0 { body.len().saturating_sub(len) } else { body.len() };
    if kept.saturating_add(data.len()) > max {
        return Err(state.beyond(LimitKind::BodyBytes, Status::InternalFailure));
    }
    Ok(body.set_range(start, len, Bytes::copy_from_slice(data))?)
}

/// ABI 0.1.0: the plugin's configuration while it is configured, else the VM's.
fn get_configuration(cx: &mut Cx<'_>, ptr_out: u32, len_out: u32) -> Result<(), HostError> {
    let buffer = match cx.state().configuring {
        Some(_) => BufferType::PluginConfiguration,
        None => BufferType::VmConfiguration,
    };
    give_range(cx, buffer, 0, u32::MAX, ptr_out, len_out)
}

// === impl Shown ===

impl Shown<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Body(body) => body.len(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}
