//! Turns a URL and a pull policy into verified Wasm bytes on disk, once.
//!
//! [`ModuleStore::get`] is the one verb that matters. A module comes from an image in a registry
//! (`oci://`), from a web server (`http://`, `https://`) or from a file (`file://`); what came
//! over the network is kept in a content-addressed cache and verified whenever it is read.
//!
//! ```text
//! request ─> file? ────────────────────────────────────────────────> check ─> bytes
//!         └> cache lookup ─ hit ─> digest, signature ──────────────────────> bytes
//!                         └ miss ─> one of all ─> resolve ─> signature ─> download ─> check ─> insert
//! ```
//!
//! ```no_run
//! use wasmplug_api::{ModuleUrl, NamespacedName, PullPolicy};
//! use wasmplug_module::{ModuleRequest, ModuleStore, Progress, StoreOptions};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let store = ModuleStore::open(StoreOptions::new("/var/lib/wasmplug/modules"))?;
//! let module = store
//!     .get(&ModuleRequest {
//!         resource: NamespacedName { namespace: "default".into(), name: "demo".into() },
//!         resource_version: "1".into(),
//!         url: ModuleUrl::parse("oci://registry.example.com/plugins/demo:v1")?,
//!         sha256: None,
//!         pull_policy: PullPolicy::Unspecified,
//!         credentials: None,
//!         refresh: false,
//!         progress: Progress::default(),
//!         verification_key: None,
//!     })
//!     .await?;
//! println!("{} bytes, {}", module.bytes.len(), module.digest);
//! # Ok(()) }
//! ```
//!
//! [`ModuleStore::fetch_key_set`] asks for something else under the same rules: keys of token issuers.
//! The way back is [`ModuleStore::push`] and [`ModuleStore::sign`], the way around networks
//! [`ModuleStore::save`] and [`ModuleStore::load`]; [`ModuleReport`] and [`ImageReport`] describe.
//!
//! *Module* is the Wasm bytes, *manifest* describes an image, *index* lists manifests by platform.
//! Bounds: bytes (compressed and inflated), time, redirects and addresses; see [`StoreOptions`]
//! and [`AddressGuard`].
//!
//! **Invariant**: no bytes leave this crate that were not verified in this call or under their
//! digest, and a failed fetch leaves the cache as it was.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing)]

mod address_guard;
mod archive;
mod auth;
mod cache;
mod chain;
mod contents;
mod counters;
mod demand;
mod describe;
mod disk;
mod error;
mod evidence;
mod fetch;
mod files;
mod flight;
mod image;
mod index;
mod inspect;
mod key_sets;
mod lock;
mod options;
mod pack;
mod progress;
mod proxy;
mod publish;
mod pull_secret;
mod request;
mod signature;
mod store;
mod tls;
mod transport;
mod unpack;
mod verified;
mod write;

pub use address_guard::{AddressGuard, BlockedAddress};
pub use archive::{ArchiveError, ArchivedImage};
pub use auth::{CredentialsError, RegistryCredentials};
pub use contents::Contents;
pub use describe::{ImageReport, LayerReport, Loadable};
pub use error::{FetchError, Mismatch, RedirectRefused, StoreError};
pub use image::ImageError;
pub use inspect::{InspectError, ModuleReport};
pub use key_sets::{KeySetFetchError, KeySetSource};
pub use lock::ModuleLease;
pub use options::StoreOptions;
pub use pack::{ImageLayout, PackedImage};
pub use progress::Progress;
pub use proxy::{ProxyUrl, ProxyUrlError};
pub use publish::{PushedSignature, SignImageError};
pub use pull_secret::{PullSecretError, PullSecrets};
pub use request::{
    CachedModule, ChecksumMatch, FetchSource, FetchedModule, ModuleRequest, Pruned, Removed,
    StoreCounters,
};
pub use signature::{
    KeyError, PolicyError, Rejection, SignError, SignatureError, SignaturePolicy, SigningKey,
    SigningKeyError, VerificationKeys, VerifiedSignature,
};
pub use store::ModuleStore;
pub use unpack::UnpackError;
pub use write::WriteHook;
