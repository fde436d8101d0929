//! HTTP/1.1 on bytes: heads and bodies, parsed without reading from anything.
//!
//! The server and the client both feed what they read into these.
//!
//! Source: RFC 9112.

use std::io;

use crate::message::values;

/// Largest head (start line and headers, or trailers) in bytes.
pub(crate) const MAX_HEAD_BYTES: usize = 256 * 1024;
/// Largest body in bytes.
pub(crate) const MAX_BODY_BYTES: usize = 256 * 1024 * 1024;
/// Most headers in one message.
const MAX_HEADERS: usize = 1024;
/// Longest line that announces a chunk, in bytes.
const MAX_CHUNK_LINE_BYTES: usize = 4 * 1024;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection broke")]
    Io(#[source] io::Error),
    #[error("the connection ended inside a message")]
    Ended,
    #[error("malformed message: {0}")]
    Malformed(String),
    #[error("the head is larger than {MAX_HEAD_BYTES} bytes")]
    HeadTooLarge,
    #[error("the body is larger than {MAX_BODY_BYTES} bytes")]
    BodyTooLarge,
}

/// A parsed start line and headers, and how many bytes they took.
#[derive(Debug)]
pub(crate) struct Head<S> {
    pub(crate) start: S,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) length: usize,
}

#[derive(Debug)]
pub(crate) struct RequestLine {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) version: String,
}

#[derive(Debug)]
pub(crate) struct StatusLine {
    /// The whole line, as sent.
    pub(crate) line: String,
    pub(crate) status: u16,
}

/// How the body after a head is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// Takes the framing off a body, piece by piece.
#[derive(Debug)]
pub(crate) struct BodyDecoder {
    state: BodyState,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

#[derive(Debug, Clone, Copy)]
enum BodyState {
    Length(usize),
    ChunkLine,
    ChunkBytes(usize),
    ChunkEnd,
    Trailers,
    UntilClose,
    Done,
}

pub(crate) fn parse_request(bytes: &[u8]) -> Result<Option<Head<RequestLine>>, WireError> {
    let mut slots = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut slots);
    let status = request.parse(bytes).map_err(malformed)?;
    let httparse::Status::Complete(length) = status else { return incomplete(bytes) };
    Ok(Some(Head {
        start: RequestLine {
            method: request.method.unwrap_or_default().to_owned(),
            path: request.path.unwrap_or_default().to_owned(),
            version: format!("HTTP/1.{}", request.version.unwrap_or_default()),
        },
        headers: own(request.headers),
        length,
    }))
}

pub(crate) fn parse_response(bytes: &[u8]) -> Result<Option<Head<StatusLine>>, WireError> {
    let mut slots = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut slots);
    let status = response.parse(bytes).map_err(malformed)?;
    let httparse::Status::Complete(length) = status else { return incomplete(bytes) };
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(Some(Head {
        start: StatusLine {
            line: text(line.strip_suffix(b"\r").unwrap_or(line)),
            status: response.code.unwrap_or_default(),
        },
        headers: own(response.headers),
        length,
    }))
}

/// The framing that headers announce, or `None` if they announce none.
///
/// Source: RFC 9112, section 6.3. `transfer-encoding` wins over `content-length`.
pub(crate) fn announced_framing(
    headers: &[(String, String)],
) -> Result<Option<Framing>, WireError> {
    if let Some(encoding) = values(headers, "transfer-encoding").last() {
        let last = encoding.rsplit(',').next().unwrap_or_default().trim();
        return if last.eq_ignore_ascii_case("chunked") {
            Ok(Some(Framing::Chunked))
        } else {
            Err(WireError::Malformed(format!("transfer-encoding `{encoding}`")))
        };
    }
    let mut lengths = values(headers, "content-length");
    lengths.dedup();
    match lengths.as_slice() {
        [] => Ok(None),
        [one] => {
            let length: usize =
                one.parse().map_err(|_| WireError::Malformed(format!("content-length `{one}`")))?;
            if length > MAX_BODY_BYTES {
                return Err(WireError::BodyTooLarge);
            }
            Ok(Some(Framing::Length(length)))
        }
        _ => Err(WireError::Malformed("several values of content-length".to_owned())),
    }
}

fn incomplete<S>(bytes: &[u8]) -> Result<Option<Head<S>>, WireError> {
    if bytes.len() > MAX_HEAD_BYTES { Err(WireError::HeadTooLarge) } else { Ok(None) }
}

