//! What the verbs for modules have in common: a store, the user's credentials, and waiting.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use wasmplug_api::{Digest, ImageReference, ModuleUrl, NamespacedName, PullPolicy};
use wasmplug_module::{
    FetchError, FetchedModule, ModuleRequest, ModuleStore, Progress, RegistryCredentials,
    SigningKey, VerificationKeys,
};

use crate::args::{LoginArguments, StoreArguments};
use crate::diagnostics::WithHint;
use crate::environment::Environment;
use crate::progress::Bar;
use crate::{login, store};

/// A store for one command.
pub(crate) struct Modules<'a> {
    pub(crate) store: ModuleStore,
    runtime: Runtime,
    login: Option<&'a Path>,
    environment: &'a Environment,
    /// Where the store is, if it ends with the command.
    _aside: Option<TempDir>,
}

/// What is wanted of a module.
#[derive(Default)]
pub(crate) struct Wanted<'a> {
    pub(crate) sha256: Option<&'a str>,
    pub(crate) key_files: &'a [PathBuf],
}

// === impl Modules ===

impl<'a> Modules<'a> {
    /// Works with the user's cache.
    pub(crate) fn open(
        arguments: &StoreArguments,
        login: Option<&'a LoginArguments>,
        environment: &'a Environment,
    ) -> anyhow::Result<Self> {
        let store = store::open(arguments, environment)?;
        Self::with(store, login, environment, None)
    }

    /// Works without the cache: what is fetched is gone afterwards.
    pub(crate) fn aside(
        arguments: &StoreArguments,
        login: &'a LoginArguments,
        environment: &'a Environment,
    ) -> anyhow::Result<Self> {
        let aside = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut options = store::options(arguments, environment)?;
        aside.path().clone_into(&mut options.directory);
        Self::with(ModuleStore::open(options)?, Some(login), environment, Some(aside))
    }

    fn with(
        store: ModuleStore,
        login: Option<&'a LoginArguments>,
        environment: &'a Environment,
        aside: Option<TempDir>,
    ) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let login = login.and_then(|login| login.registry_config.as_deref());
        Ok(Self { store, runtime, login, environment, _aside: aside })
    }

    /// Waits for something that the store does, with a bar if it takes long.
    pub(crate) fn wait<T>(
        &self,
        what: &'static str,
        progress: &Progress,
        work: impl Future<Output = T>,
    ) -> T {
        let _bar = Bar::show(what, progress, self.environment);
        self.runtime.block_on(work)
    }

    /// The user's credentials for the registry of an image.
    pub(crate) fn credentials(
        &self,
        reference: &ImageReference,
    ) -> anyhow::Result<Option<RegistryCredentials>> {
        login::credentials(self.login, reference, self.environment)
    }

    /// Gets a module that is checked as a resource would have it checked, from where it comes.
    pub(crate) fn fetch(
        &self,
        url: &ModuleUrl,
        wanted: &Wanted<'_>,
    ) -> anyhow::Result<FetchedModule> {
        let sha256 = wanted.sha256.map(str::parse::<Digest>).transpose();
        let sha256 = sha256.map_err(|error| {
            let hint = error.hint();
            WithHint::wrap(anyhow::Error::new(error).context("`--sha256` is not a digest"), hint)
        })?;
        let credentials = match url {
            ModuleUrl::Oci(reference) => self.credentials(reference)?,
            _ => None,
        };
        let progress = Progress::default();
        let request = ModuleRequest {
            resource: NamespacedName::new("", ""),
            resource_version: String::new(),
            url: url.clone(),
            sha256,
            pull_policy: PullPolicy::Always,
            credentials,
            refresh: true,
            progress: progress.clone(),
            verification_key: keys(wanted.key_files)?,
        };
        self.wait("pulling", &progress, self.store.get(&request)).map_err(explain)
    }
}

/// A file, if there is one of this name, or else a URL as in a resource.
pub(crate) fn target(text: &str) -> anyhow::Result<ModuleUrl> {
    let path = Path::new(text);
    if path.is_file() {
        return Ok(ModuleUrl::File(path.to_owned()));
    }
    ModuleUrl::parse(text).map_err(|error| {
        let hint = error.hint();
        let context = format!("`{text}` is neither a file nor the URL of a module");
        WithHint::wrap(anyhow::Error::new(error).context(context), hint)
    })
}

/// The URL of an image, and of nothing else.
pub(crate) fn image(text: &str) -> anyhow::Result<ImageReference> {
    match target(text)? {
        ModuleUrl::Oci(reference) => Ok(reference),
        other => {
            let error = anyhow::anyhow!("`{other}` is not an image in a registry");
            Err(WithHint::wrap(error, Some("for example `oci://ghcr.io/acme/limit:v1`".to_owned())))
        }
    }
}

/// A private key from a file.
pub(crate) fn signing_key(path: &Path) -> anyhow::Result<SigningKey> {
    SigningKey::from_pem(&fs_err::read_to_string(path)?).map_err(|error| {
        let context = format!("cannot sign with `{}`", path.display());
        let hint = error.hint().map(str::to_owned);
        WithHint::wrap(anyhow::Error::new(error).context(context), hint)
    })
}

/// The error with its hint, as somebody at a command line needs it.
pub(crate) fn explain(error: FetchError) -> anyhow::Error {
    let hint = match &error {
        FetchError::Unauthorized { authenticated: false, elsewhere, .. } => {
            let known = match elsewhere.as_slice() {
                [] => String::new(),
                some => format!("; there are credentials for `{}` only", some.join("`, `")),
            };
            Some(format!("log in with `docker login` or `podman login`{known}"))
        }
        _ => error.hint(),
    };
    WithHint::wrap(error, hint)
}

/// The public keys of these files, in one text; each file must hold some.
fn keys(files: &[PathBuf]) -> anyhow::Result<Option<String>> {
    let mut text = String::new();
    for path in files {
        let pem = fs_err::read_to_string(path)?;
        VerificationKeys::from_pem(&pem).map_err(|error| {
            let context = format!("`{}` cannot be verified with", path.display());
            let hint = error.hint().map(str::to_owned);
            WithHint::wrap(anyhow::Error::new(error).context(context), hint)
        })?;
        text.push_str(&pem);
        text.push('\n');
    }
    Ok((!files.is_empty()).then_some(text))
}
