//! One connection to the proxy: bytes out, whole answers in, and a word for each way to get none.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// Most headers of an answer.
const MAX_HEADERS: usize = 64;

/// A connection that carries requests one after the other.
pub(crate) struct Connection {
    reader: Reader,
    writer: OwnedWriteHalf,
}

/// What was read and not yet looked at.
struct Reader {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Statuses of what came before it.
    pub(crate) interim: Vec<u16>,
}

/// Why there is no whole answer.
#[derive(Debug)]
#[expect(dead_code, reason = "what the nonsense is, is shown by `Debug`")]
pub(crate) enum Broken {
    /// Closed before the first byte.
    Closed,
    /// Closed within.
    Cut,
    /// Nothing within the patience of tests.
    Late,
    /// Something else than HTTP.
    Nonsense(String),
}

/// How long a body is.
enum Length {
    None,
    Known(usize),
    Chunked,
    UntilClose,
}

// === impl Connection ===

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Broken> {
        let stream = TcpStream::connect(address).await.map_err(|_| Broken::Closed)?;
        stream.set_nodelay(true).map_err(|_| Broken::Closed)?;
        let (stream, writer) = stream.into_split();
        Ok(Self { reader: Reader { stream, buffer: Vec::new() }, writer })
    }

    /// Sends. That the peer has closed is found out by reading its last words.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        // A peer that reads nothing and does not close would be waited for in vain.
        let sent = tokio::time::timeout(wasmplug_testkit::patience(), self.writer.write_all(bytes));
        drop(sent.await);
    }

    /// Sends and reads answers at the same time: so many of them, or until one is not whole.
    pub(crate) async fn exchange(
        &mut self,
        bytes: &[u8],
        answers: usize,
    ) -> Vec<Result<Answer, Broken>> {
        let Self { reader, writer } = self;
        let sending = tokio::time::timeout(wasmplug_testkit::patience(), writer.write_all(bytes));
        let reading = async {
            let mut outcomes = Vec::new();
            while outcomes.len() < answers && !outcomes.last().is_some_and(Result::is_err) {
                outcomes.push(reader.read_answer().await);
            }
            outcomes
        };
        tokio::join!(sending, reading).1
    }

    /// Ends this side.
    pub(crate) async fn finish(&mut self) {
        drop(self.writer.shutdown().await);
    }

    /// Closes with a reset.
    pub(crate) fn reset(self) {
        drop(SockRef::from(self.writer.as_ref()).set_linger(Some(Duration::ZERO)));
        // Otherwise it would end this side in good order first.
        self.writer.forget();
    }

    pub(crate) async fn read_answer(&mut self) -> Result<Answer, Broken> {
        self.reader.read_answer().await
    }

    /// Waits until the peer closes; gives back what it still said.
    pub(crate) async fn read_to_close(&mut self) -> Result<Vec<u8>, Broken> {
        let reading = async { while self.reader.fill().await > 0 {} };
        let reading = tokio::time::timeout(wasmplug_testkit::patience(), reading).await;
        reading.map_err(|_| Broken::Late)?;
        Ok(std::mem::take(&mut self.reader.buffer))
    }
}

// === impl Reader ===

impl Reader {
    async fn read_answer(&mut self) -> Result<Answer, Broken> {
        let reading = self.read_patiently();
        tokio::time::timeout(wasmplug_testkit::patience(), reading)
            .await
            .unwrap_or(Err(Broken::Late))
    }

    async fn read_patiently(&mut self) -> Result<Answer, Broken> {
        let mut interim = Vec::new();
        loop {
            let (status, headers) = self.read_head().await?;
            if (100..200).contains(&status) {
                interim.push(status);
                continue;
            }
            let length = length_of(status, &headers)?;
            let body = self.read_body(length).await?;
            return Ok(Answer { status, headers, body, interim });
        }
    }

    async fn read_head(&mut self) -> Result<(u16, Vec<(String, String)>), Broken> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut head = httparse::Response::new(&mut headers);
            let parsed = head.parse(&self.buffer);
            match parsed.map_err(|error| Broken::Nonsense(error.to_string()))? {
                httparse::Status::Complete(length) => {
                    let status = head.code.unwrap_or_default();
                    let pairs = head.headers.iter().map(|header| {
                        let value = String::from_utf8_lossy(header.value).into_owned();
                        (header.name.to_ascii_lowercase(), value)
                    });
                    let pairs = pairs.collect();
                    self.buffer.drain(..length);
                    return Ok((status, pairs));
                }
                httparse::Status::Partial => {}
            }
            if self.fill().await == 0 {
                return Err(if self.buffer.is_empty() { Broken::Closed } else { Broken::Cut });
            }
        }
    }

    async fn read_body(&mut self, length: Length) -> Result<Vec<u8>, Broken> {
        match length {
            Length::None => Ok(Vec::new()),
            Length::Known(length) => self.take(length).await,
            Length::UntilClose => {
                while self.fill().await > 0 {}
                Ok(std::mem::take(&mut self.buffer))
            }
            Length::Chunked => {
                let mut body = Vec::new();
                loop {
                    let line = self.line().await?;
                    let size = usize::from_str_radix(line.split(';').next().unwrap_or(""), 16);
                    let size = size.map_err(|_| Broken::Nonsense(format!("chunk `{line}`")))?;
                    if size == 0 {
                        while !self.line().await?.is_empty() {}
                        return Ok(body);
                    }
                    body.extend(self.take(size).await?);
                    if !self.line().await?.is_empty() {
                        return Err(Broken::Nonsense("a chunk without an end".to_owned()));
                    }
                }
            }
        }
    }

    async fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if self.fill().await == 0 {
                return Err(Broken::Cut);
            }
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>, Broken> {
        while self.buffer.len() < length {
            if self.fill().await == 0 {
                return Err(Broken::Cut);
            }
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Reads more; 0 if there will be none.
    async fn fill(&mut self) -> usize {
        self.stream.read_buf(&mut self.buffer).await.unwrap_or(0)
    }
}

fn length_of(status: u16, headers: &[(String, String)]) -> Result<Length, Broken> {
    let values = |wanted: &str| -> Vec<&str> {
        let found = headers.iter().filter(|(name, _)| name == wanted);
        found.map(|(_, value)| value.as_str()).collect()
    };
    if matches!(status, 204 | 304) {
        return Ok(Length::None);
    }
    match (values("transfer-encoding").as_slice(), values("content-length").as_slice()) {
        (["chunked"], []) => Ok(Length::Chunked),
        ([], [length]) => {
            let length = length.parse();
            length.map(Length::Known).map_err(|_| Broken::Nonsense("no length".to_owned()))
        }
        ([], []) => Ok(Length::UntilClose),
        _ => Err(Broken::Nonsense(format!("the answer has several lengths: {headers:?}"))),
    }
}

// === impl Answer ===

impl Answer {
    /// The value of a header that is there once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(known, _)| known == name);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value.as_str())
    }

    /// Whether the connection can be used again.
    pub(crate) fn keeps_alive(&self) -> bool {
        let framed = ["content-length", "transfer-encoding"];
        let is_framed = matches!(self.status, 204 | 304)
            || framed.iter().any(|name| self.header(name).is_some());
        is_framed && self.header("connection") != Some("close")
    }
}
