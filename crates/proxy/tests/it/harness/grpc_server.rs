//! A gRPC server over HTTP/2 without TLS, which knows a few methods by heart.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::oneshot;

/// Runs until it is dropped.
pub(crate) struct GrpcServer {
    address: SocketAddr,
    _stop: oneshot::Sender<Infallible>,
}

/// What answers a message.
type Check = Arc<dyn Fn(Bytes) -> Bytes + Send + Sync>;

/// Flag and length in front of each message.
const PREFIX_BYTES: usize = 5;

type Body = BoxBody<Bytes, hyper::Error>;

// === impl GrpcServer ===

impl GrpcServer {
    /// Every service has the methods
    ///
    /// ```text
    /// Echo      gives back the messages and the metadata `x-bin`, and the trailer `x-t: t`
    /// Metadata  gives back the metadata `x-a` as a message
    /// Fail      says `PERMISSION_DENIED` with the message `not allowed`
    /// Never     does not answer
    /// Http      answers 503 without a word of gRPC
    /// ```
    pub(crate) fn start() -> Self {
        Self::start_with(|_| Bytes::new())
    }

    /// The same, with a method `Check` that answers each message with one.
    pub(crate) fn start_with(check: impl Fn(Bytes) -> Bytes + Send + Sync + 'static) -> Self {
        let check: Check = Arc::new(check);
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                tokio::select! {
                    () = accept(listener, check) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, _stop: stop }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as the proxy takes it.
    pub(crate) fn url(&self) -> String {
        format!("h2c://{}", self.address)
    }
}

async fn accept(listener: std::net::TcpListener, check: Check) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let check = Arc::clone(&check);
        let service = service_fn(move |request| answer(request, Arc::clone(&check)));
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        // How a connection ends is the proxy's business.
        tokio::spawn(async move { drop(connection.await) });
    }
}

async fn answer(request: Request<Incoming>, check: Check) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let value = |name: &str| head.headers.get(name).cloned();
    let method = head.uri.path().rsplit('/').next().unwrap_or_default();
    let empty = || Empty::new().map_err(|never| match never {}).boxed();
    let mut response = match method {
        "Check" => {
            let message = body.collect().await.unwrap().to_bytes();
            let answer = check(message.slice(PREFIX_BYTES..));
            let mut framed = vec![0];
            framed.extend(u32::try_from(answer.len()).unwrap().to_be_bytes());
            framed.extend(answer);
            let body = Full::new(Bytes::from(framed)).map_err(|never| match never {});
            Response::new(ending_well(body))
        }
        "Echo" => Response::new(ending_well(body)),
        "Metadata" => {
            let text = value("x-a").map_or(Bytes::new(), |text| {
                let mut message = vec![0, 0, 0, 0, u8::try_from(text.len()).unwrap()];
                message.extend_from_slice(text.as_bytes());
                message.into()
            });
            Response::new(ending_well(Full::new(text).map_err(|never| match never {})))
        }
        "Fail" => {
            let mut response = Response::new(empty());
            response.headers_mut().insert("grpc-status", HeaderValue::from_static("7"));
            let message = HeaderValue::from_static("not%20allowed");
            response.headers_mut().insert("grpc-message", message);
            response
        }
        "Http" => {
            let mut response = Response::new(empty());
            *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
            return Ok(response);
        }
        _ => std::future::pending().await,
    };
    let content_type = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert("content-type", content_type);
    if let Some(value) = value("x-bin") {
        response.headers_mut().insert("x-bin", value);
    }
    Ok(response)
}

/// A body with trailers that say that all went well.
fn ending_well(
    body: impl http_body::Body<Data = Bytes, Error = hyper::Error> + Send + Sync + 'static,
) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    trailers.insert("x-t", HeaderValue::from_static("t"));
    body.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed()
}
