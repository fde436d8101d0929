//! The flat encoding of header maps: whatever decodes must encode to the same bytes again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wasmplug_host::abi::pairs::{MAX_PAIRS, decode, encode, encoded_len};

fuzz_target!(|bytes: &[u8]| {
    let Some(decoded) = decode(bytes) else { return };
    assert!(decoded.len() <= MAX_PAIRS);
    let pairs = decoded.iter().copied();
    let mut again = vec![0xee; encoded_len(pairs.clone())];
    assert!(encode(pairs, &mut again));
    // Nothing at all is another way to write the empty list.
    assert!(again == bytes || bytes.is_empty());
});