fn malformed(error: httparse::Error) -> WireError {
    match error {
        httparse::Error::TooManyHeaders => WireError::HeadTooLarge,
        other => WireError::Malformed(other.to_string()),
    }
}

fn own(headers: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    headers.iter().map(|header| (header.name.to_owned(), text(header.value))).collect()
}

/// UTF-8 if it is, else ISO-8859-1: every byte survives.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

// === impl BodyDecoder ===

impl BodyDecoder {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => BodyState::Done,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::ChunkLine,
            Framing::UntilClose => BodyState::UntilClose,
        };
        Self { state, body: Vec::new(), trailers: Vec::new() }
    }

    /// Takes what it can from the front of `input`; true when the body is complete.
    pub(crate) fn decode(&mut self, input: &mut Vec<u8>) -> Result<bool, WireError> {
        loop {
            match self.state {
                BodyState::Done => return Ok(true),
                BodyState::UntilClose => {
                    self.take(input, input.len())?;
                    return Ok(false);
                }
                BodyState::Length(left) => {
                    let taken = self.take(input, left)?;
                    if taken < left {
                        self.state = BodyState::Length(left - taken);
                        return Ok(false);
                    }
                    self.state = BodyState::Done;
                }
                BodyState::ChunkBytes(left) => {
                    let taken = self.take(input, left)?;
                    if taken < left {
                        self.state = BodyState::ChunkBytes(left - taken);
                        return Ok(false);
                    }
                    self.state = BodyState::ChunkEnd;
                }
                BodyState::ChunkEnd => {
                    let Some(line) = take_line(input)? else { return Ok(false) };
                    if !line.is_empty() {
                        return Err(WireError::Malformed("bytes after a chunk".to_owned()));
                    }
                    self.state = BodyState::ChunkLine;
                }
                BodyState::ChunkLine => {
                    let Some(line) = take_line(input)? else { return Ok(false) };
                    self.state = match chunk_size(&line)? {
                        0 => BodyState::Trailers,
                        size => BodyState::ChunkBytes(size),
                    };
                }
                BodyState::Trailers => return self.decode_trailers(input),
            }
        }
    }

    /// What the end of the connection means for this body.
    pub(crate) fn finish(&self) -> Result<(), WireError> {
        match self.state {
            BodyState::Done | BodyState::UntilClose => Ok(()),
            _ => Err(WireError::Ended),
        }
    }

    fn decode_trailers(&mut self, input: &mut Vec<u8>) -> Result<bool, WireError> {
        let mut slots = vec![httparse::EMPTY_HEADER; MAX_HEADERS];
        match httparse::parse_headers(input, &mut slots).map_err(malformed)? {
            httparse::Status::Complete((length, trailers)) => {
                self.trailers = own(trailers);
                input.drain(..length);
                self.state = BodyState::Done;
                Ok(true)
            }
            httparse::Status::Partial if input.len() > MAX_HEAD_BYTES => {
                Err(WireError::HeadTooLarge)
            }
            httparse::Status::Partial => Ok(false),
        }
    }

    fn take(&mut self, input: &mut Vec<u8>, wanted: usize) -> Result<usize, WireError> {
        let taken = wanted.min(input.len());
        if self.body.len() + taken > MAX_BODY_BYTES {
            return Err(WireError::BodyTooLarge);
        }
        self.body.extend(input.drain(..taken));
        Ok(taken)
    }
}

fn take_line(input: &mut Vec<u8>) -> Result<Option<Vec<u8>>, WireError> {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let mut line: Vec<u8> = input.drain(..=end).collect();
            line.pop();
            if line.pop() == Some(b'\r') {
                Ok(Some(line))
            } else {
                Err(WireError::Malformed("a chunk line without CR".to_owned()))
            }
        }
        None if input.len() > MAX_CHUNK_LINE_BYTES => {
            Err(WireError::Malformed("a chunk line without an end".to_owned()))
        }
        None => Ok(None),
    }
}

fn chunk_size(line: &[u8]) -> Result<usize, WireError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let digits = std::str::from_utf8(digits).unwrap_or_default().trim_end();
    let hexadecimal = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    match usize::from_str_radix(digits, 16) {
        Ok(size) if hexadecimal && size <= MAX_BODY_BYTES => Ok(size),
        Ok(_) if hexadecimal => Err(WireError::BodyTooLarge),
        _ => Err(WireError::Malformed("the size of a chunk".to_owned())),
    }
}

#[cfg(test)]
mod tests;
