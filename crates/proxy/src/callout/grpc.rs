//! gRPC calls and streams that plugins make, over HTTP/2 to clusters that the operator named.
//!
//! Source: gRPC over HTTP/2, and Envoy's gRPC client for what a plugin is told of a failure.

use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri};
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use tokio::sync::mpsc;
use wasmplug_host::abi::Status;
use wasmplug_host::{Fields, FieldsKind, GrpcStatus, GrpcTarget, Pseudo};

use super::{Clusters, HeldBytes};
use crate::body::{BodyError, LeasedBody, UpstreamBody, WholeBody};
use crate::local_reply::{grpc_status, upstream_failure_text};
use crate::upstream::{Lease, Pool, UpstreamProtocol};

/// Most messages of one stream that wait to be sent. Source: ours.
const MAX_WAITING: usize = 1024;
/// Flag and length in front of each message.
const PREFIX_BYTES: usize = 5;

/// A call or a stream that is ready to be started.
pub(crate) struct GrpcCallout {
    pool: Rc<Pool>,
    request: Request<()>,
    max_message_bytes: usize,
}

/// Messages of a plugin on their way out. Dropping it ends the request.
pub(crate) struct GrpcSender(mpsc::Sender<(Bytes, HeldBytes)>);

/// What happens on a stream, in this order: once, any number of times, once.
pub(crate) enum GrpcEvent {
    InitialMetadata(Fields),
    Message(Bytes),
    TrailingMetadata(Fields),
}

/// Body of a request that a plugin goes on writing.
pub(crate) struct MessagesBody(mpsc::Receiver<(Bytes, HeldBytes)>);

/// Cuts messages out of a response's bytes.
struct Deframer {
    buffer: BytesMut,
    max_message_bytes: usize,
}

/// Source: Envoy, `GrpcService`, as far as it can name a cluster.
#[derive(Clone, PartialEq, Message)]
struct GrpcService {
    #[prost(message, optional, tag = "1")]
    envoy_grpc: Option<EnvoyGrpc>,
}

#[derive(Clone, PartialEq, Message)]
struct EnvoyGrpc {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(string, tag = "2")]
    authority: String,
}

type Result<T> = std::result::Result<T, GrpcStatus>;

// === impl Clusters ===

impl Clusters {
    /// Makes a gRPC call or stream ready.
    ///
    /// # Errors
    /// [`Status::ParseFailure`] for an unknown cluster, [`Status::BadArgument`] for a message that
    /// names none or a method that is no path, [`Status::InternalFailure`] for a cluster that does
    /// not speak HTTP/2.
    pub(crate) fn prepare_grpc(
        &self,
        target: GrpcTarget,
    ) -> std::result::Result<GrpcCallout, Status> {
        let (pool, authority) = self.grpc_cluster(&target.cluster)?;
        self.grpc_callout(pool, &authority, target)
    }

    /// The same for a cluster of this name, in which the server has another one.
    ///
    /// # Errors
    /// As those of [`Self::prepare_grpc`].
    pub(crate) fn prepare_grpc_for(
        &self,
        authority: &str,
        target: GrpcTarget,
    ) -> std::result::Result<GrpcCallout, Status> {
        let name = std::str::from_utf8(&target.cluster).map_err(|_| Status::ParseFailure)?;
        let pool = self.find(name).ok_or(Status::ParseFailure)?;
        self.grpc_callout(pool, authority, target)
    }

    fn grpc_callout(
        &self,
        pool: &Rc<Pool>,
        authority: &str,
        target: GrpcTarget,
    ) -> std::result::Result<GrpcCallout, Status> {
        if pool.cluster().config().protocol() != UpstreamProtocol::Http2 {
            tracing::warn!(
                cluster = %String::from_utf8_lossy(&target.cluster),
                "gRPC is called in a cluster that speaks HTTP/1; give its address as h2c:// or h2://"
            );
            return Err(Status::InternalFailure);
        }
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        let path = format!("/{}/{}", target.service, target.method);
        *request.uri_mut() = Uri::try_from(path).map_err(|_| Status::BadArgument)?;
        let authority = HeaderValue::from_str(authority).map_err(|_| Status::BadArgument)?;
        let headers = request.headers_mut();
        headers.insert(HOST, authority);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        for (name, value) in target.metadata.into_regular() {
            headers.append(name, value);
        }
        let max_message_bytes = self.buffer_bytes;
        Ok(GrpcCallout { pool: Rc::clone(pool), request, max_message_bytes })
    }

