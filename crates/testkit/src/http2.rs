//! HTTP/2 without TLS, begun with its preface: a client, and the server's side of a connection.
//!
//! Names come in lower case, because HTTP/2 knows no other, and values of one name together.

use std::{future::poll_fn, io, net::SocketAddr, sync::PoisonError};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri};
use tokio::{net::TcpStream, runtime::Runtime, task::JoinSet, time::timeout};

use crate::{
    client::Response,
    http1::{BodyDecoder, Framing, announced_framing, parse_request},
    message::{End, Received, Reply, ReplyBody, Scripted},
    patience,
    server::{Journal, Service},
};

/// The version as [`Received`] tells it.
const VERSION: &str = "HTTP/2";
/// Headers that belong to a connection of HTTP/1.
const HOP_BY_HOP: [&str; 4] = ["connection", "host", "keep-alive", "transfer-encoding"];

type Pairs = Vec<(String, String)>;

/// A blocking client: one connection that carries exchanges, one after the other.
///
/// Everything waits [`patience`] at most.
#[derive(Debug)]
pub struct Http2Client {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
}

// === impl Http2Client ===

impl Http2Client {
    /// Connects.
    ///
    /// # Errors
    ///
    /// When the connection is not made, or the peer does not speak HTTP/2.
    pub fn connect(addr: SocketAddr) -> io::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let handshake = async {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            h2::client::handshake(stream).await.map_err(io::Error::other)
        };
        let (requests, connection) = runtime.block_on(patiently(handshake))??;
        // Ends with the runtime; what goes wrong with the connection, the exchanges tell.
        runtime.spawn(async { drop(connection.await) });
        Ok(Self { runtime, requests })
    }

    /// Sends a request that is written as HTTP/1.1, with trailers if it has some, and reads its
    /// response. `host` becomes `:authority`; what HTTP/2 does not know is left out.
    ///
    /// # Errors
    ///
    /// `InvalidData` if the request is not whole; else when the peer resets the stream or closes
    /// the connection, or it takes too long.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Response> {
        let request = read_http1(request)?;
        let mut requests = self.requests.clone();
        self.runtime.block_on(patiently(async move {
            requests = requests.ready().await.map_err(io::Error::other)?;
            let head = request_head(&request)?;
            let is_bare = request.body.is_empty() && request.trailers.is_empty();
            let (response, stream) =
                requests.send_request(head, is_bare).map_err(io::Error::other)?;
            if !is_bare {
                // Who answers early may refuse the rest, which is no reason not to read the answer.
                drop(send(stream, request.body.into(), &request.trailers));
            }
            let (head, body) = response.await.map_err(io::Error::other)?.into_parts();
            let (body, trailers) = receive(body).await.map_err(io::Error::other)?;
            Ok(Response {
                informational: Vec::new(),
                status_line: format!("{VERSION} {}", head.status.as_u16()),
                status: head.status.as_u16(),
                headers: pairs(&head.headers),
                body,
                trailers,
                raw: Vec::new(),
            })
        }))?
    }
}

/// A request that is written as HTTP/1.1.
fn read_http1(bytes: &[u8]) -> io::Result<Received> {
    let invalid = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason.to_owned());
    let head = parse_request(bytes).map_err(io::Error::other)?.ok_or_else(|| invalid("no head"))?;
    let framing = announced_framing(&head.headers).map_err(io::Error::other)?;
    let mut decoder = BodyDecoder::new(framing.unwrap_or(Framing::Length(0)));
    let mut rest = bytes[head.length..].to_vec();
    if !decoder.decode(&mut rest).map_err(io::Error::other)? {
        return Err(invalid("the body is not whole"));
    }
    Ok(Received {
        method: head.start.method,
        path: head.start.path,
        version: head.start.version,
        headers: head.headers,
        body: decoder.body,
        trailers: decoder.trailers,
        connection: 0,
    })
}

fn request_head(request: &Received) -> io::Result<Request<()>> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(request.header("host").unwrap_or("localhost"))
        .path_and_query(request.path.as_str())
        .build()
        .map_err(io::Error::other)?;
    let head = Request::builder().method(request.method.as_str()).uri(uri);
    let mut head = head.body(()).map_err(io::Error::other)?;
    *head.headers_mut() = map(&request.headers).map_err(io::Error::other)?;
    Ok(head)
}

