//! From the name in `imagePullSecret` to credentials.
//!
//! A plugin that names a secret is pulled with it or not at all: what cannot be had or read is an
//! error, and never a pull without credentials.

use std::{collections::BTreeMap, fmt, sync::Arc};

use wasmplug_api::{DockerConfigForm, ModuleUrl, NamespacedName, PlannedPlugin, Secret};

use crate::auth::{CredentialsError, RegistryCredentials};

/// The scheme that a name may be written with.
///
/// Source: Istio, references to credentials.
const SCHEME: &str = "kubernetes://";

/// The secrets that resources may name; cheap to clone.
///
/// `Debug` shows names and no content.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PullSecrets {
    parsed: Arc<BTreeMap<NamespacedName, Result<RegistryCredentials, PullSecretError>>>,
}

/// Why a pull secret cannot be used; no variant contains what it holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PullSecretError {
    /// There is none of this name.
    #[error("the pull secret {} does not exist", shown(.secret))]
    Missing {
        /// The plugin's namespace and the name it gives.
        secret: NamespacedName,
    },
    /// A secret of another kind.
    #[error("the secret {} has the type `{type_}`, which is not for pulling", shown(.secret))]
    Type {
        /// The secret.
        secret: NamespacedName,
        /// Its type.
        type_: String,
    },
    /// The key that its type demands is not there.
    #[error("the pull secret {} has no key `{key}`", shown(.secret))]
    Key {
        /// The secret.
        secret: NamespacedName,
        /// The key.
        key: &'static str,
    },
    /// It cannot be read.
    #[error("the pull secret {} is malformed", shown(.secret))]
    Malformed {
        /// The secret.
        secret: NamespacedName,
        /// Why.
        #[source]
        source: CredentialsError,
    },
    /// A reference to something else than a secret.
    #[error("`imagePullSecret` has a scheme, and only `kubernetes://` is possible")]
    Scheme,
}

// === impl PullSecrets ===

impl PullSecrets {
    /// What a plugin is pulled with; `None` if it names no secret or is not in a registry.
    ///
    /// A secret is looked for in the plugin's own namespace, whatever the name says.
    ///
    /// Source: Istio, `toSecretResourceName`. Differs: with `builtin://` Istio takes the
    /// credentials of the machine.
    ///
    /// # Errors
    ///
    /// When it names a secret that cannot be used.
    pub fn credentials(
        &self,
        plugin: &PlannedPlugin,
    ) -> Result<Option<RegistryCredentials>, PullSecretError> {
        let (Some(text), ModuleUrl::Oci(_)) = (&plugin.image_pull_secret, &plugin.url) else {
            return Ok(None);
        };
        let name = text.strip_prefix(SCHEME).unwrap_or(text);
        if name.contains("://") {
            return Err(PullSecretError::Scheme);
        }
        let name = name.rsplit('/').next().unwrap_or_default();
        let secret = NamespacedName::new(&plugin.resource.namespace, name);
        match self.parsed.get(&secret) {
            Some(parsed) => parsed.clone().map(Some),
            None => Err(PullSecretError::Missing { secret }),
        }
    }
}

impl<'a> FromIterator<&'a Secret> for PullSecrets {
    /// Of secrets with one name the first counts, as among all resources.
    fn from_iter<I: IntoIterator<Item = &'a Secret>>(secrets: I) -> Self {
        let mut parsed = BTreeMap::new();
        for secret in secrets {
            parsed.entry(secret.namespaced_name()).or_insert_with(|| parse(secret));
        }
        Self { parsed: Arc::new(parsed) }
    }
}

impl fmt::Debug for PullSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.parsed.keys()).finish()
    }
}

fn parse(secret: &Secret) -> Result<RegistryCredentials, PullSecretError> {
    let name = secret.namespaced_name();
    let Some(form) = DockerConfigForm::of_type(&secret.type_) else {
        return Err(PullSecretError::Type { secret: name, type_: secret.type_.clone() });
    };
    let Some(json) = secret.content.get(form.key()) else {
        return Err(PullSecretError::Key { secret: name, key: form.key() });
    };
    RegistryCredentials::parse(form, json)
        .map_err(|source| PullSecretError::Malformed { secret: name, source })
}

