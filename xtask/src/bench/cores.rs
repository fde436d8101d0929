//! Which cores the engine has, and which the load.

use std::thread;

/// Most threads of a load generator: it has to have no fewer connections.
const MAX_LOAD_THREADS: usize = 4;

/// Cores as `taskset` takes them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Placement {
    pub(super) engine: String,
    pub(super) load: String,
    /// Threads of the load generator.
    pub(super) load_threads: usize,
    /// Whether the load runs on cores of the engine, so that each takes time from the other.
    pub(super) is_shared: bool,
}

/// Cores of this machine.
pub(super) fn count() -> usize {
    thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The core of the upstream: the last.
pub(super) fn upstream() -> String {
    count().saturating_sub(1).to_string()
}

/// Each worker has a core of its own and the load the rest, if there is a rest. With one worker
/// the load has one core in any case, so that results of different machines compare.
pub(super) fn placement(cores: usize, workers: usize) -> Placement {
    let last = cores.max(1) - 1;
    if workers <= 1 {
        let load = last.min(1).to_string();
        return Placement { engine: "0".to_owned(), load, load_threads: 1, is_shared: last == 0 };
    }
    let is_shared = cores <= workers;
    let (engine, load) = if is_shared {
        (format!("0-{last}"), format!("0-{last}"))
    } else {
        (format!("0-{}", workers - 1), format!("{workers}-{last}"))
    };
    let load_cores = if is_shared { cores } else { cores - workers };
    let load_threads = load_cores.clamp(1, MAX_LOAD_THREADS);
    Placement { engine, load, load_threads, is_shared }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(cores: usize, workers: usize) -> (String, String, usize, bool) {
        let Placement { engine, load, load_threads, is_shared } = placement(cores, workers);
        (engine, load, load_threads, is_shared)
    }

    #[test]
    fn the_load_has_cores_of_its_own_where_there_are_enough() {
        for (cores, workers, engine, load, threads) in [
            (2, 1, "0", "1", 1),
            (8, 1, "0", "1", 1),
            (4, 2, "0-1", "2-3", 2),
            (8, 2, "0-1", "2-7", 4),
        ] {
            let expected = (engine.to_owned(), load.to_owned(), threads, false);
            assert_eq!(placed(cores, workers), expected, "{workers} of {cores}");
        }
    }

    #[test]
    fn too_few_cores_are_shared_and_that_is_known() {
        for (cores, workers, all, threads) in [(1, 1, "0", 1), (2, 2, "0-1", 2), (2, 4, "0-1", 2)] {
            let expected = (all.to_owned(), all.to_owned(), threads, true);
            assert_eq!(placed(cores, workers), expected, "{workers} of {cores}");
        }
    }
}
