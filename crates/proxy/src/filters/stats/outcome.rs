//! What a stream or a connection came to.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::Frame;

use super::WorkerStats;
use super::series::{Key, Series, Texts, add};
use crate::attributes::{StreamShared, flags};
use crate::listener::Identities;
use crate::local_reply::is_grpc;

/// Bytes before each message of gRPC: one flag and a length.
const GRPC_PREFIX: usize = 5;

/// What a stream came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) key: Key,
    /// Host that the request named, where it counts.
    pub(crate) host: Option<HeaderValue>,
    /// Values of configured tags.
    pub(crate) tags: Vec<String>,
    /// Who speaks on the connection; `None` in plain text.
    pub(crate) identities: Option<Arc<Identities>>,
    pub(crate) milliseconds: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
    pub(crate) request_messages: u64,
    pub(crate) response_messages: u64,
}

/// Bytes of one direction, and the messages of gRPC in them.
#[derive(Debug, Default)]
pub(crate) struct MessageCount {
    is_grpc: bool,
    bytes: Cell<u64>,
    messages: Cell<u64>,
    /// Bytes of the current message that are still to come.
    rest: Cell<u64>,
    /// What has come of the next message's prefix, and how much of it.
    prefix: Cell<([u8; GRPC_PREFIX], usize)>,
}

/// A stream that no filter sees; counted when it is dropped.
#[derive(Debug)]
pub(crate) struct StreamRecord {
    stats: Rc<WorkerStats>,
    started: Instant,
    host: Option<HeaderValue>,
    identities: Option<Arc<Identities>>,
    code: u16,
    flags: u64,
    grpc_status: Option<u32>,
    is_grpc: bool,
    /// What counts the request's body, if it has one.
    request: Option<Rc<MessageCount>>,
    response: MessageCount,
}

/// A connection that is not HTTP; counted as closed when it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionRecord(Arc<Series>);

// === impl Outcome ===

impl Outcome {
    /// What a stream that went through the chain came to; `messages` to the upstream and from it, if
    /// they are gRPC.
    pub(super) fn of_stream(
        shared: &StreamShared,
        host: Option<HeaderValue>,
        tags: Vec<String>,
        messages: [Option<u64>; 2],
    ) -> Self {
        let [request_messages, response_messages] = messages;
        Self {
            key: Key {
                is_tcp: false,
                is_grpc: request_messages.is_some(),
                code: shared.response_code.get().unwrap_or_default(),
                grpc_status: shared.grpc_status.get(),
                flags: shared.response_flags.get(),
            },
            host,
            tags,
            identities: shared.connection_info().identities().cloned(),
            milliseconds: milliseconds(shared.elapsed()),
            request_bytes: shared.request_bytes.get(),
            response_bytes: shared.sent_bytes.get(),
            request_messages: request_messages.unwrap_or_default(),
            response_messages: response_messages.unwrap_or_default(),
        }
    }

    pub(super) fn texts(&self) -> Texts<'_> {
        Texts {
            host: self.host.as_ref().map_or(&[], HeaderValue::as_bytes),
            tags: &self.tags,
            identities: self.identities.as_ref(),
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

// === impl MessageCount ===

impl MessageCount {
    pub(crate) fn new(is_grpc: bool) -> Self {
        Self { is_grpc, ..Self::default() }
    }

    /// How many messages have begun; `None` if they are not gRPC.
    pub(crate) fn messages(&self) -> Option<u64> {
        self.is_grpc.then(|| self.messages.get())
    }

    /// Takes the next bytes of the direction.
    pub(crate) fn feed(&self, bytes: &[u8]) {
        let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes.set(self.bytes.get().saturating_add(count));
        if self.is_grpc {
            self.find_messages(bytes);
        }
    }

    /// Source: the gRPC specification, "Length-Prefixed-Message".
    fn find_messages(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let rest = self.rest.get();
            if rest > 0 {
                let skipped = usize::try_from(rest).unwrap_or(usize::MAX).min(bytes.len());
                self.rest.set(rest.saturating_sub(u64::try_from(skipped).unwrap_or(rest)));
                bytes = bytes.get(skipped..).unwrap_or_default();
                continue;
            }
            let (mut prefix, mut filled) = self.prefix.get();
            let taken = GRPC_PREFIX.saturating_sub(filled).min(bytes.len());
            for (place, byte) in prefix.iter_mut().skip(filled).zip(bytes) {
                *place = *byte;
            }
            filled = filled.saturating_add(taken);
            bytes = bytes.get(taken..).unwrap_or_default();
            if filled == GRPC_PREFIX {
                let [_, a, b, c, d] = prefix;
                self.messages.set(self.messages.get().saturating_add(1));
                self.rest.set(u32::from_be_bytes([a, b, c, d]).into());
                filled = 0;
            }
            self.prefix.set((prefix, filled));
        }
    }
}

// === impl StreamRecord ===

impl StreamRecord {
    pub(super) fn new(
        stats: Rc<WorkerStats>,
        headers: &HeaderMap,
        identities: Option<Arc<Identities>>,
    ) -> Self {
        let is_grpc = is_grpc(headers.get(CONTENT_TYPE));
        let host = headers.get(HOST).filter(|_| stats.wants_host()).cloned();
        Self {
            stats,
            started: Instant::now(),
            host,
            identities,
            code: 0,
            flags: 0,
            grpc_status: None,
            is_grpc,
            request: None,
            response: MessageCount::new(is_grpc),
        }
    }

