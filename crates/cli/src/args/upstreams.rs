//! Flags about what stands behind the proxy.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::parse_duration;

/// How clusters are treated; the same for all of them.
#[derive(Debug, Args)]
pub(crate) struct UpstreamArguments {
    /// Which endpoint of a cluster a request goes to. With `least-request` the one of two chosen at
    /// random that has fewer requests, so that a slow one gets less.
    #[arg(long, value_enum, default_value_t = Balancing::LeastRequest)]
    pub(crate) load_balancing: Balancing,
    /// Longest time from the end of a request to the end of its response, such as 15s: beyond it
    /// 504, or the response is cut [default: none].
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) request_timeout: Option<Duration>,
    /// Failures in a row, answers of 500 and above included, after which one of several endpoints is
    /// left alone for 30 s or more; 0 for never.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) eject_after: u32,
    /// Most connections to one cluster; requests beyond wait.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one())]
    pub(crate) upstream_max_connections: u32,
    /// Most requests to one cluster that wait for a connection; beyond it 503.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one())]
    pub(crate) upstream_max_pending: u32,
    /// Most requests at one time to one cluster that speaks HTTP/2; beyond it 503.
    #[arg(long, value_name = "N", default_value = "1024", value_parser = at_least_one())]
    pub(crate) upstream_max_requests: u32,
    /// How long a connection may wait for a request before it is closed, such as 5m; shorter than
    /// the upstream's own time saves requests that meet a closed connection.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    pub(crate) upstream_idle_timeout: Duration,
    /// How often the names of hosts are looked up.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub(crate) upstream_resolve_interval: Duration,
    /// File with certificate authorities in PEM that sign upstreams' certificates, in place of the
    /// system's.
    #[arg(long, value_name = "FILE")]
    pub(crate) upstream_ca: Option<PathBuf>,
    /// Name that the certificate of --upstream must have [default: the name of the host].
    #[arg(long, value_name = "NAME")]
    pub(crate) upstream_sni: Option<String>,
    /// File with the certificate chain in PEM that is shown to upstreams that ask for one.
    #[arg(long, value_name = "FILE", requires = "upstream_tls_key")]
    pub(crate) upstream_tls_cert: Option<PathBuf>,
    /// File with its private key in PEM.
    #[arg(long, value_name = "FILE", requires = "upstream_tls_cert")]
    pub(crate) upstream_tls_key: Option<PathBuf>,
}

/// Which endpoint of a cluster a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Balancing {
    /// One after the other.
    RoundRobin,
    /// The less busy of two.
    LeastRequest,
}

fn at_least_one() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}
