//! From resources to traffic, again and again: read, plan, build, apply, wait for a change.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior};
use wasmplug_api::{Plan, PlannedFilter, PlannedPlugin, PluginPhase, Resource, Severity, plan};
use wasmplug_proxy::{
    ClusterConfig, FilterSpec, KeyProblem, Proxy, PullOptions, Rejected, RejectedEffect, Snapshot,
    SnapshotBuilder, find_cluster,
};

use crate::args::WorkloadArguments;
use crate::chain;
use crate::diagnostics::{InvalidResources, WithHint, print_finding};
use crate::enforcement::{UNENFORCED_HINT, require_authorizers, require_enforced};
use crate::environment::Environment;
use crate::output;
use crate::sources::{Reading, Sources, settled};
use crate::target::{MountedFiles, Target};

/// Wait before a plugin that could not be fetched is tried again; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Longest such wait.
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// Why everything is looked at again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    /// A file has changed.
    Change,
    /// A fetch that failed may succeed now.
    Retry,
    /// It is time to look at tags.
    Refresh,
    /// Somebody asks for everything to be looked at.
    Reload,
    /// Keys of token issuers are due.
    Keys,
}

/// Keeps a proxy in step with resources.
pub(crate) struct Reconciler {
    arguments: WorkloadArguments,
    /// What can be called.
    clusters: BTreeMap<String, ClusterConfig>,
    mounted: MountedFiles,
    builder: SnapshotBuilder,
    has_colours: bool,
    /// How often tags are looked at although no file has changed; never if it is absent.
    refresh_interval: Option<Duration>,
    /// The listener has authorities for mutual TLS.
    verifies_clients: bool,
}

// === impl Event ===

impl Event {
    /// The wait before the next try, after one of this length.
    fn next_retry(self, waited: Duration) -> Duration {
        match self {
            Self::Retry => waited.saturating_mul(2).min(LONGEST_RETRY),
            _ => FIRST_RETRY,
        }
    }
}

// === impl Reconciler ===

impl Reconciler {
    pub(crate) fn new(
        arguments: WorkloadArguments,
        clusters: BTreeMap<String, ClusterConfig>,
        builder: SnapshotBuilder,
        environment: &Environment,
        refresh_interval: Option<Duration>,
    ) -> Self {
        let (mounted, has_colours) = (MountedFiles::new(), environment.has_colours);
        Self {
            arguments,
            clusters,
            mounted,
            builder,
            has_colours,
            refresh_interval,
            verifies_clients: false,
        }
    }

    /// Whether the listener has authorities for mutual TLS. Default: it has none.
    pub(crate) fn with_verified_clients(self, verifies_clients: bool) -> Self {
        Self { verifies_clients, ..self }
    }

    /// Reads the sources for the first time.
    ///
    /// # Errors
    /// A path that cannot be read, or any error in a resource: at the start there is no state to
    /// keep.
    pub(crate) fn first_reading(&self, sources: &mut Sources) -> anyhow::Result<()> {
        let reading = sources.read()?;
        let errors = self.report(&reading);
        if errors > 0 { Err(InvalidResources { errors }.into()) } else { Ok(()) }
    }

    /// Plans what the sources say now.
    ///
    /// # Errors
    /// There is no such workload, a module is not where it is mounted, a policy applies that the
    /// data plane cannot enforce, or an external authorizer has no address.
    pub(crate) fn plan(&mut self, sources: &Sources) -> anyhow::Result<Plan> {
        let resources = sources.resources();
        let target = Target::find(&self.arguments, &resources)?;
        if let Some(note) = &target.note {
            tracing::warn!("{note}");
        }
        let mut plan = plan(&resources, &target.workload);
        require_enforced(&plan, self.verifies_clients)
            .map_err(|error| WithHint::wrap(error, Some(UNENFORCED_HINT.to_owned())))?;
        let clusters = &self.clusters;
        let protocol = |name: &str| find_cluster(clusters, name).map(ClusterConfig::protocol);
        require_authorizers(&plan, protocol).map_err(|error| {
            let hint = error.hint();
            WithHint::wrap(error, Some(hint))
        })?;
        self.mounted.resolve(&mut plan, &target.mounts, &resources)?;
        Ok(plan)
    }

    /// Builds and applies a plan.
    ///
    /// `refresh` looks at the tags of images although nothing else has changed.
    async fn apply(
        &mut self,
        plan: &Plan,
        sources: &Sources,
        proxy: &Proxy,
        refresh: bool,
    ) -> Applied {
        let pull = pull_options(sources, refresh);
        let snapshot = self.builder.build(plan, &pull).await;
        let applied = Applied::new(plan, &snapshot);
        proxy.apply(snapshot).await;
        applied
    }

    /// Fetches the keys of token issuers that are due; nothing else is looked at.
    async fn refresh_keys(&mut self, plan: &Plan, proxy: &Proxy) -> Applied {
        let snapshot = self.builder.refresh_keys(plan).await;
        let applied = Applied::new(plan, &snapshot);
        proxy.apply(snapshot).await;
        applied
    }

