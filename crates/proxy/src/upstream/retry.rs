//! Which requests may be sent once more, and what is kept for it.
//!
//! A request is repeated only if it is certain that nobody acted on it, or if acting on it twice is
//! the same as once: the upstream gave it back unread, or closed a connection that had been used
//! before without a byte of an answer to a request that is idempotent.
//!
//! Source: RFC 9110, 9.2.2; RFC 9112, 9.3.1; RFC 9113, 8.7.

use std::error::Error;
use std::io;

use http::{HeaderMap, Method, Request, Uri};

use super::lease::Lease;
use crate::body::UpstreamBody;

/// What is kept of a request until its response has begun.
pub(super) struct Kept {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: UpstreamBody,
    is_reused: bool,
}

// === impl Kept ===

impl Kept {
    /// Keeps a request that may have to be repeated. `None` for all others, which costs nothing:
    /// one whose body is read while it is sent, and over HTTP/1 what is not idempotent or goes over
    /// a new connection.
    pub(super) fn of(
        request: &Request<UpstreamBody>,
        lease: &Lease,
        is_reused: bool,
    ) -> Option<Self> {
        if lease.is_http1() && !(is_reused && request.method().is_idempotent()) {
            return None;
        }
        Some(Self {
            body: request.body().replay()?,
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            is_reused,
        })
    }

    /// Whether this failure lets the request be repeated.
    pub(super) fn may_repeat(&self, error: &hyper::Error, lease: &Lease) -> bool {
        let cause = error.source();
        let gave_up = self.is_reused && self.method.is_idempotent() && !lease.has_received();
        if lease.is_http1() {
            let is_io = cause.is_some_and(<dyn Error>::is::<io::Error>);
            return gave_up && (error.is_incomplete_message() || error.is_closed() || is_io);
        }
        let Some(cause) = cause.and_then(|cause| cause.downcast_ref::<h2::Error>()) else {
            return false;
        };
        let is_refused = cause.reason() == Some(h2::Reason::REFUSED_STREAM);
        // A GOAWAY ends those streams only that the upstream has not looked at.
        cause.is_remote() && (is_refused || cause.is_go_away()) || gave_up && cause.is_io()
    }

    /// The request once more.
    pub(super) fn into_request(self) -> Request<UpstreamBody> {
        let mut request = Request::new(self.body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.headers_mut() = self.headers;
        request
    }
}
