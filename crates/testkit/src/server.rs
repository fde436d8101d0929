//! The HTTP/1.1 server behind the upstream and the registry.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::{JoinHandle, JoinSet},
};

use crate::{
    http1::{BodyDecoder, Framing, Head, RequestLine, WireError, announced_framing, parse_request},
    http2,
    message::{End, Received, Reply, ReplyBody, Scripted, values, write_fields},
    patience,
};

/// Decides what is answered to each request.
pub(crate) type Service = Arc<dyn Fn(&Received) -> Scripted + Send + Sync>;

/// A running server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    addr: SocketAddr,
    journal: Arc<Journal>,
    running: Running,
}

/// What a server saw so far.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) requests: Mutex<Vec<Received>>,
    connections: AtomicU64,
}

#[derive(Debug)]
enum Running {
    Task(JoinHandle<()>),
    Thread { stop: Option<oneshot::Sender<()>>, thread: Option<std::thread::JoinHandle<()>> },
}

/// One accepted connection and what was read from it ahead of need.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What becomes of a connection after one exchange.
#[derive(Debug, Clone, Copy)]
enum After {
    Next,
    Close,
    Drop,
}

// === impl Server ===

impl Server {
    /// Binds and serves in a task of the current runtime.
    pub(crate) async fn start(bind: SocketAddr, service: Service) -> io::Result<Self> {
        let listener = TcpListener::bind(bind).await?;
        let addr = listener.local_addr()?;
        let journal = Arc::new(Journal::default());
        let task = tokio::spawn(accept(listener, service, Arc::clone(&journal)));
        Ok(Self { addr, journal, running: Running::Task(task) })
    }

    /// Binds and serves on a thread of its own, for callers without a runtime.
    pub(crate) fn start_on_thread(bind: SocketAddr, service: Service) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(bind)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let journal = Arc::new(Journal::default());
        let (stop, stopped) = oneshot::channel();
        let serving = Arc::clone(&journal);
        let thread =
            std::thread::Builder::new().name(format!("serve {addr}")).spawn(move || {
                runtime.block_on(async {
                    let Ok(listener) = TcpListener::from_std(listener) else { return };
                    // An error means that the owner is gone, which also means to stop.
                    tokio::select! {
                        () = accept(listener, service, serving) => {}
                        _ = stopped => {}
                    }
                });
            })?;
        let running = Running::Thread { stop: Some(stop), thread: Some(thread) };
        Ok(Self { addr, journal, running })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.journal.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn connections(&self) -> u64 {
        self.journal.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Task(task) => task.abort(),
            Running::Thread { stop, thread } => {
                drop(stop.take());
                if let Some(thread) = thread.take() {
                    // A panic of the service was printed by its own thread.
                    drop(thread.join());
                }
            }
        }
    }
}

