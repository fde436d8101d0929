//! `wasmplug push`: a module into a registry.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde_json::json;
use wasmplug_api::{Digest, ImageReference};
use wasmplug_module::{ImageLayout, ModuleReport, PackedImage, Progress, PushedSignature};

use super::sign::explain;
use crate::args::{Format, Layout, PushArguments};
use crate::diagnostics::WithHint;
use crate::environment::Environment;
use crate::modules::{self, Modules, image, signing_key};
use crate::output;

/// Annotation that names a module for people.
const TITLE: &str = "org.opencontainers.image.title";

pub(super) fn run(arguments: &PushArguments, environment: &Environment) -> anyhow::Result<()> {
    let reference = image(&arguments.url)?;
    if reference.digest.is_some() {
        let error = anyhow::anyhow!("`{}` has a digest", arguments.url);
        let hint = "the digest comes of what is pushed; give a tag".to_owned();
        return Err(WithHint::wrap(error, Some(hint)));
    }
    let key = arguments.sign.as_deref().map(signing_key).transpose()?;
    let bytes = read(&arguments.module)?;
    let layout = match arguments.format {
        Layout::Compat => ImageLayout::Compat,
        Layout::Artifact => ImageLayout::Artifact,
    };
    let packed = PackedImage::of_module(&bytes, layout, &annotations(arguments, &reference));
    let modules = Modules::open(&arguments.store, Some(&arguments.login), environment)?;
    let credentials = modules.credentials(&reference)?;
    let progress = Progress::default();
    let push = modules.store.push(&reference, &packed, credentials.as_ref(), &progress);
    let digest = modules.wait("pushing", &progress, push).map_err(modules::explain)?;
    let signature = match &key {
        None => None,
        Some(key) => {
            let signed = modules.store.sign(&reference, key, credentials.as_ref());
            let signed = modules.wait("signing", &Progress::default(), signed);
            Some((signed.map_err(explain)?, key.public_pem()))
        }
    };
    print(arguments.output, &reference, &digest, signature.as_ref());
    Ok(())
}

/// A module, and nothing else, so that no mistake is pushed.
fn read(path: &Path) -> anyhow::Result<bytes::Bytes> {
    let bytes = fs_err::read(path)?;
    let report = ModuleReport::of(&bytes)
        .with_context(|| format!("`{}` cannot be pushed", path.display()))?;
    if report.abi_versions.is_empty() {
        output::talk(format!(
            "warning: `{}` declares no Proxy-Wasm ABI version; no proxy will run it",
            path.display()
        ));
    }
    Ok(bytes.into())
}

fn annotations(arguments: &PushArguments, reference: &ImageReference) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([(TITLE.to_owned(), name(reference).to_owned())]);
    annotations.extend(arguments.annotations.iter().cloned());
    annotations
}

/// The last segment of the repository.
fn name(reference: &ImageReference) -> &str {
    reference.repository.rsplit('/').next().unwrap_or_default()
}

fn print(
    format: Format,
    reference: &ImageReference,
    digest: &Digest,
    signature: Option<&(PushedSignature, &str)>,
) {
    let url = format!("oci://{reference}");
    match format {
        Format::Json => output::data(format!(
            "{:#}",
            json!({
                "url": url,
                "digest": digest,
                "signature": signature.map(|(signature, _)| &signature.place),
            })
        )),
        Format::Text => {
            output::talk(format!("pushed {url}\n  digest {digest}"));
            if let Some((signature, _)) = signature {
                output::talk(format!("  signed {}", signature.place));
            }
            output::talk("use it with this resource:");
            output::data(resource(&url, name(reference), digest, signature.map(|it| it.1)));
        }
    }
}

/// A resource that runs exactly what was pushed.
fn resource(url: &str, name: &str, digest: &Digest, key: Option<&str>) -> String {
    // A repository may be named as no resource may.
    let name: String = name.chars().map(|c| if c == '_' { '-' } else { c }).collect();
    // The digest is quoted because some consist of digits alone, or look like a float.
    let mut text = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  name: {name}\n\
         spec:\n  url: {url}\n  sha256: \"{}\"",
        digest.hex()
    );
    if let Some(key) = key {
        text.push_str("\n  verificationKey: |");
        for line in key.lines() {
            text.push_str("\n    ");
            text.push_str(line);
        }
    }
    text
}
