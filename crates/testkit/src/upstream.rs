//! An HTTP/1.1 upstream that tells what it received, or plays a script.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use wasmplug_testkit::Upstream;
//!
//! let upstream = Upstream::echo().start().await?;
//! assert!(upstream.addr().ip().is_loopback());
//! assert!(upstream.received().is_empty());
//! # std::io::Result::Ok(()) }).unwrap();
//! ```

use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    sync::Arc,
};

use crate::{
    message::{Received, Reply, Scripted},
    server::{Server, Service},
};

/// Largest body that `/bytes/N` sends, in bytes.
const MAX_GENERATED_BYTES: usize = 64 * 1024 * 1024;
/// Most chunks that `/chunked/N` sends.
const MAX_GENERATED_CHUNKS: usize = 10_000;

/// A running upstream; dropping it ends it and its connections.
#[derive(Debug)]
pub struct Upstream {
    server: Server,
}

/// An [`Upstream`] on a thread of its own, for callers without a runtime.
#[derive(Debug)]
pub struct UpstreamThread(Upstream);

/// What an upstream will do and where it will listen.
pub struct UpstreamBuilder {
    service: Service,
    bind: SocketAddr,
}

// === impl Upstream ===

impl Upstream {
    /// An upstream that answers with a description of the request, as JSON.
    ///
    /// The answer is `200` with `content-type: application/json` and `x-upstream: echo`; the body
    /// is [`Received::to_json`]. The request path chooses other answers, each of which carries
    /// `x-upstream: echo` too:
    ///
    /// | path | answer |
    /// |---|---|
    /// | `/status/503` | the same body, with that status |
    /// | `/bytes/N` | `N` bytes of text, up to 64 MiB |
    /// | `/chunked/N` | `N` chunks (`chunk 0`, `chunk 1`, …, a line each), up to 10 000 |
    /// | `/headers?a=1&b=2&a=3` | the same body, with these response headers in this order |
    pub fn echo() -> UpstreamBuilder {
        Self::scripted(echo)
    }

    /// An upstream that asks the function what to do with each request.
    pub fn scripted(
        script: impl Fn(&Received) -> Scripted + Send + Sync + 'static,
    ) -> UpstreamBuilder {
        UpstreamBuilder {
            service: Arc::new(script),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Every complete request so far, in order of arrival.
    ///
    /// A request is listed before its answer is written.
    pub fn received(&self) -> Vec<Received> {
        self.server.received()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.server.connections()
    }

    /// Ends the upstream and its connections, as dropping it does.
    pub fn stop(self) {}
}

// === impl UpstreamThread ===

impl UpstreamThread {
    /// Starts the upstream on a new thread with a runtime of its own.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, or the thread or runtime not be made.
    pub fn start(upstream: UpstreamBuilder) -> io::Result<Self> {
        let server = Server::start_on_thread(upstream.bind, upstream.service)?;
        Ok(Self(Upstream { server }))
    }

    /// Ends the upstream and waits for its thread, as dropping it does.
    pub fn stop(self) {}
}

impl Deref for UpstreamThread {
    type Target = Upstream;

    fn deref(&self) -> &Upstream {
        &self.0
    }
}

// === impl UpstreamBuilder ===

impl UpstreamBuilder {
    /// Listens there instead of on a free port of `127.0.0.1`.
    #[must_use]
    pub fn bind(mut self, addr: SocketAddr) -> Self {
        self.bind = addr;
        self
    }

    /// Starts the upstream in the current runtime.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn start(self) -> io::Result<Upstream> {
        let server = Server::start(self.bind, self.service).await?;
        Ok(Upstream { server })
    }
}

impl fmt::Debug for UpstreamBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamBuilder").field("bind", &self.bind).finish_non_exhaustive()
    }
}

fn echo(received: &Received) -> Scripted {
    let (path, query) = received.path.split_once('?').unwrap_or((&received.path, ""));
    let count = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.parse().ok());
    if let Some(status) = count("/status/").and_then(|status| u16::try_from(status).ok())
        && (200..=599).contains(&status)
    {
        return describe(received, Reply::new(status)).into();
    }
    if let Some(length) = count("/bytes/").filter(|length| *length <= MAX_GENERATED_BYTES) {
        let reply = Reply::new(200).header("content-type", "text/plain");
        let line = b"0123456789abcdef";
        let body: Vec<u8> = line.iter().copied().cycle().take(length).collect();
        return reply.header("x-upstream", "echo").body(body).into();
    }
    if let Some(chunks) = count("/chunked/").filter(|chunks| *chunks <= MAX_GENERATED_CHUNKS) {
        let reply = Reply::new(200).header("content-type", "text/plain");
        let chunks = (0..chunks).map(|number| format!("chunk {number}\n"));
        return reply.header("x-upstream", "echo").chunked(chunks).into();
    }
    let mut reply = Reply::new(200);
    if path == "/headers" {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        for (name, value) in
            pairs.map(|(name, value)| (percent_decode(name), percent_decode(value)))
        {
            if is_token(&name) && !value.contains(['\r', '\n', '\0']) {
                reply = reply.header(&name, &value);
            }
        }
    }
    describe(received, reply).into()
}

fn describe(received: &Received, reply: Reply) -> Reply {
    let reply = reply.header("content-type", "application/json").header("x-upstream", "echo");
    match reply.status() {
        204 | 304 => reply,
        _ => reply.body(format!("{}\n", received.to_json())),
    }
}

/// Source: RFC 9110, section 5.6.2.
fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Undoes `%XX` and `+`; what is not a valid escape stays as it is.
fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or_default();
                let byte = u8::try_from(digit(high) * 16 + digit(low)).unwrap_or_default();
                decoded.push(byte);
                rest = after;
            }
            (b'+', _) => decoded.push(b' '),
            _ => decoded.push(*first),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_escapes_are_undone_and_broken_ones_kept() {
        assert_eq!(percent_decode("a%20b+c%2"), "a b c%2");
        assert_eq!(percent_decode("%zz%C3%A9"), "%zz\u{e9}");
    }

    #[test]
    fn only_tokens_are_header_names() {
        assert!(is_token("x-a"));
        assert!(!is_token("x a") && !is_token("") && !is_token("x:"));
    }
}
