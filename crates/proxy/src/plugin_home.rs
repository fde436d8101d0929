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
    retired: RefCell<Vec<(Rc<Retired>, Instant)>>,
}

// === impl PluginHome ===

impl PluginHome {
    pub(crate) fn new(
        host: Arc<Host>,
        (config, upstreams): (Arc<ProxyConfig>, Arc<Upstreams>),
        surroundings: Rc<Surroundings>,
        name: String,
    ) -> Rc<Self> {
        let clusters = Rc::clone(&surroundings.clusters);
        let (vms, retired) = (VmTable::default(), RefCell::default());
        Rc::new(Self { host, config, upstreams, vms, clusters, surroundings, name, retired })
    }

    /// Keeps a plugin that asked for time at its end, until it is done or its time is over.
    pub(crate) fn retire(&self, plugin: Rc<Retired>) {
        let until = Instant::now().checked_add(LONGEST_FAREWELL).unwrap_or_else(Instant::now);
        let mut retired = self.retired.borrow_mut();
        retired.push((plugin, until));
        let oldest = (retired.len() > MAX_RETIRED).then(|| retired.remove(0));
        drop(retired);
        drop(oldest);
    }

    /// Lets go of a plugin that is done.
    pub(crate) fn forget(&self, is_meant: impl Fn(&Retired) -> bool) {
        self.release(|plugin, _| is_meant(plugin));
    }

    /// Whether some plugin has asked for time and is not done.
    pub(crate) fn has_retired(&self) -> bool {
        !self.retired.borrow().is_empty()
    }

    /// Lets go of plugins whose time is over.
    pub(crate) fn sweep(&self, now: Instant) {
        self.release(|_, until| until <= now);
    }

    /// What is let go runs code at its end, which may come back here.
    fn release(&self, is_over: impl Fn(&Retired, Instant) -> bool) {
        let mut over = Vec::new();
        self.retired.borrow_mut().retain(|(plugin, until)| {
            let is_over = is_over(plugin, *until);
            if is_over {
                over.push(Rc::clone(plugin));
            }
            !is_over
        });
        drop(over);
    }
}
