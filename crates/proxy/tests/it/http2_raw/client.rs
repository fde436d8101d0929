//! A client of HTTP/2 that sends whatever bytes it is given and reads what comes of them.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use super::frames::{self, Kind};
use crate::harness::Running;

/// What ends a case: a `PING` with these bytes is answered behind all that came before.
const LAST_WORD: &[u8; 8] = b"the last";

/// A connection.
pub(super) struct Client {
    stream: TcpStream,
    ends: BTreeMap<u32, String>,
    bodies: BTreeMap<u32, usize>,
}

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Without a reason.
    Closed,
    /// With this reason.
    GoAway(&'static str),
    /// It goes on; these are the streams that ended, by a status or a reset.
    Ends(BTreeMap<u32, String>),
}

/// One frame.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

// === impl Client ===

impl Client {
    /// Connects and says what a good client says first.
    pub(super) fn open(proxy: &Running) -> Self {
        let mut client = Self::connect(proxy);
        client.send(frames::PREFACE);
        // No dynamic table: a status is the first byte of its answer.
        client.send(&frames::settings(&[(1, 0)]));
        client
    }

    /// Connects and says nothing.
    pub(super) fn connect(proxy: &Running) -> Self {
        let stream = TcpStream::connect(proxy.proxy().listen_address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
        stream.set_write_timeout(Some(wasmplug_testkit::patience())).unwrap();
        Self { stream, ends: BTreeMap::new(), bodies: BTreeMap::new() }
    }

    /// Sends; says whether the peer took it. Who has closed is found out by reading.
    pub(super) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads until the connection ends, or until all was read by the peer and these streams ended.
    pub(super) fn watch(&mut self, streams: &[u32]) -> Seen {
        self.send(&frames::ping(LAST_WORD));
        let mut was_read = false;
        loop {
            if was_read && streams.iter().all(|stream| self.ends.contains_key(stream)) {
                return Seen::Ends(std::mem::take(&mut self.ends));
            }
            let Some(frame) = self.read_frame() else {
                // Who hears farewell may close with the last answer, and not read on.
                let has_ended = |stream| self.ends.contains_key(stream);
                if !streams.is_empty() && streams.iter().all(has_ended) {
                    return Seen::Ends(std::mem::take(&mut self.ends));
                }
                return Seen::Closed;
            };
            match Kind::of(frame.kind) {
                Some(Kind::GoAway) => {
                    let code = number(&frame.payload[4..8]);
                    // A connection that ends in good order says so, too, and goes on.
                    if code != 0 {
                        return Seen::GoAway(frames::reason(code));
                    }
                }
                Some(Kind::Ping) if frame.flags & frames::ACK != 0 => {
                    was_read |= frame.payload == LAST_WORD;
                }
                _ => self.note(&frame),
            }
        }
    }

    /// Waits until a stream has ended; says how.
    pub(super) fn end_of(&mut self, stream: u32) -> String {
        loop {
            if let Some(end) = self.ends.get(&stream) {
                return end.clone();
            }
            let Some(frame) = self.read_frame() else { return "closed".to_owned() };
            self.note(&frame);
        }
    }

    /// Body bytes of a stream so far.
    pub(super) fn body_len(&self, stream: u32) -> usize {
        self.bodies.get(&stream).copied().unwrap_or_default()
    }

    /// Reads one frame, of whatever kind; false if there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some(frame) = self.read_frame() else { return false };
        self.note(&frame);
        true
    }

    fn note(&mut self, frame: &Frame) {
        match Kind::of(frame.kind) {
            Some(Kind::Settings) if frame.flags & frames::ACK == 0 => {
                self.send(&frames::settings_ack());
            }
            Some(Kind::Headers) => {
                let status = frames::status(&frame.payload);
                self.ends.entry(frame.stream).or_insert(status);
            }
            Some(Kind::Data) => {
                *self.bodies.entry(frame.stream).or_default() += frame.payload.len();
            }
            Some(Kind::ResetStream) => {
                let code = frames::reason(number(&frame.payload)).to_owned();
                // An answer stays an answer, even if the rest of the request is not wanted.
                self.ends.entry(frame.stream).or_insert(code);
            }
            _ => {}
        }
    }

    fn read_frame(&mut self) -> Option<Frame> {
        let head = self.read(9)?;
        let length = usize::try_from(number(&[&[0], &head[..3]].concat())).unwrap();
        let stream = number(&head[5..9]) & 0x7fff_ffff;
        let payload = self.read(length)?;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// So many bytes; nothing if the peer closes before.
    fn read(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) => {
                let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!is_late, "neither closed nor answered; ended so far: {:?}", self.ends);
                None
            }
        }
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}
