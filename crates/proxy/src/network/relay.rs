//! Moves bytes between a client and what stands behind the network filters.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use wasmplug_host::BodyBuffer;
use wasmplug_host::abi::PeerType;

use super::{Closed, NetworkChain};
use crate::filters::stats::ConnectionRecord;

/// Bytes that are read in one go.
const CHUNK_BYTES: usize = 16 << 10;
/// Most bytes that are read before they are passed on, and that wait to be written.
const MAX_WAITING: usize = 256 << 10;

/// One direction's bytes on their way out.
#[derive(Default)]
pub(crate) struct Writing {
    waiting: BodyBuffer,
    current: Bytes,
    has_end: bool,
    is_shut: bool,
    /// What was written may still lie in the connection, as with TLS.
    is_unflushed: bool,
}

/// A connection between a client and what stands behind its filters.
struct Relay<'a, C, T> {
    chain: &'a mut NetworkChain,
    client: C,
    behind: Option<T>,
    /// Whether the connection is over when what stands behind has said all.
    ends_with_behind: bool,
    /// Counts the bytes of both directions.
    record: Option<ConnectionRecord>,
    to_client: Writing,
    to_behind: Writing,
    has_client_ended: bool,
    has_behind_ended: bool,
    /// Who did the last thing that ended a direction.
    last_end: PeerType,
}

/// How a step of a relay went.
enum Progress {
    Some,
    None,
    /// The connection is over.
    Over(PeerType),
}

/// Serves a connection to its end: waits until the filters let it through, connects, and moves
/// bytes both ways until both are done or nothing moves for too long. With `ends_with_behind`, as
/// HTTP needs it, the connection is over when what stands behind the filters is.
pub(crate) async fn relay<C, T>(
    mut chain: NetworkChain,
    client: C,
    connect: impl Future<Output = io::Result<T>>,
    idle_timeout: Duration,
    ends_with_behind: bool,
    record: Option<ConnectionRecord>,
) where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    let mut connect = std::pin::pin!(connect);
    let mut is_connecting = true;
    let mut idle = std::pin::pin!(tokio::time::sleep(idle_timeout));
    let mut relay = Relay::new(&mut chain, client, ends_with_behind);
    relay.record = record;
    let mut has_started = false;
    let peer = poll_fn(|cx| {
        if !std::mem::replace(&mut has_started, true) && relay.chain.start().is_err() {
            return Poll::Ready(PeerType::Local);
        }
        loop {
            match relay.step(cx) {
                Ok(Progress::Some) => {
                    reset(idle.as_mut(), idle_timeout);
                    continue;
                }
                Ok(Progress::Over(peer)) => return Poll::Ready(peer),
                Ok(Progress::None) => {}
                Err(Closed) => {
                    // What has passed the filters already is the client's.
                    let _ = relay.to_client.poll_write(&mut relay.client, cx);
                    return Poll::Ready(PeerType::Local);
                }
            }
            // A step may have let the connection through without moving a byte.
            if !is_connecting || !relay.chain.is_through() {
                break;
            }
            match connect.as_mut().poll(cx) {
                Poll::Pending => break,
                Poll::Ready(Ok(behind)) => relay.behind = Some(behind),
                Poll::Ready(Err(error)) => {
                    tracing::warn!(error = %error, "cannot connect to the upstream");
                    return Poll::Ready(PeerType::Local);
                }
            }
            is_connecting = false;
        }
        relay.chain.shared().register(cx);
        idle.as_mut().poll(cx).map(|()| PeerType::Local)
    })
    .await;
    drop(relay);
    chain.close(peer);
}

/// Begins to wait anew.
pub(crate) fn reset(idle: Pin<&mut Sleep>, timeout: Duration) {
    if let Some(deadline) = Instant::now().checked_add(timeout) {
        idle.reset(deadline);
    }
}

