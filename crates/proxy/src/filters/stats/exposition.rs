//! Istio's metrics in the text form of Prometheus.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use wasmplug_api::telemetry::StandardMetric;
use wasmplug_host::BUCKETS;

use super::StatsSpec;
use super::labels;
use super::series::{Counts, Histogram, Series};

/// Labels as they are written.
type Labels = Vec<(String, String)>;

/// How a metric is read from a series.
enum Source {
    Counter(fn(&Series) -> &AtomicU64),
    Histogram(fn(&Series) -> &Histogram),
}

/// Which series a metric has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum About {
    Streams,
    GrpcStreams,
    Connections,
}

/// One of Istio's metrics; the text form adds `_total` to counters.
struct Metric {
    name: &'static str,
    help: &'static str,
    standard: StandardMetric,
    about: About,
    source: Source,
}

const METRICS: [Metric; 10] = [
    Metric {
        name: "istio_requests",
        help: "Requests",
        standard: StandardMetric::RequestCount,
        about: About::Streams,
        source: Source::Counter(|series| &series.requests),
    },
    Metric {
        name: "istio_request_duration_milliseconds",
        help: "Time from the first byte of a request to the last one of its response",
        standard: StandardMetric::RequestDuration,
        about: About::Streams,
        source: Source::Histogram(|series| &series.durations),
    },
    Metric {
        name: "istio_request_bytes",
        help: "Bytes of request bodies",
        standard: StandardMetric::RequestSize,
        about: About::Streams,
        source: Source::Histogram(|series| &series.request_bytes),
    },
    Metric {
        name: "istio_response_bytes",
        help: "Bytes of response bodies",
        standard: StandardMetric::ResponseSize,
        about: About::Streams,
        source: Source::Histogram(|series| &series.response_bytes),
    },
    Metric {
        name: "istio_request_messages",
        help: "Messages of gRPC from clients",
        standard: StandardMetric::GrpcRequestMessages,
        about: About::GrpcStreams,
        source: Source::Counter(|series| &series.request_messages),
    },
    Metric {
        name: "istio_response_messages",
        help: "Messages of gRPC to clients",
        standard: StandardMetric::GrpcResponseMessages,
        about: About::GrpcStreams,
        source: Source::Counter(|series| &series.response_messages),
    },
    Metric {
        name: "istio_tcp_connections_opened",
        help: "Connections that were opened",
        standard: StandardMetric::TcpOpenedConnections,
        about: About::Connections,
        source: Source::Counter(|series| &series.tcp_opened),
    },
    Metric {
        name: "istio_tcp_connections_closed",
        help: "Connections that were closed",
        standard: StandardMetric::TcpClosedConnections,
        about: About::Connections,
        source: Source::Counter(|series| &series.tcp_closed),
    },
    Metric {
        name: "istio_tcp_sent_bytes",
        help: "Bytes to clients of connections",
        standard: StandardMetric::TcpSentBytes,
        about: About::Connections,
        source: Source::Counter(|series| &series.tcp_sent),
    },
    Metric {
        name: "istio_tcp_received_bytes",
        help: "Bytes from clients of connections",
        standard: StandardMetric::TcpReceivedBytes,
        about: About::Connections,
        source: Source::Counter(|series| &series.tcp_received),
    },
];

// === impl StatsSpec ===

impl StatsSpec {
    /// Writes the metrics of all workers, added up.
    pub(crate) fn encode(&self, out: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let series = self.all();
        let labels: Vec<_> =
            series.iter().map(|of| labels::of_series(&self.planned.reporter, of)).collect();
        for metric in METRICS.iter().filter(|metric| self.tags.is_made(metric.standard)) {
            let is_about = |series: &Series| About::of(series, metric.about);
            let of_metric = series.iter().zip(&labels).filter(|(series, _)| is_about(series));
            let labelled = of_metric.map(|(series, labels)| {
                (self.tags.apply(metric.standard, labels, &series.tags), series.as_ref())
            });
            metric.encode(labelled, out)?;
        }
        Ok(())
    }
}

// === impl About ===

impl About {
    fn of(series: &Series, about: Self) -> bool {
        match about {
            Self::Streams => !series.key.is_tcp,
            Self::GrpcStreams => series.key.is_grpc,
            Self::Connections => series.key.is_tcp,
        }
    }
}

// === impl Metric ===

impl Metric {
    /// Series whose labels are the same, because tags were removed or by another worker, are one.
    fn encode<'a>(
        &self,
        series: impl Iterator<Item = (Labels, &'a Series)>,
        out: &mut DescriptorEncoder<'_>,
    ) -> std::fmt::Result {
        match self.source {
            Source::Counter(read) => {
                let mut sums: BTreeMap<Labels, u64> = BTreeMap::new();
                for (labels, series) in series {
                    let sum = sums.entry(labels).or_default();
                    *sum = sum.wrapping_add(read(series).load(Ordering::Relaxed));
                }
                if sums.is_empty() {
                    return Ok(());
                }
                let counter = MetricType::Counter;
                let mut metric = out.encode_descriptor(self.name, self.help, None, counter)?;
                for (labels, sum) in sums {
                    let mut family = metric.encode_family(&labels)?;
                    family.encode_counter::<NoLabelSet, _, u64>(&sum, None)?;
                }
            }
            Source::Histogram(read) => {
                let mut sums: BTreeMap<Labels, Counts> = BTreeMap::new();
                for (labels, series) in series {
                    sums.entry(labels).or_default().add(&read(series).counts());
                }
                if sums.is_empty() {
                    return Ok(());
                }
                let histogram = MetricType::Histogram;
                let mut metric = out.encode_descriptor(self.name, self.help, None, histogram)?;
                for (labels, Counts { buckets, sum }) in sums {
                    let bounds = BUCKETS.into_iter().chain([f64::INFINITY]);
                    let pairs: Vec<(f64, u64)> = bounds.zip(buckets).collect();
                    let count = buckets.iter().sum();
                    #[expect(clippy::cast_precision_loss, reason = "the text form is a float")]
                    let sum = sum as f64;
                    let mut family = metric.encode_family(&labels)?;
                    family.encode_histogram::<NoLabelSet>(sum, count, &pairs, None)?;
                }
            }
        }
        Ok(())
    }
}
