//! From a plan to a snapshot: fetch, compile, try to start.
//!
//! A plugin that fails on the way does not fail the snapshot: its last good form stays, or, if
//! there is none, its `failStrategy` decides what stands in its place.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::{join, join_all};
use wasmplug_api::{
    Digest, EnvValueSource, FailStrategy, NamespacedName, Plan, PlannedAuthentication,
    PlannedFilter, PlannedPlugin,
};
use wasmplug_host::{
    CompiledCache, CompiledModule, Host, Limits, LoadError, SetLimitError, StartError, VmIdLease,
};
use wasmplug_module::{
    FetchError, FetchedModule, ModuleLease, ModuleRequest, ModuleStore, PullSecretError,
    PullSecrets,
};

use crate::filters::built_in::{BuiltInKind, BuiltInSpec};
use crate::filters::cors::Cors;
use crate::filters::fault::Fault;
use crate::filters::jwt_authn::{AuthenticationStats, JwtAuthnSpec};
use crate::filters::stats::StatsSpec;
use crate::filters::wasm::ThreadSlot;
use crate::key_store::KeyStore;
use crate::rollout::{Rollout, planned_candidate};
use crate::snapshot::{
    FilterSpec, PluginRole, PluginSpec, PluginStats, Refusal, Rejected, RejectedEffect, Snapshot,
    VmKey, vm_id,
};

mod candidates;
mod policies;
mod trial;

use self::candidates::Candidates;

/// What variables are named that Istio passes to its own agent; plugins never see them.
const RESERVED_VARIABLES: &str = "ISTIO_META_";

/// Builds one snapshot after the other, remembering what was good.
pub struct SnapshotBuilder {
    host: Arc<Host>,
    store: Arc<ModuleStore>,
    limits: Limits,
    /// Variables that `vmConfig.env` may copy from.
    host_environment: HashMap<String, String>,
    version: u64,
    last_good: HashMap<NamespacedName, Arc<PluginSpec>>,
    compiled: HashMap<Digest, CompiledModule>,
    /// Compiled code on disk, if it is kept.
    compiled_cache: Option<Arc<CompiledCache>>,
    /// Keeps what is compiled in the cache on disk.
    leases: HashMap<Digest, ModuleLease>,
    stats: Option<Arc<StatsSpec>>,
    /// Keys of token issuers.
    keys: KeyStore,
    authentication_stats: Arc<AuthenticationStats>,
    /// What was built last.
    latest: Snapshot,
}

/// What one build has taken over and what not.
struct Taken<'a> {
    good: &'a mut HashMap<NamespacedName, Arc<PluginSpec>>,
    rejected: &'a mut Vec<Rejected>,
}

/// Which version of a plugin is made.
struct Version {
    role: PluginRole,
    rollout: Option<Rollout>,
}

/// How modules are pulled for one build.
#[derive(Debug, Clone, Default)]
pub struct PullOptions {
    /// The secrets that `imagePullSecret` may name.
    pub secrets: PullSecrets,
    /// Whether to look for moved tags although the resources have not changed; see
    /// [`ModuleRequest::refresh`].
    pub refresh: bool,
}

/// Why a plugin cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The secret that it is to be pulled with is no use.
    #[error("cannot pull the module of `{resource}`")]
    PullSecret {
        /// The plugin's resource.
        resource: NamespacedName,
        /// Why.
        #[source]
        source: PullSecretError,
    },
    /// Its module could not be had.
    #[error("cannot fetch the module of `{resource}`")]
    Fetch {
        /// The plugin's resource.
        resource: NamespacedName,
        /// Why.
        #[source]
        source: FetchError,
    },
    /// Its module is not a plugin that this host can run.
    #[error("cannot load the module of `{resource}`")]
    Load {
        /// The plugin's resource.
        resource: NamespacedName,
        /// Why.
        #[source]
        source: LoadError,
    },
    /// It does not start with its configuration.
    #[error("cannot start `{resource}`")]
    Start {
        /// The plugin's resource.
        resource: NamespacedName,
        /// Why.
        #[source]
        source: StartError,
    },
    /// A limit of its own cannot be what its annotation says.
    #[error("cannot limit `{resource}` as its annotation `wasmplug.dev/limits` says")]
    Limit {
        /// The plugin's resource.
        resource: NamespacedName,
        /// Why.
        #[source]
        source: SetLimitError,
    },
    /// The thread that compiled it ended without a result.
    #[error("the compiler gave up on `{resource}`")]
    Aborted {
        /// The plugin's resource.
        resource: NamespacedName,
    },
}

// === impl SnapshotBuilder ===