    /// What counts the bytes of the request.
    pub(crate) fn request_count(&mut self) -> Rc<MessageCount> {
        let new = || Rc::new(MessageCount::new(self.is_grpc));
        Rc::clone(self.request.get_or_insert_with(new))
    }

    /// Notes the head of the response.
    pub(crate) fn answered(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.code = status.as_u16();
        self.note_grpc_status(headers);
    }

    /// Notes why the upstream did not answer.
    pub(crate) fn failed(&mut self, flags: u64) {
        self.flags |= flags;
    }

    /// Takes a frame of the response's body.
    pub(crate) fn feed(&mut self, frame: &Frame<Bytes>) {
        if let Some(bytes) = frame.data_ref() {
            self.response.feed(bytes);
        }
        if let Some(trailers) = frame.trailers_ref() {
            self.note_grpc_status(trailers);
        }
    }

    fn note_grpc_status(&mut self, headers: &HeaderMap) {
        let status = headers.get("grpc-status").and_then(|status| status.to_str().ok());
        if let Some(status) = status.and_then(|status| status.parse().ok()) {
            self.grpc_status = Some(status);
        }
    }
}

impl Drop for StreamRecord {
    fn drop(&mut self) {
        if self.code == 0 && self.flags == 0 {
            // The client left before there was an answer.
            self.flags = flags::DOWNSTREAM_CONNECTION_TERMINATION;
        }
        let outcome = Outcome {
            key: Key {
                is_tcp: false,
                is_grpc: self.is_grpc,
                code: self.code,
                grpc_status: self.grpc_status,
                flags: self.flags,
            },
            host: self.host.take(),
            tags: Vec::new(),
            identities: self.identities.take(),
            milliseconds: milliseconds(self.started.elapsed()),
            request_bytes: self.request.as_ref().map_or(0, |of| of.bytes.get()),
            response_bytes: self.response.bytes.get(),
            request_messages: self.request.as_ref().map_or(0, |of| of.messages.get()),
            response_messages: self.response.messages.get(),
        };
        self.stats.record(&outcome);
    }
}

// === impl ConnectionRecord ===

impl ConnectionRecord {
    pub(super) fn new(series: Arc<Series>) -> Self {
        add(&series.tcp_opened, 1);
        Self(series)
    }

    /// Counts bytes from the client.
    pub(crate) fn received(&self, bytes: usize) {
        add(&self.0.tcp_received, u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Counts bytes to the client.
    pub(crate) fn sent(&self, bytes: usize) {
        add(&self.0.tcp_sent, u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        add(&self.0.tcp_closed, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::MessageCount;

    #[test]
    fn messages_are_counted_however_their_bytes_arrive() {
        let stream = [&[0, 0, 0, 0, 3][..], b"abc", &[1, 0, 0, 0, 0], &[0, 0, 0, 0, 1], b"x"];
        let stream = stream.concat();
        for size in 1..=stream.len() {
            let count = MessageCount::new(true);
            stream.chunks(size).for_each(|chunk| count.feed(chunk));
            assert_eq!(count.messages.get(), 3, "in chunks of {size}");
            assert_eq!(count.bytes.get(), u64::try_from(stream.len()).unwrap());
        }
    }

    #[test]
    fn what_is_not_grpc_has_no_messages() {
        let count = MessageCount::new(false);
        count.feed(&[0, 0, 0, 0, 0]);
        assert_eq!((count.messages.get(), count.bytes.get()), (0, 5));
    }
}
