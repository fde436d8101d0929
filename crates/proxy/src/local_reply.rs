//! Answers that the proxy makes itself: one fact, one response.

use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use wasmplug_host::{BodyBuffer, Fields, FieldsKind, LocalReply, Pseudo};

use crate::path::RefusedPath;
use crate::upstream::{ConnectError, UpstreamError};

const CONTENT_TYPE: &[u8] = b"content-type";
/// Source: Envoy, on answers in place of requests that it did not send on.
const OVERLOADED: &[u8] = b"x-envoy-overloaded";
const GRPC: &str = "application/grpc";

/// Headers that a plugin cannot decide: the proxy frames the message.
const FRAMING: [&str; 3] = [":status", "connection", "transfer-encoding"];

/// What the client's side of a local reply depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ReplyContext {
    /// The request is gRPC: the answer has status 200 and says the rest in headers.
    pub(crate) is_grpc: bool,
}

/// Headers and body of a local reply, as response filters see them.
pub(crate) fn message(reply: LocalReply, cx: ReplyContext) -> (Fields, BodyBuffer) {
    let mut headers = Fields::new(FieldsKind::Response);
    let status = if cx.is_grpc { 200 } else { reply.status };
    headers.set_pseudo(Pseudo::Status, HeaderValue::from(status));
    for (name, value) in &reply.headers {
        let is_framing =
            FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing.as_bytes()));
        if name.eq_ignore_ascii_case(b"content-length") {
            // Only its place is the plugin's.
            set_length(&mut headers, &reply, cx);
        } else if !is_framing && headers.add(name, value).is_err() {
            tracing::warn!(name = %String::from_utf8_lossy(name), "invalid header in a local reply");
        }
    }
    if cx.is_grpc {
        add_grpc(&mut headers, &reply);
        return (headers, BodyBuffer::default());
    }
    set_length(&mut headers, &reply, cx);
    let forbids_body = forbids_body(&reply);
    if reply.body.is_empty() || forbids_body {
        // Nothing is said about a body that is not there, as in Envoy.
        headers.remove(CONTENT_TYPE);
    } else if headers.get(CONTENT_TYPE).is_none() {
        headers.push(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    let body = if forbids_body { Bytes::new() } else { reply.body };
    (headers, body.into())
}

/// Tells the length of a body, once and if there is one.
fn set_length(headers: &mut Fields, reply: &LocalReply, cx: ReplyContext) {
    let has_body = !reply.body.is_empty() && !forbids_body(reply) && !cx.is_grpc;
    if has_body && headers.get_name(&CONTENT_LENGTH).is_none() {
        headers.push(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
    }
}

fn forbids_body(reply: &LocalReply) -> bool {
    matches!(reply.status, 204 | 304)
}

/// The answer when the upstream cannot be asked or does not answer. Source: Envoy's texts.
pub(crate) fn upstream_failure(error: &UpstreamError) -> LocalReply {
    let text = upstream_failure_text(error);
    match error {
        UpstreamError::RequestTimeout => return plain(504, text, "response_timeout"),
        UpstreamError::NoEndpoint { .. } => return plain(503, text, "no_healthy_upstream"),
        _ => {}
    }
    let mut reason = reset_reason(error).to_owned();
    match error {
        UpstreamError::Connect(ConnectError::Failed { source, .. }) => {
            reason = format!("{reason}|delayed connect error: {}", connect_reason(source));
        }
        UpstreamError::Connect(ConnectError::Tls { source, .. }) => {
            reason = format!("{reason}|TLS_error: {source}");
        }
        _ => {}
    }
    let reason = reason.replace(' ', "_");
    let details = format!("upstream_reset_before_response_started{{{reason}}}");
    let status = upstream_failure_status(error);
    let mut reply = plain(status, text, &details);
    if matches!(error, UpstreamError::Overflow { .. }) {
        let (name, value) = (Bytes::from_static(OVERLOADED), Bytes::from_static(b"true"));
        reply.headers.push((name, value));
    }
    reply
}

/// The status that tells of it.
pub(crate) fn upstream_failure_status(error: &UpstreamError) -> u16 {
    match error {
        UpstreamError::RequestTimeout => 504,
        _ if error.is_protocol_error() => 502,
        _ => 503,
    }
}

/// What the client, or a plugin that made a call, reads about it.
pub(crate) fn upstream_failure_text(error: &UpstreamError) -> String {
    match error {
        UpstreamError::RequestTimeout => return "upstream request timeout".to_owned(),
        UpstreamError::NoEndpoint { .. } => return "no healthy upstream".to_owned(),
        _ => {}
    }
    let reason = reset_reason(error);
    format!("upstream connect error or disconnect/reset before headers. reset reason: {reason}")
}

fn reset_reason(error: &UpstreamError) -> &'static str {
    match error {
        UpstreamError::Connect(ConnectError::Timeout { .. }) => "connection timeout",
        UpstreamError::Connect(_) => "remote connection failure",
        UpstreamError::Overflow { .. } => "overflow",
        _ if error.is_protocol_error() => "protocol error",
        _ => "connection termination",
    }
}

/// Nothing has moved in the stream for too long. Source: Envoy, 504 if the request is complete.
pub(crate) fn stream_idle(is_request_complete: bool) -> LocalReply {
    let status = if is_request_complete { 504 } else { 408 };
    plain(status, "stream timeout".to_owned(), "stream_idle_timeout")
}

/// A request that cannot be forwarded, because a plugin broke it. Source: Envoy.
pub(crate) fn invalid_request(missing: &str) -> LocalReply {
    if missing == ":path" {
        // Without a path no route matches.
        return plain(404, String::new(), "route_not_found");
    }
    plain(
        503,
        format!("missing required header: {missing}"),
        "filter_removed_required_request_headers",
    )
}

/// A response that cannot be sent, because a plugin broke it.
pub(crate) fn invalid_response() -> LocalReply {
    let body = "missing required header: :status".to_owned();
    plain(502, body, "filter_removed_required_response_headers")
}

/// A request that names no host. Source: Envoy.
pub(crate) fn missing_host() -> LocalReply {
    plain(400, String::new(), "missing_host_header")
}

/// A request whose body is coded in a way that is not known here. Source: Envoy.
pub(crate) fn unknown_coding() -> LocalReply {
    plain(501, "Not Implemented".to_owned(), "http1.invalid_transfer_encoding")
}

/// A request for a tunnel. Source: Envoy.
pub(crate) fn no_tunnel() -> LocalReply {
    plain(404, String::new(), "route_not_found")
}

/// A request that is not understood by all in one way. Source: Envoy.
pub(crate) fn bad_request() -> LocalReply {
    plain(400, "Bad Request".to_owned(), "http1.codec_error")
}

/// A head with more headers than one may have. Source: RFC 6585, 5; HTTP/1 is answered by hyper.
pub(crate) fn too_many_headers() -> LocalReply {
    plain(431, String::new(), "http2.too_many_headers")
}

/// A request whose path cannot be brought into its one form. Source: Envoy.
pub(crate) fn refused_path(refused: RefusedPath) -> LocalReply {
    match refused {
        RefusedPath::Invalid => plain(400, String::new(), "path_normalization_failed"),
        RefusedPath::NotAPath => plain(404, String::new(), "absolute_path_rejected"),
    }
}

fn plain(status: u16, body: String, details: &str) -> LocalReply {
    LocalReply {
        status,
        details: details.to_owned(),
        body: Bytes::from(body),
        headers: Vec::new(),
        grpc_status: u32::MAX,
    }
}

/// The operating system's word for a failed connect, without Rust's number behind it.
fn connect_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}