/// Reads what is there, at most [`MAX_WAITING`] bytes, and whether the peer has ended.
///
/// # Errors
/// The connection broke, with nothing read before.
pub(crate) fn poll_read_available(
    io: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
) -> Poll<io::Result<(BodyBuffer, bool)>> {
    let mut bytes = BodyBuffer::default();
    while bytes.len() < MAX_WAITING {
        let mut space = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let mut chunk = ReadBuf::uninit(&mut space);
        match Pin::new(&mut *io).poll_read(cx, &mut chunk) {
            Poll::Ready(Ok(())) if chunk.filled().is_empty() => {
                return Poll::Ready(Ok((bytes, true)));
            }
            Poll::Ready(Ok(())) => bytes.push(Bytes::copy_from_slice(chunk.filled())),
            // The error comes again at the next read.
            Poll::Ready(Err(error)) if bytes.is_empty() => return Poll::Ready(Err(error)),
            Poll::Pending if bytes.is_empty() => return Poll::Pending,
            Poll::Ready(Err(_)) | Poll::Pending => break,
        }
    }
    Poll::Ready(Ok((bytes, false)))
}

// === impl Writing ===

impl Writing {
    /// Adds bytes, and says whether they are the last ones.
    pub(crate) fn add(&mut self, bytes: BodyBuffer, end: bool) {
        if self.is_shut {
            return;
        }
        self.waiting.append(bytes);
        self.has_end |= end;
    }

    /// Writes nothing any more, neither what waits nor what comes.
    fn abandon(&mut self) {
        *self = Self { has_end: true, is_shut: true, ..Self::default() };
    }

    /// Whether more may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len().saturating_add(self.current.len()) < MAX_WAITING
    }

    /// Whether everything is written, to the end.
    pub(crate) fn is_done(&self) -> bool {
        self.is_shut
    }

    /// Whether nothing waits, not even the end.
    pub(crate) fn is_empty(&self) -> bool {
        let has_bytes = !self.waiting.is_empty() || !self.current.is_empty() || self.is_unflushed;
        !has_bytes && self.has_end == self.is_shut
    }

    /// Writes what can be written; returns whether anything was.
    ///
    /// # Errors
    /// The connection broke.
    pub(crate) fn poll_write(
        &mut self,
        io: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> io::Result<bool> {
        if self.is_shut {
            return Ok(false);
        }
        let mut has_written = false;
        loop {
            if self.current.is_empty() {
                self.current = std::mem::take(&mut self.waiting).into();
            }
            if self.current.is_empty() {
                break;
            }
            match Pin::new(&mut *io).poll_write(cx, &self.current) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => {
                    (has_written, self.is_unflushed) = (true, true);
                    let _ = self.current.split_to(count.min(self.current.len()));
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(has_written),
            }
        }
        if self.is_unflushed && Pin::new(&mut *io).poll_flush(cx)?.is_ready() {
            self.is_unflushed = false;
        }
        if self.has_end && !self.is_shut {
            match Pin::new(&mut *io).poll_shutdown(cx) {
                Poll::Ready(_) => {
                    self.is_shut = true;
                    has_written = true;
                }
                Poll::Pending => {}
            }
        }
        Ok(has_written)
    }
}

// === impl Relay ===

