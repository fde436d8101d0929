//! Connections that stop speaking HTTP: WebSocket, through the plugins.
//!
//! After the head of the 101 response both connections carry bytes. Plugins see them as body bytes
//! of the request and of the response, which never end. Source: Envoy's upgrades.

use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Request, Version};
use hyper::body::Body;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use wasmplug_host::BodyBuffer;

use crate::body::FinishOnDrop;
use crate::filter::Side;
use crate::network::{Writing, poll_read_available, reset};
use crate::stream::Stream;

/// What is spoken after an upgrade that is let through. Source: Istio allows just this one.
const WEBSOCKET: &str = "websocket";

/// Both ends of an upgraded connection, one direction each.
struct Tunnel {
    client: TokioIo<Upgraded>,
    upstream: TokioIo<Upgraded>,
    to_client: Writing,
    to_upstream: Writing,
    has_client_ended: bool,
    has_upstream_ended: bool,
}

/// One direction of a tunnel.
struct Direction<'a> {
    from: &'a mut TokioIo<Upgraded>,
    to: &'a mut TokioIo<Upgraded>,
    writing: &'a mut Writing,
    /// Nothing more comes.
    has_ended: &'a mut bool,
}

/// Takes the right to upgrade out of a request that asks for WebSocket. One with a body does not:
/// what follows its head would be read as something else upstream.
pub(crate) fn asked_for<B: Body>(request: &mut Request<B>) -> Option<OnUpgrade> {
    let is_asked = request.version() == Version::HTTP_11
        && is_websocket(request.headers())
        && request.body().is_end_stream();
    is_asked.then(|| hyper::upgrade::on(request))
}

fn is_websocket(headers: &HeaderMap) -> bool {
    let names = |name: http::HeaderName, wanted: &str| {
        let values = headers.get_all(name);
        let mut words =
            values.iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
    };
    names(CONNECTION, "upgrade") && names(UPGRADE, WEBSOCKET)
}

/// Moves bytes between both ends, without plugins, until both are done or nothing moves for too
/// long. Each direction ends on its own.
pub(crate) async fn splice(client: OnUpgrade, upstream: OnUpgrade, idle_timeout: Duration) {
    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
    let mut tunnel = Tunnel::new(client, upstream);
    let mut idle = std::pin::pin!(tokio::time::sleep(idle_timeout));
    poll_fn(|cx| {
        loop {
            match tunnel.step_straight(cx) {
                Ok(true) => reset(idle.as_mut(), idle_timeout),
                Ok(false) if tunnel.is_done() => return Poll::Ready(()),
                Ok(false) => break,
                // How it ends is seen by both peers, and nobody else asks.
                Err(_) => return Poll::Ready(()),
            }
        }
        idle.as_mut().poll(cx)
    })
    .await;
}

/// Moves bytes between both ends, through the plugins of the stream, which then ends.
pub(crate) async fn tunnel(
    stream: Rc<Stream>,
    finish: FinishOnDrop,
    client: OnUpgrade,
    upstream: OnUpgrade,
) {
    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
    let mut tunnel = Tunnel::new(client, upstream);
    for side in [Side::Request, Side::Response] {
        stream.tunnel(side, BodyBuffer::default());
    }
    poll_fn(|cx| {
        loop {
            match tunnel.step(&stream, cx) {
                Ok(true) => {}
                // What a filter has not answered yet is still on its way.
                Ok(false) if tunnel.is_over() && !stream.awaits_answer() => {
                    return Poll::Ready(());
                }
                Ok(false) => break,
                Err(_) => return Poll::Ready(()),
            }
        }
        stream.wait(cx);
        Poll::Pending
    })
    .await;
    drop(finish);
}

// === impl Tunnel ===

impl Tunnel {
    fn new(client: Upgraded, upstream: Upgraded) -> Self {
        Self {
            client: TokioIo::new(client),
            upstream: TokioIo::new(upstream),
            to_client: Writing::default(),
            to_upstream: Writing::default(),
            has_client_ended: false,
            has_upstream_ended: false,
        }
    }

    /// One side has ended: what waits is written, and nothing is read any more.
    fn is_ending(&self) -> bool {
        self.has_client_ended || self.has_upstream_ended
    }

    fn is_over(&self) -> bool {
        self.is_ending() && self.to_client.is_empty() && self.to_upstream.is_empty()
    }

    /// Whether both sides have ended, and know of each other's end.
    fn is_done(&self) -> bool {
        self.to_client.is_done() && self.to_upstream.is_done()
    }

    fn direction(&mut self, side: Side) -> Direction<'_> {
        match side {
            Side::Request => Direction {
                from: &mut self.client,
                to: &mut self.upstream,
                writing: &mut self.to_upstream,
                has_ended: &mut self.has_client_ended,
            },
            Side::Response => Direction {
                from: &mut self.upstream,
                to: &mut self.client,
                writing: &mut self.to_client,
                has_ended: &mut self.has_upstream_ended,
            },
        }
    }

    /// Moves what can be moved now, past no plugin; returns whether anything was.
    fn step_straight(&mut self, cx: &mut Context<'_>) -> std::io::Result<bool> {
        let mut has_moved = false;
        for side in [Side::Request, Side::Response] {
            let Direction { from, to, writing, has_ended } = self.direction(side);
            let may_read = !*has_ended && writing.has_room();
            if may_read && let Poll::Ready(read) = poll_read_available(from, cx) {
                has_moved = true;
                let (bytes, end) = read?;
                *has_ended = end;
                writing.add(bytes, end);
            }
            has_moved |= writing.poll_write(to, cx)?;
        }
        Ok(has_moved)
    }

    /// Moves what can be moved now; returns whether anything was.
    fn step(&mut self, stream: &Stream, cx: &mut Context<'_>) -> std::io::Result<bool> {
        if stream.looks_reset() {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let mut has_moved = false;
        for side in [Side::Request, Side::Response] {
            let is_ending = self.is_ending();
            let Direction { from, to, writing, has_ended } = self.direction(side);
            let may_read = !is_ending && writing.has_room() && stream.wants_more(side);
            if may_read && let Poll::Ready(read) = poll_read_available(from, cx) {
                has_moved = true;
                let (bytes, end) = read?;
                *has_ended = end;
                if !bytes.is_empty() {
                    stream.tunnel(side, bytes);
                }
            }
            writing.add(stream.take_tunnelled(side), false);
            has_moved |= writing.poll_write(to, cx)?;
        }
        Ok(has_moved)
    }
}

#[cfg(test)]
mod tests {
    use super::is_websocket;
    use http::HeaderMap;

    #[test]
    fn a_request_asks_for_websocket_with_both_headers() {
        let asks = |pairs: &[(&'static str, &'static str)]| {
            let entries =
                pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            is_websocket(&entries.collect::<HeaderMap>())
        };
        assert!(asks(&[("connection", "keep-alive, Upgrade"), ("upgrade", "WebSocket")]));
        assert!(!asks(&[("connection", "upgrade"), ("upgrade", "h2c")]));
        assert!(!asks(&[("upgrade", "websocket")]));
        assert!(!asks(&[("connection", "upgrade")]));
    }
}
