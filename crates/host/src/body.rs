//! A message body as a plugin sees it: bytes that it may read, cut, prepend to and append to.

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use crate::abi::Status;

/// Most chunks that a plugin may make of a body before they are put together.
///
/// Each costs memory of its own, however short it is.
const MAX_CHUNKS: usize = 64;

/// Bytes of a body, in chunks as they arrived.
#[derive(Clone, Debug, Default)]
pub struct BodyBuffer {
    chunks: SmallVec<[Bytes; 2]>,
    len: usize,
    is_modified: bool,
}

// === impl BodyBuffer ===

impl BodyBuffer {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a plugin changed the bytes since the buffer was made.
    ///
    /// Whoever sends them must then not announce the old length.
    pub fn is_modified(&self) -> bool {
        self.is_modified
    }

    /// Appends what arrived, without marking the buffer as modified.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.len = self.len.saturating_add(chunk.len());
            self.chunks.push(chunk);
        }
    }

    /// Appends all of `other`.
    pub fn append(&mut self, other: Self) {
        self.is_modified |= other.is_modified;
        if self.chunks.is_empty() {
            (self.chunks, self.len) = (other.chunks, other.len);
            return;
        }
        for chunk in other.chunks {
            self.push(chunk);
        }
    }

    /// Takes the chunks out in order, none of them empty.
    pub fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        self.chunks.into_iter()
    }

    /// Copies the bytes from `start` into `out`, as many as fit and exist.
    pub(crate) fn copy_range(&self, start: usize, mut out: &mut [u8]) {
        let mut skip = start;
        for chunk in &self.chunks {
            let Some(tail) = chunk.get(skip..) else {
                skip = skip.saturating_sub(chunk.len());
                continue;
            };
            skip = 0;
            let count = tail.len().min(out.len());
            let (head, rest) = std::mem::take(&mut out).split_at_mut(count);
            head.copy_from_slice(tail.get(..count).unwrap_or_default());
            out = rest;
            if out.is_empty() {
                return;
            }
        }
    }

    /// Does what `proxy_set_buffer_bytes(start, len, data)` means.
    ///
    /// Source: Envoy; the ABI text knows prepend, append and replace in the same encoding.
    ///
    /// # Errors
    /// [`Status::BadArgument`] if `start` lies inside the data.
    pub(crate) fn set_range(
        &mut self,
        start: usize,
        len: usize,
        data: Bytes,
    ) -> Result<(), Status> {
        if start >= self.len && start > 0 {
            self.push(data);
        } else if start == 0 {
            self.drop_front(len);
            self.len = self.len.saturating_add(data.len());
            if !data.is_empty() {
                self.chunks.insert(0, data);
            }
        } else {
            return Err(Status::BadArgument);
        }
        if self.chunks.len() > MAX_CHUNKS {
            let (chunks, len) = (std::mem::take(&mut self.chunks), self.len);
            self.chunks.push(Self { chunks, len, is_modified: true }.into());
        }
        self.is_modified = true;
        Ok(())
    }

    fn drop_front(&mut self, count: usize) {
        if count >= self.len {
            self.chunks.clear();
            self.len = 0;
            return;
        }
        let mut rest = count;
        self.chunks.retain(|chunk| {
            let cut = chunk.len().min(rest);
            rest = rest.saturating_sub(cut);
            let _removed = chunk.split_to(cut);
            !chunk.is_empty()
        });
        self.len = self.len.saturating_sub(count);
    }
}

impl From<Bytes> for BodyBuffer {
    fn from(bytes: Bytes) -> Self {
        let mut buffer = Self::default();
        buffer.push(bytes);
        buffer
    }
}

impl From<BodyBuffer> for Bytes {
    fn from(buffer: BodyBuffer) -> Self {
        let mut chunks = buffer.chunks.into_iter();
        match (chunks.next(), chunks.next()) {
            (None, _) => Self::new(),
            (Some(only), None) => only,
            (Some(first), Some(second)) => {
                let mut all = BytesMut::with_capacity(buffer.len);
                all.extend_from_slice(&first);
                all.extend_from_slice(&second);
                chunks.for_each(|chunk| all.extend_from_slice(&chunk));
                all.freeze()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BodyBuffer;
    use crate::abi::Status;
    use bytes::Bytes;

    fn buffer() -> BodyBuffer {
        let mut buffer = BodyBuffer::from(Bytes::from_static(b"hello "));
        buffer.push(Bytes::from_static(b"big "));
        buffer.push(Bytes::from_static(b"world"));
        buffer
    }

    fn after(start: usize, len: usize, data: &'static [u8]) -> Result<Bytes, Status> {
        let mut buffer = buffer();
        buffer.set_range(start, len, Bytes::from_static(data))?;
        assert!(buffer.is_modified());
        let len = buffer.len();
        let bytes = Bytes::from(buffer);
        assert_eq!(bytes.len(), len);
        Ok(bytes)
    }

    #[test]
    fn ranges_cross_chunks() {
        for (start, len, expected) in
            [(0, 15, "hello big world"), (3, 5, "lo bi"), (14, 1, "d"), (6, 4, "big ")]
        {
            let mut out = vec![0; len];
            buffer().copy_range(start, &mut out);
            assert_eq!(out, expected.as_bytes());
        }
    }

    #[test]
    fn set_range_prepends_cuts_replaces_and_appends() {
        assert_eq!(after(0, 0, b">").unwrap(), ">hello big world");
        assert_eq!(after(0, 8, b"-").unwrap(), "-g world");
        assert_eq!(after(0, 15, b"all").unwrap(), "all");
        assert_eq!(after(0, usize::MAX, b"").unwrap(), "");
        assert_eq!(after(15, 3, b"!").unwrap(), "hello big world!");
        assert_eq!(after(99, 0, b"!").unwrap(), "hello big world!");
    }

    #[test]
    fn a_start_inside_the_data_is_refused() {
        assert_eq!(after(1, 0, b"x"), Err(Status::BadArgument));
        assert_eq!(after(14, 1, b"x"), Err(Status::BadArgument));
    }

    #[test]
    fn many_changes_do_not_make_many_chunks() {
        let mut buffer = BodyBuffer::default();
        for _ in 0..1000 {
            buffer.set_range(0, 0, Bytes::from_static(b"<")).unwrap();
            buffer.set_range(usize::MAX, 0, Bytes::from_static(b">")).unwrap();
            assert!(buffer.chunks.len() <= super::MAX_CHUNKS);
        }
        let expected = "<".repeat(1000) + &">".repeat(1000);
        assert_eq!(Bytes::from(buffer), expected);
    }

    #[test]
    fn an_empty_buffer_takes_data_at_its_start() {
        let mut empty = BodyBuffer::default();
        empty.set_range(0, 0, Bytes::from_static(b"a")).unwrap();
        assert_eq!(Bytes::from(empty), "a");
    }
}
