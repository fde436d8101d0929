//! Both ends of a TCP connection, without any protocol.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::Running;

/// Serves each connection on a thread of its own, for as long as the process lives.
pub(crate) struct RawUpstream {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

/// A client that reads and writes bytes.
pub(crate) struct TcpClient(TcpStream);

// === impl RawUpstream ===

impl RawUpstream {
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (serve, accepted) = (Arc::new(serve), Arc::clone(&connections));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                accepted.fetch_add(1, Ordering::Release);
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Self { address, connections }
    }

    /// Sends back what it gets, until the peer ends.
    pub(crate) fn echo() -> Self {
        Self::start(|mut stream| {
            let mut reader = stream.try_clone().unwrap();
            // A peer that resets is the test's business.
            let _ = std::io::copy(&mut reader, &mut stream);
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }
}

/// Reads the head of an HTTP message.
pub(crate) fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.extend_from_slice(&byte);
    }
    String::from_utf8(head).unwrap()
}

// === impl TcpClient ===

impl TcpClient {
    pub(crate) fn connect(proxy: &Running) -> Self {
        let stream = TcpStream::connect(proxy.proxy().listen_address()).unwrap();
        stream.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
        Self(stream)
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// As many bytes as `len`.
    pub(crate) fn read(&mut self, len: usize) -> String {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Whether these bytes come back; otherwise the other side must have closed.
    pub(crate) fn is_echoed(&mut self, text: &str) -> bool {
        // Who is closed already may not even get them.
        let sent = self.0.write_all(text.as_bytes());
        let mut bytes = vec![0; text.len()];
        match sent.and_then(|()| self.0.read_exact(&mut bytes)) {
            Ok(()) => bytes == text.as_bytes(),
            Err(error) => {
                let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!is_late, "neither closed nor echoed");
                false
            }
        }
    }

    pub(crate) fn read_head(&mut self) -> String {
        read_head(&mut self.0)
    }

    /// Everything until the other side ends.
    pub(crate) fn read_to_end(&mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text
    }

    /// Ends this side; the other one can still be read.
    pub(crate) fn finish(&self) {
        self.0.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset in place of an end.
    pub(crate) fn reset(self) {
        SockRef::from(&self.0).set_linger(Some(Duration::ZERO)).unwrap();
    }
}
