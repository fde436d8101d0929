//! The proxy of this process, its plugins, and its changes of configuration.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use wasmplug_api::{WorkloadRole, parse_file, plan};
use wasmplug_host::{Host, Limits};
use wasmplug_module::{ModuleStore, StoreOptions};
use wasmplug_proxy::{FilterSpec, PluginSpec, Proxy, ProxyConfig, PullOptions, SnapshotBuilder};
use wasmplug_testkit::RawClient;

use crate::guests;

/// Worker threads.
pub(crate) const WORKERS: usize = 2;
/// Time after which a stream in which nothing moves is ended: many times what a machine under load
/// needs, and short enough to be met.
const IDLE: Duration = Duration::from_secs(3);

/// A proxy whose configuration can be changed from any one thread.
pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) numbers: Arc<Numbers>,
    builder: SnapshotBuilder,
    runtime: Runtime,
    folder: TempDir,
    /// Every form that a plugin ever had.
    specs: Vec<Weak<PluginSpec>>,
}

/// Numbers of configurations: what requests that begin now get at least, and at most.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) applied: AtomicU64,
    pub(crate) published: AtomicU64,
}

/// A chain of plugins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chain {
    /// `gate` and `open`.
    Two,
    /// With a plugin of a user between them.
    Three,
    /// The module of `gate` is not there.
    Missing,
    /// The module of `gate` is none.
    Nonsense,
    /// `gate` does not accept its configuration.
    Refusing,
    Empty,
}

// === impl Chain ===

impl Chain {
    /// Good and bad ones in turn.
    pub(crate) const FLIPS: [Self; 6] =
        [Self::Three, Self::Missing, Self::Two, Self::Nonsense, Self::Three, Self::Refusing];

    fn is_good(self) -> bool {
        !matches!(self, Self::Missing | Self::Nonsense | Self::Refusing)
    }
}

// === impl Rig ===

impl Rig {
    pub(crate) fn start(upstream: SocketAddr, void: SocketAddr) -> Self {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(format!("{name}.wasm")), bytes).unwrap();
        };
        for name in ["gate", "open"] {
            write(name, &crate::guest::assemble(&guests::text(name)));
        }
        write("nonsense", b"no module");
        write("refusing", &crate::guest::assemble("on configure:\n(return #0)"));
        let mut config = ProxyConfig::new(upstream.into());
        config.workers = WORKERS;
        config.admin = Some(([127, 0, 0, 1], 0).into());
        config.limits.stream_idle_timeout = IDLE;
        for (name, address) in guests::CLUSTERS.iter().zip([upstream, void]) {
            config.clusters.insert((*name).to_owned(), address.into());
        }
        let host = Arc::new(Host::new().unwrap());
        let store = ModuleStore::open(StoreOptions::new(folder.path().join("cache"))).unwrap();
        let builder =
            SnapshotBuilder::new(Arc::clone(&host), Arc::new(store), limits(), HashMap::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let proxy = Proxy::start(config, host).unwrap();
        let numbers = Arc::new(Numbers::default());
        let mut rig = Self { proxy, numbers, builder, runtime, folder, specs: Vec::new() };
        rig.change(Chain::Two);
        rig
    }

    /// Changes the configuration and waits until every worker has it.
    pub(crate) fn change(&mut self, chain: Chain) {
        // What is rejected changes nothing, and what stands beside it stays as it is.
        let last = self.numbers.published.load(Ordering::Acquire);
        let number = if chain.is_good() { last + 1 } else { last };
        self.numbers.published.store(number, Ordering::Release);
        let manifest = self.manifest(chain, number);
        let parsed = parse_file("chaos.yaml", &manifest);
        let workload = wasmplug_api::Workload::new("default", WorkloadRole::SidecarInbound);
        let plan = plan(&parsed.resources, &workload);
        self.runtime.block_on(async {
            let snapshot = self.builder.build(&plan, &PullOptions::default()).await;
            assert_eq!(snapshot.rejected.is_empty(), chain.is_good(), "{:?}", snapshot.rejected);
            self.proxy.apply(snapshot).await;
        });
        if chain.is_good() {
            self.numbers.applied.store(number, Ordering::Release);
        }
        self.specs.retain(|spec| spec.strong_count() > 0);
        let current = self.proxy.current();
        for spec in current.filters.iter().filter_map(FilterSpec::plugin) {
            let spec = Arc::downgrade(spec);
            if !self.specs.iter().any(|known| known.ptr_eq(&spec)) {
                self.specs.push(spec);
            }
        }
    }

    /// Forms of plugins that somebody still holds, those of the current configuration included.
    pub(crate) fn living_specs(&self) -> usize {
        self.specs.iter().filter(|spec| spec.strong_count() > 0).count()
    }

    /// The plugins that run now, in order of the chain.
    pub(crate) fn plugins(&self) -> Vec<Arc<PluginSpec>> {
        let current = self.proxy.current();
        current.filters.iter().filter_map(FilterSpec::plugin).map(Arc::clone).collect()
    }

    /// The value of a metric.
    pub(crate) fn metric(&self, name: &str) -> Option<u64> {
        let mut client = RawClient::connect(self.proxy.admin_address().unwrap()).unwrap();
        let page = client.get("/stats/prometheus").unwrap().text();
        let mut lines = page.lines().filter_map(|line| line.rsplit_once(' '));
        lines.find(|(found, _)| *found == name)?.1.parse().ok()
    }

    fn manifest(&self, chain: Chain, number: u64) -> String {
        let mut text = String::new();
        let user = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../plugins/prebuilt/tag-headers-rust.wasm");
        let in_folder = |name: &str| self.folder.path().join(format!("{name}.wasm"));
        let gate = match chain {
            Chain::Empty => return text,
            Chain::Missing => "missing",
            Chain::Nonsense => "nonsense",
            Chain::Refusing => "refusing",
            Chain::Two | Chain::Three => "gate",
        };
        let mut add = |name: &str, path: &Path, priority: u32, strategy: &str, config: String| {
            let _ = write!(
                text,
                "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\n\
                 metadata: {{name: {name}, namespace: default}}\n\
                 spec:\n  url: file://{}\n  priority: {priority}\n  failStrategy: {strategy}\n  \
                 pluginConfig: {config}\n",
                path.display()
            );
        };
        let numbered = || format!(r#"{{"n": {number}}}"#);
        add("gate", &in_folder(gate), 30, "FAIL_CLOSE", numbered());
        if chain == Chain::Three {
            add("user", &user, 20, "FAIL_CLOSE", format!(r#"{{"tag": "{number}"}}"#));
        }
        add("open", &in_folder("open"), 10, "FAIL_OPEN", numbered());
        text
    }
}

/// Small ones, so that they are met; the deadline is as it comes.
fn limits() -> Limits {
    Limits {
        start_deadline: Duration::from_mins(1),
        memory_bytes: 16 << 20,
        shared_data_keys: 100,
        queue_items: 100,
        log_lines_per_second: 1000,
        ..Limits::default()
    }
}
