//! gRPC calls. Source: Proxy-Wasm 0.2.1, "gRPC calls".
//!
//! No embedder offers gRPC targets, so every service is unknown, and every token too.

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::error::HostError;
use crate::memory;
use crate::vm_state::{Running, VmState};

/// Low bits of a token that belongs to an HTTP call, which these functions do not take.
const HTTP_TOKEN_BITS: u32 = 0;

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_grpc_call" => call {
            service_ptr, service_len, name_ptr, name_len, method_ptr, method_len,
            metadata_ptr, metadata_len, message_ptr, message_len, timeout, token_out
        };
        "proxy_grpc_stream" => stream {
            service_ptr, service_len, name_ptr, name_len, method_ptr, method_len,
            metadata_ptr, metadata_len, token_out
        };
        "proxy_grpc_send" => send { token, ptr, len, end };
        "proxy_grpc_cancel" => end { token };
        "proxy_grpc_close" => end { token };
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the ABI's parameters")]
fn call(
    cx: &mut Cx<'_>,
    service_ptr: u32,
    service_len: u32,
    name_ptr: u32,
    name_len: u32,
    method_ptr: u32,
    method_len: u32,
    metadata_ptr: u32,
    metadata_len: u32,
    message_ptr: u32,
    message_len: u32,
    _timeout: u32,
    _token_out: u32,
) -> Result<(), HostError> {
    let ranges = [
        (service_ptr, service_len),
        (name_ptr, name_len),
        (method_ptr, method_len),
        (metadata_ptr, metadata_len),
        (message_ptr, message_len),
    ];
    unknown_service(cx, &ranges)
}

#[expect(clippy::too_many_arguments, reason = "the ABI's parameters")]
fn stream(
    cx: &mut Cx<'_>,
    service_ptr: u32,
    service_len: u32,
    name_ptr: u32,
    name_len: u32,
    method_ptr: u32,
    method_len: u32,
    metadata_ptr: u32,
    metadata_len: u32,
    _token_out: u32,
) -> Result<(), HostError> {
    let ranges = [
        (service_ptr, service_len),
        (name_ptr, name_len),
        (method_ptr, method_len),
        (metadata_ptr, metadata_len),
    ];
    unknown_service(cx, &ranges)
}

fn unknown_service(cx: &mut Cx<'_>, ranges: &[(u32, u32)]) -> Result<(), HostError> {
    let (memory, _) = cx.parts()?;
    for (ptr, len) in ranges {
        memory::read(memory, *ptr, *len)?;
    }
    Err(Status::ParseFailure.into())
}

fn send(cx: &mut Cx<'_>, token: u32, ptr: u32, len: u32, _end: u32) -> Result<(), HostError> {
    cx.read(ptr, len)?;
    // Only stream tokens, whose low bits are 2, can be sent to.
    Err(if token & 3 == 2 { Status::NotFound } else { Status::BadArgument }.into())
}

fn end(_cx: &mut Cx<'_>, token: u32) -> Result<(), HostError> {
    let bits = token & 3;
    let is_grpc = bits != HTTP_TOKEN_BITS && bits != 3;
    Err(if is_grpc { Status::NotFound } else { Status::BadArgument }.into())
}