/// The name, unless somebody wrote something else where a name belongs, such as the secret itself.
fn shown(secret: &NamespacedName) -> String {
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if !secret.name.is_empty() && secret.name.bytes().all(is_name) {
        format!("`{secret}`")
    } else {
        "that `imagePullSecret` names".to_owned()
    }
}

// === impl PullSecretError ===

impl PullSecretError {
    /// What may help, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { secret } => Some(format!(
                "give it as a `Secret` in the namespace `{}`, beside the plugin",
                secret.namespace
            )),
            Self::Type { .. } => Some(format!(
                "it must be `{}` or `{}`",
                DockerConfigForm::ConfigJson.secret_type(),
                DockerConfigForm::Cfg.secret_type()
            )),
            Self::Scheme => Some("write the name of a `Secret` in the plugin's namespace".into()),
            Self::Key { .. } | Self::Malformed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmplug_api::{Resource, Workload, WorkloadRole, parse_file, plan};

    use super::*;

    const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata: {name: registry, namespace: shop}
type: kubernetes.io/dockerconfigjson
stringData: {.dockerconfigjson: '{\"auths\": {\"r.example\": {\"auth\": \"dXNlcjpodW50ZXIy\"}}}'}
";

    /// What the plugin `shop/demo` is pulled with, if it names this secret and has this URL.
    fn pulled_with(
        secrets: &str,
        name: &str,
        url: &str,
    ) -> Result<Option<RegistryCredentials>, PullSecretError> {
        let plugin = format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: demo, \
             namespace: shop}}\nspec: {{url: '{url}', imagePullSecret: '{name}'}}\n"
        );
        let parsed = parse_file("a.yaml", &format!("{secrets}\n---\n{plugin}"));
        let secrets = parsed.resources.iter().filter_map(|resource| match resource {
            Resource::Secret(secret) => Some(secret),
            _ => None,
        });
        let secrets: PullSecrets = secrets.collect();
        assert!(!format!("{secrets:?}").contains("hunter2"));
        let plan = plan(&parsed.resources, &Workload::new("shop", WorkloadRole::SidecarInbound));
        secrets.credentials(plan.plugins().next().unwrap())
    }

    const IMAGE: &str = "oci://r.example/demo:v1";

    #[test]
    fn every_spelling_of_the_name_is_a_secret_of_the_plugins_namespace() {
        for name in
            ["registry", "kubernetes://registry", "other/registry", "kubernetes://other/registry"]
        {
            assert!(pulled_with(SECRET, name, IMAGE).unwrap().is_some(), "{name}");
        }
        let elsewhere = SECRET.replace("shop", "other");
        let error = pulled_with(&elsewhere, "other/registry", IMAGE).unwrap_err();
        assert_eq!(error.to_string(), "the pull secret `shop/registry` does not exist");
    }

    #[test]
    fn both_types_are_read() {
        let older = SECRET
            .replace("dockerconfigjson", "dockercfg")
            .replace("{\"auths\": {\"r.example\"", "{\"r.example\"")
            .replace("}}}'", "}}'");
        assert!(pulled_with(&older, "registry", IMAGE).unwrap().is_some());
    }

    #[test]
    fn a_secret_that_is_no_use_is_an_error_and_not_a_pull_without() {
        let opaque = SECRET.replace("type: kubernetes.io/dockerconfigjson", "type: Opaque");
        let broken = SECRET.replace("dXNlcjpodW50ZXIy", "hunter2");
        let rows = [
            (SECRET, "gone", "the pull secret `shop/gone` does not exist"),
            (
                SECRET,
                "dXNlcjpodW50ZXIy",
                "the pull secret that `imagePullSecret` names does not exist",
            ),
            (
                SECRET,
                "builtin://",
                "`imagePullSecret` has a scheme, and only `kubernetes://` is possible",
            ),
            (
                &opaque,
                "registry",
                "the secret `shop/registry` has the type `Opaque`, which is not for pulling",
            ),
            (&broken, "registry", "the pull secret `shop/registry` is malformed"),
        ];
        for (secrets, name, expected) in rows {
            let error = pulled_with(secrets, name, IMAGE).unwrap_err();
            assert_eq!(error.to_string(), expected);
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn only_images_are_pulled_with_a_secret() {
        assert_eq!(pulled_with(SECRET, "gone", "https://r.example/demo.wasm"), Ok(None));
        assert_eq!(pulled_with(SECRET, "gone", "file:///demo.wasm"), Ok(None));
    }
}
