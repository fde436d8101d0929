//! TCP connections on their way through network plugins.
//!
//! ```text
//! client ─ receive ─> filter 0 ─> filter 1 ─> … ─> outgoing ─> upstream, or HTTP
//! client <─ …        <─ filter 0 <─ filter 1 <─ … <─ send <── upstream, or HTTP
//! ```
//!
//! All filters see one and the same buffer of the client's bytes. A filter that stops keeps it, and
//! what arrives meanwhile is shown to the filters from the first one on, together with what is kept.
//! Source: Envoy's network filter manager.

mod relay;

use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;
use wasmplug_host::abi::{NetworkAction, PeerType};
use wasmplug_host::{BodyBuffer, Failure, NetworkStream, StreamHost};

pub(crate) use self::relay::{Writing, poll_read_available, relay, reset};
use crate::attributes::StreamShared;
use crate::filters::rbac::Rbac;
use crate::filters::wasm::WasmFactory;

/// The network filters of one connection, in the order in which its bytes meet them.
pub(crate) struct NetworkChain {
    filters: Vec<NetworkFilter>,
    /// Filters that have heard of the connection.
    announced: usize,
    /// The filter that keeps the client's bytes.
    held_at: Option<usize>,
    /// The client's bytes while no filter keeps them.
    received: BodyBuffer,
    has_received_end: bool,
    /// Every filter let the connection through.
    is_through: bool,
    /// What has passed all filters, and whether nothing follows it.
    outgoing: (BodyBuffer, bool),
    /// The other side has ended.
    has_sent_end: bool,
    shared: Rc<StreamShared>,
    buffer_limit: usize,
    /// Policies, each with the number of filters in front of it.
    gates: SmallVec<[(usize, Arc<Rbac>); 3]>,
    /// Policies that let the connection pass.
    open_gates: usize,
}

/// Makes what one element of the chain is on a connection.
#[derive(Debug)]
pub(crate) enum NetworkFactory {
    Wasm(Rc<WasmFactory>),
    Rbac(Arc<Rbac>),
}

/// One plugin on one connection.
struct NetworkFilter {
    factory: Rc<WasmFactory>,
    /// `None` if the connection goes on without it.
    stream: Option<NetworkStream>,
    /// It stopped at the connection itself and has not let it go.
    is_stopped: bool,
    /// What it held of the client's and of the other side's bytes when it died, on its way on.
    given_back: (BodyBuffer, BodyBuffer),
}

/// The connection is to be closed, because a plugin wants it or cannot run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

type Step = Result<(), Closed>;

// === impl NetworkChain ===

impl NetworkChain {
    /// # Errors
    /// [`Closed`] if a plugin cannot run that must not be skipped.
    pub(crate) fn new(
        factories: &[NetworkFactory],
        shared: Rc<StreamShared>,
        buffer_limit: usize,
    ) -> Result<Self, Closed> {
        let mut filters = Vec::with_capacity(factories.len());
        let mut gates = SmallVec::new();
        for factory in factories {
            match factory {
                NetworkFactory::Wasm(factory) => {
                    filters.push(NetworkFilter::new(factory, &shared)?);
                }
                NetworkFactory::Rbac(rbac) => gates.push((filters.len(), Arc::clone(rbac))),
            }
        }
        Ok(Self {
            filters,
            gates,
            open_gates: 0,
            announced: 0,
            held_at: None,
            received: BodyBuffer::default(),
            has_received_end: false,
            is_through: false,
            outgoing: (BodyBuffer::default(), false),
            has_sent_end: false,
            shared,
            buffer_limit,
        })
    }

