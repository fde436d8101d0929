//! What a plugin costs: time in its callbacks, calls of the host, memory.
//!
//! It is always on, so it has to cost next to nothing itself: one thread writes and any may read,
//! counters are stored without a bus lock, and only one call in [`SAMPLED`] of each callback is
//! timed, because looking at the clock costs as much as a small callback.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::abi::Status;

/// Upper bounds of the buckets of callback times, in nanoseconds. Source: ours; what is slower has
/// a bucket of its own.
pub const TIME_BUCKETS: [u64; 12] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Statuses that a call of the host can have, in the order in which they are counted.
const STATUSES: [Status; 13] = [
    Status::Ok,
    Status::NotFound,
    Status::BadArgument,
    Status::SerializationFailure,
    Status::ParseFailure,
    Status::BadExpression,
    Status::InvalidMemoryAccess,
    Status::Empty,
    Status::CasMismatch,
    Status::ResultMismatch,
    Status::InternalFailure,
    Status::BrokenConnection,
    Status::Unimplemented,
];

/// Callbacks whose time is counted, the frequent ones first.
const CALLBACKS: [&str; 28] = [
    "proxy_on_context_create",
    "proxy_on_request_headers",
    "proxy_on_response_headers",
    "proxy_on_log",
    "proxy_on_done",
    "proxy_on_delete",
    "proxy_on_request_body",
    "proxy_on_response_body",
    "proxy_on_request_trailers",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_http_call_response",
    "proxy_on_queue_ready",
    "proxy_on_downstream_data",
    "proxy_on_upstream_data",
    "proxy_on_new_connection",
    "proxy_on_downstream_connection_close",
    "proxy_on_upstream_connection_close",
    "proxy_on_grpc_receive_initial_metadata",
    "proxy_on_grpc_receive",
    "proxy_on_grpc_receive_trailing_metadata",
    "proxy_on_grpc_close",
    "proxy_on_foreign_function",
    "proxy_on_request_metadata",
    "proxy_on_response_metadata",
    "proxy_on_vm_start",
    "proxy_on_configure",
    // Those of the host's extensions, together.
    "envoy_on",
];

/// Functions of the host whose calls are counted.
const HOSTCALLS: [&str; 44] = [
    "envoy_resolve_dns",
    "proxy_add_header_map_value",
    "proxy_call_foreign_function",
    "proxy_clear_route_cache",
    "proxy_close_stream",
    "proxy_continue_request",
    "proxy_continue_response",
    "proxy_continue_stream",
    "proxy_define_metric",
    "proxy_dequeue_shared_queue",
    "proxy_done",
    "proxy_enqueue_shared_queue",
    "proxy_get_buffer_bytes",
    "proxy_get_buffer_status",
    "proxy_get_configuration",
    "proxy_get_current_time_nanoseconds",
    "proxy_get_header_map_pairs",
    "proxy_get_header_map_size",
    "proxy_get_header_map_value",
    "proxy_get_log_level",
    "proxy_get_metric",
    "proxy_get_property",
    "proxy_get_shared_data",
    "proxy_get_status",
    "proxy_grpc_call",
    "proxy_grpc_cancel",
    "proxy_grpc_close",
    "proxy_grpc_send",
    "proxy_grpc_stream",
    "proxy_http_call",
    "proxy_increment_metric",
    "proxy_log",
    "proxy_record_metric",
    "proxy_register_shared_queue",
    "proxy_remove_header_map_value",
    "proxy_replace_header_map_value",
    "proxy_resolve_shared_queue",
    "proxy_send_local_response",
    "proxy_set_buffer_bytes",
    "proxy_set_effective_context",
    "proxy_set_header_map_pairs",
    "proxy_set_property",
    "proxy_set_shared_data",
    "proxy_set_tick_period_milliseconds",
];

/// One call in so many of each callback is timed, the first one among them. Source: ours.
pub const SAMPLED: u64 = 16;

