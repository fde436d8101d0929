//! Connections that stop speaking HTTP: WebSocket, through the plugins.
//!
//! After the head of the 101 response both connections carry bytes. Plugins see them as body bytes
//! of the request and of the response, which never end. Source: Envoy's upgrades.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, Request, Version};
use hyper::body::Body;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use wasmplug_host::BodyBuffer;

use crate::body::FinishOnDrop;
use crate::filter::Side;
use crate::network::{Writing, poll_read_available};
use crate::stream::Stream;

/// What is spoken after an upgrade that is let through. Source: Istio allows just this one.
const WEBSOCKET: &str = "websocket";

/// Both ends of an upgraded connection, one direction each.
struct Tunnel {
    client: TokioIo<Upgraded>,
    upstream: TokioIo<Upgraded>,
    to_client: Writing,
    to_upstream: Writing,
    /// One side has ended: what waits is written, and nothing is read any more.
    is_ending: bool,
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

/// Moves bytes between both ends, without plugins.
pub(crate) async fn splice(client: OnUpgrade, upstream: OnUpgrade) {
    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    // How it ends is seen by both peers, and nobody else asks.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
}

/// Moves bytes between both ends, through the plugins of the stream, which then ends.
pub(crate) async fn tunnel(
    stream: Rc<Stream>,
    finish: FinishOnDrop,
    client: OnUpgrade,
    upstream: OnUpgrade,
) {
    let (Ok(client), Ok(upstream)) = tokio::join!(client, upstream) else { return };
    let mut tunnel = Tunnel {
        client: TokioIo::new(client),
        upstream: TokioIo::new(upstream),
        to_client: Writing::default(),
        to_upstream: Writing::default(),
        is_ending: false,
    };
    for side in [Side::Request, Side::Response] {
        stream.tunnel(side, BodyBuffer::default());
    }
    poll_fn(|cx| {
        loop {
            match tunnel.step(&stream, cx) {
                Ok(true) => {}
                Ok(false) if tunnel.is_over() => return Poll::Ready(()),
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
    fn is_over(&self) -> bool {
        self.is_ending && self.to_client.is_empty() && self.to_upstream.is_empty()
    }

    /// Moves what can be moved now; returns whether anything was.
    fn step(&mut self, stream: &Stream, cx: &mut Context<'_>) -> std::io::Result<bool> {
        if stream.looks_reset() {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        let mut has_moved = false;
        for side in [Side::Request, Side::Response] {
            let (from, to, writing) = match side {
                Side::Request => (&mut self.client, &mut self.upstream, &mut self.to_upstream),
                Side::Response => (&mut self.upstream, &mut self.client, &mut self.to_client),
            };
            let may_read = !self.is_ending && writing.has_room() && stream.wants_more(side);
            if may_read && let Poll::Ready(read) = poll_read_available(from, cx) {
                has_moved = true;
                let (bytes, end) = read?;
                self.is_ending |= end;
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
