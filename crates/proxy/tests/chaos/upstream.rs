//! The upstream: answers each request with what its number demands, and counts what it should
//! never have seen.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};

/// Most numbers of requests that are told apart; later ones are not looked at for repetition.
const MAX_IDS: usize = 1 << 26;
/// How often a request is sent at most.
const MAX_TIMES: u8 = 2;
/// Most headers of a request.
const MAX_HEADERS: usize = 64;

/// How an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Behaviour {
    /// With its length.
    Plain,
    Chunked,
    /// In chunks, with a trailer.
    Trailers,
    /// In small pieces.
    Pieces,
    /// Behind answers with 100 and 103.
    Interim,
    /// More than its length says: a second answer, which belongs to nobody.
    Long,
    /// 204 with a body.
    Unwanted,
    /// Less than its length says.
    Short,
    /// Closed in the middle of a chunk.
    HalfChunk,
    /// No answer, then closed.
    Close,
    Reset,
    Garbage,
    /// Both a length and chunks.
    TwoLengths,
    Hang,
}

/// What was received.
#[derive(Default)]
pub(crate) struct Received {
    pub(crate) requests: Cell<u64>,
    /// Without the mark of the plugin that fails closed.
    pub(crate) unmarked: Cell<u64>,
    /// The same request once more, which is safe: it changes nothing, and was not answered.
    pub(crate) retried: Cell<u64>,
    /// The same request once more, although it was answered, or is not safe to send again.
    pub(crate) repeated: Cell<u64>,
    /// With another body than was sent, or framed in two ways, or not readable.
    pub(crate) mangled: Cell<u64>,
    pub(crate) open: Cell<u64>,
    first_wrong: RefCell<Option<String>>,
    /// How often each number came.
    seen: RefCell<Vec<u8>>,
}

/// Two running servers: one that answers, and one that never does. They end when this is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    /// Of the server that never answers.
    pub(crate) void: SocketAddr,
    pub(crate) received: Rc<Received>,
    /// Counts how often all connections were told to close.
    epoch: watch::Sender<u64>,
    tasks: [JoinHandle<()>; 2],
}

/// A request as a strict reader reads it.
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// Another task has gone, and with it its connection.
struct Open(Rc<Received>);

// === impl Behaviour ===

impl Behaviour {
    pub(crate) const GOOD: [Self; 7] = [
        Self::Plain,
        Self::Chunked,
        Self::Trailers,
        Self::Pieces,
        Self::Interim,
        Self::Long,
        Self::Unwanted,
    ];
    pub(crate) const BAD: [Self; 6] =
        [Self::Short, Self::HalfChunk, Self::Close, Self::Reset, Self::Garbage, Self::TwoLengths];

    fn named(name: &str) -> Option<Self> {
        let all = Self::GOOD.into_iter().chain(Self::BAD).chain([Self::Hang]);
        all.into_iter().find(|known| known.name() == name)
    }

    pub(crate) fn name(self) -> String {
        format!("{self:?}")
    }
}

/// What a body with this number in it looks like: no two are alike.
pub(crate) fn pattern(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The number of the body that answers this request.
pub(crate) const fn answer_number(id: u64) -> u64 {
    id | 1 << 40
}

// === impl Upstream ===

impl Upstream {
    /// `mark` is the header that every request must have.
    pub(crate) async fn start(mark: &'static str) -> Self {
        let received = Rc::new(Received::default());
        let (epoch, _) = watch::channel(0);
        let open = Rc::clone(&received);
        let serving = move |stream| serve(stream, Open::new(&open), mark);
        let (address, answers) = listen(&epoch, serving).await;
        let (void, never) = listen(&epoch, swallow).await;
        Self { address, void, received, epoch, tasks: [answers, never] }
    }

    /// Closes every connection that is open.
    pub(crate) fn close_all(&self) {
        self.epoch.send_modify(|epoch| *epoch += 1);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Serves each connection until its end, or until all are told to close.
async fn listen<S: Future<Output = ()> + 'static>(
    epoch: &watch::Sender<u64>,
    serve: impl Fn(TcpStream) -> S + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let epoch = epoch.subscribe();
    let task = spawn_local(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let mut epoch = epoch.clone();
            epoch.mark_unchanged();
            let serving = serve(stream);
            spawn_local(async move {
                tokio::select! {
                    () = serving => {}
                    _ = epoch.changed() => {}
                }
            });
        }
    });
    (address, task)
}

/// Reads and answers nothing, until the peer goes.
async fn swallow(mut stream: TcpStream) {
    let mut scratch = [0; 1024];
    while stream.read(&mut scratch).await.is_ok_and(|count| count > 0) {}
}

