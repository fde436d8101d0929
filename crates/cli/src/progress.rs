//! A bar on standard error for transfers that take a while, if that is a terminal.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmplug_module::Progress;

use crate::environment::Environment;
use crate::output;

/// Whoever waits less sees nothing.
const DELAY: Duration = Duration::from_millis(500);
/// How often the bar is drawn.
const PERIOD: Duration = Duration::from_millis(100);
/// Characters of the bar itself.
const WIDTH: u64 = 24;

/// Draws until it is dropped, and then leaves no trace.
pub(crate) struct Bar {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

// === impl Bar ===

impl Bar {
    /// Draws how far a transfer has come; without a terminal it does nothing.
    pub(crate) fn show(what: &'static str, progress: &Progress, environment: &Environment) -> Self {
        if !environment.is_terminal {
            return Self { stop: None, thread: None };
        }
        let (stop, stopped) = channel::<()>();
        let progress = progress.clone();
        let thread = std::thread::spawn(move || {
            let mut wait = DELAY;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                output::redraw(&draw(what, progress.done(), progress.expected()));
                wait = PERIOD;
            }
            if wait == PERIOD {
                output::redraw("");
            }
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
    let in_unit = |unit: u64| bytes as f64 / unit as f64;
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", in_unit(1 << 10)),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", in_unit(1 << 20)),
        _ => format!("{:.1} GiB", in_unit(1 << 30)),
    }
}

fn draw(what: &str, done: u64, expected: u64) -> String {
    // What is not announced has no end that could be shown.
    if expected < done || expected == 0 {
        return format!("{what} {}", size(done));
    }
    let full = done.saturating_mul(WIDTH) / expected;
    let bar: String = (0..WIDTH).map(|at| if at < full { '=' } else { ' ' }).collect();
    format!("{what} [{bar}] {} of {}", size(done), size(expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills() {
        assert_eq!(draw("pulling", 0, 0), "pulling 0 B");
        assert_eq!(draw("pulling", 2048, 0), "pulling 2.0 KiB");
        let half = format!("pulling [{}{}] 512 B of 1.0 KiB", "=".repeat(12), " ".repeat(12));
        assert_eq!(draw("pulling", 512, 1024), half);
        assert!(draw("pulling", 1 << 20, 1 << 20).contains(&"=".repeat(24)));
    }

    #[test]
    fn sizes_have_one_digit_and_a_unit() {
        let rows =
            [(1023, "1023 B"), (1024, "1.0 KiB"), (1_572_864, "1.5 MiB"), (3 << 30, "3.0 GiB")];
        for (bytes, text) in rows {
            assert_eq!(size(bytes), text);
        }
    }
}
