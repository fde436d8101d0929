//! Where lines about requests go: a file, or standard output.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, WorkerGuard};
use wasmplug_proxy::{AccessLog, AccessLogFormat, AccessLogSink};

use crate::args::{AccessLogEncoding, RunArguments};

/// Lines that wait to be written; what comes beyond is lost, and counted. Source: ours.
const WAITING_LINES: usize = 65_536;

/// Hands lines over to a thread that writes them.
#[derive(Debug)]
struct Writer {
    lines: NonBlocking,
    lost: ErrorCounter,
}

/// Opens the access log that the arguments ask for. What was logged is written out when the guard is
/// dropped.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn open(arguments: &RunArguments) -> anyhow::Result<Option<(AccessLog, WorkerGuard)>> {
    let Some(path) = &arguments.access_log else { return Ok(None) };
    let builder = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("access-log");
    let (lines, guard) = if path == Path::new("-") {
        builder.finish(std::io::stdout())
    } else {
        let file = fs_err::OpenOptions::new().create(true).append(true).open(path);
        builder.finish(file.context("cannot open the access log")?)
    };
    let format = match arguments.access_log_format {
        AccessLogEncoding::Text => AccessLogFormat::Text,
        AccessLogEncoding::Json => AccessLogFormat::Json,
    };
    let sink = Arc::new(Writer { lost: lines.error_counter(), lines });
    Ok(Some((AccessLog { format, sink }, guard)))
}

// === impl Writer ===

impl AccessLogSink for Writer {
    fn write(&self, line: &[u8]) {
        // It does not fail; what there is no room for is counted.
        let _ = self.lines.clone().write_all(line);
    }

    fn lost_lines(&self) -> u64 {
        u64::try_from(self.lost.dropped_lines()).unwrap_or(u64::MAX)
    }
}
