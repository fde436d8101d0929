//! Streams in which nothing moves for too long.
//!
//! A timer for each stream would cost more than the rest of its bookkeeping. Instead a worker
//! counts its sweeps, a stream notes at which one it last moved, and a sweep looks at all of them.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

use slab::Slab;
use wasmplug_host::StreamHost;

use crate::attributes::StreamShared;

/// The streams of one worker that are watched.
pub(crate) struct IdleWatch {
    /// Sweeps so far.
    now: Cell<u32>,
    /// Sweeps without a movement after which a stream is ended.
    limit: u32,
    streams: RefCell<Slab<Weak<StreamShared>>>,
}

/// When a stream last moved.
#[derive(Default)]
pub(crate) struct Activity {
    moved_at: Cell<u32>,
    slot: Cell<Option<usize>>,
    has_timed_out: Cell<bool>,
}

// === impl IdleWatch ===

impl IdleWatch {
    /// Streams are ended after this many sweeps without a movement, at the earliest.
    pub(crate) fn new(limit: u32) -> Self {
        Self { now: Cell::new(0), limit: limit.max(1), streams: RefCell::default() }
    }

    pub(crate) fn watch(&self, stream: &Rc<StreamShared>) {
        let activity = stream.activity();
        self.note(activity);
        activity.slot.set(Some(self.streams.borrow_mut().insert(Rc::downgrade(stream))));
    }

    pub(crate) fn note(&self, activity: &Activity) {
        activity.moved_at.set(self.now.get());
    }

    pub(crate) fn forget(&self, activity: &Activity) {
        if let Some(slot) = activity.slot.take() {
            self.streams.borrow_mut().try_remove(slot);
        }
    }

    /// Looks at all streams and wakes those that have not moved for too long.
    pub(crate) fn sweep(&self) {
        let now = self.now.get().wrapping_add(1);
        self.now.set(now);
        let is_idle = |stream: &Rc<StreamShared>| {
            now.wrapping_sub(stream.activity().moved_at.get()) > self.limit
        };
        let streams = self.streams.borrow();
        let idle: Vec<_> =
            streams.iter().filter_map(|(_, stream)| stream.upgrade()).filter(is_idle).collect();
        // Who is woken may end, which removes it from the list.
        drop(streams);
        for stream in idle {
            self.note(stream.activity());
            stream.activity().has_timed_out.set(true);
            stream.wake();
        }
    }
}

// === impl Activity ===

impl Activity {
    /// Whether a sweep found nothing to have moved; told once.
    pub(crate) fn take_timed_out(&self) -> bool {
        self.has_timed_out.take()
    }
}
