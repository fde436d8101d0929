//! What a client and an upstream saw, as lines without what must differ from run to run.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use wasmplug_testkit::{Http2Client, RawClient, Received, Response};

use super::case::Request;

/// Headers whose values depend on the moment.
const VOLATILE: [&str; 3] = ["date", "x-envoy-upstream-service-time", "x-request-id"];
/// Longest body that is shown in full, in bytes.
const LONGEST_BODY: usize = 4096;

/// What was seen so far.
pub(super) struct Transcript {
    pub(super) lines: Vec<String>,
    /// Metrics of plugins, if they were asked for.
    pub(super) metrics: Vec<String>,
    /// Time from the first request to the last response.
    pub(super) took: Duration,
    begin: Instant,
    unordered: &'static [&'static str],
    is_sorted: bool,
}

// === impl Transcript ===

impl Transcript {
    /// A sorted one shows headers by name: libraries of HTTP/2 keep no order among names.
    pub(super) fn new(unordered: &'static [&'static str], is_sorted: bool) -> Self {
        Self {
            lines: Vec::new(),
            metrics: Vec::new(),
            took: Duration::ZERO,
            begin: Instant::now(),
            unordered,
            is_sorted,
        }
    }

    /// Sends the requests and notes what came back.
    pub(super) fn connection(&mut self, number: usize, proxy: SocketAddr, requests: &[Request]) {
        let mut client = RawClient::connect(proxy).unwrap();
        for (index, request) in requests.iter().enumerate() {
            self.lines.push(format!("# connection {number} request {index}"));
            // Who answers early may not read to the end, which is no reason not to read.
            let sent = client.send(request);
            let is_head = request.starts_with(b"HEAD ");
            let response =
                if is_head { client.read_response_to_head() } else { client.read_response() };
            let Ok(response) = response else {
                self.lines.extend(sent.err().map(|error| error.to_string()));
                self.lines.push("cut".to_owned());
                return;
            };
            self.took = self.begin.elapsed();
            self.response(&response);
            if response.header("connection") == Some("close") {
                // In good order, or by a reset if the request was not read to its end.
                let rest = client.read_to_close().unwrap_or_default();
                self.lines.push(format!("closed after {} more bytes", rest.len()));
                return;
            }
        }
    }

    /// Sends the requests over HTTP/2 and notes what came back.
    pub(super) fn http2_connection(
        &mut self,
        number: usize,
        proxy: SocketAddr,
        requests: &[Request],
    ) {
        let mut client = Http2Client::connect(proxy).unwrap();
        for (index, request) in requests.iter().enumerate() {
            self.lines.push(format!("# connection {number} request {index}"));
            match client.exchange(request) {
                Ok(response) => self.response(&response),
                Err(_) => self.lines.push("cut".to_owned()),
            }
        }
    }

    /// Notes what plugins logged, of each message the first line: a log file does not tell where
    /// a message ends.
    pub(super) fn log(&mut self, messages: impl Iterator<Item = String>) {
        self.lines.push("# log".to_owned());
        let first_line = |message: String| message.lines().next().map(without_ports);
        self.lines.extend(messages.filter_map(first_line));
    }

    /// Notes what plugins counted.
    pub(super) fn metrics(&mut self, lines: Vec<String>) {
        self.lines.push("# metrics".to_owned());
        self.lines.extend(lines.iter().cloned());
        self.metrics = lines;
    }

    /// Notes what the upstream, or a cluster, got.
    pub(super) fn received(&mut self, name: &str, received: &Received) {
        self.lines.push(format!("# {name}"));
        self.lines.push(format!("{} {} {}", received.method, received.path, received.version));
        self.message(&received.headers, &received.body, &received.trailers);
    }

    fn response(&mut self, response: &Response) {
        self.lines.extend(response.informational.iter().cloned());
        self.lines.push(response.status_line.clone());
        self.message(&response.headers, &response.body, &response.trailers);
    }

    fn message(
        &mut self,
        headers: &[(String, String)],
        body: &[u8],
        trailers: &[(String, String)],
    ) {
        self.fields(headers);
        self.lines.push(String::new());
        let body = String::from_utf8_lossy(body);
        let body = without_ports(&without_ids(&body));
        if body.len() <= LONGEST_BODY {
            self.lines.extend(body.lines().map(str::to_owned));
        } else {
            let digest = wasmplug_testkit::registry::sha256(body.as_bytes());
            self.lines.push(format!("{} bytes, {digest}", body.len()));
        }
        if !trailers.is_empty() {
            self.lines.push("trailers".to_owned());
            self.fields(trailers);
        }
    }

    fn fields(&mut self, fields: &[(String, String)]) {
        let is_unordered = |name: &str| self.unordered.contains(&name);
        let mut sorted: Vec<&(String, String)> =
            fields.iter().filter(|(name, _)| is_unordered(name)).collect();
        sorted.sort_unstable();
        let mut sorted = sorted.into_iter();
        let fields = fields.iter().map(|field| {
            // The whims take turns in the places that they have.
            let (name, value) = if is_unordered(&field.0) { sorted.next().unwrap() } else { field };
            if VOLATILE.contains(&name.as_str()) {
                format!("{name}: (varies)")
            } else {
                format!("{name}: {}", without_ports(value))
            }
        });
        let mut fields: Vec<String> = fields.collect();
        if self.is_sorted {
            fields.sort();
        }
        self.lines.extend(fields);
    }
}

/// Request ids in what the echo server says.
fn without_ids(line: &str) -> String {
    replace_after(line, r#"["x-request-id",""#, |c| c != '"')
}

/// Ports that the system chose.
fn without_ports(text: &str) -> String {
    replace_after(text, "127.0.0.1:", |c| c.is_ascii_digit())
}

/// Replaces what follows each `mark` as long as `is_part` says.
fn replace_after(text: &str, mark: &str, is_part: impl Fn(char) -> bool) -> String {
    let mut parts = text.split(mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(mark);
        out.push_str("(varies)");
        out.push_str(part.trim_start_matches(&is_part));
    }
    out
}
