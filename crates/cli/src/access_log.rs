//! Where lines about requests go: a file, or standard output.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use fs_err::File;
use tokio::runtime::Runtime;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, WorkerGuard};
use wasmplug_proxy::{AccessLog, AccessLogFormat, AccessLogSink};

use crate::args::{AccessLogEncoding, RunArguments};
use crate::logging::lines_to;
use crate::signals::hang_ups;

/// Lines that wait to be written; what comes beyond is lost, and counted. Source: ours.
const WAITING_LINES: usize = 65_536;

/// Hands lines over to a thread that writes them.
#[derive(Debug)]
struct Writer {
    lines: NonBlocking,
    lost: ErrorCounter,
}

/// A file that is opened anew after a hang-up signal: another program has moved it away.
struct LogFile {
    path: PathBuf,
    file: File,
    is_moved: Arc<AtomicBool>,
}

/// Opens the access log that the arguments ask for. What was logged is written out when the guard is
/// dropped.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn open(
    arguments: &RunArguments,
    runtime: &Runtime,
) -> anyhow::Result<Option<(AccessLog, WorkerGuard)>> {
    let Some(path) = &arguments.access_log else { return Ok(None) };
    let (writer, guard) = if path == Path::new("-") {
        Writer::new(std::io::stdout())
    } else {
        let file = LogFile::open(path).context("cannot open the access log")?;
        file.follow_hang_ups(runtime)?;
        Writer::new(file)
    };
    let format = match arguments.access_log_format {
        AccessLogEncoding::Text => AccessLogFormat::Text,
        AccessLogEncoding::Json => AccessLogFormat::Json,
    };
    Ok(Some((AccessLog { format, sink: Arc::new(writer) }, guard)))
}

// === impl LogFile ===

impl LogFile {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = append_to(path)?;
        Ok(Self { path: path.to_owned(), file, is_moved: Arc::default() })
    }

    fn follow_hang_ups(&self, runtime: &Runtime) -> anyhow::Result<()> {
        let (mut signals, is_moved) = (hang_ups(runtime)?, Arc::clone(&self.is_moved));
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                is_moved.store(true, Ordering::Relaxed);
            }
        });
        Ok(())
    }
}

impl std::io::Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.is_moved.swap(false, Ordering::Relaxed) {
            match append_to(&self.path) {
                Ok(file) => self.file = file,
                // The old one is better than none.
                Err(error) => tracing::error!(error = %error, "cannot open the access log anew"),
            }
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn append_to(path: &Path) -> std::io::Result<File> {
    fs_err::OpenOptions::new().create(true).append(true).open(path)
}

// === impl Writer ===

impl Writer {
    fn new(to: impl std::io::Write + Send + 'static) -> (Self, WorkerGuard) {
        let (lines, guard) = lines_to(to, WAITING_LINES, "access-log");
        (Self { lost: lines.error_counter(), lines }, guard)
    }
}

impl AccessLogSink for Writer {
    fn write(&self, line: &[u8]) {
        // It does not fail; what there is no room for is counted.
        let _ = self.lines.clone().write_all(line);
    }

    fn lost_lines(&self) -> u64 {
        u64::try_from(self.lost.dropped_lines()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::logging::tests::Stuck;

    #[test]
    fn lines_beyond_those_that_may_wait_are_lost_and_counted() {
        let ((began, has_begun), (go_on, may_go_on)) = (channel(), channel());
        let (writer, _guard) = Writer::new(Stuck(began, may_go_on));
        writer.write(b"in hand");
        has_begun.recv().unwrap();
        (0..WAITING_LINES).for_each(|_| writer.write(b"waits"));
        assert_eq!(writer.lost_lines(), 0);
        writer.write(b"lost");
        assert_eq!(writer.lost_lines(), 1);
        drop(go_on);
    }
}
