//! From a client's request to the head of its response.
//!
//! ```text
//! no filters:  request ───────────────────────────> upstream ─> response
//! filters:     request ─> chain ─> (held? wait) ──> upstream ─> chain ─> (held? wait) ─> response
//! ```

mod heads;

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::upgrade::OnUpgrade;
use wasmplug_host::{Fields, LocalReply, Pseudo};

pub(crate) use self::heads::note_upstream_time;
use self::heads::{Received, X_UPSTREAM_TIME, milliseconds};
use crate::access_log::AccessRecord;
use crate::admission::{self, Refusal};
use crate::attributes::{ConnectionInfo, StreamShared, UpstreamExchange, flags};
use crate::body::{
    DownstreamBody, End, FilteredBody, FinishOnDrop, LeasedBody, UpstreamBody, WholeBody,
};
use crate::filter::Side;
use crate::filters::stats::StreamRecord;
use crate::hop_by_hop;
use crate::local_reply;
use crate::stream::{RequestEvent, Stream};
use crate::upgrade;
use crate::upstream::{Lease, Pool, UpstreamError};
use crate::worker::{Worker, WorkerChain};

/// The stream ends without an answer; the client sees its connection closed.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset")]
pub(crate) struct StreamReset;

type Answer = Result<Response<DownstreamBody>, StreamReset>;
type UpstreamAnswer = Result<(Response<Incoming>, Lease), UpstreamError>;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Serves one request.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    connection: Rc<ConnectionInfo>,
    mut request: Request<Incoming>,
) -> Answer {
    let chain = worker.chain();
    let upgrade = upgrade::asked_for(&mut request);
    let level = chain.path_normalization();
    let max_headers = worker.config().limits.headers;
    if let Err(refusal) = admission::admit(&mut request, upgrade.is_some(), level, max_headers) {
        return Ok(refuse(&worker, connection, &request, refusal));
    }
    if request.version() == Version::HTTP_2 {
        heads::join_cookies(request.headers_mut());
    }
    let is_head = *request.method() == Method::HEAD;
    let answer = if chain.is_straight() && worker.surroundings().access_log.is_none() {
        straight(&worker, &chain, &connection, request, upgrade).await
    } else {
        let is_http1 = request.version() < Version::HTTP_2;
        let (parts, body) = request.into_parts();
        let shared = Rc::new(StreamShared::new(connection, parts.version));
        let limit = worker.config().limits.buffer_bytes;
        let stream = Stream::new(Rc::clone(&shared), chain, limit, body, is_http1, upgrade);
        shared.watch();
        let method = parts.method;
        let transport = transport_of(shared.connection_info());
        let scheme = heads::scheme(&parts.uri, &parts.headers, transport);
        let scheme = Some(HeaderValue::from_static(scheme));
        let mut fields = Fields::from_request_head(&method, &parts.uri, scheme, parts.headers);
        heads::prepare_fields(&mut fields, transport);
        shared.request_header_bytes.set(u64::try_from(fields.byte_size()).unwrap_or(u64::MAX));
        let length = fields.get_name(&CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        shared.request_length.set(length.and_then(|length| length.parse().ok()));
        shared.note_client(&fields);
        shared.choose_route(&fields);
        stream.start_request(fields);
        filtered(&worker, &shared, &stream, Received { method, uri: parts.uri }).await
    };
    worker.metrics().count_answer(answer.as_ref().ok().map(Response::status));
    if is_head { answer.map(|answer| answer.map(DownstreamBody::without_bytes)) } else { answer }
}

/// The scheme that belongs to how the client came here.
fn transport_of(connection: &ConnectionInfo) -> &'static str {
    if connection.tls().is_some() { "https" } else { "http" }
}

