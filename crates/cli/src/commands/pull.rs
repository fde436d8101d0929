//! `wasmplug pull`: a module into the cache, and into a file.

use serde_json::json;
use wasmplug_module::FetchedModule;

use crate::args::{Format, PullArguments};
use crate::environment::Environment;
use crate::modules::{Modules, Wanted, target};
use crate::output;
use crate::progress::size;

pub(super) fn run(arguments: &PullArguments, environment: &Environment) -> anyhow::Result<()> {
    let url = target(&arguments.url)?;
    let modules = Modules::open(&arguments.store, Some(&arguments.login), environment)?;
    let wanted = Wanted { sha256: arguments.sha256.as_deref(), key_files: &arguments.keys };
    let module = modules.fetch(&url, &wanted)?;
    if let Some(path) = &arguments.to {
        fs_err::write(path, &module.bytes)?;
    }
    match arguments.output {
        Format::Json => output::data(format!("{:#}", as_json(&url.to_string(), &module))),
        Format::Text => print(&url.to_string(), &module),
    }
    Ok(())
}

fn print(url: &str, module: &FetchedModule) {
    output::data(url);
    let line = |name: &str, value: String| output::data(format!("  {name:<9} {value}"));
    line("module", format!("{}, {}", module.digest, size(module.bytes.len() as u64)));
    if let Some(digest) = &module.manifest_digest {
        line("manifest", digest.to_string());
    }
    if let Some(digest) = &module.index_digest {
        line("index", digest.to_string());
    }
    for signature in &module.signatures {
        line("signed", format!("{} with the key {}", signature.place, signature.key));
    }
}

fn as_json(url: &str, module: &FetchedModule) -> serde_json::Value {
    let signatures = module.signatures.iter();
    json!({
        "url": url,
        "digest": module.digest,
        "bytes": module.bytes.len(),
        "manifestDigest": module.manifest_digest,
        "indexDigest": module.index_digest,
        "signatures": signatures
            .map(|it| json!({ "place": it.place, "key": it.key }))
            .collect::<Vec<_>>(),
    })
}
