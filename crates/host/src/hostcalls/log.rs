//! Logging. Source: Proxy-Wasm 0.2.1, "Logging".

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::LogLevel;
use crate::error::HostError;
use crate::log::LogRecord;
use crate::vm_state::{Running, VmState};

pub(super) fn define(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    hostcalls! { linker, "env", Running::Allocator;
        "proxy_log" => proxy_log { level, message_ptr, message_len };
    }
    hostcalls! { linker, "env", Running::Callback;
        "proxy_get_log_level" => proxy_get_log_level { level_out };
    }
    Ok(())
}

fn proxy_log(cx: &mut Cx<'_>, level: u32, ptr: u32, len: u32) -> Result<(), HostError> {
    let level = LogLevel::try_from(level)?;
    let (message, state) = cx.read(ptr, len)?;
    write_line(state, level, message);
    Ok(())
}

fn proxy_get_log_level(cx: &mut Cx<'_>, level_out: u32) -> Result<(), HostError> {
    let level = cx.state().host.log_sink().level();
    Ok(cx.write_u32(level_out, level as u32)?)
}

/// Passes a line on in the name of the plugin that runs.
pub(super) fn write_line(state: &VmState, level: LogLevel, message: &[u8]) {
    let sink = state.host.log_sink();
    if level < sink.level() {
        return;
    }
    let plugin = state.contexts.root(state.current).map_or("", |root| &root.plugin);
    let message = &String::from_utf8_lossy(message);
    sink.log(LogRecord { level, plugin, context_id: state.current, message });
}
