//! What a `WasmPlugin` is, whether it is valid, and in which order everything runs.

pub mod diagnostic;
pub mod digest;
pub mod field_path;
pub mod manifest;
pub mod meta;
pub mod module_url;
pub mod plan;
pub mod plugin_config;
pub mod selector;
pub mod validation;
pub mod wasm_plugin;

pub use diagnostic::{Diagnostic, Severity};
pub use digest::{Digest, DigestError};
pub use field_path::FieldPath;
pub use manifest::{IgnoredDocument, ParsedFile, Resource, duplicates, parse_file};
pub use meta::{CreationTime, NamespacedName, ObjectMeta, Position};
pub use module_url::{ImageReference, ModuleUrl, ModuleUrlError};
pub use plan::{LeftOut, Plan, PlannedFilter, PlannedPlugin, Workload, WorkloadRole, plan};
pub use plugin_config::plugin_config_json;
pub use selector::{PolicyTargetReference, TrafficSelector, WorkloadMode, WorkloadSelector};
pub use validation::{Violation, validate_wasm_plugin};
pub use wasm_plugin::{
    EnvValueSource, EnvVar, FailStrategy, PluginPhase, PluginType, PullPolicy, VmConfig,
    WasmPlugin, WasmPluginSpec,
};
