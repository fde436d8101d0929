//! Everything breaks at once, and a checker verifies every answer byte for byte.
//!
//! ```console
//! $ cargo test -p wasmplug-proxy --test chaos        # a short run: so many requests
//! $ cargo xtask chaos --minutes 30                   # the same code, in release mode, for longer
//! ```
//!
//! What happens is decided by a seed, which a failure prints; in which order it meets the worker
//! threads is not.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]
#![expect(clippy::print_stdout, reason = "the numbers of a run are for the person who started it")]

mod ask;
mod checker;
#[path = "../it/harness/guest.rs"]
mod guest;
mod guests;
mod report;
mod resources;
mod rig;
mod storms;
mod swaps;
mod upstream;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// For how many minutes a run goes on, in place of a number of requests.
pub(crate) const MINUTES_VARIABLE: &str = "WASMPLUG_CHAOS_MINUTES";
/// The seed of a run.
const SEED_VARIABLE: &str = "WASMPLUG_CHAOS_SEED";
/// How many changes of configuration `swaps` makes.
pub(crate) const SWAPS_VARIABLE: &str = "WASMPLUG_CHAOS_SWAPS";
/// The folder into which reports are written.
pub(crate) const REPORTS_VARIABLE: &str = "WASMPLUG_CHAOS_REPORTS";

/// Memory and files are those of the process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Waits for the other tests.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("`{variable}` is no number: {text}")))
}

/// The seed of this run, which is said, so that it can be given again.
pub(crate) fn seed() -> u64 {
    let seed = number(SEED_VARIABLE).unwrap_or_else(|| fastrand::u64(..));
    println!("{SEED_VARIABLE}={seed}");
    seed
}

/// When a run that is given minutes is over.
pub(crate) fn end() -> Option<Instant> {
    number(MINUTES_VARIABLE).map(|minutes| Instant::now() + Duration::from_secs(60 * minutes))
}

/// Waits for something that another thread does, as long as tests are patient.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < wasmplug_testkit::patience(), "it did not come: {what}");
        std::thread::yield_now();
    }
}
