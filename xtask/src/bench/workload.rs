//! What the load asks of an engine, and the case that is measured with it.

use std::fmt;

use serde::Serialize;

use crate::bench::engine::Engine;

/// Size of a large body, in bytes: many times what a socket or a proxy buffers.
pub(super) const LARGE_BODY: usize = 1024 * 1024;

/// What the load asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Workload {
    /// GET of 96 bytes, HTTP/1.1, as fast as it is answered.
    Small,
    /// GET of 1 MiB.
    Large,
    /// POST of 1 MiB.
    Upload,
    /// The small answer over HTTP/2 without TLS.
    Http2,
    /// The small answer over TLS.
    Tls,
    /// The small answer at half the rate that Envoy reaches with the same chain.
    Rate,
}

/// Workloads as they are named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Choice {
    /// Answers of 96 bytes over HTTP/1.1, as fast as they come
    Small,
    /// Bodies of 1 MiB: answers (`large`), and requests (`upload`)
    Large,
    /// The small answer over HTTP/2 without TLS
    Http2,
    /// The small answer over TLS
    Tls,
    /// The small answer at a constant rate: half of what Envoy reaches with the same chain
    Rate,
    /// All of these
    All,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Case {
    pub(super) engine: Engine,
    /// Copies of the plugin in the chain.
    pub(super) plugins: usize,
    pub(super) workload: Workload,
    /// Worker threads, or worker processes of nginx.
    pub(super) workers: usize,
}

// === impl Choice ===

impl Choice {
    /// The workloads that it stands for.
    pub(super) fn workloads(self) -> &'static [Workload] {
        match self {
            Self::Small => &[Workload::Small],
            Self::Large => &[Workload::Large, Workload::Upload],
            Self::Http2 => &[Workload::Http2],
            Self::Tls => &[Workload::Tls],
            Self::Rate => &[Workload::Rate],
            Self::All => &[
                Workload::Small,
                Workload::Large,
                Workload::Upload,
                Workload::Http2,
                Workload::Tls,
                Workload::Rate,
            ],
        }
    }
}

// === impl Workload ===

impl Workload {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
            Self::Upload => "upload",
            Self::Http2 => "http2",
            Self::Tls => "tls",
            Self::Rate => "rate",
        }
    }

    /// What the load asks for, as the upstream knows it.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Large => "/large",
            Self::Upload => "/upload",
            Self::Small | Self::Http2 | Self::Tls | Self::Rate => "/",
        }
    }

    /// Bytes of body that each request moves, where that is what the workload is about.
    pub(super) fn body(self) -> Option<usize> {
        matches!(self, Self::Large | Self::Upload).then_some(LARGE_BODY)
    }

    /// Whether h2load makes the load; otherwise wrk does.
    pub(super) fn is_by_h2load(self) -> bool {
        matches!(self, Self::Http2 | Self::Rate)
    }
}

// === impl Case ===

impl fmt::Display for Case {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { engine, plugins, workload, workers } = self;
        let (engine, workload) = (engine.name(), workload.name());
        write!(formatter, "{engine} with {plugins} plugins, {workers} workers, {workload}")
    }
}
