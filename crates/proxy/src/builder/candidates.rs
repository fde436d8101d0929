//! Other versions of plugins, made beside them.

use std::collections::HashMap;
use std::sync::Arc;

use wasmplug_api::{CandidateMode, NamespacedName, PlannedPlugin};
use wasmplug_module::FetchedModule;

use super::{BuildError, SnapshotBuilder, Taken, Version};
use crate::rollout::{Rollout, planned_candidate};
use crate::snapshot::{PluginRole, RejectedEffect};

type Fetched = Result<FetchedModule, BuildError>;

/// Candidates of one build with their modules.
pub(super) struct Candidates(HashMap<NamespacedName, (PlannedPlugin, Fetched)>);

// === impl Candidates ===

impl Candidates {
    pub(super) fn new(fetched: impl Iterator<Item = (PlannedPlugin, Fetched)>) -> Self {
        Self(fetched.map(|(plugin, of)| (plugin.resource.clone(), (plugin, of))).collect())
    }
}

// === impl SnapshotBuilder ===

impl SnapshotBuilder {
    /// Makes the candidate of a plugin. One that cannot be had is rejected, and the plugin goes on
    /// without it.
    pub(super) async fn take_candidate(
        &mut self,
        stable: &PlannedPlugin,
        candidates: &mut Candidates,
        taken: &mut Taken<'_>,
    ) -> Option<Rollout> {
        let plan = stable.candidate.as_deref()?;
        let resource = planned_candidate(stable)?.resource;
        let (planned, fetched) = candidates.0.remove(&resource)?;
        let role = match plan.mode {
            CandidateMode::Canary => PluginRole::Canary,
            CandidateMode::Shadow => PluginRole::Shadow,
        };
        let version = Version { role, rollout: None };
        let made = match fetched {
            Ok(module) => {
                self.leases.insert(module.digest.clone(), module.lease);
                self.make(&planned, module.digest, module.bytes, version).await
            }
            Err(error) => Err(error),
        };
        match made {
            Ok(spec) => {
                taken.good.insert(resource, Arc::clone(&spec));
                Some(Rollout::new(plan.clone(), spec))
            }
            Err(error) => {
                let effect = RejectedEffect::KeepsLastGood;
                taken.rejected.push(error.into_rejected(resource, effect));
                None
            }
        }
    }
}
