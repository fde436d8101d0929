//! Multi-document YAML in, resources with file positions out.
//!
//! Every document stands for itself: a syntax error or a violated rule in one loses none of the
//! others, and everything that is wrong with a file is reported at once. JSON is read as well,
//! since it is YAML. Values mean what Kubernetes takes them for (`on` is a boolean, `010` is 8).

mod documents;
mod fields;
mod findings;
mod json;
mod metadata;
mod node;
mod scalar;
mod secret;
#[cfg(test)]
mod tests;
mod wasm_plugin;
mod yaml;

use std::collections::BTreeMap;

use self::fields::{Field, Fields, nearest};
use self::findings::Findings;
use self::node::{Mark, Node, Value};
use crate::diagnostic::{Diagnostic, Severity, quoted};
use crate::field_path::FieldPath;
use crate::meta::{NamespacedName, Position};
use crate::secret::{SECRET_API_VERSION, SECRET_KIND, Secret};
use crate::validation::{self, Violation};
use crate::wasm_plugin::{API_VERSION, KIND, WasmPlugin};

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

/// A resource of a known kind.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "resources are few and mostly plugins")]
pub enum Resource {
    /// `extensions.istio.io/v1alpha1`, `WasmPlugin`.
    WasmPlugin(WasmPlugin),
    /// `v1`, `Secret`.
    Secret(Secret),
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
        let identity = (resource.kind(), resource.namespaced_name());
        if let Some(position) = first.get(&identity) {
            let (kind, name) = identity;
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
        } else if (api_version.as_str(), kind.as_str()) == (API_VERSION, KIND) {
            if let Some(plugin) = self.wasm_plugin(findings) {
                parsed.resources.push(Resource::WasmPlugin(plugin));
            }
        } else if (api_version.as_str(), kind.as_str()) == (SECRET_API_VERSION, SECRET_KIND) {
            parsed.resources.extend(self.secret(findings).map(Resource::Secret));
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

    /// A misspelt type would otherwise be a plugin that silently does not run.
    fn warn_about_similar_type(&self, api_version: &str, kind: &str, findings: &mut Findings) {
        let is_kind = kind == KIND;
        let is_similar_kind = api_version == API_VERSION && nearest(kind, &[KIND]).is_some();
        if is_kind || is_similar_kind {
            let message =
                format!("`{}`, `{}` is not a known type", quoted(api_version), quoted(kind));
            let hint = format!("did you mean `apiVersion: {API_VERSION}`, `kind: {KIND}`?");
            let path = self.path.field(if is_kind { "apiVersion" } else { "kind" });
            findings.warning(self.root.locate(&path), &path, message, Some(hint));
        }
    }

    /// Decodes and validates; `None` if there was an error.
    fn wasm_plugin(&self, findings: &mut Findings) -> Option<WasmPlugin> {
        let (errors_before, findings_before) = (findings.errors(), findings.len());
        let document = Field { path: self.path.clone(), node: self.node, key_mark: self.node.mark };
        let mut fields = Fields::of(&document, findings)?.exact_names();
        fields.ignore(&["apiVersion", "kind", "status"]);
        let mut object = |name, findings: &mut Findings| {
            let field = fields.required(name, findings)?;
            Fields::of(&field, findings)
        };
        let meta = object("metadata", findings).map(|of| metadata::metadata(of, findings));
        let spec = object("spec", findings).map(|of| wasm_plugin::spec(of, findings));
        fields.finish(findings);

        let position = findings.position(self.node.mark);
        let plugin =
            WasmPlugin { meta: meta.unwrap_or_default(), spec: spec.unwrap_or_default(), position };
        let reported: Vec<String> =
            findings.error_paths_since(findings_before).map(str::to_owned).collect();
        for violation in validation::validate_wasm_plugin(&plugin, &self.path) {
            self.report(violation, &reported, findings);
        }
        (findings.errors() == errors_before).then_some(plugin)
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

// === impl Resource ===

impl Resource {
    /// Kind, such as `WasmPlugin`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::WasmPlugin(_) => KIND,
            Self::Secret(_) => SECRET_KIND,
        }
    }

    /// Namespace and name.
    pub fn namespaced_name(&self) -> NamespacedName {
        match self {
            Self::WasmPlugin(plugin) => plugin.meta.namespaced_name(),
            Self::Secret(secret) => secret.namespaced_name(),
        }
    }

    /// Where the document begins.
    pub fn position(&self) -> &Position {
        match self {
            Self::WasmPlugin(plugin) => &plugin.position,
            Self::Secret(secret) => &secret.position,
        }
    }
}
