//! Shared data. Source: Proxy-Wasm 0.2.1, "Shared data".

use bytes::Bytes;
use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::Status;
use crate::error::HostError;
use crate::limits::LimitKind;
use crate::memory;
use crate::shared_data::Quota;
use crate::vm_state::{Running, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_get_shared_data" => get { key_ptr, key_len, ptr_out, len_out, cas_out };
        "proxy_set_shared_data" => set { key_ptr, key_len, value_ptr, value_len, cas };
    }
    Ok(())
}

fn get(
    cx: &mut Cx<'_>,
    key_ptr: u32,
    key_len: u32,
    ptr_out: u32,
    len_out: u32,
    cas_out: u32,
) -> Result<(), HostError> {
    let (key, state) = cx.read(key_ptr, key_len)?;
    let found = state.host.shared_data().get(&state.config.vm_id, key);
    let (value, cas) = found.ok_or(Status::NotFound)?;
    cx.give(&value, ptr_out, len_out)?;
    Ok(cx.write_u32(cas_out, cas)?)
}

fn set(
    cx: &mut Cx<'_>,
    key_ptr: u32,
    key_len: u32,
    value_ptr: u32,
    value_len: u32,
    cas: u32,
) -> Result<(), HostError> {
    let (memory, state) = cx.parts()?;
    let key = memory::read(memory, key_ptr, key_len)?;
    let value = memory::read(memory, value_ptr, value_len)?;
    let limits = &state.config.limits;
    if key.len().saturating_add(value.len()) > limits.shared_data_entry_bytes {
        return Err(state.beyond(LimitKind::SharedData, Status::InternalFailure));
    }
    let value = Bytes::copy_from_slice(value);
    let data = state.host.shared_data();
    let quota = Quota { keys: limits.shared_data_keys, bytes: limits.shared_data_bytes };
    match data.set(&state.config.vm_id, key, value, cas, quota) {
        Err(status @ Status::InternalFailure) => Err(state.beyond(LimitKind::SharedData, status)),
        result => Ok(result?),
    }
}
