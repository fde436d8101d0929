//! Metrics that plugins define, shared by name across VMs and threads.
//!
//! Source: Envoy: an id carries its type in the low two bits, and storage is by name.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::abi::{MetricType, Status};

/// Upper bounds of the histogram's buckets. Source: Envoy's defaults.
pub const BUCKETS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Longest name of a metric, in bytes. Source: ours; names live as long as the process.
const MAX_NAME_BYTES: usize = 4096;

/// Most metrics of a process. Source: ours; they outlive the VMs that define them.
const MAX_METRICS: usize = 100_000;

/// All metrics of a process by name.
#[derive(Debug, Default)]
pub struct MetricStore {
    by_name: Mutex<BTreeMap<(String, MetricType), Arc<Metric>>>,
}

/// One metric's value now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricValue {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(u64),
    /// Of a histogram: values at or below each bound of [`BUCKETS`], then all; and their sum.
    Histogram {
        /// Not cumulative; the last one counts what lies above all bounds.
        counts: Vec<u64>,
        /// Sum of all values.
        sum: u64,
    },
}

#[derive(Debug)]
enum Metric {
    Counter(AtomicU64),
    Gauge(AtomicU64),
    Histogram(Box<Histogram>),
}

#[derive(Debug, Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

/// The metrics that one VM defined, by id.
#[derive(Debug)]
pub(crate) struct DefinedMetrics {
    by_type: [Vec<Arc<Metric>>; 3],
    ids: HashMap<(String, MetricType), u32>,
    max: usize,
}

// === impl MetricStore ===

impl MetricStore {
    /// Name and value of every metric, sorted by name.
    pub fn values(&self) -> Vec<(String, MetricValue)> {
        let by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        by_name.iter().map(|((name, _), metric)| (name.clone(), metric.value())).collect()
    }

    /// # Errors
    /// [`Status::InternalFailure`] at [`MAX_METRICS`].
    fn define(&self, name: String, metric_type: MetricType) -> Result<Arc<Metric>, Status> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = by_name.len() >= MAX_METRICS;
        match by_name.entry((name, metric_type)) {
            Entry::Occupied(present) => Ok(Arc::clone(present.get())),
            Entry::Vacant(_) if is_full => Err(Status::InternalFailure),
            Entry::Vacant(free) => Ok(Arc::clone(free.insert(Arc::new(match metric_type {
                MetricType::Counter => Metric::Counter(AtomicU64::new(0)),
                MetricType::Gauge => Metric::Gauge(AtomicU64::new(0)),
                MetricType::Histogram => Metric::Histogram(Box::default()),
            })))),
        }
    }
}

// === impl Metric ===

impl Metric {
    fn value(&self) -> MetricValue {
        match self {
            Self::Counter(value) => MetricValue::Counter(value.load(Ordering::Relaxed)),
            Self::Gauge(value) => MetricValue::Gauge(value.load(Ordering::Relaxed)),
            Self::Histogram(histogram) => MetricValue::Histogram {
                counts: histogram
                    .counts
                    .iter()
                    .map(|count| count.load(Ordering::Relaxed))
                    .collect(),
                sum: histogram.sum.load(Ordering::Relaxed),
            },
        }
    }
}

// === impl DefinedMetrics ===

impl DefinedMetrics {
    pub(crate) fn new(max: usize) -> Self {
        Self { by_type: [Vec::new(), Vec::new(), Vec::new()], ids: HashMap::new(), max }
    }

    /// Defines a metric and returns its id; the same one if it was defined before, so that a plugin
    /// that defines its metrics with every request does not run into the limit.
    ///
    /// # Errors
    /// [`Status::InternalFailure`] at the limit of metrics per VM or per process,
    /// [`Status::BadArgument`] for a name longer than [`MAX_NAME_BYTES`].
    pub(crate) fn define(
        &mut self,
        store: &MetricStore,
        name: String,
        metric_type: MetricType,
    ) -> Result<u32, Status> {
        if name.len() > MAX_NAME_BYTES {
            return Err(Status::BadArgument);
        }
        let key = (name, metric_type);
        if let Some(id) = self.ids.get(&key) {
            return Ok(*id);
        }
        if self.ids.len() >= self.max {
            return Err(Status::InternalFailure);
        }
        let type_bits = metric_type as u32;
        let index = usize::try_from(type_bits).map_err(|_| Status::BadArgument)?;
        let metrics = self.by_type.get_mut(index).ok_or(Status::BadArgument)?;
        metrics.push(store.define(key.0.clone(), metric_type)?);
        let number = u32::try_from(metrics.len()).map_err(|_| Status::InternalFailure)?;
        let id = (number << 2) | type_bits;
        self.ids.insert(key, id);
        Ok(id)
    }

    /// Adds to a counter or a gauge.
    ///
    /// # Errors
    /// [`Status::NotFound`] for an unknown id, [`Status::BadArgument`] for a histogram or a
    /// counter that would go down.
    pub(crate) fn increment(&self, id: u32, delta: i64) -> Result<(), Status> {
        match self.metric(id)? {
            Metric::Counter(value) => {
                let delta = u64::try_from(delta).ok().filter(|delta| *delta > 0);
                value.fetch_add(delta.ok_or(Status::BadArgument)?, Ordering::Relaxed);
            }
            Metric::Gauge(value) => {
                value.fetch_add(delta.cast_unsigned(), Ordering::Relaxed);
            }
            Metric::Histogram(_) => return Err(Status::BadArgument),
        }
        Ok(())
    }

