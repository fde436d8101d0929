//! Requests for the same module at the same time, which ask once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OnceCell;
use wasmplug_api::Digest;

use crate::{error::FetchError, request::FetchedModule};

/// Requests with the same key have the same answer now, so one of them asks for all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct FlightKey {
    pub(crate) url: String,
    pub(crate) sha256: Option<Digest>,
    pub(crate) fingerprint: Option<Digest>,
    pub(crate) demands: Vec<String>,
}

/// The requests that are under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    under_way: Mutex<HashMap<FlightKey, Flight>>,
}

/// Membership in a flight; the last one to leave removes it.
pub(crate) struct Seat<'a> {
    flights: &'a Flights,
    key: FlightKey,
    flight: Flight,
}

/// Empty until the answer is there; whoever waits takes over if the asking one is dropped.
type Flight = Arc<OnceCell<Result<FetchedModule, FetchError>>>;

// === impl Flights ===

impl Flights {
    /// Joins the flight of requests like this one, or begins it.
    pub(crate) fn board(&self, key: FlightKey) -> Seat<'_> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = Arc::clone(under_way.entry(key.clone()).or_default());
        Seat { flights: self, key, flight }
    }
}

// === impl Seat ===

impl Seat<'_> {
    /// The answer, asked for by whoever comes first.
    pub(crate) async fn answer<F>(
        &self,
        ask: impl FnOnce() -> F,
    ) -> Result<FetchedModule, FetchError>
    where
        F: Future<Output = Result<FetchedModule, FetchError>>,
    {
        self.flight.get_or_init(ask).await.clone()
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut under_way = self.flights.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let current = under_way.get(&self.key).is_some_and(|it| Arc::ptr_eq(it, &self.flight));
        // Landed, or nobody else is on board: the map and this seat.
        if current && (self.flight.initialized() || Arc::strong_count(&self.flight) <= 2) {
            under_way.remove(&self.key);
        }
    }
}
