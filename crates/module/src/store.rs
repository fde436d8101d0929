//! Cache lookup, single flight, fetch, verify, insert.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use tokio::sync::OnceCell;
use wasmplug_api::{Digest, ModuleUrl};

use crate::{
    auth::Credential,
    cache::Cache,
    contents::check_module,
    demand::{Demands, Met},
    error::{FetchError, Mismatch, StoreError},
    evidence::EvidenceStore,
    fetch::{
        Fetcher, FoundSignatures, Identity, blocking, file::FileFetcher, http::HttpFetcher,
        oci::OciFetcher,
    },
    index::{Entry, Index},
    options::StoreOptions,
    request::{ChecksumMatch, ContentDigests, FetchSource, FetchedModule, ModuleRequest, Pruned},
    signature::{Evidence, Subject},
    transport::Transport,
};

/// Modules by URL, kept on disk; cheap to clone, and all clones are one store.
///
/// Needs a tokio runtime with I/O and time enabled wherever it is used.
#[derive(Debug, Clone)]
pub struct ModuleStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: StoreOptions,
    transport: Transport,
    disk: Arc<Disk>,
    flights: Mutex<HashMap<FlightKey, Flight>>,
}

/// What is kept; apart from the rest because threads that may block share it.
#[derive(Debug)]
struct Disk {
    cache: Cache,
    index: Index,
    evidence: EvidenceStore,
}

/// A request, and what was worked out about it.
struct Wanted<'a> {
    request: &'a ModuleRequest,
    url: String,
    /// Identifies who asks, without showing it; nothing if nobody in particular does.
    fingerprint: Option<Digest>,
    demands: Demands,
}

/// Requests with the same key have the same answer now, so one of them asks for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct FlightKey {
    url: String,
    sha256: Option<Digest>,
    fingerprint: Option<Digest>,
    demands: Vec<String>,
}

/// Empty until the answer is there; whoever waits takes over if the asking one is dropped.
type Flight = Arc<OnceCell<Result<FetchedModule, FetchError>>>;

/// Membership in a flight; the last one to leave removes it.
struct Seat<'a> {
    store: &'a Inner,
    key: FlightKey,
    flight: Flight,
}

/// A module that passed every check.
struct Verified {
    bytes: Bytes,
    digests: ContentDigests,
    checksum: Option<ChecksumMatch>,
    signed: Met,
}

// === impl ModuleStore ===

impl ModuleStore {
    /// Opens the store in its directory.
    ///
    /// # Errors
    ///
    /// When the directory cannot be used, or the certificate authorities are malformed.
    pub fn open(options: StoreOptions) -> Result<Self, StoreError> {
        let transport = Transport::new(&options)?;
        let directory = &options.directory;
        let at = |source| StoreError::Directory { directory: directory.clone(), source };
        let cache = Cache::open(directory, options.max_module_bytes).map_err(at)?;
        let index = Index::open(directory).map_err(at)?;
        let flights = Mutex::new(HashMap::new());
        let evidence = EvidenceStore::new(directory);
        let disk = Arc::new(Disk { cache, index, evidence });
        Ok(Self { inner: Arc::new(Inner { options, transport, disk, flights }) })
    }

    /// Gets a verified module.
    ///
    /// A module is taken from the cache if the URL is known, the policy allows it, the requested
    /// `sha256` is among the digests found *under this URL*, and these credentials got it before;
    /// otherwise the registry or server is asked. Concurrent requests for the same module ask
    /// once.
    ///
    /// # Errors
    ///
    /// Every variant of [`FetchError`]. The cache is then as it was before.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time; concurrent requests go on.
    pub async fn get(&self, request: &ModuleRequest) -> Result<FetchedModule, FetchError> {
        let store = &*self.inner;
        let wanted = store.wanted(request)?;
        if let ModuleUrl::File(_) = &request.url {
            return store.fetch_unbounded(&wanted).await;
        }
        if let Some(hit) = store.lookup(&wanted).await? {
            return Ok(hit);
        }
        let seat = store.board(&wanted);
        let fetched = seat.flight.get_or_init(|| store.fetch(&wanted)).await.clone()?;
        store.note_version(&wanted).await?;
        Ok(fetched)
    }

