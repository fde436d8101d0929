//! Heads of messages: what is added to them and what is left out, on the way to an upstream and back.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, SERVER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use wasmplug_host::Fields;

use crate::body::UpstreamBody;
use crate::worker::Worker;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Time that the upstream took until its answer began, in milliseconds. Source: Envoy.
pub(super) const X_UPSTREAM_TIME: HeaderName =
    HeaderName::from_static("x-envoy-upstream-service-time");

/// What the client asked for, where filters have only seen copies.
pub(super) struct Received {
    pub(super) method: Method,
    pub(super) uri: Uri,
}

// === impl Received ===

impl Received {
    /// The target that a `:path` stands for. Nearly always it is the one that came, which was parsed
    /// already.
    pub(super) fn target(&self, path: &HeaderValue) -> Option<Uri> {
        match self.uri.path_and_query() {
            Some(same) if same.as_str().as_bytes() == path.as_bytes() => {
                Some(Uri::from(same.clone()))
            }
            _ => Uri::from_maybe_shared(Bytes::copy_from_slice(path.as_bytes())).ok(),
        }
    }
}

/// Adds what Envoy adds to a request.
pub(super) fn prepare_headers(headers: &mut HeaderMap, transport: &'static str) {
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(transport));
    }
    if !headers.contains_key(X_REQUEST_ID)
        && let Some(id) = request_id()
    {
        headers.insert(X_REQUEST_ID, id);
    }
}

/// The same for a head that was taken apart.
pub(super) fn prepare_fields(headers: &mut Fields, transport: &'static str) {
    if headers.get_name(&X_FORWARDED_PROTO).is_none() {
        headers.push(X_FORWARDED_PROTO, HeaderValue::from_static(transport));
    }
    if headers.get_name(&X_REQUEST_ID).is_none()
        && let Some(id) = request_id()
    {
        headers.push(X_REQUEST_ID, id);
    }
}

/// What the target says, else what a proxy in front tells, else how the client came here. Source:
/// Envoy.
pub(super) fn scheme(uri: &Uri, headers: &HeaderMap, transport: &'static str) -> &'static str {
    let told = uri.scheme_str().map(str::as_bytes);
    let told = told.or_else(|| Some(headers.get(X_FORWARDED_PROTO)?.as_bytes()));
    match told {
        Some(b"https") => "https",
        Some(b"http") => "http",
        _ => transport,
    }
}

/// A fresh `x-request-id`.
fn request_id() -> Option<HeaderValue> {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let id = uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes()).into_uuid();
    HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)).ok()
}

/// Makes one header of the cookies of a client that sends them one by one, as HTTP/2 allows.
///
/// Source: RFC 9113, 8.2.3; Envoy.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let cookies: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Says what follows the head where hyper would not, or would not send it.
///
/// Source: Envoy; RFC 9110, 8.6 for methods that usually have a body.
pub(super) fn announce_body(request: &mut Request<UpstreamBody>) {
    if request.headers().contains_key(CONTENT_LENGTH) {
        return;
    }
    let is_empty = matches!(request.body(), UpstreamBody::Empty);
    let is_usually_empty = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::DELETE | Method::TRACE | Method::CONNECT
    );
    match (is_empty, is_usually_empty) {
        (true, false) => {
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(0));
        }
        (false, true) => {
            let chunked = HeaderValue::from_static("chunked");
            request.headers_mut().insert(TRANSFER_ENCODING, chunked);
        }
        _ => {}
    }
}

/// What HTTP/1 sends in its request line: no scheme, no authority.
pub(super) fn origin_form(uri: Uri) -> Uri {
    if uri.authority().is_none() {
        return uri;
    }
    uri.into_parts().path_and_query.map_or_else(|| Uri::from_static("/"), Uri::from)
}

/// Headers by which a plugin would decide about the client's connection. Source: Envoy removes
/// them from every response.
pub(super) fn is_framing(name: &HeaderName) -> bool {
    *name == CONNECTION || *name == TRANSFER_ENCODING || *name == UPGRADE
}

/// The last touch on every response. Source: Envoy: `date` if absent, `server` always.
pub(super) fn finish_headers(worker: &Worker, headers: &mut HeaderMap) {
    if !headers.contains_key(DATE) {
        headers.insert(DATE, worker.date());
    }
    headers.insert(SERVER, worker.config().server_name.clone());
}

/// The same for a head that is still in pieces.
pub(super) fn finish_fields(worker: &Worker, headers: &mut Fields) {
    if headers.get_name(&DATE).is_none() {
        headers.push(DATE, worker.date());
    }
    headers.set_name(SERVER, worker.config().server_name.clone());
}

/// Says how long the upstream, or a cluster, took until its answer began. Source: Envoy.
pub(crate) fn note_upstream_time(headers: &mut HeaderMap, begin: tokio::time::Instant) {
    headers.insert(X_UPSTREAM_TIME, milliseconds(begin));
}

/// Time since then in milliseconds, as a header value. Few are above nine, so those cost no
/// allocation.
pub(super) fn milliseconds(begin: tokio::time::Instant) -> HeaderValue {
    const FEW: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let time = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let few = usize::try_from(time).ok().and_then(|time| FEW.get(time));
    few.map_or_else(|| HeaderValue::from(time), |text| HeaderValue::from_static(text))
}
