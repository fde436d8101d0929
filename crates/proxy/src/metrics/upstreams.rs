//! What is counted about clusters and their endpoints, in the text form of Prometheus.
//!
//! Names and label are Envoy's where Envoy has the thing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use super::{Sample, encode};
use crate::upstream::{Cluster, ClusterCounters, Upstreams, WorkerCounters};

const NAME: &str = "envoy_cluster_name";

type Counter = (&'static str, &'static str, fn(&ClusterCounters) -> &AtomicU64);

/// What happens seldom, under Envoy's names behind `envoy_cluster_`.
const COUNTERS: [Counter; 11] = [
    ("upstream_cx", "Connections to a cluster", |of| &of.connections),
    ("upstream_cx_connect_fail", "Connections that failed", |of| &of.connect_failures),
    ("upstream_cx_connect_timeout", "Connections that took too long", |of| &of.connect_timeouts),
    ("upstream_cx_overflow", "Times that no further connection was allowed", |of| {
        &of.connection_overflow
    }),
    ("upstream_cx_none_healthy", "Requests for which there was no endpoint", |of| &of.no_endpoint),
    ("upstream_rq_pending_overflow", "Requests refused because a limit was reached", |of| {
        &of.overflow
    }),
    ("upstream_rq_retry", "Requests that were sent once more", |of| &of.retries),
    ("upstream_rq_timeout", "Requests that took too long", |of| &of.request_timeouts),
    ("upstream_rq_rx_reset", "Requests that the upstream did not answer", |of| &of.resets),
    ("update_attempt", "Times that a name was looked up", |of| &of.look_ups),
    ("update_failure", "Times that a name could not be looked up", |of| &of.failed_look_ups),
];

/// Writes what is counted about all clusters.
pub(super) fn encode_upstreams(
    out: &mut DescriptorEncoder<'_>,
    upstreams: &Upstreams,
) -> std::fmt::Result {
    let mut clusters: Vec<&Arc<Cluster>> = upstreams.all().collect();
    // A series may be there once only, whatever an operator calls clusters.
    clusters.dedup_by_key(|cluster| cluster.name());
    let of = |value: &dyn Fn(&Cluster) -> u64| -> Vec<Sample> {
        let sample =
            |cluster: &&Arc<Cluster>| (vec![(NAME, cluster.name().to_owned())], value(cluster));
        clusters.iter().map(sample).collect()
    };
    for (name, help, counter) in COUNTERS {
        let samples = of(&|cluster| counter(&cluster.counters).load(Ordering::Relaxed));
        encode(out, &format!("envoy_cluster_{name}"), help, MetricType::Counter, &samples)?;
    }
    let requests = of(&|cluster| sum(cluster, |of| &of.requests));
    let help = "Requests to a cluster";
    encode(out, "envoy_cluster_upstream_rq", help, MetricType::Counter, &requests)?;
    let gauges: [(&str, &str, Vec<Sample>); 6] = [
        ("envoy_cluster_upstream_cx_active", "Open connections to a cluster", {
            of(&|cluster| cluster.open_connections().into())
        }),
        ("wasmplug_upstream_cx_idle", "Connections of HTTP/1 that wait for a request", {
            of(&|cluster| sum(cluster, |of| &of.idle))
        }),
        ("envoy_cluster_upstream_rq_active", "Requests that are not over", {
            of(&|cluster| sum(cluster, |of| &of.active))
        }),
        ("envoy_cluster_upstream_rq_pending_active", "Requests that wait for a connection", {
            of(&|cluster| cluster.pending_requests().into())
        }),
        ("envoy_cluster_membership_total", "Endpoints of a cluster", {
            of(&|cluster| count(cluster, |_| true))
        }),
        ("envoy_cluster_membership_healthy", "Endpoints that are not left alone", {
            of(&|cluster| count(cluster, |is_ejected| !is_ejected))
        }),
    ];
    for (name, help, samples) in gauges {
        encode(out, name, help, MetricType::Gauge, &samples)?;
    }
    encode_endpoints(out, &clusters)
}

fn encode_endpoints(
    out: &mut DescriptorEncoder<'_>,
    clusters: &[&Arc<Cluster>],
) -> std::fmt::Result {
    let mut ejected: Vec<Sample> = Vec::new();
    let mut ejections: Vec<Sample> = Vec::new();
    for cluster in clusters {
        for (address, times, is_ejected) in cluster.states() {
            let labels = vec![(NAME, cluster.name().to_owned()), ("address", address.to_string())];
            ejected.push((labels.clone(), is_ejected.into()));
            ejections.push((labels, times));
        }
    }
    let (name, help) =
        ("wasmplug_upstream_endpoint_ejected", "1 for an endpoint left alone, else 0");
    encode(out, name, help, MetricType::Gauge, &ejected)?;
    let (name, help) =
        ("wasmplug_upstream_endpoint_ejections", "Times that an endpoint was left alone");
    encode(out, name, help, MetricType::Counter, &ejections)
}

fn sum(cluster: &Cluster, counter: fn(&WorkerCounters) -> &AtomicU64) -> u64 {
    cluster.workers().iter().map(|worker| counter(worker).load(Ordering::Relaxed)).sum()
}

fn count(cluster: &Cluster, is_meant: fn(bool) -> bool) -> u64 {
    let states = cluster.states();
    let count = states.iter().filter(|(.., is_ejected)| is_meant(*is_ejected)).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}
