//! The embedder's side of the seams: everything that it is asked for goes into the transcript.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use wasmplug_host::abi::{LogLevel, Status};
use wasmplug_host::{
    Clock, Fields, GrpcCall, GrpcTarget, HttpCall, LifeSpan, LogRecord, LogSink, PluginServices,
    PropertyValue, QueueConsumer, StreamHost,
};

/// What happened, line by line.
#[derive(Clone, Default)]
pub(crate) struct Transcript(Arc<Mutex<Vec<String>>>);

/// Time stands still at a moment that is easy to recognise.
pub(crate) struct ManualClock;

/// Writes plugins' lines as `context: message`.
pub(crate) struct RecordingLog(pub Transcript);

/// Attributes of every stream, and the properties that plugins set.
pub(crate) struct RecordingStream {
    pub(crate) name: String,
    pub(crate) transcript: Transcript,
    pub(crate) set: Rc<RefCell<BTreeMap<Vec<u8>, Vec<u8>>>>,
}

/// Services of one plugin.
pub(crate) struct RecordingServices {
    pub(crate) transcript: Transcript,
    pub(crate) plugin: String,
}

struct RecordingConsumer {
    transcript: Transcript,
    plugin: String,
}

// === impl Transcript ===

impl Transcript {
    /// Adds a line.
    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into().trim_end().to_owned());
    }

    /// All lines so far, which are removed.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

// === impl ManualClock ===

impl Clock for ManualClock {
    fn realtime_nanoseconds(&self) -> u64 {
        1_700_000_000_000_000_000
    }

    fn monotonic_nanoseconds(&self) -> u64 {
        5_000
    }
}

// === impl RecordingLog ===

impl LogSink for RecordingLog {
    fn level(&self) -> LogLevel {
        LogLevel::Debug
    }

    fn log(&self, record: LogRecord<'_>) {
        let level = match record.level {
            LogLevel::Info => String::new(),
            level => format!("{level:?} ").to_lowercase(),
        };
        let plugin = match record.plugin {
            "" | "p" => String::new(),
            plugin => format!("{plugin}/"),
        };
        // Below the first line of a failure stand offsets, which move with every change.
        let message = match record.level {
            LogLevel::Critical => record.message.lines().next().unwrap_or_default(),
            _ => record.message,
        };
        self.0.add(format!(
            "{level}{plugin}{}: {}",
            record.context_id,
            message.replace('\n', "\\n")
        ));
    }
}

// === impl RecordingStream ===

impl StreamHost for RecordingStream {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        if let [name] = path
            && let Some(value) = self.set.borrow().get(*name)
        {
            return Some(PropertyValue::text(value));
        }
        Some(match path {
            // The host does not even ask for such paths.
            path if path.contains(&b"".as_slice()) => PropertyValue::text("an empty segment"),
            [b"source", b"address"] => PropertyValue::text("127.0.0.1:4321"),
            [b"request", b"protocol"] => PropertyValue::text("HTTP/1.1"),
            [b"request", b"time"] => PropertyValue::Nanoseconds(1),
            [b"request", b"size"] => PropertyValue::Int(-2),
            [b"connection", b"id"] => PropertyValue::Uint(3),
            [b"connection", b"mtls"] => PropertyValue::Bool(false),
            [b"upstream", b"load"] => PropertyValue::Double(0.5),
            [b"xds", b"metadata"] => PropertyValue::Map(vec![]),
            [b"filter_state"] => PropertyValue::Namespace,
            [b"empty"] => PropertyValue::text(""),
            [b"response", b"code"] => PropertyValue::Int(200),
            [b"list"] => PropertyValue::List(vec![b"one".to_vec(), b"two".to_vec()]),
            _ => return None,
        })
    }

    fn set_property(&self, name: &[u8], value: &[u8], span: LifeSpan) -> Result<(), Status> {
        let (shown, text) = (name.escape_ascii(), value.escape_ascii());
        let span = match span {
            LifeSpan::FilterChain => String::new(),
            span => format!(" for {span:?}"),
        };
        self.transcript.add(format!("* {} set property {shown} = {text}{span}", self.name));
        if name == b"read-only" {
            return Err(Status::BadArgument);
        }
        self.set.borrow_mut().insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    fn set_filter_state(&self, key: &str, value: &[u8], span: LifeSpan) -> Result<(), Status> {
        let value = value.escape_ascii();
        self.transcript.add(format!("* {} filter state {key} = {value} for {span:?}", self.name));
        if key == "unknown" { Err(Status::NotFound) } else { Ok(()) }
    }

    fn clear_route_cache(&self, _headers: Option<&Fields>) {
        self.transcript.add(format!("* {} clear route cache", self.name));
    }

    fn wake(&self) {
        self.transcript.add(format!("* {} wake", self.name));
    }
}

