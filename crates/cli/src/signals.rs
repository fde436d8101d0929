//! Signals by which the system or a person talks to a running proxy.

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::output;

/// Ctrl-C and requests to terminate, noticed from the moment this is made.
pub(crate) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

// === impl StopSignals ===

impl StopSignals {
    /// Takes both signals over from the system, which would end the process at once.
    pub(crate) fn take_over(runtime: &Runtime) -> anyhow::Result<Self> {
        let _context = runtime.enter();
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
        let terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the first of them.
    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            // Cancel-safe: both are signals.
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        output::talk("stopping: open requests may end");
    }
}

/// Hang-up signals, by which operators ask to read everything anew.
pub(crate) fn hang_ups(runtime: &Runtime) -> anyhow::Result<Signal> {
    let _context = runtime.enter();
    signal(SignalKind::hangup()).context("cannot listen to signals")
}
