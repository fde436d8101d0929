//! The flat encoding of a list of pairs, used for header maps and map-valued properties.
//!
//! ```text
//! u32 count | count x (u32 name length, u32 value length) | count x (name 0x00 value 0x00)
//! ```
//!
//! All numbers are little-endian; lengths leave out the terminating zero.
//! Source: Proxy-Wasm 0.2.1, "Serialization". Its worked example writes decimal digits with a hex
//! prefix; the rule, not the example, is followed here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// Longest list that is read from a guest. Source: Envoy.
pub const MAX_BYTES: usize = 1 << 20;
/// Most pairs that are read from a guest. Source: Envoy.
pub const MAX_PAIRS: usize = 1024;

const LENGTHS_SIZE: usize = 8;

/// Bytes that [`encode`] will write for these pairs.
pub fn encoded_len<'a>(pairs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> usize {
    pairs.fold(4, |sum: usize, (name, value)| {
        sum.saturating_add(LENGTHS_SIZE)
            .saturating_add(name.len())
            .saturating_add(value.len())
            .saturating_add(2)
    })
}

/// Writes the pairs into `out`, which must have exactly [`encoded_len`] bytes.
///
/// Returns `false`, with `out` in an unspecified state, if it is too short.
pub fn encode<'a>(
    pairs: impl ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
    out: &mut [u8],
) -> bool {
    let mut writer = Writer { rest: out };
    let count = u32::try_from(pairs.len()).unwrap_or(u32::MAX);
    let mut complete = writer.put(&count.to_le_bytes());
    for (name, value) in pairs.clone() {
        complete = complete && writer.put_len(name) && writer.put_len(value);
    }
    for (name, value) in pairs {
        complete = complete && writer.put(name) && writer.put(&[0]);
        complete = complete && writer.put(value) && writer.put(&[0]);
    }
    complete
}

/// Reads a list of pairs. `None` if it is truncated, too large, or not exactly consumed.
///
/// An empty input is the empty list. The pairs borrow from `bytes`.
pub fn decode(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    if bytes.len() > MAX_BYTES {
        return None;
    }
    let (count, rest) = split_u32(bytes)?;
    let count = usize::try_from(count).ok().filter(|count| *count <= MAX_PAIRS)?;
    let (mut lengths, mut text) = rest.split_at_checked(count.checked_mul(LENGTHS_SIZE)?)?;
    let mut pairs = Vec::with_capacity(count);
    for _ in 0..count {
        let (name_len, after_name) = split_u32(lengths)?;
        let (value_len, after_value) = split_u32(after_name)?;
        lengths = after_value;
        let (name, after_name) = split_terminated(text, name_len)?;
        let (value, after_value) = split_terminated(after_name, value_len)?;
        text = after_value;
        pairs.push((name, value));
    }
    text.is_empty().then_some(pairs)
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*head), rest))
}

fn split_terminated(bytes: &[u8], len: u32) -> Option<(&[u8], &[u8])> {
    let (text, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    let (terminator, rest) = rest.split_first()?;
    (*terminator == 0).then_some((text, rest))
}

struct Writer<'a> {
    rest: &'a mut [u8],
}

// === impl Writer ===

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> bool {
        match std::mem::take(&mut self.rest).split_at_mut_checked(bytes.len()) {
            Some((head, tail)) => {
                head.copy_from_slice(bytes);
                self.rest = tail;
                true
            }
            None => false,
        }
    }

    fn put_len(&mut self, bytes: &[u8]) -> bool {
        u32::try_from(bytes.len()).is_ok_and(|len| self.put(&len.to_le_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::{decode, encode, encoded_len};

    fn encoded(pairs: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = vec![0xee; encoded_len(pairs.iter().copied())];
        assert!(encode(pairs.iter().copied(), &mut out));
        out
    }

    #[test]
    fn two_pairs_have_the_documented_layout() {
        let bytes = encoded(&[(b"a", b"1"), (b"bc", b"")]);
        let expected = b"\x02\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0a\x001\0bc\0\0";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn decoding_gives_back_what_was_encoded() {
        let pairs: [(&[u8], &[u8]); 3] = [(b":path", b"/"), (b"x", b"a\0b"), (b"", b"")];
        assert_eq!(decode(&encoded(&pairs)).unwrap(), pairs);
        assert_eq!(decode(b"").unwrap(), []);
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = encoded(&[(b"name", b"value"), (b"other", b"text")]);
        for len in 1..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn surplus_missing_terminator_and_huge_counts_are_refused() {
        let mut surplus = encoded(&[(b"a", b"b")]);
        surplus.push(0);
        assert_eq!(decode(&surplus), None);
        let mut unterminated = encoded(&[(b"a", b"b")]);
        *unterminated.last_mut().unwrap() = b'!';
        assert_eq!(decode(&unterminated), None);
        assert_eq!(decode(&u32::MAX.to_le_bytes()), None);
        assert_eq!(decode(b"\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(decode(&vec![0; super::MAX_BYTES + 1]), None);
    }

    #[test]
    fn a_short_output_is_noticed() {
        let pairs: [(&[u8], &[u8]); 1] = [(b"a", b"b")];
        assert!(!encode(pairs.iter().copied(), &mut [0; 15]));
    }
}
