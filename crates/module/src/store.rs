//! Cache lookup, single flight, fetch, verify, insert.

use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use wasmplug_api::{Digest, ModuleUrl};

use crate::{
    auth::Credential,
    counters::Counters,
    demand::{Demands, Met},
    disk::{Disk, Keep},
    error::{FetchError, StoreError},
    fetch::{
        Fetcher, FoundSignatures, Identity, blocking,
        file::FileFetcher,
        http::{HttpFetcher, Known},
        oci::OciFetcher,
    },
    flight::{FlightKey, Flights, Seat},
    index::Entry,
    lock::{ModuleLease, Turn},
    options::StoreOptions,
    progress::Progress,
    request::{
        CachedModule, ContentDigests, FetchSource, FetchedModule, ModuleRequest, Pruned, Removed,
        StoreCounters,
    },
    signature::{Evidence, Subject},
    transport::Transport,
    verified::{Verified, verify},
};

/// Longest look at a tag on which nothing depends, so that nothing waits long for it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a process looks whether another one has finished fetching.
const TURN_POLL: Duration = Duration::from_millis(20);

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
    /// Apart from the rest because threads that may block share it.
    disk: Arc<Disk>,
    flights: Flights,
    counters: Counters,
}

/// A request, and what was worked out about it.
struct Wanted<'a> {
    request: &'a ModuleRequest,
    url: String,
    /// Identifies who asks, without showing it; nothing if nobody in particular does.
    fingerprint: Option<Digest>,
    demands: Demands,
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
        let disk = Arc::new(Disk::open(&options).map_err(at)?);
        let (flights, counters) = (Flights::default(), Counters::default());
        Ok(Self { inner: Arc::new(Inner { options, transport, disk, flights, counters }) })
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
        let hit = store.lookup(&wanted).await?;
        store.counters.count_lookup(hit.is_some());
        if let Some(hit) = hit {
            if request.refresh {
                store.look_for_move(&wanted, &hit).await;
            }
            return Ok(hit);
        }
        let seat = store.board(&wanted);
        let fetched = seat.answer(|| store.fetch(&wanted)).await?;
        store.note_version(&wanted).await?;
        Ok(fetched)
    }

    /// Removes what nobody has used since a point in time, and, beginning with what was not used
    /// for longest, as much as it takes to have at most `max_bytes`.
    ///
    /// What a process has loaded stays. What was removed is fetched again when it is wanted again.
    /// Waits for the disk.
    ///
    /// # Errors
    ///
    /// Those of the disk; what was removed before stays removed.
    pub fn evict(&self, unused_since: SystemTime, max_bytes: u64) -> io::Result<Pruned> {
        self.inner.disk.evict(unused_since, max_bytes)
    }

    /// Removes one module, unless a process has loaded it. Waits for the disk.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn remove(&self, digest: &Digest) -> io::Result<Removed> {
        self.inner.disk.remove(digest)
    }

    /// What requests are made with.
    pub(crate) fn transport(&self) -> (&Transport, &StoreOptions) {
        (&self.inner.transport, &self.inner.options)
    }

    pub(crate) fn disk(&self) -> &Disk {
        &self.inner.disk
    }

    /// What it has done since it was opened.
    pub fn counters(&self) -> StoreCounters {
        self.inner.counters.read()
    }

    /// All modules in the cache, the one that was used last at the end. Waits for the disk.
    ///
    /// # Errors
    ///
    /// Those of the disk.
    pub fn list(&self) -> io::Result<Vec<CachedModule>> {
        self.inner.disk.list()
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
        let Some(entry) = self.entry(&wanted.url).await? else { return Ok(None) };
        let seen = entry.versions.get(&request.resource.to_string());
        let changed =
            request.resource_version.is_empty() || seen != Some(&request.resource_version);
        let changed = changed || request.refresh;
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
        let Some((bytes, lease)) = self.read_cached(&wanted.url, &digests.module).await? else {
            return Ok(None);
        };
        if !self.is_proven(wanted, &digests).await? {
            return Ok(None);
        }
        let evidence = self.kept_evidence(wanted, &digests).await?;
        // What was enough for other keys may not be enough for these; then it is asked for.
        let Ok(signed) = wanted.demands.check(&evidence, digests.subject(&bytes)) else {
            return Ok(None);
        };
        let verified = Verified { bytes, digests, checksum, signed, lease };
        Ok(Some(verified.into_module(FetchSource::Cache)))
    }

    /// Joins the flight of requests like this one, or begins it.
    fn board(&self, wanted: &Wanted<'_>) -> Seat<'_> {
        self.flights.board(FlightKey {
            url: wanted.url.clone(),
            sha256: wanted.request.sha256.clone(),
            fingerprint: wanted.fingerprint.clone(),
            demands: wanted.demands.identity(),
        })
    }

    /// Asks the registry or server.
    async fn fetch(&self, wanted: &Wanted<'_>) -> Result<FetchedModule, FetchError> {
        let _turn = self.turn(&wanted.url).await?;
        // Another flight may have landed between the first look and this one.
        if let Some(hit) = self.lookup(wanted).await? {
            return Ok(hit);
        }
        let limit = self.options.fetch_timeout;
        let fetched = tokio::select! {
            // A module that is there wins over time that is up.
            biased;
            fetched = self.fetch_unbounded(wanted) => fetched,
            () = wanted.request.progress.exhausted(limit) => {
                Err(FetchError::TimedOut { url: wanted.url.clone(), limit })
            }
        };
        self.counters.count_fetch(&fetched);
        fetched
    }

    /// Tells if a tag points at another image now; what cannot be found out is no failure, since
    /// nothing depends on it.
    async fn look_for_move(&self, wanted: &Wanted<'_>, hit: &FetchedModule) {
        let (ModuleUrl::Oci(reference), Some(from)) = (&wanted.request.url, &hit.manifest_digest)
        else {
            return;
        };
        if reference.digest.is_some() {
            return;
        }
        let credentials = wanted.request.credentials.as_ref();
        let (transport, options, url) = (&self.transport, &self.options, wanted.url.clone());
        let located = async {
            let progress = Progress::default();
            OciFetcher::new(transport, options, url, reference, credentials, progress)?
                .locate()
                .await
        };
        match tokio::time::timeout(options.fetch_timeout.min(LOOK_TIMEOUT), located).await {
            Ok(Ok((Identity { manifest: Some(to), .. }, _))) if to != *from => {
                self.counters.tag_moved(&wanted.url, from, &to, false);
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(url = %wanted.url, error = %error, "cannot look at a tag");
            }
            Err(_) => tracing::debug!(url = %wanted.url, "looking at a tag took too long"),
        }
    }

    /// Waits until no other process fetches from this URL, so that they download it once.
    ///
    /// Nobody depends on it: who waits for too long, or has no disk for locks, goes on without.
    async fn turn(&self, url: &str) -> Result<Option<Turn>, FetchError> {
        let wait = async {
            loop {
                let (disk, owned) = (Arc::clone(&self.disk), url.to_owned());
                match blocking(url, move || disk.try_turn(&owned)).await? {
                    Ok(Some(turn)) => return Ok(Some(turn)),
                    Ok(None) => tokio::time::sleep(TURN_POLL).await,
                    Err(error) => {
                        tracing::debug!(error = %error, "cannot lock the module cache");
                        return Ok(None);
                    }
                }
            }
        };
        tokio::time::timeout(self.options.fetch_timeout, wait).await.unwrap_or(Ok(None))
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
                let progress = wanted.request.progress.clone();
                let known = self.known(wanted).await?;
                let validator = None;
                let mut fetcher =
                    HttpFetcher { transport, url, location, limit, progress, known, validator };
                self.run(wanted, &mut fetcher).await
            }
            ModuleUrl::Oci(reference) => {
                let (transport, options) = (&self.transport, &self.options);
                let credentials = wanted.request.credentials.as_ref();
                let progress = wanted.request.progress.clone();
                let mut fetcher =
                    OciFetcher::new(transport, options, url, reference, credentials, progress)?;
                self.run(wanted, &mut fetcher).await
            }
        }
    }

    /// What the cache has of a download, if the server can say that it is still the same.
    async fn known(&self, wanted: &Wanted<'_>) -> Result<Option<Known>, FetchError> {
        let entry = self.entry(&wanted.url).await?;
        let Some(entry) = entry.filter(|it| it.allows(wanted.fingerprint.as_ref())) else {
            return Ok(None);
        };
        let Some(validator) = entry.validator else { return Ok(None) };
        let cached = self.read_cached(&wanted.url, &entry.module).await?;
        Ok(cached.map(|(bytes, _)| Known { validator, bytes }))
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
        let known = match identity.manifest.clone() {
            Some(manifest) => {
                let disk = Arc::clone(&self.disk);
                blocking(url, move || disk.index.module_of(&manifest)).await?
            }
            None => None,
        };
        let known = match known {
            Some(module) if self.is_proven(wanted, &identity.with(&module)).await? => Some(module),
            _ => None,
        };
        let cached = match &known {
            Some(module) => self.read_cached(url, module).await?,
            None => None,
        };
        let (bytes, lease, source) = match cached {
            Some((bytes, lease)) => (bytes, lease, FetchSource::Cache),
            None => {
                let bytes = fetcher.download(located).await?;
                (bytes, ModuleLease::default(), FetchSource::Network)
            }
        };
        let private = identity.private;
        let mut verified = verify(wanted.request, bytes, &identity).await?;
        verified.lease = lease;
        let subject = verified.digests.subject(&verified.bytes);
        verified.signed = self.check_signatures(wanted, fetcher, &identity, subject).await?;
        if matches!(wanted.request.url, ModuleUrl::File(_)) {
            return Ok(verified.into_module(FetchSource::File));
        }
        let before = self.entry(url).await?.and_then(|entry| entry.manifest);
        if let (Some(from), Some(to)) = (&before, &verified.digests.manifest)
            && from != to
        {
            self.counters.tag_moved(url, from, to, true);
        }
        let fingerprint = wanted.fingerprint.as_ref().filter(|_| private);
        let keep = Keep {
            url: url.clone(),
            digests: verified.digests.clone(),
            bytes: (source == FetchSource::Network).then(|| verified.bytes.clone()),
            evidence: verified.signed.evidence.clone(),
            chain: if wanted.demands.is_empty() { Vec::new() } else { fetcher.chain() },
            validator: fetcher.validator(),
            fingerprint: fingerprint.cloned(),
        };
        self.keep(keep, &mut verified).await?;
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
        let disk = Arc::clone(&self.disk);
        let about: Vec<Digest> = subject.digests().cloned().collect();
        let kept = blocking(&wanted.url, move || disk.evidence(about.iter())).await?;
        if let Ok(met) = demands.check(&kept, subject) {
            return Ok(met);
        }
        let FoundSignatures { evidence, looked } = fetcher.signatures(identity).await?;
        demands.enforce(&wanted.request.url, &evidence, looked, subject)
    }

    /// Whether a cached module is shown to be that of its image, if that matters.
    async fn is_proven(
        &self,
        wanted: &Wanted<'_>,
        digests: &ContentDigests,
    ) -> Result<bool, FetchError> {
        if wanted.demands.is_empty() {
            return Ok(true);
        }
        let (disk, digests) = (Arc::clone(&self.disk), digests.clone());
        blocking(&wanted.url, move || disk.proves(&digests)).await
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
        blocking(&wanted.url, move || disk.evidence(digests.all())).await
    }

    /// Puts a verified module into the cache.
    ///
    /// A disk that is full or read-only must not keep a good module from running, so that is only
    /// a warning.
    async fn keep(&self, keep: Keep, verified: &mut Verified) -> Result<(), FetchError> {
        let (url, is_new) = (keep.url.clone(), keep.bytes.is_some());
        let lease = self.write(&url, move |disk, _| disk.keep(keep)).await?;
        if let (Some(lease), true) = (lease, is_new) {
            verified.lease = lease;
        }
        Ok(())
    }

    /// Remembers that this version of the resource was served, once it was.
    async fn note_version(&self, wanted: &Wanted<'_>) -> Result<(), FetchError> {
        let request = wanted.request;
        if request.resource_version.is_empty() {
            // It counts as changed each time, so there is nothing to remember.
            return Ok(());
        }
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
        .map(drop)
    }

    async fn entry(&self, url: &str) -> Result<Option<Entry>, FetchError> {
        let (disk, owned) = (Arc::clone(&self.disk), url.to_owned());
        blocking(url, move || disk.index.entry(&owned)).await
    }

    /// Reads a module; a disk that cannot be read counts as an empty one.
    async fn read_cached(
        &self,
        url: &str,
        digest: &Digest,
    ) -> Result<Option<(Bytes, ModuleLease)>, FetchError> {
        let (disk, digest) = (Arc::clone(&self.disk), digest.clone());
        blocking(url, move || disk.read(&digest)).await
    }

    /// Writes to the disk; a failure is a warning, and then there is nothing to return.
    async fn write<T: Send + 'static>(
        &self,
        url: &str,
        work: impl FnOnce(&Disk, &str) -> io::Result<T> + Send + 'static,
    ) -> Result<Option<T>, FetchError> {
        let (disk, owned) = (Arc::clone(&self.disk), url.to_owned());
        match blocking(url, move || work(&disk, &owned)).await? {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                tracing::warn!(url, error = %error, "cannot write the module cache");
                Ok(None)
            }
        }
    }

    fn fingerprint(&self, request: &ModuleRequest) -> Option<Digest> {
        let salt = self.disk.index.salt();
        match &request.url {
            ModuleUrl::File(_) => None,
            ModuleUrl::Http(url) => {
                Credential::from_url(url).map(|credential| credential.fingerprint(salt.as_bytes()))
            }
            ModuleUrl::Oci(reference) => {
                let located = self.options.located(reference);
                let credential = request.credentials.as_ref().and_then(|all| all.find(&located));
                credential.map(|credential| credential.fingerprint(salt.as_bytes()))
            }
        }
    }
}
