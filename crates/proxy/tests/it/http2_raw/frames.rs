//! Frames and header blocks as bytes, right ones and wrong ones. Source: RFC 9113 and 7541.

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITY: u8 = 0x20;
/// Of a head that is whole and without a body.
pub(super) const WHOLE: u8 = END_STREAM | END_HEADERS;

/// Types of frames. Source: RFC 9113, section 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    ResetStream = 3,
    Settings = 4,
    PushPromise = 5,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

/// Header fields.
pub(super) type Fields<'a> = &'a [(&'a str, &'a str)];

pub(super) const GET: Fields<'static> =
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];
pub(super) const POST: Fields<'static> =
    &[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

// === impl Kind ===

impl Kind {
    pub(super) fn of(byte: u8) -> Option<Self> {
        use Kind::*;
        let all = [
            Data,
            Headers,
            Priority,
            ResetStream,
            Settings,
            PushPromise,
            Ping,
            GoAway,
            WindowUpdate,
            Continuation,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// A frame of any kind.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn known(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(kind as u8, flags, stream, payload)
}

pub(super) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    known(Kind::Data, flags, stream, payload)
}

pub(super) fn headers(stream: u32, flags: u8, fields: Fields<'_>) -> Vec<u8> {
    known(Kind::Headers, flags, stream, &block(fields))
}

/// A whole request without a body, with more fields behind the usual ones.
pub(super) fn get(stream: u32, more: Fields<'_>) -> Vec<u8> {
    headers(stream, WHOLE, &[GET, more].concat())
}

/// The head of a request with a body.
pub(super) fn post(stream: u32, more: Fields<'_>) -> Vec<u8> {
    headers(stream, END_HEADERS, &[POST, more].concat())
}

pub(super) fn raw_headers(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    known(Kind::Headers, flags, stream, payload)
}

pub(super) fn continuation(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    known(Kind::Continuation, flags, stream, payload)
}

pub(super) fn reset(stream: u32, code: u32) -> Vec<u8> {
    known(Kind::ResetStream, 0, stream, &code.to_be_bytes())
}

pub(super) fn settings(values: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = values
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
        .collect();
    known(Kind::Settings, 0, 0, &payload)
}

pub(super) fn settings_ack() -> Vec<u8> {
    known(Kind::Settings, ACK, 0, &[])
}

pub(super) fn ping(payload: &[u8]) -> Vec<u8> {
    known(Kind::Ping, 0, 0, payload)
}

pub(super) fn go_away(last: u32, code: u32) -> Vec<u8> {
    known(Kind::GoAway, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

pub(super) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    known(Kind::WindowUpdate, 0, stream, &increment.to_be_bytes())
}

/// Any frame of a known kind.
pub(super) fn other(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    known(kind, flags, stream, payload)
}

/// Fields as literals that are not indexed, nothing of them compressed. Source: RFC 7541, 6.2.2.
pub(super) fn block(fields: Fields<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        text(&mut bytes, name);
        text(&mut bytes, value);
    }
    bytes
}

/// Source: RFC 7541, 5.2.
fn text(bytes: &mut Vec<u8>, text: &str) {
    integer(bytes, text.len(), 0x7f, 0);
    bytes.extend_from_slice(text.as_bytes());
}

/// A number with a prefix of so many bits. Source: RFC 7541, 5.1.
pub(super) fn integer(bytes: &mut Vec<u8>, number: usize, prefix: u8, mark: u8) {
    if number < usize::from(prefix) {
        bytes.push(mark | u8::try_from(number).unwrap());
        return;
    }
    bytes.push(mark | prefix);
    let mut rest = number - usize::from(prefix);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).unwrap());
}

/// The status that begins a header block of a peer that has no dynamic table.
///
/// Source: RFC 7541, appendices A and B.
pub(super) fn status(block: &[u8]) -> String {
    const INDEXED: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    // The change of the table's size that we asked for.
    let updates = block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count();
    let block = &block[updates..];
    match block[0] {
        indexed @ 0x88..=0x8e => INDEXED[usize::from(indexed - 0x88)].to_owned(),
        // A literal whose name is that of `:status`.
        0x08 | 0x18 | 0x48 => {
            let length = usize::from(block[1] & 0x7f);
            let bytes = &block[2..2 + length];
            if block[1] & 0x80 == 0 {
                String::from_utf8(bytes.to_vec()).unwrap()
            } else {
                digits(bytes)
            }
        }
        other => format!("no status but {other:#x}"),
    }
}

/// Three digits in the code of Huffman: 0 to 2 have five bits, the others six.
fn digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> =
        bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let (mut digits, mut rest) = (String::new(), bits.as_slice());
    while digits.len() < 3 {
        let value =
            |bits: &[u8]| bits.iter().fold(0_u32, |value, bit| value << 1 | u32::from(*bit));
        let short = value(&rest[..5]);
        let (digit, length) = if short < 3 { (short, 5) } else { (value(&rest[..6]) - 0x16, 6) };
        digits.push(char::from_digit(digit, 10).unwrap());
        rest = &rest[length..];
    }
    digits
}

/// The name of an error code. Source: RFC 9113, section 7.
pub(super) fn reason(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("unknown")
}
