//! Contexts and their end. Source: Proxy-Wasm 0.2.1, "Plugin lifecycle".

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::error::HostError;
use crate::vm_state::{Running, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_set_effective_context" => set_effective_context { id };
        "proxy_done" => done {};
        "proxy_get_status" => get_status { code_out, ptr_out, len_out };
    }
    Ok(())
}

fn set_effective_context(cx: &mut Cx<'_>, id: u32) -> Result<(), HostError> {
    let state = cx.state_mut();
    if id != 0 && !state.contexts.contains(id) {
        return Err(Status::BadArgument.into());
    }
    state.effective = id;
    Ok(())
}

/// Ends a plugin that asked for time at its end; it is deleted when this callback has returned.
fn done(cx: &mut Cx<'_>) -> Result<(), HostError> {
    let state = cx.state_mut();
    let id = state.contexts.root_of(state.acting()).ok_or(Status::NotFound)?;
    let root = state.contexts.root_mut(id).filter(|root| root.is_pending_done);
    root.ok_or(Status::NotFound)?.is_pending_done = false;
    state.ended.push(id);
    Ok(())
}

/// Code and message of the last call that failed.
fn get_status(cx: &mut Cx<'_>, code_out: u32, ptr_out: u32, len_out: u32) -> Result<(), HostError> {
    let state = cx.state();
    let (code, message) = state
        .contexts
        .root(state.acting())
        .map_or((0, String::new()), |root| root.last_status.clone());
    cx.give(message.as_bytes(), ptr_out, len_out)?;
    Ok(cx.write_u32(code_out, code)?)
}
