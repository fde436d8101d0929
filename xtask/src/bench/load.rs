//! The load of a case: which program makes it, and what it measured.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use fs_err as fs;

use crate::bench::cores::Placement;
use crate::bench::process_guard::pinned;
use crate::bench::workload::{LARGE_BODY, Workload};
use crate::bench::{h2load, wrk};
use crate::process;

/// What one run measured.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) requests_per_second: f64,
    /// Half of the requests were answered within this time, in microseconds.
    pub(super) p50_micros: f64,
    /// 99 of 100 requests were answered within this time, in microseconds.
    pub(super) p99_micros: f64,
}

/// What the load is told.
pub(super) struct Plan<'a> {
    pub(super) workload: Workload,
    /// Requests per second over all connections, for [`Workload::Rate`].
    pub(super) rate: Option<f64>,
    pub(super) port: u16,
    pub(super) placement: &'a Placement,
    /// Where scripts and logs are written.
    pub(super) work: &'a Path,
}

// === impl Plan ===

impl Plan<'_> {
    /// The command that loads the port.
    ///
    /// # Errors
    ///
    /// If a script of it cannot be written, or a rate is missing.
    pub(super) fn command(&self, seconds: u32) -> anyhow::Result<Command> {
        let threads = self.placement.load_threads;
        let scheme = if self.workload == Workload::Tls { "https" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{}{}", self.port, self.workload.path());
        Ok(match self.workload {
            Workload::Http2 => h2load::http2(&url, threads, seconds, &self.log()),
            Workload::Rate => {
                let rate = self.rate.context("no rate is known")?;
                h2load::constant_rate(&url, threads, seconds, rate, &self.log())
            }
            Workload::Upload => wrk::command(&url, threads, seconds, Some(&self.upload_script()?)),
            Workload::Small | Workload::Large | Workload::Tls => {
                wrk::command(&url, threads, seconds, None)
            }
        })
    }

    /// Loads the port and waits for the end.
    ///
    /// # Errors
    ///
    /// If the program fails, or an answer was an error: then the figures mean nothing.
    pub(super) fn run(&self, seconds: u32) -> anyhow::Result<Load> {
        let mut command = pinned(&self.command(seconds)?, &self.placement.load);
        let output = process::output(command.stderr(Stdio::piped()))?;
        if !self.workload.is_by_h2load() {
            return wrk::parse(&output);
        }
        let log = self.log();
        let load = h2load::parse(&output, fs::File::open(&log)?)?;
        // It has a line for each request.
        fs::remove_file(log)?;
        Ok(load)
    }

    fn log(&self) -> std::path::PathBuf {
        self.work.join("h2load.tsv")
    }

    fn upload_script(&self) -> anyhow::Result<std::path::PathBuf> {
        let path = self.work.join("upload.lua");
        let script = format!("wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", {LARGE_BODY})\n");
        fs::write(&path, script)?;
        Ok(path)
    }
}
