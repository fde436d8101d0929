//! Foreign functions and what Emscripten imports. Source: Envoy's foreign-function registry.

mod expression;
mod filter_state;
mod signature;

use std::io::Read;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::{MapType, Status};
use crate::callout::CallKind;
use crate::error::HostError;
use crate::limits::LimitKind;
use crate::memory;
use crate::vm_state::{Running, VmState};

/// Most bytes that a foreign function takes, and that `compress` and `uncompress` give back.
///
/// Source: ours; Envoy has no limit, and a few bytes can inflate to all memory there is.
const MAX_LEN: usize = 16 << 20;

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_call_foreign_function" => call {
            name_ptr, name_len, arguments_ptr, arguments_len, ptr_out, len_out
        };
    }
    hostcalls! { linker, "env", Running::Callback;
        "envoy_resolve_dns" => resolve_dns { name_ptr, name_len, token_out };
    }
    linker.func_wrap("env", "pthread_equal", |left: u32, right: u32| u32::from(left == right))?;
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_memory: u32| {})?;
    Ok(())
}

fn call(
    cx: &mut Cx<'_>,
    name_ptr: u32,
    name_len: u32,
    arguments_ptr: u32,
    arguments_len: u32,
    ptr_out: u32,
    len_out: u32,
) -> Result<(), HostError> {
    let (memory, state) = cx.parts()?;
    let name = memory::read(memory, name_ptr, name_len)?;
    let arguments = memory::read(memory, arguments_ptr, arguments_len)?;
    let result = run(state, name, arguments)?;
    // Who does not care for the result passes no place for it.
    if ptr_out == 0 || len_out == 0 { Ok(()) } else { cx.give(&result, ptr_out, len_out) }
}

/// Source: Envoy's extension of the ABI.
fn resolve_dns(
    cx: &mut Cx<'_>,
    name_ptr: u32,
    name_len: u32,
    token_out: u32,
) -> Result<(), HostError> {
    let (name, state) = cx.read(name_ptr, name_len)?;
    let name = std::str::from_utf8(name).map_err(|_| Status::BadArgument)?;
    let (root, services) = state.services().ok_or(Status::InternalFailure)?;
    let token = state.tokens.next(CallKind::Http)?;
    services.resolve_dns(token, name)?;
    state.tokens.take(token, root);
    Ok(cx.write_u32(token_out, token)?)
}

fn run(state: &mut VmState, name: &[u8], arguments: &[u8]) -> Result<Vec<u8>, HostError> {
    match name {
        b"clear_route_cache" => {
            if let Some(stream) = state.stream() {
                stream.host.clear_route_cache(stream.fields(MapType::HttpRequestHeaders));
            }
            Ok(Vec::new())
        }
        _ if arguments.len() > MAX_LEN => {
            Err(state.beyond(LimitKind::ForeignFunctionBytes, Status::SerializationFailure))
        }
        b"compress" => bounded(state, ZlibEncoder::new(arguments, Compression::default())),
        b"uncompress" => bounded(state, ZlibDecoder::new(arguments)),
        b"declare_property" => filter_state::declare(state, arguments),
        b"set_envoy_filter_state" => filter_state::set(state, arguments),
        b"verify_signature" => signature::verify(arguments),
        b"sign" => signature::sign(arguments),
        b"expr_create" => expression::create(state, arguments),
        b"expr_evaluate" => expression::evaluate(state, arguments),
        b"expr_delete" => expression::delete(state, arguments),
        _ => Err(Status::NotFound.into()),
    }
}

/// Everything that a coder gives.
///
/// # Errors
/// [`Status::SerializationFailure`] for bytes that are no zlib stream, or beyond [`MAX_LEN`].
fn bounded(state: &VmState, coder: impl Read) -> Result<Vec<u8>, HostError> {
    const ONE_MORE: u64 = MAX_LEN as u64 + 1;
    let mut result = Vec::new();
    match coder.take(ONE_MORE).read_to_end(&mut result) {
        Ok(len) if len <= MAX_LEN => Ok(result),
        Ok(_) => Err(state.beyond(LimitKind::ForeignFunctionBytes, Status::SerializationFailure)),
        Err(_) => Err(Status::SerializationFailure.into()),
    }
}
