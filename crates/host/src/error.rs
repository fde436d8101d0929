//! Why a module could not be loaded, a plugin not be started, or a VM died.

use std::fmt;
use std::sync::Arc;

use crate::abi::Status;

/// How a hostcall ends early.
#[derive(Debug)]
pub(crate) enum HostError {
    /// Reported to the plugin; the VM lives on.
    Status(Status),
    /// Ends the VM.
    Trap(wasmtime::Error),
}

/// Why bytes are not a plugin that this host can run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The engine does not accept the bytes.
    #[error("the module does not compile")]
    Compile(#[source] wasmtime::Error),
    /// No marker export, so nobody knows how to talk to it.
    #[error("the module does not declare a Proxy-Wasm ABI version")]
    MissingAbiVersion,
    /// A marker of a version that this host does not speak.
    #[error("the module declares `{marker}`, which is not a known Proxy-Wasm ABI version")]
    UnknownAbiVersion {
        /// The export's name.
        marker: String,
    },
    /// Imports that this host does not offer.
    #[error("the module imports what no Proxy-Wasm host offers: {}", .names.join(", "))]
    UnknownImports {
        /// Each as `` `module.name` ``.
        names: Vec<String>,
    },
    /// An import with another type than the function has.
    #[error("the module imports `{name}` as {declared}, but it is {offered}")]
    ImportType {
        /// `module.name`.
        name: String,
        /// What the module wants.
        declared: String,
        /// What the host has.
        offered: String,
    },
    /// A callback with another type than the specification gives it.
    #[error("the module exports `{name}` as {declared}, but a host calls it as {wanted}")]
    ExportType {
        /// Name of the export.
        name: String,
        /// What the module has.
        declared: String,
        /// What the specification says.
        wanted: String,
    },
    /// Neither `malloc` nor `proxy_on_memory_allocate`.
    #[error("the module exports no allocator")]
    MissingAllocator,
    /// No linear memory, neither exported under the name `memory` nor imported.
    #[error("the module has no memory")]
    MissingMemory,
    /// The engine could not be set up on this machine.
    #[error("the WebAssembly engine cannot be set up")]
    Engine(#[source] wasmtime::Error),
}

/// Why a VM could not be made, or a plugin in it not be started.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StartError {
    /// No instance could be made of the module.
    #[error("the module cannot be instantiated: {reason}")]
    Instantiate {
        /// What the engine says.
        reason: Arc<str>,
    },
    /// The VM holds as many contexts as it may.
    #[error("the VM has no room for another context")]
    NoContext,
    /// `proxy_on_vm_start` returned false.
    #[error("`proxy_on_vm_start` refused to start")]
    VmStartRefused,
    /// `proxy_on_configure` returned false.
    #[error("`proxy_on_configure` refused the configuration")]
    ConfigureRefused,
    /// The guest died on the way.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why a VM died. It never runs again.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Name of the plugin whose callback ran; empty if the module's own start code did.
    pub plugin: Arc<str>,
    /// The export that was called.
    pub callback: &'static str,
    /// What kind of death it was.
    pub kind: FailureKind,
    /// What the engine says about it, one line.
    pub reason: Arc<str>,
    /// The guest's stack, innermost first, one frame a line; empty if there is none.
    pub backtrace: Arc<str>,
}

/// Kinds of death, closed, so that they can be labels of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The guest trapped: unreachable, out of bounds, division by zero, stack exhausted, …
    Trap,
    /// The guest ran longer than its deadline.
    Deadline,
    /// The guest trapped after memory or a table was refused to it.
    Memory,
    /// The guest called a function that is not allowed at that moment.
    Restricted,
    /// The guest asked to exit.
    Exit,
}

// === impl HostError ===

impl From<Status> for HostError {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<wasmtime::Error> for HostError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

// === impl LoadError ===

impl LoadError {
    /// What the author of the plugin can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::MissingAbiVersion => Some(
                "a plugin exports a function named `proxy_abi_version_0_2_1`; is this a module \
                 built for another purpose, or without the SDK's entry point?"
                    .into(),
            ),
            Self::UnknownAbiVersion { .. } => {
                Some("this host speaks 0.1.0, 0.2.0 and 0.2.1".into())
            }
            Self::UnknownImports { names } => import_hint(names),
            Self::MissingAllocator => {
                Some("export `proxy_on_memory_allocate(size) -> pointer` or `malloc`".into())
            }
            _ => None,
        }
    }
}

/// Names the usual culprit behind foreign imports.
fn import_hint(names: &[String]) -> Option<String> {
    let has = |prefix: &str| names.iter().any(|name| name.trim_matches('`').starts_with(prefix));
    let text = if has("__wbindgen") || has("wbg") {
        "a dependency was built for browsers (wasm-bindgen); look for `getrandom` or `chrono` with \
         their `js` or `wasmbind` feature"
    } else if has("gojs") || has("go.") {
        "the module was built with GOOS=js; use GOOS=wasip1 and -buildmode=c-shared"
    } else if has("wasi:") {
        "the module is built for WASI 0.2; build it for wasip1"
    } else if has("env.") {
        "a C library was left out at link time, or the SDK is newer than this host"
    } else {
        return None;
    };
    Some(text.into())
}

// === impl Failure ===

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.plugin {
            "" => f.write_str("the module")?,
            plugin => write!(f, "plugin `{plugin}`")?,
        }
        write!(f, " failed in `{}`: {}", self.callback, self.reason)
    }
}

impl std::error::Error for Failure {}

impl FailureKind {
    /// The label that metrics and dumps use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Memory => "memory",
            Self::Restricted => "restricted",
            Self::Exit => "exit",
        }
    }
}