    /// Removes modules that nobody got from the cache since a point in time, except those in use.
    ///
    /// What was removed is fetched again when it is wanted again. Waits for the disk.
    ///
    /// Differs: Istio purges what was not *pushed* for a day, also while it is in use.
    ///
    /// # Errors
    ///
    /// Those of the disk; what was removed before stays removed.
    pub fn prune(&self, unused_since: SystemTime, in_use: &HashSet<Digest>) -> io::Result<Pruned> {
        let Disk { cache, index, evidence } = &*self.inner.disk;
        let (files, bytes) = cache.prune(unused_since, in_use)?;
        if files > 0 {
            index.retain(|module| cache.has(module))?;
            let known = index.known();
            evidence.retain(|hex| known.contains(hex))?;
        }
        Ok(Pruned { files, bytes })
    }
}

// === impl Inner ===

impl Inner {
    fn wanted<'a>(&self, request: &'a ModuleRequest) -> Result<Wanted<'a>, FetchError> {
        let demands = Demands::of(request, self.options.signature_policy.as_ref())?;
        let (url, fingerprint) = (request.url.to_string(), self.fingerprint(request));
        Ok(Wanted { request, url, fingerprint, demands })
    }

    /// Answers from the cache, if everything allows it.
    async fn lookup(&self, wanted: &Wanted<'_>) -> Result<Option<FetchedModule>, FetchError> {
        let request = wanted.request;
        let Some(entry) = self.disk.index.entry(&wanted.url) else { return Ok(None) };
        let seen = entry.versions.get(&request.resource.to_string());
        let changed =
            request.resource_version.is_empty() || seen != Some(&request.resource_version);
        let allowed = entry.allows(wanted.fingerprint.as_ref());
        if (request.pulls_always() && changed) || !allowed {
            return Ok(None);
        }
        let digests = entry.digests();
        let checksum = match &request.sha256 {
            None => None,
            Some(wanted) => match digests.find(wanted) {
                Some(found) => Some(found),
                // What is under this URL now may be another thing.
                None => return Ok(None),
            },
        };
        let Some(bytes) = self.read_cached(&wanted.url, &digests.module).await? else {
            return Ok(None);
        };
        let evidence = self.kept_evidence(wanted, &digests).await?;
        // What was enough for other keys may not be enough for these; then it is asked for.
        let Ok(signed) = wanted.demands.check(&evidence, digests.subject(&bytes)) else {
            return Ok(None);
        };
        let verified = Verified { bytes, digests, checksum, signed };
        Ok(Some(verified.into_module(FetchSource::Cache)))
    }

    /// Joins the flight of requests like this one, or begins it.
    fn board(&self, wanted: &Wanted<'_>) -> Seat<'_> {
        let key = FlightKey {
            url: wanted.url.clone(),
            sha256: wanted.request.sha256.clone(),
            fingerprint: wanted.fingerprint.clone(),
            demands: wanted.demands.identity(),
        };
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = Arc::clone(flights.entry(key.clone()).or_default());
        Seat { store: self, key, flight }
    }

    /// Asks the registry or server.
    async fn fetch(&self, wanted: &Wanted<'_>) -> Result<FetchedModule, FetchError> {
        // Another flight may have landed between the first look and this one.
        if let Some(hit) = self.lookup(wanted).await? {
            return Ok(hit);
        }
        let limit = self.options.fetch_timeout;
        let fetched = tokio::time::timeout(limit, self.fetch_unbounded(wanted)).await;
        fetched.unwrap_or_else(|_| Err(FetchError::TimedOut { url: wanted.url.clone(), limit }))
    }

    async fn fetch_unbounded(&self, wanted: &Wanted<'_>) -> Result<FetchedModule, FetchError> {
        let url = wanted.url.clone();
        let limit = self.options.max_module_bytes;
        tracing::debug!(url = %url, "fetching a module");
        match &wanted.request.url {
            ModuleUrl::File(path) => {
                let mut fetcher = FileFetcher { url, path: path.clone(), limit };
                self.run(wanted, &mut fetcher).await
            }
            ModuleUrl::Http(location) => {
                let (transport, location) = (&self.transport, location.clone());
                let mut fetcher = HttpFetcher { transport, url, location, limit };
                self.run(wanted, &mut fetcher).await
            }
            ModuleUrl::Oci(reference) => {
                let (transport, options) = (&self.transport, &self.options);
                let credentials = wanted.request.credentials.as_ref();
                let mut fetcher = OciFetcher::new(transport, options, url, reference, credentials)?;
                self.run(wanted, &mut fetcher).await
            }
        }
    }

    /// Locates, looks at signatures, downloads unless it is there already, verifies, keeps.
    async fn run<F: Fetcher>(
        &self,
        wanted: &Wanted<'_>,
        fetcher: &mut F,
    ) -> Result<FetchedModule, FetchError> {
        let url = &wanted.url;
        let (identity, located) = fetcher.locate().await?;
        if identity.manifest.is_some() {
            // An image that is not signed is not even downloaded.
            self.check_signatures(wanted, fetcher, &identity, identity.subject()).await?;
        }
        let known = identity.manifest.as_ref().and_then(|it| self.disk.index.module_of(it));
        let cached = match &known {
            Some(module) => self.read_cached(url, module).await?,
            None => None,
        };
        let (bytes, source) = match cached {
            Some(bytes) => (bytes, FetchSource::Cache),
            None => (fetcher.download(located).await?, FetchSource::Network),
        };
        let private = identity.private;
        let mut verified = verify(wanted.request, bytes, &identity).await?;
        let subject = verified.digests.subject(&verified.bytes);
        verified.signed = self.check_signatures(wanted, fetcher, &identity, subject).await?;
        if matches!(wanted.request.url, ModuleUrl::File(_)) {
            return Ok(verified.into_module(FetchSource::File));
        }
        let fingerprint = wanted.fingerprint.as_ref().filter(|_| private);
        self.keep(url, &verified, source, fingerprint).await?;
        Ok(verified.into_module(source))
    }

    /// Demands signatures: what was kept is enough, or else what is there now must be.
    async fn check_signatures<F: Fetcher>(
        &self,
        wanted: &Wanted<'_>,
        fetcher: &mut F,
        identity: &Identity,
        subject: Subject<'_>,
    ) -> Result<Met, FetchError> {
        let demands = &wanted.demands;
        if demands.is_empty() {
            return Ok(Met::default());
        }
        let kept = self.disk.evidence.clone();
        let about: Vec<Digest> = subject.digests().cloned().collect();
        let kept = blocking(&wanted.url, move || kept.read(about.iter())).await?;
        if let Ok(met) = demands.check(&kept, subject) {
            return Ok(met);
        }
        let FoundSignatures { evidence, looked } = fetcher.signatures(identity).await?;
        demands.enforce(&wanted.request.url, &evidence, looked, subject)
    }

    async fn kept_evidence(
        &self,
        wanted: &Wanted<'_>,
        digests: &ContentDigests,
    ) -> Result<Vec<Evidence>, FetchError> {
        if wanted.demands.is_empty() {
            return Ok(Vec::new());
        }
        let (disk, digests) = (Arc::clone(&self.disk), digests.clone());
        blocking(&wanted.url, move || disk.evidence.read(digests.all())).await
    }

    /// Puts a verified module into the cache.
    ///
    /// A disk that is full or read-only must not keep a good module from running, so that is only
    /// a warning.
    async fn keep(
        &self,
        url: &str,
        verified: &Verified,
        source: FetchSource,
        fingerprint: Option<&Digest>,
    ) -> Result<(), FetchError> {
        let (bytes, digests) = (verified.bytes.clone(), verified.digests.clone());
        let evidence = verified.signed.evidence.clone();
        let fingerprint = fingerprint.cloned();
        self.write(url, move |disk, url| {
            if source == FetchSource::Network {
                disk.cache.insert(&digests.module, &bytes)?;
            }
            if !evidence.is_empty() {
                let subject = digests.manifest.as_ref().unwrap_or(&digests.module);
                disk.evidence.insert(subject, &evidence)?;
            }
            disk.index.update(url, |old| Entry::renewed(old, digests, fingerprint))
        })
        .await
    }

    /// Remembers that this version of the resource was served, once it was.
    async fn note_version(&self, wanted: &Wanted<'_>) -> Result<(), FetchError> {
        let request = wanted.request;
        let (resource, version) = (request.resource.to_string(), request.resource_version.clone());
        self.write(&wanted.url, move |disk, url| match disk.index.entry(url) {
            None => Ok(()),
            Some(entry) => disk.index.update(url, |old| {
                let mut entry = old.unwrap_or(entry);
                entry.versions.insert(resource, version);
                entry
            }),
        })
        .await
    }

    /// Reads a module; a disk that cannot be read counts as an empty one.
    async fn read_cached(&self, url: &str, digest: &Digest) -> Result<Option<Bytes>, FetchError> {
        let (disk, digest) = (Arc::clone(&self.disk), digest.clone());
        let read = blocking(url, move || disk.cache.read(&digest)).await?;
        Ok(read.unwrap_or_else(|error| {
            tracing::warn!(url, error = %error, "cannot read the module cache");
            None
        }))
    }

    async fn write(
        &self,
        url: &str,
        work: impl FnOnce(&Disk, &str) -> io::Result<()> + Send + 'static,
    ) -> Result<(), FetchError> {
        let (disk, owned) = (Arc::clone(&self.disk), url.to_owned());
        if let Err(error) = blocking(url, move || work(&disk, &owned)).await? {
            tracing::warn!(url, error = %error, "cannot write the module cache");
        }
        Ok(())
    }

    fn fingerprint(&self, request: &ModuleRequest) -> Option<Digest> {
        let salt = self.disk.index.salt();
        match &request.url {
            ModuleUrl::File(_) => None,
            ModuleUrl::Http(url) => {
                Credential::from_url(url).map(|credential| credential.fingerprint(salt.as_bytes()))
            }
            ModuleUrl::Oci(reference) => {
                let credential = request.credentials.as_ref().and_then(|all| all.find(reference));
                credential.map(|credential| credential.fingerprint(salt.as_bytes()))
            }
        }
    }
}

