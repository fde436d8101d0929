//! Decodes a `TrafficExtension` from its document.
//!
//! Source: Istio API, `extensions/v1alpha1/traffic_extension.proto`.

use super::fields::Fields;
use super::findings::Findings;
use super::kinds::{self, Kind};
use super::wasm_plugin::{placement, wasm};
use crate::field_path::FieldPath;
use crate::meta::Object;
use crate::traffic_extension::{LuaFilter, TrafficExtensionSpec};
use crate::validation::{self, Violations};

impl Kind for TrafficExtensionSpec {
    const KIND: &'static str = "TrafficExtension";
    const API_VERSIONS: &'static [&'static str] = &["extensions.istio.io/v1alpha1"];

    fn read(document: &mut Fields<'_>, findings: &mut Findings) -> Self {
        kinds::spec(document, findings, spec)
    }

    fn validate(object: &Object<Self>, root: &FieldPath, violations: &mut Violations) {
        validation::traffic_extension(&object.spec, &root.field("spec"), violations);
        let metadata = root.field("metadata");
        validation::extras(&object.meta, object.spec.plugin.type_, &metadata, violations);
    }
}

fn spec(mut fields: Fields<'_>, findings: &mut Findings) -> TrafficExtensionSpec {
    let mut plugin = placement(&mut fields, findings);
    let has_wasm = fields.object("wasm", findings, |mut fields, findings| {
        wasm(&mut fields, &mut plugin, findings);
        fields.finish(findings);
    });
    let lua = fields.object("lua", findings, |mut fields, findings| {
        let inline_code = fields.text("inlineCode", findings);
        fields.finish(findings);
        LuaFilter { inline_code }
    });
    fields.finish(findings);
    TrafficExtensionSpec { plugin, has_wasm: has_wasm.is_some(), lua }
}
