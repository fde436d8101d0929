//! How many VMs there are, and how many of them only old streams still need.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The VMs of one host, counted.
#[derive(Debug, Default)]
pub struct VmCensus {
    all: AtomicU64,
    retired: AtomicU64,
}

/// Counts one VM from its start until it is dropped.
#[derive(Debug)]
pub(crate) struct CensusEntry {
    census: Arc<VmCensus>,
    is_retired: Cell<bool>,
}

// === impl VmCensus ===

impl VmCensus {
    /// VMs that new streams may get.
    pub fn live(&self) -> u64 {
        self.all.load(Ordering::Relaxed).saturating_sub(self.retired())
    }

    /// VMs that no new stream gets: those that died, and those whose plugins were replaced. They
    /// end with their last stream.
    pub fn retired(&self) -> u64 {
        self.retired.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>) -> CensusEntry {
        self.all.fetch_add(1, Ordering::Relaxed);
        CensusEntry { census: Arc::clone(self), is_retired: Cell::new(false) }
    }
}

// === impl CensusEntry ===

impl CensusEntry {
    pub(crate) fn set_retired(&self, is_retired: bool) {
        match (self.is_retired.replace(is_retired), is_retired) {
            (false, true) => self.census.retired.fetch_add(1, Ordering::Relaxed),
            (true, false) => self.census.retired.fetch_sub(1, Ordering::Relaxed),
            _ => return,
        };
    }
}

impl Drop for CensusEntry {
    fn drop(&mut self) {
        self.set_retired(false);
        self.census.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vms_are_counted_until_they_are_dropped_whether_retired_or_not() {
        let census = Arc::new(VmCensus::default());
        let (one, other) = (census.enter(), census.enter());
        one.set_retired(true);
        one.set_retired(true);
        assert_eq!((census.live(), census.retired()), (1, 1));
        other.set_retired(true);
        other.set_retired(false);
        assert_eq!((census.live(), census.retired()), (1, 1));
        drop(one);
        assert_eq!((census.live(), census.retired()), (1, 0));
        drop(other);
        assert_eq!((census.live(), census.retired()), (0, 0));
    }
}