/// What one plugin has cost on one thread, which alone writes.
///
/// An embedder makes one, gives it to the host by [`PluginServices::costs`] and reads it from
/// anywhere.
///
/// [`PluginServices::costs`]: crate::PluginServices::costs
#[derive(Debug, Default)]
pub struct PluginCosts {
    callbacks: [Times; CALLBACKS.len()],
    increments: Box<Hostcalls>,
    memory_bytes: AtomicU64,
    is_timing_all: bool,
}

/// Calls by function and status.
#[derive(Debug)]
struct Hostcalls([[AtomicU64; STATUSES.len()]; HOSTCALLS.len()]);

/// How long the calls of one callback took.
#[derive(Debug, Default)]
struct Times {
    calls: AtomicU64,
    buckets: [AtomicU64; TIME_BUCKETS.len() + 1],
    nanoseconds: AtomicU64,
}

/// How often one callback ran, and how long the calls took that were timed, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallbackTimes {
    /// All calls.
    pub calls: u64,
    /// Timed calls at most as long as each of [`TIME_BUCKETS`] and longer than the one before, then
    /// all that were longer.
    pub buckets: [u64; TIME_BUCKETS.len() + 1],
    /// All timed calls together.
    pub nanoseconds: u64,
}

/// Place of a callback; those that have none of their own are told together.
pub(crate) fn callback_index(name: &str) -> usize {
    let others = CALLBACKS.len().saturating_sub(1);
    CALLBACKS.iter().position(|known| *known == name).unwrap_or(others)
}

/// Place of a function of the host; it is a compile error if it is not counted.
pub(crate) const fn hostcall_index(name: &str) -> usize {
    let mut index = 0;
    while index < HOSTCALLS.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        if is_equal(HOSTCALLS[index], name) {
            return index;
        }
        index += 1;
    }
    #[expect(clippy::panic, reason = "evaluated by the compiler")]
    {
        panic!("add the function to the list of those that are counted")
    }
}

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn is_equal(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut index = 0;
    while index < a.len() {
        if a[index] != b[index] {
            return false;
        }
        index += 1;
    }
    true
}

// === impl PluginCosts ===

impl PluginCosts {
    /// Costs whose every call is timed, for development.
    pub fn timing_all() -> Self {
        Self { is_timing_all: true, ..Self::default() }
    }

    /// Time by callback; those that never ran are left out.
    pub fn callbacks(&self) -> impl Iterator<Item = (&'static str, CallbackTimes)> {
        let times = CALLBACKS.into_iter().zip(self.callbacks.iter().map(Times::now));
        times.filter(|(_, times)| times.calls > 0)
    }

    /// Calls of the host by function and status; what never happened is left out.
    pub fn hostcalls(&self) -> impl Iterator<Item = (&'static str, Status, u64)> {
        HOSTCALLS.into_iter().zip(&self.increments.0).flat_map(|(name, counts)| {
            let counts = STATUSES.into_iter().zip(counts);
            counts.filter_map(move |(status, count)| {
                let count = count.load(Ordering::Relaxed);
                (count > 0).then_some((name, status, count))
            })
        })
    }

