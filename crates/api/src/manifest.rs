//! Multi-document YAML in, resources with file positions out.
//!
//! Every document stands for itself: a syntax error or a violated rule in one loses none of the
//! others, and everything that is wrong with a file is reported at once. JSON is read as well,
//! since it is YAML. Values mean what Kubernetes takes them for (`on` is a boolean, `010` is 8).

mod attachment;
mod authorization_policy;
mod documents;
mod fields;
mod findings;
mod json;
mod kinds;
mod mesh_config;
mod metadata;
mod node;
mod peer_authentication;
mod request_authentication;
mod scalar;
mod secret;
mod telemetry;
#[cfg(test)]
mod tests;
mod traffic_extension;
mod values;
mod virtual_service;
mod wasm_plugin;
mod workload_objects;
mod yaml;

use std::collections::BTreeMap;

pub(crate) use self::fields::{ProtoEnum, nearest};
use self::findings::Findings;
pub use self::kinds::Resource;
use self::kinds::{KINDS, KnownKind, group};
use self::node::{Mark, Node, Value};
use crate::diagnostic::{Diagnostic, Severity, quoted};
use crate::field_path::FieldPath;
use crate::meta::Position;
use crate::validation::Violation;

/// Largest text that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;

/// What one file contains.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ParsedFile {
    /// Valid resources in the order of the file.
    pub resources: Vec<Resource>,
    /// Documents of kinds that are not known here, in the order of the file.
    pub ignored: Vec<IgnoredDocument>,
    /// Everything that is wrong, in the order of the file, at most 1000 findings.
    pub diagnostics: Vec<Diagnostic>,
}

/// A document of a kind that is not known here.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IgnoredDocument {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.name`, empty if absent.
    pub name: String,
    /// Where the document begins.
    pub position: Position,
}

/// Reads all documents of a file; `file` is the name that positions show.
///
/// Lists (`kind: List`, `kind: WasmPluginList`) are taken for their items, empty documents are
/// skipped. A document with an error is left out of `resources`, one with a warning is not.
pub fn parse_file(file: &str, text: &str) -> ParsedFile {
    let mut findings = Findings::new(file);
    let mut parsed = ParsedFile::default();
    if text.len() > MAX_FILE_BYTES {
        let message =
            format!("the file has {} bytes, at most {MAX_FILE_BYTES} are read", text.len());
        findings.error(Mark { line: 1, column: 1 }, &FieldPath::root(), message, None);
    } else {
        for root in yaml::read(text, &mut findings) {
            let document =
                Document { root: &root, node: &root, path: FieldPath::root(), item_type: None };
            document.read(&mut parsed, &mut findings);
        }
    }
    parsed.diagnostics = findings.into_diagnostics();
    parsed
}

/// Reports every resource whose kind, namespace and name an earlier one has.
///
/// The first one, by file name and line, stays; [`crate::plan()`] leaves the others out.
pub fn duplicates(resources: &[Resource]) -> Vec<Diagnostic> {
    let mut sorted: Vec<&Resource> = resources.iter().collect();
    sorted.sort_by_key(|resource| resource.position());
    let mut first = BTreeMap::new();
    let mut diagnostics = Vec::new();
    for resource in sorted {
        let identity = (resource.kind(), resource.group(), resource.namespaced_name());
        if let Some(position) = first.get(&identity) {
            let (kind, _, name) = identity;
            diagnostics.push(Diagnostic {
                severity: Severity::Error,
                position: resource.position().clone(),
                path: "metadata.name".into(),
                message: format!("{kind} `{name}` is given twice, first at {position}"),
                hint: Some("rename or remove one of the two".into()),
            });
        } else {
            first.insert(identity, resource.position());
        }
    }
    diagnostics
}

/// An object on its way from a tree to a resource.
struct Document<'a> {
    /// The tree that paths start from.
    root: &'a Node,
    /// The object, `root` itself or an item of a list in it.
    node: &'a Node,
    path: FieldPath,
    /// `apiVersion` and `kind` that an item of a typed list may omit.
    item_type: Option<(String, String)>,
}

/// Every document as JSON, as an API server gets it.
#[cfg(test)]
pub(crate) fn documents_as_json(text: &str) -> Vec<serde_json::Value> {
    let mut findings = Findings::new("test");
    let documents = yaml::read(text, &mut findings).iter().map(Node::to_json).collect();
    assert_eq!(findings.into_diagnostics(), []);
    documents
}

fn known_kind(api_version: &str, kind: &str) -> Option<&'static KnownKind> {
    KINDS.iter().find(|known| known.kind == kind && known.api_versions.contains(&api_version))
}