// === impl RecordingServices ===

impl PluginServices for RecordingServices {
    fn set_tick_period(&self, period: Option<Duration>) {
        self.transcript.add(format!("* {} tick period {period:?}", self.plugin));
    }

    fn http_call(&self, call: HttpCall) -> Result<(), Status> {
        match call.target.as_str() {
            "unknown" => return Err(Status::BadArgument),
            "down" => return Err(Status::InternalFailure),
            _ => {}
        }
        self.transcript.add(format!(
            "* {} http call {} to {} [{}] {:?} [{}] within {:?}",
            self.plugin,
            call.token,
            call.target,
            fields_text(&call.headers),
            String::from_utf8_lossy(&call.body),
            fields_text(&call.trailers),
            call.timeout,
        ));
        Ok(())
    }

    fn grpc_call(&self, call: GrpcCall) -> Result<(), Status> {
        let GrpcCall { token, target, message, timeout } = call;
        let message = String::from_utf8_lossy(&message);
        self.grpc("call", token, &target, &format!(" {message:?} within {timeout:?}"))
    }

    fn grpc_stream(&self, token: u32, target: GrpcTarget) -> Result<(), Status> {
        self.grpc("stream", token, &target, "")
    }

    fn grpc_send(&self, token: u32, message: Bytes, end_of_stream: bool) -> Result<(), Status> {
        let (message, end) =
            (message.escape_ascii(), if end_of_stream { ", the last one" } else { "" });
        self.transcript.add(format!("* {} grpc send on {token}: {message}{end}", self.plugin));
        Ok(())
    }

    fn grpc_close(&self, token: u32) {
        self.transcript.add(format!("* {} grpc close {token}", self.plugin));
    }

    fn grpc_cancel(&self, token: u32) {
        self.transcript.add(format!("* {} grpc cancel {token}", self.plugin));
    }

    fn resolve_dns(&self, token: u32, name: &str) -> Result<(), Status> {
        self.transcript.add(format!("* {} resolve {token}: {name}", self.plugin));
        if name.is_empty() { Err(Status::BadArgument) } else { Ok(()) }
    }

    fn ended(&self) {
        self.transcript.add(format!("* {} ended", self.plugin));
    }

    fn queue_consumer(&self) -> Option<Arc<dyn QueueConsumer>> {
        let (transcript, plugin) = (self.transcript.clone(), self.plugin.clone());
        Some(Arc::new(RecordingConsumer { transcript, plugin }))
    }

    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        (path == [b"xds".as_slice(), b"node", b"id"]).then(|| PropertyValue::text("node-1"))
    }
}

impl RecordingServices {
    /// Writes a call or a stream down; only two clusters exist.
    fn grpc(&self, what: &str, token: u32, target: &GrpcTarget, more: &str) -> Result<(), Status> {
        let cluster = target.cluster.escape_ascii().to_string();
        if cluster != "grpc" && cluster != "empty" {
            return Err(Status::ParseFailure);
        }
        let (service, method) = (&target.service, &target.method);
        let metadata = fields_text(&target.metadata);
        self.transcript.add(format!(
            "* {} grpc {what} {token} to {cluster}: {service}/{method} [{metadata}]{more}",
            self.plugin
        ));
        Ok(())
    }
}

// === impl RecordingConsumer ===

impl QueueConsumer for RecordingConsumer {
    fn item_ready(&self, token: u32) {
        self.transcript.add(format!("* {} item in queue {token}", self.plugin));
    }
}

/// Entries as `name=value`, in order.
pub(crate) fn fields_text(fields: &Fields) -> String {
    let entries = fields
        .iter()
        .map(|(name, value)| format!("{}={}", name.escape_ascii(), value.escape_ascii()));
    entries.collect::<Vec<_>>().join(" ")
}
