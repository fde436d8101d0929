//! Drives a stream whose messages are at hand as a whole.
//!
//! A proxy streams, and drives [`HttpStream`] piece by piece. A service that has the whole request
//! and makes the whole response needs less: it shows each once and waits until the plugin lets go.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use crate::abi::{DataAction, HeadersAction, Status, TrailersAction};
use crate::error::Failure;
use crate::fields::Fields;
use crate::plugin::Plugin;
use crate::property::PropertyValue;
use crate::stream::{HttpStream, LifeSpan, LocalReply, LogFields, StreamHost};

/// A request or a response, whole.
#[derive(Debug)]
pub struct Message {
    /// Headers, pseudo-headers among them.
    pub headers: Fields,
    /// Body; may be empty.
    pub body: Bytes,
    /// Trailers, if there are any.
    pub trailers: Option<Fields>,
}

/// What became of a message.
#[derive(Debug)]
pub enum Outcome {
    /// The plugin let it go, perhaps changed.
    Passed(Message),
    /// The plugin answers in its place.
    Reply(LocalReply),
    /// The plugin wants the stream to be cut.
    Closed,
}

/// One plugin's view of one exchange of whole messages.
///
/// A plugin that holds a message is waited for; nothing but the plugin, its timers and its calls
/// ends that, so put a time limit around it.
#[derive(Debug)]
pub struct BufferedStream {
    stream: HttpStream,
    host: Rc<WakingHost>,
}

/// Passes everything on to the embedder's own host, and wakes who waits.
struct WakingHost {
    inner: Rc<dyn StreamHost>,
    is_woken: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// Which message of a stream is meant.
#[derive(Clone, Copy)]
enum Side {
    Request,
    Response,
}

/// How a plugin ended an exchange early.
enum Early {
    Reply(LocalReply),
    Closed,
}

// === impl BufferedStream ===

impl BufferedStream {
    /// Opens a stream. `None` if the VM died or holds as many contexts as it may.
    pub fn open(plugin: &Plugin, host: Rc<dyn StreamHost>) -> Option<Self> {
        let (is_woken, waker) = (Cell::new(false), RefCell::default());
        let host = Rc::new(WakingHost { inner: host, is_woken, waker });
        let stream = plugin.open_stream(Rc::clone(&host) as Rc<dyn StreamHost>)?;
        Some(Self { stream, host })
    }

    /// Shows the request.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub async fn request(&mut self, message: Message) -> Result<Outcome, Failure> {
        self.pass(Side::Request, message).await
    }

    /// Shows the response.
    ///
    /// # Errors
    /// The [`Failure`] of the VM, now or earlier.
    pub async fn response(&mut self, message: Message) -> Result<Outcome, Failure> {
        self.pass(Side::Response, message).await
    }

    /// Shows a request of the `http` crate.
    ///
    /// # Errors
    /// The answer in its place: the plugin's own, or 503 if it died, or 502 if it wants the
    /// connection to be cut or broke the request.
    pub async fn pass_request(
        &mut self,
        request: Request<Bytes>,
    ) -> Result<Request<Bytes>, Response<Bytes>> {
        let (mut head, body) = request.into_parts();
        let had_body = !body.is_empty();
        let headers = Fields::from_request(&head);
        match self.request(Message { headers, body, trailers: None }).await {
            Ok(Outcome::Passed(Message { headers, body, .. })) => {
                headers.write_to_request(&mut head).map_err(|_| plain(StatusCode::BAD_GATEWAY))?;
                correct_length(&mut head.headers, had_body, &body);
                Ok(Request::from_parts(head, body))
            }
            // A plugin sees its own answer, as in a chain.
            Ok(Outcome::Reply(reply)) => Err(self.pass_response(reply.into_response()).await),
            Ok(Outcome::Closed) => Err(plain(StatusCode::BAD_GATEWAY)),
            Err(_) => Err(plain(StatusCode::SERVICE_UNAVAILABLE)),
        }
    }