/// Answers a request that no filter is to see.
fn refuse(
    worker: &Worker,
    connection: Rc<ConnectionInfo>,
    request: &Request<Incoming>,
    refusal: Refusal,
) -> Response<DownstreamBody> {
    let is_grpc = local_reply::is_grpc(request.headers().get(http::header::CONTENT_TYPE));
    let (status, details) = (refusal.reply.status, refusal.reply.details.clone());
    let mut answer = own_answer(worker, refusal.reply, local_reply::ReplyContext { is_grpc });
    if refusal.closes {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    worker.metrics().count_answer(Some(answer.status()));
    if let Some(log) = &worker.surroundings().access_log {
        let shared = StreamShared::new(connection, request.version());
        shared.response_code.set(Some(status));
        shared.set_details(details);
        log.write(&AccessRecord::of_request(request), &shared, std::iter::empty());
    }
    answer
}

/// Without filters nothing is taken apart.
async fn straight(
    worker: &Worker,
    chain: &WorkerChain,
    connection: &ConnectionInfo,
    request: Request<Incoming>,
    upgrade: Option<OnUpgrade>,
) -> Answer {
    let (mut parts, body) = request.into_parts();
    heads::prepare_headers(&mut parts.headers, transport_of(connection));
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        // What the target says counts more than a header. Source: RFC 9112, 3.2.2; HTTP/2.
        parts.headers.insert(HOST, host);
    }
    parts.uri = heads::origin_form(parts.uri);
    parts.version = Version::HTTP_11;
    // Counts the stream when it is over, however it ends.
    let mut record =
        chain.stats().map(|stats| stats.begin(&parts.headers, connection.identities()));
    let body = if body.is_end_stream() {
        UpstreamBody::Empty
    } else {
        UpstreamBody::Straight(body, record.as_mut().map(StreamRecord::request_count))
    };
    let begin = tokio::time::Instant::now();
    let is_grpc = local_reply::is_grpc(parts.headers.get(http::header::CONTENT_TYPE));
    let mut request = Request::from_parts(parts, body);
    heads::announce_body(&mut request);
    let pool = Rc::clone(straight_route(worker, &request));
    let sent = pool.send_within(request, worker.config().limits.request_timeout).await;
    let answer = without_unasked_switch(sent, upgrade.is_some());
    if let (Some(record), Ok((response, _))) = (&mut record, &answer) {
        record.answered(response.status(), response.headers());
    }
    match answer {
        Ok((mut response, _)) if is_switching(&response, upgrade.is_some()) => {
            let upstream = hyper::upgrade::on(&mut response);
            if let Some(client) = upgrade {
                let idle_timeout = worker.config().limits.stream_idle_timeout;
                worker.spawn_tunnel(upgrade::splice(client, upstream, idle_timeout));
            }
            let mut headers = std::mem::take(response.headers_mut());
            note_upstream_time(&mut headers, begin);
            heads::finish_headers(worker, &mut headers);
            let end = record.map_or(End::Nothing, End::Record);
            let body = DownstreamBody::Full(WholeBody::sized(Bytes::new()), end);
            Ok(new_response(StatusCode::SWITCHING_PROTOCOLS, headers, body))
        }
        Ok((response, lease)) => {
            let (parts, body) = response.into_parts();
            let body = LeasedBody::new(body, lease);
            let is_empty = parts.headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0");
            let mut response = new_response(
                parts.status,
                parts.headers,
                if is_empty {
                    let end = record.map_or(End::Nothing, End::Record);
                    DownstreamBody::Full(WholeBody::sized(Bytes::new()), end)
                } else {
                    DownstreamBody::Straight(body, record)
                },
            );
            hop_by_hop::remove(response.headers_mut());
            note_upstream_time(response.headers_mut(), begin);
            heads::finish_headers(worker, response.headers_mut());
            Ok(response)
        }
        Err(error) => {
            report_upstream(&error);
            let cx = local_reply::ReplyContext { is_grpc };
            let response = own_answer(worker, local_reply::upstream_failure(&error), cx);
            let Some(mut record) = record else { return Ok(response) };
            record.failed(failure_flags(&error));
            record.answered(response.status(), response.headers());
            Ok(response.map(|body| body.recorded(record)))
        }
    }
}

fn straight_route<'a>(worker: &'a Worker, request: &Request<UpstreamBody>) -> &'a Rc<Pool> {
    let authority = request.headers().get(HOST).map_or(&b""[..], HeaderValue::as_bytes);
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    &worker.surroundings().routes.find_by(authority, path.as_bytes()).pool
}

async fn filtered(
    worker: &Worker,
    shared: &Rc<StreamShared>,
    stream: &Rc<Stream>,
    received: Received,
) -> Answer {
    // Ends the stream also when the client leaves before the answer.
    let finish = FinishOnDrop::new(Rc::clone(stream));
    let headers = loop {
        match poll_fn(|cx| stream.poll_request(cx)).await {
            RequestEvent::SendUpstream(headers) => {
                match upstream_request(stream, headers, &received) {
                    Ok(request) => break ask_upstream(worker, shared, stream, request).await?,
                    Err(missing) => stream.reply(local_reply::invalid_request(missing)),
                }
            }
            RequestEvent::Respond(headers) => break headers,
            RequestEvent::Reset => return Err(StreamReset),
        }
    };
    respond(worker, stream, headers, &received.method, finish).await
}

