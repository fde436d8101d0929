//! `wasmplug run`: the data plane on resource files.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::signal::unix::Signal;
use tokio::sync::oneshot;
use wasmplug_api::{Workload, WorkloadRole};
use wasmplug_host::{Host, Limits};
use wasmplug_proxy::{
    ClientAuth, ClusterConfig, ListenerProtocol, Node, Proxy, ProxyConfig, ProxyLimits,
    SnapshotBuilder, Sockets, StartProxyError, TlsMode, TlsSettings,
};

use crate::access_log;
use crate::args::{Protocol, RunArguments};
use crate::chain::counted;
use crate::credentials::{Contents, CredentialFiles};
use crate::diagnostics::WithHint;
use crate::environment::Environment;
use crate::handover;
use crate::logging::{self, PluginLog};
use crate::output;
use crate::reconcile::Reconciler;
use crate::signals::{StopSignals, hang_ups};
use crate::sources::Sources;
use crate::store;
use crate::target::Target;
use crate::upstreams;

pub(super) fn run(arguments: &RunArguments, environment: &Environment) -> anyhow::Result<()> {
    let _log = logging::start(&arguments.logging, "info", environment)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut stop = StopSignals::take_over(&runtime)?;
    let mut reload = hang_ups(&runtime)?;
    let host = Arc::new(Host::new()?.with_log_sink(Arc::new(PluginLog)));
    let store = Arc::new(store::open(&arguments.store, environment)?);
    let (workload, clusters) = (arguments.workload.clone(), clusters(arguments));
    let refresh = arguments.refresh_interval;
    let (vm_limits, limits) = limits(arguments);
    let variables = environment.variables.clone();
    let mut builder = SnapshotBuilder::new(Arc::clone(&host), store, vm_limits, variables);
    if let Some(compiled) = store::compiled(&arguments.store, environment) {
        builder = builder.with_compiled_cache(compiled);
    }
    let reconciler = Reconciler::new(workload, clusters, builder, environment, refresh);
    let mut reconciler =
        reconciler.with_verified_clients(arguments.listener.tls_client_ca.is_some());
    let mut sources = Sources::new(arguments.sources.files.clone());
    reconciler.first_reading(&mut sources)?;
    // Before anybody can connect: a plan that is refused must not look like a proxy that starts.
    let plan = reconciler.plan(&sources)?;
    let target = Target::find(&arguments.workload, &sources.resources())?;
    let (access_log, _access_log_writer) = access_log::open(arguments, &runtime)?.unzip();
    let credentials = Credentials::read(arguments, &runtime)?;
    let config = ProxyConfig {
        access_log,
        limits,
        tls: credentials.as_ref().map(|of| of.settings.clone()),
        ..proxy_config(arguments, node(&target.workload), environment)?
    };
    let (inheritance, sockets) = handover::take(arguments.handover.as_deref())?;
    let proxy = start_proxy_on(sockets, config, host)?;
    announce(arguments, &sources, &proxy, credentials.as_ref());
    let (serving, is_serving) = oneshot::channel();
    let result = runtime.block_on(async {
        tokio::select! {
            // Cancel-safe: what is not applied when the process ends matters to nobody.
            result = reconciler.follow(plan, sources, &proxy, &mut reload, serving) => result,
            // Cancel-safe: a successor that is not served waits in vain, and says so.
            result = handover::serve(arguments.handover.as_deref(), inheritance, is_serving, &proxy) => {
                result
            }
            // Cancel-safe: new connections are nobody's business when the process ends.
            result = Credentials::follow(credentials, &proxy) => result,
            // Cancel-safe: a signal.
            () = stop.wait() => Ok(()),
        }
    });
    proxy.stop();
    result
}

/// Tells what was read, and where it can be tried.
fn announce(
    arguments: &RunArguments,
    sources: &Sources,
    proxy: &Proxy,
    credentials: Option<&Credentials>,
) {
    let (scheme, listener_scheme) = match (arguments.protocol, credentials.is_some()) {
        (Protocol::Http, false) => ("http", "http"),
        (Protocol::Http, true) => ("http", "https"),
        (Protocol::Tcp, false) => ("tcp", "tcp"),
        (Protocol::Tcp, true) => ("tcp", "tls"),
    };
    let (files, ignored) = sources.counts();
    output::talk(format!(
        "{} read, {} ignored",
        counted(files, "file"),
        counted(ignored, "document")
    ));
    output::talk(format!(
        "listening on {listener_scheme}://{}, upstream {scheme}://{}, {}",
        proxy.listen_address(),
        arguments.upstream,
        counted(proxy.workers(), "worker")
    ));
    if let Some(credentials) = credentials {
        output::talk(credentials.about());
    }
    if let Some(admin) = proxy.admin_address() {
        output::talk(format!("admin on http://{admin}"));
    }
}

