//! What a `WasmPlugin` is, whether it is valid, and in which order everything runs.
//!
//! This crate is pure: no file, no socket, no clock, no task. The same input gives the same
//! output, in any order of the resources, so that a laptop, a data plane and a control plane that
//! see the same manifests agree about every chain.
//!
//! ```text
//!  YAML text ──parse_file──> resources, ignored documents, diagnostics
//!                                │
//!  the workload ────────────plan─┴──> ordered filters, and why the others are left out
//! ```
//!
//! - [`parse_file`] reads manifests; every finding has a file, a line and a column.
//! - [`validate_wasm_plugin`] applies Istio's rules to a resource from anywhere.
//! - [`review()`] finds what only shows when resources are looked at together.
//! - [`find_workload`] takes a workload from manifests by its name.
//! - [`plan()`] is **the heart**: which plugins run for a workload, and in which order.
//! - [`schema`] has the definitions for API servers and the schemas for editors.
//! - [`ModuleUrl`] and [`Digest`] say where a module is and what it must be.
//! - [`plugin_config_json`] writes the configuration exactly as plugins get it from Istio.
//!
//! ```
//! use wasmplug_api::{Workload, WorkloadRole, parse_file, plan};
//!
//! let manifest = "
//! apiVersion: extensions.istio.io/v1alpha1
//! kind: WasmPlugin
//! metadata: {name: limit, namespace: istio-system}
//! spec: {url: 'oci://ghcr.io/example/limit:v1', phase: AUTHN, pluginConfig: {rate: 2}}
//! ";
//! let parsed = parse_file("limit.yaml", manifest);
//! assert!(parsed.diagnostics.is_empty());
//! let plan = plan(&parsed.resources, &Workload::new("shop", WorkloadRole::SidecarInbound));
//! let plugin = plan.plugins().next().expect("it applies to the whole mesh");
//! assert_eq!(plugin.resource.to_string(), "istio-system/limit");
//! assert_eq!(plugin.configuration, r#"{"rate":2}"#);
//! ```
//!
//! # Limits
//!
//! A manifest is untrusted input. A file has at most 16 MiB, 10 000 documents and 1000 findings;
//! a document at most 500 000 values, 64 levels and 4 MiB from aliases. What exceeds a limit is
//! reported, never truncated silently.
//!
//! # Secrets
//!
//! Environment values, pull secrets and the user info of URLs are in the types, because whoever
//! runs a plugin needs them, but in no `Debug`, `Display` or `Serialize` output and in no message.

#![forbid(unsafe_code)]

pub mod authorization_policy;
pub mod diagnostic;
pub mod digest;
pub mod extras;
pub mod field_path;
pub mod lookup;
pub mod manifest;
pub mod mesh_config;
pub mod meta;
pub mod module_url;
pub mod mounts;
pub mod peer_authentication;
pub mod plan;
pub mod plugin_config;
pub mod request_authentication;
pub mod review;
pub mod schema;
pub mod secret;
pub mod selector;
pub mod telemetry;
pub mod traffic_extension;
pub mod validation;
pub mod virtual_service;
pub mod wasm_plugin;
pub mod workload_objects;

pub use authorization_policy::{AuthorizationPolicy, PolicyAction};
pub use diagnostic::{Diagnostic, Severity};
pub use digest::{Digest, DigestError};
pub use extras::{Candidate, CandidateMode, PluginExtras, Split, Threshold, VmScope};
pub use field_path::FieldPath;
pub use lookup::{FoundWorkload, LookupError, find_workload};
pub use manifest::{IgnoredDocument, ParsedFile, Resource, duplicates, parse_file};
pub use mesh_config::{
    AuthorizerProtocol, CheckedBody, ExternalAuthorizer, HttpAuthorizer, MeshConfig,
    PathNormalization,
};
pub use meta::{CreationTime, NamespacedName, Object, ObjectMeta, Position};
pub use module_url::{ImageReference, ImageReferenceError, ModuleUrl, ModuleUrlError};
pub use mounts::{MountedFileError, Mounts, MountsError};
pub use peer_authentication::{MutualTlsMode, PeerAuthentication};
pub use plan::{
    LeftOut, Mesh, Plan, PlannedAuthentication, PlannedAuthorization, PlannedFilter,
    PlannedJwtRule, PlannedMetric, PlannedMetrics, PlannedMutualTls, PlannedPlugin, PlannedPolicy,
    PlannedReporter, PlannedRoute, PlannedRoutes, ServedService, Workload, WorkloadRole, plan,
};
pub use plugin_config::plugin_config_json;
pub use request_authentication::{ClaimToHeader, JwtHeader, JwtRule, RequestAuthentication};
pub use review::review;
pub use secret::{DockerConfigForm, Secret};
pub use selector::{PolicyTargetReference, TrafficSelector, WorkloadMode, WorkloadSelector};
pub use telemetry::Telemetry;
pub use traffic_extension::TrafficExtension;
pub use validation::{Violation, validate_wasm_plugin};
pub use virtual_service::VirtualService;
pub use wasm_plugin::{
    EnvValueSource, EnvVar, FailStrategy, PluginPhase, PluginType, PullPolicy, VmConfig,
    WasmPlugin, WasmPluginSpec,
};
