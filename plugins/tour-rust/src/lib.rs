//! A tour of what a Proxy-Wasm plugin can do; `plugins/README.md` says what it does with which
//! request.

mod settings;
mod visits;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use log::{debug, error, info};
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel, MetricType};

use crate::settings::Settings;

/// Longest time that the answer of the cluster may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes of the cluster's answer that become the body of a refusal.
const MAX_REASON_BYTES: usize = 1024;

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Debug);
    proxy_wasm::set_root_context(|_| Box::new(TourRoot { shared: None }));
}}

/// The plugin context: one for each plugin configuration in the VM.
struct TourRoot {
    /// There as soon as the plugin is configured.
    shared: Option<Rc<Shared>>,
}

/// What the plugin context and its streams share.
struct Shared {
    settings: Settings,
    metrics: Metrics,
    /// Ids of the streams that wait for the next tick.
    held: RefCell<Vec<u32>>,
}

/// Ids of the plugin's metrics.
struct Metrics {
    requests: u32,
    streams: u32,
    body_bytes: u32,
}

/// The stream context: one for each request.
struct TourStream {
    context_id: u32,
    shared: Rc<Shared>,
    method: String,
    path: String,
    /// As text; `-` until there is a response.
    status: String,
    /// Whether the request was counted, which it is not if it never came here.
    is_counted: bool,
    is_response_text: bool,
    /// Bytes of a body that is held.
    body_size: usize,
}

// === impl TourRoot ===

impl Context for TourRoot {}