impl<'a, C, T> Relay<'a, C, T>
where
    C: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    fn new(chain: &'a mut NetworkChain, client: C, ends_with_behind: bool) -> Self {
        Self {
            chain,
            client,
            behind: None,
            ends_with_behind,
            record: None,
            to_client: Writing::default(),
            to_behind: Writing::default(),
            has_client_ended: false,
            has_behind_ended: false,
            last_end: PeerType::Local,
        }
    }

    /// Moves whatever can be moved now.
    fn step(&mut self, cx: &mut Context<'_>) -> Result<Progress, Closed> {
        self.chain.look_at_actions()?;
        let mut has_moved = false;
        if !self.has_client_ended && self.chain.wants_more() {
            match poll_read_available(&mut self.client, cx) {
                Poll::Ready(Ok((bytes, end))) => {
                    has_moved = true;
                    if end {
                        (self.has_client_ended, self.last_end) = (true, PeerType::Remote);
                    }
                    if let Some(record) = &self.record {
                        record.received(bytes.len());
                    }
                    self.chain.receive(bytes, end)?;
                }
                Poll::Ready(Err(_)) => return Ok(Progress::Over(PeerType::Remote)),
                Poll::Pending => {}
            }
        }
        has_moved |= match self.move_behind(cx)? {
            Progress::Over(peer) => return Ok(Progress::Over(peer)),
            Progress::Some => true,
            Progress::None => false,
        };
        match self.to_client.poll_write(&mut self.client, cx) {
            Ok(has_written) => has_moved |= has_written,
            Err(_) => return Ok(Progress::Over(PeerType::Remote)),
        }
        if self.is_over() {
            return Ok(Progress::Over(self.last_end));
        }
        Ok(if has_moved { Progress::Some } else { Progress::None })
    }

    /// The same for what stands behind the filters, as soon as there is something.
    fn move_behind(&mut self, cx: &mut Context<'_>) -> Result<Progress, Closed> {
        let Some(behind) = &mut self.behind else { return Ok(Progress::None) };
        if self.to_behind.has_room() {
            let (bytes, end) = self.chain.take_outgoing();
            self.to_behind.add(bytes, end);
        }
        let mut has_moved = self.to_behind.poll_write(behind, cx).unwrap_or_else(|_| {
            // It takes nothing any more; what it said before is still the client's.
            self.to_behind.abandon();
            true
        });
        if self.to_client.has_room()
            && let Some((bytes, end)) = self.chain.take_orphaned()?
        {
            has_moved = true;
            self.to_client.add(bytes, end);
        }
        if !self.has_behind_ended && self.to_client.has_room() && self.chain.wants_more_back() {
            match poll_read_available(behind, cx) {
                Poll::Ready(Ok((bytes, end))) => {
                    has_moved = true;
                    if end {
                        (self.has_behind_ended, self.last_end) = (true, PeerType::Local);
                    }
                    let (bytes, end) = self.chain.send(bytes, end)?;
                    if let Some(record) = &self.record {
                        record.sent(bytes.len());
                    }
                    self.to_client.add(bytes, end);
                }
                Poll::Ready(Err(_)) if self.to_client.is_empty() => {
                    return Ok(Progress::Over(PeerType::Local));
                }
                // What it said before goes out first.
                Poll::Ready(Err(_)) | Poll::Pending => {}
            }
        }
        Ok(if has_moved { Progress::Some } else { Progress::None })
    }

    /// Whether nothing can move any more.
    fn is_over(&self) -> bool {
        // A plugin may keep the end of what the other side says, and with it the last bytes.
        let has_said_all =
            self.to_client.is_done() || (self.has_behind_ended && self.to_client.is_empty());
        // An HTTP that is over takes nothing any more, and its client may never end.
        let takes_nothing = self.ends_with_behind && self.has_behind_ended;
        has_said_all && (self.to_behind.is_done() || takes_nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read from so many bytes that are all there.
    async fn read(count: usize) -> (usize, bool) {
        let there = vec![b'x'; count];
        let mut rest = &there[..];
        let (bytes, end) = poll_fn(|cx| poll_read_available(&mut rest, cx)).await.unwrap();
        (bytes.len(), end)
    }

    #[tokio::test]
    async fn no_more_is_read_at_once_than_may_wait() {
        assert_eq!(read(MAX_WAITING - 1).await, (MAX_WAITING - 1, true));
        assert_eq!(read(MAX_WAITING * 2).await, (MAX_WAITING, false));
    }

    #[test]
    fn there_is_room_until_so_many_bytes_wait() {
        let mut writing = Writing::default();
        writing.add(Bytes::from(vec![b'x'; MAX_WAITING - 1]).into(), false);
        assert!(writing.has_room());
        writing.add(Bytes::from_static(b"x").into(), false);
        assert!(!writing.has_room());
    }
}
