//! Paths in the one form in which filters, routes and the upstream see them.
//!
//! A policy that names a path must not be evaded by another spelling of it. Source: Istio, path
//! normalisation; Envoy, `normalize_path`, `merge_slashes` and `path_with_escaped_slashes_action`,
//! with the order of their steps and their corner cases.

use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use wasmplug_api::PathNormalization;

/// Why a request is refused for its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusedPath {
    /// It has bytes that no path has, or `%00`.
    Invalid,
    /// It is not a path: `*`.
    NotAPath,
}

/// What a byte of a path asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Nothing.
    Plain,
    Slash,
    Dot,
    /// Something to be decoded, encoded or turned into a slash.
    Rewritten,
    /// The query begins, which stays as it is.
    Query,
    Invalid,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Plain; 256];
    let mut byte = 0;
    while byte < classes.len() {
        #[expect(clippy::cast_possible_truncation, reason = "the array has 256 elements")]
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
        {
            classes[byte] = class(byte as u8);
        }
        byte += 1;
    }
    classes
};

const fn class(byte: u8) -> Class {
    match byte {
        b'/' => Class::Slash,
        b'.' => Class::Dot,
        b'?' => Class::Query,
        b'%' | b'\\' => Class::Rewritten,
        _ if is_encoded(byte) => Class::Rewritten,
        0..=0x20 | 0x7f.. => Class::Invalid,
        _ => Class::Plain,
    }
}

