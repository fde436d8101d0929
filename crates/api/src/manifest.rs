//! Multi-document YAML in, resources with file positions out.

use crate::diagnostic::Diagnostic;
use crate::meta::{NamespacedName, Position};
use crate::wasm_plugin::WasmPlugin;

/// What one file contains.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParsedFile {
    /// Valid resources in the order of the file.
    pub resources: Vec<Resource>,
    /// Documents of kinds that are not known here.
    pub ignored: Vec<IgnoredDocument>,
    /// Everything that is wrong, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// A resource of a known kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Resource {
    /// `extensions.istio.io/v1alpha1`, `WasmPlugin`.
    WasmPlugin(WasmPlugin),
}

/// A document of a kind that is not known here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IgnoredDocument {
    /// `apiVersion`, empty if absent.
    pub api_version: String,
    /// `kind`, empty if absent.
    pub kind: String,
    /// `metadata.name`, empty if absent.
    pub name: String,
    /// Where the document begins.
    pub position: Position,
}

/// Stub.
pub fn parse_file(_file: &str, _text: &str) -> ParsedFile {
    ParsedFile::default()
}

/// Stub.
pub fn duplicates(_resources: &[Resource]) -> Vec<Diagnostic> {
    Vec::new()
}

// === impl Resource ===

impl Resource {
    /// Namespace and name.
    pub fn namespaced_name(&self) -> NamespacedName {
        match self {
            Self::WasmPlugin(plugin) => plugin.meta.namespaced_name(),
        }
    }

    /// Where the document begins.
    pub fn position(&self) -> &Position {
        match self {
            Self::WasmPlugin(plugin) => &plugin.position,
        }
    }
}