    /// Whether there is no filter at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.filters.is_empty() && self.gates.is_empty()
    }

    pub(crate) fn shared(&self) -> &Rc<StreamShared> {
        &self.shared
    }

    /// Tells the filters of the connection.
    pub(crate) fn start(&mut self) -> Step {
        self.pass_on(0)
    }

    /// Whether every filter let the connection through.
    pub(crate) fn is_through(&self) -> bool {
        self.is_through
    }

    /// Whether more of the client's bytes may be read: nothing that waits is at its limit.
    pub(crate) fn wants_more(&self) -> bool {
        let held = self.held_at.and_then(|at| self.filters.get(at)?.stream.as_ref());
        let held = held.map_or(0, NetworkStream::downstream_data_len);
        held.saturating_add(self.received.len()) < self.buffer_limit
            && self.outgoing.0.len() < self.buffer_limit
            && !self.has_received_end
    }

    /// Whether more of the other side's bytes may be read.
    pub(crate) fn wants_more_back(&self) -> bool {
        let held = self.filters.iter().filter_map(|filter| filter.stream.as_ref());
        held.map(NetworkStream::upstream_data_len).sum::<usize>() < self.buffer_limit
    }

    /// Takes bytes of the client in.
    pub(crate) fn receive(&mut self, bytes: BodyBuffer, end: bool) -> Step {
        self.take_back();
        self.received.append(bytes);
        self.has_received_end |= end;
        self.pass_on(0)
    }

    /// Takes what has passed all filters, and whether nothing follows it.
    pub(crate) fn take_outgoing(&mut self) -> (BodyBuffer, bool) {
        (std::mem::take(&mut self.outgoing.0), self.outgoing.1)
    }

    /// Shows bytes of the other side to the filters, in reverse; gives what passed them all, and
    /// whether nothing follows it.
    ///
    /// # Errors
    /// [`Closed`] if a plugin wants it or died.
    pub(crate) fn send(
        &mut self,
        bytes: BodyBuffer,
        end: bool,
    ) -> Result<(BodyBuffer, bool), Closed> {
        self.has_sent_end |= end;
        self.send_from(self.announced, bytes, end)
    }

    /// Shows bytes of the other side to the filters before this one.
    fn send_from(
        &mut self,
        before: usize,
        bytes: BodyBuffer,
        end: bool,
    ) -> Result<(BodyBuffer, bool), Closed> {
        let mut bytes = bytes;
        for at in (0..before).rev() {
            let Some(filter) = self.filters.get_mut(at) else { continue };
            let Some(stream) = &mut filter.stream else { continue };
            let shown = stream.on_upstream_data(bytes, end);
            let shown = match (shown, end) {
                // Nobody tells who closed it, as in Envoy.
                (Ok(action), true) => stream.on_upstream_close(PeerType::Unknown).map(|()| action),
                (shown, _) => shown,
            };
            let action = filter.outcome(shown)?;
            let Some(stream) = &mut filter.stream else {
                bytes = std::mem::take(&mut filter.given_back.1);
                // What it kept of the client's bytes goes on as well.
                self.resume(at)?;
                continue;
            };
            if action == NetworkAction::StopIteration {
                // Nor does the end pass, so that a cut stream does not look whole.
                return Ok((BodyBuffer::default(), false));
            }
            bytes = stream.release_upstream_data();
        }
        Ok((bytes, end))
    }

    /// Takes what a filter kept of the other side's bytes when it died, past those before it.
    ///
    /// # Errors
    /// [`Closed`] if a plugin wants it or died.
    pub(crate) fn take_orphaned(&mut self) -> Result<Option<(BodyBuffer, bool)>, Closed> {
        let Some(at) = self.filters.iter().position(NetworkFilter::has_orphaned) else {
            return Ok(None);
        };
        let Some(filter) = self.filters.get_mut(at) else { return Ok(None) };
        let bytes = std::mem::take(&mut filter.given_back.1);
        self.send_from(at, bytes, self.has_sent_end).map(Some)
    }

    /// Does what plugins asked for outside the connection's own callbacks.
    pub(crate) fn look_at_actions(&mut self) -> Step {
        if !self.shared.take_woken() {
            return Ok(());
        }
        for at in 0..self.filters.len() {
            let Some(filter) = self.filters.get_mut(at) else { continue };
            let Some(stream) = &mut filter.stream else { continue };
            if let Some(failure) = stream.failure() {
                filter.outcome(Err::<NetworkAction, _>(failure))?;
                self.resume(at)?;
                continue;
            }
            let actions = stream.take_actions();
            if actions.close.is_some() {
                return Err(Closed);
            }
            if actions.continue_request {
                self.resume(at)?;
            }
        }
        Ok(())
    }

    /// Tells the filters that the client's connection is closed, and ends their contexts.
    pub(crate) fn close(mut self, peer: PeerType) {
        self.end(peer);
    }

    fn end(&mut self, peer: PeerType) {
        // Who has never heard of the connection does not hear of its end either.
        self.filters.truncate(self.announced);
        for filter in self.filters.drain(..) {
            let Some(mut stream) = filter.stream else { continue };
            if let Err(failure) = stream.on_downstream_close(peer) {
                filter.factory.stream_failed(&failure);
                continue;
            }
            stream.finish();
            filter.factory.stream_finished();
        }
    }

    /// Lets go what this filter holds, or the connection at which it stopped.
    fn resume(&mut self, at: usize) -> Step {
        let next = at.saturating_add(1);
        if self.held_at == Some(at) {
            self.take_back();
        } else if self.is_through || self.announced != next {
            // It holds nothing.
            return Ok(());
        }
        if let Some(filter) = self.filters.get_mut(at) {
            filter.is_stopped = false;
        }
        self.pass_on(next)
    }

    /// Takes the client's bytes back from the filter that keeps them.
    fn take_back(&mut self) {
        let holder = self.held_at.take().and_then(|at| self.filters.get_mut(at));
        let Some(holder) = holder else { return };
        let mut kept = match &mut holder.stream {
            Some(stream) => stream.release_downstream_data(),
            None => std::mem::take(&mut holder.given_back.0),
        };
        kept.append(std::mem::take(&mut self.received));
        self.received = kept;
    }

    /// Shows the connection and its bytes to the filters from this one on.
    fn pass_on(&mut self, from: usize) -> Step {
        for at in from..self.filters.len() {
            self.pass_gates(at)?;
            let Some(filter) = self.filters.get_mut(at) else { continue };
            if at >= self.announced {
                self.announced = at.saturating_add(1);
                let told = filter.stream.as_mut().map(NetworkStream::on_new_connection);
                if let Some(told) = told
                    && filter.outcome(told)? == NetworkAction::StopIteration
                {
                    filter.is_stopped = true;
                    return Ok(());
                }
            }
            if filter.keeps_waiting() {
                // What it has not seen it cannot have let go.
                return Ok(());
            }
            if self.received.is_empty() && !self.has_received_end {
                continue;
            }
            let Some(stream) = &mut filter.stream else { continue };
            let bytes = std::mem::take(&mut self.received);
            let shown = stream.on_downstream_data(bytes, self.has_received_end);
            let action = filter.outcome(shown)?;
            let Some(stream) = &mut filter.stream else {
                self.received = std::mem::take(&mut filter.given_back.0);
                continue;
            };
            if action == NetworkAction::StopIteration {
                self.held_at = Some(at);
                return Ok(());
            }
            self.received = stream.release_downstream_data();
            filter.is_stopped = false;
        }
        self.pass_gates(self.filters.len())?;
        self.is_through = true;
        self.outgoing.0.append(std::mem::take(&mut self.received));
        self.outgoing.1 |= self.has_received_end;
        Ok(())
    }

    /// Asks the policies in front of this filter, each once.
    fn pass_gates(&mut self, at: usize) -> Step {
        while let Some((_, rbac)) = self.gates.get(self.open_gates).filter(|gate| gate.0 <= at) {
            if !rbac.admits_connection(&self.shared) {
                return Err(Closed);
            }
            self.open_gates = self.open_gates.saturating_add(1);
        }
        Ok(())
    }
}

