//! One line for each stream, when it is over: what was asked, what came of it, and what each plugin
//! took of the time.
//!
//! The fields, their names and their order are those of Istio's default format, with the time of
//! plugins behind them. Source: Istio, `meshConfig.accessLogFormat` and `accessLogEncoding`.

mod format;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use wasmplug_api::NamespacedName;
use wasmplug_host::{Fields, Pseudo};

use self::format::Line;
use crate::attributes::StreamShared;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where lines about streams go, and in which form.
///
/// While there is one, every callback of plugins is timed and no stream passes by the chain: what
/// that costs stands in `docs/performance.md`.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// How a line is written.
    pub format: AccessLogFormat,
    /// Who takes the lines.
    pub sink: Arc<dyn AccessLogSink>,
}

/// How a line of the access log is written. Source: Istio's `accessLogEncoding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogFormat {
    /// Values in a fixed order; `-` for what is not known.
    #[default]
    Text,
    /// One JSON object, with `null` for what is not known.
    Json,
}

/// Takes lines of the access log. Called on worker threads, so it must not wait for anything.
pub trait AccessLogSink: std::fmt::Debug + Send + Sync {
    /// Takes one line, with its end.
    fn write(&self, line: &[u8]);

    /// How many lines were lost because there was no room for them.
    fn lost_lines(&self) -> u64;
}

/// What a line tells of the request as the client sent it.
#[derive(Debug)]
pub(crate) struct AccessRecord {
    method: Option<HeaderValue>,
    path: Option<HeaderValue>,
    authority: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    forwarded_for: Option<HeaderValue>,
    request_id: Option<HeaderValue>,
}

/// Time of one plugin in one stream.
pub(crate) type PluginTime<'a> = (&'a NamespacedName, Duration);

// === impl AccessLog ===

impl AccessLog {
    /// Writes the line of a stream that is over.
    pub(crate) fn write<'a>(
        &self,
        record: &AccessRecord,
        stream: &StreamShared,
        plugins: impl Iterator<Item = PluginTime<'a>>,
    ) {
        let line = Line::new(record, stream, plugins.collect());
        let mut text = match self.format {
            AccessLogFormat::Text => line.text(),
            AccessLogFormat::Json => line.json(),
        };
        text.push('\n');
        self.sink.write(text.as_bytes());
    }
}

// === impl AccessRecord ===

impl AccessRecord {
    /// Of a request whose head was taken apart already.
    pub(crate) fn of_fields(fields: &Fields) -> Box<Self> {
        Box::new(Self {
            method: fields.pseudo(Pseudo::Method).cloned(),
            path: fields.pseudo(Pseudo::Path).cloned(),
            authority: fields.pseudo(Pseudo::Authority).cloned(),
            user_agent: fields.get_name(&USER_AGENT).cloned(),
            forwarded_for: fields.get_name(&X_FORWARDED_FOR).cloned(),
            request_id: fields.get_name(&X_REQUEST_ID).cloned(),
        })
    }

    /// Of a request that no filter is to see.
    pub(crate) fn of_request<B>(request: &Request<B>) -> Box<Self> {
        let headers: &HeaderMap = request.headers();
        let uri = request.uri();
        let target =
            uri.path_and_query().and_then(|path| HeaderValue::from_str(path.as_str()).ok());
        let authority = uri.authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
        Box::new(Self {
            method: HeaderValue::from_str(request.method().as_str()).ok(),
            path: target,
            authority: authority.or_else(|| headers.get(HOST).cloned()),
            user_agent: headers.get(USER_AGENT).cloned(),
            forwarded_for: headers.get(X_FORWARDED_FOR).cloned(),
            request_id: headers.get(X_REQUEST_ID).cloned(),
        })
    }
}

/// A moment as Envoy writes it: UTC, with milliseconds.
fn timestamp(time: SystemTime) -> Option<String> {
    let timestamp = jiff::Timestamp::try_from(time).ok()?;
    Some(format!("{timestamp:.3}"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::timestamp;

    #[test]
    fn moments_are_written_with_milliseconds() {
        let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_000_000_007);
        assert_eq!(timestamp(moment).as_deref(), Some("2025-11-24T16:00:00.007Z"));
    }
}
