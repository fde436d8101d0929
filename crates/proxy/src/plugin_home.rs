//! What a worker offers to its plugins.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmplug_host::Host;

use crate::attributes::Surroundings;
use crate::callout::Clusters;
use crate::config::ProxyConfig;
use crate::filters::wasm::{Retired, VmTable};
use crate::upstream::Upstreams;

/// Longest time that a plugin gets which asks for time at its end. Source: ours.
const LONGEST_FAREWELL: Duration = Duration::from_secs(10);
/// Most plugins that may be saying farewell at one time on a worker; the oldest goes first.
const MAX_RETIRED: usize = 100;

/// What a worker offers to its plugins, and which of them are on their way out.
pub(crate) struct PluginHome {
    pub(crate) host: Arc<Host>,
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) vms: VmTable,
    pub(crate) clusters: Rc<Clusters>,
    pub(crate) surroundings: Rc<Surroundings>,
    /// What breakers and metrics call the worker.
    pub(crate) name: String,
    retired: Farewells<Retired>,
}

/// What is kept for some time after its end, oldest first.
struct Farewells<T>(RefCell<Vec<(Rc<T>, Instant)>>);

// === impl PluginHome ===

impl PluginHome {
    pub(crate) fn new(
        host: Arc<Host>,
        (config, upstreams): (Arc<ProxyConfig>, Arc<Upstreams>),
        surroundings: Rc<Surroundings>,
        name: String,
    ) -> Rc<Self> {
        let clusters = Rc::clone(&surroundings.clusters);
        let (vms, retired) = (VmTable::default(), Farewells(RefCell::default()));
        Rc::new(Self { host, config, upstreams, vms, clusters, surroundings, name, retired })
    }

    /// Keeps a plugin that asked for time at its end, until it is done or its time is over.
    pub(crate) fn retire(&self, plugin: Rc<Retired>) {
        self.retired.keep(plugin, Instant::now());
    }

    /// Lets go of a plugin that is done.
    pub(crate) fn forget(&self, is_meant: impl Fn(&Retired) -> bool) {
        self.retired.release(|plugin, _| is_meant(plugin));
    }

    /// Whether some plugin has asked for time and is not done.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.0.borrow().is_empty()
    }

    /// Lets go of plugins whose time is over.
    pub(crate) fn sweep(&self, now: Instant) {
        self.retired.release(|_, until| until <= now);
    }
}

// === impl Farewells ===

impl<T> Farewells<T> {
    fn keep(&self, leaving: Rc<T>, now: Instant) {
        let until = now.checked_add(LONGEST_FAREWELL).unwrap_or(now);
        let mut all = self.0.borrow_mut();
        all.push((leaving, until));
        let oldest = (all.len() > MAX_RETIRED).then(|| all.remove(0));
        drop(all);
        drop(oldest);
    }

    /// What is let go runs code at its end, which may come back here.
    fn release(&self, is_over: impl Fn(&T, Instant) -> bool) {
        let mut over = Vec::new();
        self.0.borrow_mut().retain(|(leaving, until)| {
            let is_over = is_over(leaving, *until);
            if is_over {
                over.push(Rc::clone(leaving));
            }
            !is_over
        });
        drop(over);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(farewells: &Farewells<usize>) -> Vec<usize> {
        farewells.0.borrow().iter().map(|(number, _)| **number).collect()
    }

    #[test]
    fn a_farewell_ends_with_its_time_and_not_before() {
        let (farewells, now) = (Farewells(RefCell::default()), Instant::now());
        farewells.keep(Rc::new(1), now);
        farewells.keep(Rc::new(2), now + Duration::from_nanos(1));
        let end = now + LONGEST_FAREWELL;
        farewells.release(|_, until| until <= end - Duration::from_nanos(1));
        assert_eq!(left(&farewells), [1, 2]);
        farewells.release(|_, until| until <= end);
        assert_eq!(left(&farewells), [2]);
    }

    #[test]
    fn beyond_so_many_farewells_the_oldest_ends() {
        let (farewells, now) = (Farewells(RefCell::default()), Instant::now());
        (0..MAX_RETIRED).for_each(|number| farewells.keep(Rc::new(number), now));
        assert_eq!(left(&farewells).len(), MAX_RETIRED);
        farewells.keep(Rc::new(MAX_RETIRED), now);
        assert_eq!(left(&farewells), (1..=MAX_RETIRED).collect::<Vec<_>>());
    }
}
