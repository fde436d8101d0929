//! What a pod's annotations mount into the proxy beside it: the documented way to a `file://`
//! module is a `ConfigMap` with the module in `binaryData`.
//!
//! Source: Istio, sidecar injection, annotations `sidecar.istio.io/userVolume` and
//! `sidecar.istio.io/userVolumeMount`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::manifest::Resource;
use crate::meta::NamespacedName;

/// Annotation with the volumes.
pub const VOLUME_ANNOTATION: &str = "sidecar.istio.io/userVolume";
/// Annotation with the places where they are mounted.
pub const VOLUME_MOUNT_ANNOTATION: &str = "sidecar.istio.io/userVolumeMount";

/// `ConfigMap`s that are mounted into a workload's proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    mounts: Vec<Mount>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// Where it is mounted.
    path: PathBuf,
    /// The only file of the volume that is mounted, right at `path`.
    sub_path: Option<String>,
    config_map: NamespacedName,
    /// Files by the keys that they are made of; none for a file of each key.
    items: BTreeMap<String, String>,
}

/// An object of an annotation and its name.
type NamedObject = (String, Map<String, Value>);

/// An annotation that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountsError {
    /// It is not JSON.
    #[error("the annotation `{annotation}` is not JSON: {reason}")]
    Json {
        /// Its name.
        annotation: &'static str,
        /// Where it ends to be JSON.
        reason: String,
    },
    /// It is JSON of another shape.
    #[error("the annotation `{annotation}` must be an object of objects, or a list of objects")]
    Shape {
        /// Its name.
        annotation: &'static str,
    },
    /// A mount has no path.
    #[error("the mount `{name}` in `{VOLUME_MOUNT_ANNOTATION}` has no `mountPath`")]
    NoPath {
        /// Name of the mount.
        name: String,
    },
}

/// A file that is mounted and cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountedFileError {
    /// The `ConfigMap` is not among the resources.
    #[error("`{path}` is in ConfigMap `{config_map}`, which is not given")]
    NoConfigMap {
        /// The path inside the workload.
        path: String,
        /// The `ConfigMap`.
        config_map: NamespacedName,
    },
    /// The `ConfigMap` has no such file.
    #[error("ConfigMap `{config_map}`, mounted at `{mounted_at}`, has no `{file}`")]
    NoKey {
        /// The `ConfigMap`.
        config_map: NamespacedName,
        /// Where it is mounted.
        mounted_at: String,
        /// The file below that.
        file: String,
    },
}

// === impl Mounts ===

impl Mounts {
    /// Reads the annotations of a pod in `namespace`. Volumes of other kinds are not looked at.
    ///
    /// Both annotations may be an object, from the name to the rest, or a list; in lists, what has
    /// no `name` is called by its number, as injection does.
    ///
    /// # Errors
    /// An annotation is not JSON, or has another shape.
    pub fn of(
        annotations: &BTreeMap<String, String>,
        namespace: &str,
    ) -> Result<Self, MountsError> {
        let volumes = entries(annotations, VOLUME_ANNOTATION)?;
        let mut mounts = Vec::new();
        for (name, mount) in entries(annotations, VOLUME_MOUNT_ANNOTATION)? {
            let text = |key: &str| mount.get(key).and_then(Value::as_str);
            let path = text("mountPath").filter(|path| !path.is_empty());
            let path = path.ok_or_else(|| MountsError::NoPath { name: name.clone() })?;
            let volume = volumes.iter().find(|(of, _)| *of == name).map(|(_, volume)| volume);
            let config_map = volume.and_then(|volume| volume.get("configMap"));
            let Some(config_map_name) =
                config_map.and_then(|of| of.get("name")).and_then(Value::as_str)
            else {
                continue;
            };
            mounts.push(Mount {
                path: PathBuf::from(path),
                sub_path: text("subPath").map(str::to_owned),
                config_map: NamespacedName::new(namespace, config_map_name),
                items: config_map.map(items).unwrap_or_default(),
            });
        }
        // The innermost mount is the one that a path leads into.
        mounts.sort_by_key(|mount| std::cmp::Reverse(mount.path.components().count()));
        Ok(Self { mounts })
    }