    /// Shows a response of the `http` crate; gives what becomes of it, see
    /// [`BufferedStream::pass_request`].
    pub async fn pass_response(&mut self, response: Response<Bytes>) -> Response<Bytes> {
        let (mut head, body) = response.into_parts();
        let had_body = !body.is_empty();
        let headers = Fields::from_response(&head);
        match self.response(Message { headers, body, trailers: None }).await {
            Ok(Outcome::Passed(Message { headers, body, .. })) => {
                if headers.write_to_response(&mut head).is_err() {
                    return plain(StatusCode::BAD_GATEWAY);
                }
                correct_length(&mut head.headers, had_body, &body);
                Response::from_parts(head, body)
            }
            Ok(Outcome::Reply(reply)) => reply.into_response(),
            Ok(Outcome::Closed) => plain(StatusCode::BAD_GATEWAY),
            Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// Ends the stream: log, done, delete.
    pub fn finish(mut self, fields: LogFields) {
        self.stream.on_log(fields);
        self.stream.finish();
    }

    async fn pass(&mut self, side: Side, message: Message) -> Result<Outcome, Failure> {
        let Message { headers, body, trailers } = message;
        let (has_body, has_trailers) = (!body.is_empty(), trailers.is_some());
        let action = self.on_headers(side, headers, !has_body && !has_trailers)?;
        if let Some(early) = self.wait(side, action != HeadersAction::Continue).await? {
            return Ok(early.into());
        }
        let headers = self.release_headers(side).unwrap_or_else(|| Fields::new(side.kind()));
        let mut passed = Message { headers, body: Bytes::new(), trailers: None };
        let (mut is_dropped, mut is_body_held) = (false, false);
        if has_body {
            let action = self.on_body(side, body, !has_trailers)?;
            is_dropped = action == DataAction::StopIterationNoBuffer;
            let is_held = action != DataAction::Continue;
            if has_trailers {
                // Who holds the body waits for its end, and the trailers are the end.
                match self.look(side) {
                    Ok(goes_on) => is_body_held = is_held && !goes_on,
                    Err(early) => return Ok(early.into()),
                }
            } else if let Some(early) = self.wait(side, is_held).await? {
                return Ok(early.into());
            }
        }
        if !is_body_held {
            passed.body = self.release_body(side);
        }
        if let Some(trailers) = trailers {
            let action = self.on_trailers(side, trailers)?;
            if let Some(early) = self.wait(side, action != TrailersAction::Continue).await? {
                return Ok(early.into());
            }
        }
        if is_body_held {
            passed.body = self.release_body(side);
        }
        if is_dropped {
            passed.body = Bytes::new();
        }
        // Also those that the plugin made at the end of the body.
        passed.trailers = self.release_trailers(side);
        Ok(Outcome::Passed(passed))
    }

    /// Looks at what a callback asked for, and waits for more while the plugin holds the message.
    async fn wait(&mut self, side: Side, is_held: bool) -> Result<Option<Early>, Failure> {
        loop {
            match self.look(side) {
                Ok(goes_on) if goes_on || !is_held => return Ok(None),
                Ok(_) => {}
                Err(early) => return Ok(Some(early)),
            }
            if let Some(failure) = self.stream.failure() {
                return Err(failure);
            }
            self.host.woken().await;
        }
    }

    /// Looks at what the plugin asked for: whether it lets go what it holds, or ends the exchange.
    fn look(&mut self, side: Side) -> Result<bool, Early> {
        let actions = self.stream.take_actions();
        if let Some(reply) = actions.local_reply {
            return Err(Early::Reply(reply));
        }
        if actions.close.is_some() {
            return Err(Early::Closed);
        }
        Ok(match side {
            Side::Request => actions.continue_request,
            Side::Response => actions.continue_response,
        })
    }

    fn on_headers(
        &mut self,
        side: Side,
        headers: Fields,
        end: bool,
    ) -> Result<HeadersAction, Failure> {
        match side {
            Side::Request => self.stream.on_request_headers(headers, end, false),
            Side::Response => self.stream.on_response_headers(headers, end, false),
        }
    }

    fn on_body(&mut self, side: Side, body: Bytes, end: bool) -> Result<DataAction, Failure> {
        match side {
            Side::Request => self.stream.on_request_body(body.into(), end),
            Side::Response => self.stream.on_response_body(body.into(), end),
        }
    }

    fn on_trailers(&mut self, side: Side, trailers: Fields) -> Result<TrailersAction, Failure> {
        match side {
            Side::Request => self.stream.on_request_trailers(trailers),
            Side::Response => self.stream.on_response_trailers(trailers),
        }
    }

    fn release_headers(&mut self, side: Side) -> Option<Fields> {
        match side {
            Side::Request => self.stream.release_request_headers(),
            Side::Response => self.stream.release_response_headers(),
        }
    }

    fn release_body(&mut self, side: Side) -> Bytes {
        let body = match side {
            Side::Request => self.stream.release_request_body(),
            Side::Response => self.stream.release_response_body(),
        };
        body.map_or_else(Bytes::new, Bytes::from)
    }

    fn release_trailers(&mut self, side: Side) -> Option<Fields> {
        match side {
            Side::Request => self.stream.release_request_trailers(),
            Side::Response => self.stream.release_response_trailers(),
        }
    }
}

/// An answer that nobody gave.
pub(crate) fn plain(status: StatusCode) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    response
}

/// A length that is told must be the length that comes. One that came without a body tells the
/// length of another answer's.
fn correct_length(headers: &mut HeaderMap, had_body: bool, body: &Bytes) {
    if let Some(length) = headers.get_mut(CONTENT_LENGTH)
        && (had_body || !body.is_empty())
    {
        *length = HeaderValue::from(body.len());
    }
}

// === impl Side ===

impl Side {
    fn kind(self) -> crate::fields::FieldsKind {
        match self {
            Self::Request => crate::fields::FieldsKind::Request,
            Self::Response => crate::fields::FieldsKind::Response,
        }
    }
}

// === impl Outcome ===

impl From<Early> for Outcome {
    fn from(early: Early) -> Self {
        match early {
            Early::Reply(reply) => Self::Reply(reply),
            Early::Closed => Self::Closed,
        }
    }
}

// === impl WakingHost ===

impl WakingHost {
    async fn woken(&self) {
        poll_fn(|cx| {
            if self.is_woken.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl StreamHost for WakingHost {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        self.inner.property(path)
    }

    fn set_property(&self, name: &[u8], value: &[u8], span: LifeSpan) -> Result<(), Status> {
        self.inner.set_property(name, value, span)
    }

    fn set_filter_state(&self, key: &str, value: &[u8], span: LifeSpan) -> Result<(), Status> {
        self.inner.set_filter_state(key, value, span)
    }

    fn clear_route_cache(&self, headers: Option<&Fields>) {
        self.inner.clear_route_cache(headers);
    }

    fn wake(&self) {
        self.is_woken.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
        self.inner.wake();
    }
}

impl std::fmt::Debug for WakingHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WakingHost").finish_non_exhaustive()
    }
}
