//! One connection that carries requests one after the other.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest head and body of an answer.
const MAX_HEAD: usize = 64 << 10;
const MAX_BODY: usize = 16 << 20;

/// A connection; it is made when it is needed, and again after it was closed.
pub(crate) struct Connection {
    address: SocketAddr,
    open: Option<TcpStream>,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

// === impl Connection ===

impl Connection {
    pub(crate) fn new(port: u16) -> Self {
        Self { address: ([127, 0, 0, 1], port).into(), open: None, buffer: Vec::new() }
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    ///
    /// If there is none, or not a whole one. The next request has a new connection.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        let answer = self.try_exchange(request);
        if !answer.as_ref().is_ok_and(Answer::keeps_alive) {
            self.open = None;
            self.buffer.clear();
        }
        answer
    }

    fn try_exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        if self.open.is_none() {
            let stream = TcpStream::connect_timeout(&self.address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            self.open = Some(stream);
        }
        self.open.as_mut().ok_or(ErrorKind::NotConnected)?.write_all(request)?;
        let head = loop {
            if let Some(end) = position(&self.buffer, b"\r\n\r\n") {
                break self.buffer.drain(..end + 4).collect::<Vec<_>>();
            }
            if self.buffer.len() > MAX_HEAD {
                return Err(nonsense("a head without an end"));
            }
            self.fill()?;
        };
        let head = String::from_utf8_lossy(&head).into_owned();
        let mut answer = parse(&head).ok_or_else(|| nonsense(&head))?;
        answer.body = self.read_body(&answer)?;
        Ok(answer)
    }

    fn read_body(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        if answer.header("transfer-encoding").is_none() {
            let length = answer.header("content-length").unwrap_or("0");
            let length: usize = length.parse().map_err(|_| nonsense(length))?;
            return self.take(length);
        }
        let mut body = Vec::new();
        loop {
            let line = loop {
                if let Some(end) = position(&self.buffer, b"\r\n") {
                    break self.take(end + 2)?;
                }
                self.fill()?;
            };
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            let size = usize::from_str_radix(&line, 16).map_err(|_| nonsense(&line))?;
            let mut chunk = self.take(size.saturating_add(2))?;
            chunk.truncate(size);
            if size == 0 {
                return Ok(body);
            }
            body.append(&mut chunk);
            if body.len() > MAX_BODY {
                return Err(nonsense("a body without an end"));
            }
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if count > MAX_BODY {
            return Err(nonsense("too long a body"));
        }
        while self.buffer.len() < count {
            self.fill()?;
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut scratch = [0; 16 << 10];
        let stream = self.open.as_mut().ok_or(ErrorKind::NotConnected)?;
        let count = stream.read(&mut scratch)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&scratch[..count]);
        Ok(())
    }
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// Where these bytes begin.
pub(super) fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn parse(head: &str) -> Option<Answer> {
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some(Answer { status, headers: pairs(lines), body: Vec::new() })
}

/// The header lines of a head, with their names in lower case.
pub(super) fn pairs<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

// === impl Answer ===

impl Answer {
    /// The values of a header, each as it came.
    pub(crate) fn header_values(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.header_values(name).first().copied()
    }

    fn keeps_alive(&self) -> bool {
        self.header("connection") != Some("close")
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn exchange(answer: &'static [u8]) -> io::Result<Answer> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut scratch = [0; 1024];
            assert!(stream.read(&mut scratch).unwrap() > 0);
            stream.write_all(answer).unwrap();
        });
        let answer = Connection::new(port).exchange(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        server.join().unwrap();
        answer
    }

    #[test]
    fn bodies_are_read_by_length_and_in_chunks() {
        for bytes in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"[..],
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        ] {
            let answer = exchange(bytes).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, &b"hello"[..]));
        }
    }

    #[test]
    fn half_an_answer_and_nonsense_are_errors() {
        for bytes in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe",
            b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxx\r\n",
            b"SSH-2.0\r\n\r\n",
        ] {
            assert!(exchange(bytes).is_err(), "{bytes:?}");
        }
    }
}
