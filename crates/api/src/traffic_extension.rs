//! `TrafficExtension`, the resource that Istio translates a `WasmPlugin` into.
//!
//! Source: Istio API, `extensions/v1alpha1/traffic_extension.proto`.

use crate::meta::Object;
use crate::wasm_plugin::WasmPluginSpec;

/// A `TrafficExtension` object.
pub type TrafficExtension = Object<TrafficExtensionSpec>;

/// `spec` of a `TrafficExtension`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TrafficExtensionSpec {
    /// What it has in common with a `WasmPlugin`: attachment, `match`, phase and priority, and from
    /// below `wasm` everything else; without `wasm`, these have their defaults.
    pub plugin: WasmPluginSpec,
    /// Whether `wasm` is given.
    pub has_wasm: bool,
    /// `lua`.
    pub lua: Option<LuaFilter>,
}

/// `lua`: a script, which is not run here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LuaFilter {
    /// `inlineCode`.
    pub inline_code: String,
}
