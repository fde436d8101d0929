//! HTTP calls that plugins make, to clusters that the operator named.
//!
//! Source: Envoy's `proxy_http_call`; the answers to a timeout and to a failed connection have
//! Envoy's form, so that plugins find what they look for.

mod budget;
mod grpc;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use wasmplug_host::abi::Status;
use wasmplug_host::{Fields, FieldsKind, HttpCall, HttpCallResponse, Pseudo};

pub(crate) use self::budget::{ByteBudget, HeldBytes};
pub(crate) use self::grpc::{GrpcEvent, GrpcSender, MessagesBody};
use crate::body::{LeasedBody, UpstreamBody, WholeBody};
use crate::config::ProxyLimits;
use crate::exchange::note_upstream_time;
use crate::local_reply::{upstream_failure_status, upstream_failure_text};
use crate::upstream::{ClusterConfig, Lease, Pool, UpstreamError, Upstreams};

/// Prefix of Istio's names for what a workload calls: `outbound|PORT|SUBSET|HOST`.
const OUTBOUND: &str = "outbound";

/// The clusters of one worker, each with its own connections.
#[derive(Default)]
pub(crate) struct Clusters {
    by_name: BTreeMap<String, Rc<Pool>>,
    /// Where requests go for which there is no route; plugins cannot call it.
    default: Option<Rc<Pool>>,
    /// Most bytes of an answer that are kept for a plugin.
    buffer_bytes: usize,
}

/// A call that is ready to be sent.
pub(crate) struct Callout {
    pool: Rc<Pool>,
    request: Request<UpstreamBody>,
    timeout: Option<Duration>,
    buffer_bytes: usize,
}

// === impl Clusters ===

impl Clusters {
    /// For the worker of this number.
    pub(crate) fn new(upstreams: &Upstreams, worker: usize, limits: &ProxyLimits) -> Self {
        Self {
            by_name: upstreams.named_pools(worker, limits),
            default: Some(upstreams.default_pool(worker, limits)),
            buffer_bytes: limits.buffer_bytes,
        }
    }

    /// The connections to the upstream, where requests go for which there is no route.
    pub(crate) fn default_pool(&self) -> Option<&Rc<Pool>> {
        self.default.as_ref()
    }

    fn pools(&self) -> impl Iterator<Item = &Rc<Pool>> {
        self.default.iter().chain(self.by_name.values())
    }

    /// Takes over which endpoints clusters have now.
    pub(crate) fn refresh(&self) {
        self.pools().for_each(|pool| pool.refresh());
    }

    /// Closes connections that nobody has used for too long. To be called once a second.
    pub(crate) fn sweep(&self) {
        self.pools().for_each(|pool| pool.sweep());
    }

    /// Names that exist, for a plugin's author who mistyped one.
    pub(crate) fn names(&self) -> String {
        let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }

    /// The connections to the cluster of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Rc<Pool>> {
        self.by_name.get(name)
    }

    /// Whether a plugin may call this.
    pub(crate) fn knows(&self, target: &str) -> bool {
        self.find(target).is_some()
    }

    /// Makes a call ready.
    ///
    /// # Errors
    /// [`Status::BadArgument`] for an unknown cluster or a head that is not valid.
    pub(crate) fn prepare(&self, call: HttpCall) -> Result<Callout, Status> {
        let pool = self.find(&call.target).ok_or(Status::BadArgument)?;
        let timeout = call.timeout;
        let request = request(call)?;
        Ok(Callout { pool: Rc::clone(pool), request, timeout, buffer_bytes: self.buffer_bytes })
    }

    /// Makes a call ready whose length is told in any case, behind the host. Source: Envoy's
    /// questions to external authorizers.
    ///
    /// # Errors
    /// As those of [`Self::prepare`].
    pub(crate) fn prepare_question(&self, call: HttpCall) -> Result<Callout, Status> {
        let length = HeaderValue::from(call.body.len());
        let mut callout = self.prepare(call)?;
        let headers = std::mem::take(callout.request.headers_mut());
        let mut ordered = HeaderMap::with_capacity(headers.len().saturating_add(1));
        if let Some(host) = headers.get(HOST) {
            ordered.insert(HOST, host.clone());
        }
        ordered.insert(CONTENT_LENGTH, length);
        // Removing from an `http` map would change the order of the rest.
        for (name, value) in &headers {
            if *name != HOST && *name != CONTENT_LENGTH {
                ordered.append(name, value.clone());
            }
        }
        *callout.request.headers_mut() = ordered;
        Ok(callout)
    }

    fn find(&self, target: &str) -> Option<&Rc<Pool>> {
        find(&self.by_name, target, |pool| pool.cluster().config())
    }
}

/// A cluster among those of [`ProxyConfig::clusters`](crate::ProxyConfig::clusters):
/// by its name, or by Istio's, `outbound|PORT||HOST`, which means a cluster called `HOST:PORT` or
/// one with that host.
pub fn find_cluster<'a>(
    clusters: &'a BTreeMap<String, ClusterConfig>,
    target: &str,
) -> Option<&'a ClusterConfig> {
    find(clusters, target, |cluster| cluster)
}

