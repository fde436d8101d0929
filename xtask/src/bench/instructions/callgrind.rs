//! A process under valgrind's callgrind, which counts only while it is told to.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use fs_err as fs;

use crate::bench::process_guard::ProcessGuard;
use crate::process;

/// The running process.
pub(super) struct Callgrind {
    pub(super) process: ProcessGuard,
    /// Where callgrind writes what it counted, a file for each thread.
    counts: PathBuf,
}

// === impl Callgrind ===

impl Callgrind {
    /// Starts the command; nothing is counted yet.
    pub(super) fn start(command: &Command, work: &Path) -> anyhow::Result<Self> {
        let counts = work.join("counts");
        empty(&counts)?;
        let mut wrapped = Command::new("valgrind");
        wrapped.args(["--tool=callgrind", "--instr-atstart=no", "--separate-threads=yes"]);
        wrapped.arg(format!("--callgrind-out-file={}", counts.join("out").display()));
        wrapped.arg(command.get_program()).args(command.get_args());
        let process = ProcessGuard::start(&wrapped, "0", &work.join("valgrind.log"))?;
        Ok(Self { process, counts })
    }

    /// Counts from here on.
    pub(super) fn switch_on(&self) -> anyhow::Result<()> {
        self.control(&["instrumentation", "on"])
    }

    /// Counts no more.
    pub(super) fn switch_off(&self) -> anyhow::Result<()> {
        self.control(&["instrumentation", "off"])
    }

    /// What the worker has executed since this was asked last. The worker is the thread that has
    /// executed most; the others wait for clocks and files.
    pub(super) fn worker_total(&self) -> anyhow::Result<u64> {
        empty(&self.counts)?;
        self.control(&["dump"])?;
        let mut most = None;
        for entry in fs::read_dir(&self.counts)? {
            let text = fs::read_to_string(entry?.path())?;
            most = most.max(total(&text));
        }
        most.filter(|total| *total > 0).context("callgrind has counted nothing")
    }

    /// What `callgrind_control` would send; it is a script around this program.
    fn control(&self, words: &[&str]) -> anyhow::Result<()> {
        let mut command = Command::new("vgdb");
        process::output(command.arg(format!("--pid={}", self.process.id())).args(words))?;
        Ok(())
    }
}

fn empty(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::create_dir_all(folder)?)
}

/// The instructions of one file. Its `summary` is not it: that is 0 in files of single threads.
///
/// Source: Valgrind manual, "Callgrind Format Specification".
fn total(file: &str) -> Option<u64> {
    let mut lines = file.lines();
    // Counts have as many columns as there are events; this one is alone by default.
    lines.by_ref().find(|line| *line == "events: Ir")?;
    lines.find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# callgrind format
version: 1
creator: callgrind-3.19.0
thread: 5

positions: line
events: Ir
summary: 0

ob=(1) wasmplug
fn=(1) main
0 17206270

totals: 17206270
";

    #[test]
    fn the_total_of_a_thread_is_read() {
        assert_eq!(total(FILE), Some(17_206_270));
    }

    #[test]
    fn cut_files_and_other_events_have_no_total() {
        for (there, instead) in [
            ("totals: 17206270\n", ""),
            ("totals: 17206270\n", "totals: \n"),
            ("totals: 17206270\n", "totals: many\n"),
            ("totals: 17206270\n", "totals: 17206270 5\n"),
            ("events: Ir", "events: Ir Dr"),
            ("events: Ir", "events: Dr"),
        ] {
            let file = FILE.replace(there, instead);
            assert_ne!(file, FILE);
            assert_eq!(total(&file), None, "{instead}");
        }
        assert_eq!(total(""), None);
    }
}