/// Checks that it is a module, and the one that was asked for.
async fn verify(
    request: &ModuleRequest,
    bytes: Bytes,
    identity: &Identity,
) -> Result<Verified, FetchError> {
    let url = request.url.to_string();
    // What is no module at all is said first: it explains a wrong digest.
    if let Err(contents) = check_module(&bytes) {
        return Err(FetchError::NotWasm { url, contents });
    }
    let hashed = bytes.clone();
    let module = blocking(&url, move || Digest::sha256_of(&hashed)).await?;
    let (manifest, index) = (identity.manifest.clone(), identity.index.clone());
    let digests = ContentDigests { module, manifest, index };
    let checksum = match &request.sha256 {
        None => None,
        Some(wanted) => match digests.find(wanted) {
            Some(found) => Some(found),
            None => {
                let mismatch = Mismatch::new(url, wanted.clone(), digests);
                return Err(FetchError::DigestMismatch(Box::new(mismatch)));
            }
        },
    };
    Ok(Verified { bytes, digests, checksum, signed: Met::default() })
}

// === impl Verified ===

impl Verified {
    fn into_module(self, source: FetchSource) -> FetchedModule {
        let ContentDigests { module, manifest, index } = self.digests;
        FetchedModule {
            bytes: self.bytes,
            digest: module,
            manifest_digest: manifest,
            index_digest: index,
            checksum: self.checksum,
            signatures: self.signed.verified,
            source,
        }
    }
}

// === impl Seat ===

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flights = self.store.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let current = flights.get(&self.key).is_some_and(|it| Arc::ptr_eq(it, &self.flight));
        // Landed, or nobody else is on board: the map and this seat.
        if current && (self.flight.initialized() || Arc::strong_count(&self.flight) <= 2) {
            flights.remove(&self.key);
        }
    }
}
