//! Timers. Source: Proxy-Wasm 0.2.1, "Timers".

use std::time::Duration;

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::error::HostError;
use crate::vm_state::{Running, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Callback;
        "proxy_set_tick_period_milliseconds" => proxy_set_tick_period_milliseconds { period };
    }
    Ok(())
}

/// Sets the timer of the plugin, also when a stream asks for it; 0 stops it.
fn proxy_set_tick_period_milliseconds(cx: &mut Cx<'_>, period: u32) -> Result<(), HostError> {
    if let Some((_, services)) = cx.state().services() {
        let period = Duration::from_millis(period.into());
        services.set_tick_period((!period.is_zero()).then_some(period));
    }
    Ok(())
}
