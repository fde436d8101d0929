//! Authorizers that speak gRPC.
//!
//! Source: Envoy API, `envoy.service.auth.v3`; the messages have the fields that are read or written
//! here.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{Struct, Timestamp};
use serde_json::Value;
use wasmplug_api::ExternalAuthorizer;
use wasmplug_host::{Fields, FieldsKind, GrpcTarget, LocalReply, Pseudo};

use super::ExtAuthz;
use super::answer::{Answer, Change, Changes};
use crate::attributes::StreamShared;
use crate::callout::Clusters;

/// Deepest nesting of what an authorizer says in its own name. Source: ours.
const MAX_DEPTH: usize = 32;
/// Tells the authorizer whether it sees a part of the body only. Source: Envoy.
const PARTIAL_BODY: &str = "x-envoy-auth-partial-body";

#[derive(Clone, PartialEq, Message)]
pub(super) struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<AttributeContext>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeContext {
    #[prost(message, optional, tag = "1")]
    source: Option<Peer>,
    #[prost(message, optional, tag = "2")]
    destination: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    request: Option<Request>,
    #[prost(message, optional, tag = "11")]
    metadata_context: Option<Nothing>,
    #[prost(message, optional, tag = "13")]
    route_metadata_context: Option<Nothing>,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
    #[prost(string, tag = "4")]
    principal: String,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket_address: Option<SocketAddressMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct SocketAddressMessage {
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port_value: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, optional, tag = "1")]
    time: Option<Timestamp>,
    #[prost(message, optional, tag = "2")]
    http: Option<HttpRequest>,
}

#[derive(Clone, PartialEq, Message)]
struct HttpRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(btree_map = "string, string", tag = "3")]
    headers: BTreeMap<String, String>,
    #[prost(string, tag = "4")]
    path: String,
    #[prost(string, tag = "5")]
    host: String,
    #[prost(string, tag = "6")]
    scheme: String,
    #[prost(int64, tag = "9")]
    size: i64,
    #[prost(string, tag = "10")]
    protocol: String,
    #[prost(string, tag = "11")]
    body: String,
    #[prost(bytes = "bytes", tag = "12")]
    raw_body: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct CheckResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RpcStatus>,
    #[prost(message, optional, tag = "2")]
    denied: Option<DeniedResponse>,
    #[prost(message, optional, tag = "3")]
    ok: Option<OkResponse>,
    #[prost(message, optional, tag = "4")]
    dynamic_metadata: Option<Struct>,
}

#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct DeniedResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<HttpStatus>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderValueOption>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, PartialEq, Message)]
struct HttpStatus {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct OkResponse {
    #[prost(message, repeated, tag = "2")]
    headers: Vec<HeaderValueOption>,
    #[prost(string, repeated, tag = "5")]
    headers_to_remove: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    response_headers_to_add: Vec<HeaderValueOption>,
}

#[derive(Clone, PartialEq, Message)]
struct HeaderValueOption {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, optional, tag = "2")]
    append: Option<bool>,
    #[prost(int32, tag = "3")]
    append_action: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(bytes = "bytes", tag = "3")]
    raw_value: Bytes,
}

/// The question about a request; `body` comes with whether it is a part only.
pub(super) fn request(
    stream: &StreamShared,
    headers: &Fields,
    body: Option<(Bytes, bool)>,
    authorizer: &ExternalAuthorizer,
) -> CheckRequest {
    let connection = stream.connection_info();
    let text =
        |pseudo| headers.pseudo(pseudo).map(|value| lossy(value.as_bytes())).unwrap_or_default();
    let mut map: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers.iter() {
        let value = lossy(value);
        map.entry(lossy(name))
            .and_modify(|present| {
                present.push(',');
                present.push_str(&value);
            })
            .or_insert(value);
    }
    let is_raw = authorizer.request_body.is_some_and(|of| of.pack_as_bytes);
    let (mut body_text, mut raw_body) = (String::new(), Bytes::new());
    if let Some((bytes, is_partial)) = body {
        map.insert(PARTIAL_BODY.to_owned(), is_partial.to_string());
        if is_raw {
            raw_body = bytes;
        } else {
            body_text = lossy(&bytes);
        }
    }
    let http = HttpRequest {
        id: connection.id.to_string(),
        method: text(Pseudo::Method),
        headers: map,
        path: text(Pseudo::Path),
        host: text(Pseudo::Authority),
        scheme: text(Pseudo::Scheme),
        // Source: Envoy tells what has come, and not what was announced.
        size: i64::try_from(stream.request_bytes.get()).unwrap_or(i64::MAX),
        protocol: stream.protocol_name().to_owned(),
        body: body_text,
        raw_body,
    };
    // Source: Envoy, the first URI of each certificate.
    let identities = connection.identities();
    let source = identities.and_then(|of| of.source.as_deref());
    let destination = identities.and_then(|of| of.destination.as_deref());
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(peer(connection.remote, source)),
            destination: Some(peer(connection.local, destination)),
            request: Some(Request { time: Some(stream.start_time().into()), http: Some(http) }),
            metadata_context: Some(Nothing {}),
            route_metadata_context: Some(Nothing {}),
        }),
    }
}

