//! The functions that plugins import, one file per chapter of the specification.
//!
//! A hostcall's body returns `Result<(), HostError>` and uses `?`; [`Cx::finish`] turns that into
//! the status that the guest gets, or into a trap. A function that the guest may not call at that
//! moment (its allocator runs in the middle of a hostcall) traps.

#![expect(clippy::unnecessary_wraps, reason = "every hostcall has the same shape")]

mod buffer;
mod clock;
mod context;
mod fields;
mod foreign;
mod grpc_call;
mod http_call;
mod log;
mod metric;
mod property;
mod shared_data;
mod shared_queue;
mod stream;
mod timer;
mod wasi;

use std::sync::Arc;

use wasmtime::{Caller, Extern, ExternType, Linker, Memory, Module, Store};

use crate::abi::{AbiVersion, LogLevel, Status};
use crate::callbacks::signature_text;
use crate::error::{FailureKind, HostError, LoadError};
use crate::host::Host;
use crate::memory;
use crate::vm_state::{Running, VmConfig, VmState};

/// A hostcall's view of the guest that calls it.
pub(crate) struct Cx<'a> {
    caller: Caller<'a, VmState>,
}

/// Defines hostcalls whose parameters are all `i32` and whose result is a status.
macro_rules! hostcalls {
    ($linker:ident, $module:literal, $allowed:expr; $($name:literal => $function:path { $($arg:ident),* };)*) => {
        $($linker.func_wrap(
            $module,
            $name,
            |caller: Caller<'_, VmState> $(, $arg: u32)*| -> wasmtime::Result<u32> {
                const INDEX: usize = $crate::costs::hostcall_index($name);
                let mut cx = $crate::hostcalls::Cx::enter(caller, $name, $allowed)?;
                if cx.is_denied($name) {
                    return Ok(cx.count(INDEX, $crate::abi::Status::InternalFailure).into());
                }
                let result = $function(&mut cx $(, $arg)*);
                cx.finish(INDEX, result)
            },
        )?;)*
    };
}
pub(crate) use hostcalls;

/// A linker with everything that this module imports.
///
/// # Errors
/// [`LoadError`] naming every import that is unknown, or the first one with another type.
pub(crate) fn linker_for(
    host: &Arc<Host>,
    module: &Module,
    abi_version: AbiVersion,
) -> Result<Linker<VmState>, LoadError> {
    let engine = module.engine();
    let mut linker = Linker::new(engine);
    define_all(&mut linker).map_err(LoadError::Engine)?;
    wasi::define_remaining(&mut linker, module).map_err(LoadError::Engine)?;
    // The type of a linker's function can only be asked of a store with its state.
    let state = VmState::new(host, abi_version, VmConfig::default());
    check_imports(&linker, Store::new(engine, state), module)?;
    Ok(linker)
}

fn define_all(linker: &mut Linker<VmState>) -> wasmtime::Result<()> {
    log::define(linker)?;
    clock::define(linker)?;
    timer::define(linker)?;
    fields::define(linker)?;
    buffer::define(linker)?;
    stream::define(linker)?;
    property::define(linker)?;
    context::define(linker)?;
    shared_data::define(linker)?;
    shared_queue::define(linker)?;
    metric::define(linker)?;
    http_call::define(linker)?;
    grpc_call::define(linker)?;
    foreign::define(linker)?;
    wasi::define(linker)
}

fn check_imports(
    linker: &Linker<VmState>,
    mut store: Store<VmState>,
    module: &Module,
) -> Result<(), LoadError> {
    let mut unknown = Vec::new();
    for import in module.imports() {
        if matches!(import.ty(), ExternType::Memory(_) | ExternType::Table(_)) {
            // Made for each VM.
            continue;
        }
        let name = format!("{}.{}", import.module(), import.name());
        let offered = linker.get(&mut store, import.module(), import.name());
        let (ExternType::Func(declared), Ok(Extern::Func(offered))) = (import.ty(), offered) else {
            let name = format!("`{name}`");
            if !unknown.contains(&name) {
                unknown.push(name);
            }
            continue;
        };
        let offered = offered.ty(&store);
        if !declared.matches(&offered) {
            return Err(LoadError::ImportType {
                name,
                declared: signature_text(&declared),
                offered: signature_text(&offered),
            });
        }
    }
    if unknown.is_empty() { Ok(()) } else { Err(LoadError::UnknownImports { names: unknown }) }
}

/// The trap of a guest that called what it may not call now.
#[cold]
fn restricted(state: &mut VmState, name: &str) -> wasmtime::Error {
    state.death = Some(FailureKind::Restricted);
    let during = match state.running {
        Running::Allocator => "from its allocator",
        _ => "from its start code",
    };
    wasmtime::Error::msg(format!("the guest called `{name}` {during}"))
}

// === impl Cx ===