// === impl NetworkFilter ===

impl NetworkFilter {
    fn new(factory: &Rc<WasmFactory>, shared: &Rc<StreamShared>) -> Result<Self, Closed> {
        let stream = factory.open_connection(Rc::clone(shared) as Rc<dyn StreamHost>);
        if stream.is_none() && !factory.fails_open() {
            return Err(Closed);
        }
        let factory = Rc::clone(factory);
        Ok(Self { factory, stream, is_stopped: false, given_back: Default::default() })
    }

    /// Whether it stopped at the connection and looks at no bytes, so that only a word of its own
    /// lets them go.
    fn keeps_waiting(&self) -> bool {
        let sees_bytes = self.stream.as_ref().is_none_or(NetworkStream::sees_downstream_data);
        self.is_stopped && !sees_bytes
    }

    fn has_orphaned(&self) -> bool {
        !self.given_back.1.is_empty()
    }

    /// Sorts what a callback left behind. A plugin that died and may be skipped is skipped.
    fn outcome(&mut self, result: Result<NetworkAction, Failure>) -> Result<NetworkAction, Closed> {
        let Some(stream) = &mut self.stream else { return Ok(NetworkAction::Continue) };
        match result {
            Ok(action) => {
                let actions = stream.take_actions();
                if actions.close.is_some() {
                    return Err(Closed);
                }
                // Who stops and goes on in one callback has not stopped.
                Ok(if actions.continue_request { NetworkAction::Continue } else { action })
            }
            Err(failure) => {
                self.factory.stream_failed(&failure);
                if !self.factory.fails_open() {
                    return Err(Closed);
                }
                self.given_back =
                    (stream.release_downstream_data(), stream.release_upstream_data());
                self.stream = None;
                Ok(NetworkAction::Continue)
            }
        }
    }
}

impl Drop for NetworkChain {
    /// A connection that is cut ends for its plugins as every other.
    fn drop(&mut self) {
        self.end(PeerType::Local);
    }
}

impl std::fmt::Debug for NetworkChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetworkChain").field("filters", &self.filters.len()).finish_non_exhaustive()
    }
}
