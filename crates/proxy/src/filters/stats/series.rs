//! The values of one set of labels.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmplug_host::BUCKETS;

use super::outcome::Outcome;
use crate::listener::Identities;

/// What tells two series apart, besides texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// It is about connections, not streams.
    pub(crate) is_tcp: bool,
    pub(crate) is_grpc: bool,
    /// Status of the response; 0 if there was none.
    pub(crate) code: u16,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) flags: u64,
}

/// Texts that tell two series apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Texts<'a> {
    pub(super) host: &'a [u8],
    /// Values of configured tags, in the order of the configuration.
    pub(super) tags: &'a [String],
    /// Who speaks; `None` in plain text.
    pub(super) identities: Option<&'a Arc<Identities>>,
}

/// Values of one set of labels on one worker, which alone writes them.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) key: Key,
    pub(super) host: Vec<u8>,
    /// Values of configured tags, in the order of the configuration.
    pub(super) tags: Vec<String>,
    pub(super) identities: Option<Arc<Identities>>,
    pub(super) requests: AtomicU64,
    pub(super) durations: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
    pub(super) request_messages: AtomicU64,
    pub(super) response_messages: AtomicU64,
    pub(super) tcp_opened: AtomicU64,
    pub(super) tcp_closed: AtomicU64,
    pub(super) tcp_sent: AtomicU64,
    pub(super) tcp_received: AtomicU64,
}

/// How often values fell between the bounds of [`BUCKETS`], and their sum.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) buckets: [u64; BUCKETS.len() + 1],
    pub(super) sum: u64,
}

/// Adds to a counter that one thread writes; it costs no bus lock.
pub(super) fn add(counter: &AtomicU64, value: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(value), Ordering::Relaxed);
}

// === impl Key ===

impl Key {
    /// Connections.
    pub(crate) const TCP: Self =
        Self { is_tcp: true, is_grpc: false, code: 0, grpc_status: None, flags: 0 };
}

// === impl Texts ===

impl Texts<'_> {
    pub(super) fn is_host_alone(&self) -> bool {
        self.tags.is_empty() && self.identities.is_none()
    }

    /// All of them as one key; none of them has a byte that is not text.
    pub(super) fn join(&self) -> Vec<u8> {
        let mut joined = self.host.to_vec();
        for tag in self.tags {
            joined.push(0xff);
            joined.extend_from_slice(tag.as_bytes());
        }
        if let Some(Identities { is_mutual, source, destination }) = self.identities.map(|of| &**of)
        {
            joined.extend_from_slice(&[0xfe, u8::from(*is_mutual)]);
            for name in [source, destination] {
                joined.push(0xfe);
                joined.extend_from_slice(name.as_deref().unwrap_or_default().as_bytes());
            }
        }
        joined
    }
}

#[cfg(test)]
impl<'a> Texts<'a> {
    pub(super) fn of_host(host: &'a [u8]) -> Self {
        Self { host, ..Self::default() }
    }
}

// === impl Series ===

impl Series {
    pub(super) fn new(key: Key, texts: Texts<'_>) -> Self {
        Self {
            key,
            host: texts.host.to_vec(),
            tags: texts.tags.to_vec(),
            identities: texts.identities.cloned(),
            requests: AtomicU64::default(),
            durations: Histogram::default(),
            request_bytes: Histogram::default(),
            response_bytes: Histogram::default(),
            request_messages: AtomicU64::default(),
            response_messages: AtomicU64::default(),
            tcp_opened: AtomicU64::default(),
            tcp_closed: AtomicU64::default(),
            tcp_sent: AtomicU64::default(),
            tcp_received: AtomicU64::default(),
        }
    }

    /// Whether it has these labels.
    pub(super) fn is_of(&self, key: &Key, texts: Texts<'_>) -> bool {
        self.key == *key
            && self.host == texts.host
            && self.tags == texts.tags
            && self.identities.as_ref() == texts.identities
    }

    pub(super) fn record(&self, outcome: &Outcome) {
        add(&self.requests, 1);
        self.durations.record(outcome.milliseconds);
        self.request_bytes.record(outcome.request_bytes);
        self.response_bytes.record(outcome.response_bytes);
        if self.key.is_grpc {
            add(&self.request_messages, outcome.request_messages);
            add(&self.response_messages, outcome.response_messages);
        }
    }
}

// === impl Histogram ===

impl Histogram {
    fn record(&self, value: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a bucket is found all the same")]
        let bucket = BUCKETS.partition_point(|bound| *bound < value as f64);
        if let Some(count) = self.counts.get(bucket) {
            add(count, 1);
        }
        add(&self.sum, value);
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { sum: self.sum.load(Ordering::Relaxed), ..Counts::default() };
        for (sum, count) in counts.buckets.iter_mut().zip(&self.counts) {
            *sum = count.load(Ordering::Relaxed);
        }
        counts
    }
}

// === impl Counts ===

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(other.buckets) {
            *sum = sum.wrapping_add(count);
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }
}
