//! One endpoint of a cluster, as all workers see it: its address, and whether it is left alone.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::options::EjectionOptions;

/// One endpoint. Workers share it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Number of the host in its cluster that it belongs to.
    host: usize,
    /// Tried in this order; more than one if a name means this machine only.
    addresses: Vec<SocketAddr>,
    /// Failures in a row.
    failures: AtomicU32,
    /// Until when it is left alone, in milliseconds of the cluster's clock; 0 if it is not.
    ejected_until: AtomicU64,
    ejections: AtomicU64,
    history: Mutex<History>,
}

/// What decides how long the next ejection lasts.
#[derive(Debug, Default)]
struct History {
    /// Ejections in a row.
    times: u32,
    /// When the last one ended, in milliseconds.
    ended: u64,
}

// === impl Endpoint ===

impl Endpoint {
    pub(super) fn new(host: usize, addresses: Vec<SocketAddr>) -> Self {
        Self {
            host,
            addresses,
            failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            history: Mutex::default(),
        }
    }

    pub(super) fn host(&self) -> usize {
        self.host
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Its first address, by which it is known. `None` never happens.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses.first().copied()
    }

    /// How often it was left alone.
    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// Until when it is left alone. `None` if it was not since it was last taken back.
    pub(super) fn ejected_until(&self) -> Option<u64> {
        Some(self.ejected_until.load(Ordering::Relaxed)).filter(|until| *until != 0)
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        self.ejected_until().is_some_and(|until| now < until)
    }

    /// Takes it back, whose time is over. Returns whether this call did.
    pub(super) fn heal(&self, until: u64) -> bool {
        let order = Ordering::Relaxed;
        self.ejected_until.compare_exchange(until, 0, order, order).is_ok()
    }

    /// Notes an answer that is none of a failing endpoint.
    pub(super) fn succeeded(&self) {
        // Looked at first: what nobody writes stays in every worker's cache.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// Notes a failure. Returns whether there were so many in a row that it is to be left alone.
    pub(super) fn failed(&self, options: &EjectionOptions) -> bool {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        options.consecutive_failures != 0
            && before.saturating_add(1) >= options.consecutive_failures
    }

    /// Leaves it alone from now on, and returns for how long, and the how manieth time in a row.
    pub(super) fn eject(&self, now: u64, options: &EjectionOptions) -> (Duration, u32) {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let base = milliseconds(options.base_time).max(1);
        // Each time that it was well for as long as the shortest ejection makes up for one.
        let well = now.saturating_sub(history.ended).checked_div(base).unwrap_or_default();
        let forgiven = u32::try_from(well).unwrap_or(u32::MAX);
        history.times = history.times.saturating_sub(forgiven).saturating_add(1);
        let lasts = base.saturating_mul(history.times.into());
        let lasts = lasts.min(milliseconds(options.max_time).max(base));
        let jitter = fastrand::u64(..=lasts / 10);
        let lasts = lasts.saturating_add(jitter);
        history.ended = now.saturating_add(lasts);
        self.failures.store(0, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        self.ejected_until.store(history.ended.max(1), Ordering::Relaxed);
        (Duration::from_millis(lasts), history.times)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{EjectionOptions, Endpoint};

    fn endpoint() -> Endpoint {
        Endpoint::new(0, vec![([127, 0, 0, 1], 1).into()])
    }

    /// For how many times the base it is left alone, without what is added at random.
    fn times(endpoint: &Endpoint, now: u64) -> u64 {
        let (lasts, _) = endpoint.eject(now, &EjectionOptions::default());
        let seconds = lasts.as_millis();
        u64::try_from(seconds / 30_000).unwrap()
    }

    #[test]
    fn failures_in_a_row_count_and_a_success_between_them_forgives() {
        let (endpoint, options) = (endpoint(), EjectionOptions::default());
        for _ in 0..4 {
            assert!(!endpoint.failed(&options));
        }
        endpoint.succeeded();
        for _ in 0..4 {
            assert!(!endpoint.failed(&options));
        }
        assert!(endpoint.failed(&options));
    }

    #[test]
    fn no_number_of_failures_counts_if_none_is_given() {
        let options = EjectionOptions { consecutive_failures: 0, ..EjectionOptions::default() };
        let endpoint = endpoint();
        assert!((0..100).all(|_| !endpoint.failed(&options)));
    }

    #[test]
    fn an_ejection_ends_by_itself() {
        let endpoint = endpoint();
        assert!(!endpoint.is_ejected(0));
        endpoint.eject(1000, &EjectionOptions::default());
        assert!(endpoint.is_ejected(30_999));
        assert!(!endpoint.is_ejected(34_001));
        let until = endpoint.ejected_until().unwrap();
        assert!(endpoint.heal(until));
        assert!(!endpoint.heal(until), "it is told once");
        assert_eq!(endpoint.ejected_until(), None);
    }

    #[test]
    fn ejections_in_a_row_last_longer_up_to_a_bound() {
        let endpoint = endpoint();
        let mut now = 0;
        let lasted: Vec<u64> = (0..12)
            .map(|_| {
                let times = times(&endpoint, now);
                now += times * 33_000;
                times
            })
            .collect();
        assert_eq!(lasted[..3], [1, 2, 3]);
        assert_eq!(lasted[11], 10);
    }

    #[test]
    fn time_in_which_it_was_well_is_made_up_for() {
        let endpoint = endpoint();
        assert_eq!(times(&endpoint, 0), 1);
        assert_eq!(times(&endpoint, 40_000), 2);
        assert_eq!(times(&endpoint, 1_000_000), 1);
    }
}
