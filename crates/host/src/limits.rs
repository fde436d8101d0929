//! Every limit of a VM: name, unit, default.

mod named;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wasmtime::ResourceLimiter;

pub use self::named::{LimitSlot, LimitValueError, SetLimitError};

/// Period of the clock that deadlines are measured with; deadlines are rounded up to it.
pub const EPOCH_PERIOD: Duration = Duration::from_millis(10);

/// What one VM may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most processor time that one callback of a stream may take before the VM is trapped.
    ///
    /// Looked at every half of it, in whole [`EPOCH_PERIOD`]s, so that a guest is stopped at the
    /// latest after one and a half times as much. Default: 100 ms.
    pub callback_deadline: Duration,
    /// Most processor time that instantiation, start and configuration may take, each.
    ///
    /// Looked at as [`Limits::callback_deadline`]. Default: 1 s.
    pub start_deadline: Duration,
    /// Most linear memory in bytes; `memory.grow` beyond it returns -1 to the guest.
    ///
    /// Default: 128 MiB.
    pub memory_bytes: usize,
    /// Most elements of one table. Default: 100 000.
    pub table_elements: usize,
    /// Most live contexts of one VM, streams and roots together. Default: 100 000.
    pub contexts: usize,
    /// Most bytes that one shared-data key and value, or one item or name of a queue, may have.
    ///
    /// Default: 1 MiB.
    pub shared_data_entry_bytes: usize,
    /// Most keys of shared data in one VM id. Default: 100 000.
    pub shared_data_keys: usize,
    /// Most bytes that all shared data of one VM id may have, keys included. Default: 64 MiB.
    pub shared_data_bytes: usize,
    /// Most shared queues of one VM id. Default: 1000.
    pub queues: usize,
    /// Most items of one shared queue. Default: 10 000.
    pub queue_items: usize,
    /// Most bytes that all items of one shared queue may have. Default: 64 MiB.
    pub queue_bytes: usize,
    /// Most metrics that one VM may define. Default: 10 000.
    pub metrics: usize,
    /// Most log lines of one VM in a second; further ones are dropped and counted.
    ///
    /// Default: 10 000.
    pub log_lines_per_second: u32,
    /// Most bytes of one log line; what is longer is cut. Default: 64 KiB.
    pub log_line_bytes: usize,
    /// Most CEL expressions that one plugin may keep. Default: 1000.
    pub expressions: usize,
}

/// A limit that a plugin has run into, as a label of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitKind {
    /// Bytes that a plugin adds to the headers of one stream.
    AddedHeaderBytes,
    /// What one body may grow to by a plugin's changes.
    BodyBytes,
    /// [`Limits::contexts`].
    Contexts,
    /// [`Limits::expressions`].
    Expressions,
    /// Input and output of foreign functions.
    ForeignFunctionBytes,
    /// [`Limits::log_line_bytes`].
    LogLineBytes,
    /// [`Limits::log_lines_per_second`].
    LogLines,
    /// [`Limits::memory_bytes`].
    MemoryBytes,
    /// [`Limits::metrics`], and the metrics of the process.
    Metrics,
    /// Path and value of one property.
    PropertyBytes,
    /// [`Limits::queue_items`], [`Limits::queue_bytes`] and the size of one item.
    QueueItems,
    /// [`Limits::queues`].
    Queues,
    /// [`Limits::shared_data_keys`], [`Limits::shared_data_bytes`] and the size of one entry.
    SharedData,
    /// [`Limits::table_elements`].
    TableElements,
}

/// How often plugins ran into each limit, over all VMs of a host.
#[derive(Debug, Default)]
pub struct LimitCounters {
    counts: [AtomicU64; LimitKind::ALL.len()],
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            callback_deadline: Duration::from_millis(100),
            start_deadline: Duration::from_secs(1),
            memory_bytes: 128 << 20,
            table_elements: 100_000,
            contexts: 100_000,
            shared_data_entry_bytes: 1 << 20,
            shared_data_keys: 100_000,
            shared_data_bytes: 64 << 20,
            queues: 1000,
            queue_items: 10_000,
            queue_bytes: 64 << 20,
            metrics: 10_000,
            log_lines_per_second: 10_000,
            log_line_bytes: 64 << 10,
            expressions: 1000,
        }
    }
}

