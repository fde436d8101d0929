//! A module whose imports and exports were checked, compiled and ready to be instantiated.

use std::sync::Arc;

use wasmtime::{
    Extern, ExternType, Instance, InstancePre, Linker, Memory, Module, Ref, Store, Table,
};

use crate::abi::AbiVersion;
use crate::callbacks::check_signatures;
use crate::error::LoadError;
use crate::host::Host;
use crate::hostcalls;
use crate::vm_state::VmState;

/// Compiled code of one module. Cheap to clone; shared by every worker.
#[derive(Clone)]
pub struct CompiledModule {
    linked: Linked,
    abi_version: AbiVersion,
}

/// A module with what it imports.
#[derive(Clone)]
enum Linked {
    /// Everything is there.
    Complete(InstancePre<VmState>),
    /// It wants a memory or a table made for it, which belong to one VM.
    WithoutMemory { linker: Arc<Linker<VmState>>, module: Module },
}

// === impl CompiledModule ===

impl CompiledModule {
    /// Compiles a module and checks that this host can run it. Takes up to seconds: never call it
    /// on a worker.
    ///
    /// # Errors
    /// [`LoadError`], by the first rule that the module breaks; all unknown imports at once.
    pub fn compile(host: &Arc<Host>, bytes: &[u8]) -> Result<Self, LoadError> {
        let module = Module::from_binary(&host.engine().inner, bytes);
        Self::of(host, &module.map_err(LoadError::Compile)?)
    }

    /// Checks that this host can run compiled code.
    pub(crate) fn of(host: &Arc<Host>, module: &Module) -> Result<Self, LoadError> {
        let abi_version = abi_version(module)?;
        check_signatures(module)?;
        check_allocator(module)?;
        let linker = hostcalls::linker_for(host, module, abi_version)?;
        let is_complete = module.imports().all(|import| matches!(import.ty(), ExternType::Func(_)));
        let imports = if is_complete {
            Linked::Complete(linker.instantiate_pre(module).map_err(LoadError::Compile)?)
        } else {
            Linked::WithoutMemory { linker: Arc::new(linker), module: module.clone() }
        };
        Ok(Self { linked: imports, abi_version })
    }

    /// The ABI version that the module declares.
    pub fn abi_version(&self) -> AbiVersion {
        self.abi_version
    }

    /// Makes an instance, with the memory that it exports or else the one that it imports.
    pub(crate) fn instantiate(
        &self,
        store: &mut Store<VmState>,
    ) -> wasmtime::Result<(Instance, Option<Memory>)> {
        let (instance, imported) = match &self.linked {
            Linked::Complete(instance_pre) => (instance_pre.instantiate(&mut *store)?, None),
            Linked::WithoutMemory { linker, module } => {
                let mut linker = Linker::clone(linker);
                let memory = define_imports(&mut linker, store, module)?;
                // Its start section may already make hostcalls.
                store.data_mut().memory = memory;
                (linker.instantiate(&mut *store, module)?, memory)
            }
        };
        Ok((instance, instance.get_memory(store, "memory").or(imported)))
    }
}

impl std::fmt::Debug for CompiledModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledModule")
            .field("abi_version", &self.abi_version)
            .finish_non_exhaustive()
    }
}

/// Makes what a module imports beside functions, in the size that it asks for.
///
/// Source: Envoy; what toolchains call `--import-memory` and `--import-table`.
fn define_imports(
    linker: &mut Linker<VmState>,
    store: &mut Store<VmState>,
    module: &Module,
) -> wasmtime::Result<Option<Memory>> {
    let mut first = None;
    for import in module.imports() {
        let made = match import.ty() {
            ExternType::Memory(ty) => {
                let memory = Memory::new(&mut *store, ty)?;
                first = first.or(Some(memory));
                Extern::Memory(memory)
            }
            ExternType::Table(ty) => Extern::Table(Table::new(&mut *store, ty, Ref::Func(None))?),
            _ => continue,
        };
        linker.define(&mut *store, import.module(), import.name(), made)?;
    }
    Ok(first)
}

/// Finds the marker; the first known one counts.
fn abi_version(module: &Module) -> Result<AbiVersion, LoadError> {
    let functions = || module.exports().filter(|export| matches!(export.ty(), ExternType::Func(_)));
    if let Some(version) = functions().find_map(|export| AbiVersion::from_marker(export.name())) {
        return Ok(version);
    }
    match functions().find(|export| export.name().starts_with(AbiVersion::MARKER_PREFIX)) {
        Some(export) => Err(LoadError::UnknownAbiVersion { marker: export.name().to_owned() }),
        None => Err(LoadError::MissingAbiVersion),
    }
}

fn check_allocator(module: &Module) -> Result<(), LoadError> {
    let is_function = |name| matches!(module.get_export(name), Some(ExternType::Func(_)));
    if !is_function("malloc") && !is_function("proxy_on_memory_allocate") {
        return Err(LoadError::MissingAllocator);
    }
    let is_memory = |ty: &ExternType| matches!(ty, ExternType::Memory(_));
    let has_memory = module.get_export("memory").as_ref().is_some_and(is_memory)
        || module.imports().any(|import| is_memory(&import.ty()));
    if has_memory { Ok(()) } else { Err(LoadError::MissingMemory) }
}
