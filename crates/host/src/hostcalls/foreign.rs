//! Foreign functions and what Emscripten imports. Source: Envoy's foreign-function registry.

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::error::HostError;
use crate::memory;
use crate::vm::{Running, VmState};

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
    _ptr_out: u32,
    _len_out: u32,
) -> Result<(), HostError> {
    let (memory, state) = cx.parts()?;
    let name = memory::read(memory, name_ptr, name_len)?;
    memory::read(memory, arguments_ptr, arguments_len)?;
    match name {
        b"clear_route_cache" => {
            if let Some(stream) = state.stream() {
                stream.host.clear_route_cache();
            }
            Ok(())
        }
        _ => Err(Status::NotFound.into()),
    }
}
