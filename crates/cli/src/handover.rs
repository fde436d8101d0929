//! Taking listening sockets over from the process before, and handing them over to the next.

use std::path::Path;

use anyhow::Context;
use tokio::sync::oneshot;
use wasmplug_proxy::{HandoverError, HandoverPoint, Inheritance, Proxy, Sockets};

use crate::diagnostics::WithHint;
use crate::output;

/// Takes over what waits at the path, if anything does.
///
/// # Errors
/// Somebody is there and hands nothing over.
pub(crate) fn take(path: Option<&Path>) -> anyhow::Result<(Option<Inheritance>, Option<Sockets>)> {
    let Some(path) = path else { return Ok((None, None)) };
    let inheritance = Inheritance::take(path).map_err(with_hint)?;
    let Some(mut inheritance) = inheritance else { return Ok((None, None)) };
    output::talk("taking over the sockets of the process before");
    let sockets = inheritance.take_sockets();
    Ok((Some(inheritance), sockets))
}

/// Tells the process before that this one serves, then waits until the next one does.
///
/// # Errors
/// Nobody can take over, because the path cannot be used.
pub(crate) async fn serve(
    path: Option<&Path>,
    inheritance: Option<Inheritance>,
    is_serving: oneshot::Receiver<()>,
    proxy: &Proxy,
) -> anyhow::Result<()> {
    let Some(path) = path else { return std::future::pending().await };
    if is_serving.await.is_err() {
        // It never served: the reason is told elsewhere.
        return std::future::pending().await;
    }
    // Before the other one hears that it may go, so that there is always one to take over from.
    let point = HandoverPoint::bind(path).map_err(with_hint)?;
    if let Some(Err(error)) = inheritance.map(Inheritance::ready) {
        tracing::warn!(error = %error, "the process before is gone already");
    }
    let sockets = proxy.sockets();
    let (done, is_done) = oneshot::channel();
    // A thread of its own, which the end of the process does not wait for.
    let wait = move || {
        // Nobody waits for it any more: the process ends.
        let _ = done.send(point.wait(&sockets));
    };
    std::thread::Builder::new().name("handover".into()).spawn(wait)?;
    is_done.await.context("nobody can take over any more")?.map_err(with_hint)?;
    output::talk("a successor has taken over: open requests may end");
    Ok(())
}

fn with_hint(error: HandoverError) -> anyhow::Error {
    let hint = error.hint();
    WithHint::wrap(error, hint)
}
