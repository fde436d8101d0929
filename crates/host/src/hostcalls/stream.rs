//! Resuming, closing and answering streams. Source: Proxy-Wasm 0.2.1, "HTTP streams".
//!
//! Nothing happens at once: the embedder does it after the callback has returned.

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::{MapType, Status, StreamType, pairs};
use crate::context::StreamContext;
use crate::error::HostError;
use crate::memory;
use crate::stream::LocalReply;
use crate::vm_state::{Running, VmState};

/// Status codes that a plugin may answer with; others would break the framing of HTTP.
const STATUS_CODES: std::ops::RangeInclusive<u32> = 200..=599;

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_continue_stream" => continue_stream { stream };
        "proxy_close_stream" => close_stream { stream };
        "proxy_continue_request" => continue_request {};
        "proxy_continue_response" => continue_response {};
        "proxy_clear_route_cache" => clear_route_cache {};
        "proxy_send_local_response" => send_local_response {
            status, details_ptr, details_len, body_ptr, body_len, headers_ptr, headers_len, grpc
        };
    }
    Ok(())
}

/// A type that means nothing for this kind of stream has no effect, as in Envoy.
fn continue_stream(cx: &mut Cx<'_>, stream: u32) -> Result<(), HostError> {
    match StreamType::try_from(stream)? {
        StreamType::HttpRequest => continue_request(cx),
        StreamType::HttpResponse => continue_response(cx),
        StreamType::Downstream => {
            if is_network(cx) {
                act(cx, |stream| stream.actions().continue_request = true);
            }
            Ok(())
        }
        StreamType::Upstream => Err(Status::Unimplemented.into()),
    }
}

fn continue_request(cx: &mut Cx<'_>) -> Result<(), HostError> {
    if !is_network(cx) {
        act(cx, |stream| {
            stream.is_request_hidden = true;
            stream.actions().continue_request = true;
        });
    }
    Ok(())
}

fn continue_response(cx: &mut Cx<'_>) -> Result<(), HostError> {
    if !is_network(cx) {
        act(cx, |stream| {
            stream.is_request_hidden = true;
            stream.actions().continue_response = true;
        });
    }
    Ok(())
}

fn close_stream(cx: &mut Cx<'_>, stream: u32) -> Result<(), HostError> {
    let kind = StreamType::try_from(stream)?;
    let is_of_network = matches!(kind, StreamType::Downstream | StreamType::Upstream);
    if is_of_network == is_network(cx) {
        act(cx, |stream| {
            stream.actions().close.get_or_insert(kind);
        });
    }
    Ok(())
}

fn is_network(cx: &Cx<'_>) -> bool {
    cx.state().stream().is_some_and(|stream| stream.is_network)
}

fn clear_route_cache(cx: &mut Cx<'_>) -> Result<(), HostError> {
    if let Some(stream) = cx.state().stream() {
        stream.host.clear_route_cache(stream.fields(MapType::HttpRequestHeaders));
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's parameters")]
fn send_local_response(
    cx: &mut Cx<'_>,
    status: u32,
    details_ptr: u32,
    details_len: u32,
    body_ptr: u32,
    body_len: u32,
    headers_ptr: u32,
    headers_len: u32,
    grpc_status: u32,
) -> Result<(), HostError> {
    let (memory, _) = cx.parts()?;
    let details = memory::read(memory, details_ptr, details_len)?;
    let body = Bytes::copy_from_slice(memory::read(memory, body_ptr, body_len)?);
    let headers = memory::read(memory, headers_ptr, headers_len)?;
    let owned = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    let headers = pairs::decode(headers).unwrap_or_default();
    let headers = headers.into_iter().map(|(name, value)| (owned(name), owned(value))).collect();
    let details = String::from_utf8_lossy(details).replace(char::is_whitespace, "_");
    let status =
        u16::try_from(status).ok().filter(|status| STATUS_CODES.contains(&(*status).into()));
    let status = status.ok_or(Status::BadArgument)?;
    act(cx, |stream| {
        // In the log phase there is nobody left to answer, and a connection knows no answers.
        if stream.is_read_only || stream.is_network {
            return;
        }
        match &mut stream.actions().local_reply {
            // The first answer counts, with the last reason, as in Envoy.
            Some(first) => first.details = details,
            none => *none = Some(LocalReply { status, details, body, headers, grpc_status }),
        }
    });
    Ok(())
}

/// Records something for the stream, if there is one, and that its embedder must look.
fn act(cx: &mut Cx<'_>, record: impl FnOnce(&mut StreamContext)) {
    let state = cx.state_mut();
    if let Some(stream) = state.stream_mut() {
        record(stream);
        state.touch();
    }
}
