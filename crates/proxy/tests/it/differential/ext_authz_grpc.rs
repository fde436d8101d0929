//! External authorizers that speak gRPC: what they are told, and what becomes of what they say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message;
use wasmplug_testkit::envoy::{Envoy, EnvoyBuilder};
use wasmplug_testkit::{Upstream, UpstreamThread};

use super::case::{Request, get, post, request};
use super::ext_authz::asking;
use super::istio_config;
use super::transcript::Transcript;
use crate::harness::{GrpcServer, Modules, Plugin, Setup, workload};

/// `envoy.service.auth.v3.CheckRequest`, as far as it is compared.
#[derive(Clone, PartialEq, Message)]
struct CheckRequest {
    #[prost(message, optional, tag = "1")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, Message)]
struct Attributes {
    #[prost(message, optional, tag = "1")]
    source: Option<Peer>,
    #[prost(message, optional, tag = "2")]
    destination: Option<Peer>,
    #[prost(message, optional, tag = "4")]
    request: Option<RequestAttributes>,
    #[prost(btree_map = "string, string", tag = "10")]
    context_extensions: BTreeMap<String, String>,
    #[prost(bytes = "bytes", optional, tag = "11")]
    metadata_context: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "12")]
    tls_session: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "13")]
    route_metadata_context: Option<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Peer {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
    #[prost(string, tag = "2")]
    service: String,
    #[prost(string, tag = "4")]
    principal: String,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket: Option<Socket>,
}

#[derive(Clone, PartialEq, Message)]
struct Socket {
    #[prost(int32, tag = "1")]
    protocol: i32,
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port: u32,
}

#[derive(Clone, PartialEq, Message)]
struct RequestAttributes {
    #[prost(bytes = "bytes", optional, tag = "1")]
    time: Option<Bytes>,
    #[prost(message, optional, tag = "2")]
    http: Option<Http>,
}

#[derive(Clone, PartialEq, Message)]
struct Http {
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
    #[prost(string, tag = "7")]
    query: String,
    #[prost(string, tag = "8")]
    fragment: String,
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
    status: Option<Status>,
    #[prost(message, optional, tag = "2")]
    denied: Option<Denied>,
    #[prost(message, optional, tag = "3")]
    ok: Option<Allowed>,
    #[prost(message, optional, tag = "4")]
    metadata: Option<prost_types::Struct>,
}

#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Denied {
    #[prost(message, optional, tag = "1")]
    status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    headers: Vec<Change>,
    #[prost(string, tag = "3")]
    body: String,
}

#[derive(Clone, PartialEq, Message)]
struct Allowed {
    #[prost(message, repeated, tag = "2")]
    headers: Vec<Change>,
    #[prost(string, repeated, tag = "5")]
    remove: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    response: Vec<Change>,
}

#[derive(Clone, PartialEq, Message)]
struct Change {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, optional, tag = "2")]
    append: Option<bool>,
    #[prost(int32, tag = "3")]
    action: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

fn change(key: &str, value: &str, append: Option<bool>, action: i32) -> Change {
    Change { header: Some(Header { key: key.into(), value: value.into() }), append, action }
}

/// Answers by what the path contains.
fn answer(path: &str) -> CheckResponse {
    let denied = |code: i32, headers: Vec<Change>, body: &str| CheckResponse {
        status: Some(Status { code: 7 }),
        denied: Some(Denied { status: Some(Status { code }), headers, body: body.into() }),
        ..CheckResponse::default()
    };
    let allowed = |ok: Allowed| CheckResponse {
        status: Some(Status { code: 0 }),
        ok: Some(ok),
        ..CheckResponse::default()
    };
    match path {
        "/deny" => denied(401, vec![change("x-reason", "because", None, 0)], "denied"),
        "/bare" => CheckResponse { status: Some(Status { code: 16 }), ..CheckResponse::default() },
        "/no-status" => denied(0, Vec::new(), "x"),
        "/headers" => allowed(Allowed {
            headers: vec![
                change("x-a", "set", None, 0),
                change("x-b", "appended", Some(true), 0),
                change("x-none", "appended to nothing", Some(true), 0),
                change("x-new", "n", Some(false), 0),
            ],
            remove: vec!["x-c".into()],
            response: vec![
                change("x-r", "1", None, 0),
                change("x-upstream", "replaced", None, 2),
                change("content-type", "if absent", None, 1),
                change("x-absent", "if present", None, 3),
            ],
        }),
        "/metadata" => {
            let text = prost_types::value::Kind::StringValue("acme".into());
            let value = prost_types::Value { kind: Some(text) };
            let metadata = prost_types::Struct { fields: [("tenant".into(), value)].into() };
            CheckResponse { metadata: Some(metadata), ..allowed(Allowed::default()) }
        }
        _ => allowed(Allowed::default()),
    }
}

/// A question without what is different each time.
fn normalized(message: &Bytes) -> String {
    let mut request = CheckRequest::decode(message.clone()).unwrap();
    let attributes = request.attributes.as_mut().unwrap();
    for peer in [&mut attributes.source, &mut attributes.destination] {
        peer.as_mut().unwrap().address.as_mut().unwrap().socket.as_mut().unwrap().port = 0;
    }
    let of_request = attributes.request.as_mut().unwrap();
    assert!(of_request.time.take().is_some());
    let http = of_request.http.as_mut().unwrap();
    assert!(!std::mem::take(&mut http.id).is_empty());
    assert!(http.headers.remove("x-request-id").is_some());
    format!("{request:#?}")
}

