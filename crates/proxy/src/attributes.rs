//! What a stream knows about itself, as attributes for plugins.
//!
//! Source: Envoy's attributes; `docs/compatibility.md` has the table.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::task::{Context, Waker};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use http::Version;
use smallvec::SmallVec;
use wasmplug_host::abi::Status;
use wasmplug_host::{LifeSpan, PropertyValue, StreamHost};

/// Most values that plugins may store in one stream.
const MAX_FILTER_STATE: usize = 1024;

/// Name and value that a plugin stored.
type StoredValue = (Vec<u8>, Vec<u8>);

/// One downstream connection, as its streams see it.
#[derive(Debug)]
pub(crate) struct ConnectionInfo {
    pub(crate) id: u64,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
}

/// The part of a stream that plugins may look at in the middle of a callback.
pub(crate) struct StreamShared {
    connection: std::rc::Rc<ConnectionInfo>,
    start: SystemTime,
    started: Instant,
    protocol: Version,
    /// Length that the request announced.
    pub(crate) request_length: Cell<Option<u64>>,
    pub(crate) request_header_bytes: Cell<u64>,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) response_bytes: Cell<u64>,
    pub(crate) response_code: Cell<Option<u16>>,
    pub(crate) response_flags: Cell<u64>,
    pub(crate) response_code_details: RefCell<Option<String>>,
    pub(crate) upstream: Cell<Option<SocketAddr>>,
    filter_state: RefCell<SmallVec<[StoredValue; 2]>>,
    /// Something was asked for outside the stream's callbacks.
    woken: Cell<bool>,
    wakers: RefCell<SmallVec<[Waker; 2]>>,
}

/// Bits of `response.flags`. Source: Envoy's access log.
pub(crate) mod flags {
    /// The upstream could not be connected to.
    pub(crate) const UPSTREAM_CONNECTION_FAILURE: u64 = 0x20;
    /// The upstream ended the connection.
    pub(crate) const UPSTREAM_CONNECTION_TERMINATION: u64 = 0x40;
    /// The upstream answered, but not in HTTP.
    pub(crate) const UPSTREAM_PROTOCOL_ERROR: u64 = 0x80_0000;
}

// === impl StreamShared ===

impl StreamShared {
    pub(crate) fn new(connection: std::rc::Rc<ConnectionInfo>, protocol: Version) -> Self {
        Self {
            connection,
            start: SystemTime::now(),
            started: Instant::now(),
            protocol,
            request_length: Cell::new(None),
            request_header_bytes: Cell::new(0),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            response_code: Cell::new(None),
            response_flags: Cell::new(0),
            response_code_details: RefCell::new(None),
            upstream: Cell::new(None),
            filter_state: RefCell::default(),
            woken: Cell::new(false),
            wakers: RefCell::default(),
        }
    }

    pub(crate) fn set_details(&self, details: impl Into<String>) {
        *self.response_code_details.borrow_mut() = Some(details.into());
    }

    /// Whether something was asked for since the last time.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.replace(false)
    }

    /// Asks to be polled again when something is asked for.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
    }

    /// Polls everybody who is waiting in this stream.
    pub(crate) fn wake_all(&self) {
        // A waker may run code that registers anew: the list is taken first.
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn request(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let received = self.request_bytes.get();
        match path {
            [b"time"] => {
                let since = self.start.duration_since(UNIX_EPOCH).ok()?;
                Some(PropertyValue::Nanoseconds(i64::try_from(since.as_nanos()).ok()?))
            }
            [b"duration"] => {
                let elapsed = self.started.elapsed();
                Some(PropertyValue::Nanoseconds(i64::try_from(elapsed.as_nanos()).ok()?))
            }
            [b"protocol"] => Some(PropertyValue::text(match self.protocol {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            })),
            [b"size"] => Some(int(self.request_length.get().unwrap_or(received))),
            [b"total_size"] => Some(int(self.request_header_bytes.get().saturating_add(received))),
            _ => None,
        }
    }

    fn response(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let code = self.response_code.get();
        match path {
            [b"code"] => Some(PropertyValue::Int(code?.into())),
            [b"code_details"] => {
                self.response_code_details.borrow().as_deref().map(PropertyValue::text)
            }
            [b"flags"] => Some(int(self.response_flags.get())),
            [b"size" | b"total_size"] => code.map(|_| int(self.response_bytes.get())),
            _ => None,
        }
    }

    fn stored(&self, name: &[u8]) -> Option<PropertyValue> {
        let stored = self.filter_state.borrow();
        let (_, value) = stored.iter().find(|(present, _)| present == name)?;
        Some(PropertyValue::text(value))
    }
}

impl StreamHost for StreamShared {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let connection = &self.connection;
        let address = |address: SocketAddr| Some(PropertyValue::text(address.to_string()));
        let port = |address: SocketAddr| Some(PropertyValue::Int(address.port().into()));
        match path {
            [b"request", rest @ ..] => self.request(rest),
            [b"response", rest @ ..] => self.response(rest),
            [b"source", b"address"] => address(connection.remote),
            [b"source", b"port"] => port(connection.remote),
            [b"destination", b"address"] => address(connection.local),
            [b"destination", b"port"] => port(connection.local),
            [b"connection", b"id"] | [b"connection_id"] => Some(PropertyValue::Uint(connection.id)),
            [b"connection", b"mtls"] => Some(PropertyValue::Bool(false)),
            [b"connection", b"requested_server_name"] => Some(PropertyValue::text("")),
            [b"upstream", b"address"] => self.upstream.get().and_then(address),
            [b"upstream", b"port"] => self.upstream.get().and_then(port),
            [b"source" | b"destination" | b"connection" | b"upstream" | b"filter_state"] => {
                Some(PropertyValue::Namespace)
            }
            [b"filter_state", name] => self.stored(name.strip_prefix(b"wasm.")?),
            [name] => self.stored(name),
            _ => None,
        }
    }

    fn set_property(&self, name: &[u8], value: &[u8], _span: LifeSpan) -> Result<(), Status> {
        let mut stored = self.filter_state.borrow_mut();
        let is_full = stored.len() >= MAX_FILTER_STATE;
        match stored.iter_mut().find(|(present, _)| present == name) {
            Some((_, present)) => *present = value.to_vec(),
            None if is_full => return Err(Status::BadArgument),
            None => stored.push((name.to_vec(), value.to_vec())),
        }
        Ok(())
    }

    /// There is one route, whatever the headers say.
    fn clear_route_cache(&self) {}

    fn wake(&self) {
        self.woken.set(true);
        self.wake_all();
    }
}

impl std::fmt::Debug for StreamShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamShared").field("connection", &self.connection).finish_non_exhaustive()
    }
}

fn int(value: u64) -> PropertyValue {
    PropertyValue::Int(i64::try_from(value).unwrap_or(i64::MAX))
}
