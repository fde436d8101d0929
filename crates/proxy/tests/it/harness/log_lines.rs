//! What plugins log.

use std::sync::{Mutex, PoisonError};

use wasmplug_host::abi::LogLevel;
use wasmplug_host::{LogRecord, LogSink};

/// Keeps every line, at any level.
#[derive(Debug, Default)]
pub(crate) struct LogLines(Mutex<Vec<String>>);

impl LogLines {
    /// The lines so far, each as `LEVEL MESSAGE`, with Envoy's names of levels.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl LogSink for LogLines {
    fn level(&self) -> LogLevel {
        LogLevel::Trace
    }

    fn log(&self, record: LogRecord<'_>) {
        let level = match record.level {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warning",
            LogLevel::Error => "error",
            LogLevel::Critical => "critical",
        };
        let line = format!("{level} {}", record.message);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}
