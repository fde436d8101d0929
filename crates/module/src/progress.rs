//! How far a transfer has come, for people who wait and for the limit on time.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use reqwest::Body;
use tokio::time::Instant;

/// What a transfer must bring on average once its time is up, in bytes a second.
///
/// A large module may take as long as it needs, and a server that trickles may not.
const MIN_BYTES_PER_SECOND: u64 = 256 * 1024;
/// Size of the pieces in which an upload is counted, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// The bytes of a fetch or a push; cheap to clone, and all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    bytes: Arc<Transferred>,
}

#[derive(Debug, Default)]
struct Transferred {
    done: AtomicU64,
    expected: AtomicU64,
}

// === impl Progress ===

impl Progress {
    /// Bytes that were transferred so far.
    pub fn done(&self) -> u64 {
        self.bytes.done.load(Ordering::Relaxed)
    }

    /// Bytes that are known to be transferred in all; grows as more becomes known.
    pub fn expected(&self) -> u64 {
        self.bytes.expected.load(Ordering::Relaxed)
    }

    pub(crate) fn expect(&self, bytes: u64) {
        self.bytes.expected.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn advance(&self, bytes: u64) {
        self.bytes.done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A request's body that counts itself as it is sent.
    pub(crate) fn stream(&self, bytes: Bytes) -> Body {
        self.expect(bytes.len() as u64);
        let progress = self.clone();
        let pieces = futures_util::stream::unfold(bytes, move |mut rest| {
            let piece = rest.split_to(rest.len().min(PIECE_BYTES));
            progress.advance(piece.len() as u64);
            async move { (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), rest)) }
        });
        Body::wrap_stream(pieces)
    }

    /// Waits until a transfer has taken longer than it may: the limit, and for each byte that came
    /// what it takes at the least rate.
    pub(crate) async fn exhausted(&self, limit: Duration) {
        let start = Instant::now();
        loop {
            let earned = Duration::from_secs(self.done() / MIN_BYTES_PER_SECOND);
            let end = start + limit + earned;
            if Instant::now() >= end {
                return;
            }
            tokio::time::sleep_until(end).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_is_earned_by_bytes() {
        let start = Instant::now();
        let (limit, progress) = (Duration::from_secs(30), Progress::default());
        progress.exhausted(limit).await;
        assert_eq!(start.elapsed(), limit);
        let start = Instant::now();
        progress.advance(10 * MIN_BYTES_PER_SECOND + 1);
        progress.exhausted(limit).await;
        assert_eq!(start.elapsed(), Duration::from_secs(40));
    }
}
