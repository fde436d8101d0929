//! An OCI distribution registry over HTTP, with images built in memory, and pushed if it may be
//! written to.
//!
//! Vocabulary: a *reference* is `repository:tag`; a *fault* is a scripted misbehaviour for paths
//! that contain a given text.
//!
//! Source: OCI Distribution Specification 1.1; Docker Registry v2 token authentication.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use wasmplug_testkit::{Image, Registry};
//!
//! let registry =
//!     Registry::builder().image("plugins/demo:v1", Image::compat(b"\0asm")).start().await?;
//! let url = format!("oci://{}/plugins/demo:v1", registry.addr());
//! # assert!(url.starts_with("oci://127.0.0.1:"));
//! # std::io::Result::Ok(()) }).unwrap();
//! ```

mod answer;
mod image;
mod upload;

pub use image::{Image, Layer, gzip, media_type, sha256, tar};

use std::{
    collections::BTreeMap,
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{message::Received, server::Server};

/// A running registry; dropping it ends it and its connections.
#[derive(Debug)]
pub struct Registry {
    server: Server,
    state: Arc<Mutex<State>>,
}

/// A [`Registry`] on a thread of its own, for callers without a runtime.
#[derive(Debug)]
pub struct RegistryThread(Registry);

/// What a registry holds and where it will listen.
#[derive(Debug)]
pub struct RegistryBuilder {
    state: State,
    bind: SocketAddr,
}

/// A scripted misbehaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Answer with this status and an error document.
    Status(u16),
    /// Announce the whole body, send half of it, close.
    Truncated,
    /// Send the whole body with its last byte changed.
    Corrupt,
    /// Reset the connection instead of answering.
    Reset,
    /// Never answer.
    Hang,
    /// Answer with an HTML page and status 200, as a captive portal does.
    Html,
    /// Redirect (307) the request to this port of `127.0.0.1`, same path.
    RedirectToPort(u16),
}

/// Who may pull.
#[derive(Clone, Default)]
pub(crate) enum Access {
    #[default]
    Anyone,
    Basic(Account),
    /// Tokens from `/token`; without an account everyone gets one.
    Bearer(Option<Account>),
}

/// A user and a password.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) user: String,
    pub(crate) password: String,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) repositories: BTreeMap<String, Repository>,
    pub(crate) access: Access,
    /// Whether it lists the artifacts that refer to a manifest.
    pub(crate) lists_referrers: bool,
    pub(crate) is_writable: bool,
    pub(crate) faults: Vec<FaultRule>,
}

#[derive(Debug, Default)]
pub(crate) struct Repository {
    /// Digest by tag.
    pub(crate) tags: BTreeMap<String, String>,
    /// Media type and bytes by digest.
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    /// Bytes by digest.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct FaultRule {
    pub(crate) path_contains: String,
    pub(crate) fault: Fault,
    /// How many more requests it hits; `None` is every one.
    pub(crate) remaining: Option<u32>,
}

// === impl Registry ===

impl Registry {
    /// An empty registry that anyone may pull from.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder {
            state: State::default(),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Adds an image or moves its tag, and returns the digest of its manifest (`sha256:HEX`).
    ///
    /// A reference without a tag gets `latest`.
    pub fn push(&self, reference: &str, image: Image) -> String {
        self.state().push(reference, image)
    }

    /// The digest that a tag points at, `sha256:HEX`.
    pub fn tag(&self, reference: &str) -> Option<String> {
        let (repository, tag) = split_reference(reference);
        self.state().repositories.get(repository)?.tags.get(tag).cloned()
    }

    /// Removes a tag; manifests and blobs stay. True if it was there.
    pub fn remove_tag(&self, reference: &str) -> bool {
        let (repository, tag) = split_reference(reference);
        let mut state = self.state();
        state.repositories.get_mut(repository).is_some_and(|held| held.tags.remove(tag).is_some())
    }

    /// From now on, every request whose path contains the text meets this fault.
    pub fn fault(&self, path_contains: &str, fault: Fault) {
        self.state().add_fault(path_contains, fault, None);
    }

    /// The next `count` requests whose path contains the text meet this fault.
    pub fn fault_times(&self, path_contains: &str, fault: Fault, count: u32) {
        self.state().add_fault(path_contains, fault, Some(count));
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// Every request so far, in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.server.received()
    }

    /// `METHOD path` of every request so far.
    pub fn log(&self) -> Vec<String> {
        let received = self.received();
        received.iter().map(|one| format!("{} {}", one.method, one.path)).collect()
    }

    /// How many requests asked for a blob with `GET`.
    pub fn blob_downloads(&self) -> usize {
        let received = self.received();
        received.iter().filter(|one| one.method == "GET" && one.path.contains("/blobs/")).count()
    }

