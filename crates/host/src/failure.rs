//! Turns what the engine says about a dead guest into a [`Failure`].

use wasmtime::{Trap, WasmBacktrace};

use crate::error::{Failure, FailureKind};
use crate::vm_state::{VmState, one_line};

/// Most frames of a backtrace that are kept. Source: Envoy.
const MAX_FRAMES: usize = 20;

/// Describes the trap with which `callback` ended.
pub(crate) fn describe(
    state: &VmState,
    callback: &'static str,
    error: &wasmtime::Error,
) -> Failure {
    let trap = error.downcast_ref::<Trap>().copied();
    let kind = match (state.death, trap) {
        (Some(kind), _) => kind,
        (None, Some(Trap::Interrupt)) => FailureKind::Deadline,
        (None, _) if state.limiter.refused.is_some() => FailureKind::Memory,
        (None, _) => FailureKind::Trap,
    };
    let reason = match (kind, trap) {
        (FailureKind::Deadline, _) => "it ran longer than its deadline".to_owned(),
        (FailureKind::Memory, _) => match state.limiter.refused {
            Some(refused) => format!("{refused}; the guest then gave up"),
            None => reason(trap, error),
        },
        _ => reason(trap, error),
    };
    Failure {
        plugin: state.plugin_name(),
        callback,
        kind,
        reason: reason.into(),
        backtrace: backtrace(error).into(),
    }
}

fn reason(trap: Option<Trap>, error: &wasmtime::Error) -> String {
    match trap {
        Some(trap) => trap.to_string(),
        // The outermost layer is only "error while executing at wasm backtrace".
        None => error.root_cause().to_string(),
    }
    .trim_start_matches("wasm trap: ")
    .to_owned()
}

fn backtrace(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return if error.is::<Trap>() { String::new() } else { one_line(error) };
    };
    let frames = backtrace.frames().iter().take(MAX_FRAMES).map(|frame| {
        let index = frame.func_index();
        let name = frame.func_name().map_or_else(|| format!("function[{index}]"), demangled);
        match frame.module_offset() {
            Some(offset) => format!("  at {name} (offset {offset:#x})"),
            None => format!("  at {name}"),
        }
    });
    frames.collect::<Vec<_>>().join("\n")
}

/// Rust's mangling is undone; other names are shown as they are.
fn demangled(name: &str) -> String {
    rustc_demangle::try_demangle(name)
        .map_or_else(|_| name.to_owned(), |demangled| format!("{demangled:#}"))
}
