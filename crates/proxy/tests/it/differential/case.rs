//! One case: what runs, what is sent, and which differences are known.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use http::HeaderValue;
use socket2::{Domain, Socket, Type};
use wasmplug_api::{FailStrategy, PlannedFilter, PlannedPlugin, Workload};
use wasmplug_testkit::envoy::{Envoy, EnvoyBuilder, FailurePolicy, PluginLine, WasmFilter};
use wasmplug_testkit::upstream::UpstreamBuilder;
use wasmplug_testkit::{Upstream, UpstreamThread, patience};

use super::transcript::Transcript;
use super::{diff, istio_config, metrics};
use crate::harness::{Modules, Plugin, Setup, eventually, workload};

/// How often a case that has to be fast is begun anew.
const TRIES: usize = 20;

/// A request as raw bytes.
pub(super) type Request = Vec<u8>;

/// What runs, what is sent, and which differences are known.
pub(super) struct Case {
    plugins: Vec<Plugin>,
    resources: String,
    workload: Workload,
    upstream: Box<dyn Fn() -> UpstreamBuilder>,
    is_upstream_down: bool,
    protocols: Protocols,
    connections: Vec<Vec<Request>>,
    clusters: Vec<(&'static str, Cluster)>,
    compares_log: bool,
    /// How the names of the metrics begin that are compared.
    metrics: Option<&'static str>,
    unordered: &'static [&'static str],
    within: Option<Duration>,
    limits: UpstreamLimits,
    differences: Vec<Difference>,
}

/// What the upstream is bounded by; by default what Envoy and we do alike.
#[derive(Clone, Copy, Default)]
struct UpstreamLimits {
    max_pending_requests: Option<u32>,
    request_timeout: Option<Duration>,
}

/// Something that is different on purpose or cannot be the same.
struct Difference {
    reason: &'static str,
    /// Lines as [`diff::lines`] gives them: `-` is Envoy's, `+` is ours.
    lines: &'static [&'static str],
}

/// What is spoken with the proxy; HTTP/1 by default.
#[derive(Clone, Copy, Default)]
struct Protocols {
    is_client_http2: bool,
    is_upstream_http2: bool,
    passes_trailers: bool,
}

/// A cluster that plugins call.
enum Cluster {
    Up(Box<dyn Fn() -> UpstreamBuilder>),
    Down,
}

/// The upstream, or a cluster, of one run.
enum Behind {
    Running(UpstreamThread),
    /// The port is taken and nobody listens: connections are refused.
    Down(Socket),
}

/// A case without plugins, in front of the echo server.
pub(super) fn case() -> Case {
    Case {
        plugins: Vec::new(),
        resources: String::new(),
        workload: workload(),
        upstream: Box::new(Upstream::echo),
        is_upstream_down: false,
        protocols: Protocols::default(),
        connections: Vec::new(),
        clusters: Vec::new(),
        compares_log: false,
        metrics: None,
        unordered: &[],
        within: None,
        limits: UpstreamLimits::default(),
        differences: Vec::new(),
    }
}

/// A case with one plugin in the notation of the harness.
pub(super) fn guest(text: &str) -> Case {
    case().plugin(Plugin::guest(text))
}

