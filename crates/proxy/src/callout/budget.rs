//! How many bytes a plugin may have on their way out at once.
//!
//! What a plugin sends is copied out of its memory and waits here for a peer, who may take it
//! slowly or never. Counting calls and messages is not enough: each may be as large as the memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use wasmplug_host::abi::Status;

/// Most bytes of one plugin on one worker that wait to be sent. Source: ours.
const MAX_BYTES: usize = 64 << 20;

/// The bytes that one plugin may still send; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct ByteBudget(Arc<AtomicUsize>);

/// Bytes that are counted until this is dropped.
#[derive(Debug)]
pub(crate) struct HeldBytes {
    budget: ByteBudget,
    bytes: usize,
}

// === impl ByteBudget ===

impl ByteBudget {
    /// Counts some bytes.
    ///
    /// # Errors
    /// [`Status::InternalFailure`] if too many wait already.
    pub(crate) fn take(&self, bytes: usize) -> Result<HeldBytes, Status> {
        // Nothing else depends on the number.
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.map_err(|_| Status::InternalFailure)?;
        Ok(HeldBytes { budget: self.clone(), bytes })
    }
}

impl Default for ByteBudget {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(MAX_BYTES)))
    }
}

// === impl HeldBytes ===

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::{ByteBudget, MAX_BYTES, Status};

    #[test]
    fn bytes_count_until_they_are_let_go() {
        let budget = ByteBudget::default();
        let most = budget.take(MAX_BYTES - 1).unwrap();
        assert_eq!(budget.take(2).unwrap_err(), Status::InternalFailure);
        let last = budget.clone().take(1).unwrap();
        assert_eq!(budget.take(1).unwrap_err(), Status::InternalFailure);
        drop(most);
        budget.take(MAX_BYTES - 1).unwrap();
        drop(last);
        budget.take(MAX_BYTES).unwrap();
    }
}
