//! A store in its own directory, and requests with good defaults.

use std::time::Duration;

use tempfile::TempDir;
use wasmplug_api::{ModuleUrl, NamespacedName, PullPolicy};
use wasmplug_module::{
    FetchError, FetchedModule, ModuleRequest, ModuleStore, Progress, StoreOptions,
};
use wasmplug_testkit::{Registry, registry::RegistryBuilder};

/// The smallest module, and two more that are different.
pub(crate) const MODULE: &[u8] = b"\0asm\x01\0\0\0";
pub(crate) const SECOND: &[u8] = b"\0asm\x01\0\0\0\0\x02\x01a";
pub(crate) const THIRD: &[u8] = b"\0asm\x01\0\0\0\0\x02\x01b";

pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) store: ModuleStore,
    options: StoreOptions,
}

impl Fixture {
    /// A store with defaults, except that it repeats requests without waiting.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut StoreOptions)) -> Self {
        let directory = TempDir::new().unwrap();
        let mut options = StoreOptions::new(directory.path().join("modules"));
        options.retry_delay = Duration::ZERO;
        change(&mut options);
        let store = ModuleStore::open(options.clone()).unwrap();
        Self { directory, store, options }
    }

    /// What a restart of the process does.
    pub(crate) fn restart(&mut self) {
        self.store = ModuleStore::open(self.options.clone()).unwrap();
    }

    /// A second store on the same directory.
    pub(crate) fn another(&self) -> ModuleStore {
        ModuleStore::open(self.options.clone()).unwrap()
    }

    pub(crate) async fn get(&self, url: &str) -> Result<FetchedModule, FetchError> {
        self.store.get(&request(url)).await
    }
}

/// A request of `default/demo` in version 1, `IfNotPresent`.
pub(crate) fn request(url: &str) -> ModuleRequest {
    ModuleRequest {
        resource: NamespacedName { namespace: "default".into(), name: "demo".into() },
        resource_version: "1".into(),
        url: ModuleUrl::parse(url).unwrap(),
        sha256: None,
        pull_policy: PullPolicy::IfNotPresent,
        credentials: None,
        refresh: false,
        progress: Progress::default(),
        verification_key: None,
    }
}

pub(crate) async fn start(registry: RegistryBuilder) -> Registry {
    registry.start().await.unwrap()
}

/// Whether nobody answers: to a new connection, or to one that is kept and has not ended yet.
pub(crate) fn is_unreachable(error: &FetchError) -> bool {
    matches!(error, FetchError::Connect { .. } | FetchError::Interrupted { .. })
}

/// The URL of an image in a registry.
pub(crate) fn oci(registry: &Registry, reference: &str) -> String {
    format!("oci://{}/{reference}", registry.addr())
}

/// The error, its causes and its hint, a line each.
pub(crate) fn told(error: &FetchError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}\n{error}");
        cause = error.source();
    }
    match error.hint() {
        Some(hint) => format!("{text}\nhint: {hint}"),
        None => text,
    }
}
