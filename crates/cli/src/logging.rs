//! Log lines to standard error, written by a thread of their own so that no worker ever waits.

use std::io::Write;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use wasmplug_host::abi::LogLevel;
use wasmplug_host::{LogRecord, LogSink};

use crate::args::LoggingArguments;
use crate::diagnostics::WithHint;
use crate::environment::Environment;

/// Target under which plugins' lines are logged.
const TARGET: &str = "wasm";

/// Most lines that wait to be written; further ones are dropped. Source: ours; room for all of them
/// is made at the start.
const MAX_WAITING_LINES: usize = 8192;

/// Passes plugins' lines to the process's log.
#[derive(Debug)]
pub(crate) struct PluginLog;

/// Starts logging. What was logged is written out when the guard is dropped.
pub(crate) fn start(
    arguments: &LoggingArguments,
    default: &str,
    environment: &Environment,
) -> anyhow::Result<WorkerGuard> {
    let filter = EnvFilter::builder().parse(arguments.log.as_deref().unwrap_or(default)).map_err(
        |error| {
            let hint = "use a level, or filters such as `info,wasm=debug`".to_owned();
            WithHint::wrap(anyhow::Error::new(error).context("`--log` is not a filter"), Some(hint))
        },
    )?;
    let (writer, guard) = lines_to(std::io::stderr(), MAX_WAITING_LINES, "log");
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(environment.has_colours).with_writer(writer);
    tracing_subscriber::registry().with(filter).with(lines).init();
    Ok(guard)
}

/// Writes lines on a thread of this name; beyond `most` that wait, they are dropped and counted.
pub(crate) fn lines_to(
    out: impl Write + Send + 'static,
    most: usize,
    thread: &str,
) -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(most);
    builder.thread_name(thread).finish(out)
}

// === impl PluginLog ===

impl LogSink for PluginLog {
    fn level(&self) -> LogLevel {
        use tracing::level_filters::LevelFilter;
        match () {
            () if tracing::enabled!(target: TARGET, tracing::Level::TRACE) => LogLevel::Trace,
            () if tracing::enabled!(target: TARGET, tracing::Level::DEBUG) => LogLevel::Debug,
            () if tracing::enabled!(target: TARGET, tracing::Level::INFO) => LogLevel::Info,
            () if tracing::enabled!(target: TARGET, tracing::Level::WARN) => LogLevel::Warn,
            () if LevelFilter::current() == LevelFilter::OFF => LogLevel::Critical,
            () => LogLevel::Error,
        }
    }

    fn log(&self, record: LogRecord<'_>) {
        let LogRecord { level, plugin, context_id, message } = record;
        match level {
            LogLevel::Trace => {
                tracing::trace!(target: TARGET, plugin, context_id, "{message}");
            }
            LogLevel::Debug => {
                tracing::debug!(target: TARGET, plugin, context_id, "{message}");
            }
            LogLevel::Info => {
                tracing::info!(target: TARGET, plugin, context_id, "{message}");
            }
            LogLevel::Warn => {
                tracing::warn!(target: TARGET, plugin, context_id, "{message}");
            }
            LogLevel::Error | LogLevel::Critical => {
                tracing::error!(target: TARGET, plugin, context_id, "{message}");
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{self, Write};
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::{MAX_WAITING_LINES, lines_to};

    /// Says that it was given something, and then waits to be let go on.
    pub(crate) struct Stuck(pub(crate) Sender<()>, pub(crate) Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.send(());
            let _ = self.1.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_beyond_those_that_may_wait_are_dropped() {
        let ((began, has_begun), (go_on, may_go_on)) = (channel(), channel());
        let (mut writer, _guard) = lines_to(Stuck(began, may_go_on), MAX_WAITING_LINES, "log");
        let dropped = writer.error_counter();
        writer.write_all(b"in hand").unwrap();
        has_begun.recv().unwrap();
        for _ in 0..MAX_WAITING_LINES {
            writer.write_all(b"waits").unwrap();
        }
        assert_eq!(dropped.dropped_lines(), 0);
        writer.write_all(b"dropped").unwrap();
        assert_eq!(dropped.dropped_lines(), 1);
        drop(go_on);
    }
}