/// Sends the request and waits for the head of the response, from wherever it comes.
async fn ask_upstream(
    worker: &Worker,
    shared: &StreamShared,
    stream: &Rc<Stream>,
    request: Request<UpstreamBody>,
) -> Result<Fields, StreamReset> {
    let begin = tokio::time::Instant::now();
    let pool = Rc::clone(&shared.route().pool);
    let timeout = worker.config().limits.request_timeout;
    let mut answer = Some(Box::pin(pool.send_within(request, timeout)));
    poll_fn(|cx| {
        loop {
            match stream.poll_response(cx) {
                Poll::Ready(RequestEvent::Respond(headers)) => return Poll::Ready(Ok(headers)),
                Poll::Ready(RequestEvent::SendUpstream(_)) => continue,
                Poll::Ready(RequestEvent::Reset) => return Poll::Ready(Err(StreamReset)),
                Poll::Pending => {}
            }
            let Some(asked) = &mut answer else { return Poll::Pending };
            let result = std::task::ready!(asked.as_mut().poll(cx));
            answer = None;
            let result = without_unasked_switch(result, stream.may_upgrade());
            take_answer(shared, stream, result, begin);
        }
    })
    .await
}

/// Starts the response that the upstream gave, or the one for its failure.
fn take_answer(
    shared: &StreamShared,
    stream: &Stream,
    result: UpstreamAnswer,
    begin: tokio::time::Instant,
) {
    match result {
        Ok((mut response, lease)) => {
            shared.upstream.set(Some(UpstreamExchange {
                peer: lease.peer(),
                local: lease.local(),
                latency: begin.elapsed(),
            }));
            let is_http1 = lease.is_http1();
            if is_switching(&response, stream.may_upgrade()) {
                let upstream = hyper::upgrade::on(&mut response);
                let mut headers = std::mem::take(response.headers_mut());
                note_upstream_time(&mut headers, begin);
                let status = StatusCode::SWITCHING_PROTOCOLS;
                let headers = Fields::from_response_head(status, headers, |_| true);
                stream.start_upgrade(headers, upstream);
                return;
            }
            let (parts, body) = response.into_parts();
            let keep = |name: &HeaderName| !hop_by_hop::is_hop_by_hop(name);
            let mut headers = Fields::from_response_head(parts.status, parts.headers, keep);
            headers.set_name(X_UPSTREAM_TIME, milliseconds(begin));
            stream.start_response(headers, LeasedBody::new(body, lease), is_http1);
        }
        Err(error) => {
            if stream.is_answered() {
                // The request was given up, because its answer came from elsewhere.
                return;
            }
            report_upstream(&error);
            shared.response_flags.set(failure_flags(&error));
            stream.reply(local_reply::upstream_failure(&error));
        }
    }
}

fn failure_flags(error: &UpstreamError) -> u64 {
    match error {
        _ if error.is_protocol_error() => flags::UPSTREAM_PROTOCOL_ERROR,
        UpstreamError::Request(_) => flags::UPSTREAM_CONNECTION_TERMINATION,
        UpstreamError::RequestTimeout => flags::UPSTREAM_REQUEST_TIMEOUT,
        UpstreamError::NoEndpoint { .. } => flags::NO_HEALTHY_UPSTREAM,
        UpstreamError::Overflow { .. } => flags::UPSTREAM_OVERFLOW,
        _ => flags::UPSTREAM_CONNECTION_FAILURE,
    }
}

/// Makes the response to the client from what lies at the end of the chain.
async fn respond(
    worker: &Worker,
    stream: &Rc<Stream>,
    mut headers: Fields,
    method: &Method,
    finish: FinishOnDrop,
) -> Answer {
    poll_fn(|cx| {
        stream.read_ahead(cx);
        Poll::Ready(())
    })
    .await;
    if stream.is_reset() {
        return Err(StreamReset);
    }
    let is_modified = stream.is_body_modified(Side::Response);
    let whole = stream.take_whole_body(Side::Response);
    if is_modified && whole.is_none() && *method != Method::HEAD {
        // The length that was announced is no longer true, and the new one is not known.
        headers.remove_name(&CONTENT_LENGTH);
    }
    let upgrade = stream.take_upgrade();
    headers
        .retain(|name| !heads::is_framing(name) || upgrade.is_some() && *name != TRANSFER_ENCODING);
    let status = headers.pseudo(Pseudo::Status);
    let status = status.and_then(|status| StatusCode::from_bytes(status.as_bytes()).ok());
    let is_final = |status: &StatusCode| !status.is_informational() || upgrade.is_some();
    let Some(status) = status.filter(is_final) else {
        // A filter removed or broke `:status`.
        let cx = local_reply::ReplyContext::default();
        return Ok(own_answer(worker, local_reply::invalid_response(), cx));
    };
    if worker.config().has_server_timing
        && let Some(timing) = stream.server_timing()
    {
        headers.push(SERVER_TIMING, timing);
    }
    let for_log = stream.wants_log().then(|| headers.clone());
    heads::finish_fields(worker, &mut headers);
    let mut map = headers.into_header_map();
    if let Some(kept) = for_log {
        stream.keep_response_headers(kept);
    }
    if let Some((client, upstream)) = upgrade {
        worker.spawn_tunnel(upgrade::tunnel(Rc::clone(stream), finish, client, upstream));
        let body = DownstreamBody::Full(WholeBody::sized(Bytes::new()), End::Nothing);
        return Ok(new_response(status, map, body));
    }
    if stream.must_close() {
        map.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let body = match whole {
        Some(body) => {
            let is_bare = stream.is_bare(Side::Response);
            let body = WholeBody::framed(&mut map, body, is_bare);
            DownstreamBody::Full(body, End::Finish(finish))
        }
        None => {
            let body = FilteredBody::new(Rc::clone(stream), Side::Response);
            DownstreamBody::Filtered(body, finish)
        }
    };
    Ok(new_response(status, map, body))
}

/// Source: Envoy calls a status without a registered reason phrase unknown.
fn new_response(
    status: StatusCode,
    headers: HeaderMap,
    body: DownstreamBody,
) -> Response<DownstreamBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    if status.canonical_reason().is_none() || status == StatusCode::IM_A_TEAPOT {
        response.extensions_mut().insert(ReasonPhrase::from_static(b"Unknown"));
    }
    response
}

