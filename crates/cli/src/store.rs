//! The module store as the command line asks for it.

use wasmplug_host::{CompiledCache, MAX_COMPILED_BYTES};
use wasmplug_module::{ModuleStore, PolicyError, SignaturePolicy, StoreOptions};

use crate::args::StoreArguments;
use crate::diagnostics::WithHint;
use crate::environment::Environment;

/// Opens the store.
///
/// # Errors
/// A file that was named and cannot be used, or a directory that cannot be made.
pub(crate) fn open(
    arguments: &StoreArguments,
    environment: &Environment,
) -> anyhow::Result<ModuleStore> {
    Ok(ModuleStore::open(options(arguments, environment)?)?)
}

/// Opens the place of compiled code beside the store. Without one, modules are compiled at each
/// start, which is told and no reason to stop.
pub(crate) fn compiled(
    arguments: &StoreArguments,
    environment: &Environment,
) -> Option<CompiledCache> {
    let directory = arguments.cache_dir.clone().unwrap_or_else(|| environment.cache_directory());
    match CompiledCache::open(directory.join("compiled"), MAX_COMPILED_BYTES) {
        Ok(cache) => Some(cache),
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, "modules are compiled at each start");
            None
        }
    }
}

/// What the flags say.
///
/// # Errors
/// A file that was named and cannot be used.
pub(crate) fn options(
    arguments: &StoreArguments,
    environment: &Environment,
) -> anyhow::Result<StoreOptions> {
    let directory = arguments.cache_dir.clone().unwrap_or_else(|| environment.cache_directory());
    let mut options = StoreOptions::new(directory);
    options.max_cache_bytes = arguments.cache_max_size;
    options.max_unused = arguments.cache_max_age;
    options.plain_http_registries.clone_from(&arguments.plain_http_registries);
    options.proxy = arguments.proxy.as_deref().map(str::parse).transpose()?;
    options.insecure_registries.clone_from(&arguments.insecure_registries);
    options.mirrors = arguments.mirrors.iter().cloned().collect();
    if let Some(path) = &arguments.ca_file {
        options.certificate_authorities = fs_err::read(path)?;
    }
    if let Some(path) = &arguments.require_signed {
        let text = fs_err::read_to_string(path)?;
        // Keys are beside the policy, wherever the process runs.
        let folder = path.parent().unwrap_or(path);
        let policy = SignaturePolicy::parse(&text, |key| std::fs::read_to_string(folder.join(key)));
        let policy = policy.map_err(|error| {
            let hint = policy_hint(&error).map(str::to_owned);
            let context = format!("cannot use the signature policy `{}`", path.display());
            WithHint::wrap(anyhow::Error::new(error).context(context), hint)
        });
        options.signature_policy = Some(policy?);
    }
    Ok(options)
}

fn policy_hint(error: &PolicyError) -> Option<&'static str> {
    match error {
        PolicyError::Key { source, .. } => source.hint(),
        PolicyError::Malformed(_) => Some(
            "for example `{\"rules\": [{\"prefix\": \"ghcr.io/acme/\", \"keyFiles\": [\"acme.pub\"]}]}`",
        ),
        PolicyError::Ambiguous { .. } | PolicyError::File { .. } => None,
    }
}
