//! Names of secrets and of external authorizers that lead nowhere.

use std::collections::HashMap;

use super::{Findings, Plugin};
use crate::authorization_policy::PolicyAction;
use crate::diagnostic::quoted;
use crate::manifest::Resource;
use crate::mesh_config::ExternalAuthorizer;
use crate::module_url::ModuleUrl;
use crate::secret::DockerConfigForm;

/// Pull secrets that are not there or are of another type.
///
/// One that is not there is told only if the namespace has any secret here: a file with plugins
/// alone says nothing about secrets.
pub(super) fn pull_secrets(
    plugins: &[Plugin<'_>],
    resources: &[Resource],
    findings: &mut Findings,
) {
    let mut by_namespace: HashMap<&str, HashMap<&str, &str>> = HashMap::new();
    for resource in resources {
        if let Resource::Secret(secret) = resource {
            let of_namespace = by_namespace.entry(&secret.meta.namespace).or_default();
            of_namespace.entry(&secret.meta.name).or_insert(&secret.type_);
        }
    }
    for plugin in plugins {
        let Some(text) = &plugin.spec.image_pull_secret else { continue };
        if !matches!(ModuleUrl::parse(&plugin.spec.url), Ok(ModuleUrl::Oci(_))) {
            continue;
        }
        let Some(secrets) = by_namespace.get(plugin.meta.namespace.as_str()) else { continue };
        let name = text.rsplit('/').next().unwrap_or(text);
        let (message, hint) = match secrets.get(name) {
            Some(type_) if DockerConfigForm::of_type(type_).is_some() => continue,
            Some(type_) => (
                format!("the secret has the type `{}`, which is not for pulling", quoted(type_)),
                "make it with `kubectl create secret docker-registry`",
            ),
            None => (
                "no secret of this name is given here".to_owned(),
                "a pull secret is in the namespace of the plugin",
            ),
        };
        findings.warn(plugin.position, "spec.imagePullSecret".into(), message, hint);
    }
}

/// `CUSTOM` policies whose authorizer the mesh does not have.
pub(super) fn authorizers(resources: &[Resource], root_namespace: &str, findings: &mut Findings) {
    let known = |resource: &Resource| match resource {
        Resource::ConfigMap(map) if map.meta.namespace == root_namespace => {
            map.spec.mesh.as_ref().map(|mesh| mesh.authorizers.clone())
        }
        _ => None,
    };
    let known: Vec<ExternalAuthorizer> = resources.iter().filter_map(known).flatten().collect();
    for resource in resources {
        let Resource::AuthorizationPolicy(policy) = resource else { continue };
        let Some(provider) = &policy.spec.provider else { continue };
        if policy.spec.action != PolicyAction::Custom
            || known.iter().any(|authorizer| authorizer.name == *provider)
        {
            continue;
        }
        findings.warn(
            &policy.position,
            "spec.provider.name".into(),
            format!(
                "the mesh has no external authorizer `{}`: what the policy matches is refused",
                quoted(provider)
            ),
            "add it to `extensionProviders` in the ConfigMap `istio` of the root namespace, key \
             `mesh`",
        );
    }
}
