//! Clocks. Source: Proxy-Wasm 0.2.1, "Clocks".

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::error::HostError;
use crate::vm_state::{Running, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_get_current_time_nanoseconds" => proxy_get_current_time_nanoseconds { time_out };
    }
    Ok(())
}

fn proxy_get_current_time_nanoseconds(cx: &mut Cx<'_>, time_out: u32) -> Result<(), HostError> {
    let now = cx.state().host.clock().realtime_nanoseconds();
    Ok(cx.write_u64(time_out, now)?)
}