impl<'a> Cx<'a> {
    /// Begins a hostcall.
    ///
    /// # Errors
    /// A trap if the guest may not call it now.
    #[inline]
    pub(crate) fn enter(
        mut caller: Caller<'a, VmState>,
        name: &'static str,
        allowed: Running,
    ) -> wasmtime::Result<Self> {
        if caller.data().running > allowed {
            return Err(restricted(caller.data_mut(), name));
        }
        Ok(Self { caller })
    }

    /// Whether the VM's capabilities leave this function out, which is then logged.
    #[inline]
    pub(crate) fn is_denied(&self, name: &str) -> bool {
        self.state().config.allowed_capabilities.is_some() && self.is_denied_by_list(name)
    }

    #[cold]
    fn is_denied_by_list(&self, name: &str) -> bool {
        let is_denied = !self.state().config.allows(name);
        if is_denied {
            let message = format!("a call of `{name}` is denied: it is no allowed capability");
            log::write_line(self.state(), LogLevel::Error, message.as_bytes());
        }
        is_denied
    }

    /// Ends a hostcall: a status for the guest, or a trap.
    pub(crate) fn finish(
        self,
        index: usize,
        result: Result<(), HostError>,
    ) -> wasmtime::Result<u32> {
        match result {
            Ok(()) => Ok(self.count(index, Status::Ok).into()),
            Err(HostError::Status(status)) => Ok(self.count(index, status).into()),
            Err(HostError::Trap(error)) => Err(error),
        }
    }

    /// Counts a call of this function, if somebody wants to know.
    pub(crate) fn count(&self, index: usize, status: Status) -> Status {
        if let Some(costs) = self.state().costs() {
            costs.count_hostcall(index, status);
        }
        status
    }

    pub(crate) fn state(&self) -> &VmState {
        self.caller.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VmState {
        self.caller.data_mut()
    }

    /// Guest memory and state side by side.
    ///
    /// # Errors
    /// [`Status::InvalidMemoryAccess`] if the module exports no memory, which loading rules out.
    #[inline]
    pub(crate) fn parts(&mut self) -> Result<(&mut [u8], &mut VmState), Status> {
        let memory = match self.caller.data().memory {
            Some(memory) => memory,
            None => self.exported_memory()?,
        };
        Ok(memory.data_and_store_mut(&mut self.caller))
    }

    /// The memory while the module's `start` section runs, before the instance is known.
    #[cold]
    fn exported_memory(&mut self) -> Result<Memory, Status> {
        match self.caller.get_export("memory") {
            Some(Extern::Memory(memory)) => Ok(memory),
            _ => Err(Status::InvalidMemoryAccess),
        }
    }

    /// Bytes of the guest, together with the state that they are meant for.
    pub(crate) fn read(&mut self, ptr: u32, len: u32) -> Result<(&[u8], &mut VmState), Status> {
        let (memory, state) = self.parts()?;
        Ok((memory::read(memory, ptr, len)?, state))
    }

    pub(crate) fn write_u32(&mut self, ptr: u32, value: u32) -> Result<(), Status> {
        memory::write_u32(self.parts()?.0, ptr, value)
    }

    pub(crate) fn write_u64(&mut self, ptr: u32, value: u64) -> Result<(), Status> {
        memory::write_u64(self.parts()?.0, ptr, value)
    }

    /// Gives bytes to the guest: allocates them there, copies, then writes pointer and length.
    ///
    /// Source: Envoy writes pointer 0 and length 0 for an empty value and allocates nothing, which
    /// Go plugins rely on.
    pub(crate) fn give(
        &mut self,
        bytes: &[u8],
        ptr_out: u32,
        len_out: u32,
    ) -> Result<(), HostError> {
        self.give_with(bytes.len(), ptr_out, len_out, |_, out| out.copy_from_slice(bytes))
    }

    /// Like [`Cx::give`], for bytes that are written straight into the guest's memory.
    pub(crate) fn give_with(
        &mut self,
        len: usize,
        ptr_out: u32,
        len_out: u32,
        fill: impl FnOnce(&VmState, &mut [u8]),
    ) -> Result<(), HostError> {
        let len_u32 = u32::try_from(len).map_err(|_| Status::InvalidMemoryAccess)?;
        let ptr = if len == 0 { 0 } else { self.allocate(len_u32)? };
        let (memory, state) = self.parts()?;
        if len > 0 {
            fill(state, memory::slice_mut(memory, ptr, len)?);
        }
        // Both places are looked at before either is written: a failed call touches nothing.
        memory::read_u32(memory, len_out)?;
        memory::write_u32(memory, ptr_out, ptr)?;
        memory::write_u32(memory, len_out, len_u32)?;
        Ok(())
    }

    /// Calls the guest's allocator; never with 0.
    fn allocate(&mut self, len: u32) -> Result<u32, HostError> {
        let allocator = self.state().allocator.clone().ok_or(Status::InvalidMemoryAccess)?;
        let running = std::mem::replace(&mut self.state_mut().running, Running::Allocator);
        let ptr = allocator.call(&mut self.caller, len)?;
        self.state_mut().running = running;
        if ptr == 0 { Err(Status::InvalidMemoryAccess.into()) } else { Ok(ptr) }
    }
}