    /// A name counts more than a message: some names can be read as one, which kills an Envoy.
    fn grpc_cluster(&self, cluster: &[u8]) -> std::result::Result<(&Rc<Pool>, String), Status> {
        if let Some(name) = std::str::from_utf8(cluster).ok().filter(|name| self.knows(name)) {
            let pool = self.find(name).ok_or(Status::ParseFailure)?;
            return Ok((pool, name.to_owned()));
        }
        let service = GrpcService::decode(cluster).map_err(|_| Status::ParseFailure)?;
        let Some(EnvoyGrpc { cluster_name, authority }) = service.envoy_grpc else {
            // Any few letters are a message without known fields.
            let is_text = cluster.iter().all(|byte| (b' '..=b'~').contains(byte));
            return Err(if is_text { Status::ParseFailure } else { Status::BadArgument });
        };
        let pool = self.find(&cluster_name).ok_or(Status::ParseFailure)?;
        Ok((pool, if authority.is_empty() { cluster_name } else { authority }))
    }
}

// === impl GrpcCallout ===

impl GrpcCallout {
    /// Calls and waits for the one message that comes back.
    pub(crate) async fn call(self, message: Bytes, timeout: Option<Duration>) -> Result<Bytes> {
        let exchange = self.exchange(message);
        match timeout {
            None => exchange.await,
            Some(timeout) => match tokio::time::timeout(timeout, exchange).await {
                Ok(result) => result,
                Err(_) => Err(GrpcStatus::new(GrpcStatus::INTERNAL, "response_timeout")),
            },
        }
    }

    async fn exchange(self, message: Bytes) -> Result<Bytes> {
        let max = self.max_message_bytes;
        let body = UpstreamBody::Full(WholeBody::sized(framed(&message)));
        let (response, lease) = self.start(body).await?;
        let mut received = None;
        let each = |event| match event {
            GrpcEvent::Message(_) if received.is_some() => false,
            GrpcEvent::Message(message) => {
                received = Some(message);
                true
            }
            _ => true,
        };
        let status = read(response, lease, max, each).await?;
        match (status.code, received) {
            (0, Some(message)) => Ok(message),
            (0, None) => Err(GrpcStatus::new(GrpcStatus::INTERNAL, "no message was received")),
            _ => Err(status),
        }
    }

    /// Opens a stream and tells what happens on it; `each` returns whether it wants to hear more.
    ///
    /// The sender goes to the plugin; the future is to be run until it tells the status.
    pub(crate) fn stream(
        self,
        each: impl FnMut(GrpcEvent) -> bool,
    ) -> (GrpcSender, impl Future<Output = GrpcStatus>) {
        let (sender, messages) = mpsc::channel(MAX_WAITING);
        let max = self.max_message_bytes;
        let run = async move {
            let body = UpstreamBody::Messages(MessagesBody(messages));
            match self.start(body).await {
                Ok((response, lease)) => {
                    read(response, lease, max, each).await.unwrap_or_else(|failed| failed)
                }
                Err(failed) => failed,
            }
        };
        (GrpcSender(sender), run)
    }

    async fn start(self, body: UpstreamBody) -> Result<(Response<Incoming>, Lease)> {
        let (parts, ()) = self.request.into_parts();
        let sent = self.pool.send(Request::from_parts(parts, body)).await;
        sent.map_err(|error| {
            GrpcStatus::new(GrpcStatus::UNAVAILABLE, upstream_failure_text(&error))
        })
    }
}

/// Reads a response to its end and tells how it ended.
async fn read(
    response: Response<Incoming>,
    lease: Lease,
    max_message_bytes: usize,
    mut each: impl FnMut(GrpcEvent) -> bool,
) -> Result<GrpcStatus> {
    let (parts, body) = response.into_parts();
    let mut body = LeasedBody::new(body, lease);
    let stopped = || GrpcStatus::new(GrpcStatus::INTERNAL, "more than one message was received");
    let http_status = parts.status.as_u16();
    if body.is_end_stream() {
        return read_headers_alone(http_status, parts.headers, each);
    }
    let mut headers = Fields::from_header_map(FieldsKind::Response, parts.headers);
    headers.set_pseudo(Pseudo::Status, HeaderValue::from(http_status));
    if !each(GrpcEvent::InitialMetadata(headers)) {
        return Err(stopped());
    }
    if http_status != 200 {
        return Err(GrpcStatus::new(grpc_status(http_status), ""));
    }
    let mut deframer = Deframer { buffer: BytesMut::new(), max_message_bytes };
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| GrpcStatus::new(GrpcStatus::UNAVAILABLE, "reset"))?;
        match frame.into_data() {
            Ok(bytes) => {
                deframer.buffer.extend_from_slice(&bytes);
                while let Some(message) = deframer.next()? {
                    if !each(GrpcEvent::Message(message)) {
                        return Err(stopped());
                    }
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let status = status_of(&trailers);
                let fields = Fields::from_header_map(FieldsKind::Trailers, trailers);
                each(GrpcEvent::TrailingMetadata(fields));
                return Ok(status.unwrap_or_else(no_status));
            }
        }
    }
    Ok(no_status())
}

