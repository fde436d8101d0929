//! An upstream that reads requests in the one way in which they can be read, and ends the process
//! if there is another, or if a request is none that the plugin saw.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Most headers of a request, with those that are added on its way.
const MAX_HEADERS: usize = 128;
/// Longest line of a chunk.
const MAX_LINE: usize = 64;

/// A request as it was read.
#[derive(Debug)]
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, Vec<u8>)>,
}

/// Which numbers of requests have been seen.
type Numbers = Arc<Mutex<Vec<u64>>>;

/// Starts it; requests of the plugin have this nonce.
pub(crate) fn start(nonce: String) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (nonce, seen) = (Arc::<str>::from(nonce), Numbers::default());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (nonce, seen) = (Arc::clone(&nonce), Arc::clone(&seen));
            thread::spawn(move || serve(stream, &nonce, &seen));
        }
    });
    address
}

fn serve(mut stream: TcpStream, nonce: &str, seen: &Numbers) {
    let mut buffer = Vec::new();
    // The proxy goes between requests, or within one that its client gave up.
    while let Some(request) = read_request(&mut stream, &mut buffer) {
        request.check(nonce, seen);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
}

impl Request {
    fn check(&self, nonce: &str, seen: &Numbers) {
        assert_eq!(self.one("x-nonce"), nonce.as_bytes(), "the plugin did not see it: {self:?}");
        assert_eq!(self.one("x-seen-method"), self.method.as_bytes(), "{self:?}");
        assert_eq!(self.one("x-seen-path"), self.path.as_bytes(), "{self:?}");
        assert_eq!(self.one("x-seen-host"), self.one("host"), "{self:?}");
        let number = std::str::from_utf8(self.one("x-number")).ok();
        let number: usize = number.and_then(|number| number.parse().ok()).expect("a number");
        let (word, bit) = (number / 64, 1_u64 << (number % 64));
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() <= word {
            seen.resize(word + 1, 0);
        }
        assert!(seen[word] & bit == 0, "the plugin saw it once, and it came twice: {self:?}");
        seen[word] |= bit;
    }

    /// The value of a header that is there once.
    fn one(&self, name: &str) -> &[u8] {
        let values = self.all(name);
        assert_eq!(values.len(), 1, "`{name}` in {self:?}");
        values[0]
    }

    fn all(&self, name: &str) -> Vec<&[u8]> {
        let found = self.headers.iter().filter(|(known, _)| known == name);
        found.map(|(_, value)| value.as_slice()).collect()
    }
}

fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let request = loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(buffer) {
            Ok(httparse::Status::Complete(length)) => {
                let pairs = head.headers.iter();
                let pairs = pairs.map(|pair| (pair.name.to_ascii_lowercase(), pair.value.to_vec()));
                let request = Request {
                    method: head.method.unwrap_or_default().to_owned(),
                    path: head.path.unwrap_or_default().to_owned(),
                    headers: pairs.collect(),
                };
                // A line break in another form is one to some readers.
                let bytes: Vec<u8> = buffer.drain(..length).collect();
                let feeds = bytes.iter().filter(|byte| **byte == b'\n').count();
                let breaks = bytes.windows(2).filter(|pair| pair == b"\r\n").count();
                let returns = bytes.iter().filter(|byte| **byte == b'\r').count();
                assert!(feeds == breaks && returns == breaks, "{request:?}");
                break request;
            }
            Ok(httparse::Status::Partial) => fill(stream, buffer)?,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(buffer)),
        }
    };
    let (codings, lengths) = (request.all("transfer-encoding"), request.all("content-length"));
    assert!(codings.len() + lengths.len() <= 1, "{request:?}");
    if let Some(coding) = codings.first() {
        assert_eq!(*coding, b"chunked", "{request:?}");
        skip_chunks(stream, buffer)?;
    } else if let Some(length) = lengths.first() {
        assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "{request:?}");
        let length = std::str::from_utf8(length).ok().and_then(|length| length.parse().ok());
        take(stream, buffer, length.expect("a length"))?;
    }
    Some(request)
}

fn skip_chunks(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    loop {
        let line = line(stream, buffer, MAX_LINE)?;
        let is_size = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_size, "a chunk whose size is `{line}`");
        let size = usize::from_str_radix(&line, 16).expect("a size");
        if size == 0 {
            while !self::line(stream, buffer, usize::MAX)?.is_empty() {}
            return Some(());
        }
        let chunk = take(stream, buffer, size + 2)?;
        assert!(chunk.ends_with(b"\r\n"), "a chunk that does not end where it says");
    }
}

fn line(stream: &mut TcpStream, buffer: &mut Vec<u8>, most: usize) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|bytes| bytes == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..end + 2).take(end).collect();
            return Some(String::from_utf8_lossy(&line).into_owned());
        }
        assert!(buffer.len() <= most, "a line without an end");
        fill(stream, buffer)?;
    }
}

fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, count: usize) -> Option<Vec<u8>> {
    while buffer.len() < count {
        fill(stream, buffer)?;
    }
    let rest = buffer.split_off(count);
    Some(std::mem::replace(buffer, rest))
}

fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut scratch = [0; 4096];
    let count = stream.read(&mut scratch).ok().filter(|count| *count > 0)?;
    buffer.extend_from_slice(&scratch[..count]);
    Some(())
}