    /// Size of the linear memory of the plugin's VM after its last callback, in bytes. Plugins that
    /// share a VM share it.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn count_hostcall(&self, index: usize, status: Status) {
        let status = STATUSES.iter().position(|known| *known == status);
        let counter = self.increments.0.get(index).and_then(|of| of.get(status?));
        if let Some(counter) = counter {
            add(counter, 1);
        }
    }

    /// Counts a call of a callback that begins; returns whether it is to be timed.
    pub(crate) fn begin_callback(&self, index: usize) -> bool {
        let Some(times) = self.callbacks.get(index) else { return false };
        let calls = times.calls.load(Ordering::Relaxed);
        times.calls.store(calls.wrapping_add(1), Ordering::Relaxed);
        self.is_timing_all || calls.is_multiple_of(SAMPLED)
    }

    /// Counts the time of a call that was to be timed.
    pub(crate) fn count_time(&self, index: usize, time: Duration, memory_bytes: usize) {
        if let Some(times) = self.callbacks.get(index) {
            times.add(time);
        }
        self.memory_bytes.store(u64::try_from(memory_bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

// === impl Hostcalls ===

impl Default for Hostcalls {
    fn default() -> Self {
        Self(std::array::from_fn(|_| <[AtomicU64; STATUSES.len()]>::default()))
    }
}

// === impl Times ===

impl Times {
    fn add(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = TIME_BUCKETS.partition_point(|bound| *bound < nanoseconds);
        if let Some(count) = self.buckets.get(bucket) {
            add(count, 1);
        }
        add(&self.nanoseconds, nanoseconds);
    }

    fn now(&self) -> CallbackTimes {
        let mut now = CallbackTimes {
            calls: self.calls.load(Ordering::Relaxed),
            nanoseconds: self.nanoseconds.load(Ordering::Relaxed),
            ..CallbackTimes::default()
        };
        for (count, bucket) in now.buckets.iter_mut().zip(&self.buckets) {
            *count = bucket.load(Ordering::Relaxed);
        }
        now
    }
}

// === impl CallbackTimes ===

impl CallbackTimes {
    /// How many calls were timed.
    pub fn timed(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Adds those of another thread.
    pub fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum = sum.wrapping_add(count);
        }
        self.calls = self.calls.wrapping_add(other.calls);
        self.nanoseconds = self.nanoseconds.wrapping_add(other.nanoseconds);
    }
}

fn add(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CALLBACKS, PluginCosts, SAMPLED, callback_index, hostcall_index};
    use crate::abi::Status;

    #[test]
    fn a_call_falls_into_the_bucket_of_its_time() {
        let costs = PluginCosts::default();
        for nanoseconds in [1, 1_000, 1_001, 100_000_001] {
            let time = Duration::from_nanos(nanoseconds);
            costs.begin_callback(callback_index("proxy_on_tick"));
            costs.count_time(callback_index("proxy_on_tick"), time, 65_536);
        }
        let (name, times) = costs.callbacks().next().unwrap();
        assert_eq!(name, "proxy_on_tick");
        assert_eq!((times.buckets[0], times.buckets[1], times.buckets[12]), (2, 1, 1));
        assert_eq!((times.calls, times.timed(), times.nanoseconds), (4, 4, 100_002_003));
        assert_eq!(costs.memory_bytes(), 65_536);
        assert_eq!(costs.callbacks().count(), 1);
    }

    #[test]
    fn calls_are_told_by_function_and_status() {
        let costs = PluginCosts::default();
        let index = hostcall_index("proxy_log");
        costs.count_hostcall(index, Status::Ok);
        costs.count_hostcall(index, Status::Ok);
        costs.count_hostcall(index, Status::NotFound);
        let told: Vec<_> = costs.hostcalls().collect();
        assert_eq!(told, [("proxy_log", Status::Ok, 2), ("proxy_log", Status::NotFound, 1)]);
    }

    #[test]
    fn every_callback_is_found_by_its_name() {
        for (index, name) in CALLBACKS.into_iter().enumerate() {
            assert_eq!(callback_index(name), index, "{name}");
        }
        assert_eq!(CALLBACKS[callback_index("proxy_on_nothing")], "envoy_on");
    }

    #[test]
    fn one_call_in_so_many_is_timed_unless_all_are_to_be() {
        let timed = |costs: &PluginCosts| {
            (0..SAMPLED * 2)
                .filter(|_| costs.begin_callback(callback_index("proxy_on_log")))
                .count()
        };
        assert_eq!(timed(&PluginCosts::default()), 2);
        assert_eq!(timed(&PluginCosts::timing_all()) as u64, SAMPLED * 2);
        // Each callback by itself: the first call of any is timed.
        let costs = PluginCosts::default();
        assert!(
            costs.begin_callback(callback_index("proxy_on_done"))
                && costs.begin_callback(callback_index("proxy_on_delete"))
        );
        assert!(!costs.begin_callback(callback_index("proxy_on_done")));
    }

    #[test]
    fn callbacks_of_extensions_are_told_together() {
        let costs = PluginCosts::default();
        costs.begin_callback(callback_index("envoy_on_resolve_dns"));
        assert_eq!(costs.callbacks().next().unwrap().0, "envoy_on");
    }
}