/// An answer that no filter sees.
fn own_answer(
    worker: &Worker,
    reply: LocalReply,
    cx: local_reply::ReplyContext,
) -> Response<DownstreamBody> {
    let (mut headers, body) = local_reply::message(reply, cx);
    let status = headers.take_pseudo(Pseudo::Status);
    let status = status.and_then(|status| StatusCode::from_bytes(status.as_bytes()).ok());
    let (mut headers, is_bare) = (headers.into_header_map(), body.is_empty());
    heads::finish_headers(worker, &mut headers);
    let body = WholeBody::framed(&mut headers, body.into(), is_bare);
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    new_response(status, headers, DownstreamBody::Full(body, End::Nothing))
}

/// Puts the request's head together again, as the last filter left it.
///
/// # Errors
/// The name of the pseudo-header that is missing or not valid.
fn upstream_request(
    stream: &Rc<Stream>,
    mut headers: Fields,
    received: &Received,
) -> Result<Request<UpstreamBody>, &'static str> {
    let kept = stream.wants_log().then(|| headers.clone());
    let is_modified = stream.is_body_modified(Side::Request);
    let whole = stream.take_whole_body(Side::Request);
    let method = headers.pseudo(Pseudo::Method);
    let method = method.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let path = headers.pseudo(Pseudo::Path).and_then(|path| received.target(path));
    let authority = headers.pseudo(Pseudo::Authority).cloned();
    let is_upgrade = stream.may_upgrade();
    if is_upgrade || is_modified && whole.is_none() {
        // What follows an upgrade is no body, and no plugin can announce one.
        headers.remove_name(&CONTENT_LENGTH);
    }
    headers.retain(|name| *name != TRANSFER_ENCODING);
    let mut map = HeaderMap::with_capacity(headers.len().saturating_add(1));
    if let Some(authority) = authority {
        map.insert(HOST, authority);
    }
    for (name, value) in headers.into_regular() {
        map.append(name, value);
    }
    let is_bare = stream.is_bare(Side::Request);
    let mut request = Request::new(match whole {
        _ if is_upgrade => UpstreamBody::Empty,
        Some(body) if body.is_empty() && (is_bare || map.contains_key(CONTENT_LENGTH)) => {
            // A plugin may have announced bytes that do not come.
            if let Some(length) = map.get_mut(CONTENT_LENGTH) {
                *length = HeaderValue::from(0);
            }
            UpstreamBody::Empty
        }
        Some(body) => UpstreamBody::Full(WholeBody::framed(&mut map, body, false)),
        None => UpstreamBody::Filtered(FilteredBody::new(Rc::clone(stream), Side::Request)),
    });
    *request.method_mut() = method.ok_or(":method")?;
    *request.uri_mut() = path.ok_or(":path")?;
    *request.headers_mut() = map;
    heads::announce_body(&mut request);
    if let Some(kept) = kept {
        stream.keep_request_headers(kept);
    }
    Ok(request)
}

/// Takes an upstream that speaks another protocol, although nobody asked for it, for broken.
fn without_unasked_switch(answer: UpstreamAnswer, is_asked: bool) -> UpstreamAnswer {
    match answer {
        Ok((response, _)) if !is_asked && response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(UpstreamError::UnaskedSwitch)
        }
        answer => answer,
    }
}

/// Whether the upstream agrees to an upgrade that the client asked for.
fn is_switching(response: &Response<Incoming>, is_asked: bool) -> bool {
    is_asked && response.status() == StatusCode::SWITCHING_PROTOCOLS
}

fn report_upstream(error: &UpstreamError) {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::warn!(error = %error, cause, hint = error.hint(), "upstream request failed");
}
