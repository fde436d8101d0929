//! What an image looks like from outside, and which hosts can load it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use wasmplug_api::{Digest, ImageReference, ModuleUrl};

use crate::{
    auth::RegistryCredentials,
    error::FetchError,
    fetch::{
        FoundSignatures,
        oci::{OciFetcher, manifest_bytes},
    },
    image::{Document, IndexEntry},
    progress::Progress,
    store::ModuleStore,
};

/// What is in a registry under a reference.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageReport {
    /// The index that led to the manifest, if there was one.
    pub index_digest: Option<String>,
    /// Platforms of the index, in its order.
    pub platforms: Vec<String>,
    /// The manifest, after a platform was chosen.
    pub manifest_digest: String,
    /// What the manifest says that it is; empty if it does not.
    pub media_type: String,
    /// The layers, in their order.
    pub layers: Vec<LayerReport>,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// Where signatures were found; whether any of them counts is another question.
    pub signatures: Vec<String>,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerReport {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: String,
    /// Its size in bytes, as stored.
    pub size: u64,
}

/// Whether a host can load an image or a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Loadable {
    /// The host.
    pub host: &'static str,
    /// Why it cannot; `None` if it can.
    pub obstacle: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    layers: Vec<LayerReport>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MODULE_LAYER: &str = "application/vnd.module.wasm.content.layer.v1+wasm";
/// Hosts that read images by the rules of Istio's agent, from which they took the code.
const LIKE_ISTIO: [&str; 3] = ["istio", "envoy-gateway", "higress"];

// === impl ModuleStore ===

impl ModuleStore {
    /// Describes what a reference points at now; nothing of the cache is used or changed.
    ///
    /// # Errors
    ///
    /// Those of connections, credentials and statuses, and of images without a module.
    pub async fn describe(
        &self,
        reference: &ImageReference,
        credentials: Option<&RegistryCredentials>,
    ) -> Result<ImageReport, FetchError> {
        let (transport, options) = self.transport();
        let url = ModuleUrl::Oci(reference.clone()).to_string();
        let progress = Progress::default();
        let mut fetcher = OciFetcher::new(
            transport,
            options,
            url.clone(),
            reference,
            credentials,
            progress.clone(),
        )?;
        self.within_time(url, &progress, describe(&mut fetcher, reference)).await
    }
}

async fn describe(
    fetcher: &mut OciFetcher<'_>,
    reference: &ImageReference,
) -> Result<ImageReport, FetchError> {
    let malformed = |url: String, source| FetchError::Image { url, source };
    let name = reference.manifest_name();
    let url = fetcher.url().to_owned();
    let digest = reference.digest.as_ref();
    let (mut digest, mut bytes) = manifest_bytes(fetcher.session(), &name, digest).await?;
    let mut report = ImageReport::default();
    let document = Document::parse(&bytes).map_err(|source| malformed(url.clone(), source))?;
    let mut subjects: Vec<Digest> = Vec::new();
    if let Document::Index(entries) = document {
        report.index_digest = Some(digest.to_string());
        report.platforms = entries.iter().map(IndexEntry::platform_text).collect();
        let child = IndexEntry::choose(&entries).map_err(|source| malformed(url, source))?;
        subjects.push(digest);
        (digest, bytes) =
            manifest_bytes(fetcher.session(), &child.to_string(), Some(&child)).await?;
    }
    report.take(&digest, &bytes);
    subjects.insert(0, digest);
    let mut found = FoundSignatures::default();
    for subject in &subjects {
        fetcher.find_signatures(subject, &mut found).await?;
    }
    report.signatures = found.evidence.into_iter().map(|evidence| evidence.place).collect();
    Ok(report)
}

// === impl ImageReport ===