    /// Adds to a counter, sets a gauge, counts a value in a histogram.
    ///
    /// # Errors
    /// [`Status::NotFound`] for an unknown id.
    pub(crate) fn record(&self, id: u32, amount: u64) -> Result<(), Status> {
        let metric = self.metric(id).map_err(|_| Status::NotFound)?;
        match metric {
            Metric::Counter(value) => {
                value.fetch_add(amount, Ordering::Relaxed);
            }
            Metric::Gauge(value) => value.store(amount, Ordering::Relaxed),
            Metric::Histogram(histogram) => {
                #[expect(clippy::cast_precision_loss, reason = "no bound is that large")]
                let bucket = BUCKETS.partition_point(|bound| *bound < amount as f64);
                if let Some(count) = histogram.counts.get(bucket) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                histogram.sum.fetch_add(amount, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The value of a counter or a gauge.
    ///
    /// # Errors
    /// [`Status::NotFound`] for an unknown id, [`Status::BadArgument`] for a histogram.
    pub(crate) fn get(&self, id: u32) -> Result<u64, Status> {
        match self.metric(id)? {
            Metric::Counter(value) | Metric::Gauge(value) => Ok(value.load(Ordering::Relaxed)),
            Metric::Histogram(_) => Err(Status::BadArgument),
        }
    }

    fn metric(&self, id: u32) -> Result<&Metric, Status> {
        let by_type = usize::try_from(id & 3).ok().and_then(|at| self.by_type.get(at));
        let metrics = by_type.ok_or(Status::BadArgument)?;
        let index = usize::try_from(id >> 2).ok().and_then(|number| number.checked_sub(1));
        index.and_then(|index| metrics.get(index)).map(|metric| &**metric).ok_or(Status::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::{DefinedMetrics, MetricStore, MetricValue};
    use crate::abi::{MetricType, Status};

    #[test]
    fn ids_carry_the_type_and_storage_is_by_name() {
        let store = MetricStore::default();
        let (mut a, mut b) = (DefinedMetrics::new(10), DefinedMetrics::new(10));
        let define = |vm: &mut DefinedMetrics, ty| vm.define(&store, "n".into(), ty).unwrap();
        assert_eq!(define(&mut a, MetricType::Counter), 4);
        assert_eq!(define(&mut a, MetricType::Counter), 4);
        assert_eq!(define(&mut a, MetricType::Gauge), 5);
        assert_eq!(define(&mut a, MetricType::Histogram), 6);
        assert_eq!(define(&mut b, MetricType::Counter), 4);
        a.increment(4, 2).unwrap();
        b.record(4, 3).unwrap();
        assert_eq!(a.get(4), Ok(5));
    }

    #[test]
    fn what_a_type_cannot_do_is_refused() {
        let store = MetricStore::default();
        let mut vm = DefinedMetrics::new(3);
        let counter = vm.define(&store, "c".into(), MetricType::Counter).unwrap();
        let gauge = vm.define(&store, "g".into(), MetricType::Gauge).unwrap();
        let histogram = vm.define(&store, "h".into(), MetricType::Histogram).unwrap();
        assert_eq!(vm.increment(counter, 0), Err(Status::BadArgument));
        assert_eq!(vm.increment(counter, -1), Err(Status::BadArgument));
        assert_eq!(vm.increment(histogram, 1), Err(Status::BadArgument));
        assert_eq!(vm.get(histogram), Err(Status::BadArgument));
        assert_eq!(vm.increment(7, 1), Err(Status::BadArgument));
        assert_eq!(vm.increment(0, 1), Err(Status::NotFound));
        assert_eq!(vm.record(400, 1), Err(Status::NotFound));
        vm.increment(gauge, -1).unwrap();
        assert_eq!(vm.get(gauge), Ok(u64::MAX));
        let more = vm.define(&store, "x".into(), MetricType::Counter);
        assert_eq!(more, Err(Status::InternalFailure));
        assert_eq!(vm.define(&store, "c".into(), MetricType::Counter), Ok(counter));
        let long = vm.define(&store, "x".repeat(4097), MetricType::Counter);
        assert_eq!(long, Err(Status::BadArgument));
        let longest = DefinedMetrics::new(1).define(&store, "x".repeat(4096), MetricType::Counter);
        assert_eq!(longest, Ok(counter));
    }

    #[test]
    fn restarted_vms_do_not_define_metrics_for_ever() {
        let store = MetricStore::default();
        for name in 0..super::MAX_METRICS {
            let mut vm = DefinedMetrics::new(1);
            assert_eq!(vm.define(&store, name.to_string(), MetricType::Counter), Ok(4));
        }
        let mut vm = DefinedMetrics::new(1);
        let define = |vm: &mut DefinedMetrics, name: &str| {
            vm.define(&store, name.into(), MetricType::Counter)
        };
        assert_eq!(define(&mut vm, "new"), Err(Status::InternalFailure));
        assert_eq!(define(&mut vm, "7"), Ok(4));
    }

    #[test]
    fn a_histogram_counts_at_or_below_its_bounds() {
        let store = MetricStore::default();
        let mut vm = DefinedMetrics::new(1);
        let id = vm.define(&store, "h".into(), MetricType::Histogram).unwrap();
        for value in [0, 1, 2, 5, 4_000_000] {
            vm.record(id, value).unwrap();
        }
        let Some((_, MetricValue::Histogram { counts, sum })) = store.values().pop() else {
            panic!("no histogram");
        };
        assert_eq!((counts[0], counts[1], counts[2], counts[19], sum), (1, 1, 2, 1, 4_000_008));
    }
}