fn add_grpc(headers: &mut Fields, reply: &LocalReply) {
    let status = match reply.grpc_status {
        given @ 0..=16 => given,
        _ => grpc_status(reply.status),
    };
    headers.push(http::header::CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.push(http::HeaderName::from_static("grpc-status"), HeaderValue::from(status));
    if !reply.body.is_empty()
        && let Ok(message) = HeaderValue::from_str(&percent_encoded(&reply.body))
    {
        headers.push(http::HeaderName::from_static("grpc-message"), message);
    }
}

/// Source: the gRPC specification, "HTTP to gRPC status code mapping", as Envoy has it.
pub(crate) fn grpc_status(http: u16) -> u32 {
    match http {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Source: the gRPC specification, "Status-Message".
fn percent_encoded(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b'%' => encoded.push_str("%25"),
            b' '..=b'~' => encoded.push(char::from(*byte)),
            other => {
                use std::fmt::Write;
                let _ = write!(encoded, "%{other:02X}");
            }
        }
    }
    encoded
}

/// Whether a content type says that the request is gRPC.
pub(crate) fn is_grpc(content_type: Option<&HeaderValue>) -> bool {
    content_type.is_some_and(|value| {
        let rest = value.as_bytes().strip_prefix(GRPC.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"+"))
    })
}

#[cfg(test)]
mod tests {
    use super::{ReplyContext, is_grpc, message, plain};
    use bytes::Bytes;
    use http::HeaderValue;
    use wasmplug_host::{Fields, LocalReply};

    fn text(headers: &Fields) -> String {
        headers
            .iter()
            .map(|(name, value)| {
                format!("{}={}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn reply(
        headers: &[(&'static str, &'static str)],
        status: u16,
        body: &'static str,
    ) -> LocalReply {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes()))
        };
        LocalReply { headers: headers.iter().map(pair).collect(), ..plain(status, body.into(), "") }
    }

    #[test]
    fn framing_is_the_proxys_and_a_content_type_is_added() {
        let reply = reply(&[("X-A", "1"), ("content-length", "9"), ("x-a", "2")], 403, "no");
        let (headers, body) = message(reply, ReplyContext::default());
        let expected = ":status=403 x-a=1 content-length=2 x-a=2 content-type=text/plain";
        assert_eq!(text(&headers), expected);
        assert_eq!(Bytes::from(body), "no");
    }

    #[test]
    fn a_given_content_type_stays() {
        let reply = reply(&[("Content-Type", "a/b")], 400, "x");
        let (headers, _) = message(reply, ReplyContext::default());
        let expected = ":status=400 content-type=a/b content-length=1";
        assert_eq!(text(&headers), expected);
    }

    #[test]
    fn nothing_is_said_about_a_body_that_is_not_there() {
        for (status, text_of_body) in [(204, "x"), (403, "")] {
            let reply = reply(&[("content-type", "a/b"), ("a", "b")], status, text_of_body);
            let (headers, body) = message(reply, ReplyContext::default());
            assert_eq!(text(&headers), format!(":status={status} a=b"));
            assert!(body.is_empty());
        }
    }

    #[test]
    fn grpc_says_it_in_headers() {
        let cx = ReplyContext { is_grpc: true };
        let (headers, body) = message(reply(&[("a", "b")], 403, "no ü%"), cx);
        let expected =
            ":status=200 a=b content-type=application/grpc grpc-status=7 grpc-message=no %C3%BC%25";
        assert_eq!(text(&headers), expected);
        assert!(body.is_empty());
    }

    #[test]
    fn grpc_web_is_not_grpc() {
        let is = |text| is_grpc(Some(&HeaderValue::from_static(text)));
        assert!(is("application/grpc"));
        assert!(is("application/grpc+proto"));
        assert!(!is("application/grpc-web"));
        assert!(!is_grpc(None));
    }
}
