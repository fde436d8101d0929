//! The admin pages, on a thread of their own: a busy data plane still answers.
//!
//! Source: Envoy's paths.

mod config_dump;

use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::registry::Registry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::listener::Front;
use crate::snapshot::Publisher;

const TEXT: &str = "text/plain; charset=UTF-8";
const JSON: &str = "application/json";
/// What Prometheus expects; the text ends with an end mark.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages show.
pub(crate) struct AdminState {
    pub(crate) publisher: Publisher,
    pub(crate) registry: Registry,
    /// What stands in front of connections.
    pub(crate) front: Option<Arc<Front>>,
    pub(crate) applied: Vec<Arc<AtomicU64>>,
}

/// Serves the admin pages.
pub(crate) struct Admin {
    state: Arc<AdminState>,
}

/// A page that exists, with its path and what it shows.
const PAGES: [(&str, &str); 3] = [
    ("/ready", "whether requests are served"),
    ("/stats/prometheus", "counters"),
    ("/config_dump", "the chain, digests and state of each plugin, and what was rejected"),
];

// === impl Admin ===

impl Admin {
    pub(crate) fn new(state: AdminState) -> Self {
        Self { state: Arc::new(state) }
    }

    /// Serves until it is told to stop.
    pub(crate) fn run(
        self,
        listener: TcpListener,
        mut stop: watch::Receiver<bool>,
    ) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    // Cancel-safe: a connection is either accepted or stays in the queue.
                    accepted = listener.accept() => {
                        let Ok((stream, _)) = accepted else {
                            tokio::task::yield_now().await;
                            continue;
                        };
                        let state = Arc::clone(&self.state);
                        let service = service_fn(move |request| {
                            let response = state.answer(&request);
                            async { Ok::<_, Infallible>(response) }
                        });
                        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                        connections.spawn(async { drop(connection.await) });
                    }
                    // Cancel-safe: the result stays until it is taken.
                    Some(_) = connections.join_next(), if !connections.is_empty() => {}
                    // Cancel-safe: the value is only looked at.
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                }
            }
        })
    }
}

// === impl AdminState ===

impl AdminState {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return page(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "only GET is answered here\n".into(),
            );
        }
        match request.uri().path() {
            "/ready" if self.is_ready() => page(StatusCode::OK, TEXT, "LIVE\n".into()),
            "/ready" => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, "PRE_INITIALIZING\n".into()),
            "/stats/prometheus" => {
                let mut text = String::new();
                match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
                    Ok(()) => page(StatusCode::OK, OPEN_METRICS, text),
                    Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
                }
            }
            "/config_dump" => {
                let snapshot = self.publisher.current();
                page(StatusCode::OK, JSON, config_dump::text(&snapshot, self.front.as_deref()))
            }
            "/" => page(StatusCode::OK, TEXT, index()),
            _ => page(StatusCode::NOT_FOUND, TEXT, format!("no such page\n\n{}", index())),
        }
    }

    /// Every worker serves a configuration.
    fn is_ready(&self) -> bool {
        self.applied.iter().all(|applied| applied.load(Ordering::Acquire) > 0)
    }
}

fn index() -> String {
    let lines = PAGES.map(|(path, about)| format!("{path:<20} {about}\n"));
    lines.concat()
}

fn page(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
