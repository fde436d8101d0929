//! A message body as a plugin sees it: bytes that it may read, cut, prepend to and append to.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::abi::Status;

/// Most chunks that a plugin may make of a body before they are put together.
///
/// Each costs memory of its own, however short it is.
const MAX_CHUNKS: usize = 64;

/// Bytes of a body, in chunks as they arrived.
///
/// It is moved from filter to filter, mostly with one chunk that nobody changes, so whatever goes
/// beyond that lies elsewhere.
#[derive(Clone, Debug, Default)]
pub struct BodyBuffer {
    /// Empty only if there is no other chunk either.
    first: Bytes,
    more: Option<Box<More>>,
}

#[derive(Clone, Debug, Default)]
struct More {
    /// None of them is empty.
    chunks: VecDeque<Bytes>,
    /// Bytes of all these chunks.
    len: usize,
    is_modified: bool,
}

// === impl BodyBuffer ===

impl BodyBuffer {
    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.first.len().saturating_add(self.more.as_ref().map_or(0, |more| more.len))
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Whether a plugin changed the bytes since the buffer was made.
    ///
    /// Whoever sends them must then not announce the old length.
    pub fn is_modified(&self) -> bool {
        self.more.as_ref().is_some_and(|more| more.is_modified)
    }

    /// Appends what arrived, without marking the buffer as modified.
    pub fn push(&mut self, chunk: Bytes) {
        if self.first.is_empty() {
            self.first = chunk;
        } else if !chunk.is_empty() {
            let more = self.more.get_or_insert_default();
            more.len = more.len.saturating_add(chunk.len());
            more.chunks.push_back(chunk);
        }
    }

    /// Appends all of `other`.
    pub fn append(&mut self, other: Self) {
        if self.first.is_empty() && self.more.is_none() {
            *self = other;
            return;
        }
        self.push(other.first);
        let Some(more) = other.more else { return };
        if more.is_modified {
            self.more.get_or_insert_default().is_modified = true;
        }
        for chunk in more.chunks {
            self.push(chunk);
        }
    }

    /// Takes the chunks out in order, none of them empty.
    pub fn into_chunks(self) -> impl Iterator<Item = Bytes> {
        let first = Some(self.first).filter(|first| !first.is_empty());
        first.into_iter().chain(self.more.into_iter().flat_map(|more| more.chunks))
    }

    fn chunks(&self) -> impl Iterator<Item = &Bytes> {
        let first = Some(&self.first).filter(|first| !first.is_empty());
        first.into_iter().chain(self.more.iter().flat_map(|more| &more.chunks))
    }

    /// Copies the bytes from `start` into `out`, as many as fit and exist.
    pub(crate) fn copy_range(&self, start: usize, mut out: &mut [u8]) {
        let mut skip = start;
        for chunk in self.chunks() {
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
        if start >= self.len() && start > 0 {
            self.push(data);
        } else if start == 0 {
            self.drop_front(len);
            if !data.is_empty() {
                self.push_front(data);
            }
        } else {
            return Err(Status::BadArgument);
        }
        let more = self.more.get_or_insert_default();
        more.is_modified = true;
        if more.chunks.len() >= MAX_CHUNKS {
            self.first = std::mem::take(self).into();
            self.more = Some(Box::new(More { is_modified: true, ..More::default() }));
        }
        Ok(())
    }

    fn push_front(&mut self, chunk: Bytes) {
        let second = std::mem::replace(&mut self.first, chunk);
        if !second.is_empty() {
            let more = self.more.get_or_insert_default();
            more.len = more.len.saturating_add(second.len());
            more.chunks.push_front(second);
        }
    }

    fn drop_front(&mut self, count: usize) {
        let mut rest = count;
        while rest > 0 && !self.first.is_empty() {
            if rest < self.first.len() {
                self.first.advance(rest);
                return;
            }
            rest = rest.saturating_sub(self.first.len());
            self.first = self.more.as_mut().and_then(|more| more.pop_front()).unwrap_or_default();
        }
    }
}

// === impl More ===

impl More {
    fn pop_front(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.len = self.len.saturating_sub(chunk.len());
        Some(chunk)
    }
}

impl From<Bytes> for BodyBuffer {
    fn from(bytes: Bytes) -> Self {
        Self { first: bytes, more: None }
    }
}

impl From<BodyBuffer> for Bytes {
    fn from(buffer: BodyBuffer) -> Self {
        let len = buffer.len();
        match buffer.more {
            Some(more) if !more.chunks.is_empty() => {
                let mut all = BytesMut::with_capacity(len);
                all.extend_from_slice(&buffer.first);
                more.chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
                all.freeze()
            }
            _ => buffer.first,
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
            assert!(buffer.chunks().count() <= super::MAX_CHUNKS);
        }
        let expected = "<".repeat(1000) + &">".repeat(1000);
        assert_eq!(Bytes::from(buffer), expected);
    }

    #[test]
    fn what_is_appended_keeps_its_order_and_that_it_was_changed() {
        let mut all = BodyBuffer::default();
        all.append(buffer());
        assert!(!all.is_modified());
        let mut emptied = buffer();
        emptied.set_range(0, usize::MAX, Bytes::new()).unwrap();
        assert!(emptied.is_empty() && emptied.is_modified());
        all.append(emptied.clone());
        assert!(all.is_modified());
        all.append(buffer());
        let text = "hello big worldhello big world";
        assert_eq!((all.len(), Bytes::from(all.clone())), (30, Bytes::from(text)));
        assert_eq!(all.into_chunks().count(), 6);
        emptied.append(buffer());
        assert!(emptied.is_modified());
        assert_eq!((emptied.len(), emptied.into_chunks().count()), (15, 3));
    }

    #[test]
    fn an_empty_buffer_takes_data_at_its_start() {
        let mut empty = BodyBuffer::default();
        empty.set_range(0, 0, Bytes::from_static(b"a")).unwrap();
        assert_eq!(Bytes::from(empty), "a");
    }
}