impl SnapshotBuilder {
    /// A builder that has seen nothing yet.
    ///
    /// `host_environment` is what `valueFrom: HOST` may copy; nothing else reads the environment.
    pub fn new(
        host: Arc<Host>,
        store: Arc<ModuleStore>,
        limits: Limits,
        host_environment: HashMap<String, String>,
    ) -> Self {
        let keys = KeyStore::new(Arc::clone(&store));
        Self {
            host,
            store,
            limits,
            host_environment,
            version: 0,
            last_good: HashMap::new(),
            compiled: HashMap::new(),
            compiled_cache: None,
            leases: HashMap::new(),
            stats: None,
            authentication_stats: Arc::new(AuthenticationStats::new(Arc::clone(keys.stats()))),
            keys,
            latest: Snapshot::default(),
        }
    }

    /// Keeps compiled code there.
    #[must_use]
    pub fn with_compiled_cache(self, cache: CompiledCache) -> Self {
        Self { compiled_cache: Some(Arc::new(cache)), ..self }
    }

    /// Builds the snapshot of a plan. Takes as long as fetching and compiling take.
    pub async fn build(&mut self, plan: &Plan, pull: &PullOptions) -> Snapshot {
        let planned: Vec<&PlannedPlugin> = plan.plugins().chain(&plan.network_plugins).collect();
        let candidates: Vec<PlannedPlugin> = plan.plugins().filter_map(planned_candidate).collect();
        let store = &self.store;
        let count = planned.len();
        let modules = planned.into_iter().chain(&candidates);
        let modules = modules.map(|plugin| fetch(store, plugin, pull));
        // Modules and keys are waited for together.
        let (mut fetched, ()) = join(join_all(modules), self.keys.update(plan)).await;
        let of_candidates = fetched.split_off(count.min(fetched.len()));
        let mut candidates = Candidates::new(candidates.into_iter().zip(of_candidates));
        let mut fetched = fetched.into_iter();
        let mut snapshot = Snapshot {
            version: self.version.saturating_add(1),
            path_normalization: plan.path_normalization,
            requires_mutual_tls: plan.requires_mutual_tls(),
            stats: self.stats(plan),
            ..Snapshot::default()
        };
        let mut good = HashMap::new();
        for filter in &plan.filters {
            let spec = match filter {
                PlannedFilter::Wasm(plugin) => {
                    let fetched = fetched.next();
                    let mut taken = Taken { good: &mut good, rejected: &mut snapshot.rejected };
                    let rollout = self.take_candidate(plugin, &mut candidates, &mut taken).await;
                    self.take_plugin(plugin, fetched, rollout, &mut taken).await
                }
                PlannedFilter::Rbac(authorization) => {
                    Some(policies::http(authorization, plan, &mut snapshot.rejected))
                }
                PlannedFilter::ExtAuthz(authorization) => {
                    policies::external(authorization, plan, &mut snapshot.rejected)
                }
                _ => self.built_in(filter, plan.port),
            };
            snapshot.filters.extend(spec);
        }
        let mut policies = Some(policies::network(plan));
        for plugin in &plan.network_plugins {
            if !policies::is_in_front(plugin) {
                snapshot.network_filters.extend(policies.take().into_iter().flatten());
            }
            let fetched = fetched.next();
            let mut taken = Taken { good: &mut good, rejected: &mut snapshot.rejected };
            let spec = self.take_plugin(plugin, fetched, None, &mut taken).await;
            snapshot.network_filters.extend(spec);
        }
        snapshot.network_filters.extend(policies.into_iter().flatten());
        self.version = snapshot.version;
        self.last_good = good;
        let used: Vec<&Digest> = self.last_good.values().map(|spec| &spec.digest).collect();
        self.compiled.retain(|digest, _| used.contains(&digest));
        self.leases.retain(|digest, _| used.contains(&digest));
        snapshot.modules = self.store.counters();
        self.latest = snapshot.clone();
        snapshot
    }

    /// When keys of token issuers are to be fetched again, by [`Self::refresh_keys`]; `None` if
    /// the last plan names none that are fetched.
    pub fn keys_due(&self) -> Option<tokio::time::Instant> {
        self.keys.next_due()
    }

    /// The snapshot that was built last, of this plan, with the newest keys of token issuers.
    /// Nothing else is looked at.
    pub async fn refresh_keys(&mut self, plan: &Plan) -> Snapshot {
        self.keys.update(plan).await;
        let mut snapshot = self.latest.clone();
        self.version = self.version.saturating_add(1);
        snapshot.version = self.version;
        for planned in &plan.filters {
            let PlannedFilter::JwtAuthn(planned) = planned else { continue };
            for filter in &mut snapshot.filters {
                if let FilterSpec::BuiltIn(BuiltInSpec(kind @ BuiltInKind::JwtAuthn(_))) = filter {
                    *kind = self.jwt_authn(planned);
                }
            }
        }
        self.latest = snapshot.clone();
        snapshot
    }