/// Accepts until it is dropped; its connections end with it.
async fn accept(listener: TcpListener, service: Service, journal: Arc<Journal>) {
    let mut connections = JoinSet::new();
    loop {
        // Both arms are cancel-safe: an accepted connection is never lost.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let number = journal.connections.fetch_add(1, Ordering::Relaxed);
                let (service, journal) = (Arc::clone(&service), Arc::clone(&journal));
                connections.spawn(async move {
                    if begins_http2(&stream).await {
                        // The peer has closed it, or broken it, and expects nothing more.
                        drop(http2::serve(stream, number, &service, &journal).await);
                        return;
                    }
                    let connection = Connection { stream, buffer: Vec::new() };
                    connection.serve(number, &service, &journal).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Whether the first bytes are those of HTTP/2, which no request of HTTP/1 begins with.
async fn begins_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 3];
    loop {
        match stream.peek(&mut start).await {
            Ok(0) | Err(_) => return false,
            Ok(count) if !b"PRI".starts_with(&start[..count]) => return false,
            Ok(3) => return true,
            // More has to come; it is looked at again as soon as it does.
            Ok(_) => tokio::task::yield_now().await,
        }
    }
}

// === impl Connection ===

impl Connection {
    async fn serve(mut self, number: u64, service: &Service, journal: &Journal) {
        // Small writes must be seen by the peer as they are made.
        if self.stream.set_nodelay(true).is_err() {
            return;
        }
        loop {
            let received = match self.read_request(number).await {
                Ok(Some(received)) => received,
                Ok(None) | Err(WireError::Io(_) | WireError::Ended) => return,
                Err(error) => return self.refuse(&error).await,
            };
            let head_only = received.method == "HEAD";
            let last = closes(&received);
            let scripted = service(&received);
            journal.requests.lock().unwrap_or_else(PoisonError::into_inner).push(received);
            match self.play(scripted, head_only).await {
                Ok(After::Next) if !last => {}
                Ok(After::Next | After::Close) => return self.close().await,
                // Dropped as it is: an orderly close would send a `FIN` first.
                Ok(After::Drop) | Err(_) => return,
            }
        }
    }

    async fn read_request(&mut self, connection: u64) -> Result<Option<Received>, WireError> {
        let Some(Head { start, headers, length }) = self.read_head().await? else {
            return Ok(None);
        };
        self.buffer.drain(..length);
        let framing = announced_framing(&headers)?.unwrap_or(Framing::Length(0));
        let expects = values(&headers, "expect");
        if expects.iter().any(|value| value.eq_ignore_ascii_case("100-continue")) {
            let written = self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await;
            written.map_err(WireError::Io)?;
        }
        let mut decoder = BodyDecoder::new(framing);
        while !decoder.decode(&mut self.buffer)? {
            if self.read_more().await? == 0 {
                return Err(WireError::Ended);
            }
        }
        let RequestLine { method, path, version } = start;
        let BodyDecoder { body, trailers, .. } = decoder;
        Ok(Some(Received { method, path, version, headers, body, trailers, connection }))
    }

    async fn read_head(&mut self) -> Result<Option<Head<RequestLine>>, WireError> {
        loop {
            if let Some(head) = parse_request(&self.buffer)? {
                return Ok(Some(head));
            }
            if self.read_more().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(WireError::Ended) };
            }
        }
    }

    async fn read_more(&mut self) -> Result<usize, WireError> {
        self.buffer.reserve(16 * 1024);
        self.stream.read_buf(&mut self.buffer).await.map_err(WireError::Io)
    }

    async fn play(&mut self, scripted: Scripted, head_only: bool) -> io::Result<After> {
        match scripted {
            Scripted::Reply(reply) => self.reply(reply, head_only).await,
            Scripted::Raw(bytes, end) => {
                self.stream.write_all(&bytes).await?;
                match end {
                    End::KeepAlive => return Ok(After::Next),
                    End::Close => return Ok(After::Close),
                    End::Reset => self.stream.set_zero_linger()?,
                    End::Hang => self.drain().await?,
                }
                Ok(After::Drop)
            }
        }
    }

    async fn reply(&mut self, reply: Reply, head_only: bool) -> io::Result<After> {
        self.stream.write_all(&reply.head()).await?;
        let keep = values(&reply.headers, "connection")
            .iter()
            .all(|value| !value.eq_ignore_ascii_case("close"));
        let after = if keep { After::Next } else { After::Close };
        if head_only {
            return Ok(after);
        }
        match reply.body {
            ReplyBody::Length(body) => self.stream.write_all(&body).await?,
            ReplyBody::UntilClose(body) => {
                self.stream.write_all(&body).await?;
                return Ok(After::Close);
            }
            ReplyBody::Chunked { chunks, trailers } => {
                for chunk in chunks {
                    self.write_chunk(&chunk).await?;
                }
                let mut end = "0\r\n".to_owned();
                write_fields(&mut end, &trailers);
                end.push_str("\r\n");
                self.stream.write_all(end.as_bytes()).await?;
            }
            ReplyBody::Streamed(mut chunks) => {
                while let Some(chunk) = chunks.recv().await {
                    self.write_chunk(&chunk).await?;
                }
                self.stream.write_all(b"0\r\n\r\n").await?;
            }
        }
        Ok(after)
    }

    async fn write_chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        // A chunk of no bytes would end the body.
        if chunk.is_empty() {
            return Ok(());
        }
        let mut framed = format!("{:x}\r\n", chunk.len()).into_bytes();
        framed.extend_from_slice(chunk);
        framed.extend_from_slice(b"\r\n");
        self.stream.write_all(&framed).await
    }

    async fn refuse(mut self, error: &WireError) {
        let status = match error {
            WireError::HeadTooLarge => 431,
            WireError::BodyTooLarge => 413,
            _ => 400,
        };
        let reply = Reply::new(status).header("connection", "close").body(format!("{error}\n"));
        if self.reply(reply, false).await.is_ok() {
            self.close().await;
        }
    }

    /// Closes so that the peer still reads what was written: unread bytes would reset it.
    async fn close(mut self) {
        if self.stream.shutdown().await.is_ok() {
            // The peer may take its time or be gone; either way the connection is over.
            drop(tokio::time::timeout(patience(), self.drain()).await);
        }
    }

    /// Reads and forgets until the peer closes.
    async fn drain(&mut self) -> io::Result<()> {
        let mut scratch = [0; 4096];
        while self.stream.read(&mut scratch).await? > 0 {}
        Ok(())
    }
}

fn closes(received: &Received) -> bool {
    match received.header("connection") {
        Some(value) if value.eq_ignore_ascii_case("close") => true,
        Some(value) if value.eq_ignore_ascii_case("keep-alive") => false,
        _ => received.version == "HTTP/1.0",
    }
}
