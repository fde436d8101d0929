//! A line of the access log as text and as JSON.

use std::fmt::Write as _;

use http::HeaderValue;
use serde_json::{Map, Value, json};

use super::{AccessRecord, PluginTime, timestamp};
use crate::attributes::{StreamShared, flags};
use crate::listener::TlsSession;

/// Most bytes of one value in a line; what is longer is cut. Source: ours, so that a client cannot
/// write a line of any length.
const MAX_VALUE: usize = 4096;

/// Everything that a line tells.
pub(super) struct Line<'a> {
    record: &'a AccessRecord,
    stream: &'a StreamShared,
    plugins: Vec<PluginTime<'a>>,
}

// === impl Line ===

impl<'a> Line<'a> {
    pub(super) fn new(
        record: &'a AccessRecord,
        stream: &'a StreamShared,
        plugins: Vec<PluginTime<'a>>,
    ) -> Self {
        Self { record, stream, plugins }
    }

    /// Istio's text format; behind it the plugins with their times in microseconds.
    pub(super) fn text(&self) -> String {
        let (record, stream) = (self.record, self.stream);
        let upstream = stream.upstream.get();
        let connection = stream.connection_info();
        let mut line = String::with_capacity(512);
        let _ = write!(line, "[{}] \"", timestamp(stream.start_time()).unwrap_or_default());
        push(&mut line, record.method.as_ref());
        line.push(' ');
        push(&mut line, record.path.as_ref());
        let _ = write!(
            line,
            " {}\" {} {} {} - \"-\" {} {} {} {} \"",
            stream.protocol_name(),
            stream.response_code.get().unwrap_or_default(),
            or_dash(&self.flags()),
            or_dash(self.details().as_deref().unwrap_or_default()),
            stream.request_bytes.get(),
            stream.sent_bytes.get(),
            stream.elapsed().as_millis(),
            upstream.map_or_else(|| "-".to_owned(), |up| up.latency.as_millis().to_string()),
        );
        let quoted =
            [&record.forwarded_for, &record.user_agent, &record.request_id, &record.authority];
        for value in quoted {
            push(&mut line, value.as_ref());
            line.push_str("\" \"");
        }
        let _ = write!(
            line,
            "{}\" {} {} {} {} {} {}",
            upstream.map_or_else(|| "-".to_owned(), |up| up.peer.to_string()),
            or_dash(&stream.route().route.cluster),
            upstream.and_then(|up| up.local).map_or_else(|| "-".to_owned(), |at| at.to_string()),
            connection.local,
            connection.remote,
            self.server_name().unwrap_or("-"),
            or_dash(&stream.route().route.name),
        );
        let times = self.plugins.iter();
        let times = times.map(|(name, time)| format!("{name}={}us", time.as_micros()));
        let times: Vec<String> = times.collect();
        let _ = write!(line, " \"{}\"", or_dash(&times.join(",")));
        line
    }

    /// Istio's JSON format; beside it `plugins`, the times in microseconds by the resources' names.
    pub(super) fn json(&self) -> String {
        let (record, stream) = (self.record, self.stream);
        let upstream = stream.upstream.get();
        let connection = stream.connection_info();
        let route = stream.route();
        let times = self.plugins.iter();
        let times = times.map(|(name, time)| (name.to_string(), json!(whole(time.as_micros()))));
        let plugins: Map<String, Value> = times.collect();
        let flags = Some(self.flags()).filter(|flags| !flags.is_empty());
        json!({
            "start_time": timestamp(stream.start_time()),
            "method": value(record.method.as_ref()),
            "path": value(record.path.as_ref()),
            "protocol": stream.protocol_name(),
            "response_code": stream.response_code.get().unwrap_or_default(),
            "response_flags": flags,
            "response_code_details": self.details(),
            "bytes_received": stream.request_bytes.get(),
            "bytes_sent": stream.sent_bytes.get(),
            "duration": whole(stream.elapsed().as_millis()),
            "upstream_service_time": upstream.map(|up| whole(up.latency.as_millis())),
            "x_forwarded_for": value(record.forwarded_for.as_ref()),
            "user_agent": value(record.user_agent.as_ref()),
            "request_id": value(record.request_id.as_ref()),
            "authority": value(record.authority.as_ref()),
            "upstream_host": upstream.map(|up| up.peer.to_string()),
            "upstream_cluster": route.route.cluster,
            "upstream_local_address": upstream.and_then(|up| up.local).map(|at| at.to_string()),
            "downstream_local_address": connection.local.to_string(),
            "downstream_remote_address": connection.remote.to_string(),
            "requested_server_name": self.server_name(),
            "route_name": route.route.name,
            "plugins": plugins,
        })
        .to_string()
    }

    /// Envoy's short names of the flags, with commas between them.
    fn flags(&self) -> String {
        let set = self.stream.response_flags.get();
        let names = flags::NAMES.iter().filter(|(bit, _)| set & bit != 0).map(|(_, name)| *name);
        names.collect::<Vec<_>>().join(",")
    }

    /// Name that the client asked for in its TLS handshake.
    fn server_name(&self) -> Option<&str> {
        let tls = self.stream.connection_info().tls();
        tls.map(TlsSession::server_name).filter(|name| !name.is_empty())
    }

    fn details(&self) -> Option<String> {
        let details = self.stream.response_code_details.borrow();
        // A plugin may have said it, so it may be anything.
        details.as_deref().map(|details| escaped(cut(details.as_bytes())).replace(' ', "_"))
    }
}

fn or_dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn cut(bytes: &[u8]) -> &[u8] {
    bytes.get(..MAX_VALUE).unwrap_or(bytes)
}

/// Appends a value as text that cannot end its quotes or its line.
fn push(line: &mut String, value: Option<&HeaderValue>) {
    match value {
        Some(value) => line.push_str(&escaped(cut(value.as_bytes()))),
        None => line.push('-'),
    }
}

/// Writes what is not visible ASCII, and quotes, as escapes.
fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn value(value: Option<&HeaderValue>) -> Option<String> {
    Some(String::from_utf8_lossy(cut(value?.as_bytes())).into_owned())
}

/// A time in whatever unit, as JSON can have it.
fn whole(time: u128) -> u64 {
    u64::try_from(time).unwrap_or(u64::MAX)
}
