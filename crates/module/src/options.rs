//! What a store may do and how much.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use ipnet::IpNet;
use url::Url;
use wasmplug_api::ImageReference;

use crate::{proxy::ProxyUrl, signature::SignaturePolicy, write::WriteHook};

/// Largest module unless configured: what Istio's agent allows.
///
/// Source: Istio, `ISTIO_WASM_MAX_BINARY_SIZE_BYTES`.
const DEFAULT_MAX_MODULE_BYTES: u64 = 256 * 1024 * 1024;
/// Some hundred plugins, and little for a disk that has room for container images.
const DEFAULT_MAX_CACHE_BYTES: u64 = 4 * 1024 * 1024 * 1024;
const DEFAULT_MAX_UNUSED: Duration = Duration::from_hours(30 * 24);
/// Source: Istio, the fixed timeout of generated remote code.
const DEFAULT_FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait before the second try; doubled before the third.
const DEFAULT_RETRY_DELAY: Duration = Duration::from_millis(500);

/// Configuration of a [`ModuleStore`](crate::ModuleStore).
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Where modules are kept; made if it is not there.
    ///
    /// Any number of processes may share it.
    pub directory: PathBuf,
    /// Largest module, and largest layer or download, compressed or inflated, in bytes.
    ///
    /// What is larger is refused, never cut. Default: 256 MiB.
    pub max_module_bytes: u64,
    /// Largest size of all modules in the directory, in bytes; those that were not used for longest
    /// go first, and never what a process has loaded. Default: 4 GiB.
    pub max_cache_bytes: u64,
    /// How long a module stays that nobody uses. Default: 30 days.
    ///
    /// Differs: Istio removes what was not *pushed* for a day, also while it is in use.
    pub max_unused: Duration,
    /// Longest time for one fetch with all its requests and repetitions. Default: 30 s.
    pub fetch_timeout: Duration,
    /// Wait before the second of three tries; doubled before the third. Default: 500 ms.
    pub retry_delay: Duration,
    /// Registries, `host` or `host:port`, that are asked over plain http.
    ///
    /// Loopback registries always are. All others are asked over https, and an https registry is
    /// never asked over http because https failed. Default: none.
    pub plain_http_registries: Vec<String>,
    /// Registries and servers, `host` or `host:port`, whose certificate is not verified.
    ///
    /// Source: Istio, `WASM_INSECURE_REGISTRIES`. Differs: there is no `*`. Default: none.
    pub insecure_registries: Vec<String>,
    /// Where images are asked for in place of their registry: `host[:port][/path]` by registry.
    ///
    /// A mirror is asked for everything of that registry, with credentials for the mirror and
    /// none for the registry; the registry itself is never asked. What is pushed goes to the
    /// registry all the same. Default: none.
    pub mirrors: BTreeMap<String, String>,
    /// HTTP proxy for everything but this machine.
    ///
    /// Names are then resolved by the proxy, where the guard on addresses does not reach: it still
    /// refuses addresses in URLs, and the proxy has to refuse the rest. Default: none; the
    /// environment is not looked at.
    pub proxy: Option<ProxyUrl>,
    /// Certificate authorities trusted beside those of the system, as PEM. Default: none.
    pub certificate_authorities: Vec<u8>,
    /// Networks that are never connected to, beside link-local and metadata addresses.
    ///
    /// Source: Istio, `BLOCKED_CIDRS_IN_WASM_FETCH`. Default: none.
    pub blocked_networks: Vec<IpNet>,
    /// Addresses of hosts, asked before the system's resolver, as in `/etc/hosts`.
    ///
    /// They are guarded like all others. Default: none.
    pub hosts: BTreeMap<String, IpAddr>,
    /// Which modules must be signed by whom, also if their resources do not ask for it.
    ///
    /// Default: none; then only `verificationKey` of a resource counts.
    pub signature_policy: Option<SignaturePolicy>,
    /// Called at each step of writing a file; for tests of crashes. Default: none.
    pub write_hook: Option<WriteHook>,
}

// === impl StoreOptions ===

impl StoreOptions {
    /// The defaults, with modules kept in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_module_bytes: DEFAULT_MAX_MODULE_BYTES,
            max_cache_bytes: DEFAULT_MAX_CACHE_BYTES,
            max_unused: DEFAULT_MAX_UNUSED,
            fetch_timeout: DEFAULT_FETCH_TIMEOUT,
            retry_delay: DEFAULT_RETRY_DELAY,
            plain_http_registries: Vec::new(),
            insecure_registries: Vec::new(),
            mirrors: BTreeMap::new(),
            proxy: None,
            certificate_authorities: Vec::new(),
            blocked_networks: Vec::new(),
            hosts: BTreeMap::new(),
            signature_policy: None,
            write_hook: None,
        }
    }

    /// The image to ask for: in the mirror of its registry, if it has one.
    pub(crate) fn located(&self, reference: &ImageReference) -> ImageReference {
        let Some(mirror) = self.mirrors.get(&reference.registry) else { return reference.clone() };
        let (registry, path) = mirror.split_once('/').unwrap_or((mirror, ""));
        let repository = match path.trim_matches('/') {
            "" => reference.repository.clone(),
            path => format!("{path}/{}", reference.repository),
        };
        ImageReference { registry: registry.to_owned(), repository, ..reference.clone() }
    }
}

/// Whether a host is in a list of `host` and `host:port`.
pub(crate) fn lists(list: &[String], url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or(80));
    list.iter().any(|it| it.eq_ignore_ascii_case(host) || it.eq_ignore_ascii_case(&with_port))
}
