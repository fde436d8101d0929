//! A raw, blocking HTTP/1.1 client: bytes out, exactly one response in.

use std::{
    fmt::{self, Write as _},
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use crate::{
    http1::{BodyDecoder, Framing, Head, StatusLine, WireError, announced_framing, parse_response},
    message::{values, write_fields},
    patience,
};

/// One connection; it can carry any number of exchanges, one after the other.
///
/// Reading waits [`patience`] at most.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// One response, as it came over the wire.
///
/// `Display` writes it as text for golden files: status line, headers, a blank line, the body
/// (its length and digest if it is not UTF-8), trailers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status lines of interim (1xx) responses before this one.
    pub informational: Vec<String>,
    /// The whole status line, as sent, without its line end.
    pub status_line: String,
    /// The status code.
    pub status: u16,
    /// Headers in the order of arrival, case kept.
    pub headers: Vec<(String, String)>,
    /// Body, without its framing.
    pub body: Vec<u8>,
    /// Trailers in the order of arrival, case kept.
    pub trailers: Vec<(String, String)>,
    /// Every byte read for this response, framing and interim responses included.
    pub raw: Vec<u8>,
}

// === impl RawClient ===

impl RawClient {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the connection is not made within [`patience`].
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, patience())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience()))?;
        stream.set_write_timeout(Some(patience()))?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// Sends bytes, exactly.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Tells the peer that nothing more will be sent (`FIN`), while answers can still be read.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn finish_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// Sends one request and reads its response.
    ///
    /// # Errors
    ///
    /// Those of [`Self::send`] and [`Self::read_response`].
    pub fn exchange(&mut self, request: impl AsRef<[u8]>) -> io::Result<Response> {
        let request = request.as_ref();
        let head_only = request.starts_with(b"HEAD ");
        self.send(request)?;
        self.read(head_only)
    }

    /// Sends a GET with a `host` header and nothing else, and reads its response.
    ///
    /// # Errors
    ///
    /// Those of [`Self::send`] and [`Self::read_response`].
    pub fn get(&mut self, path: &str) -> io::Result<Response> {
        let host = self.stream.peer_addr()?;
        self.exchange(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))
    }

    /// Reads the response to a request that was not `HEAD`.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the connection ends inside it (or before it), `InvalidData` when it is
    /// not HTTP/1.1, `TimedOut` or `WouldBlock` when it takes too long, else those of the socket.
    pub fn read_response(&mut self) -> io::Result<Response> {
        self.read(false)
    }

    /// Reads the response to a `HEAD` request: headers that announce a body, and none.
    ///
    /// # Errors
    ///
    /// As [`Self::read_response`].
    pub fn read_response_to_head(&mut self) -> io::Result<Response> {
        self.read(true)
    }

    /// Reads until the peer closes, and returns the bytes that no response took.
    ///
    /// # Errors
    ///
    /// `ConnectionReset` when the peer resets, a timeout when it keeps the connection open.
    pub fn read_to_close(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.buffer);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Reads so many bytes, whatever they mean.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the peer closes before, a timeout when they do not come.
    pub fn read_exact(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        while self.buffer.len() < bytes.len() {
            if self.fill().map_err(io::Error::other)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        bytes.copy_from_slice(&self.buffer[..bytes.len()]);
        self.buffer.drain(..bytes.len());
        Ok(())
    }

    fn read(&mut self, head_only: bool) -> io::Result<Response> {
        let mut raw = Vec::new();
        self.read_wire(head_only, &mut raw).map_err(|error| {
            let kind = match &error {
                WireError::Io(source) => source.kind(),
                WireError::Ended => io::ErrorKind::UnexpectedEof,
                _ => io::ErrorKind::InvalidData,
            };
            io::Error::new(kind, error)
        })
    }

    fn read_wire(&mut self, head_only: bool, raw: &mut Vec<u8>) -> Result<Response, WireError> {
        let mut informational = Vec::new();
        loop {
            let Head { start: StatusLine { line, status }, headers, .. } = self.read_head(raw)?;
            // `101` ends HTTP/1.1, so it is the last response of its exchange.
            if (100..200).contains(&status) && status != 101 {
                informational.push(line);
                continue;
            }
            let bodiless = head_only || matches!(status, 101 | 204 | 304);
            let framing = match announced_framing(&headers)? {
                _ if bodiless => Framing::Length(0),
                Some(framing) => framing,
                None => Framing::UntilClose,
            };
            let decoder = self.read_body(framing, raw)?;
            return Ok(Response {
                informational,
                status_line: line,
                status,
                headers,
                body: decoder.body,
                trailers: decoder.trailers,
                raw: std::mem::take(raw),
            });
        }
    }

    fn read_head(&mut self, raw: &mut Vec<u8>) -> Result<Head<StatusLine>, WireError> {
        loop {
            if let Some(head) = parse_response(&self.buffer)? {
                raw.extend(self.buffer.drain(..head.length));
                return Ok(head);
            }
            if self.fill()? == 0 {
                return Err(WireError::Ended);
            }
        }
    }

    fn read_body(&mut self, framing: Framing, raw: &mut Vec<u8>) -> Result<BodyDecoder, WireError> {
        let mut decoder = BodyDecoder::new(framing);
        loop {
            let before = self.buffer.clone();
            let complete = decoder.decode(&mut self.buffer)?;
            raw.extend_from_slice(&before[..before.len() - self.buffer.len()]);
            if complete {
                return Ok(decoder);
            }
            if self.fill()? == 0 {
                decoder.finish()?;
                return Ok(decoder);
            }
        }
    }

    fn fill(&mut self) -> Result<usize, WireError> {
        let mut scratch = [0; 16 * 1024];
        let count = self.stream.read(&mut scratch).map_err(WireError::Io)?;
        self.buffer.extend_from_slice(&scratch[..count]);
        Ok(count)
    }
}

// === impl Response ===

impl Response {
    /// The values of all headers with this name, compared without regard to case.
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        values(&self.headers, name)
    }

    /// The first value of a header, compared without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).first().copied()
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Errors
    ///
    /// When it is not JSON.
    pub fn json(&self) -> Result<serde_json::Value, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.informational {
            writeln!(f, "{line}\n")?;
        }
        writeln!(f, "{}", self.status_line)?;
        let mut fields = String::new();
        write_fields(&mut fields, &self.headers);
        f.write_str(&fields.replace('\r', ""))?;
        f.write_char('\n')?;
        match std::str::from_utf8(&self.body) {
            Ok("") => {}
            Ok(text) if text.ends_with('\n') => f.write_str(text)?,
            Ok(text) => writeln!(f, "{text}")?,
            Err(_) => {
                let digest = crate::registry::sha256(&self.body);
                writeln!(f, "<{} bytes, {digest}>", self.body.len())?;
            }
        }
        if !self.trailers.is_empty() {
            let mut fields = String::new();
            write_fields(&mut fields, &self.trailers);
            writeln!(f)?;
            f.write_str(&fields.replace('\r', ""))?;
        }
        Ok(())
    }
}