async fn patiently<T>(task: impl Future<Output = T>) -> io::Result<T> {
    timeout(patience(), task).await.map_err(|_| io::ErrorKind::TimedOut.into())
}

/// Serves a connection until the peer closes it.
pub(crate) async fn serve(
    stream: TcpStream,
    number: u64,
    service: &Service,
    journal: &std::sync::Arc<Journal>,
) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    let mut exchanges = JoinSet::new();
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        let (service, journal) = (Service::clone(service), std::sync::Arc::clone(journal));
        exchanges.spawn(async move {
            // A stream that fails has been reset, which is all that the peer can learn.
            drop(exchange(request, respond, number, &service, &journal).await);
        });
    }
    Ok(())
}

async fn exchange(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: u64,
    service: &Service,
    journal: &Journal,
) -> Result<(), h2::Error> {
    let (head, body) = request.into_parts();
    let (body, trailers) = receive(body).await?;
    let authority = head.uri.authority().map_or("", |authority| authority.as_str()).to_owned();
    let mut headers = vec![(":authority".to_owned(), authority)];
    headers.extend(pairs(&head.headers));
    let received = Received {
        method: head.method.to_string(),
        path: head.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        version: VERSION.to_owned(),
        headers,
        body,
        trailers,
        connection,
    };
    let is_head = received.method == "HEAD";
    let scripted = service(&received);
    journal.requests.lock().unwrap_or_else(PoisonError::into_inner).push(received);
    match scripted {
        Scripted::Reply(reply) => answer(respond, reply, is_head).await,
        Scripted::Raw(_, End::Hang) => {
            // Until the peer gives it up, or the connection ends.
            drop(poll_fn(|cx| respond.poll_reset(cx)).await);
            Ok(())
        }
        Scripted::Raw(..) => {
            // Raw bytes have no place in a stream of HTTP/2.
            respond.send_reset(Reason::INTERNAL_ERROR);
            Ok(())
        }
    }
}

async fn answer(
    mut respond: SendResponse<Bytes>,
    reply: Reply,
    is_head: bool,
) -> Result<(), h2::Error> {
    let mut head = http::Response::new(());
    let status = reply.status();
    *head.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    *head.headers_mut() = map(&reply.headers).unwrap_or_default();
    let (body, trailers) = match reply.body {
        ReplyBody::Length(body) => {
            if !matches!(status, 204 | 304) {
                head.headers_mut().entry("content-length").or_insert(body.len().into());
            }
            (body, Vec::new())
        }
        ReplyBody::UntilClose(body) => (body, Vec::new()),
        ReplyBody::Chunked { chunks, trailers } => (chunks.concat(), trailers),
        ReplyBody::Streamed(mut chunks) => {
            let mut body = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                body.extend_from_slice(&chunk);
            }
            (body, Vec::new())
        }
    };
    let is_bare = is_head || body.is_empty() && trailers.is_empty();
    let stream = respond.send_response(head, is_bare)?;
    if is_bare { Ok(()) } else { send(stream, body.into(), &trailers) }
}

/// Sends a body to its end; the connection splits it as the peer allows.
fn send(mut stream: SendStream<Bytes>, body: Bytes, trailers: &Pairs) -> Result<(), h2::Error> {
    stream.send_data(body, trailers.is_empty())?;
    if trailers.is_empty() {
        return Ok(());
    }
    stream.send_trailers(map(trailers).unwrap_or_default())
}

async fn receive(mut body: RecvStream) -> Result<(Vec<u8>, Pairs), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await?;
    Ok((bytes, trailers.map_or_else(Vec::new, |trailers| pairs(&trailers))))
}

fn pairs(headers: &HeaderMap) -> Pairs {
    let text = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}

fn map(headers: &Pairs) -> Result<HeaderMap, http::Error> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if !HOP_BY_HOP.contains(&name.as_str()) {
            let name = HeaderName::from_bytes(name.as_bytes())?;
            map.append(name, HeaderValue::from_str(value)?);
        }
    }
    Ok(map)
}
