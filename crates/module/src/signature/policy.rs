//! Which modules must be signed by whom, decided by who runs the process.
//!
//! ```json
//! {"rules": [
//!   {"prefix": "oci://ghcr.io/acme/", "keyFiles": ["acme.pub"]},
//!   {"prefix": "file:///opt/filters/", "unsigned": true}
//! ]}
//! ```

use std::{io, path::PathBuf};

use serde::Deserialize;
use wasmplug_api::{ModuleUrl, module_url::DOCKER_HUB};

use super::{KeyError, SignatureError, VerificationKeys};

/// Rules by the beginning of a module's URL; the longest that fits counts.
///
/// A module that no rule fits is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignaturePolicy {
    rules: Vec<Rule>,
}

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// Not JSON, or with fields that a policy does not have.
    #[error("it is not a signature policy in JSON")]
    Malformed(#[source] serde_json::Error),
    /// A rule that allows everything or nothing by mistake.
    #[error("the rule for `{prefix}` must have either keys or `\"unsigned\": true`")]
    Ambiguous {
        /// The rule.
        prefix: String,
    },
    /// A key that cannot be used.
    #[error("the rule for `{prefix}` has a key that cannot be used")]
    Key {
        /// The rule.
        prefix: String,
        /// Why.
        #[source]
        source: KeyError,
    },
    /// A file that cannot be read.
    #[error("cannot read the key `{}` of the rule for `{prefix}`", .path.display())]
    File {
        /// The rule.
        prefix: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    prefix: String,
    /// `None`: signatures are not asked for.
    keys: Option<VerificationKeys>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawRule {
    prefix: String,
    #[serde(default)]
    key_files: Vec<PathBuf>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    unsigned: bool,
}

// === impl SignaturePolicy ===

impl SignaturePolicy {
    /// Reads a policy; `read` reads a key file that it names.
    ///
    /// # Errors
    ///
    /// Every variant of [`PolicyError`].
    pub fn parse(
        json: &str,
        read: impl Fn(&PathBuf) -> io::Result<String>,
    ) -> Result<Self, PolicyError> {
        let document: Document = serde_json::from_str(json).map_err(PolicyError::Malformed)?;
        let rules: Result<Vec<Rule>, _> =
            document.rules.into_iter().map(|raw| raw.resolve(&read)).collect();
        Ok(Self { rules: rules? })
    }

    /// The keys, one of which must have signed this module; `None` if it need not be signed.
    pub(crate) fn keys_for(
        &self,
        url: &ModuleUrl,
    ) -> Result<Option<&VerificationKeys>, SignatureError> {
        // `file:///opt/filters/../../tmp` is not below `/opt/filters`.
        let climbs = matches!(url, ModuleUrl::File(path)
            if path.components().any(|it| it == std::path::Component::ParentDir));
        let text = url.to_string();
        let fitting = self.rules.iter().filter(|rule| !climbs && rule.fits(&text));
        let rule = fitting.max_by_key(|rule| rule.prefix.len()).ok_or(SignatureError::NoRule)?;
        Ok(rule.keys.as_ref())
    }
}

// === impl RawRule ===

impl RawRule {
    fn resolve(self, read: impl Fn(&PathBuf) -> io::Result<String>) -> Result<Rule, PolicyError> {
        let Self { prefix, key_files, keys: mut texts, unsigned } = self;
        if unsigned != (key_files.is_empty() && texts.is_empty()) {
            return Err(PolicyError::Ambiguous { prefix });
        }
        for path in key_files {
            let text = match read(&path) {
                Ok(text) => text,
                Err(source) => return Err(PolicyError::File { prefix, path, source }),
            };
            texts.push(text);
        }
        let keys = (!texts.is_empty()).then(|| VerificationKeys::from_pem(&texts.join("\n")));
        let keys = match keys.transpose() {
            Ok(keys) => keys,
            Err(source) => return Err(PolicyError::Key { prefix, source }),
        };
        Ok(Rule { prefix: canonical(&prefix), keys })
    }
}

// === impl Rule ===

impl Rule {
    /// Whether the URL is at or below the prefix; `ghcr.io/acme` is not for `ghcr.io/acme-evil`.
    fn fits(&self, url: &str) -> bool {
        let at_end = self.prefix.is_empty() || self.prefix.ends_with('/');
        url.strip_prefix(&self.prefix)
            .is_some_and(|rest| at_end || rest.is_empty() || rest.starts_with(['/', ':', '@', '?']))
    }
}

/// The prefix as URLs of modules begin: with a scheme, and Docker Hub by its one name.
fn canonical(prefix: &str) -> String {
    let prefix = match prefix {
        "" => return String::new(),
        with if with.contains("://") => with.to_owned(),
        without => format!("oci://{without}"),
    };
    match prefix.strip_prefix("oci://docker.io") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("oci://{DOCKER_HUB}{rest}")
        }
        _ => prefix,
    }
}