fn peer(address: SocketAddr, principal: Option<&str>) -> Peer {
    let socket_address = SocketAddressMessage {
        address: address.ip().to_string(),
        port_value: address.port().into(),
    };
    Peer {
        address: Some(Address { socket_address: Some(socket_address) }),
        principal: principal.unwrap_or_default().to_owned(),
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks, and tells what came back.
pub(super) fn ask(
    spec: &ExtAuthz,
    clusters: &Rc<Clusters>,
    request: CheckRequest,
    timeout: Duration,
) -> impl Future<Output = Answer> + 'static {
    let target = GrpcTarget {
        cluster: Bytes::copy_from_slice(spec.cluster.as_bytes()),
        service: "envoy.service.auth.v3.Authorization".to_owned(),
        method: "Check".to_owned(),
        metadata: Fields::new(FieldsKind::Request),
    };
    let callout = clusters.prepare_grpc_for(spec.authorizer.host(), target);
    async move {
        let Ok(callout) = callout else { return Answer::Failed };
        let answer = callout.call(request.encode_to_vec().into(), Some(timeout)).await;
        let response = answer.ok().and_then(|bytes| CheckResponse::decode(bytes).ok());
        response.map_or(Answer::Failed, CheckResponse::into_answer)
    }
}

// === impl CheckResponse ===

impl CheckResponse {
    fn into_answer(self) -> Answer {
        let Self { status, denied, ok, dynamic_metadata } = self;
        if status.unwrap_or_default().code != 0 {
            return denied.unwrap_or_default().into_answer();
        }
        let (mut request, mut response) = (Changes::default(), Changes::default());
        if let Some(ok) = ok {
            for name in ok.headers_to_remove {
                // What is in no header can be in none.
                if let Ok(name) = HeaderName::try_from(name) {
                    request.push(Change::Remove(name));
                }
            }
            for option in ok.headers {
                // Source: Envoy replaces here unless it is told to append, which needs a value that
                // is there.
                let is_append = option.append == Some(true);
                request.extend(option.pair().map(|(name, value)| {
                    if is_append { Change::Join(name, value) } else { Change::Set(name, value) }
                }));
            }
            for option in ok.response_headers_to_add {
                response.extend(option.change());
            }
        }
        let metadata = dynamic_metadata.map(|of| of_struct(of, MAX_DEPTH));
        Answer::Allowed { request, response, metadata }
    }
}

// === impl DeniedResponse ===

impl DeniedResponse {
    fn into_answer(self) -> Answer {
        let status = self.status.unwrap_or_default().code;
        let status = u16::try_from(status).ok().filter(|status| (200..600).contains(status));
        let pair = |option: HeaderValueOption| {
            let (name, value) = option.pair()?;
            let name = Bytes::copy_from_slice(name.as_str().as_bytes());
            Some((name, Bytes::copy_from_slice(value.as_bytes())))
        };
        Answer::Denied(Box::new(LocalReply {
            status: status.unwrap_or(StatusCode::FORBIDDEN.as_u16()),
            details: "ext_authz_denied".to_owned(),
            body: self.body.into(),
            headers: self.headers.into_iter().filter_map(pair).collect(),
            grpc_status: u32::MAX,
        }))
    }
}

// === impl HeaderValueOption ===

impl HeaderValueOption {
    /// `None` if it is not valid, and for pseudo-headers.
    fn pair(self) -> Option<(HeaderName, HeaderValue)> {
        let Header { key, value, raw_value } = self.header?;
        let value = if raw_value.is_empty() { Bytes::from(value) } else { raw_value };
        Some((HeaderName::try_from(key).ok()?, HeaderValue::from_maybe_shared(value).ok()?))
    }

    /// Source: Envoy API, `HeaderAppendAction`; the older flag counts more if it is there.
    fn change(self) -> Option<Change> {
        let action = match self.append {
            Some(true) => 0,
            Some(false) => 2,
            None => self.append_action,
        };
        let (name, value) = self.pair()?;
        Some(match action {
            1 => Change::SetIfAbsent(name, value),
            2 => Change::Set(name, value),
            3 => Change::SetIfPresent(name, value),
            _ => Change::Append(name, value),
        })
    }
}

/// A structured value as plugins see it; what is nested too deeply is null.
fn of_struct(value: Struct, depth: usize) -> Value {
    let fields: HashMap<_, _> = value.fields.into_iter().collect();
    let field = |(name, value)| (name, of_value(value, depth));
    Value::Object(fields.into_iter().map(field).collect())
}

fn of_value(value: prost_types::Value, depth: usize) -> Value {
    let Some(deeper) = depth.checked_sub(1) else { return Value::Null };
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::NumberValue(number)) => Value::from(number),
        Some(Kind::StringValue(text)) => Value::from(text),
        Some(Kind::BoolValue(flag)) => Value::from(flag),
        Some(Kind::StructValue(of)) => of_struct(of, deeper),
        Some(Kind::ListValue(list)) => {
            list.values.into_iter().map(|value| of_value(value, deeper)).collect()
        }
    }
}
