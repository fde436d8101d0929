//! gRPC calls. Source: Proxy-Wasm 0.2.1, "gRPC calls", with Envoy's statuses.

use std::time::Duration;

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::http_call::fields;
use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::callout::{CallKind, GrpcCall, GrpcTarget};
use crate::error::HostError;
use crate::fields::FieldsKind;
use crate::memory;
use crate::vm_state::{Running, VmState};

/// Pointer and length of something in guest memory.
type Range = (u32, u32);

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_grpc_call" => call {
            cluster_ptr, cluster_len, service_ptr, service_len, method_ptr, method_len,
            metadata_ptr, metadata_len, message_ptr, message_len, timeout, token_out
        };
        "proxy_grpc_stream" => stream {
            cluster_ptr, cluster_len, service_ptr, service_len, method_ptr, method_len,
            metadata_ptr, metadata_len, token_out
        };
        "proxy_grpc_send" => send { token, ptr, len, end };
        "proxy_grpc_cancel" => cancel { token };
        "proxy_grpc_close" => close { token };
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's parameters")]
fn call(
    cx: &mut Cx<'_>,
    cluster_ptr: u32,
    cluster_len: u32,
    service_ptr: u32,
    service_len: u32,
    method_ptr: u32,
    method_len: u32,
    metadata_ptr: u32,
    metadata_len: u32,
    message_ptr: u32,
    message_len: u32,
    timeout: u32,
    token_out: u32,
) -> Result<(), HostError> {
    let target = target(
        cx,
        [
            (cluster_ptr, cluster_len),
            (service_ptr, service_len),
            (method_ptr, method_len),
            (metadata_ptr, metadata_len),
        ],
    )?;
    let (memory, state) = cx.parts()?;
    let message = Bytes::copy_from_slice(memory::read(memory, message_ptr, message_len)?);
    let timeout = (timeout != 0).then(|| Duration::from_millis(timeout.into()));
    let (root, services) = state.services().ok_or(Status::InternalFailure)?;
    let token = state.tokens.next(CallKind::GrpcCall)?;
    services.grpc_call(GrpcCall { token, target, message, timeout })?;
    cx.state_mut().tokens.take(token, root);
    Ok(cx.write_u32(token_out, token)?)
}

#[expect(clippy::too_many_arguments, reason = "the ABI's parameters")]
fn stream(
    cx: &mut Cx<'_>,
    cluster_ptr: u32,
    cluster_len: u32,
    service_ptr: u32,
    service_len: u32,
    method_ptr: u32,
    method_len: u32,
    metadata_ptr: u32,
    metadata_len: u32,
    token_out: u32,
) -> Result<(), HostError> {
    let target = target(
        cx,
        [
            (cluster_ptr, cluster_len),
            (service_ptr, service_len),
            (method_ptr, method_len),
            (metadata_ptr, metadata_len),
        ],
    )?;
    let state = cx.state_mut();
    let (root, services) = state.services().ok_or(Status::InternalFailure)?;
    let token = state.tokens.next(CallKind::GrpcStream)?;
    services.grpc_stream(token, target)?;
    state.tokens.take(token, root);
    Ok(cx.write_u32(token_out, token)?)
}

/// What is called; the ranges are cluster, service, method and metadata.
fn target(cx: &mut Cx<'_>, ranges: [Range; 4]) -> Result<GrpcTarget, HostError> {
    let (memory, _) = cx.parts()?;
    let read = |(ptr, len): Range| memory::read(memory, ptr, len);
    let text = |range| read(range).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let [cluster, service, method, metadata] = ranges;
    Ok(GrpcTarget {
        cluster: Bytes::copy_from_slice(read(cluster)?),
        service: text(service)?,
        method: text(method)?,
        metadata: fields(FieldsKind::Request, read(metadata)?)?,
    })
}

fn send(cx: &mut Cx<'_>, token: u32, ptr: u32, len: u32, end: u32) -> Result<(), HostError> {
    let (message, state) = cx.read(ptr, len)?;
    let message = Bytes::copy_from_slice(message);
    if CallKind::of(token) != Some(CallKind::GrpcStream) {
        return Err(Status::BadArgument.into());
    }
    let (root, services) = state.services().ok_or(Status::NotFound)?;
    if !state.tokens.is_in_use(token, root) {
        return Err(Status::NotFound.into());
    }
    Ok(services.grpc_send(token, message, end != 0)?)
}

/// Gives a call or a stream up; its token is forgotten at once.
fn cancel(cx: &mut Cx<'_>, token: u32) -> Result<(), HostError> {
    grpc_kind(token)?;
    let state = cx.state_mut();
    let (root, services) = state.services().ok_or(Status::NotFound)?;
    if !state.tokens.release(token, root) {
        return Err(Status::NotFound.into());
    }
    services.grpc_cancel(token);
    Ok(())
}

/// Ends this side of a stream, whose other side goes on; a call is given up.
fn close(cx: &mut Cx<'_>, token: u32) -> Result<(), HostError> {
    if grpc_kind(token)? == CallKind::GrpcCall {
        return cancel(cx, token);
    }
    let state = cx.state();
    let (root, services) = state.services().ok_or(Status::NotFound)?;
    if !state.tokens.is_in_use(token, root) {
        return Err(Status::NotFound.into());
    }
    services.grpc_close(token);
    Ok(())
}

/// # Errors
/// [`Status::BadArgument`] for the token of an HTTP call or of nothing.
fn grpc_kind(token: u32) -> Result<CallKind, Status> {
    CallKind::of(token).filter(|kind| *kind != CallKind::Http).ok_or(Status::BadArgument)
}
