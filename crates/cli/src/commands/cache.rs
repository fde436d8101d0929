//! `wasmplug cache`: what is kept, and room for more.

use std::time::SystemTime;

use anyhow::{Context as _, bail};
use serde_json::json;
use wasmplug_api::Digest;
use wasmplug_module::{CachedModule, Pruned, Removed};

use crate::args::{
    CacheArguments, CacheCommand, CacheGcArguments, CacheLsArguments, CacheRmArguments, Format,
};
use crate::environment::Environment;
use crate::progress::size;
use crate::{output, store};

/// Fewest digits that stand for a digest.
const MIN_DIGITS: usize = 4;

pub(super) fn run(arguments: &CacheArguments, environment: &Environment) -> anyhow::Result<()> {
    match &arguments.command {
        CacheCommand::Ls(arguments) => ls(arguments, environment),
        CacheCommand::Rm(arguments) => rm(arguments, environment),
        CacheCommand::Gc(arguments) => gc(arguments, environment),
    }
}

fn ls(arguments: &CacheLsArguments, environment: &Environment) -> anyhow::Result<()> {
    let modules = store::open(&arguments.store, environment)?.list()?;
    match arguments.output {
        Format::Json => {
            let modules: Vec<_> = modules.iter().map(as_json).collect();
            output::data(format!("{:#}", json!(modules)));
        }
        Format::Text => {
            for module in &modules {
                let used = if module.in_use { ", in use" } else { "" };
                let (digest, bytes) = (&module.digest, size(module.bytes));
                output::data(format!("{digest}  {bytes}, used {}{used}", ago(module.last_used)));
                module.urls.iter().for_each(|url| output::data(format!("  {url}")));
            }
            let total = modules.iter().map(|module| module.bytes).sum();
            let noun = if modules.len() == 1 { "module" } else { "modules" };
            output::talk(format!("{} {noun}, {}", modules.len(), size(total)));
        }
    }
    Ok(())
}

fn rm(arguments: &CacheRmArguments, environment: &Environment) -> anyhow::Result<()> {
    let store = store::open(&arguments.store, environment)?;
    let modules = store.list()?;
    let mut chosen = Vec::new();
    for text in &arguments.digests {
        chosen.push(choose(&modules, text)?);
    }
    for digest in chosen {
        match store.remove(digest).with_context(|| format!("cannot remove `{digest}`"))? {
            Removed::Done => output::data(digest),
            Removed::Absent => {}
            Removed::InUse => bail!("`{digest}` is loaded by a process, and stays"),
        }
    }
    Ok(())
}

fn gc(arguments: &CacheGcArguments, environment: &Environment) -> anyhow::Result<()> {
    let store = store::open(&arguments.store, environment)?;
    let unused_since = SystemTime::now().checked_sub(arguments.store.cache_max_age);
    let unused_since = unused_since.unwrap_or(SystemTime::UNIX_EPOCH);
    let Pruned { files, bytes } = store.evict(unused_since, arguments.store.cache_max_size)?;
    let noun = if files == 1 { "module" } else { "modules" };
    output::data(format!("{files} {noun} removed, {}", size(bytes)));
    Ok(())
}

/// The one module whose digest begins like this.
fn choose<'a>(modules: &'a [CachedModule], text: &str) -> anyhow::Result<&'a Digest> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.len() < MIN_DIGITS {
        bail!("`{text}` is too short: give at least {MIN_DIGITS} digits of the digest");
    }
    let mut fitting = modules.iter().filter(|module| module.digest.hex().starts_with(digits));
    match (fitting.next(), fitting.next()) {
        (Some(module), None) => Ok(&module.digest),
        (None, _) => bail!("no module in the cache has a digest that begins with `{text}`"),
        (Some(_), Some(_)) => bail!("the digests of several modules begin with `{text}`"),
    }
}

fn as_json(module: &CachedModule) -> serde_json::Value {
    let since = module.last_used.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    json!({
        "digest": module.digest,
        "bytes": module.bytes,
        "lastUsedUnixSeconds": since.as_secs(),
        "inUse": module.in_use,
        "urls": module.urls,
    })
}

fn ago(time: SystemTime) -> String {
    let seconds = time.elapsed().unwrap_or_default().as_secs();
    match seconds {
        0..60 => "just now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}