/// Number of epochs after which a deadline has surely passed.
///
/// One more than the quotient, because the running epoch is already partly over.
pub(crate) fn epochs(deadline: Duration) -> u64 {
    let periods = deadline.as_nanos().div_ceil(EPOCH_PERIOD.as_nanos());
    u64::try_from(periods).unwrap_or(u64::MAX >> 1).saturating_add(1)
}

/// Refuses growth beyond the limits and remembers what it refused, for the error text.
#[derive(Debug)]
pub(crate) struct GrowthLimiter {
    memory_bytes: usize,
    table_elements: usize,
    counters: Arc<LimitCounters>,
    pub(crate) memory_bytes_now: usize,
    pub(crate) refused: Option<Refused>,
}

/// A growth that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Memory { asked: usize, limit: usize },
    Table { asked: usize, limit: usize },
}

// === impl LimitKind ===

impl LimitKind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::AddedHeaderBytes,
        Self::BodyBytes,
        Self::Contexts,
        Self::Expressions,
        Self::ForeignFunctionBytes,
        Self::LogLineBytes,
        Self::LogLines,
        Self::MemoryBytes,
        Self::Metrics,
        Self::PropertyBytes,
        Self::QueueItems,
        Self::Queues,
        Self::SharedData,
        Self::TableElements,
    ];

    /// The label that metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AddedHeaderBytes => "added_header_bytes",
            Self::BodyBytes => "body_bytes",
            Self::Contexts => "contexts",
            Self::Expressions => "expressions",
            Self::ForeignFunctionBytes => "foreign_function_bytes",
            Self::LogLineBytes => "log_line_bytes",
            Self::LogLines => "log_lines_per_second",
            Self::MemoryBytes => "memory_bytes",
            Self::Metrics => "metrics",
            Self::PropertyBytes => "property_bytes",
            Self::QueueItems => "queue_items",
            Self::Queues => "queues",
            Self::SharedData => "shared_data",
            Self::TableElements => "table_elements",
        }
    }
}

// === impl LimitCounters ===

impl LimitCounters {
    /// How often plugins ran into this limit since the start.
    pub fn get(&self, limit: LimitKind) -> u64 {
        self.counts.get(limit as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn count(&self, limit: LimitKind) {
        if let Some(count) = self.counts.get(limit as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl GrowthLimiter ===

impl GrowthLimiter {
    pub(crate) fn new(limits: &Limits, counters: &Arc<LimitCounters>) -> Self {
        Self {
            counters: Arc::clone(counters),
            memory_bytes: limits.memory_bytes,
            table_elements: limits.table_elements,
            memory_bytes_now: 0,
            refused: None,
        }
    }
}

impl ResourceLimiter for GrowthLimiter {
    fn memory_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.memory_bytes {
            self.counters.count(LimitKind::MemoryBytes);
            self.refused = Some(Refused::Memory { asked: desired, limit: self.memory_bytes });
            return Ok(false);
        }
        self.memory_bytes_now = desired;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > self.table_elements {
            self.counters.count(LimitKind::TableElements);
            self.refused = Some(Refused::Table { asked: desired, limit: self.table_elements });
            return Ok(false);
        }
        Ok(true)
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory { asked, limit } => {
                write!(f, "memory of {asked} bytes was asked for, the limit is {limit}")
            }
            Self::Table { asked, limit } => {
                write!(f, "a table of {asked} elements was asked for, the limit is {limit}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::epochs;
    use std::time::Duration;

    #[test]
    fn deadlines_are_rounded_up_and_never_zero() {
        assert_eq!(epochs(Duration::ZERO), 1);
        assert_eq!(epochs(Duration::from_millis(1)), 2);
        assert_eq!(epochs(Duration::from_millis(100)), 11);
        assert!(epochs(Duration::MAX) > 1);
    }
}