impl Open {
    fn new(received: &Rc<Received>) -> Self {
        received.open.set(received.open.get() + 1);
        Self(Rc::clone(received))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
    }
}

async fn serve(mut stream: TcpStream, open: Open, mark: &'static str) {
    let received = &open.0;
    drop(stream.set_nodelay(true));
    let mut buffer = Vec::new();
    loop {
        let request = match read_request(&mut stream, &mut buffer).await {
            Ok(Some(request)) => request,
            // The proxy may go at any time, between requests and within.
            Ok(None) => return,
            Err(wrong) => return received.note(&received.mangled, &wrong),
        };
        let goes_on = if request.path == "/call" {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_ok()
        } else {
            received.check(&request, mark);
            play(&mut stream, &request, mark).await
        };
        if !goes_on {
            return;
        }
    }
}

// === impl Received ===

impl Received {
    /// What was wrong first.
    pub(crate) fn first_wrong(&self) -> Option<String> {
        self.first_wrong.borrow().clone()
    }

    fn note(&self, counter: &Cell<u64>, wrong: &str) {
        counter.set(counter.get() + 1);
        self.first_wrong.borrow_mut().get_or_insert_with(|| wrong.to_owned());
    }

    fn check(&self, request: &Request, mark: &str) {
        self.requests.set(self.requests.get() + 1);
        let about = || format!("{} {:?}", request.path, request.headers);
        if request.header(mark).is_none_or(|value| !value.starts_with('{')) {
            self.note(&self.unmarked, &format!("no mark: {}", about()));
        }
        let (Some(id), Some(length)) = (request.id(), request.number("x-length")) else {
            return self.note(&self.mangled, &format!("no number: {}", about()));
        };
        let length = usize::try_from(length).unwrap_or(0);
        if request.body != pattern(id, length) {
            let wrong = format!("{} bytes of a body of {length}: {}", request.body.len(), about());
            self.note(&self.mangled, &wrong);
        }
        match self.times(id) {
            0..=1 => {}
            2..=MAX_TIMES if request.may_be_sent_again() => {
                self.retried.set(self.retried.get() + 1);
            }
            times => self.note(&self.repeated, &format!("{times} times: {}", about())),
        }
    }

    /// How often this number has come by now; 0 if it is too large to be known.
    fn times(&self, id: u64) -> u8 {
        let index = usize::try_from(id).unwrap_or(MAX_IDS);
        if index >= MAX_IDS {
            return 0;
        }
        let mut seen = self.seen.borrow_mut();
        if seen.len() <= index {
            seen.resize(index + 1, 0);
        }
        seen[index] = seen[index].saturating_add(1);
        seen[index]
    }
}

// === impl Request ===

impl Request {
    fn header(&self, wanted: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(name, _)| name == wanted);
        found.next().filter(|_| found.next().is_none()).map(|(_, value)| value.as_str())
    }

    /// Whether nobody knows that it was received, and it changes nothing. Source: RFC 9110, 9.2.2.
    fn may_be_sent_again(&self) -> bool {
        let behaviour = self.header("x-behaviour").and_then(Behaviour::named);
        let is_unanswered = matches!(behaviour, Some(Behaviour::Close | Behaviour::Reset));
        is_unanswered && self.method == "GET"
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }

    fn id(&self) -> Option<u64> {
        u64::from_str_radix(self.header("x-id")?, 16).ok()
    }
}

/// Reads a request whose framing allows one reading only; none if the peer goes before its end.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Result<Option<Request>, String> {
    let mut request = loop {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut headers);
        match head.parse(buffer).map_err(|error| format!("{error}: {buffer:?}"))? {
            httparse::Status::Complete(length) => {
                let pairs = head.headers.iter().map(|header| {
                    let value = String::from_utf8_lossy(header.value).into_owned();
                    (header.name.to_ascii_lowercase(), value)
                });
                let headers = pairs.collect();
                let path = head.path.unwrap_or_default().to_owned();
                let method = head.method.unwrap_or_default().to_owned();
                buffer.drain(..length);
                break Request { method, path, headers, body: Vec::new() };
            }
            httparse::Status::Partial if !fill(stream, buffer).await => return Ok(None),
            httparse::Status::Partial => {}
        }
    };
    let has_chunks = request.headers.iter().any(|(name, _)| name == "transfer-encoding");
    let lengths = request.headers.iter().filter(|(name, _)| name == "content-length").count();
    if usize::from(has_chunks) + lengths > 1 {
        return Err(format!("framed in several ways: {:?}", request.headers));
    }
    let body = if has_chunks {
        read_chunks(stream, buffer).await?
    } else {
        let length = request.number("content-length").unwrap_or(0);
        take(stream, buffer, usize::try_from(length).unwrap_or(usize::MAX)).await
    };
    let Some(body) = body else { return Ok(None) };
    request.body = body;
    Ok(Some(request))
}

