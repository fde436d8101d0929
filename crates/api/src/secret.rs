//! Kubernetes' `Secret`, of which pull secrets are what is used here.
//!
//! Source: Kubernetes, `core/v1` "Secret".

use std::collections::BTreeMap;
use std::fmt;

use crate::meta::{NamespacedName, ObjectMeta, Position};

/// `apiVersion` of the resource.
pub const SECRET_API_VERSION: &str = "v1";
/// `kind` of the resource.
pub const SECRET_KIND: &str = "Secret";

/// Type of a secret that has not said any.
pub(crate) const DEFAULT_TYPE: &str = "Opaque";

/// A `Secret` object and where it was written; `Debug` shows keys and no value.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// Name, namespace and the like; without annotations, which may repeat the content.
    pub meta: ObjectMeta,
    /// `type`: what its keys are, such as `kubernetes.io/dockerconfigjson`.
    pub type_: String,
    /// `data`, decoded, and `stringData`, which wins over it.
    pub content: BTreeMap<String, Vec<u8>>,
    /// Where the document begins.
    pub position: Position,
}

/// The two forms in which Kubernetes keeps credentials of registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DockerConfigForm {
    /// `.dockerconfigjson`: a `config.json` of Docker, entries under `auths`.
    ConfigJson,
    /// `.dockercfg`: its predecessor, the entries themselves.
    Cfg,
}

// === impl Secret ===

impl Secret {
    /// The object's identity.
    pub fn namespaced_name(&self) -> NamespacedName {
        self.meta.namespaced_name()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("name", &self.meta.namespaced_name())
            .field("type_", &self.type_)
            .field("keys", &self.content.keys().collect::<Vec<_>>())
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

// === impl DockerConfigForm ===

impl DockerConfigForm {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::ConfigJson, Self::Cfg];

    /// The form that a secret of this type has; `None` if it is no pull secret.
    pub fn of_type(type_: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|form| form.secret_type() == type_)
    }

    /// The `type` of such a secret.
    pub fn secret_type(self) -> &'static str {
        match self {
            Self::ConfigJson => "kubernetes.io/dockerconfigjson",
            Self::Cfg => "kubernetes.io/dockercfg",
        }
    }

    /// The key under which it has the credentials.
    pub fn key(self) -> &'static str {
        match self {
            Self::ConfigJson => ".dockerconfigjson",
            Self::Cfg => ".dockercfg",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Resource, parse_file};

    /// A secret whose every value is or holds `hunter2`, which is `aHVudGVyMg==` in base64.
    const TEXT: &str = "
apiVersion: v1
kind: Secret
metadata:
  name: a
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{\"a\":\"hunter2\"}'}
data: {binary: aHVudGVyMg==, both: eA==}
stringData: {text: hunter2, both: hunter2}
";

    #[test]
    fn values_are_decoded_and_text_wins_over_binary() {
        let parsed = parse_file("a.yaml", TEXT);
        let [Resource::Secret(secret)] = &parsed.resources[..] else { panic!("{parsed:?}") };
        for key in ["binary", "both", "text"] {
            assert_eq!(secret.content[key], b"hunter2", "{key}");
        }
        assert_eq!(secret.type_, "Opaque");
    }

    #[test]
    fn neither_debug_text_nor_findings_show_a_value() {
        let parsed = parse_file("a.yaml", TEXT);
        let text = format!("{parsed:?}");
        assert!(text.contains("binary") && !text.contains("hunter2"), "{text}");
        assert!(!text.contains("104, 117"), "{text}");
        let broken = TEXT.replace("aHVudGVyMg==", "hunter2");
        let text = format!("{:?}", parse_file("a.yaml", &broken));
        assert!(text.contains("is not base64") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn only_two_types_are_for_pulling() {
        let of = DockerConfigForm::of_type;
        assert_eq!(of("kubernetes.io/dockerconfigjson"), Some(DockerConfigForm::ConfigJson));
        assert_eq!(of("kubernetes.io/dockercfg"), Some(DockerConfigForm::Cfg));
        assert_eq!(of("Opaque"), None);
        assert_eq!(of("kubernetes.io/dockerconfigjson "), None);
    }
}
