//! What a server here received, and what it is to answer.

use std::fmt::Write as _;

use base64::Engine as _;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// One request, as it came over the wire.
///
/// Names and values keep their case, order and repetition.
/// Bytes that are not UTF-8 are read as ISO-8859-1, so that nothing is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Method, as sent.
    pub method: String,
    /// Request target, as sent: path and query.
    pub path: String,
    /// Protocol version, `HTTP/1.1` or `HTTP/1.0`.
    pub version: String,
    /// Headers in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// Body, without its framing.
    pub body: Vec<u8>,
    /// Trailers of a chunked body, in the order of arrival.
    pub trailers: Vec<(String, String)>,
    /// Number of the connection it came on, counted from 0 for each server.
    pub connection: u64,
}

/// What a scripted server does with one request.
#[derive(Debug)]
pub enum Scripted {
    /// A well-formed answer.
    Reply(Reply),
    /// These bytes, exactly, and then the given end.
    Raw(Vec<u8>, End),
}

/// How an exchange ends after raw bytes were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The connection stays open for the next request.
    KeepAlive,
    /// An orderly close (`FIN`).
    Close,
    /// A reset (`RST`).
    Reset,
    /// Nothing more is sent; the connection stays open until the peer closes it.
    Hang,
}

/// A well-formed answer, built step by step.
///
/// The framing header (`content-length` or `transfer-encoding`) goes last, unless the script
/// names one itself; a script that does may lie.
#[derive(Debug)]
pub struct Reply {
    pub(crate) informational: Vec<String>,
    pub(crate) status_line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: ReplyBody,
}

#[derive(Debug)]
pub(crate) enum ReplyBody {
    Length(Vec<u8>),
    Chunked { chunks: Vec<Vec<u8>>, trailers: Vec<(String, String)> },
    Streamed(mpsc::UnboundedReceiver<Bytes>),
    UntilClose(Vec<u8>),
}

// === impl Received ===

impl Received {
    /// The values of all headers with this name, compared without regard to case.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    /// The first value of a header, compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).first().copied()
    }

    /// The request as the echo server writes it into its answer.
    ///
    /// A body that is not UTF-8 is written in base64, and `body_encoding` says so.
    pub fn to_json(&self) -> Value {
        let (body, encoding) = match std::str::from_utf8(&self.body) {
            Ok(text) => (text.to_owned(), "text"),
            Err(_) => (base64::engine::general_purpose::STANDARD.encode(&self.body), "base64"),
        };
        json!({
            "method": self.method,
            "path": self.path,
            "version": self.version,
            "headers": self.headers,
            "body": body,
            "body_encoding": encoding,
            "trailers": self.trailers,
        })
    }
}

// === impl Scripted ===

impl From<Reply> for Scripted {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}

impl Scripted {
    /// Closes the connection in good order without a single byte of an answer.
    pub fn close() -> Self {
        Self::Raw(Vec::new(), End::Close)
    }

    /// Resets the connection without a single byte of an answer.
    pub fn reset() -> Self {
        Self::Raw(Vec::new(), End::Reset)
    }

    /// Never answers.
    pub fn never() -> Self {
        Self::Raw(Vec::new(), End::Hang)
    }

    /// Sends these bytes, exactly, and then ends as told.
    pub fn raw(bytes: impl Into<Vec<u8>>, end: End) -> Self {
        Self::Raw(bytes.into(), end)
    }
}

// === impl Reply ===

impl Reply {
    /// An answer with this status, its usual reason phrase, no headers and no body.
    pub fn new(status: u16) -> Self {
        Self {
            informational: Vec::new(),
            status_line: format!("HTTP/1.1 {status} {}", reason_phrase(status)),
            headers: Vec::new(),
            body: ReplyBody::Length(Vec::new()),
        }
    }

    /// Replaces the whole status line, for odd reasons and versions.
    #[must_use]
    pub fn status_line(mut self, line: &str) -> Self {
        line.clone_into(&mut self.status_line);
        self
    }

    /// Adds a header after those already there.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sends an interim answer (1xx) with this status before the final one.
    #[must_use]
    pub fn informational(mut self, status: u16) -> Self {
        self.informational.push(format!("HTTP/1.1 {status} {}\r\n\r\n", reason_phrase(status)));
        self
    }

    /// A body framed by `content-length`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = ReplyBody::Length(body.into());
        self
    }

    /// A body framed by chunks, each one written and flushed by itself.
    #[must_use]
    pub fn chunked<C: Into<Vec<u8>>>(mut self, chunks: impl IntoIterator<Item = C>) -> Self {
        let chunks = chunks.into_iter().map(Into::into).collect();
        self.body = ReplyBody::Chunked { chunks, trailers: Vec::new() };
        self
    }

    /// Adds a trailer; the body becomes chunked if it was not.
    #[must_use]
    pub fn trailer(mut self, name: &str, value: &str) -> Self {
        let added = (name.to_owned(), value.to_owned());
        self.body = match self.body {
            ReplyBody::Chunked { chunks, mut trailers } => {
                trailers.push(added);
                ReplyBody::Chunked { chunks, trailers }
            }
            ReplyBody::Length(body) | ReplyBody::UntilClose(body) => {
                ReplyBody::Chunked { chunks: vec![body], trailers: vec![added] }
            }
            streamed @ ReplyBody::Streamed(_) => streamed,
        };
        self
    }

    /// A chunked body whose chunks the test hands over when it likes.
    ///
    /// The body ends when the sender is dropped. Trailers are not supported.
    #[must_use]
    pub fn streamed(mut self, chunks: mpsc::UnboundedReceiver<Bytes>) -> Self {
        self.body = ReplyBody::Streamed(chunks);
        self
    }

    /// A body without framing, ended by closing the connection.
    #[must_use]
    pub fn until_close(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = ReplyBody::UntilClose(body.into());
        self
    }

    pub(crate) fn status(&self) -> u16 {
        self.status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(200)
    }

    /// Status line and headers, framing included.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = self.informational.concat();
        head.push_str(&self.status_line);
        head.push_str("\r\n");
        write_fields(&mut head, &self.headers);
        let framed = ["content-length", "transfer-encoding"]
            .iter()
            .any(|name| !values(&self.headers, name).is_empty());
        let bodiless = matches!(self.status(), 204 | 304);
        match &self.body {
            _ if framed || bodiless => {}
            ReplyBody::Length(body) => {
                write!(head, "content-length: {}\r\n", body.len()).expect("a string grows");
            }
            ReplyBody::Chunked { .. } | ReplyBody::Streamed(_) => {
                head.push_str("transfer-encoding: chunked\r\n");
            }
            ReplyBody::UntilClose(_) => head.push_str("connection: close\r\n"),
        }
        head.push_str("\r\n");
        head.into_bytes()
    }
}

pub(crate) fn write_fields(text: &mut String, fields: &[(String, String)]) {
    for (name, value) in fields {
        write!(text, "{name}: {value}\r\n").expect("a string grows");
    }
}

pub(crate) fn values<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields
        .iter()
        .filter(|(candidate, _)| candidate.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

/// The reason phrase of RFC 9110 for the statuses that occur here.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
