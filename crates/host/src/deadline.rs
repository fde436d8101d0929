//! Whether a callback has computed for too long.
//!
//! Epochs pass with the wall clock, also while the worker's thread waits for a processor: on a busy
//! machine, or when a container is throttled, a blameless callback would seem slow. So when the
//! epochs of a callback are over, the thread's processor time is looked at, and only that counts.
//! A callback that ends in time costs nothing: the clock is first read when half its time is over.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use wasmtime::UpdateDeadline;

use crate::limits::epochs;

/// How long a callback may compute; worked out once, because every callback begins with it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Budget {
    time: Duration,
    /// Epochs in half of that time.
    half: u64,
}

/// Watches the callback that runs.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    budget: Budget,
    /// The thread's processor time when half of the budget had passed by the wall clock.
    seen: Option<Duration>,
    /// Processor time that the callback used on other threads.
    elsewhere: Duration,
}

// === impl Budget ===

impl Budget {
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, half: epochs(time / 2) }
    }
}

// === impl Deadline ===

impl Deadline {
    /// Begins to watch; returns the number of epochs after which to ask [`Deadline::check`].
    pub(crate) fn begin(&mut self, budget: &Budget) -> u64 {
        self.budget = *budget;
        self.seen = None;
        self.elsewhere = Duration::ZERO;
        budget.half
    }

    /// Decides when the epochs are over: interrupt the guest, or ask again later.
    ///
    /// A guest is interrupted after its budget of processor time, at the latest after one and a
    /// half times as much.
    pub(crate) fn check(&mut self) -> UpdateDeadline {
        let now = thread_time();
        match self.seen {
            _ if self.elsewhere >= self.budget.time => UpdateDeadline::Interrupt,
            Some(seen)
                if now.saturating_sub(seen).saturating_add(self.elsewhere) >= self.budget.time =>
            {
                UpdateDeadline::Interrupt
            }
            Some(_) => UpdateDeadline::Continue(self.budget.half),
            None => {
                self.seen = Some(now);
                UpdateDeadline::Continue(self.budget.half)
            }
        }
    }

    /// Counts processor time that the callback used on another thread.
    pub(crate) fn charge(&mut self, time: Duration) {
        self.elsewhere = self.elsewhere.saturating_add(time);
    }
}

/// Processor time of this thread.
pub(crate) fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{Budget, Deadline, thread_time};
    use std::time::Duration;
    use wasmtime::UpdateDeadline;

    #[test]
    fn time_without_computing_does_not_count() {
        let mut deadline = Deadline::default();
        deadline.begin(&Budget::new(Duration::from_hours(1)));
        for _ in 0..10 {
            assert!(matches!(deadline.check(), UpdateDeadline::Continue(_)));
        }
    }

    #[test]
    fn work_on_other_threads_counts_for_its_callback() {
        let mut deadline = Deadline::default();
        deadline.begin(&Budget::new(Duration::from_hours(1)));
        deadline.charge(Duration::from_mins(59));
        assert!(matches!(deadline.check(), UpdateDeadline::Continue(_)));
        deadline.charge(Duration::from_mins(1));
        assert!(matches!(deadline.check(), UpdateDeadline::Interrupt));
        deadline.begin(&Budget::new(Duration::from_hours(1)));
        assert!(matches!(deadline.check(), UpdateDeadline::Continue(_)), "a new callback");
    }

    #[test]
    fn computing_for_the_whole_budget_is_the_end() {
        let mut deadline = Deadline::default();
        let budget = Duration::from_millis(2);
        deadline.begin(&Budget::new(budget));
        assert!(matches!(deadline.check(), UpdateDeadline::Continue(_)));
        let begin = thread_time();
        while thread_time().saturating_sub(begin) < budget {
            std::hint::spin_loop();
        }
        assert!(matches!(deadline.check(), UpdateDeadline::Interrupt));
        deadline.begin(&Budget::new(budget));
        assert!(matches!(deadline.check(), UpdateDeadline::Continue(_)), "a new callback");
    }
}
