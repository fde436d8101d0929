//! How often a plugin that keeps dying is started.

use std::time::{Duration, Instant};

/// Wait after the first start that led nowhere; doubled each time. Source: ours.
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// Longest wait between two starts.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// When the next start of a plugin may be tried. The default says: now.
///
/// The first start anew is free. After each further one that leads nowhere the wait is doubled,
/// from 50 ms to 30 s. Forget it, with `BackOff::default()`, as soon as a stream came to its end
/// with the plugin alive.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackOff {
    /// Starts in a row after which no stream came to its end.
    pub(crate) fruitless: u32,
    /// No start before this moment.
    pub(crate) not_before: Option<Instant>,
}

// === impl BackOff ===

impl BackOff {
    /// Whether a start may be tried at this moment.
    pub fn may_start(self, now: Instant) -> bool {
        self.not_before.is_none_or(|moment| moment <= now)
    }

    /// No start before this moment; `None` if one may be tried at any time.
    pub fn not_before(self) -> Option<Instant> {
        self.not_before
    }

    /// Whether the last start was made although the one before it led nowhere.
    pub fn is_on_trial(self) -> bool {
        self.fruitless > 1
    }

    /// Whether there was a start after which no stream has come to its end yet.
    pub fn is_fruitless(self) -> bool {
        self.fruitless > 0
    }

    /// Counts a start at this moment, which is fruitless until the opposite is known.
    ///
    /// `stretch` lengthens the wait, 1.0 by half of it: give a random number from 0.0 to 1.0 where
    /// several plugins must not start in step, else 0.0.
    #[must_use]
    pub fn after_start(self, now: Instant, stretch: f64) -> Self {
        let wait = self.fruitless.checked_sub(1).map(|failed| wait(failed, stretch));
        let not_before = wait.and_then(|wait| now.checked_add(wait));
        Self { fruitless: self.fruitless.saturating_add(1), not_before }
    }
}

fn wait(failed: u32, stretch: f64) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1 << failed.min(16)).min(LONGEST_WAIT);
    wait.mul_f64(1.0 + stretch.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(stretch: f64) -> Vec<u128> {
        let now = Instant::now();
        let mut back_off = BackOff::default();
        let mut waits = Vec::new();
        for _ in 0..20 {
            assert!(back_off.may_start(back_off.not_before.unwrap_or(now)));
            back_off = back_off.after_start(now, stretch);
            waits.extend(back_off.not_before.map(|moment| (moment - now).as_millis()));
            assert_eq!(back_off.may_start(now), back_off.not_before.is_none());
            assert!(back_off.is_fruitless());
        }
        waits
    }

    #[test]
    fn waits_become_longer_until_they_are_long_enough() {
        let waits = waits(0.0);
        assert_eq!(waits.len(), 19);
        assert_eq!(waits[..4], [50, 100, 200, 400]);
        assert_eq!(waits.last(), Some(&LONGEST_WAIT.as_millis()));
    }

    #[test]
    fn waits_are_stretched_by_half_at_most() {
        assert_eq!(waits(1.0)[..4], [75, 150, 300, 600]);
        assert_eq!(waits(9.0)[..4], [75, 150, 300, 600]);
        assert_eq!(waits(1.0).last(), Some(&45_000));
    }
}