    /// Applies the plan, which is that of the sources now, and follows them until the proxy ends.
    pub(crate) async fn follow(
        &mut self,
        mut plan: Plan,
        mut sources: Sources,
        proxy: &Proxy,
        reload: &mut Signal,
        serving: oneshot::Sender<()>,
    ) -> anyhow::Result<()> {
        let (_watcher, mut changes) = sources.watch()?;
        // Fetching and compiling may take seconds, and nothing is served before.
        announce(&plan);
        let mut applied = self.apply(&plan, &sources, proxy, false).await;
        applied.talk();
        // Nobody may want to know.
        let _ = serving.send(());
        let mut retry = FIRST_RETRY;
        let mut retry_at = Instant::now() + retry;
        let period = self.refresh_interval.unwrap_or(LONGEST_RETRY);
        let mut refresh = tokio::time::interval(period);
        refresh.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is at once, and everything has just been looked at.
        refresh.tick().await;
        loop {
            let keys_due = self.builder.keys_due();
            let event = tokio::select! {
                // Cancel-safe: a change is remembered until it is looked at.
                event = changes.changed() => {
                    if event.is_err() {
                        anyhow::bail!("the files are no longer watched");
                    }
                    Event::Change
                }
                // Cancel-safe: a signal.
                _ = reload.recv() => Event::Reload,
                // Cancel-safe: a timer.
                () = tokio::time::sleep_until(retry_at), if applied.may_mend => Event::Retry,
                // Cancel-safe: a tick that is not taken stays due.
                _ = refresh.tick(), if self.refresh_interval.is_some() => Event::Refresh,
                // Cancel-safe: a timer; what is due stays due.
                () = sleep_until(keys_due), if keys_due.is_some() => Event::Keys,
            };
            if event == Event::Keys {
                let next = self.refresh_keys(&plan, proxy).await;
                applied = next.told_after(&applied, false);
                continue;
            }
            if event == Event::Change {
                settled(&mut changes).await;
                if !self.read_again(&mut sources) {
                    continue;
                }
            }
            if event == Event::Reload {
                output::talk("reading everything anew");
                // What has not changed is looked at all the same.
                self.read_again(&mut sources);
            }
            plan = match self.plan(&sources) {
                Ok(plan) => plan,
                Err(error) => {
                    tracing::error!("nothing is changed: {error:#}");
                    continue;
                }
            };
            let is_refresh = matches!(event, Event::Refresh | Event::Reload);
            let next = self.apply(&plan, &sources, proxy, is_refresh).await;
            let is_asked = matches!(event, Event::Change | Event::Reload);
            applied = next.told_after(&applied, is_asked);
            retry = event.next_retry(retry);
            retry_at = Instant::now() + retry;
        }
    }

    /// Reads the sources after an event; whether anything is to be done.
    fn read_again(&self, sources: &mut Sources) -> bool {
        match sources.read() {
            Ok(reading) if !reading.is_changed => false,
            Ok(reading) => {
                if self.report(&reading) > 0 {
                    tracing::error!("a broken edit was not taken over");
                }
                true
            }
            Err(error) => {
                tracing::error!("nothing is changed: {error:#}");
                false
            }
        }
    }

    /// Prints findings and what was ignored; returns the number of errors.
    fn report(&self, reading: &Reading) -> usize {
        reading.findings.iter().for_each(|finding| print_finding(finding, self.has_colours));
        for ignored in &reading.ignored {
            let name = if ignored.name.is_empty() { "" } else { " " };
            output::talk(format!(
                "{}: ignored: {}{name}{} ({})",
                ignored.position, ignored.kind, ignored.name, ignored.api_version
            ));
        }
        reading.findings.iter().filter(|finding| finding.severity == Severity::Error).count()
    }
}

/// What modules are pulled with: the secrets of the sources, and whether tags are looked at.
fn pull_options(sources: &Sources, refresh: bool) -> PullOptions {
    let resources = sources.resources();
    let secrets = resources.iter().filter_map(|resource| match resource {
        Resource::Secret(secret) => Some(secret),
        _ => None,
    });
    PullOptions { secrets: secrets.collect(), refresh }
}

/// Tells what is waited for.
fn announce(plan: &Plan) {
    let is_policy =
        |filter: &PlannedFilter| !matches!(filter, PlannedFilter::Stats(_) | PlannedFilter::Router);
    match plan.plugins().count().saturating_add(plan.network_plugins.len()) {
        0 if plan.filters.iter().any(is_policy) => {
            output::talk("no WasmPlugin applies to this workload, only policies do");
        }
        0 => output::talk("no WasmPlugin applies to this workload: requests pass unfiltered"),
        1 => output::talk("fetching and compiling 1 plugin"),
        count => output::talk(format!("fetching and compiling {count} plugins")),
    }
}

/// What is in effect now, in words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    network: Vec<String>,
    chain: Vec<String>,
    left_out: Vec<String>,
    rejected: Vec<String>,
    /// Keys that could not be had.
    keys: Vec<String>,
    /// A plugin failed for a reason that may pass.
    may_mend: bool,
}

