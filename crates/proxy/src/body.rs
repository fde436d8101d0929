//! Message bodies on their way through: straight, or through the chain.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use crate::callout::MessagesBody;
use crate::filter::Side;
use crate::filters::stats::{MessageCount, StreamRecord};
use crate::stream::Stream;
use crate::upstream::{Deadline, Lease};

/// Why a body ends before its end; the peer sees the connection or the stream cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the peer ended the body early")]
    Peer(#[source] hyper::Error),
    #[error("the stream was reset")]
    Reset,
    #[error("the upstream did not end its response in time")]
    Timeout,
}

/// Body of a request to the upstream.
pub(crate) enum UpstreamBody {
    Empty,
    /// Everything at once.
    Full(WholeBody),
    /// No filter looks at it.
    Straight(Incoming, Option<Rc<MessageCount>>),
    /// Read through the chain.
    Filtered(FilteredBody),
    /// Bytes and trailers, each taken once.
    Trailed(Bytes, HeaderMap),
    /// What a plugin goes on writing.
    Messages(MessagesBody),
    /// One of the others, whose end somebody waits for.
    Watched(Box<UpstreamBody>, #[expect(dead_code, reason = "dropped with the body")] BodySent),
}

/// Tells by being dropped that a body was sent, or that it never will be.
pub(crate) type BodySent = oneshot::Sender<std::convert::Infallible>;

/// Body of a response to the client.
pub(crate) enum DownstreamBody {
    /// Everything at once; ends the stream when it is dropped.
    Full(WholeBody, End),
    /// No filter looks at it.
    Straight(LeasedBody, Option<StreamRecord>),
    /// Read through the chain; ends the stream when it is dropped.
    Filtered(FilteredBody, FinishOnDrop),
}

/// What happens at the end of a response.
pub(crate) enum End {
    Nothing,
    /// The stream ends.
    Finish(#[expect(dead_code, reason = "dropped with the body")] FinishOnDrop),
    /// A stream that no filter saw is counted.
    Record(StreamRecord),
}

/// A body that is known as a whole before its head is sent.
#[derive(Clone, Debug)]
pub(crate) struct WholeBody {
    bytes: Option<Bytes>,
    framing: Framing,
    is_read: bool,
}

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// There is only a head.
    Bare,
    /// By `content-length`.
    Length,
    /// By chunks, because nobody announced a length. Source: Envoy.
    Chunks,
}

/// One direction of a stream, read from the end of its chain.
pub(crate) struct FilteredBody {
    stream: Rc<Stream>,
    side: Side,
}

/// Ends the stream at the latest when its response is gone.
pub(crate) struct FinishOnDrop(Rc<Stream>);

/// Body of an upstream's response, which gives the connection back at its end.
pub(crate) struct LeasedBody {
    incoming: Incoming,
    lease: Option<Lease>,
    /// When it must have ended.
    deadline: Option<Deadline>,
}

// === impl WholeBody ===

impl WholeBody {
    /// A body that goes with these headers, whose length they then tell if they tell any.
    ///
    /// `is_bare` says that the message had no body from the start.
    pub(crate) fn framed(headers: &mut HeaderMap, bytes: Bytes, is_bare: bool) -> Self {
        match headers.get_mut(CONTENT_LENGTH) {
            // A length without a body, for `HEAD` and 304.
            Some(length) if is_bare && length != "0" => Self::new(bytes, Framing::Bare),
            Some(length) => {
                if !says(length, bytes.len()) {
                    *length = HeaderValue::from(bytes.len());
                }
                Self::new(bytes, Framing::Length)
            }
            None if is_bare => Self::new(bytes, Framing::Bare),
            None => Self::new(bytes, Framing::Chunks),
        }
    }

    /// A body whose length is told.
    pub(crate) fn sized(bytes: Bytes) -> Self {
        Self::new(bytes, Framing::Length)
    }

    fn new(bytes: Bytes, framing: Framing) -> Self {
        let bytes = Some(bytes).filter(|bytes| !bytes.is_empty());
        Self { bytes, framing, is_read: false }
    }

    fn poll_next(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.is_read = true;
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    /// hyper takes a body that is over from the start for none at all, and then says so itself.
    fn is_end_stream(&self) -> bool {
        self.bytes.is_none() && (self.is_read || self.framing == Framing::Bare)
    }

    fn size_hint(&self) -> SizeHint {
        match (self.framing, &self.bytes) {
            (Framing::Chunks, _) => SizeHint::default(),
            (_, Some(bytes)) => {
                SizeHint::with_exact(u64::try_from(bytes.len()).unwrap_or(u64::MAX))
            }
            (_, None) => SizeHint::with_exact(0),
        }
    }
}

/// Whether a length is written as this number is. Most are, and need no new value.
fn says(length: &HeaderValue, number: usize) -> bool {
    let text = length.as_bytes();
    let is_plain = text.first().is_some_and(|first| *first != b'0' || text.len() == 1);
    let digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    is_plain
        && digits(text)
        && std::str::from_utf8(text).is_ok_and(|text| text.parse() == Ok(number))
}

// === impl FilteredBody ===

impl FilteredBody {
    pub(crate) fn new(stream: Rc<Stream>, side: Side) -> Self {
        Self { stream, side }
    }
}

impl Drop for FilteredBody {
    fn drop(&mut self) {
        if self.side == Side::Request {
            self.stream.request_body_dropped();
        }
    }
}

// === impl FinishOnDrop ===

impl FinishOnDrop {
    pub(crate) fn new(stream: Rc<Stream>) -> Self {
        Self(stream)
    }
}

impl Drop for FinishOnDrop {
    fn drop(&mut self) {
        self.0.finish();
    }
}

// === impl LeasedBody ===

impl LeasedBody {
    pub(crate) fn new(incoming: Incoming, mut lease: Lease) -> Self {
        let deadline = lease.take_deadline();
        let mut body = Self { incoming, lease: Some(lease), deadline };
        if body.incoming.is_end_stream() {
            body.release();
        }
        body
    }

