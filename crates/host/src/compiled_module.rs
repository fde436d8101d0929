//! A module whose imports and exports were checked, compiled and ready to be instantiated.

use std::sync::Arc;

use wasmtime::{ExternType, InstancePre, Module};

use crate::abi::AbiVersion;
use crate::callbacks::check_signatures;
use crate::error::LoadError;
use crate::host::Host;
use crate::hostcalls;
use crate::vm_state::VmState;

/// Compiled code of one module. Cheap to clone; shared by every worker.
#[derive(Clone)]
pub struct CompiledModule {
    instance_pre: InstancePre<VmState>,
    abi_version: AbiVersion,
}

// === impl CompiledModule ===

impl CompiledModule {
    /// Compiles a module and checks that this host can run it. Takes up to seconds: never call it
    /// on a worker.
    ///
    /// # Errors
    /// [`LoadError`], by the first rule that the module breaks; all unknown imports at once.
    pub fn compile(host: &Arc<Host>, bytes: &[u8]) -> Result<Self, LoadError> {
        let module =
            &Module::from_binary(&host.engine().inner, bytes).map_err(LoadError::Compile)?;
        let abi_version = abi_version(module)?;
        check_signatures(module)?;
        check_allocator(module)?;
        let linker = hostcalls::linker_for(host, module, abi_version)?;
        let instance_pre = linker.instantiate_pre(module).map_err(LoadError::Compile)?;
        Ok(Self { instance_pre, abi_version })
    }

    /// The ABI version that the module declares.
    pub fn abi_version(&self) -> AbiVersion {
        self.abi_version
    }

    pub(crate) fn instance_pre(&self) -> &InstancePre<VmState> {
        &self.instance_pre
    }
}

impl std::fmt::Debug for CompiledModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledModule")
            .field("abi_version", &self.abi_version)
            .finish_non_exhaustive()
    }
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
    match module.get_export("memory") {
        Some(ExternType::Memory(_)) => Ok(()),
        _ => Err(LoadError::MissingMemory),
    }
}
