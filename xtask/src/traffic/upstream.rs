//! A server that answers with what it received.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::traffic::client::{pairs, position};

/// Longest request.
const MAX_REQUEST: usize = 16 << 20;

/// A running server, for as long as the process lives.
pub(crate) struct Upstream {
    pub(crate) port: u16,
}

// === impl Upstream ===

impl Upstream {
    /// Binds a free port and serves each connection on a thread of its own.
    ///
    /// An answer is plain text: method, path, `x-tour-user`, `x-mark` and the body as they arrived.
    /// Who asks with `x-tour-method` is told in `x-user` which path it asked about.
    ///
    /// # Errors
    ///
    /// If the loopback interface has no port.
    pub(crate) fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || serve(stream));
            }
        });
        Ok(Self { port })
    }
}

/// What the answer to such a request says.
pub(crate) fn text(method: &str, path: &str, user: &str, mark: &str, body: &str) -> String {
    format!("{method} {path} user={user} mark={mark} body={body}\n")
}

fn serve(mut stream: TcpStream) {
    // Without it small answers wait for an acknowledgement; if it fails, they do.
    drop(stream.set_nodelay(true));
    let mut buffer = Vec::new();
    while let Some(answer) = read_request(&mut stream, &mut buffer) {
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads a request and makes its answer; none if the peer goes or sends what is not understood.
fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    let end = loop {
        if let Some(end) = position(buffer, b"\r\n\r\n") {
            break end + 4;
        }
        fill(stream, buffer)?;
    };
    let head: Vec<u8> = buffer.drain(..end).collect();
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers = pairs(lines);
    let value = |name: &str| {
        headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    let body = if value("transfer-encoding").is_some() {
        read_chunks(stream, buffer)?
    } else {
        take(stream, buffer, value("content-length").unwrap_or("0").parse().ok()?)?
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    let user = value("x-tour-user").unwrap_or("-");
    let mark = value("x-mark").unwrap_or("-");
    let text = text(&method, &path, user, mark, &body);
    let user = match value("x-tour-method") {
        Some(_) => format!("x-user: {path}\r\n"),
        None => String::new(),
    };
    let length = text.len();
    Some(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n{user}content-length: {length}\r\n\r\n{text}"
    ))
}

fn read_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = loop {
            if let Some(end) = position(buffer, b"\r\n") {
                break end + 2;
            }
            fill(stream, buffer)?;
        };
        let line: Vec<u8> = buffer.drain(..end).collect();
        let size = usize::from_str_radix(String::from_utf8(line).ok()?.trim(), 16).ok()?;
        let chunk = take(stream, buffer, size.checked_add(2)?)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk.get(..size)?);
        (body.len() <= MAX_REQUEST).then_some(())?;
    }
}

fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    (count <= MAX_REQUEST).then_some(())?;
    while buffer.len() < count {
        fill(stream, buffer)?;
    }
    let rest = buffer.split_off(count);
    Some(std::mem::replace(buffer, rest))
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut scratch = [0; 16 << 10];
    let count = stream.read(&mut scratch).ok().filter(|count| *count > 0)?;
    buffer.extend_from_slice(&scratch[..count]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Connection;

    #[test]
    fn what_was_received_is_told() {
        let upstream = Upstream::start().unwrap();
        let mut client = Connection::new(upstream.port);
        for (request, expected) in [
            ("GET /a HTTP/1.1\r\nx-mark: 1\r\n\r\n", text("GET", "/a", "-", "1", "")),
            ("POST /b HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi", text("POST", "/b", "-", "-", "hi")),
            (
                "POST /c HTTP/1.1\r\nX-Tour-User: u\r\ntransfer-encoding: chunked\r\n\r\n\
                 2\r\nhi\r\n0\r\n\r\n",
                text("POST", "/c", "u", "-", "hi"),
            ),
        ] {
            let answer = client.exchange(request.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
        }
        let asked = client.exchange(b"GET /ask/x HTTP/1.1\r\nx-tour-method: GET\r\n\r\n").unwrap();
        assert_eq!(asked.header_values("x-user"), ["/ask/x"]);
    }

    #[test]
    fn nonsense_has_no_answer() {
        let upstream = Upstream::start().unwrap();
        for request in ["\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"] {
            assert!(Connection::new(upstream.port).exchange(request.as_bytes()).is_err());
        }
    }
}