/// Starts the data plane, with a hint if it does not.
pub(super) fn start_proxy(config: ProxyConfig, host: Arc<Host>) -> anyhow::Result<Proxy> {
    start_proxy_on(None, config, host)
}

/// The same on sockets that were handed over.
fn start_proxy_on(
    sockets: Option<Sockets>,
    config: ProxyConfig,
    host: Arc<Host>,
) -> anyhow::Result<Proxy> {
    Proxy::start_on(sockets, config, host).map_err(|error: StartProxyError| {
        let hint = error.hint();
        WithHint::wrap(error, hint)
    })
}

/// The credentials of the listener, and how to hear of newer ones.
struct Credentials {
    files: CredentialFiles,
    contents: Contents,
    settings: TlsSettings,
    reload: Signal,
}

// === impl Credentials ===

impl Credentials {
    /// Reads what the flags name. `None` if the listener speaks no TLS.
    ///
    /// # Errors
    /// A file that cannot be read or used.
    fn read(arguments: &RunArguments, runtime: &Runtime) -> anyhow::Result<Option<Self>> {
        let protocol = listener_protocol(arguments.protocol);
        let Some(files) = CredentialFiles::of(&arguments.listener, protocol) else {
            return Ok(None);
        };
        let contents = files.read()?;
        let credentials = files.load(&contents)?;
        let settings = TlsSettings { credentials, mode: arguments.listener.tls_mode.into() };
        let reload = hang_ups(runtime)?;
        Ok(Some(Self { files, contents, settings, reload }))
    }

    fn about(&self) -> String {
        let credentials = &self.settings.credentials;
        let clients = match (credentials.verifies_clients(), self.files.client_auth()) {
            (false, _) => "clients show no certificate",
            (true, ClientAuth::Required) => "clients have to show a certificate",
            (true, ClientAuth::Optional) => "clients may show a certificate",
        };
        let plain = match self.settings.mode {
            TlsMode::Strict => "",
            TlsMode::Permissive => ", plain text is served as well",
        };
        format!("certificate valid until {}, {clients}{plain}", credentials.not_after_text())
    }

    /// Follows the files until the proxy ends; without TLS there is nothing to follow.
    async fn follow(credentials: Option<Self>, proxy: &Proxy) -> anyhow::Result<()> {
        match (credentials, proxy.tls()) {
            (Some(Self { files, contents, mut reload, .. }), Some(tls)) => {
                files.follow(contents, tls, &mut reload).await
            }
            _ => std::future::pending().await,
        }
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
    Ok(ProxyConfig {
        listen: arguments.listen,
        admin: Some(arguments.admin),
        clusters: clusters(arguments),
        routes: arguments.routes.clone(),
        node,
        listener: listener_protocol(arguments.protocol),
        has_proxy_protocol: arguments.listener.proxy_protocol,
        workers: arguments.workers.map_or(environment.cores, usize::from),
        server_name: arguments.server_name.clone(),
        has_server_timing: arguments.server_timing,
        upstreams: upstreams::options(of_upstreams)?,
        ..ProxyConfig::new(upstream)
    })
}

/// The limits of VMs and of the proxy, with those that the arguments set.
fn limits(arguments: &RunArguments) -> (Limits, ProxyLimits) {
    let (mut vm, mut proxy) = (Limits::default(), ProxyLimits::default());
    for setting in &arguments.limits {
        setting.apply(&mut vm, &mut proxy);
    }
    proxy.request_timeout = arguments.upstreams.request_timeout.or(proxy.request_timeout);
    (vm, proxy)
}

fn listener_protocol(protocol: Protocol) -> ListenerProtocol {
    match protocol {
        Protocol::Http => ListenerProtocol::Http,
        Protocol::Tcp => ListenerProtocol::Tcp,
    }
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
