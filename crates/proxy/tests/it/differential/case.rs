//! One case: what runs, what is sent, and which differences are known.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::HeaderValue;
use socket2::{Domain, Socket, Type};
use wasmplug_testkit::envoy::{Envoy, FailurePolicy, WasmFilter};
use wasmplug_testkit::upstream::UpstreamBuilder;
use wasmplug_testkit::{Upstream, UpstreamThread};

use super::diff;
use super::transcript::Transcript;
use crate::harness::{Modules, Plugin, Setup};

/// How often a case that has to be fast is begun anew.
const TRIES: usize = 20;

/// A request as raw bytes.
pub(super) type Request = Vec<u8>;

/// What runs, what is sent, and which differences are known.
pub(super) struct Case {
    plugins: Vec<Plugin>,
    upstream: Box<dyn Fn() -> UpstreamBuilder>,
    is_upstream_down: bool,
    passes_trailers: bool,
    connections: Vec<Vec<Request>>,
    unordered: &'static [&'static str],
    within: Option<Duration>,
    differences: Vec<Difference>,
}

/// Something that is different on purpose or cannot be the same.
struct Difference {
    reason: &'static str,
    /// Lines as [`diff::lines`] gives them: `-` is Envoy's, `+` is ours.
    lines: &'static [&'static str],
}

/// The upstream of one run.
enum Behind {
    Running(UpstreamThread),
    /// The port is taken and nobody listens: connections are refused.
    Down(Socket),
}

/// A case without plugins, in front of the echo server.
pub(super) fn case() -> Case {
    Case {
        plugins: Vec::new(),
        upstream: Box::new(Upstream::echo),
        is_upstream_down: false,
        passes_trailers: false,
        connections: Vec::new(),
        unordered: &[],
        within: None,
        differences: Vec::new(),
    }
}

/// A case with one plugin in the notation of the harness.
pub(super) fn guest(text: &str) -> Case {
    case().plugin(Plugin::guest(text))
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

    /// Another upstream.
    pub(super) fn upstream(self, upstream: impl Fn() -> UpstreamBuilder + 'static) -> Self {
        Self { upstream: Box::new(upstream), ..self }
    }

    /// Nobody listens where the upstream should be.
    pub(super) fn upstream_down(self) -> Self {
        Self { is_upstream_down: true, ..self }
    }

    /// Envoy lets HTTP/1 trailers pass, as our proxy always does.
    pub(super) fn trailers(self) -> Self {
        Self { passes_trailers: true, ..self }
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
        let Some(envoy) = self.until_in_time(|| self.run_envoy()) else { return };
        let ours = self.until_in_time(|| Some(self.run_ours())).unwrap();
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

    /// `None` if there is no Envoy.
    fn run_envoy(&self) -> Option<Transcript> {
        let upstream = self.start_upstream();
        let modules = Modules::new();
        let plan = modules.plan(&self.plugins);
        let filters = plan.plugins().map(|planned| {
            let path = planned.url.to_string();
            let path = path.strip_prefix("file://").expect("the harness writes files");
            let name = planned.resource.to_string();
            WasmFilter {
                root_id: planned.root_id.clone(),
                fail_policy: Some(match planned.fail_strategy {
                    wasmplug_api::FailStrategy::FailOpen => FailurePolicy::FailOpen,
                    wasmplug_api::FailStrategy::FailClose => FailurePolicy::FailClosed,
                    wasmplug_api::FailStrategy::FailReload => FailurePolicy::FailReload,
                }),
                ..WasmFilter::new(&name, path, &planned.configuration)
            }
        });
        let builder = filters
            .fold(Envoy::builder().upstream(upstream.addr()), |builder, filter| {
                builder.wasm_filter(filter)
            });
        let builder = if self.passes_trailers { builder.trailers() } else { builder };
        let envoy = builder.start().unwrap_or_else(|error| panic!("{error}"))?;
        Some(self.converse(envoy.addr(), &upstream))
    }

    fn run_ours(&self) -> Transcript {
        let upstream = self.start_upstream();
        let address = upstream.addr();
        let setup = Setup::new().tune(move |config| {
            config.upstream = address.into();
            config.server_name = HeaderValue::from_static("envoy");
        });
        let proxy = self.plugins.iter().cloned().fold(setup, Setup::plugin).start();
        self.converse(proxy.proxy().listen_address(), &upstream)
    }

    fn start_upstream(&self) -> Behind {
        if !self.is_upstream_down {
            return Behind::Running(UpstreamThread::start((self.upstream)()).unwrap());
        }
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        Behind::Down(socket)
    }

    fn converse(&self, proxy: SocketAddr, upstream: &Behind) -> Transcript {
        let mut transcript = Transcript::new(self.unordered);
        for (number, requests) in self.connections.iter().enumerate() {
            transcript.connection(number, proxy, requests);
        }
        if let Behind::Running(upstream) = upstream {
            upstream.received().iter().for_each(|received| transcript.received(received));
        }
        transcript
    }
}

// === impl Behind ===

impl Behind {
    fn addr(&self) -> SocketAddr {
        match self {
            Self::Running(upstream) => upstream.addr(),
            Self::Down(socket) => socket.local_addr().unwrap().as_socket().unwrap(),
        }
    }
}
