//! The rules of `TrafficExtension`.
//!
//! Source: Istio API, `extensions/v1alpha1/traffic_extension.proto`; Istio, the validating webhook.

use super::Violations;
use super::wasm_plugin::{placement, wasm};
use crate::field_path::FieldPath;
use crate::traffic_extension::TrafficExtensionSpec;

/// Longest script, in bytes.
pub(crate) const MAX_LUA_BYTES: usize = 65_536;

/// The rules of `spec`, which is at `path`.
pub(crate) fn traffic_extension(spec: &TrafficExtensionSpec, path: &FieldPath, v: &mut Violations) {
    placement(&spec.plugin, path, v);
    if spec.has_wasm == spec.lua.is_some() {
        v.error(path.clone(), "exactly one of `wasm` and `lua` must be set");
    }
    if spec.has_wasm {
        wasm(&spec.plugin, &path.field("wasm"), v);
    }
    if let Some(lua) = &spec.lua {
        let path = path.field("lua").field("inlineCode");
        let length = lua.inline_code.len();
        if length == 0 {
            v.error(path, "must not be empty");
        } else if length > MAX_LUA_BYTES {
            v.error(path, format!("has {length} bytes, at most {MAX_LUA_BYTES} are possible"));
        }
    }
}
