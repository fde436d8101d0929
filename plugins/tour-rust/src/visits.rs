//! The count of responses, which all plugins and workers of the proxy share.

use proxy_wasm::traits::Context;

/// Name of the count in the shared data.
const KEY: &str = "tour.count";
/// How often another one may come first before the count is given up.
const TRIES: usize = 16;

/// Counts one more and returns the number; `None` if others were always faster.
pub(crate) fn count(context: &impl Context) -> Option<u64> {
    for _ in 0..TRIES {
        let (value, cas) = context.get_shared_data(KEY);
        let next = value.map_or(0, |value| parse(&value)).saturating_add(1);
        // A write succeeds only if nobody else has written since the read.
        if context.set_shared_data(KEY, Some(next.to_string().as_bytes()), cas).is_ok() {
            return Some(next);
        }
    }
    None
}

/// What is no number begins anew.
fn parse(value: &[u8]) -> u64 {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}
