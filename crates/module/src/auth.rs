//! Who pulls: credentials by registry and repository.
//!
//! Nothing is read from the user's home or from the environment, and no helper program is run.

use std::{fmt, sync::Arc};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use wasmplug_api::{Digest, DockerConfigForm, ImageReference};

/// Names under which Docker Hub is known; the first is what references resolve to.
const DOCKER_HUB_NAMES: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];
/// Base64 with or without padding, as different tools write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How many registries an error names.
const MAX_PLACES: usize = 8;

/// A parsed pull secret; cheap to clone.
///
/// `Debug` shows the registries and never a secret.
///
/// Source: Kubernetes, types `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`;
/// Docker, `config.json`.
#[derive(Clone, PartialEq, Eq)]
pub struct RegistryCredentials {
    entries: Arc<Vec<Entry>>,
}

/// Why a pull secret cannot be used; no variant contains what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Not JSON, or without `auths`.
    #[error("the pull secret is not a Docker configuration at line {line}, column {column}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An entry whose `auth` is not `user:password` in base64.
    #[error("the `auth` of `{registry}` in the pull secret is not `user:password` in base64")]
    Auth {
        /// Key of the entry.
        registry: String,
    },
    /// An entry with nothing in it, as credential helpers leave behind.
    #[error("the pull secret has no credentials for `{registry}`")]
    Empty {
        /// Key of the entry.
        registry: String,
    },
}

/// What is shown to one registry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// User and password.
    Basic { user: String, password: Secret },
    /// A refresh token, to be exchanged for an access token.
    IdentityToken(Secret),
    /// An access token.
    RegistryToken(Secret),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    /// Host with an optional port, lower case.
    host: String,
    /// Repositories it is for: that path and everything below; empty for all.
    path: String,
    credential: Credential,
}

#[derive(Deserialize)]
struct DockerConfig {
    // A map would lose the order, in which the first of equal hosts counts.
    auths: serde_json::Map<String, Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

// === impl RegistryCredentials ===

impl RegistryCredentials {
    /// Parses the content of a pull secret in this form.
    ///
    /// # Errors
    ///
    /// As [`Self::from_docker_config`].
    pub fn parse(form: DockerConfigForm, json: &[u8]) -> Result<Self, CredentialsError> {
        match form {
            DockerConfigForm::ConfigJson => Self::from_docker_config(json),
            DockerConfigForm::Cfg => {
                let auths = serde_json::from_slice(json).map_err(|e| malformed(&e))?;
                Self::from_entries(&auths)
            }
        }
    }

    /// Parses a Docker configuration, `config.json`.
    ///
    /// `credsStore` and `credHelpers` are not looked at: they name programs to run.
    ///
    /// # Errors
    ///
    /// When it is not a Docker configuration or an entry holds no usable credentials.
    pub fn from_docker_config(json: &[u8]) -> Result<Self, CredentialsError> {
        let config: DockerConfig = serde_json::from_slice(json).map_err(|e| malformed(&e))?;
        Self::from_entries(&config.auths)
    }

    fn from_entries(auths: &serde_json::Map<String, Value>) -> Result<Self, CredentialsError> {
        let entries: Result<Vec<Entry>, _> =
            auths.iter().map(|(key, entry)| Entry::parse(key, entry)).collect();
        Ok(Self { entries: Arc::new(entries?) })
    }

    /// The registries and repositories that it has something for, for error messages.
    pub(crate) fn places(&self) -> Vec<String> {
        let place = |entry: &Entry| match entry.path.as_str() {
            "" => entry.host.clone(),
            path => format!("{}/{path}", entry.host),
        };
        self.entries.iter().take(MAX_PLACES).map(place).collect()
    }