/// A case whose plugin adds a byte at the end of each body, so that no announced length holds.
pub(super) fn changing() -> Case {
    guest(
        "
        on request_headers:
            (call $remove #request 'content-length')
        on request_body:
            (if (local.get $end) (then (call $set_body #0 #all #0 '!')))
        on response_headers:
            (call $remove #response 'content-length')
        on response_body:
            (if (local.get $end) (then (call $set_body #1 #all #0 '!')))",
    )
}

/// GET.
pub(super) fn get(path: &str) -> Request {
    request("GET", path, "", "")
}

/// Any request; `headers` are whole lines.
pub(super) fn request(method: &str, path: &str, headers: &str, body: &str) -> Request {
    let headers = headers.replace('\n', "\r\n");
    format!("{method} {path} HTTP/1.1\r\nhost: example.test\r\n{headers}\r\n{body}").into()
}

/// POST with a length.
pub(super) fn post(path: &str, body: &str) -> Request {
    request("POST", path, &format!("content-length: {}\n", body.len()), body)
}

/// POST in chunks.
pub(super) fn post_chunked(path: &str, chunks: &[&str]) -> Request {
    let chunks = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len()));
    let body = format!("{}0\r\n\r\n", chunks.collect::<String>());
    request("POST", path, "transfer-encoding: chunked\n", &body)
}

// === impl Case ===

impl Case {
    /// Adds a plugin behind those already there.
    pub(super) fn plugin(mut self, plugin: Plugin) -> Self {
        self.plugins.push(plugin);
        self
    }

    /// Other resources that apply, as YAML.
    pub(super) fn resources(self, resources: &str) -> Self {
        Self { resources: resources.to_owned(), ..self }
    }

    /// Another workload than an inbound sidecar without labels.
    pub(super) fn workload(self, workload: Workload) -> Self {
        Self { workload, ..self }
    }

    /// Another upstream.
    pub(super) fn upstream(self, upstream: impl Fn() -> UpstreamBuilder + 'static) -> Self {
        Self { upstream: Box::new(upstream), ..self }
    }

    /// Nobody listens where the upstream should be.
    pub(super) fn upstream_down(self) -> Self {
        Self { is_upstream_down: true, ..self }
    }

    /// Adds a cluster that plugins can call.
    pub(super) fn cluster(
        mut self,
        name: &'static str,
        cluster: impl Fn() -> UpstreamBuilder + 'static,
    ) -> Self {
        self.clusters.push((name, Cluster::Up(Box::new(cluster))));
        self
    }

    /// Adds a cluster in which nobody listens.
    pub(super) fn cluster_down(mut self, name: &'static str) -> Self {
        self.clusters.push((name, Cluster::Down));
        self
    }

    /// Compares what plugins log as well, from the first line of a stream on: Envoy starts a plugin
    /// more often, and what it logs then is not compared.
    pub(super) fn log(self) -> Self {
        Self { compares_log: true, ..self }
    }

    /// Compares the metrics as well whose names begin like this.
    pub(super) fn metrics(self, prefix: &'static str) -> Self {
        Self { metrics: Some(prefix), ..self }
    }

    /// Envoy lets HTTP/1 trailers pass, as our proxy always does.
    pub(super) fn trailers(mut self) -> Self {
        self.protocols.passes_trailers = true;
        self
    }

    /// The client speaks HTTP/2; requests are still written as HTTP/1.1.
    pub(super) fn http2(mut self) -> Self {
        self.protocols.is_client_http2 = true;
        self
    }

    /// The upstream speaks HTTP/2.
    pub(super) fn http2_upstream(mut self) -> Self {
        self.protocols.is_upstream_http2 = true;
        self
    }

    /// Sends these requests, one after the other, on a connection of their own.
    pub(super) fn send(mut self, requests: impl IntoIterator<Item = Request>) -> Self {
        self.connections.push(requests.into_iter().collect());
        self
    }

    /// Headers whose order among themselves is the plugin's whim.
    pub(super) fn unordered(self, unordered: &'static [&'static str]) -> Self {
        Self { unordered, ..self }
    }

    /// No request may wait for a connection, and so none is made.
    pub(super) fn no_pending_requests(mut self) -> Self {
        self.limits.max_pending_requests = Some(0);
        self
    }

    /// The upstream has so long for its response.
    pub(super) fn request_timeout(mut self, timeout: Duration) -> Self {
        self.limits.request_timeout = Some(timeout);
        self
    }

    /// Begins anew when the requests took longer than this, because the plugin looks at the clock.
    pub(super) fn within(self, longest: Duration) -> Self {
        Self { within: Some(longest), ..self }
    }

    /// Differences that are there on purpose or cannot be avoided, in their order.
    pub(super) fn expected_difference(
        mut self,
        reason: &'static str,
        lines: &'static [&'static str],
    ) -> Self {
        self.differences.push(Difference { reason, lines });
        self
    }

    /// Runs both and compares.
    pub(super) fn check(self) {
        self.check_transcript();
    }

    /// Runs both and compares, and returns what came of it here.
    pub(super) fn check_transcript(self) -> Vec<String> {
        let ours = self.until_in_time(|| Some(self.run_ours())).unwrap();
        if let Some(envoy) = self.until_in_time(|| self.run_envoy(&ours)) {
            self.compare(&envoy, &ours);
        }
        ours.lines
    }

    fn compare(&self, envoy: &Transcript, ours: &Transcript) {
        let found = diff::lines(&envoy.lines, &ours.lines);
        let expected: Vec<&str> = self.differences.iter().flat_map(|d| d.lines).copied().collect();
        let reasons: Vec<&str> = self.differences.iter().map(|d| d.reason).collect();
        assert!(
            found == expected,
            "differences (- Envoy, + ours):\n{}\n\nexpected, because {reasons:?}:\n{}\n\n\
             Envoy's transcript:\n{}",
            found.join("\n"),
            expected.join("\n"),
            envoy.lines.join("\n"),
        );
    }

    fn until_in_time(&self, run: impl Fn() -> Option<Transcript>) -> Option<Transcript> {
        let longest = self.within.unwrap_or(Duration::MAX);
        for _ in 0..TRIES {
            let transcript = run()?;
            if transcript.took <= longest {
                return Some(transcript);
            }
        }
        panic!("the machine is too busy for {longest:?}");
    }

    /// `None` if there is no Envoy. Its metrics lag behind: they are asked for until they are those
    /// of our run, as long as the testkit is patient.
    fn run_envoy(&self, ours: &Transcript) -> Option<Transcript> {
        let upstream = self.start_upstream();
        let clusters = self.start_clusters();
        let modules = Modules::new();
        let plan = modules.plan_for(&self.plugins, &self.resources, &self.workload);
        let mut builder = Envoy::builder()
            .upstream(upstream.addr())
            .connection_manager(istio_config::connection_manager(&plan))
            .route(istio_config::route(&plan))
            // Istio's bootstrap turns it off.
            .runtime("envoy.reloadable_features.http_reject_path_with_fragment", false);
        for planned in &plan.filters {
            builder = match planned {
                PlannedFilter::Wasm(plugin) => builder.wasm_filter(&filter(plugin)),
                other => istio_config::http_filters(other)
                    .into_iter()
                    .fold(builder, EnvoyBuilder::http_filter),
            };
        }
        if let Some(most) = self.limits.max_pending_requests {
            builder = builder.max_pending_requests(most);
        }
        if let Some(timeout) = self.limits.request_timeout {
            let timeout = format!("{}s", timeout.as_secs_f64());
            let route = serde_json::json!({ "cluster": "upstream", "timeout": timeout });
            builder = builder.route([("route".to_owned(), route)].into_iter().collect());
        }
        for (name, cluster) in &clusters {
            builder = builder.cluster(name, cluster.addr());
        }
        let builder = if self.protocols.passes_trailers { builder.trailers() } else { builder };
        let builder =
            if self.protocols.is_upstream_http2 { builder.http2_upstream() } else { builder };
        let envoy = builder.start().unwrap_or_else(|error| panic!("{error}"))?;
        let mut transcript = self.converse(envoy.addr(), &upstream, &clusters);
        if let Some(prefix) = self.metrics {
            let read = || metrics::lines(&envoy.prometheus().unwrap(), prefix);
            let begin = Instant::now();
            let mut lines = read();
            while ours.metrics != lines && begin.elapsed() < patience() {
                lines = read();
            }
            transcript.metrics(lines);
        }
        if self.compares_log {
            eventually(|| envoy.stats().unwrap().contains("downstream_cx_active: 0\n"));
            let lines = PluginLine::all(&envoy.stop().unwrap());
            let of_streams = lines.into_iter().skip_while(|line| !line.is_of_stream);
            transcript.log(of_streams.map(|line| format!("{} {}", line.level, line.message)));
        }
        Some(transcript)
    }

    fn run_ours(&self) -> Transcript {
        let upstream = self.start_upstream();
        let clusters = self.start_clusters();
        let address = upstream.addr();
        let scheme = if self.protocols.is_upstream_http2 { "h2c://" } else { "" };
        let limits = self.limits;
        let named: Vec<_> =
            clusters.iter().map(|(name, cluster)| ((*name).to_owned(), cluster.addr())).collect();
        let setup = Setup::new().resources(&self.resources).workload(self.workload.clone()).tune(
            move |config| {
                config.upstream = format!("{scheme}{address}").parse().unwrap();
                config.server_name = HeaderValue::from_static("envoy");
                config.limits.request_timeout = limits.request_timeout;
                if let Some(most) = limits.max_pending_requests {
                    config.upstreams.max_pending_requests = most;
                }
                config.clusters =
                    named.into_iter().map(|(name, addr)| (name, addr.into())).collect();
            },
        );
        let proxy = self.plugins.iter().cloned().fold(setup, Setup::plugin).admin().start();
        let logged_at_the_start = proxy.log().all().len();
        let mut transcript = self.converse(proxy.proxy().listen_address(), &upstream, &clusters);
        proxy.wait_until_idle();
        if let Some(prefix) = self.metrics {
            let text = proxy.admin("/stats/prometheus").text();
            transcript.metrics(metrics::lines(&text, prefix));
        }
        if self.compares_log {
            // The host writes about a failure in the name of the plugin, in its own words.
            let is_of_plugin = |line: &String| !line.starts_with("critical plugin `");
            let lines = proxy.log().all().into_iter().skip(logged_at_the_start);
            transcript.log(lines.filter(is_of_plugin));
        }
        transcript
    }

    fn start_upstream(&self) -> Behind {
        if self.is_upstream_down { Behind::down() } else { Behind::running((self.upstream)()) }
    }

    fn start_clusters(&self) -> Vec<(&'static str, Behind)> {
        let start = |cluster: &Cluster| match cluster {
            Cluster::Up(cluster) => Behind::running(cluster()),
            Cluster::Down => Behind::down(),
        };
        self.clusters.iter().map(|(name, cluster)| (*name, start(cluster))).collect()
    }

    fn converse(
        &self,
        proxy: SocketAddr,
        upstream: &Behind,
        clusters: &[(&str, Behind)],
    ) -> Transcript {
        let is_sorted = self.protocols.is_client_http2 || self.protocols.is_upstream_http2;
        let mut transcript = Transcript::new(self.unordered, is_sorted);
        for (number, requests) in self.connections.iter().enumerate() {
            if self.protocols.is_client_http2 {
                transcript.http2_connection(number, proxy, requests);
            } else {
                transcript.connection(number, proxy, requests);
            }
        }
        for (name, behind) in [("upstream", upstream)].into_iter().chain(named(clusters)) {
            if let Behind::Running(upstream) = behind {
                upstream.received().iter().for_each(|received| transcript.received(name, received));
            }
        }
        transcript
    }
}

fn named<'a>(clusters: &'a [(&'a str, Behind)]) -> impl Iterator<Item = (&'a str, &'a Behind)> {
    clusters.iter().map(|(name, behind)| (*name, behind))
}

/// What Envoy needs to run a plugin of the plan.
pub(super) fn filter(planned: &PlannedPlugin) -> WasmFilter {
    let path = planned.url.to_string();
    let path = path.strip_prefix("file://").expect("the harness writes files");
    WasmFilter {
        root_id: planned.root_id.clone(),
        fail_policy: Some(match planned.fail_strategy {
            FailStrategy::FailOpen => FailurePolicy::FailOpen,
            FailStrategy::FailClose => FailurePolicy::FailClosed,
            FailStrategy::FailReload => FailurePolicy::FailReload,
        }),
        ..WasmFilter::new(&planned.resource.to_string(), path, &planned.configuration)
    }
}

// === impl Behind ===

impl Behind {
    fn running(upstream: UpstreamBuilder) -> Self {
        Self::Running(UpstreamThread::start(upstream).unwrap())
    }

    fn down() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Self::Down(socket)
    }

    fn addr(&self) -> SocketAddr {
        match self {
            Self::Running(upstream) => upstream.addr(),
            Self::Down(socket) => socket.local_addr().unwrap().as_socket().unwrap(),
        }
    }
}