    fn jwt_authn(&self, planned: &PlannedAuthentication) -> BuiltInKind {
        let keys = self.keys.of(planned);
        let stats = Arc::clone(&self.authentication_stats);
        BuiltInKind::JwtAuthn(Arc::new(JwtAuthnSpec::new(planned, keys, stats)))
    }

    /// The metrics that the plan asks for; what goes on as it is keeps its counts.
    fn stats(&mut self, plan: &Plan) -> Option<Arc<StatsSpec>> {
        let planned = plan.filters.iter().find_map(|filter| match filter {
            PlannedFilter::Stats(metrics) => Some(metrics),
            _ => None,
        });
        let same = self.stats.take().filter(|spec| planned.is_some_and(|of| spec.is_of(of)));
        self.stats = same.or_else(|| planned.map(|of| Arc::new(StatsSpec::new(of))));
        for source in self.stats.iter().flat_map(|spec| spec.refused_expressions()) {
            tracing::warn!(expression = source, "the value of a tag cannot be evaluated");
        }
        self.stats.clone()
    }

    /// A filter of the proxy's own; `None` for what is not a filter here.
    fn built_in(&self, filter: &PlannedFilter, port: Option<u16>) -> Option<FilterSpec> {
        let kind = match filter {
            PlannedFilter::JwtAuthn(planned) => self.jwt_authn(planned),
            PlannedFilter::Fault(routes) => BuiltInKind::Fault(Arc::new(Fault::new(routes, port))),
            PlannedFilter::Cors(routes) => BuiltInKind::Cors(Arc::new(Cors::new(routes, port))),
            PlannedFilter::Wasm(_)
            | PlannedFilter::Router
            | PlannedFilter::Rbac(_)
            | PlannedFilter::ExtAuthz(_)
            | PlannedFilter::Stats(_) => return None,
        };
        Some(FilterSpec::BuiltIn(BuiltInSpec(kind)))
    }

    /// Makes the plugin, or what stands in its place; `None` if it is skipped.
    async fn take_plugin(
        &mut self,
        plugin: &PlannedPlugin,
        fetched: Option<Result<FetchedModule, BuildError>>,
        rollout: Option<Rollout>,
        taken: &mut Taken<'_>,
    ) -> Option<FilterSpec> {
        let resource = &plugin.resource;
        let made = match fetched? {
            Ok(module) => {
                self.leases.insert(module.digest.clone(), module.lease);
                let version = Version { role: PluginRole::Stable, rollout };
                self.make(plugin, module.digest, module.bytes, version).await
            }
            Err(error) => Err(error),
        };
        let error = match made {
            Ok(spec) => {
                taken.good.insert(resource.clone(), Arc::clone(&spec));
                return Some(FilterSpec::Wasm(spec));
            }
            Err(error) => error,
        };
        let previous = self.last_good.get(resource).cloned();
        let effect = effect(&error, plugin.fail_strategy, previous.is_some());
        taken.rejected.push(error.into_rejected(resource.clone(), effect));
        match effect {
            RejectedEffect::Refuses(with) => {
                Some(FilterSpec::Refuse { resource: resource.clone(), with })
            }
            RejectedEffect::Skipped => None,
            RejectedEffect::KeepsLastGood => {
                let previous = previous?;
                taken.good.insert(resource.clone(), Arc::clone(&previous));
                Some(FilterSpec::Wasm(previous))
            }
        }
    }

    /// Compiles the module if need be and starts the plugin once, on a thread that may block.
    async fn make(
        &mut self,
        planned: &PlannedPlugin,
        digest: Digest,
        bytes: bytes::Bytes,
        version: Version,
    ) -> Result<Arc<PluginSpec>, BuildError> {
        let resource = planned.resource.clone();
        let module = match self.compiled.get(&digest) {
            Some(module) => module.clone(),
            None => {
                let host = Arc::clone(&self.host);
                let cache = self.compiled_cache.clone();
                let compile = move || match cache {
                    Some(cache) => cache.compile(&host, &bytes),
                    None => CompiledModule::compile(&host, &bytes),
                };
                let compiled = tokio::task::spawn_blocking(compile).await;
                let compiled =
                    compiled.map_err(|_| BuildError::Aborted { resource: resource.clone() })?;
                let module = compiled
                    .map_err(|source| BuildError::Load { resource: resource.clone(), source })?;
                self.compiled.insert(digest.clone(), module.clone());
                module
            }
        };
        let limits = self.limits_of(planned).map_err(|source| {
            let resource = planned.resource.clone();
            BuildError::Limit { resource, source }
        })?;
        let spec = Arc::new(self.spec(planned, digest, module, version, limits));
        if let Some(previous) = self.last_good.get(&resource)
            && previous.is_equivalent(&spec)
            && previous.phase == spec.phase
            && previous.priority == spec.priority
            && previous.url == spec.url
        {
            return Ok(Arc::clone(previous));
        }
        let host = Arc::clone(&self.host);
        let tried = Arc::clone(&spec);
        let started = tokio::task::spawn_blocking(move || trial::start(&host, &tried)).await;
        started
            .map_err(|_| BuildError::Aborted { resource: resource.clone() })?
            .map_err(|source| BuildError::Start { resource, source })?;
        Ok(spec)
    }

