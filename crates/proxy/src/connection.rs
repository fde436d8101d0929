//! Accepting clients and serving their connections.

use std::cell::Cell;
use std::future::Future;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::Version;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::attributes::{ConnectionInfo, StreamShared};
use crate::config::{ListenerProtocol, ProxyLimits};
use crate::exchange::serve;
use crate::executor::LocalExecutor;
use crate::listener::{FrontError, Opened, TlsSession, Transport};
use crate::network::{NetworkChain, relay};
use crate::peek::{Peek, Rewound};
use crate::upstream::UpstreamIo;
use crate::worker::Worker;

/// HTTP/2's preface, whole: the HTTP library would wait for the rest of it without an end.
/// Source: RFC 9113, section 3.4.
const HTTP2_START: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Before the next try when a connection could not be accepted, so as not to spin. Source: ours.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a client has to confirm that an idle connection of HTTP/2 ends. Source: ours.
const FAREWELL: Duration = Duration::from_secs(1);
/// Bytes between network filters and HTTP, in each direction.
const IN_MEMORY_BYTES: usize = 64 << 10;

/// Accepts until it is told to stop, then waits for open connections, but not for ever.
pub(crate) async fn accept(
    worker: Rc<Worker>,
    listener: TcpListener,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let for_connections = stop.clone();
    let mut connections = JoinSet::new();
    let mut last_id: u64 = worker.first_id();
    loop {
        tokio::select! {
            // Cancel-safe: a connection is either accepted or stays in the queue.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let Some(place) = worker.connections().enter() else {
                        worker.metrics().count_refused_connection();
                        continue;
                    };
                    // Different on each worker.
                    last_id = last_id.saturating_add(worker.id_step());
                    let connection = serve_connection(Rc::clone(&worker), stream, last_id, for_connections.clone());
                    connections.spawn_local(async move {
                        let _place = place;
                        connection.await;
                    });
                }
                Err(error) => {
                    // Out of file descriptors, or the client is gone already: others may still come.
                    tracing::warn!(error = %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            // Cancel-safe: the result stays until it is taken.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            // Cancel-safe: the value is only looked at.
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    drop(listener);
    let drained = async {
        while connections.join_next().await.is_some() {}
        worker.tunnels_ended().await;
    };
    if tokio::time::timeout(worker.config().limits.drain_timeout, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections cut at the end of the drain");
    }
    Ok(())
}

async fn serve_connection(
    worker: Rc<Worker>,
    stream: TcpStream,
    id: u64,
    stop: watch::Receiver<bool>,
) {
    // Without it small answers wait for an acknowledgement; if it fails, they do.
    let _ = stream.set_nodelay(true);
    let metrics = Arc::clone(worker.metrics());
    let _open = metrics.connection_opened();
    let Some(opened) = open(&worker, stream, stop.clone()).await else { return };
    let surroundings = Rc::clone(worker.surroundings());
    let Opened { remote, local, transport } = opened;
    match transport {
        Transport::Plain(stream) => {
            let info = ConnectionInfo::new(id, remote, local, None, surroundings);
            serve_transport(worker, Rc::new(info), stream, stop).await;
        }
        Transport::Tls(stream, session) => {
            let info = ConnectionInfo::new(id, remote, local, Some(session), surroundings);
            serve_transport(worker, Rc::new(info), Rewound::new(stream), stop).await;
        }
    }
}

/// Leads a new connection through what stands in front. `None` if it is to be closed.
async fn open(worker: &Worker, stream: TcpStream, stop: watch::Receiver<bool>) -> Option<Opened> {
    let is_mutual = worker.chain().requires_mutual_tls();
    let opened = match worker.front() {
        None => Opened::plain(stream).map_err(FrontError::from),
        Some(front) => until_last_call(worker, stop, front.open(stream, is_mutual)).await?,
    };
    let metrics = &worker.metrics().front;
    match opened {
        Ok(opened) => {
            metrics.count_opened(&opened);
            // Asked again: the plan may have changed during the handshake.
            if worker.chain().requires_mutual_tls() && !opened.is_mutual() {
                metrics.count_not_mutual();
                tracing::debug!(client = %opened.remote, "a connection without mutual TLS was refused");
                return None;
            }
            Some(opened)
        }
        Err(error) => {
            metrics.count_failure(&error);
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::debug!(error = %error, cause, "a connection was refused");
            None
        }
    }
}

/// Serves a connection on whatever carries its bytes.
async fn serve_transport<T>(
    worker: Rc<Worker>,
    info: Rc<ConnectionInfo>,
    stream: T,
    stop: watch::Receiver<bool>,
) where
    T: Peek + AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let idle = worker.config().limits.tcp_idle_timeout;
    // A connection keeps its network plugins; those of HTTP are chosen anew for each stream.
    let Some(network) = network_chain(&worker, &info) else { return };
    match worker.config().listener {
        ListenerProtocol::Http if network.is_empty() => {
            drop(network);
            serve_http(worker, info, stream, stop).await;
        }
        ListenerProtocol::Http => {
            let (inner, outer) = tokio::io::duplex(IN_MEMORY_BYTES);
            let (let_through, is_through) = oneshot::channel();
            let connect = async {
                // Nobody waits for it any more: HTTP is over.
                let _ = let_through.send(());
                Ok(outer)
            };
            let relayed = relay(network, stream, connect, idle, true, None);
            // The times of HTTP begin when the plugins have let the connection through.
            let served = async {
                if is_through.await.is_ok() {
                    serve_http(worker, info, Rewound::new(inner), stop).await;
                }
            };
            tokio::join!(relayed, served);
        }
        ListenerProtocol::Tcp => {
            let shared = Rc::clone(network.shared());
            let chain = worker.chain();
            let identities = info.identities();
            let record = chain.stats().and_then(|stats| stats.connection_opened(identities));
            let connect = connect_upstream(&worker, shared);
            relay(network, stream, connect, idle, false, record).await;
        }
    }
}

/// The network filters of a new connection. `None` if it is to be closed at once.
fn network_chain(worker: &Worker, info: &Rc<ConnectionInfo>) -> Option<NetworkChain> {
    let chain = worker.chain();
    let shared = Rc::new(StreamShared::new(Rc::clone(info), Version::HTTP_11));
    NetworkChain::new(chain.network()?, shared, worker.config().limits.buffer_bytes).ok()
}

/// Connects to the cluster that a plugin chose, or else to the upstream.
async fn connect_upstream(
    worker: &Worker,
    shared: Rc<StreamShared>,
) -> std::io::Result<UpstreamIo> {
    let chosen = shared.tcp_cluster();
    let pool = match &chosen {
        None => &shared.route().pool,
        Some(name) => worker.clusters().named(name).ok_or_else(|| {
            std::io::Error::other(format!("a plugin chose the cluster `{name}`, which is unknown"))
        })?,
    };
    let (stream, ends) = pool.connect_raw().await.map_err(std::io::Error::other)?;
    shared.note_upstream(ends.peer, ends.local);
    Ok(stream)
}

async fn serve_http<T>(
    worker: Rc<Worker>,
    info: Rc<ConnectionInfo>,
    mut stream: T,
    stop: watch::Receiver<bool>,
) where
    T: Peek + AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = worker.config().limits.clone();
    let (alone, asked) = (Rc::strong_count(&info), Cell::new(0_u64));
    let service = service_fn(|request| {
        asked.set(asked.get().wrapping_add(1));
        let (worker, info) = (Rc::clone(&worker), Rc::clone(&info));
        serve(worker, info, request)
    });
    let agreed = info.tls().and_then(TlsSession::is_http2);
    let is_http2 = if agreed == Some(true) {
        // The HTTP library tells its client to stop in a way that loses no request.
        true
    } else {
        let begins = stream.begins_with(HTTP2_START);
        let begins = tokio::time::timeout(limits.header_timeout, begins);
        let Some(begins) = until_last_call(&worker, stop.clone(), begins).await else { return };
        begins.unwrap_or(false) && agreed.is_none()
    };
    let result = if is_http2 {
        let mut builder = http2::Builder::new(LocalExecutor);
        builder
            .timer(TokioTimer::new())
            .max_header_list_size(limits.header_list_bytes())
            .max_concurrent_streams(limits.announced_streams())
            .max_pending_accept_reset_streams(limits.pending_reset_streams)
            .max_local_error_reset_streams(limits.error_reset_streams);
        let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let idle = without_streams(&info, alone, &asked, limits.connection_idle_timeout);
        let shut_down = http2::Connection::graceful_shutdown;
        drive(connection, shut_down, stop, idle).await
    } else {
        let builder = http1_builder(&limits);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = pin!(connection.with_upgrades());
        let shut_down = http1::UpgradeableConnection::graceful_shutdown;
        // Its head has to come in time, also that of a further request.
        drive(connection, shut_down, stop, std::future::pending()).await
    };
    if let Err(error) = result {
        tracing::debug!(error = %error, "client connection ended");
    }
}