    /// Ends the registry and its connections, as dropping it does.
    pub fn stop(self) {}

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl RegistryThread ===

impl RegistryThread {
    /// Starts the registry on a new thread with a runtime of its own.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or the thread or runtime not be made.
    pub fn start(registry: RegistryBuilder) -> io::Result<Self> {
        let state = Arc::new(Mutex::new(registry.state));
        let server = Server::start_on_thread(registry.bind, answer::service(&state))?;
        Ok(Self(Registry { server, state }))
    }

    /// Ends the registry and waits for its thread, as dropping it does.
    pub fn stop(self) {}
}

impl Deref for RegistryThread {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.0
    }
}

// === impl RegistryBuilder ===

impl RegistryBuilder {
    /// Adds an image under `repository:tag`.
    #[must_use]
    pub fn image(mut self, reference: &str, image: Image) -> Self {
        self.state.push(reference, image);
        self
    }

    /// Asks for this user and password on every request (HTTP Basic).
    #[must_use]
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        let account = Account { user: user.to_owned(), password: password.to_owned() };
        self.state.access = Access::Basic(account);
        self
    }

    /// Asks for a token, which its `/token` gives to this user and password.
    #[must_use]
    pub fn bearer_auth(mut self, user: &str, password: &str) -> Self {
        let account = Account { user: user.to_owned(), password: password.to_owned() };
        self.state.access = Access::Bearer(Some(account));
        self
    }

    /// Asks for a token, which its `/token` gives to anyone.
    #[must_use]
    pub fn anonymous_bearer(mut self) -> Self {
        self.state.access = Access::Bearer(None);
        self
    }

    /// Takes what is pushed, from whoever may pull.
    #[must_use]
    pub fn writable(mut self) -> Self {
        self.state.is_writable = true;
        self
    }

    /// Lists the artifacts that refer to a manifest, as OCI 1.1 has it; else it does not know the
    /// question.
    #[must_use]
    pub fn lists_referrers(mut self) -> Self {
        self.state.lists_referrers = true;
        self
    }

    /// Every request whose path contains the text meets this fault.
    #[must_use]
    pub fn fault(mut self, path_contains: &str, fault: Fault) -> Self {
        self.state.add_fault(path_contains, fault, None);
        self
    }

    /// The first `count` requests whose path contains the text meet this fault.
    #[must_use]
    pub fn fault_times(mut self, path_contains: &str, fault: Fault, count: u32) -> Self {
        self.state.add_fault(path_contains, fault, Some(count));
        self
    }

    /// Listens there instead of on a free port of `127.0.0.1`.
    #[must_use]
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.bind = addr;
        self
    }

    /// Starts the registry in the current runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn start(self) -> io::Result<Registry> {
        let state = Arc::new(Mutex::new(self.state));
        let server = Server::start(self.bind, answer::service(&state)).await?;
        Ok(Registry { server, state })
    }
}

// === impl State ===

impl State {
    fn push(&mut self, reference: &str, image: Image) -> String {
        let (repository, tag) = split_reference(reference);
        let repository = self.repositories.entry(repository.to_owned()).or_default();
        let digest = repository.add(image);
        repository.tags.insert(tag.to_owned(), digest.clone());
        digest
    }

    fn add_fault(&mut self, path_contains: &str, fault: Fault, remaining: Option<u32>) {
        let path_contains = path_contains.to_owned();
        self.faults.push(FaultRule { path_contains, fault, remaining });
    }

    /// The fault that this request meets, which uses up one of its times.
    pub(crate) fn take_fault(&mut self, path: &str) -> Option<Fault> {
        let rule = self
            .faults
            .iter_mut()
            .find(|rule| rule.remaining != Some(0) && path.contains(&rule.path_contains))?;
        if let Some(remaining) = &mut rule.remaining {
            *remaining -= 1;
        }
        Some(rule.fault)
    }
}

// === impl Repository ===

impl Repository {
    fn add(&mut self, image: Image) -> String {
        for child in image.children {
            self.add(child);
        }
        for blob in image.blobs {
            self.blobs.insert(sha256(&blob), blob);
        }
        let digest = sha256(&image.manifest);
        self.manifests.insert(digest.clone(), (image.media_type, image.manifest));
        digest
    }
}

// === impl Access ===

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anyone => "Anyone",
            Self::Basic(_) => "Basic(..)",
            Self::Bearer(_) => "Bearer(..)",
        })
    }
}

/// `repository:tag`, where the tag defaults to `latest`.
fn split_reference(reference: &str) -> (&str, &str) {
    reference.rsplit_once(':').unwrap_or((reference, "latest"))
}