async fn read_chunks(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(line) = line(stream, buffer).await else { return Ok(None) };
        let size = usize::from_str_radix(&line, 16).map_err(|_| format!("chunk `{line}`"))?;
        if size == 0 {
            while let Some(trailer) = self::line(stream, buffer).await {
                if trailer.is_empty() {
                    return Ok(Some(body));
                }
            }
            return Ok(None);
        }
        let Some(mut chunk) = take(stream, buffer, size + 2).await else { return Ok(None) };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk without an end".to_owned());
        }
        chunk.truncate(size);
        body.append(&mut chunk);
    }
}

async fn line(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(2).position(|bytes| bytes == b"\r\n") {
            let line: Vec<u8> = buffer.drain(..end + 2).take(end).collect();
            return Some(String::from_utf8_lossy(&line).into_owned());
        }
        if !fill(stream, buffer).await {
            return None;
        }
    }
}

async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        if !fill(stream, buffer).await {
            return None;
        }
    }
    let rest = buffer.split_off(length);
    Some(std::mem::replace(buffer, rest))
}

async fn fill(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    stream.read_buf(buffer).await.is_ok_and(|count| count > 0)
}

/// Answers; says whether the connection goes on.
async fn play(stream: &mut TcpStream, request: &Request, mark: &str) -> bool {
    let Some(behaviour) = request.header("x-behaviour").and_then(Behaviour::named) else {
        drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await);
        return false;
    };
    let id = request.id().unwrap_or_default();
    let length = usize::try_from(request.number("x-answer").unwrap_or_default()).unwrap_or(0);
    let body = pattern(answer_number(id), length);
    let seen = |name: &str| request.header(name).unwrap_or("-").to_owned();
    let about = format!(
        "x-id: {id:08x}\r\nx-saw-gate: {}\r\nx-saw-open: {}\r\n",
        seen(mark),
        seen("x-open")
    );
    let pieces = |head: &str| [format!("{head}{about}\r\n").into_bytes(), body.clone()].concat();
    let with_length =
        |said: usize| pieces(&format!("HTTP/1.1 200 OK\r\ncontent-length: {said}\r\n"));
    let chunked = |end: &str| {
        let mut bytes =
            format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n{about}\r\n").into_bytes();
        for chunk in body.chunks(3000) {
            bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(end.as_bytes());
        bytes
    };
    let (bytes, goes_on) = match behaviour {
        Behaviour::Plain => (with_length(length), true),
        Behaviour::Chunked => (chunked("0\r\n\r\n"), true),
        Behaviour::Trailers => (chunked("0\r\nx-sum: 1\r\n\r\n"), true),
        Behaviour::Pieces => return dribble(stream, &chunked("0\r\n\r\n")).await,
        Behaviour::Interim => {
            let before =
                b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
            ([before.as_slice(), &with_length(length)].concat(), true)
        }
        Behaviour::Long => {
            let second = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\nx-id: ffffffff\r\n\r\nbelong";
            ([with_length(length).as_slice(), second].concat(), true)
        }
        Behaviour::Unwanted => {
            let head = format!("HTTP/1.1 204 No Content\r\ncontent-length: {length}\r\n");
            (pieces(&head), true)
        }
        Behaviour::Short => (with_length(length + 100), false),
        Behaviour::HalfChunk => (chunked("ffff\r\nhalf"), false),
        Behaviour::Close => (Vec::new(), false),
        Behaviour::Garbage => (b"SSH-2.0-nonsense\r\n\r\n".to_vec(), false),
        Behaviour::TwoLengths => (
            pieces("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n"),
            false,
        ),
        Behaviour::Reset => {
            drop(SockRef::from(&*stream).set_linger(Some(Duration::ZERO)));
            return false;
        }
        Behaviour::Hang => {
            let mut scratch = Vec::new();
            while fill(stream, &mut scratch).await {}
            return false;
        }
    };
    stream.write_all(&bytes).await.is_ok() && goes_on
}

async fn dribble(stream: &mut TcpStream, bytes: &[u8]) -> bool {
    for piece in bytes.chunks(bytes.len().div_ceil(7).max(1)) {
        if stream.write_all(piece).await.is_err() {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}