impl ImageReport {
    fn take(&mut self, digest: &Digest, bytes: &Bytes) {
        self.manifest_digest = digest.to_string();
        if let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) {
            let Manifest { media_type, layers, annotations } = manifest;
            (self.media_type, self.layers, self.annotations) = (media_type, layers, annotations);
        }
    }

    /// Which hosts find the module in this image; whether they can run it is another question.
    ///
    /// Source: Istio's image fetcher, which Envoy Gateway and Higress have taken over; Envoy
    /// itself loads files and downloads alone.
    pub fn loadable(&self) -> Vec<Loadable> {
        let istio = self.istio_obstacle();
        let like_istio = LIKE_ISTIO.map(|host| Loadable { host, obstacle: istio.clone() });
        let envoy = "it loads files and http downloads, not images".to_owned();
        let envoy = Loadable { host: "envoy", obstacle: Some(envoy) };
        let own = Loadable { host: "wasmplug", obstacle: self.own_obstacle() };
        like_istio.into_iter().chain([envoy, own]).collect()
    }

    fn istio_obstacle(&self) -> Option<String> {
        let fits = |platform: &String| platform == "linux/amd64" || platform == "no platform";
        if self.index_digest.is_some() && !self.platforms.iter().any(fits) {
            return Some("the index has no image for linux/amd64".to_owned());
        }
        let last = match self.layers.last() {
            Some(layer) => layer.media_type.as_str(),
            None => return Some("it has no layers".to_owned()),
        };
        if self.media_type == DOCKER_MANIFEST {
            let obstacle = format!("its last layer is `{last}`, and must be `{DOCKER_LAYER}`");
            return (last != DOCKER_LAYER).then_some(obstacle);
        }
        let is_module = |layer: &LayerReport| layer.media_type == MODULE_LAYER;
        match (last == OCI_LAYER, self.layers.len(), self.layers.iter().any(is_module)) {
            (true, ..) | (false, 2, true) => None,
            (false, 2, false) => Some(format!(
                "its last layer is not `{OCI_LAYER}`, and neither of the two is `{MODULE_LAYER}`"
            )),
            (false, count, _) => Some(format!(
                "its last layer is not `{OCI_LAYER}`, and an artifact must have two layers, not {count}"
            )),
        }
    }

    fn own_obstacle(&self) -> Option<String> {
        let manifest = serde_json::json!({ "layers": self.layers }).to_string();
        match Document::parse(manifest.as_bytes()) {
            Ok(Document::Image(image)) => image.module_layer().err().map(|error| error.to_string()),
            Ok(Document::Index(_)) => None,
            Err(error) => Some(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(media_type: &str, layers: &[&str], platforms: &[&str]) -> ImageReport {
        let layer = |media_type: &&str| LayerReport {
            media_type: (*media_type).to_owned(),
            digest: Digest::sha256_of(b"x").to_string(),
            size: 1,
        };
        ImageReport {
            index_digest: (!platforms.is_empty()).then(|| "sha256:x".to_owned()),
            platforms: platforms.iter().map(|it| (*it).to_owned()).collect(),
            media_type: media_type.to_owned(),
            layers: layers.iter().map(layer).collect(),
            ..ImageReport::default()
        }
    }

    #[test]
    fn each_layout_is_loaded_by_those_who_read_it() {
        let oci = "application/vnd.oci.image.manifest.v1+json";
        let config = "application/vnd.module.wasm.config.v1+json";
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        // Whether Istio and its like can, and whether we can.
        let rows = [
            (report(oci, &[OCI_LAYER], &[]), true, true),
            (report("", &["any", OCI_LAYER], &["linux/arm64", "linux/amd64"]), true, true),
            (report("", &[OCI_LAYER], &["no platform"]), true, true),
            (report("", &[OCI_LAYER], &["wasm/wasm"]), false, true),
            (report(DOCKER_MANIFEST, &[DOCKER_LAYER], &[]), true, true),
            (report(DOCKER_MANIFEST, &[OCI_LAYER], &[]), false, true),
            (report(oci, &[MODULE_LAYER, config], &[]), true, true),
            (report(oci, &[MODULE_LAYER], &[]), false, true),
            (report(oci, &["application/wasm"], &[]), false, true),
            (report(oci, &[zstd], &[]), false, true),
            (report(oci, &["text/plain", "text/plain"], &[]), false, false),
            (report(oci, &[], &[]), false, false),
        ];
        for (report, istio, own) in rows {
            let loads = |host: &str| {
                let hosts = report.loadable();
                hosts.into_iter().find(|it| it.host == host).unwrap().obstacle.is_none()
            };
            assert_eq!((loads("istio"), loads("higress")), (istio, istio), "{report:?}");
            assert_eq!((loads("envoy"), loads("wasmplug")), (false, own), "{report:?}");
        }
    }
}
