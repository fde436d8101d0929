//! Decodes a `Secret` from its document. No finding quotes a value.
//!
//! Source: Kubernetes, `core/v1` "Secret" and its validation.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

use super::fields::{Field, Fields};
use super::findings::Findings;
use super::kinds::ReadObject;
use super::node::{Entry, Value};
use super::{Document, metadata};
use crate::field_path::FieldPath;
use crate::secret::{DEFAULT_TYPE, DockerConfigForm, SECRET_API_VERSION, SECRET_KIND, Secret};

/// Longest name of a key, in characters.
const MAX_KEY_LEN: usize = 253;

// === impl Secret ===

impl ReadObject for Secret {
    const KIND: &'static str = SECRET_KIND;
    const API_VERSIONS: &'static [&'static str] = &[SECRET_API_VERSION];

    fn read_object(document: &Document<'_>, findings: &mut Findings) -> Option<Self> {
        document.secret(findings)
    }
}

// === impl Document ===

impl Document<'_> {
    /// Decodes and validates a secret; `None` if there was an error.
    fn secret(&self, findings: &mut Findings) -> Option<Secret> {
        let errors_before = findings.errors();
        let document = Field { path: self.path.clone(), node: self.node, key_mark: self.node.mark };
        let mut fields = Fields::of(&document, findings)?.exact_names();
        fields.ignore(&["apiVersion", "kind", "immutable"]);
        let mut meta = fields
            .required("metadata", findings)
            .and_then(|field| Fields::of(&field, findings))
            .map(|of| metadata::metadata(of, findings))
            .unwrap_or_default();
        // `kubectl` keeps the whole object, values included, in an annotation.
        meta.annotations.clear();
        if meta.name.is_empty() {
            let path = self.path.field("metadata").field("name");
            findings.error(self.root.locate(&path), &path, "is required", None);
        }
        let type_ = fields.string("type", findings).filter(|text| !text.is_empty());
        let type_ = type_.unwrap_or_else(|| DEFAULT_TYPE.to_owned());
        let mut content = entries(&mut fields, "data", findings, decode);
        let text = entries(&mut fields, "stringData", findings, |text| Ok(text.as_bytes().into()));
        fields.finish(findings);
        let text_keys: Vec<String> = text.keys().cloned().collect();
        content.extend(text);
        if findings.errors() == errors_before
            && let Some(form) = DockerConfigForm::of_type(&type_)
        {
            let is_text = text_keys.iter().any(|key| key == form.key());
            let path = self.path.field(if is_text { "stringData" } else { "data" });
            self.check_pull_secret(form, &content, &path.key(form.key()), findings);
        }
        let position = findings.position(self.node.mark);
        let secret = Secret { meta, type_, content, position };
        (findings.errors() == errors_before).then_some(secret)
    }

    /// A secret for pulling must have its key, and JSON under it, or an API server refuses it.
    fn check_pull_secret(
        &self,
        form: DockerConfigForm,
        content: &BTreeMap<String, Vec<u8>>,
        path: &FieldPath,
        findings: &mut Findings,
    ) {
        let mark = self.root.locate(path);
        match content.get(form.key()) {
            None => {
                let message = format!("is required in a secret of type `{}`", form.secret_type());
                findings.error(mark, path, message, None);
            }
            Some(bytes) if serde_json::from_slice::<IgnoredAny>(bytes).is_err() => {
                findings.error(mark, path, "is not JSON", None);
            }
            Some(_) => {}
        }
    }
}

/// The entries of `data` or `stringData`; what cannot be decoded is reported and left out.
fn entries(
    fields: &mut Fields<'_>,
    name: &'static str,
    findings: &mut Findings,
    decode: impl Fn(&str) -> Result<Vec<u8>, &'static str>,
) -> BTreeMap<String, Vec<u8>> {
    let mut content = BTreeMap::new();
    let Some(field) = fields.get(name, findings) else { return content };
    let Value::Mapping(entries) = &field.node.value else {
        field.mismatch("an object", findings);
        return content;
    };
    for Entry { key, key_mark, value, .. } in entries {
        let entry = Field { path: field.path.key(key), node: value, key_mark: *key_mark };
        let is_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > MAX_KEY_LEN || !key.bytes().all(is_key) {
            let message = "a key consists of letters, digits, `-`, `_` and `.`".to_owned();
            findings.error(*key_mark, &entry.path, message, None);
            continue;
        }
        // A value that is null is an empty one, as in Kubernetes.
        let text = match &value.value {
            Value::Null => Some(String::new()),
            _ => entry.string(findings),
        };
        match text.as_deref().map(&decode) {
            Some(Ok(bytes)) => drop(content.insert(key.clone(), bytes)),
            Some(Err(message)) => {
                let hint = "text as it is belongs into `stringData`".to_owned();
                entry.error(message.to_owned(), Some(hint), findings);
            }
            None => {}
        }
    }
    content
}

/// Standard base64; line breaks are skipped, as Kubernetes' reader does.
fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    let text: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
    STANDARD.decode(text).map_err(|_| "is not base64")
}
