//! Rules of values that several policies have: addresses, ports, header names.

use std::net::IpAddr;

use super::Violations;
use crate::diagnostic::quoted;
use crate::field_path::FieldPath;

/// Checks an address or a block of addresses.
pub(super) fn ip_block(text: &str, path: FieldPath, v: &mut Violations) {
    if !is_ip_block(text) {
        let hint = "for example `10.0.0.1` or `10.0.0.0/8`".to_owned();
        let message = format!("`{}` is neither an address nor a block of them", quoted(text));
        v.error_with_hint(path, message, Some(hint));
    }
}

/// Whether it is an address, or one with the length of a prefix.
fn is_ip_block(text: &str) -> bool {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let is_prefix = |text: &str| {
        text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u8>().is_ok_and(|n| n <= most)
    };
    prefix.is_none_or(is_prefix)
}

/// Checks the number of a port as text.
pub(super) fn port(text: &str, path: FieldPath, v: &mut Violations) {
    if text.parse::<u16>().is_err() || !text.bytes().all(|b| b.is_ascii_digit()) {
        v.error(path, format!("`{}` is not a port number", quoted(text)));
    }
}

/// Whether it can be the name of a header.
///
/// Source: Istio, `^[-_A-Za-z0-9]+$`.
pub(super) fn is_header_name(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Source: RFC 9110, 5.6.2; any name of a header is one.
pub(super) fn is_token(text: &str) -> bool {
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_blocks_are_told_from_other_texts() {
        for text in ["10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "::1", "2001:db8::/32", "::/128"] {
            assert!(is_ip_block(text), "{text}");
        }
        for text in
            ["", "10.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/+8", "::/129", "a", "10.0.0.1/8/8"]
        {
            assert!(!is_ip_block(text), "{text}");
        }
    }
}
