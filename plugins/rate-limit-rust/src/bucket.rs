//! The token bucket.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Requests that one refill allows.
const CAPACITY: u32 = 2;

/// Time that must have passed since the last refill before the next one.
const REFILL_PERIOD: Duration = Duration::from_secs(1);

/// [`CAPACITY`] tokens, given back all at once.
pub(crate) struct TokenBucket {
    tokens: u32,
    refilled_at: SystemTime,
}

impl TokenBucket {
    /// A bucket whose first period begins with its first request.
    pub(crate) const fn full() -> Self {
        Self { tokens: CAPACITY, refilled_at: UNIX_EPOCH }
    }

    /// Takes a token and returns how many are left, or `None` if there is none to take.
    pub(crate) fn take(&mut self, now: SystemTime) -> Option<u32> {
        if self.is_refill_due(now) {
            self.tokens = CAPACITY;
            self.refilled_at = now;
        }
        self.tokens = self.tokens.checked_sub(1)?;
        Some(self.tokens)
    }

    /// A clock that was set back counts as a period passed: the limiter must not wait for the
    /// old time to come round again.
    fn is_refill_due(&self, now: SystemTime) -> bool {
        now.duration_since(self.refilled_at).map_or(true, |elapsed| elapsed > REFILL_PERIOD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_000_000) + Duration::from_millis(milliseconds)
    }

    #[test]
    fn two_requests_a_period_are_accepted() {
        let mut bucket = TokenBucket::full();
        let taken: Vec<_> = [0, 1, 2, 999, 1000].map(|now| bucket.take(at(now))).into();
        assert_eq!(taken, [Some(1), Some(0), None, None, None]);
    }

    #[test]
    fn the_bucket_is_refilled_when_more_than_a_second_has_passed() {
        let mut bucket = TokenBucket::full();
        let taken: Vec<_> = [0, 1, 1001, 1002, 1003, 2002].map(|now| bucket.take(at(now))).into();
        assert_eq!(taken, [Some(1), Some(0), Some(1), Some(0), None, Some(1)]);
    }

    #[test]
    fn a_clock_set_back_does_not_block_for_longer_than_a_period() {
        let mut bucket = TokenBucket::full();
        let taken: Vec<_> = [9000, 9001, 9002, 0, 1, 2].map(|now| bucket.take(at(now))).into();
        assert_eq!(taken, [Some(1), Some(0), None, Some(1), Some(0), None]);
    }
}
