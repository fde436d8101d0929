//! Base64url as tokens and keys come in it.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Bits that are left over are ignored, as in Envoy.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Decodes base64url with or without padding.
///
/// White space is skipped and `.` pads as well as `=`, as in Envoy.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let text = if text.iter().any(u8::is_ascii_whitespace) {
        Cow::Owned(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect())
    } else {
        Cow::Borrowed(text)
    };
    let is_padding = |byte: &u8| matches!(byte, b'=' | b'.');
    let digits = text.iter().position(is_padding).unwrap_or(text.len());
    let (digits, padding) = text.split_at_checked(digits)?;
    let expected = match digits.len() % 4 {
        2 => 2,
        3 => 1,
        _ => 0,
    };
    let is_padded = padding.is_empty() || padding.len() == expected;
    (is_padded && padding.iter().all(is_padding)).then(|| LENIENT.decode(digits).ok())?
}

/// Standard base64 with padding.
pub(super) fn encode_standard(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn padding_and_white_space_do_not_matter() {
        for text in ["aGk", "aGk=", "aGk.", "a G\tk", " aGk = ", "aGl"] {
            assert_eq!(decode(text.as_bytes()).unwrap(), b"hi", "{text}");
        }
        assert_eq!(decode(b"-_8").unwrap(), [0xfb, 0xff]);
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn what_is_not_base64url_is_refused() {
        for text in
            ["a", "aGk==", "aG=", "a=Gk", "aGk=x", "+/8", "!!", "\u{fc}aaa", "aGVs=", "\0aGk"]
        {
            assert_eq!(decode(text.as_bytes()), None, "{text}");
        }
    }
}