// === impl Applied ===

impl Applied {
    fn new(plan: &Plan, snapshot: &Snapshot) -> Self {
        let chain = plan.filters.iter().map(|filter| match filter {
            PlannedFilter::Wasm(planned) => plugin(planned, &snapshot.filters, REQUEST),
            other => chain::summary(other),
        });
        let network = plan.network_plugins.iter();
        let network = network.map(|planned| plugin(planned, &snapshot.network_filters, CONNECTION));
        let of_rejected = |of: &Rejected| {
            let is_network =
                plan.network_plugins.iter().any(|plugin| plugin.resource == of.resource);
            rejected(of, if is_network { CONNECTION } else { REQUEST })
        };
        let left_out = plan.left_out.iter();
        let left_out = left_out.map(|left| format!("{}: {}", left.resource, left.reason));
        Self {
            network: network.collect(),
            chain: chain.collect(),
            left_out: left_out.collect(),
            rejected: snapshot.rejected.iter().map(of_rejected).collect(),
            keys: snapshot.filters.iter().flat_map(key_problems).collect(),
            may_mend: snapshot.rejected.iter().any(|rejected| rejected.is_transient),
        }
    }

    /// Tells what is in effect if it is not what was before, or in any case.
    fn told_after(self, before: &Self, in_any_case: bool) -> Self {
        if in_any_case || self != *before {
            self.talk();
        }
        self
    }

    /// Tells a person what is in effect.
    pub(crate) fn talk(&self) {
        for problem in self.rejected.iter().chain(&self.keys) {
            output::talk(problem);
        }
        if !self.network.is_empty() {
            output::talk("connections pass first:");
        }
        for filter in &self.network {
            output::talk(format!("  {filter}"));
        }
        output::talk("chain, in request order:");
        for (index, filter) in self.chain.iter().enumerate() {
            output::talk(format!("  {}. {filter}", index.saturating_add(1)));
        }
        for left in &self.left_out {
            output::talk(format!("  not in the chain: {left}"));
        }
    }
}

/// What HTTP plugins see.
const REQUEST: &str = "request";
/// What plugins of type `NETWORK` see.
const CONNECTION: &str = "connection";

/// One plugin and what became of it.
fn plugin(planned: &PlannedPlugin, filters: &[FilterSpec], traffic: &str) -> String {
    let priority = planned
        .priority
        .map_or_else(|| "no priority".to_owned(), |number| format!("priority {number}"));
    let state = match filters.iter().find(|filter| filter.resource() == Some(&planned.resource)) {
        Some(FilterSpec::Wasm(spec)) => spec.digest.to_string(),
        Some(FilterSpec::Refuse { .. }) => format!("refuses every {traffic}"),
        Some(FilterSpec::BuiltIn(_)) | None => "skipped".to_owned(),
    };
    format!("{}  {}  {priority}  {state}", planned.resource, phase(planned.phase))
}

/// The phase as the resource spells it.
pub(crate) fn phase(phase: PluginPhase) -> &'static str {
    match phase {
        PluginPhase::Authn => "AUTHN",
        PluginPhase::Authz => "AUTHZ",
        PluginPhase::Stats => "STATS",
        PluginPhase::Unspecified => "no phase",
    }
}

/// What is wrong with the keys of token issuers.
fn key_problems(filter: &FilterSpec) -> Vec<String> {
    let FilterSpec::BuiltIn(spec) = filter else { return Vec::new() };
    let text = |problem: KeyProblem| {
        let effect = if problem.has_keys {
            "the keys that were had before stay in effect"
        } else {
            "every token of this issuer is refused, requests without one pass"
        };
        let KeyProblem { resource, issuer, reason, .. } = problem;
        format!(
            "warning: no keys of the issuer `{issuer}` for RequestAuthentication {resource}\n  \
             caused by: {reason}\n  effect: {effect}"
        )
    };
    spec.key_problems().into_iter().map(text).collect()
}

/// Waits for a moment, or for ever.
async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn rejected(rejected: &Rejected, traffic: &str) -> String {
    let effect = match rejected.effect {
        RejectedEffect::KeepsLastGood => "its last good form stays in effect".to_owned(),
        RejectedEffect::Refuses(_) => format!("every {traffic} is refused in its place"),
        RejectedEffect::Skipped => {
            format!("{traffic}s pass without it, as `failStrategy: FAIL_OPEN` says")
        }
    };
    let reason = rejected.reason.replace('\n', "\n  ");
    let hint = rejected.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
    format!("error: {reason}\n  effect: {effect}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_before_a_retry_doubles_up_to_a_minute_and_begins_anew_after_a_change() {
        let waits =
            std::iter::successors(Some(FIRST_RETRY), |wait| Some(Event::Retry.next_retry(*wait)));
        let seconds: Vec<_> = waits.take(9).map(|wait| wait.as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        for event in [Event::Change, Event::Refresh, Event::Keys, Event::Reload] {
            assert_eq!(event.next_retry(LONGEST_RETRY), FIRST_RETRY);
        }
    }
}
