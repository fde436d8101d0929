//! What a stream knows about itself, as attributes for plugins.
//!
//! Source: Envoy's attributes; `docs/compatibility.md` has the table.

mod facts;
pub(crate) mod flags;

use std::borrow::Cow;
use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::Version;
use smallvec::SmallVec;
use wasmplug_host::abi::Status;
use wasmplug_host::{Fields, LifeSpan, PropertyValue, StreamHost};

pub(crate) use self::facts::StreamFacts;
use crate::access_log::AccessLog;
use crate::callout::Clusters;
use crate::filters::jwt_authn;
use crate::filters::rbac;
use crate::idle::{Activity, IdleWatch};
use crate::listener::{Identities, TlsSession};
use crate::local_reply::grpc_status;
use crate::metrics::{RbacCounters, WorkerMetrics};
use crate::node::{Node, walk};
use crate::route::{ResolvedRoute, Routes};

/// Most values that plugins may store in one stream.
const MAX_FILTER_STATE: usize = 1024;

/// A value that a plugin stored.
#[derive(Clone)]
struct StoredValue {
    name: Vec<u8>,
    /// It has a name of Envoy's, and not one of the plugins' own.
    is_envoys: bool,
    value: Vec<u8>,
}

/// One downstream connection, as its streams see it.
pub(crate) struct ConnectionInfo {
    pub(crate) id: u64,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    tls: Option<Arc<TlsSession>>,
    pub(crate) surroundings: Rc<Surroundings>,
    /// What plugins stored for as long as the connection lives.
    filter_state: RefCell<SmallVec<[StoredValue; 2]>>,
}

/// What all streams of a worker have around them.
pub(crate) struct Surroundings {
    pub(crate) routes: Routes,
    pub(crate) node: Node,
    pub(crate) idle: IdleWatch,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) clusters: Rc<Clusters>,
    /// Every callback of plugins is timed, because somebody tells how long each took.
    pub(crate) is_timing_all: bool,
    /// Where a line about each stream goes.
    pub(crate) access_log: Option<AccessLog>,
}

/// An exchange with the upstream, as far as it has got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UpstreamExchange {
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<SocketAddr>,
    /// Time until the head of the response was there.
    pub(crate) latency: Duration,
}

/// The part of a stream that plugins may look at in the middle of a callback.
pub(crate) struct StreamShared {
    connection: Rc<ConnectionInfo>,
    route: RefCell<Option<Rc<ResolvedRoute>>>,
    /// Address of the client, as trusted proxies tell it.
    client: Cell<SocketAddr>,
    /// Worked out when somebody asks, and told alike from then on.
    start: OnceCell<SystemTime>,
    started: Instant,
    protocol: Version,
    /// Length that the request announced.
    pub(crate) request_length: Cell<Option<u64>>,
    pub(crate) request_header_bytes: Cell<u64>,
    pub(crate) request_bytes: Cell<u64>,
    pub(crate) response_bytes: Cell<u64>,
    /// Bytes of the body that the client was sent.
    pub(crate) sent_bytes: Cell<u64>,
    pub(crate) response_code: Cell<Option<u16>>,
    pub(crate) response_flags: Cell<u64>,
    pub(crate) response_code_details: RefCell<Option<Cow<'static, str>>>,
    pub(crate) grpc_status: Cell<Option<u32>>,
    pub(crate) upstream: Cell<Option<UpstreamExchange>>,
    /// What filters say about the stream, by their name. Source: Envoy's dynamic metadata.
    metadata: RefCell<BTreeMap<String, serde_json::Value>>,
    /// Cluster that a TCP connection is to go to, if a plugin chose one.
    tcp_cluster: RefCell<Option<String>>,
    activity: Activity,
    filter_state: RefCell<SmallVec<[StoredValue; 2]>>,
    /// Something was asked for outside the stream's callbacks.
    woken: Cell<bool>,
    wakers: RefCell<SmallVec<[Waker; 2]>>,
}

// === impl StreamShared ===

