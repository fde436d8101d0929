//! Looking at the first bytes of a connection without taking them from whoever reads it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, Interest, ReadBuf, Ready};
use tokio::net::TcpStream;

/// Before the next look at first bytes that came in pieces, so as not to spin. Source: ours.
const PEEK_PAUSE: Duration = Duration::from_millis(5);

/// A connection whose first bytes can be looked at.
pub(crate) trait Peek {
    /// Whether the first bytes are these; they stay to be read.
    fn begins_with<const N: usize>(&mut self, start: &[u8; N]) -> impl Future<Output = bool>;
}

/// A connection that gives its first bytes again after somebody has looked at them.
pub(crate) struct Rewound<T> {
    start: Vec<u8>,
    io: T,
}

// === impl TcpStream ===

impl Peek for TcpStream {
    async fn begins_with<const N: usize>(&mut self, start: &[u8; N]) -> bool {
        let mut seen = [0; N];
        loop {
            let Ok(count) = self.peek(&mut seen).await else { return false };
            let so_far = seen.get(..count).unwrap_or_default();
            if so_far.is_empty() || !start.starts_with(so_far) {
                return false;
            }
            if count == N {
                return true;
            }
            let ready = self.ready(Interest::READABLE).await;
            if ready.is_ok_and(Ready::is_read_closed) {
                return false;
            }
            // The system tells of bytes that are there, not of further ones.
            tokio::time::sleep(PEEK_PAUSE).await;
        }
    }
}

// === impl Rewound ===

impl<T> Rewound<T> {
    pub(crate) fn new(io: T) -> Self {
        Self { start: Vec::new(), io }
    }
}

impl<T: AsyncRead + Unpin> Peek for Rewound<T> {
    async fn begins_with<const N: usize>(&mut self, start: &[u8; N]) -> bool {
        while self.start.len() < N && start.starts_with(&self.start) {
            match self.io.read_buf(&mut self.start).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        self.start.starts_with(start)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Rewound<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.start.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, out);
        }
        let count = self.start.len().min(out.remaining());
        for byte in self.start.drain(..count) {
            out.put_slice(&[byte]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Rewound<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{Peek, Rewound};
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn bytes_that_were_looked_at_are_read_again() {
        for (sent, begins) in [(&b"PRI * HTTP"[..], true), (b"PUT /", false), (b"P", false)] {
            let mut io = Rewound::new(sent);
            assert_eq!(io.begins_with(b"PRI").await, begins, "{sent:?}");
            let mut read = Vec::new();
            io.read_to_end(&mut read).await.unwrap();
            assert_eq!(read, sent);
        }
    }
}
