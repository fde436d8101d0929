//! How long the things live that VMs share under one VM id.
//!
//! Source: Envoy removes shared data and queues with the last VM of their VM id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::host::Host;

/// Keeps shared data and queues of one VM id alive.
///
/// Every VM holds one. An embedder that replaces VMs, because they died or because their
/// configuration changed, holds one itself for as long as the plugin is configured; otherwise what
/// the plugins stored is gone whenever no VM happens to run.
pub struct VmIdLease {
    host: Arc<Host>,
    vm_id: String,
}

/// Number of leases by VM id.
#[derive(Debug, Default)]
pub(crate) struct VmIds {
    leases: Mutex<HashMap<String, usize>>,
}

// === impl VmIdLease ===

impl VmIdLease {
    /// Keeps what is stored under this VM id, now and later, until the lease is dropped.
    pub fn new(host: &Arc<Host>, vm_id: &str) -> Self {
        let mut leases = host.vm_ids().leases.lock().unwrap_or_else(PoisonError::into_inner);
        let count = leases.entry(vm_id.to_owned()).or_default();
        *count = count.saturating_add(1);
        Self { host: Arc::clone(host), vm_id: vm_id.to_owned() }
    }
}

impl Drop for VmIdLease {
    fn drop(&mut self) {
        let mut leases = self.host.vm_ids().leases.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = leases.get_mut(&self.vm_id) else { return };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        leases.remove(&self.vm_id);
        // Under the lock, so that a VM that starts now finds either everything or nothing. What is
        // removed is dropped after it, because consumers are the embedder's.
        let removed = (
            self.host.shared_data().remove(&self.vm_id),
            self.host.shared_queues().remove(&self.vm_id),
        );
        drop(leases);
        drop(removed);
    }
}

impl std::fmt::Debug for VmIdLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VmIdLease").field("vm_id", &self.vm_id).finish_non_exhaustive()
    }
}
