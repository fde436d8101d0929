//! Where plugins' log lines go.

use crate::abi::LogLevel;

/// One line that a plugin wrote.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// Severity that the plugin gave; standard output counts as info, standard error as error.
    pub level: LogLevel,
    /// Name of the plugin; empty while the module itself starts.
    pub plugin: &'a str,
    /// Id of the context that spoke; 0 while the module itself starts.
    pub context_id: u32,
    /// The text, without its last newline; bytes that are not UTF-8 are replaced.
    pub message: &'a str,
}

/// Receives log lines. Called on the worker thread: it must not block.
pub trait LogSink: Send + Sync {
    /// The least severe level that is wanted; what `proxy_get_log_level` answers.
    fn level(&self) -> LogLevel;
    /// Takes one line at or above [`LogSink::level`].
    fn log(&self, record: LogRecord<'_>);
}

/// Drops every line.
#[derive(Debug, Default)]
pub struct NoLog;

impl LogSink for NoLog {
    fn level(&self) -> LogLevel {
        LogLevel::Critical
    }

    fn log(&self, _record: LogRecord<'_>) {}
}
