//! The TLS side of a listener: the credentials in effect, and what became of newer ones.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::credentials::TlsCredentials;

/// How a listener speaks TLS.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// What is shown to clients first; [`TlsListener::replace`] changes it later.
    pub credentials: Arc<TlsCredentials>,
    /// Whether plain text is served as well.
    pub mode: TlsMode,
}

/// Whether a listener with TLS serves plain text as well. Source: Istio's modes of mutual TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// It does not.
    #[default]
    Strict,
    /// The first byte tells, unless the plan asks for mutual TLS.
    Permissive,
}

/// The credentials of a listener. New connections get the current ones, and old ones go on.
#[derive(Debug)]
pub struct TlsListener {
    mode: TlsMode,
    current: RwLock<Arc<TlsCredentials>>,
    accepted: AtomicU64,
    rejected: AtomicU64,
    /// Why the newest credentials were not taken over.
    problem: Mutex<Option<String>>,
}

// === impl TlsListener ===

impl TlsListener {
    pub(crate) fn new(settings: TlsSettings) -> Self {
        Self {
            mode: settings.mode,
            current: RwLock::new(settings.credentials),
            accepted: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            problem: Mutex::default(),
        }
    }

    /// Shows these to new connections.
    pub fn replace(&self, credentials: Arc<TlsCredentials>) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = credentials;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Notes why newer credentials were not taken over; those in effect stay.
    pub fn reject(&self, reason: String) {
        self.rejected.fetch_add(1, Ordering::Relaxed);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    }

    /// The credentials in effect. Takes a lock, which costs nothing beside a handshake.
    pub fn current(&self) -> Arc<TlsCredentials> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn mode(&self) -> TlsMode {
        self.mode
    }

    /// How often newer credentials were taken over, and how often they were not.
    pub(crate) fn reloads(&self) -> [u64; 2] {
        [self.accepted.load(Ordering::Relaxed), self.rejected.load(Ordering::Relaxed)]
    }

    /// End of the current certificate, in seconds since 1970.
    pub(crate) fn not_after(&self) -> u64 {
        let end = self.current().not_after();
        end.duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
    }

    /// For people and scripts; nothing of the key is in it.
    pub(crate) fn dump(&self) -> Value {
        let problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mode = match self.mode {
            TlsMode::Strict => "strict",
            TlsMode::Permissive => "permissive",
        };
        json!({ "mode": mode, "credentials": self.current().dump(), "rejected": problem })
    }
}
