//! The service that the layer makes of another one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Limited};
use tokio::sync::oneshot;
use tower_service::Service;

use super::LayerLimits;
use super::thread::{Job, PluginThread};
use crate::buffered::plain;

/// A service behind a plugin.
#[derive(Clone, Debug)]
pub struct PluginService<S> {
    inner: S,
    thread: PluginThread,
    limits: LayerLimits,
}

/// What [`PluginService`] answers with.
pub type PluginFuture<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// A body that can be taken whole and made of bytes.
trait WholeBody: Body<Data = Bytes> + From<Bytes> + Send {}

impl<B: Body<Data = Bytes> + From<Bytes> + Send> WholeBody for B {}

// === impl PluginService ===

impl<S> PluginService<S> {
    pub(super) fn new(inner: S, thread: PluginThread, limits: LayerLimits) -> Self {
        Self { inner, thread, limits }
    }
}

impl<S, B, R> Service<Request<B>> for PluginService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Body<Data = Bytes> + From<Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    R: Body<Data = Bytes> + From<Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = PluginFuture<Response<R>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        // The clone is not ready yet; the one that is serves this request.
        let inner = std::mem::replace(&mut self.inner, clone);
        Box::pin(exchange(inner, self.thread.clone(), self.limits, request))
    }
}

async fn exchange<S, B, R>(
    mut inner: S,
    thread: PluginThread,
    limits: LayerLimits,
    request: Request<B>,
) -> Result<Response<R>, S::Error>
where
    S: Service<Request<B>, Response = Response<R>>,
    B: WholeBody,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    R: WholeBody,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let plain = |status| Ok(plain(status).map(R::from));
    let (head, body) = request.into_parts();
    let Some(body) = whole(body, limits.body_bytes).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE);
    };
    let (passed, has_passed) = oneshot::channel();
    let (response_sender, response) = oneshot::channel();
    let request = Request::from_parts(head, body);
    thread.send(Job { request, passed, response, hold: limits.hold }).await;
    let request = match has_passed.await {
        Ok(Ok(request)) => request,
        Ok(Err(answer)) => return Ok(answer.map(R::from)),
        Err(_) => return plain(StatusCode::SERVICE_UNAVAILABLE),
    };
    let (head, body) = inner.call(request.map(B::from)).await?.into_parts();
    let Some(body) = whole(body, limits.body_bytes).await else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let (back, is_back) = oneshot::channel();
    // If the thread is gone, nothing comes back.
    let _ = response_sender.send((Response::from_parts(head, body), back));
    match is_back.await {
        Ok(response) => Ok(response.map(R::from)),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE),
    }
}

/// The whole body. `None` if it is too large or breaks off.
async fn whole<B>(body: B, limit: usize) -> Option<Bytes>
where
    B: WholeBody,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected = Limited::new(body, limit).collect().await;
    collected.ok().map(http_body_util::Collected::to_bytes)
}