/// Characters that are percent-encoded where they stand for themselves. Source: the URL standard.
const fn is_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// Writes the target of a request as the level wants it.
///
/// # Errors
/// [`RefusedPath`] if the request is to be refused.
pub(crate) fn normalize(uri: &mut Uri, level: PathNormalization) -> Result<(), RefusedPath> {
    let Some(target) = uri.path_and_query() else { return Ok(()) };
    let written = match rewritten(target.as_str(), level)? {
        Some(written) => PathAndQuery::from_maybe_shared(Bytes::from(written)),
        None if is_unwritten(uri, target) => Ok(PathAndQuery::from_static("/")),
        None => return Ok(()),
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(written.map_err(|_| RefusedPath::Invalid)?);
    *uri = Uri::from_parts(parts).map_err(|_| RefusedPath::Invalid)?;
    Ok(())
}

/// Whether the target is a path that reads as `/` and would be written as nothing, as the library
/// has it for `http://host#fragment`.
fn is_unwritten(uri: &Uri, target: &PathAndQuery) -> bool {
    uri.authority().is_some()
        && target.as_str().len() == 1
        && Uri::from(target.clone()).path().is_empty()
}

/// The path and query in their new form; `None` if that is the old one.
fn rewritten(target: &str, level: PathNormalization) -> Result<Option<Vec<u8>>, RefusedPath> {
    if !target.starts_with('/') {
        return Err(RefusedPath::NotAPath);
    }
    if !needs_work(target.as_bytes(), level)? {
        return Ok(None);
    }
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let is_decoding = level == PathNormalization::DecodeAndMergeSlashes;
    let decoded = is_decoding.then(|| with_decoded_slashes(path.as_bytes()));
    let path = decoded.as_deref().unwrap_or(path.as_bytes());
    let mut written = canonical(&without_dot_parameters(path))?;
    if level != PathNormalization::Base {
        merge_slashes(&mut written);
    }
    written.extend_from_slice(query.as_bytes());
    Ok(Some(written).filter(|written| *written != target.as_bytes()))
}

/// Looks at every byte once, which is all that most paths cost.
fn needs_work(target: &[u8], level: PathNormalization) -> Result<bool, RefusedPath> {
    let is_merging = !matches!(level, PathNormalization::None | PathNormalization::Base);
    let (mut needs_work, mut is_after_slash, mut is_path) = (false, false, true);
    for byte in target {
        let class = CLASSES.get(usize::from(*byte)).copied().unwrap_or(Class::Invalid);
        match class {
            Class::Plain => {}
            Class::Invalid => return Err(RefusedPath::Invalid),
            Class::Query => is_path = false,
            Class::Rewritten => needs_work |= is_path,
            Class::Dot => needs_work |= is_path && is_after_slash,
            Class::Slash => needs_work |= is_path && is_after_slash && is_merging,
        }
        is_after_slash = class == Class::Slash;
    }
    Ok(needs_work && level != PathNormalization::None)
}

/// `%2F` and `%5C` as what they stand for.
fn with_decoded_slashes(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match rest {
            [b'%', b'2', b'f' | b'F', after @ ..] => (b'/', after),
            [b'%', b'5', b'c' | b'C', after @ ..] => (b'\\', after),
            _ => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

/// `.;a=b` and `..;a=b` without their parameters, so that they are seen for what a server behind
/// may take them for.
///
/// Source: observed in Envoy 1.40.
fn without_dot_parameters(path: &[u8]) -> Vec<u8> {
    let mut written = Vec::with_capacity(path.len());
    for (number, segment) in path.split(|byte| *byte == b'/').enumerate() {
        if number > 0 {
            written.push(b'/');
        }
        written.extend_from_slice(match segment {
            [b'.', b';', ..] => b".",
            [b'.', b'.', b';', ..] => b"..",
            other => other,
        });
    }
    written
}

/// The path without dot segments, with `/` for `\`, and with just the characters percent-encoded
/// that have to be.
///
/// Source: RFC 3986, 6.2.2; the URL standard.
fn canonical(path: &[u8]) -> Result<Vec<u8>, RefusedPath> {
    let mut written = Vec::with_capacity(path.len());
    let mut rest = path;
    // Where the last `%` stands that encodes nothing.
    let mut bare_percent = None;
    while let Some((byte, after)) = rest.split_first() {
        if let Some(after_dot) = after_dot(rest) {
            let is_first = written.last() == Some(&b'/');
            rest = match dot_segment(after_dot).filter(|_| is_first) {
                Some((is_parent, after)) => {
                    if is_parent {
                        leave_directory(&mut written);
                        bare_percent = bare_percent.filter(|at| *at < written.len());
                    }
                    after
                }
                None => {
                    written.push(b'.');
                    after_dot
                }
            };
            continue;
        }
        rest = match byte {
            b'\\' => {
                written.push(b'/');
                after
            }
            b'%' => decode(&mut written, after, &mut bare_percent)?,
            byte if is_encoded(*byte) => {
                push_encoded(&mut written, *byte);
                after
            }
            byte => {
                written.push(*byte);
                after
            }
        };
    }
    Ok(written)
}

/// What follows a dot in any spelling.
fn after_dot(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b'.', after @ ..] | [b'%', b'2', b'e' | b'E', after @ ..] => Some(after),
        _ => None,
    }
}

/// Whether the dot before this is a segment, and if so whether of the parent, and what follows.
fn dot_segment(after_first: &[u8]) -> Option<(bool, &[u8])> {
    let end = |text: &[u8]| text.first().is_none_or(|byte| matches!(byte, b'/' | b'\\'));
    let past = |text| <[u8]>::split_first(text).map_or(&[][..], |(_, after)| after);
    if end(after_first) {
        return Some((false, past(after_first)));
    }
    let after_second = after_dot(after_first)?;
    end(after_second).then(|| (true, past(after_second)))
}

/// Takes away the last segment of a path that ends with a slash.
fn leave_directory(written: &mut Vec<u8>) {
    let parent = written.split_last().map_or(&[][..], |(_, before)| before);
    if let Some(slash) = parent.iter().rposition(|byte| *byte == b'/') {
        written.truncate(slash.saturating_add(1));
    }
}

/// What stands behind `%`, decoded if it never needed to be encoded; returns what follows.
fn decode<'a>(
    written: &mut Vec<u8>,
    text: &'a [u8],
    bare_percent: &mut Option<usize>,
) -> Result<&'a [u8], RefusedPath> {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if let [high, low, after @ ..] = text
        && let (Some(upper), Some(lower)) = (hex(*high), hex(*low))
    {
        return match upper << 4 | lower {
            0 => Err(RefusedPath::Invalid),
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                written.push(byte);
                encode_bare_percent(written, *bare_percent, after);
                Ok(after)
            }
            _ => {
                written.extend([b'%', *high, *low]);
                Ok(after)
            }
        };
    }
    // It encodes nothing, and stays.
    *bare_percent = Some(written.len());
    written.push(b'%');
    Ok(text)
}

/// Encodes a `%` that encoded nothing until something behind it was decoded: `%%34%31` must not
/// become `%41`, which a server behind would decode again.
///
/// Source: the URL library of Chromium, which Envoy uses.
fn encode_bare_percent(written: &mut Vec<u8>, at: Option<usize>, after: &[u8]) {
    let Some(percent) = at else { return };
    let behind = written.get(percent.saturating_add(1)..).unwrap_or_default();
    let second = match behind {
        [_] => after.first(),
        [_, second] => Some(second),
        _ => return,
    };
    let is_hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    if is_hex(behind.first()) && is_hex(second) {
        let place = percent.saturating_add(1);
        written.splice(place..place, *b"25");
    }
}

fn push_encoded(written: &mut Vec<u8>, byte: u8) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or('0').to_ascii_uppercase();
    written.push(b'%');
    for value in [byte >> 4, byte & 0xf] {
        written.extend(u8::try_from(digit(value)));
    }
}

/// One slash for several.
///
/// Source: Envoy, where a path of nothing but slashes keeps two.
fn merge_slashes(path: &mut Vec<u8>) {
    if path.len() > 1 && path.iter().all(|byte| *byte == b'/') {
        path.truncate(2);
        return;
    }
    path.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
}

#[cfg(test)]
mod tests;
