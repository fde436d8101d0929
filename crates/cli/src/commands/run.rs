//! `wasmplug run`: the data plane on resource files.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wasmplug_api::{Workload, WorkloadRole};
use wasmplug_host::Host;
use wasmplug_proxy::{
    ClusterConfig, ListenerProtocol, Node, Proxy, ProxyConfig, ProxyLimits, StartProxyError,
};

use crate::access_log;
use crate::args::{Protocol, RunArguments};
use crate::chain::counted;
use crate::diagnostics::WithHint;
use crate::environment::Environment;
use crate::logging::{self, PluginLog};
use crate::output;
use crate::reconcile::Reconciler;
use crate::sources::Sources;
use crate::store;
use crate::target::Target;
use crate::upstreams;

pub(super) fn run(arguments: &RunArguments, environment: &Environment) -> anyhow::Result<()> {
    let _log = logging::start(&arguments.logging, "info", environment)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut stop = StopSignals::take_over(&runtime)?;
    let host = Arc::new(Host::new()?.with_log_sink(Arc::new(PluginLog)));
    let store = Arc::new(store::open(&arguments.store, environment)?);
    let (workload, clusters) = (arguments.workload.clone(), clusters(arguments));
    let refresh = arguments.refresh_interval;
    let compiled = store::compiled(&arguments.store, environment);
    let mut reconciler = Reconciler::new(
        workload,
        clusters,
        Arc::clone(&host),
        store,
        compiled,
        environment,
        refresh,
    );
    let mut sources = Sources::new(arguments.sources.files.clone());
    reconciler.first_reading(&mut sources)?;
    // Before anybody can connect: a plan that is refused must not look like a proxy that starts.
    let plan = reconciler.plan(&sources)?;
    let target = Target::find(&arguments.workload, &sources.resources())?;
    let (access_log, _access_log_writer) = access_log::open(arguments)?.unzip();
    let config = proxy_config(arguments, node(&target.workload), environment)?;
    let config = ProxyConfig { access_log, ..config };
    let upstream = config.upstream.to_string();
    let workers = config.workers;
    let scheme = match arguments.protocol {
        Protocol::Http => "http",
        Protocol::Tcp => "tcp",
    };
    let proxy = start_proxy(config, host)?;
    let (files, ignored) = sources.counts();
    output::talk(format!(
        "{} read, {} ignored",
        counted(files, "file"),
        counted(ignored, "document")
    ));
    output::talk(format!(
        "listening on {scheme}://{}, upstream {scheme}://{upstream}, {}",
        proxy.listen_address(),
        counted(workers, "worker")
    ));
    if let Some(admin) = proxy.admin_address() {
        output::talk(format!("admin on http://{admin}"));
    }
    let result = runtime.block_on(async {
        tokio::select! {
            // Cancel-safe: what is not applied when the process ends matters to nobody.
            result = reconciler.follow(plan, sources, &proxy) => result,
            // Cancel-safe: a signal.
            () = stop.wait() => Ok(()),
        }
    });
    proxy.stop();
    result
}

/// Starts the data plane, with a hint if it does not.
pub(super) fn start_proxy(config: ProxyConfig, host: Arc<Host>) -> anyhow::Result<Proxy> {
    Proxy::start(config, host).map_err(|error: StartProxyError| {
        let hint = error.hint();
        WithHint::wrap(error, hint)
    })
}

/// Ctrl-C and requests to terminate, noticed from the moment this is made.
pub(super) struct StopSignals {
    interrupt: Signal,
    terminate: Signal,
}

// === impl StopSignals ===

impl StopSignals {
    /// Takes both signals over from the system, which would end the process at once.
    pub(super) fn take_over(runtime: &Runtime) -> anyhow::Result<Self> {
        let _context = runtime.enter();
        let interrupt = signal(SignalKind::interrupt()).context("cannot listen to signals")?;
        let terminate = signal(SignalKind::terminate()).context("cannot listen to signals")?;
        Ok(Self { interrupt, terminate })
    }

    /// Waits for the first of them.
    pub(super) async fn wait(&mut self) {
        tokio::select! {
            // Cancel-safe: both are signals.
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        output::talk("stopping: open requests may end");
    }
}

fn proxy_config(
    arguments: &RunArguments,
    node: Node,
    environment: &Environment,
) -> anyhow::Result<ProxyConfig> {
    let of_upstreams = &arguments.upstreams;
    let mut upstream = arguments.upstream.clone();
    if let Some(name) = &of_upstreams.upstream_sni {
        upstream = upstream.with_server_name(name);
    }
    let request_timeout = of_upstreams.request_timeout;
    Ok(ProxyConfig {
        listen: arguments.listen,
        admin: Some(arguments.admin),
        clusters: clusters(arguments),
        routes: arguments.routes.clone(),
        node,
        listener: match arguments.protocol {
            Protocol::Http => ListenerProtocol::Http,
            Protocol::Tcp => ListenerProtocol::Tcp,
        },
        workers: arguments.workers.map_or(environment.cores, usize::from),
        server_name: arguments.server_name.clone(),
        has_server_timing: arguments.server_timing,
        upstreams: upstreams::options(of_upstreams)?,
        limits: ProxyLimits { request_timeout, ..ProxyLimits::default() },
        ..ProxyConfig::new(upstream)
    })
}

/// A host that may be called is a cluster that has its address for a name.
fn clusters(arguments: &RunArguments) -> BTreeMap<String, ClusterConfig> {
    let hosts = arguments.callout_hosts.iter().map(|host| (host.to_string(), host.clone()));
    hosts.chain(arguments.clusters.iter().cloned()).collect()
}

/// This proxy in Istio's words. Source: the metadata of Istio's sidecars.
fn node(workload: &Workload) -> Node {
    let (kind, listener_direction) = match workload.role {
        WorkloadRole::SidecarInbound => ("sidecar", 1),
        WorkloadRole::SidecarOutbound => ("sidecar", 2),
        WorkloadRole::Gateway => ("router", 2),
        WorkloadRole::Waypoint => ("waypoint", 1),
    };
    let app = workload.labels.get("app").map_or("wasmplug", String::as_str);
    let namespace = &workload.namespace;
    Node {
        id: format!("{kind}~127.0.0.1~{app}.{namespace}~{namespace}.svc.cluster.local"),
        cluster: format!("{app}.{namespace}"),
        metadata: serde_json::json!({
            "NAMESPACE": namespace,
            "LABELS": workload.labels,
            "SERVICE_ACCOUNT": workload.service_account,
        }),
        listener_direction,
    }
}
