//! The rules of annotations that a plugin's resource may have for us.

use super::Violations;
use crate::extras::{PREFIX, PluginExtras};
use crate::field_path::FieldPath;
use crate::meta::ObjectMeta;
use crate::wasm_plugin::PluginType;

/// Checks the annotations of a plugin, whose `metadata` is at `path`.
pub(crate) fn extras(meta: &ObjectMeta, kind: PluginType, path: &FieldPath, v: &mut Violations) {
    let path = path.field("annotations");
    match PluginExtras::read(&meta.annotations) {
        Ok(extras) if kind == PluginType::Network && extras.needs_http() => {
            let first = meta.annotations.keys().find(|name| name.starts_with(PREFIX));
            let path = first.map_or_else(|| path.clone(), |name| path.key(name));
            v.error(path, "a plugin of type `NETWORK` has neither one VM nor a candidate");
        }
        Ok(_) => {}
        Err(problems) => {
            for problem in problems {
                v.error_with_hint(path.key(&problem.annotation), problem.message, problem.hint);
            }
        }
    }
}