fn is_istio_group(known: &KnownKind) -> bool {
    known.api_versions.iter().any(|version| group(version).ends_with(".istio.io"))
}

/// Whether nobody else is known to have a kind of this name.
fn is_only_of_istio(kind: &str) -> bool {
    KINDS.iter().filter(|known| known.kind == kind).all(is_istio_group)
}

// === impl Document ===

impl Document<'_> {
    fn read(&self, parsed: &mut ParsedFile, findings: &mut Findings) {
        let Some((api_version, kind)) = self.type_meta(findings) else { return };
        let items = self.node.entry("items").map(|entry| &entry.value.value);
        if let (Some(of), Some(Value::Sequence(items))) = (kind.strip_suffix("List"), items) {
            let item_type = (!of.is_empty()).then(|| (api_version.clone(), of.to_owned()));
            let path = self.path.field("items");
            for (index, node) in items.iter().enumerate() {
                let (path, item_type) = (path.index(index), item_type.clone());
                Document { root: self.root, node, path, item_type }.read(parsed, findings);
            }
        } else if let Some(known) = known_kind(&api_version, &kind) {
            parsed.resources.extend((known.read)(self, findings));
        } else {
            self.warn_about_similar_type(&api_version, &kind, findings);
            let name = self.node.entry("metadata").and_then(|entry| entry.value.text("name"));
            parsed.ignored.push(IgnoredDocument {
                api_version,
                kind,
                name: name.unwrap_or_default().to_owned(),
                position: findings.position(self.node.mark),
            });
        }
    }

    /// `apiVersion` and `kind`.
    fn type_meta(&self, findings: &mut Findings) -> Option<(String, String)> {
        let error = |path: &FieldPath, message: String, findings: &mut Findings| {
            findings.error(self.node.mark, path, message, None);
            None
        };
        if !matches!(self.node.value, Value::Mapping(_)) {
            let message = format!("a document must be an object, not {}", self.node.value.kind());
            return error(&self.path, message, findings);
        }
        let default = self.item_type.as_ref();
        let field = |name: &str, default: Option<&String>| match self.node.entry(name) {
            Some(entry) => match &entry.value.value {
                Value::String(text) if !text.is_empty() => Ok(text.clone()),
                _ => Err("must be a string that is not empty"),
            },
            None => default.cloned().ok_or("is required"),
        };
        match (
            field("apiVersion", default.map(|(api_version, _)| api_version)),
            field("kind", default.map(|(_, kind)| kind)),
        ) {
            (Ok(api_version), Ok(kind)) => Some((api_version, kind)),
            (Err(message), _) => error(&self.path.field("apiVersion"), message.into(), findings),
            (_, Err(message)) => error(&self.path.field("kind"), message.into(), findings),
        }
    }

    /// A misspelt type would otherwise be a plugin or a policy that silently does not run.
    fn warn_about_similar_type(&self, api_version: &str, kind: &str, findings: &mut Findings) {
        let same_kind = KINDS.iter().find(|known| {
            let group_of = known.api_versions.first().map_or("", |version| group(version));
            known.kind == kind && (group_of == group(api_version) || is_only_of_istio(kind))
        });
        let similar = same_kind.or_else(|| {
            let of_version = || {
                let is_istio = |known: &&KnownKind| is_istio_group(known);
                let has_version = |known: &&KnownKind| known.api_versions.contains(&api_version);
                KINDS.iter().filter(is_istio).filter(has_version)
            };
            let names: Vec<_> = of_version().map(|known| known.kind).collect();
            let name = nearest(kind, &names)?;
            of_version().find(|known| known.kind == name)
        });
        let Some(known) = similar else { return };
        let message = format!("`{}`, `{}` is not a known type", quoted(api_version), quoted(kind));
        let version = known.api_versions.first().copied().unwrap_or_default();
        let hint = format!("did you mean `apiVersion: {version}`, `kind: {}`?", known.kind);
        let path = self.path.field(if known.kind == kind { "apiVersion" } else { "kind" });
        findings.warning(self.root.locate(&path), &path, message, Some(hint));
    }

    /// Places a violation, unless decoding has reported the same field or one around it.
    fn report(&self, violation: Violation, reported: &[String], findings: &mut Findings) {
        let path = violation.path.to_string();
        let is_inside = |outer: &String| {
            path.strip_prefix(outer.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        if !reported.iter().any(is_inside) {
            let mark = self.root.locate(&violation.path);
            let Violation { severity, path, message, hint } = violation;
            findings.push(severity, mark, &path, message, hint);
        }
    }
}