impl StreamShared {
    pub(crate) fn new(connection: Rc<ConnectionInfo>, protocol: Version) -> Self {
        Self {
            client: Cell::new(connection.remote),
            connection,
            route: RefCell::default(),
            start: OnceCell::new(),
            started: Instant::now(),
            protocol,
            request_length: Cell::new(None),
            request_header_bytes: Cell::new(0),
            request_bytes: Cell::new(0),
            response_bytes: Cell::new(0),
            sent_bytes: Cell::new(0),
            response_code: Cell::new(None),
            response_flags: Cell::new(0),
            response_code_details: RefCell::new(None),
            grpc_status: Cell::new(None),
            upstream: Cell::new(None),
            metadata: RefCell::default(),
            tcp_cluster: RefCell::default(),
            activity: Activity::default(),
            filter_state: RefCell::default(),
            woken: Cell::new(false),
            wakers: RefCell::default(),
        }
    }

    pub(crate) fn set_details(&self, details: impl Into<Cow<'static, str>>) {
        *self.response_code_details.borrow_mut() = Some(details.into());
    }

    /// Notes who the client is that the headers tell of.
    pub(crate) fn note_client(&self, headers: &Fields) {
        if let Some(forwarded) = headers.get(b"x-forwarded-for") {
            let forwarded = Some(forwarded.as_bytes());
            self.client.set(rbac::client(forwarded, self.connection.remote));
        }
    }

