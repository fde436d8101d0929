//! The signature beside a file or a download: `URL.sig`.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::signature::{Evidence, Form};

/// What is appended to the name of the signed file.
pub(crate) const SUFFIX: &str = ".sig";
/// Largest such file, in bytes.
pub(crate) const MAX_BYTES: u64 = 256 * 1024;

/// What such a file holds: a bundle, a signature in base64, or the signature itself.
pub(crate) fn evidence(place: &str, bytes: &[u8]) -> Evidence {
    let text = std::str::from_utf8(bytes).map(str::trim).unwrap_or_default();
    let form = if text.starts_with('{') {
        Form::Bundle(text.to_owned())
    } else {
        let text: String = text.split_ascii_whitespace().collect();
        match STANDARD.decode(&text) {
            Ok(_) if !text.is_empty() => Form::Detached(text),
            _ => Form::Detached(STANDARD.encode(bytes)),
        }
    };
    Evidence { place: place.to_owned(), form }
}