impl RootContext for TourRoot {
    fn on_configure(&mut self, _plugin_configuration_size: usize) -> bool {
        let configuration = self.get_plugin_configuration().unwrap_or_default();
        let settings = match Settings::parse(&configuration) {
            Ok(settings) => settings,
            Err(reason) => {
                error!("configuration refused: {reason}");
                return false;
            }
        };
        let Some(metrics) = Metrics::define() else {
            error!("the metrics cannot be defined");
            return false;
        };
        self.set_tick_period(settings.period);
        info!("asks `{}`, greets with `{}`", settings.cluster, settings.greeting);
        self.shared = Some(Rc::new(Shared { settings, metrics, held: RefCell::default() }));
        true
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        let shared = Rc::clone(self.shared.as_ref()?);
        Some(Box::new(TourStream::new(context_id, shared)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    /// Lets go the requests that wait for it.
    fn on_tick(&mut self) {
        let Some(shared) = &self.shared else { return };
        for stream in shared.held.take() {
            // A stream that has ended meanwhile is no longer known.
            if hostcalls::set_effective_context(stream).is_ok() {
                let _ = hostcalls::resume_http_request();
            }
        }
    }
}

// === impl Metrics ===

impl Metrics {
    /// `None` if the host does not take them.
    fn define() -> Option<Self> {
        let define = |metric_type, name| hostcalls::define_metric(metric_type, name).ok();
        Some(Self {
            requests: define(MetricType::Counter, "tour_requests")?,
            streams: define(MetricType::Gauge, "tour_streams")?,
            body_bytes: define(MetricType::Histogram, "tour_body_bytes")?,
        })
    }
}

// === impl TourStream ===

impl TourStream {
    fn new(context_id: u32, shared: Rc<Shared>) -> Self {
        Self {
            context_id,
            shared,
            method: String::new(),
            path: String::new(),
            status: "-".to_owned(),
            is_counted: false,
            is_response_text: false,
            body_size: 0,
        }
    }

    fn count_in(&mut self) {
        self.is_counted = true;
        // The metrics are there and of the right type.
        let _ = hostcalls::increment_metric(self.shared.metrics.requests, 1);
        let _ = hostcalls::increment_metric(self.shared.metrics.streams, 1);
    }

    fn count_out(&self) {
        let _ = hostcalls::increment_metric(self.shared.metrics.streams, -1);
    }

    /// Asks the cluster about the request, which waits for the answer.
    fn ask(&self) -> Action {
        let settings = &self.shared.settings;
        let headers = vec![
            (":method", "GET"),
            (":path", &*self.path),
            (":authority", &*settings.authority),
            ("x-tour-method", &*self.method),
        ];
        info!("{}: asking `{}`", self.path, settings.cluster);
        let call =
            self.dispatch_http_call(&settings.cluster, headers, None, vec![], CALL_TIMEOUT);
        if let Err(status) = call {
            error!("{}: not asked, status {}", self.path, status as u32);
            self.reply(503, b"not asked\n");
        }
        Action::Pause
    }

    fn reply(&self, status: u32, body: &[u8]) {
        self.send_http_response(status, vec![("content-type", "text/plain")], Some(body));
    }

    fn hold(&self) -> Action {
        info!("{}: held", self.path);
        self.shared.held.borrow_mut().push(self.context_id);
        Action::Pause
    }

    fn record_body(&self, side: &str) {
        debug!("{}: {side} body of {} bytes", self.path, self.body_size);
        let size = u64::try_from(self.body_size).unwrap_or(u64::MAX);
        let _ = hostcalls::record_metric(self.shared.metrics.body_bytes, size);
    }

    /// Changes the request's body, which is complete.
    fn change_request_body(&self) {
        self.record_body("request");
        let body = self.get_http_request_body(0, self.body_size).unwrap_or_default();
        self.set_http_request_body(0, self.body_size, &body.to_ascii_uppercase());
    }

    /// Changes the response's body, which is complete.
    fn change_response_body(&self) {
        self.record_body("response");
        let line = format!("tour: {} bytes\n", self.body_size);
        self.set_http_response_body(self.body_size, 0, line.as_bytes());
    }
}

impl Context for TourStream {
    /// The host calls it with the stream as the effective context.
    fn on_http_call_response(&mut self, _token: u32, num_headers: usize, _: usize, _: usize) {
        // No headers: there is no answer, or it was cut off, and no map to look at.
        let status = match num_headers {
            0 => None,
            _ => self.get_http_call_response_header_bytes(":status"),
        };
        let status = status.unwrap_or_default();
        match &*status {
            b"200" => {
                info!("{}: allowed", self.path);
                if let Some(user) = self.get_http_call_response_header_bytes("x-user") {
                    self.set_http_request_header_bytes("x-tour-user", Some(&user));
                }
                self.resume_http_request();
            }
            [b'4', ..] => {
                info!("{}: refused with {}", self.path, printable(&status));
                let reason = self.get_http_call_response_body(0, MAX_REASON_BYTES);
                self.reply(403, &reason.unwrap_or_default());
            }
            _ => {
                info!("{}: no answer", self.path);
                self.reply(503, b"no answer\n");
            }
        }
    }
}

impl HttpContext for TourStream {
    fn on_http_request_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        self.count_in();
        let path = self.get_http_request_header_bytes(":path").unwrap_or_default();
        self.path = printable(&path);
        let method = self.get_http_request_header_bytes(":method").unwrap_or_default();
        self.method = printable(&method);
        // Only the cluster says who the user is.
        self.set_http_request_header("x-tour-user", None);
        if !end_of_stream {
            // The length will be that of the changed body.
            self.set_http_request_header("content-length", None);
        }
        if !is_plain(&path) {
            self.reply(400, b"bad path\n");
            return Action::Pause;
        }
        match path {
            path if path.starts_with(b"/ask/") => self.ask(),
            path if path.starts_with(b"/wait/") => self.hold(),
            _ => Action::Continue,
        }
    }

    fn on_http_request_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        // While the body is held, this is the size of all that has come.
        self.body_size = body_size;
        if !end_of_stream {
            return Action::Pause;
        }
        self.change_request_body();
        Action::Continue
    }

    /// With trailers, the body has ended before them without saying so.
    fn on_http_request_trailers(&mut self, _num_trailers: usize) -> Action {
        if self.body_size > 0 {
            self.change_request_body();
        }
        Action::Continue
    }

    /// Runs for the cluster's responses and for the plugin's own replies alike.
    fn on_http_response_headers(&mut self, _num_headers: usize, end_of_stream: bool) -> Action {
        let status = self.get_http_response_header_bytes(":status").unwrap_or_default();
        self.status = printable(&status);
        self.body_size = 0;
        self.add_http_response_header("x-tour", "rust");
        self.add_http_response_header("x-tour-greeting", &self.shared.settings.greeting);
        match visits::count(self) {
            Some(count) => self.add_http_response_header("x-tour-count", &count.to_string()),
            None => error!("{}: not counted", self.path),
        }
        let content_type = self.get_http_response_header_bytes("content-type");
        self.is_response_text =
            !end_of_stream && content_type.is_some_and(|value| value.starts_with(b"text/plain"));
        if self.is_response_text {
            self.set_http_response_header("content-length", None);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, body_size: usize, end_of_stream: bool) -> Action {
        if !self.is_response_text {
            return Action::Continue;
        }
        self.body_size = body_size;
        if !end_of_stream {
            return Action::Pause;
        }
        self.change_response_body();
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _num_trailers: usize) -> Action {
        if self.is_response_text && self.body_size > 0 {
            self.change_response_body();
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        // A request that was answered in front of this plugin has a log callback, too.
        if !self.is_counted {
            return;
        }
        self.count_out();
        self.shared.held.borrow_mut().retain(|held| *held != self.context_id);
        info!("{} {} {}", self.method, self.path, self.status);
    }
}

/// Whether bytes are visible ASCII and spaces, which any header and any log line can hold.
fn is_plain(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Bytes as a text for one line of a log.
fn printable(bytes: &[u8]) -> String {
    let printable = |byte: &u8| if is_plain(&[*byte]) { char::from(*byte) } else { '?' };
    bytes.iter().map(printable).collect()
}
