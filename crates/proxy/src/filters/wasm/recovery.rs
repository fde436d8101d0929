//! Streams beside a death: they go on in a fresh VM, which is shown their request again.

use std::cell::Cell;
use std::rc::Rc;

use wasmplug_host::abi::{HeadersAction, Status};
use wasmplug_host::{Fields, HttpStream, LifeSpan, PropertyValue, StreamHost};

use super::{State, WasmFilter};
use crate::attributes::StreamShared;

/// What a stream offers to a plugin that hears of it for the second time.
///
/// The first time has left its marks on the stream already, so nothing is changed before the plugin
/// has caught up.
struct SecondHearing {
    stream: Rc<StreamShared>,
    has_caught_up: Cell<bool>,
}

// === impl WasmFilter ===

impl WasmFilter {
    /// Moves the stream into a fresh VM if its own has died of another stream, so that the plugin
    /// is in effect on the response as well.
    ///
    /// The plugin is shown `request`, the headers that the upstream got, once more, and has to let
    /// them pass; what it makes of them is forgotten. Where it does not, where no VM may be started
    /// now or no new stream comes to it, and where the plugin has heard of more than headers, which
    /// cannot be repeated, nothing happens here: the fail strategy decides as ever.
    pub(crate) fn recover(&mut self, stream: &Rc<StreamShared>, request: &Fields, is_bare: bool) {
        let State::Live(dead) = &self.state else { return };
        if !dead.has_failed() || !self.has_seen_request || !dead.hears_response() {
            return;
        }
        if !is_bare && dead.hears_request_body() || self.factory.is_retired() {
            return;
        }
        let host = SecondHearing { stream: Rc::clone(stream), has_caught_up: Cell::default() };
        let host = Rc::new(host);
        let Some(mut fresh) = self.factory.open_stream(Rc::clone(&host) as Rc<dyn StreamHost>)
        else {
            return;
        };
        let allow_stop = self.factory.allows_headers_stop();
        let shown = fresh.on_request_headers(request.clone(), is_bare, allow_stop);
        if is_passed(&mut fresh, shown.ok()) {
            host.has_caught_up.set(true);
            self.state = State::Live(fresh);
            self.factory.spec().stats.count_recovery();
        } else {
            // The guest has heard of it, and must not keep it.
            fresh.finish();
        }
    }
}

/// Whether the plugin let the request pass without a word.
fn is_passed(stream: &mut HttpStream, action: Option<HeadersAction>) -> bool {
    let actions = stream.take_actions();
    stream.release_request_headers();
    action == Some(HeadersAction::Continue)
        && actions.local_reply.is_none()
        && actions.close.is_none()
}

// === impl SecondHearing ===

impl StreamHost for SecondHearing {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        self.stream.property(path)
    }

    fn set_property(&self, name: &[u8], value: &[u8], span: LifeSpan) -> Result<(), Status> {
        if self.has_caught_up.get() { self.stream.set_property(name, value, span) } else { Ok(()) }
    }

    fn set_filter_state(&self, key: &str, value: &[u8], span: LifeSpan) -> Result<(), Status> {
        if self.has_caught_up.get() {
            self.stream.set_filter_state(key, value, span)
        } else {
            Ok(())
        }
    }

    fn clear_route_cache(&self, headers: Option<&Fields>) {
        if self.has_caught_up.get() {
            self.stream.clear_route_cache(headers);
        }
    }

    fn wake(&self) {
        self.stream.wake();
    }
}
