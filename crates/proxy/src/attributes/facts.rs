//! What a stream knows about itself, taken along to another thread.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::Version;
use smallvec::SmallVec;

use super::{
    ConnectionInfo, StoredValue, StreamShared, Surroundings, TlsSession, UpstreamExchange,
};

/// The state of a [`StreamShared`] at one moment, without what belongs to its worker.
#[derive(Clone)]
pub(crate) struct StreamFacts {
    connection: (u64, SocketAddr, SocketAddr),
    tls: Option<Arc<TlsSession>>,
    client: SocketAddr,
    start: SystemTime,
    started: Instant,
    protocol: Version,
    /// Place of the route; `None` for the default.
    route: Option<usize>,
    request_length: Option<u64>,
    /// Bytes of the request's head and body, and of the response's body received and sent.
    bytes: [u64; 4],
    response_code: Option<u16>,
    response_flags: u64,
    response_code_details: Option<Cow<'static, str>>,
    grpc_status: Option<u32>,
    upstream: Option<UpstreamExchange>,
    metadata: BTreeMap<String, serde_json::Value>,
    filter_state: SmallVec<[StoredValue; 2]>,
    connection_state: SmallVec<[StoredValue; 2]>,
}

// === impl StreamShared ===

impl StreamShared {
    /// What is known now.
    pub(crate) fn facts(&self) -> StreamFacts {
        let connection = &self.connection;
        let bytes = [
            &self.request_header_bytes,
            &self.request_bytes,
            &self.response_bytes,
            &self.sent_bytes,
        ];
        StreamFacts {
            connection: (connection.id, connection.remote, connection.local),
            tls: connection.tls.clone(),
            client: self.client.get(),
            start: self.start_time(),
            started: self.started,
            protocol: self.protocol,
            route: self.route_index(),
            request_length: self.request_length.get(),
            bytes: bytes.map(std::cell::Cell::get),
            response_code: self.response_code.get(),
            response_flags: self.response_flags.get(),
            response_code_details: self.response_code_details.borrow().clone(),
            grpc_status: self.grpc_status.get(),
            upstream: self.upstream.get(),
            metadata: self.metadata.borrow().clone(),
            filter_state: self.filter_state.borrow().clone(),
            connection_state: connection.filter_state.borrow().clone(),
        }
    }

    /// A stream that knows the same, in other surroundings. It is not watched for idleness.
    pub(crate) fn replica(facts: StreamFacts, surroundings: Rc<Surroundings>) -> Self {
        let (id, remote, local) = facts.connection;
        let tls = facts.tls.clone();
        let connection = Rc::new(ConnectionInfo::new(id, remote, local, tls, surroundings));
        let mut replica = Self::new(connection, facts.protocol);
        (replica.start, replica.started) = (facts.start.into(), facts.started);
        replica.learn(facts);
        replica
    }

    /// Replaces what a replica knows.
    pub(crate) fn learn(&self, facts: StreamFacts) {
        self.client.set(facts.client);
        self.set_route_index(facts.route);
        self.request_length.set(facts.request_length);
        let [head, request, response, sent] = facts.bytes;
        self.request_header_bytes.set(head);
        self.request_bytes.set(request);
        self.response_bytes.set(response);
        self.sent_bytes.set(sent);
        self.response_code.set(facts.response_code);
        self.response_flags.set(facts.response_flags);
        *self.response_code_details.borrow_mut() = facts.response_code_details;
        self.grpc_status.set(facts.grpc_status);
        self.upstream.set(facts.upstream);
        *self.metadata.borrow_mut() = facts.metadata;
        *self.filter_state.borrow_mut() = facts.filter_state;
        *self.connection.filter_state.borrow_mut() = facts.connection_state;
    }

    /// Place of the route among all; `None` for the default.
    pub(crate) fn route_index(&self) -> Option<usize> {
        let route = self.route.borrow();
        self.connection.surroundings.routes.index_of(route.as_ref()?)
    }

    /// Chooses the route at this place, or the default.
    pub(crate) fn set_route_index(&self, index: Option<usize>) {
        let route = self.connection.surroundings.routes.at(index);
        *self.route.borrow_mut() = Some(Rc::clone(route));
    }
}
