//! How many connections clients may have at one time, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Counts open connections, and refuses those beyond the limit.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    most: usize,
    open: AtomicUsize,
    /// The limit was reached, and that was told.
    is_told: AtomicBool,
}

/// One open connection's place.
#[derive(Debug)]
pub(crate) struct Place(Arc<ConnectionLimit>);

// === impl ConnectionLimit ===

impl ConnectionLimit {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: AtomicUsize::new(0), is_told: AtomicBool::new(false) })
    }

    /// A place for one more connection. `None` if there is none: it is told once until there is
    /// room for half of them again.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        // Nothing else depends on the number, so no order is needed.
        if self.open.fetch_add(1, Ordering::Relaxed) < self.most {
            return Some(Place(Arc::clone(self)));
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        if !self.is_told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                limit = self.most,
                "too many connections of clients: further ones are closed; `--limit connections=N`"
            );
        }
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let open = self.0.open.fetch_sub(1, Ordering::Relaxed).saturating_sub(1);
        if open <= self.0.most / 2 {
            self.0.is_told.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionLimit;

    #[test]
    fn a_place_that_is_left_is_free_again() {
        let limit = ConnectionLimit::new(2);
        let (first, second) = (limit.enter(), limit.enter());
        assert!(first.is_some() && second.is_some());
        assert!(limit.enter().is_none());
        drop(first);
        let third = limit.enter();
        assert!(third.is_some() && limit.enter().is_none());
    }
}