/// Waits for what a new connection has to say first, when the proxy stops only a little longer: its
/// first request may be on its way. `None` if it did not come.
async fn until_last_call<T>(
    worker: &Worker,
    mut stop: watch::Receiver<bool>,
    first: impl Future<Output = T>,
) -> Option<T> {
    let mut first = pin!(first);
    tokio::select! {
        // Cancel-safe: it is polled on below.
        first = first.as_mut() => return Some(first),
        // Cancel-safe: the value is only looked at.
        _ = stop.wait_for(|stop| *stop) => {}
    }
    tokio::time::timeout(worker.config().limits.last_call_timeout, first).await.ok()
}

/// Waits until a connection has had no stream for this time; `asked` counts them, and each holds
/// what is known of the connection once more than `alone`.
async fn without_streams(
    info: &Rc<ConnectionInfo>,
    alone: usize,
    asked: &Cell<u64>,
    time: Duration,
) {
    let mut idle_since = None;
    loop {
        let is_alone = Rc::strong_count(info) == alone;
        if is_alone && idle_since == Some(asked.get()) {
            return;
        }
        idle_since = is_alone.then(|| asked.get());
        tokio::time::sleep(time).await;
    }
}

/// Serves a connection to its end; told to stop, it takes no further request. Once it is idle, it
/// is told to end, and ended.
async fn drive<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    shut_down: impl FnOnce(Pin<&mut C>),
    mut stop: watch::Receiver<bool>,
    idle: impl Future<Output = ()>,
) -> hyper::Result<()> {
    tokio::select! {
        // What has arrived is read first: the HTTP library closes at once if it has seen nothing.
        biased;
        // Cancel-safe: it is polled on below.
        result = connection.as_mut() => result,
        // Cancel-safe: the value is only looked at.
        _ = stop.wait_for(|stop| *stop) => {
            shut_down(connection.as_mut());
            connection.await
        }
        // Cancel-safe: it is not polled again.
        () = idle => {
            shut_down(connection.as_mut());
            // Nobody waits for an answer, and the client may be gone.
            tokio::time::timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
        }
    }
}

fn http1_builder(limits: &ProxyLimits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_headers(limits.headers)
        .max_header_size(limits.header_bytes)
        // The date is ours, so that it stands before the server's name as in Envoy.
        .auto_date_header(false);
    builder
}
