//! `wasmplug quickstart`: the whole story on one machine with nothing but the binary.

mod once;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use wasmplug_api::{Severity, Workload, WorkloadRole, parse_file, plan};
use wasmplug_host::{Host, Limits};
use wasmplug_module::{ModuleStore, StoreOptions};
use wasmplug_proxy::{Proxy, ProxyConfig, PullOptions, SnapshotBuilder};
use wasmplug_testkit::{Image, Registry, RegistryThread, Upstream, UpstreamThread};

use super::run::start_proxy;
use crate::args::{ExamplePlugin, QuickstartArguments};
use crate::diagnostics::Paint;
use crate::environment::Environment;
use crate::logging::{self, PluginLog};
use crate::output;
use crate::signals::StopSignals;

const RATE_LIMIT_RUST: &[u8] = include_bytes!("../../../../plugins/prebuilt/rate-limit-rust.wasm");
const RATE_LIMIT_GO: &[u8] = include_bytes!("../../../../plugins/prebuilt/rate-limit-go.wasm");
const TAG_HEADERS_RUST: &[u8] =
    include_bytes!("../../../../plugins/prebuilt/tag-headers-rust.wasm");

/// Everything that the quickstart runs. Stops when it is dropped.
struct Stage {
    _registry: RegistryThread,
    _upstream: UpstreamThread,
    _modules: tempfile::TempDir,
    proxy: Proxy,
    manifest: String,
    registry: SocketAddr,
    upstream: SocketAddr,
}

pub(super) fn run(
    arguments: &QuickstartArguments,
    environment: &Environment,
) -> anyhow::Result<()> {
    let log = if arguments.once { "warn" } else { "info" };
    let _log = logging::start(&arguments.logging, log, environment)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let stage = runtime.block_on(Stage::set(arguments))?;
    let paint = Paint { is_on: environment.has_colours };
    stage.introduce(paint);
    let result = if arguments.once {
        once::run(stage.proxy.listen_address(), arguments.plugin, paint)
    } else {
        stage.suggest(arguments.plugin, paint);
        let mut stop = StopSignals::take_over(&runtime)?;
        runtime.block_on(stop.wait());
        Ok(())
    };
    stage.proxy.stop();
    result
}

// === impl Stage ===

impl Stage {
    async fn set(arguments: &QuickstartArguments) -> anyhow::Result<Self> {
        let images = Registry::builder()
            .image("examples/rate-limit-rust:1.0.0", Image::compat(RATE_LIMIT_RUST))
            .image("examples/rate-limit-go:1.0.0", Image::compat(RATE_LIMIT_GO))
            .image("examples/tag-headers-rust:1.0.0", Image::compat(TAG_HEADERS_RUST));
        let registry = RegistryThread::start(images).context("cannot start the registry")?;
        let upstream =
            UpstreamThread::start(Upstream::echo()).context("cannot start the echo server")?;
        let manifest = manifest(arguments.plugin, registry.addr());
        let modules = tempfile::tempdir().context("cannot make a folder for modules")?;
        let host = Arc::new(Host::new()?.with_log_sink(Arc::new(PluginLog)));
        let store = Arc::new(ModuleStore::open(StoreOptions::new(modules.path()))?);
        let default =
            |port| SocketAddr::from(([127, 0, 0, 1], if arguments.once { 0 } else { port }));
        let config = ProxyConfig {
            listen: arguments.listen.unwrap_or_else(|| default(10_000)),
            admin: Some(arguments.admin.unwrap_or_else(|| default(15_000))),
            // The limit of the example is per VM, and each worker has one.
            workers: 1,
            ..ProxyConfig::new(upstream.addr().into())
        };
        let proxy = start_proxy(config, Arc::clone(&host))?;
        let parsed = parse_file("quickstart.yaml", &manifest);
        let errors = parsed.diagnostics.iter().filter(|found| found.severity == Severity::Error);
        if let Some(error) = errors.into_iter().next() {
            anyhow::bail!("the bundled WasmPlugin is not valid: {error}");
        }
        let workload = Workload::new("default", WorkloadRole::SidecarInbound);
        let plan = plan(&parsed.resources, &workload);
        let mut builder = SnapshotBuilder::new(host, store, Limits::default(), HashMap::new());
        let snapshot = builder.build(&plan, &PullOptions::default()).await;
        if let Some(rejected) = snapshot.rejected.first() {
            anyhow::bail!("the bundled plugin does not run: {}", rejected.reason);
        }
        proxy.apply(snapshot).await;
        let (registry_address, upstream_address) = (registry.addr(), upstream.addr());
        Ok(Self {
            _registry: registry,
            _upstream: upstream,
            _modules: modules,
            proxy,
            manifest,
            registry: registry_address,
            upstream: upstream_address,
        })
    }

    fn introduce(&self, paint: Paint) {
        output::data(paint.bold("The resource, as `kubectl apply` would take it:"));
        output::data("");
        for line in self.manifest.lines() {
            output::data(format!("    {line}"));
        }
        output::data("");
        output::data(paint.bold("What runs:"));
        output::data("");
        output::data(format!("    proxy     http://{}", self.proxy.listen_address()));
        if let Some(admin) = self.proxy.admin_address() {
            output::data(format!("    admin     http://{admin}/config_dump"));
        }
        output::data(format!("    registry  http://{}/v2/ (three example plugins)", self.registry));
        output::data(format!(
            "    upstream  http://{} (answers with what it received)",
            self.upstream
        ));
        output::data("");
    }

    fn suggest(&self, plugin: ExamplePlugin, paint: Paint) {
        let address = self.proxy.listen_address();
        output::data(paint.bold("Try it:"));
        output::data("");
        output::data(format!("    curl -i http://{address}/anything"));
        output::data(format!("    for i in 1 2 3; do curl -si http://{address}/ | head -1; done"));
        output::data("");
        output::data(format!(
            "The first answers carry `who-am-i: {}` and the configuration in `configdata`; the third",
            once::who_am_i(plugin)
        ));
        output::data("within a second is a 403. Ctrl-C ends it.");
    }
}

fn manifest(plugin: ExamplePlugin, registry: SocketAddr) -> String {
    let name = match plugin {
        ExamplePlugin::Rust => "rate-limit-rust",
        ExamplePlugin::Go => "rate-limit-go",
    };
    format!(
        "apiVersion: extensions.istio.io/v1alpha1\n\
         kind: WasmPlugin\n\
         metadata:\n\
         \x20 name: {name}\n\
         \x20 namespace: default\n\
         spec:\n\
         \x20 url: oci://{registry}/examples/{name}:1.0.0\n\
         \x20 imagePullPolicy: IfNotPresent\n\
         \x20 phase: AUTHN\n\
         \x20 pluginConfig:\n\
         \x20   hello: config\n"
    )
}