fn find<'a, T>(
    by_name: &'a BTreeMap<String, T>,
    target: &str,
    config: impl Fn(&T) -> &ClusterConfig,
) -> Option<&'a T> {
    if let Some(cluster) = by_name.get(target) {
        return Some(cluster);
    }
    let mut parts = target.split('|');
    let (direction, port) = (parts.next()?, parts.next()?);
    let host = parts.nth(1)?;
    if direction != OUTBOUND || parts.next().is_some() {
        return None;
    }
    let port: u16 = port.parse().ok()?;
    let is_meant = |cluster: &&T| config(cluster).has_host(host, port);
    by_name.get(&format!("{host}:{port}")).or_else(|| by_name.values().find(is_meant))
}

// === impl Callout ===

impl Callout {
    /// Sends the call and reads its answer. `None` if it broke off after it had begun.
    pub(crate) async fn send(self) -> Option<HttpCallResponse> {
        let Self { pool, request, timeout, buffer_bytes } = self;
        let begin = tokio::time::Instant::now();
        let exchange = async {
            match pool.send(request).await {
                Ok((mut response, lease)) => {
                    note_upstream_time(response.headers_mut(), begin);
                    read(response, lease, buffer_bytes).await
                }
                Err(error) => Some(failed(&error)),
            }
        };
        match timeout {
            None => exchange.await,
            Some(timeout) => match tokio::time::timeout(timeout, exchange).await {
                Ok(answer) => answer,
                Err(_) => Some(text_answer(504, "upstream request timeout".into())),
            },
        }
    }
}

/// Puts the head together that goes over the wire.
fn request(call: HttpCall) -> Result<Request<UpstreamBody>, Status> {
    let HttpCall { mut headers, body, trailers, timeout, .. } = call;
    let method = headers.take_pseudo(Pseudo::Method).ok_or(Status::BadArgument)?;
    let path = headers.take_pseudo(Pseudo::Path).ok_or(Status::BadArgument)?;
    let authority = headers.take_pseudo(Pseudo::Authority).ok_or(Status::BadArgument)?;
    let has_trailers = !trailers.is_empty();
    let announced = has_trailers.then(|| announcement(&trailers));
    let mut request = Request::new(match body.len() {
        _ if has_trailers => UpstreamBody::Trailed(body.clone(), trailers.into_header_map()),
        0 => UpstreamBody::Empty,
        _ => UpstreamBody::Full(WholeBody::sized(body.clone())),
    });
    *request.method_mut() =
        Method::from_bytes(method.as_bytes()).map_err(|_| Status::BadArgument)?;
    *request.uri_mut() = Uri::try_from(path.as_bytes()).map_err(|_| Status::BadArgument)?;
    let map = request.headers_mut();
    map.insert(HOST, authority);
    headers.retain(|name| *name != CONTENT_LENGTH);
    for (name, value) in headers.into_regular() {
        map.append(name, value);
    }
    if let Some(names) = announced {
        // HTTP/1 has trailers only behind chunks, and only those that are announced.
        map.insert(TRAILER, names);
        map.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    } else if !body.is_empty() {
        map.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    map.insert(HeaderName::from_static("x-envoy-internal"), HeaderValue::from_static("true"));
    if let Some(timeout) = timeout {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let name = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
        map.insert(name, HeaderValue::from(milliseconds));
    }
    Ok(request)
}

/// The names of these trailers in a list.
fn announcement(trailers: &Fields) -> HeaderValue {
    let names: Vec<&[u8]> = trailers.iter().map(|(name, _)| name).collect();
    HeaderValue::from_bytes(&names.join(&b", "[..])).unwrap_or(HeaderValue::from_static(""))
}

/// Reads an answer to its end. `None` if it breaks off or is larger than what is kept.
async fn read(
    response: http::Response<Incoming>,
    lease: Lease,
    buffer_bytes: usize,
) -> Option<HttpCallResponse> {
    let (parts, body) = response.into_parts();
    let mut headers = Fields::from_header_map(FieldsKind::Response, parts.headers);
    headers.set_pseudo(Pseudo::Status, HeaderValue::from(parts.status.as_u16()));
    let mut body = LeasedBody::new(body, lease);
    let mut bytes = BytesMut::new();
    let mut trailers = Fields::new(FieldsKind::Trailers);
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(chunk) if bytes.len().saturating_add(chunk.len()) > buffer_bytes => return None,
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(frame) => {
                let map = frame.into_trailers().unwrap_or_default();
                trailers = Fields::from_header_map(FieldsKind::Trailers, map);
            }
        }
    }
    Some(HttpCallResponse { headers, body: bytes.freeze(), trailers })
}

fn failed(error: &UpstreamError) -> HttpCallResponse {
    text_answer(upstream_failure_status(error), upstream_failure_text(error).into())
}

/// An answer that the proxy makes in place of the cluster.
fn text_answer(status: u16, body: Bytes) -> HttpCallResponse {
    let mut headers = Fields::new(FieldsKind::Response);
    headers.set_pseudo(Pseudo::Status, HeaderValue::from(status));
    headers.push(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.push(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    HttpCallResponse { headers, body, trailers: Fields::new(FieldsKind::Trailers) }
}
