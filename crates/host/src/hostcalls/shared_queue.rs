//! Shared queues. Source: Proxy-Wasm 0.2.1, "Shared queues".

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::error::HostError;
use crate::limits::LimitKind;
use crate::memory;
use crate::vm_state::{Running, VmConfig, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_register_shared_queue" => register { name_ptr, name_len, token_out };
        "proxy_resolve_shared_queue" => resolve { vm_ptr, vm_len, name_ptr, name_len, token_out };
        "proxy_enqueue_shared_queue" => enqueue { token, ptr, len };
        "proxy_dequeue_shared_queue" => dequeue { token, ptr_out, len_out };
    }
    Ok(())
}

fn register(
    cx: &mut Cx<'_>,
    name_ptr: u32,
    name_len: u32,
    token_out: u32,
) -> Result<(), HostError> {
    let consumer = cx.state().services().and_then(|(_, services)| services.queue_consumer());
    let (name, state) = cx.read(name_ptr, name_len)?;
    let VmConfig { vm_id, limits, .. } = &state.config;
    if name.len() > limits.shared_data_entry_bytes {
        return Err(state.beyond(LimitKind::Queues, Status::InternalFailure));
    }
    match state.host.shared_queues().register(vm_id, name, consumer, limits.queues) {
        Err(status @ Status::InternalFailure) => Err(state.beyond(LimitKind::Queues, status)),
        token => Ok(cx.write_u32(token_out, token?)?),
    }
}

fn resolve(
    cx: &mut Cx<'_>,
    vm_ptr: u32,
    vm_len: u32,
    name_ptr: u32,
    name_len: u32,
    token_out: u32,
) -> Result<(), HostError> {
    let (memory, state) = cx.parts()?;
    let vm_id = memory::read(memory, vm_ptr, vm_len)?;
    let name = memory::read(memory, name_ptr, name_len)?;
    // An empty id means the caller's own.
    let vm_id = match vm_id {
        [] => state.config.vm_id.as_str().into(),
        other => String::from_utf8_lossy(other),
    };
    let token = state.host.shared_queues().resolve(&vm_id, name).ok_or(Status::NotFound)?;
    Ok(cx.write_u32(token_out, token)?)
}

fn enqueue(cx: &mut Cx<'_>, token: u32, ptr: u32, len: u32) -> Result<(), HostError> {
    let (item, state) = cx.read(ptr, len)?;
    let limits = &state.config.limits;
    if item.len() > limits.shared_data_entry_bytes {
        return Err(state.beyond(LimitKind::QueueItems, Status::InternalFailure));
    }
    let item = Bytes::copy_from_slice(item);
    let queues = state.host.shared_queues();
    match queues.enqueue(token, item, limits.queue_items, limits.queue_bytes) {
        Err(status @ Status::InternalFailure) => Err(state.beyond(LimitKind::QueueItems, status)),
        result => Ok(result?),
    }
}

fn dequeue(cx: &mut Cx<'_>, token: u32, ptr_out: u32, len_out: u32) -> Result<(), HostError> {
    let item = cx.state().host.shared_queues().dequeue(token)?;
    cx.give(&item, ptr_out, len_out)
}