    /// The next frame; gives the connection back with the last one.
    pub(crate) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.incoming.is_end_stream() {
            // The length is known and reached: no need to wait for the connection to say so.
            self.release();
            return Poll::Ready(None);
        }
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            (self.lease, self.deadline) = (None, None);
            return Poll::Ready(Some(Err(BodyError::Timeout)));
        }
        let frame = std::task::ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        match frame {
            Some(Ok(frame)) => {
                if self.incoming.is_end_stream() {
                    self.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.lease = None;
                Poll::Ready(Some(Err(BodyError::Peer(error))))
            }
            None => {
                self.release();
                Poll::Ready(None)
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
    }
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.get_mut().poll_next(cx)
    }
}

// === impl UpstreamBody ===

impl UpstreamBody {
    /// The same body once more, if it is there as a whole. Copies no bytes.
    pub(crate) fn replay(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Full(body) => Some(Self::Full(body.clone())),
            _ => None,
        }
    }

    /// Something that ends when the body was sent. `None` if it is there as a whole.
    pub(crate) fn when_sent(&mut self) -> Option<oneshot::Receiver<std::convert::Infallible>> {
        if matches!(self, Self::Empty | Self::Full(_) | Self::Trailed(..)) {
            return None;
        }
        let (sent, is_sent) = oneshot::channel();
        let inner = std::mem::replace(self, Self::Empty);
        *self = Self::Watched(Box::new(inner), sent);
        Some(is_sent)
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(body) => body.poll_next(),
            Self::Straight(incoming, count) => {
                let frame = std::task::ready!(Pin::new(incoming).poll_frame(cx));
                if let (Some(count), Some(Ok(frame))) = (count, &frame)
                    && let Some(bytes) = frame.data_ref()
                {
                    count.feed(bytes);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Peer)))
            }
            Self::Filtered(body) => body.stream.poll_outlet(body.side, cx),
            Self::Trailed(bytes, _) if !bytes.is_empty() => {
                Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes)))))
            }
            Self::Trailed(_, trailers) if !trailers.is_empty() => {
                Poll::Ready(Some(Ok(Frame::trailers(std::mem::take(trailers)))))
            }
            Self::Messages(messages) => messages.poll_next(cx),
            Self::Watched(body, _) => Pin::new(&mut **body).poll_frame(cx),
            Self::Trailed(..) | Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Trailed(bytes, trailers) => bytes.is_empty() && trailers.is_empty(),
            Self::Messages(_) => false,
            Self::Watched(body, _) => body.is_end_stream(),
            Self::Full(body) => body.is_end_stream(),
            Self::Straight(incoming, _) => incoming.is_end_stream(),
            Self::Filtered(body) => body.stream.is_outlet_drained(body.side),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(body) => body.size_hint(),
            Self::Straight(incoming, _) => incoming.size_hint(),
            Self::Watched(body, _) => body.size_hint(),
            Self::Filtered(_) | Self::Trailed(..) | Self::Messages(_) => SizeHint::default(),
        }
    }
}

// === impl DownstreamBody ===

impl DownstreamBody {
    /// The same body, at whose end the stream is counted.
    pub(crate) fn recorded(self, record: StreamRecord) -> Self {
        match self {
            Self::Full(body, _) => Self::Full(body, End::Record(record)),
            other => other,
        }
    }

    /// The body of an answer to `HEAD`: whatever its head says, nothing follows.
    pub(crate) fn without_bytes(self) -> Self {
        match self {
            Self::Full(_, end) => Self::Full(WholeBody::new(Bytes::new(), Framing::Bare), end),
            // What a filter still holds is for nobody.
            Self::Filtered(_, finish) => {
                let body = WholeBody::new(Bytes::new(), Framing::Bare);
                Self::Full(body, End::Finish(finish))
            }
            other @ Self::Straight(..) => other,
        }
    }
}

impl Body for DownstreamBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Full(body, end) => {
                let frame = body.poll_next();
                if let (End::Record(record), Poll::Ready(Some(Ok(frame)))) = (end, &frame) {
                    record.feed(frame);
                }
                frame
            }
            Self::Straight(body, record) => {
                let frame = body.poll_next(cx);
                if let (Some(record), Poll::Ready(Some(Ok(frame)))) = (record, &frame) {
                    record.feed(frame);
                }
                frame
            }
            Self::Filtered(body, _) => body.stream.poll_outlet(body.side, cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Full(body, _) => body.is_end_stream(),
            Self::Straight(body, _) => body.is_end_stream(),
            Self::Filtered(body, _) => body.stream.is_outlet_drained(body.side),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Full(body, _) => body.size_hint(),
            Self::Straight(body, _) => body.incoming.size_hint(),
            Self::Filtered(..) => SizeHint::default(),
        }
    }
}
