//! Reads the bodies of both messages into the chain.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::Body;
use wasmplug_host::{BodyBuffer, Fields, FieldsKind};

use super::{Inner, note_grpc_status};
use crate::attributes::StreamShared;
use crate::body::LeasedBody;
use crate::filter::Side;

impl Inner {
    /// Shows plugins the end of a body whose announced length is reached. Who writes the body does
    /// not ask for more when everything that was announced has been written.
    pub(super) fn pass_known_end(
        &mut self,
        shared: &StreamShared,
        side: Side,
        cx: &mut Context<'_>,
    ) {
        let (is_known, poll): (_, fn(&mut Self, &StreamShared, &mut Context<'_>) -> _) = match side
        {
            Side::Request => (
                self.request_body.as_ref().is_some_and(Body::is_end_stream),
                Self::poll_request_body,
            ),
            Side::Response => (
                self.response_body.as_ref().is_some_and(LeasedBody::is_end_stream),
                Self::poll_response_body,
            ),
        };
        if is_known && poll(self, shared, cx).is_ready() {
            // A plugin may have answered or cut the stream: others wait for that.
            shared.wake_all();
        }
    }

    /// Reads one frame of the request body into the chain.
    pub(super) fn poll_request_body(
        &mut self,
        shared: &StreamShared,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if self.is_replied || !self.request.wants_more() {
            return Poll::Pending;
        }
        let Some(body) = &mut self.request_body else { return Poll::Pending };
        // Where the length is known and reached, there is no need to wait for the connection.
        let frame = if body.is_end_stream() {
            None
        } else {
            std::task::ready!(Pin::new(&mut *body).poll_frame(cx))
        };
        let ends_now = !self.is_http1 && body.is_end_stream();
        shared.note_activity();
        let step = match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => {
                    let received = shared.request_bytes.get().saturating_add(count(&bytes));
                    shared.request_bytes.set(received);
                    if ends_now {
                        self.request_body = None;
                    }
                    self.request.start_body(&mut self.filters, bytes.into(), ends_now)
                }
                Err(frame) => {
                    self.request_body = None;
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let trailers = Fields::from_header_map(FieldsKind::Trailers, trailers);
                    self.request.start_trailers(&mut self.filters, trailers)
                }
            },
            Some(Err(error)) => {
                tracing::debug!(error = %error, "request body ended early");
                self.request_body = None;
                self.is_reset = true;
                return Poll::Ready(());
            }
            None => {
                self.request_body = None;
                self.request.start_body(&mut self.filters, BodyBuffer::default(), true)
            }
        };
        self.settle(shared, Side::Request, step);
        Poll::Ready(())
    }

    /// Reads one frame of the response body into the chain.
    pub(super) fn poll_response_body(
        &mut self,
        shared: &StreamShared,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if !self.response.wants_more() {
            return Poll::Pending;
        }
        let Some(body) = &mut self.response_body else { return Poll::Pending };
        let step = match std::task::ready!(body.poll_next(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => {
                    shared.note_activity();
                    let sent = shared.response_bytes.get().saturating_add(count(&bytes));
                    shared.response_bytes.set(sent);
                    if self.is_grpc {
                        self.messages[1].feed(&bytes);
                    }
                    let ends_now = !self.is_upstream_http1 && body.is_end_stream();
                    if ends_now {
                        self.response_body = None;
                    }
                    self.response.start_body(&mut self.filters, bytes.into(), ends_now)
                }
                Err(frame) => {
                    self.response_body = None;
                    let trailers = frame.into_trailers().unwrap_or_default();
                    let trailers = Fields::from_header_map(FieldsKind::Trailers, trailers);
                    note_grpc_status(shared, &trailers);
                    self.response.start_trailers(&mut self.filters, trailers)
                }
            },
            Some(Err(error)) => {
                tracing::debug!(error = %error, "response body ended early");
                self.is_reset = true;
                return Poll::Ready(());
            }
            None => {
                self.response_body = None;
                self.response.start_body(&mut self.filters, BodyBuffer::default(), true)
            }
        };
        self.settle(shared, Side::Response, step);
        Poll::Ready(())
    }
}

/// How many there are.
pub(super) fn count(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
