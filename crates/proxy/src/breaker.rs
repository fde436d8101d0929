//! Whether a plugin that keeps dying is let start: one breaker per plugin and worker.
//!
//! ```text
//! closed ──dies again before any stream came to its end──> open ──its time is over──> half-open
//!    ^                                                      ^                          │      │
//!    │                                                      └────────── dies ──────────┘      │
//!    └──────────────────────────── a stream came to its end with the plugin alive ────────────┘
//! ```

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

/// What a breaker lets happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// The plugin runs, or is started at once.
    Closed,
    /// The plugin runs again; if it dies before a stream came to its end, it has to wait longer.
    HalfOpen,
    /// The plugin is not started for a while, and its `failStrategy` decides about streams.
    Open,
}

/// The breaker of one plugin on one worker, which alone writes.
#[derive(Debug)]
pub(crate) struct Breaker {
    worker: String,
    state: AtomicU8,
    opened: AtomicU64,
    /// When it will be half-open, in milliseconds since 1970.
    until: AtomicU64,
    /// Why it opened last. Never locked on the path of a request: only a death writes it.
    reason: Mutex<String>,
}

/// The breakers of one plugin on all workers.
#[derive(Debug, Default)]
pub struct Breakers {
    workers: Mutex<Vec<Arc<Breaker>>>,
}

/// What is known of one breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerReport {
    /// The worker's number, or `process` for a plugin with one VM for all of them.
    pub worker: String,
    /// Its state.
    pub state: BreakerState,
    /// How often it has opened.
    pub opened: u64,
    /// When an open one will be half-open.
    pub until: Option<SystemTime>,
    /// Why it opened last; empty if it never did.
    pub reason: String,
}

// === impl BreakerState ===

impl BreakerState {
    /// What the admin pages call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }

    fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Closed,
            1 => Self::HalfOpen,
            _ => Self::Open,
        }
    }
}

// === impl Breaker ===

impl Breaker {
    fn new(worker: String) -> Self {
        Self {
            worker,
            state: AtomicU8::new(BreakerState::Closed as u8),
            opened: AtomicU64::new(0),
            until: AtomicU64::new(0),
            reason: Mutex::default(),
        }
    }

    pub(crate) fn state(&self) -> BreakerState {
        BreakerState::from_u8(self.state.load(Ordering::Relaxed))
    }

    /// The worker's name.
    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    /// Opens it for this long.
    pub(crate) fn open(&self, wait: Duration, reason: String) {
        let until = SystemTime::now().checked_add(wait).unwrap_or_else(SystemTime::now);
        let until = until.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        self.until.store(u64::try_from(until).unwrap_or(u64::MAX), Ordering::Relaxed);
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = reason;
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.set(BreakerState::Open);
    }

    pub(crate) fn set(&self, state: BreakerState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    fn report(&self) -> BreakerReport {
        let state = self.state();
        let until = Duration::from_millis(self.until.load(Ordering::Relaxed));
        BreakerReport {
            worker: self.worker.clone(),
            state,
            opened: self.opened.load(Ordering::Relaxed),
            until: UNIX_EPOCH.checked_add(until).filter(|_| state == BreakerState::Open),
            reason: self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

// === impl Breakers ===

impl Breakers {
    /// A breaker for this worker, in place of an earlier one of the same.
    pub(crate) fn for_worker(&self, worker: &str) -> Arc<Breaker> {
        let breaker = Arc::new(Breaker::new(worker.to_owned()));
        let mut workers = self.lock();
        workers.retain(|present| present.worker != worker);
        workers.push(Arc::clone(&breaker));
        breaker
    }

    /// All of them, by worker.
    pub fn reports(&self) -> Vec<BreakerReport> {
        let mut reports: Vec<BreakerReport> =
            self.lock().iter().map(|breaker| breaker.report()).collect();
        reports.sort_by(|a, b| (a.worker.len(), &a.worker).cmp(&(b.worker.len(), &b.worker)));
        reports
    }

    /// All of them, for people and scripts.
    pub(crate) fn dump(&self) -> Value {
        let dump = |report: BreakerReport| {
            json!({
                "worker": report.worker,
                "state": report.state.as_str(),
                "opened": report.opened,
                "until": report.until.map(httpdate::fmt_http_date),
                "reason": report.reason,
            })
        };
        self.reports().into_iter().map(dump).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Breaker>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
