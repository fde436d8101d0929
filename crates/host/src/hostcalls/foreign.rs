//! Foreign functions and what Emscripten imports. Source: Envoy's foreign-function registry.

use std::io::Read;

use flate2::Compression;
use flate2::read::{ZlibDecoder, ZlibEncoder};
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::error::HostError;
use crate::memory;
use crate::vm_state::{Running, VmState};

/// Most bytes that `compress` and `uncompress` take and give back.
///
/// Source: ours; Envoy has no limit, and a few bytes can inflate to all memory there is.
const MAX_LEN: usize = 16 << 20;

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_call_foreign_function" => call {
            name_ptr, name_len, arguments_ptr, arguments_len, ptr_out, len_out
        };
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
    let result = match name {
        b"clear_route_cache" => {
            if let Some(stream) = state.stream() {
                stream.host.clear_route_cache();
            }
            Vec::new()
        }
        b"compress" | b"uncompress" if arguments.len() > MAX_LEN => {
            return Err(Status::SerializationFailure.into());
        }
        b"compress" => bounded(ZlibEncoder::new(arguments, Compression::default()))?,
        b"uncompress" => bounded(ZlibDecoder::new(arguments))?,
        _ => return Err(Status::NotFound.into()),
    };
    // Who does not care for the result passes no place for it.
    if ptr_out == 0 || len_out == 0 { Ok(()) } else { cx.give(&result, ptr_out, len_out) }
}

/// Everything that a coder gives.
///
/// # Errors
/// [`Status::SerializationFailure`] for bytes that are no zlib stream, or beyond [`MAX_LEN`].
fn bounded(coder: impl Read) -> Result<Vec<u8>, Status> {
    const ONE_MORE: u64 = MAX_LEN as u64 + 1;
    let mut result = Vec::new();
    match coder.take(ONE_MORE).read_to_end(&mut result) {
        Ok(len) if len <= MAX_LEN => Ok(result),
        _ => Err(Status::SerializationFailure),
    }
}
