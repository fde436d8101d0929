//! Logging. Source: Proxy-Wasm 0.2.1, "Logging".

use wasmtime::{Caller, Linker};

use super::{Cx, hostcalls};
use crate::abi::LogLevel;
use crate::error::HostError;
use crate::limits::LimitKind;
use crate::log::LogRecord;
use crate::vm_state::{Running, VmState};

const NANOSECONDS_PER_SECOND: u64 = 1_000_000_000;

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

/// Passes a line on in the name of the plugin that runs, within the VM's budget.
pub(super) fn write_line(state: &VmState, level: LogLevel, message: &[u8]) {
    let sink = state.host.log_sink();
    if level < sink.level() {
        return;
    }
    let limits = &state.config.limits;
    let second = state.host.clock().monotonic_nanoseconds() / NANOSECONDS_PER_SECOND;
    let (is_granted, dropped) = state.log_budget.spend(second, limits.log_lines_per_second);
    if let Some(dropped) = dropped {
        let limit = limits.log_lines_per_second;
        let text = format!("{dropped} log lines were dropped: more than {limit} in a second");
        pass_on(state, LogLevel::Warn, &text);
    }
    if !is_granted {
        state.host.limit_counters().count(LimitKind::LogLines);
        return;
    }
    match message.get(..limits.log_line_bytes) {
        Some(cut) if cut.len() < message.len() => {
            state.host.limit_counters().count(LimitKind::LogLineBytes);
            let rest = message.len().saturating_sub(cut.len());
            let text = String::from_utf8_lossy(cut);
            pass_on(state, level, &format!("{text}… ({rest} more bytes)"));
        }
        _ => pass_on(state, level, &String::from_utf8_lossy(message)),
    }
}

fn pass_on(state: &VmState, level: LogLevel, message: &str) {
    let plugin = state.contexts.root(state.current).map_or("", |root| &root.plugin);
    let context_id = state.current;
    state.host.log_sink().log(LogRecord { level, plugin, context_id, message });
}
