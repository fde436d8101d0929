//! Where plugins' log lines go.

use std::cell::Cell;

use crate::abi::LogLevel;

/// One line that a plugin wrote.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// Severity that the plugin gave; standard output counts as info, standard error as error.
    pub level: LogLevel,
    /// Name of the plugin; empty while the module itself starts.
    pub plugin: &'a str,
    /// Id of the context that spoke; 0 while the module itself starts.
    pub context_id: u32,
    /// The text, without its last newline; bytes that are not UTF-8 are replaced.
    pub message: &'a str,
}

/// Receives log lines. Called on the worker thread: it must not block.
pub trait LogSink: Send + Sync {
    /// The least severe level that is wanted; what `proxy_get_log_level` answers.
    fn level(&self) -> LogLevel;
    /// Takes one line at or above [`LogSink::level`].
    fn log(&self, record: LogRecord<'_>);
}

/// How many lines a VM has logged in the running second.
#[derive(Debug, Default)]
pub(crate) struct LogBudget {
    second: Cell<u64>,
    used: Cell<u32>,
    dropped: Cell<u32>,
}

/// Drops every line.
#[derive(Debug, Default)]
pub struct NoLog;

impl LogSink for NoLog {
    fn level(&self) -> LogLevel {
        LogLevel::Critical
    }

    fn log(&self, _record: LogRecord<'_>) {}
}

// === impl LogBudget ===

impl LogBudget {
    /// Whether one more line may be logged in this second.
    ///
    /// Also tells, once a second has passed in which lines were dropped, how many those were.
    pub(crate) fn spend(&self, second: u64, limit: u32) -> (bool, Option<u32>) {
        let mut dropped_before = None;
        if self.second.replace(second) != second {
            self.used.set(0);
            dropped_before = Some(self.dropped.take()).filter(|dropped| *dropped > 0);
        }
        let used = self.used.get();
        let is_granted = used < limit;
        if is_granted {
            self.used.set(used.saturating_add(1));
        } else {
            self.dropped.set(self.dropped.get().saturating_add(1));
        }
        (is_granted, dropped_before)
    }
}

#[cfg(test)]
mod tests {
    use super::LogBudget;

    #[test]
    fn lines_beyond_the_budget_are_dropped_and_told_in_the_next_second() {
        let budget = LogBudget::default();
        assert_eq!(budget.spend(7, 2), (true, None));
        assert_eq!(budget.spend(7, 2), (true, None));
        assert_eq!(budget.spend(7, 2), (false, None));
        assert_eq!(budget.spend(7, 2), (false, None));
        assert_eq!(budget.spend(8, 2), (true, Some(2)));
        assert_eq!(budget.spend(9, 2), (true, None));
    }
}