/// A response that is only headers: they are its trailers, behind no initial metadata.
fn read_headers_alone(
    http_status: u16,
    headers: HeaderMap,
    mut each: impl FnMut(GrpcEvent) -> bool,
) -> Result<GrpcStatus> {
    each(GrpcEvent::InitialMetadata(Fields::new(FieldsKind::Response)));
    let status = status_of(&headers);
    if http_status != 200 && status.is_none() {
        return Err(GrpcStatus::new(grpc_status(http_status), ""));
    }
    each(GrpcEvent::TrailingMetadata(Fields::from_header_map(FieldsKind::Trailers, headers)));
    Ok(status.unwrap_or_else(no_status))
}

fn no_status() -> GrpcStatus {
    GrpcStatus::new(2, "the server told no status")
}

/// `grpc-status` and `grpc-message`, if the first is there.
fn status_of(headers: &HeaderMap) -> Option<GrpcStatus> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse().ok()?;
    let message = headers.get("grpc-message").map_or(&b""[..], HeaderValue::as_bytes);
    let message = percent_decoded(message);
    // Envoy says behind the text where it comes from.
    let from = if message.is_empty() { "" } else { "{via_upstream}" };
    Some(GrpcStatus::new(code, format!("{message}{from}")))
}

/// Source: the gRPC specification, "Status-Message".
fn percent_decoded(text: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (first, byte) {
            (b'%', Some(byte)) => {
                decoded.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (other, _) => {
                decoded.push(*other);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// A message with its prefix.
fn framed(message: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(message.len().saturating_add(PREFIX_BYTES));
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.put_slice(message);
    framed.freeze()
}

// === impl GrpcSender ===

impl GrpcSender {
    /// Sends a message.
    ///
    /// # Errors
    /// [`Status::InternalFailure`] if too many wait already. A stream that is over takes any.
    pub(crate) fn send(&self, message: &Bytes, held: HeldBytes) -> std::result::Result<(), Status> {
        match self.0.try_send((framed(message), held)) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(Status::InternalFailure),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }
}

// === impl MessagesBody ===

impl MessagesBody {
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, BodyError>>> {
        let message = self.0.poll_recv(cx);
        message.map(|message| message.map(|(message, _held)| Ok(Frame::data(message))))
    }
}

// === impl Deframer ===

impl Deframer {
    /// The next whole message.
    fn next(&mut self) -> Result<Option<Bytes>> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let [flag, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if flag != 0 {
            return Err(GrpcStatus::new(GrpcStatus::INTERNAL, "a message is compressed"));
        }
        if length > self.max_message_bytes {
            return Err(GrpcStatus::new(GrpcStatus::INTERNAL, "a message is too large"));
        }
        if self.buffer.len() < length.saturating_add(PREFIX_BYTES) {
            return Ok(None);
        }
        self.buffer.advance(PREFIX_BYTES);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::{Deframer, framed, percent_decoded};

    fn deframer(bytes: &[u8]) -> Deframer {
        Deframer { buffer: BytesMut::from(bytes), max_message_bytes: 8 }
    }

    #[test]
    fn messages_are_cut_at_their_lengths() {
        let mut bytes = framed(&Bytes::from_static(b"one")).to_vec();
        bytes.extend_from_slice(&framed(&Bytes::new()));
        bytes.extend_from_slice(&framed(&Bytes::from_static(b"cut"))[..6]);
        let mut deframer = deframer(&bytes);
        assert_eq!(deframer.next().unwrap().unwrap(), "one");
        assert_eq!(deframer.next().unwrap().unwrap(), "");
        assert_eq!(deframer.next(), Ok(None));
    }

    #[test]
    fn what_is_too_large_or_compressed_is_refused() {
        assert!(deframer(&framed(&Bytes::from_static(b"123456789"))).next().is_err());
        assert!(deframer(b"\x01\0\0\0\x01a").next().is_err());
        assert!(deframer(b"\0\xff\xff\xff\xff").next().is_err());
    }

    #[test]
    fn status_messages_are_percent_encoded() {
        assert_eq!(percent_decoded(b"a%20b%e2%82%ac%"), "a b\u{20ac}%");
        assert_eq!(percent_decoded(b"%zz%4"), "%zz%4");
    }
}
