//! A client and an upstream that send the same bytes every time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};

/// How long an answer may take; it only decides how fast a broken run fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// Longest head with what came behind it at once.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Sizes of the bodies, in bytes.
#[derive(Clone, Copy)]
pub(super) struct Traffic {
    /// With 0 it is a GET, otherwise a POST.
    pub(super) request_body: usize,
    pub(super) answer_body: usize,
}

/// A server that answers each request alike.
pub(super) struct Upstream {
    pub(super) port: u16,
}

/// One connection.
pub(super) struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    traffic: Traffic,
    plugins: usize,
}

/// A message that was read.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    head: String,
    body: usize,
}

// === impl Upstream ===

impl Upstream {
    /// Its threads end with the connections, and the one that accepts with the process.
    pub(super) fn start(traffic: Traffic) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", traffic.answer_body);
        let answer = with_body(head, traffic.answer_body);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answer = answer.clone();
                thread::spawn(move || serve(stream, &answer));
            }
        });
        Ok(Self { port })
    }
}

/// Ends with the connection, whoever closes it and how.
fn serve(mut stream: TcpStream, answer: &[u8]) {
    while read(&mut stream).is_ok() {
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}

// === impl Client ===

impl Client {
    pub(super) fn connect(port: u16, traffic: Traffic, plugins: usize) -> anyhow::Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let head = match traffic.request_body {
            0 => "GET / HTTP/1.1\r\nhost: bench\r\n\r\n".to_owned(),
            length => {
                format!("POST / HTTP/1.1\r\nhost: bench\r\ncontent-length: {length}\r\n\r\n")
            }
        };
        Ok(Self { stream, request: with_body(head, traffic.request_body), traffic, plugins })
    }

    /// Sends so many requests, each after the whole answer to the one before.
    ///
    /// # Errors
    ///
    /// If an answer is another one than the upstream's, marked by all plugins.
    pub(super) fn send(&mut self, requests: u64) -> anyhow::Result<()> {
        for _ in 0..requests {
            self.stream.write_all(&self.request)?;
            let Message { head, body } = read(&mut self.stream)?;
            ensure!(head.starts_with("HTTP/1.1 200"), "no 200: {head}");
            let wanted = self.traffic.answer_body;
            ensure!(body == wanted, "{body} of {wanted} bytes were answered");
            let tags = header(&head, "x-chain-response").map_or(0, |tags| tags.split(',').count());
            ensure!(tags == self.plugins, "{tags} of {} plugins marked the answer", self.plugins);
        }
        Ok(())
    }
}

fn with_body(head: String, length: usize) -> Vec<u8> {
    let mut message = head.into_bytes();
    message.resize(message.len() + length, b'x');
    message
}

/// Reads one message whose length is told, or that has no body.
fn read(stream: &mut impl Read) -> anyhow::Result<Message> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = stream.read(&mut chunk)?;
        ensure!(length > 0, "the connection was closed after {} bytes", bytes.len());
        bytes.extend_from_slice(chunk.get(..length).unwrap_or_default());
        let Some(message) = message(&bytes)? else {
            ensure!(bytes.len() <= MAX_MESSAGE, "the message is longer than {MAX_MESSAGE} bytes");
            continue;
        };
        return Ok(message);
    }
}

/// None while something is missing.
fn message(bytes: &[u8]) -> anyhow::Result<Option<Message>> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let (head, rest) = bytes.split_at(end + 4);
    let head = String::from_utf8_lossy(head).into_owned();
    if header(&head, "transfer-encoding").is_some() {
        bail!("a length was sent, and chunks came: {head}");
    }
    let body = match header(&head, "content-length") {
        Some(length) => length.parse().with_context(|| format!("`{length}` is no length"))?,
        None => 0,
    };
    ensure!(rest.len() <= body, "{} bytes came for {body}", rest.len());
    Ok((rest.len() == body).then_some(Message { head, body }))
}

/// The first header of a name.
fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut headers = head.split("\r\n").filter_map(|line| line.split_once(':'));
    headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_whole_with_its_last_byte() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for end in 0..bytes.len() {
            assert_eq!(message(&bytes[..end]).unwrap(), None, "{end}");
        }
        assert_eq!(message(bytes).unwrap().unwrap().body, 3);
        assert_eq!(message(b"GET / HTTP/1.1\r\n\r\n").unwrap().unwrap().body, 0);
    }

    #[test]
    fn other_messages_than_the_upstreams_are_refused() {
        for bytes in [
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab",
        ] {
            assert!(message(bytes.as_bytes()).is_err(), "{bytes}");
        }
        assert!(read(&mut &b"HTTP/1.1 200 OK\r\n"[..]).is_err());
    }

    #[test]
    fn the_client_accepts_the_upstreams_answers_and_no_others() {
        let traffic = Traffic { request_body: 100_000, answer_body: 200_000 };
        let upstream = Upstream::start(traffic).unwrap();
        let connect = |traffic, plugins| Client::connect(upstream.port, traffic, plugins).unwrap();
        connect(traffic, 0).send(3).unwrap();
        assert!(connect(traffic, 1).send(1).is_err());
        assert!(connect(Traffic { answer_body: 1, ..traffic }, 0).send(1).is_err());
    }
}