    /// Those of the process, or tighter ones of its own: who may apply a plugin may not decide how
    /// much of the machine it gets.
    fn limits_of(&self, planned: &PlannedPlugin) -> Result<Limits, SetLimitError> {
        let mut limits = self.limits.clone();
        for (name, text) in &planned.limits {
            limits.tighten(name, text)?;
        }
        Ok(limits)
    }

    fn spec(
        &self,
        planned: &PlannedPlugin,
        digest: Digest,
        module: CompiledModule,
        version: Version,
        limits: Limits,
    ) -> PluginSpec {
        let Version { role, rollout } = version;
        let environment: Vec<(String, String)> = planned
            .environment
            .iter()
            .filter(|variable| !variable.name.starts_with(RESERVED_VARIABLES))
            .filter_map(|variable| {
                let value = match variable.value_from {
                    EnvValueSource::Inline => variable.value.clone(),
                    // A variable that the process does not have is left out, as in Envoy.
                    EnvValueSource::Host => self.host_environment.get(&variable.name)?.clone(),
                };
                Some((variable.name.clone(), value))
            })
            .collect();
        PluginSpec {
            resource: planned.resource.clone(),
            phase: planned.phase,
            priority: planned.priority,
            url: planned.url.to_string(),
            vm_key: VmKey {
                digest: digest.clone(),
                role,
                environment: environment.clone(),
                limits: planned.limits.clone(),
            },
            digest,
            module,
            root_id: planned.root_id.clone(),
            configuration: planned.configuration.clone(),
            environment,
            fail_strategy: planned.fail_strategy,
            allow_on_headers_stop_iteration: false,
            limits,
            stats: PluginStats::default(),
            vm_scope: planned.vm_scope,
            thread: ThreadSlot::default(),
            role,
            rollout: rollout.map(Arc::new),
            _lease: VmIdLease::new(&self.host, vm_id(role)),
        }
    }
}

impl std::fmt::Debug for SnapshotBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotBuilder").field("version", &self.version).finish_non_exhaustive()
    }
}

// === impl BuildError ===

impl BuildError {
    /// What could be done about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::PullSecret { source, .. } => source.hint(),
            Self::Fetch { source, .. } => source.hint(),
            Self::Load { source, .. } => source.hint(),
            Self::Start { source: StartError::ConfigureRefused, .. } => Some(
                "the plugin does not accept its `pluginConfig` or its `pluginName`; its log lines \
                 above say why"
                    .into(),
            ),
            Self::Limit { source: SetLimitError::Beyond { name, .. }, .. } => Some(format!(
                "an annotation can only make a limit tighter; whoever runs the proxy raises it by \
                 `--limit {name}=VALUE`"
            )),
            Self::Start { .. } | Self::Limit { .. } | Self::Aborted { .. } => None,
        }
    }

    fn into_rejected(self, resource: NamespacedName, effect: RejectedEffect) -> Rejected {
        let hint = self.hint();
        let reason = reason(&self);
        let is_transient = matches!(&self, Self::Fetch { source, .. } if source.is_transient());
        Rejected { resource, reason, hint, effect, is_transient }
    }
}

async fn fetch(
    store: &ModuleStore,
    plugin: &PlannedPlugin,
    pull: &PullOptions,
) -> Result<FetchedModule, BuildError> {
    let resource = || plugin.resource.clone();
    let credentials = pull
        .secrets
        .credentials(plugin)
        .map_err(|source| BuildError::PullSecret { resource: resource(), source })?;
    let refresh = pull.refresh;
    let request = ModuleRequest { credentials, refresh, ..ModuleRequest::from(plugin) };
    let fetched = store.get(&request).await;
    fetched.map_err(|source| BuildError::Fetch { resource: resource(), source })
}

/// An error and its causes, one a line.
fn reason(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason.push_str("\ncaused by: ");
        reason.push_str(&error.to_string());
        cause = error.source();
    }
    reason
}

fn effect(error: &BuildError, strategy: FailStrategy, has_previous: bool) -> RejectedEffect {
    if has_previous {
        return RejectedEffect::KeepsLastGood;
    }
    match (strategy, error) {
        (FailStrategy::FailOpen, _) => RejectedEffect::Skipped,
        (_, BuildError::PullSecret { .. } | BuildError::Fetch { .. }) => {
            RejectedEffect::Refuses(Refusal::Forbidden)
        }
        (_, _) => RejectedEffect::Refuses(Refusal::Unavailable),
    }
}