/// An authorizer, and what it was asked.
fn authorizer() -> (GrpcServer, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let questions = Arc::clone(&asked);
    let server = GrpcServer::start_with(move |message| {
        questions.lock().unwrap().push(normalized(&message));
        let request = CheckRequest::decode(message).unwrap();
        let path = request.attributes.unwrap().request.unwrap().http.unwrap().path;
        answer(&path).encode_to_vec().into()
    });
    (server, asked)
}

/// Behind the filter: tells what the authorizer said in its own name.
fn telling() -> Plugin {
    Plugin::guest(
        "on request_headers:
            (call $add #request 'x-tenant' (call $property
                'metadata\\00filter_metadata\\00envoy.filters.http.ext_authz\\00tenant'))",
    )
}

const CLUSTER: &str = "outbound|9000||authz.example";

fn compare(settings: &str, requests: &[Request]) {
    let provider = "envoyExtAuthzGrpc: {service: authz.example, port: 9000";
    let resources = asking(&format!("{provider}{settings}}}"));
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let converse = |proxy: SocketAddr| {
        let mut transcript = Transcript::new(&[], false);
        transcript.connection(0, proxy, requests);
        transcript.lines
    };
    let (server, asked) = authorizer();
    let (url, address) = (server.url(), upstream.addr());
    let setup = Setup::new().resources(&resources).plugin(telling()).tune(move |config| {
        config.upstream = address.into();
        config.server_name = http::HeaderValue::from_static("envoy");
        config.clusters = [(CLUSTER.to_owned(), url.parse().unwrap())].into();
    });
    let proxy = setup.start();
    let ours =
        (converse(proxy.proxy().listen_address()), std::mem::take(&mut *asked.lock().unwrap()));

    let modules = Modules::new();
    let plan = modules.plan_for(&[telling()], &resources, &workload());
    let builder = Envoy::builder()
        .upstream(upstream.addr())
        .http2_cluster(CLUSTER, server.address())
        .connection_manager(istio_config::connection_manager(&plan));
    let builder = plan.filters.iter().fold(builder, |builder, filter| match filter {
        wasmplug_api::PlannedFilter::Wasm(plugin) => {
            builder.wasm_filter(&super::case::filter(plugin))
        }
        other => {
            istio_config::http_filters(other).into_iter().fold(builder, EnvoyBuilder::http_filter)
        }
    });
    let Some(envoy) = builder.start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let theirs = (converse(envoy.addr()), std::mem::take(&mut *asked.lock().unwrap()));
    assert_eq!(theirs.1.join("\n"), ours.1.join("\n"), "what the authorizer was asked");
    assert_eq!(theirs.0.join("\n"), ours.0.join("\n"), "what the client got");
}

/// A request with headers of every kind.
fn full(path: &str) -> Request {
    let headers = "x-a: 1\nx-b: 2\nx-b: 3\nx-c: 4\ncookie: a=b\nauthorization: Bearer t\n";
    request("GET", path, headers, "")
}

#[test]
fn an_authorizer_is_told_everything_about_the_head() {
    compare("", &[get("/a?b=c"), full("/x"), post("/y", "body"), get("/open")]);
}

#[test]
fn an_authorizer_refuses_in_its_own_words_or_in_envoys() {
    compare("", &[get("/deny"), get("/bare"), get("/no-status")]);
}

#[test]
fn headers_are_changed_in_both_directions() {
    compare("", &[full("/headers")]);
}

#[test]
fn plugins_behind_see_what_it_said_in_its_own_name() {
    compare("", &[get("/metadata"), get("/a")]);
}

#[test]
fn a_body_is_told_as_text_or_as_bytes() {
    let text = ", includeRequestBodyInCheck: {maxRequestBytes: 100}";
    compare(text, &[post("/a", "body"), get("/a")]);
    let bytes = ", includeRequestBodyInCheck: {maxRequestBytes: 2, allowPartialMessage: true, packAsBytes: true}";
    compare(bytes, &[post("/a", "body"), post("/a", "b")]);
}

#[test]
fn an_authorizer_that_is_not_there_refuses_or_is_ignored() {
    // The cluster exists, and nobody listens there.
    let resources = |settings: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data:\n  mesh: |\n    extensionProviders:\n    - name: ext\n      \
             envoyExtAuthzGrpc: {{service: authz.example, port: 9000{settings}}}\n---\n\
             apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: ask, namespace: default}}\n\
             spec: {{action: CUSTOM, provider: {{name: ext}}, rules: [{{}}]}}\n"
        )
    };
    for (settings, status) in
        [("", 403), (", statusOnError: '503'", 503), (", failOpen: true", 200)]
    {
        let setup = Setup::new().resources(&resources(settings)).tune(|config| {
            config.clusters = [(CLUSTER.to_owned(), "h2c://127.0.0.1:1".parse().unwrap())].into();
        });
        // `tune` must leave the upstream as it is.
        assert_eq!(setup.start().get("/").status, status, "{settings}");
    }
}