    /// What policies may look at; without headers, the connection.
    pub(crate) fn subject<'a>(
        &'a self,
        port: Option<u16>,
        headers: Option<&'a Fields>,
        metadata: &'a rbac::Metadata,
    ) -> rbac::Subject<'a> {
        let ConnectionInfo { remote, local, .. } = &*self.connection;
        let tls = self.connection.tls();
        let client = self.client.get();
        rbac::Subject {
            peer: tls.and_then(TlsSession::peer_identity),
            source: rbac::canonical(*remote),
            // What was told counts as it was written.
            remote: if client == *remote { rbac::canonical(client) } else { client.ip() },
            destination: rbac::canonical(*local),
            port: port.unwrap_or_else(|| local.port()),
            server_name: tls.map_or("", TlsSession::server_name),
            headers,
            metadata,
        }
    }

    /// Where decisions of policies are counted.
    pub(crate) fn rbac_counters(&self, is_http: bool) -> &RbacCounters {
        let metrics = &self.connection.surroundings.metrics;
        if is_http { &metrics.http_rbac } else { &metrics.tcp_rbac }
    }

    /// Time since the stream began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Where a line about the stream goes.
    pub(crate) fn access_log(&self) -> Option<&AccessLog> {
        self.connection.surroundings.access_log.as_ref()
    }

    /// The connection that the stream is on.
    pub(crate) fn connection_info(&self) -> &ConnectionInfo {
        &self.connection
    }

    /// Adds flags to those of the response.
    pub(crate) fn add_flags(&self, flags: u64) {
        self.response_flags.set(self.response_flags.get() | flags);
    }

    /// Says everything there is to say about the stream in the name of a filter.
    pub(crate) fn replace_metadata(&self, filter: &str, value: serde_json::Value) {
        self.metadata.borrow_mut().insert(filter.to_owned(), value);
    }

    /// When the stream began.
    pub(crate) fn start_time(&self) -> SystemTime {
        let now = SystemTime::now;
        *self.start.get_or_init(|| now().checked_sub(self.elapsed()).unwrap_or_else(now))
    }

    /// What the client speaks. Source: Envoy's names.
    pub(crate) fn protocol_name(&self) -> &'static str {
        match self.protocol {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        }
    }

    /// Says something about the stream in the name of a filter: dynamic metadata.
    pub(crate) fn set_metadata(&self, filter: &str, key: &str, value: serde_json::Value) {
        let mut metadata = self.metadata.borrow_mut();
        let of_filter = match metadata.get_mut(filter) {
            Some(of_filter) => of_filter,
            None => metadata.entry(filter.to_owned()).or_insert_with(|| serde_json::json!({})),
        };
        if let Some(fields) = of_filter.as_object_mut() {
            fields.insert(key.to_owned(), value);
        }
    }

    /// Looks at what filters said about the stream, by their names.
    pub(crate) fn metadata(&self) -> Ref<'_, BTreeMap<String, serde_json::Value>> {
        self.metadata.borrow()
    }

    /// Whether something was asked for since the last time.
    pub(crate) fn take_woken(&self) -> bool {
        self.woken.replace(false)
    }

    /// Asks to be polled again when something is asked for.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            wakers.push(cx.waker().clone());
        }
        if self.woken.get() {
            // Asked for since the caller looked, when nobody was registered.
            cx.waker().wake_by_ref();
        }
    }

    /// Polls everybody who is waiting in this stream.
    pub(crate) fn wake_all(&self) {
        // A waker may run code that registers anew: the list is taken first.
        let wakers = std::mem::take(&mut *self.wakers.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    fn request(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let received = self.request_bytes.get();
        match path {
            [b"time"] => {
                let since = self.start_time().duration_since(UNIX_EPOCH).ok()?;
                Some(PropertyValue::Nanoseconds(i64::try_from(since.as_nanos()).ok()?))
            }
            [b"duration"] => {
                let elapsed = self.started.elapsed();
                Some(PropertyValue::Nanoseconds(i64::try_from(elapsed.as_nanos()).ok()?))
            }
            [b"protocol"] => Some(PropertyValue::text(self.protocol_name())),
            [b"size"] => Some(int(self.request_length.get().unwrap_or(received))),
            [b"total_size"] => Some(int(self.request_header_bytes.get().saturating_add(received))),
            _ => None,
        }
    }

    /// What a verified token says. Source: ours, after the keys of Istio's authorization policies.
    fn auth(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let metadata = self.metadata.borrow();
        let claims = metadata.get(jwt_authn::NAME)?.get(jwt_authn::PAYLOAD)?;
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
        match path {
            [] => Some(PropertyValue::Namespace),
            [b"principal"] => {
                Some(PropertyValue::text(format!("{}/{}", text("iss")?, text("sub")?)))
            }
            [b"audiences"] => match text("aud") {
                Some(one) => Some(PropertyValue::List(vec![one.as_bytes().to_vec()])),
                None => walk(claims, &[b"aud"]),
            },
            [b"presenter"] => text("azp").map(PropertyValue::text),
            [b"claims", rest @ ..] => walk(claims, rest),
            _ => None,
        }
    }

    fn response(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let code = self.response_code.get();
        match path {
            [b"code"] => Some(PropertyValue::Int(code?.into())),
            [b"code_details"] => {
                self.response_code_details.borrow().as_deref().map(PropertyValue::text)
            }
            [b"flags"] => Some(int(self.response_flags.get())),
            [b"grpc_status"] => {
                let status = self.grpc_status.get().or_else(|| code.map(grpc_status))?;
                Some(PropertyValue::Int(status.into()))
            }
            [b"backend_latency"] => Some(nanoseconds(self.upstream.get()?.latency)),
            [b"size" | b"total_size"] => code.map(|_| int(self.response_bytes.get())),
            _ => None,
        }
    }

    /// Watches the stream for idleness until it is dropped.
    pub(crate) fn watch(self: &Rc<Self>) {
        self.connection.surroundings.idle.watch(self);
    }

    /// Something moved in the stream.
    pub(crate) fn note_activity(&self) {
        self.connection.surroundings.idle.note(&self.activity);
    }

    /// Whether nothing has moved for too long; told once.
    pub(crate) fn is_idle_too_long(&self) -> bool {
        self.activity.take_timed_out()
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Where the request goes, by its headers of now.
    pub(crate) fn choose_route(&self, headers: &Fields) {
        let route = self.connection.surroundings.routes.find(headers);
        *self.route.borrow_mut() = Some(Rc::clone(route));
    }

    /// Where the request goes.
    pub(crate) fn route(&self) -> Rc<ResolvedRoute> {
        let chosen = self.route.borrow();
        Rc::clone(chosen.as_ref().unwrap_or_else(|| self.connection.surroundings.routes.default()))
    }

    /// Notes where a TCP connection went.
    pub(crate) fn note_upstream(&self, peer: SocketAddr, local: Option<SocketAddr>) {
        self.upstream.set(Some(UpstreamExchange { peer, local, latency: Duration::ZERO }));
    }

    /// Cluster that a plugin chose for a TCP connection.
    pub(crate) fn tcp_cluster(&self) -> Option<String> {
        self.tcp_cluster.borrow().clone()
    }

    fn stored(&self, name: &[u8], is_envoys: bool) -> Option<PropertyValue> {
        let find = |stored: &[StoredValue]| {
            let found = stored.iter().find(|present| present.is(name, is_envoys))?;
            Some(PropertyValue::text(&found.value))
        };
        let of_stream = find(&self.filter_state.borrow());
        of_stream.or_else(|| find(&self.connection.filter_state.borrow()))
    }

    fn store(
        &self,
        name: &[u8],
        is_envoys: bool,
        value: &[u8],
        span: LifeSpan,
    ) -> Result<(), Status> {
        let mut stored = match span {
            LifeSpan::DownstreamConnection => self.connection.filter_state.borrow_mut(),
            LifeSpan::FilterChain | LifeSpan::DownstreamRequest => self.filter_state.borrow_mut(),
        };
        let is_full = stored.len() >= MAX_FILTER_STATE;
        let value = value.to_vec();
        match stored.iter_mut().find(|present| present.is(name, is_envoys)) {
            Some(present) => present.value = value,
            None if is_full => return Err(Status::BadArgument),
            None => stored.push(StoredValue { name: name.to_vec(), is_envoys, value }),
        }
        Ok(())
    }

    fn upstream(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let exchange = self.upstream.get();
        match path {
            [b"address"] => Some(address(exchange?.peer)),
            [b"port"] => Some(port(exchange?.peer)),
            [b"local_address"] => Some(address(exchange?.local?)),
            [b"num_endpoints"] => Some(PropertyValue::Uint(1)),
            [b"request_attempt_count"] => Some(PropertyValue::Uint(exchange.is_some().into())),
            [b"transport_failure_reason"] => exchange.map(|_| PropertyValue::text("")),
            _ => None,
        }
    }

    fn xds(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let surroundings = &self.connection.surroundings;
        match path {
            [b"node", rest @ ..] => surroundings.node.property(rest),
            [b"listener_direction"] => {
                Some(PropertyValue::Int(surroundings.node.listener_direction.into()))
            }
            [b"cluster_name"] => Some(PropertyValue::text(&self.route().route.cluster)),
            [b"route_name"] => Some(PropertyValue::text(&self.route().route.name)),
            [b"virtual_host_name"] => Some(PropertyValue::text(self.route().route.virtual_host())),
            [b"filter_chain_name"] => Some(PropertyValue::text("")),
            _ => None,
        }
    }

    fn connection(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let tls = self.connection.tls();
        match path {
            [b"id"] => Some(PropertyValue::Uint(self.connection.id)),
            [b"mtls"] => Some(PropertyValue::Bool(tls.is_some_and(TlsSession::is_mutual))),
            [b"requested_server_name"] => {
                Some(PropertyValue::text(tls.map_or("", TlsSession::server_name)))
            }
            _ => tls?.property(path),
        }
    }
}

impl StreamHost for StreamShared {
    fn property(&self, path: &[&[u8]]) -> Option<PropertyValue> {
        let connection = &self.connection;
        match path {
            [b"request", b"auth", rest @ ..] => self.auth(rest),
            [b"request", rest @ ..] => self.request(rest),
            [b"response", rest @ ..] => self.response(rest),
            [b"source", b"address"] => Some(address(self.client.get())),
            [b"source", b"port"] => Some(port(self.client.get())),
            [b"destination", b"address"] => Some(address(connection.local)),
            [b"destination", b"port"] => Some(port(connection.local)),
            [
                b"source" | b"destination" | b"connection" | b"upstream" | b"filter_state" | b"xds"
                | b"metadata",
            ] => Some(PropertyValue::Namespace),
            [b"connection", rest @ ..] => self.connection(rest),
            [b"connection_id"] => self.connection(&[b"id"]),
            [b"upstream", rest @ ..] => self.upstream(rest),
            [b"xds", rest @ ..] => self.xds(rest),
            [b"metadata", b"filter_metadata", filter, rest @ ..] => {
                let filter = std::str::from_utf8(filter).ok()?;
                walk(self.metadata.borrow().get(filter)?, rest)
            }
            [b"filter_state", name] => match name.strip_prefix(b"wasm.") {
                Some(name) => self.stored(name, false),
                None => self.stored(name, true),
            },
            // Names of before Envoy 1.33, which older plugins still use.
            [b"node" | b"cluster_name" | b"route_name" | b"listener_direction", ..] => {
                self.xds(path)
            }
            [name] => self.stored(name, false),
            _ => None,
        }
    }

    fn set_property(&self, name: &[u8], value: &[u8], span: LifeSpan) -> Result<(), Status> {
        self.store(name, false, value, span)
    }

    /// Source: the keys that Envoy has a factory for; those that steer what is not here are kept,
    /// so that other plugins can read them.
    fn set_filter_state(&self, key: &str, value: &[u8], span: LifeSpan) -> Result<(), Status> {
        match key {
            "envoy.tcp_proxy.cluster" => {
                let cluster = String::from_utf8(value.to_vec()).map_err(|_| Status::BadArgument)?;
                *self.tcp_cluster.borrow_mut() = Some(cluster);
                self.store(key.as_bytes(), true, value, span)
            }
            "envoy.string"
            | "envoy.hashable_string"
            | "envoy.network.upstream_server_name"
            | "envoy.network.upstream_subject_alt_names"
            | "envoy.network.application_protocols"
            | "envoy.upstream.dynamic_host"
            | "envoy.upstream.dynamic_port"
            | "envoy.ratelimit.hits_addend" => self.store(key.as_bytes(), true, value, span),
            _ => Err(Status::NotFound),
        }
    }

    fn clear_route_cache(&self, headers: Option<&Fields>) {
        if let Some(headers) = headers {
            self.choose_route(headers);
        }
    }

    fn wake(&self) {
        self.woken.set(true);
        self.wake_all();
    }
}

// === impl StoredValue ===

impl StoredValue {
    fn is(&self, name: &[u8], is_envoys: bool) -> bool {
        self.is_envoys == is_envoys && self.name == name
    }
}

// === impl ConnectionInfo ===

impl ConnectionInfo {
    pub(crate) fn new(
        id: u64,
        remote: SocketAddr,
        local: SocketAddr,
        tls: Option<Arc<TlsSession>>,
        surroundings: Rc<Surroundings>,
    ) -> Self {
        Self { id, remote, local, tls, surroundings, filter_state: RefCell::default() }
    }

    /// What its handshake came to; `None` in plain text.
    pub(crate) fn tls(&self) -> Option<&TlsSession> {
        self.tls.as_deref()
    }

    /// What metrics tell of both ends; `None` in plain text.
    pub(crate) fn identities(&self) -> Option<&Arc<Identities>> {
        self.tls().map(TlsSession::identities)
    }
}

fn address(address: SocketAddr) -> PropertyValue {
    PropertyValue::text(address.to_string())
}

fn port(address: SocketAddr) -> PropertyValue {
    PropertyValue::Int(address.port().into())
}

fn nanoseconds(duration: Duration) -> PropertyValue {
    PropertyValue::Nanoseconds(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

impl Drop for StreamShared {
    fn drop(&mut self) {
        self.connection.surroundings.idle.forget(&self.activity);
    }
}

impl std::fmt::Debug for StreamShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamShared")
            .field("connection", &self.connection.id)
            .finish_non_exhaustive()
    }
}

fn int(value: u64) -> PropertyValue {
    PropertyValue::Int(i64::try_from(value).unwrap_or(i64::MAX))
}