    /// The most specific credential for an image, if there is one.
    ///
    /// Differs: Istio takes `ghcr.io/org` for all of `ghcr.io`; here, as in Kubernetes, it is for
    /// what is below that path.
    pub(crate) fn find(&self, reference: &ImageReference) -> Option<&Credential> {
        let applies = |entry: &&Entry| {
            let rest = reference.repository.strip_prefix(entry.path.as_str());
            let inside = rest
                .is_some_and(|it| entry.path.is_empty() || it.is_empty() || it.starts_with('/'));
            inside && same_registry(&entry.host, &reference.registry)
        };
        // The last of equally long ones would win, hence in reverse.
        let matching = self.entries.iter().rev().filter(applies);
        matching.max_by_key(|entry| entry.path.len()).map(|entry| &entry.credential)
    }
}

impl fmt::Debug for RegistryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registries = self.entries.iter().map(|entry| &entry.host);
        f.debug_set().entries(registries).finish()
    }
}

// === impl Credential ===

impl Credential {
    /// User and password from a URL, if it has them.
    pub(crate) fn from_url(url: &url::Url) -> Option<Self> {
        let password = url.password().unwrap_or_default();
        if url.username().is_empty() && password.is_empty() {
            return None;
        }
        Some(Self::Basic {
            user: percent_decode(url.username()),
            password: Secret(percent_decode(password)),
        })
    }

    /// Identifies the credential without showing it.
    pub(crate) fn fingerprint(&self, salt: &[u8]) -> Digest {
        let (kind, user, secret) = match self {
            Self::Basic { user, password } => ("basic", user.as_str(), password),
            Self::IdentityToken(token) => ("identity", "", token),
            Self::RegistryToken(token) => ("registry", "", token),
        };
        let mut hash = Sha256::new();
        for part in [salt, kind.as_bytes(), user.as_bytes(), secret.0.as_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Digest::sha256_of(&hash.finalize())
    }
}

// === impl Secret ===

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

// === impl Entry ===

impl Entry {
    fn parse(key: &str, value: &Value) -> Result<Self, CredentialsError> {
        let registry = || key.to_owned();
        let auth: AuthEntry = serde_json::from_value(value.clone())
            .map_err(|_| CredentialsError::Auth { registry: registry() })?;
        let credential = if !auth.registrytoken.is_empty() {
            Credential::RegistryToken(Secret(auth.registrytoken))
        } else if !auth.identitytoken.is_empty() {
            Credential::IdentityToken(Secret(auth.identitytoken))
        } else if !auth.auth.is_empty() {
            let (user, password) = decode_pair(&auth.auth)
                .ok_or_else(|| CredentialsError::Auth { registry: registry() })?;
            Credential::Basic { user, password: Secret(password) }
        } else if !auth.username.is_empty() {
            Credential::Basic { user: auth.username, password: Secret(auth.password) }
        } else {
            return Err(CredentialsError::Empty { registry: registry() });
        };
        let (host, path) = split_key(key);
        Ok(Self { host, path, credential })
    }
}

fn malformed(error: &serde_json::Error) -> CredentialsError {
    CredentialsError::Malformed { line: error.line(), column: error.column() }
}

/// Host and repository path of a key, which may be a URL: `https://index.docker.io/v1/`.
fn split_key(key: &str) -> (String, String) {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_matches('/');
    // The version of the registry's interface, not a repository.
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    (host.to_ascii_lowercase(), path.to_owned())
}

fn same_registry(one: &str, other: &str) -> bool {
    let canonical = |host: &str| {
        let hub = DOCKER_HUB_NAMES.contains(&host);
        if hub {
            "docker.io".to_owned()
        } else {
            host.strip_suffix(":443").unwrap_or(host).to_owned()
        }
    };
    canonical(one) == canonical(other)
}

fn decode_pair(encoded: &str) -> Option<(String, String)> {
    let decoded = BASE64.decode(encoded.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    // Docker's own tools pad with zeros at times.
    let password = password.trim_end_matches('\0');
    (!user.is_empty()).then(|| (user.to_owned(), password.to_owned()))
}

fn percent_decode(text: &str) -> String {
    // To the form decoder these three are not themselves.
    let text = text.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
    let mut pairs = url::form_urlencoded::parse(text.as_bytes());
    pairs.next().map(|(name, _)| name.into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
