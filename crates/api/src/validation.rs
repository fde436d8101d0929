//! What is wrong with a resource, field by field; nothing stops at the first finding.
//!
//! The rules are those of Istio's admission: a manifest that is valid here is valid in a cluster,
//! up to the URLs that [`crate::ModuleUrl::parse`] understands and Istio does not.

pub(crate) mod attachment;
mod authorization_policy;
mod condition_key;
mod extras;
mod metadata;
mod peer_authentication;
mod request_authentication;
mod silent;
mod telemetry;
pub(crate) mod traffic_extension;
mod values;
mod virtual_service;
pub(crate) mod wasm_plugin;

pub(crate) use self::authorization_policy::authorization_policy;
pub(crate) use self::extras::extras;
pub(crate) use self::metadata::metadata;
pub(crate) use self::peer_authentication::peer_authentication;
pub(crate) use self::request_authentication::request_authentication;
pub(crate) use self::telemetry::telemetry;
pub(crate) use self::traffic_extension::traffic_extension;
pub(crate) use self::virtual_service::virtual_service;
pub use self::wasm_plugin::validate_wasm_plugin;
pub(crate) use self::wasm_plugin::wasm_plugin;
use crate::diagnostic::Severity;
use crate::field_path::FieldPath;

/// One violated rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// [`Severity::Error`] if Istio refuses the resource.
    pub severity: Severity,
    /// The field.
    pub path: FieldPath,
    /// What is wrong: lower case, no full stop, literals in backticks.
    pub message: String,
    /// What to do about it, where that is known.
    pub hint: Option<String>,
}

/// The violations of one resource so far.
#[derive(Debug, Default)]
pub(crate) struct Violations {
    pub(crate) found: Vec<Violation>,
}

// === impl Violations ===

impl Violations {
    pub(crate) fn error(&mut self, path: FieldPath, message: impl Into<String>) {
        self.push(Severity::Error, path, message, None);
    }

    fn error_with_hint(
        &mut self,
        path: FieldPath,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.push(Severity::Error, path, message, hint);
    }

    pub(crate) fn warning(&mut self, path: FieldPath, message: impl Into<String>, hint: &str) {
        self.push(Severity::Warning, path, message, Some(hint.to_owned()));
    }

    fn push(
        &mut self,
        severity: Severity,
        path: FieldPath,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        self.found.push(Violation { severity, path, message: message.into(), hint });
    }

    /// Refuses a text with more than `most` characters.
    fn length(&mut self, path: &FieldPath, text: &str, most: usize) {
        let length = text.chars().count();
        if length > most {
            self.error(
                path.clone(),
                format!("has {length} characters, at most {most} are possible"),
            );
        }
    }

    /// Refuses an empty text and one with more than `most` characters.
    fn length_from_one(&mut self, path: &FieldPath, text: &str, most: usize) {
        if text.is_empty() {
            self.error(path.clone(), "must not be empty");
        }
        self.length(path, text, most);
    }

    /// Refuses a list with more than `most` elements.
    fn count(&mut self, path: &FieldPath, count: usize, most: usize) {
        if count > most {
            self.error(path.clone(), format!("has {count} entries, at most {most} are possible"));
        }
    }
}