    /// Whether nothing is mounted.
    pub fn is_empty(&self) -> bool {
        self.mounts.is_empty()
    }

    /// The bytes of a file inside the workload; `None` for a path that leads into no mount.
    ///
    /// # Errors
    /// The path leads into a mount, and there is no such file.
    pub fn file(
        &self,
        path: &Path,
        resources: &[Resource],
    ) -> Result<Option<Arc<[u8]>>, MountedFileError> {
        if path.components().any(|part| part == Component::ParentDir) {
            return Ok(None);
        }
        let inside = |mount: &Mount| path.strip_prefix(&mount.path).ok().map(Path::to_path_buf);
        let Some((mount, file)) =
            self.mounts.iter().find_map(|mount| Some((mount, inside(mount)?)))
        else {
            return Ok(None);
        };
        let file = match &mount.sub_path {
            Some(only) if file.as_os_str().is_empty() => only.clone(),
            _ => file.to_string_lossy().into_owned(),
        };
        let config_map = resources.iter().find_map(|resource| match resource {
            Resource::ConfigMap(object) if object.meta.namespaced_name() == mount.config_map => {
                Some(&object.spec)
            }
            _ => None,
        });
        let Some(config_map) = config_map else {
            return Err(MountedFileError::NoConfigMap {
                path: path.display().to_string(),
                config_map: mount.config_map.clone(),
            });
        };
        let key = if mount.items.is_empty() { Some(&file) } else { mount.items.get(&file) };
        let bytes = key.and_then(|key| {
            let text = || config_map.data.get(key).map(|text| Arc::from(text.as_bytes()));
            config_map.binary_data.get(key).cloned().or_else(text)
        });
        bytes.map(Some).ok_or_else(|| MountedFileError::NoKey {
            config_map: mount.config_map.clone(),
            mounted_at: mount.path.display().to_string(),
            file,
        })
    }
}

/// The objects of an annotation by name, none if it is absent.
fn entries(
    annotations: &BTreeMap<String, String>,
    annotation: &'static str,
) -> Result<Vec<NamedObject>, MountsError> {
    let Some(text) = annotations.get(annotation) else { return Ok(Vec::new()) };
    let value: Value = serde_json::from_str(text)
        .map_err(|error| MountsError::Json { annotation, reason: error.to_string() })?;
    let named: Vec<(String, Value)> = match value {
        Value::Object(map) => map.into_iter().collect(),
        Value::Array(list) => {
            let name = |index: usize, value: &Value| {
                let name = value.get("name").and_then(Value::as_str);
                name.map_or_else(|| index.to_string(), str::to_owned)
            };
            list.into_iter().enumerate().map(|(at, value)| (name(at, &value), value)).collect()
        }
        _ => return Err(MountsError::Shape { annotation }),
    };
    let object = |(name, value)| match value {
        Value::Object(map) => Ok((name, map)),
        _ => Err(MountsError::Shape { annotation }),
    };
    named.into_iter().map(object).collect()
}

/// `items` of a `ConfigMap` volume: keys by the files that they become.
fn items(config_map: &Value) -> BTreeMap<String, String> {
    let items = config_map.get("items").and_then(Value::as_array);
    items
        .into_iter()
        .flatten()
        .filter_map(|item| {
            let text = |key: &str| item.get(key).and_then(Value::as_str).map(str::to_owned);
            Some((text("path")?, text("key")?))
        })
        .collect()
}

// === impl MountsError ===

impl MountsError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoPath { .. } => "for example `{\"plugins\": {\"mountPath\": \"/opt\"}}`".into(),
            Self::Json { .. } | Self::Shape { .. } => {
                "for example `{\"plugins\": {\"configMap\": {\"name\": \"plugins\"}}}`".into()
            }
        })
    }
}
