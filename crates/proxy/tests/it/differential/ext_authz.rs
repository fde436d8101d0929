//! External authorizers that speak HTTP.

use wasmplug_testkit::upstream::UpstreamBuilder;
use wasmplug_testkit::{Received, Reply, Scripted, Upstream};

use super::case::{Case, case, get, post, post_chunked, request};
use super::cases;
use crate::harness::Plugin;

/// Name of the authorizer's cluster.
const CLUSTER: &str = "outbound|8000||authz.example";

/// An authorizer with more settings, in YAML, that is asked about everything but `/open`.
fn authorizer(settings: &str) -> Case {
    authorizer_that(settings, answer)
}

fn authorizer_that(
    settings: &str,
    answer: impl Fn(&Received) -> Scripted + Send + Sync + Copy + 'static,
) -> Case {
    plain(settings).cluster(CLUSTER, move || -> UpstreamBuilder { Upstream::scripted(answer) })
}

/// The same without a cluster.
fn plain(settings: &str) -> Case {
    let provider = "envoyExtAuthzHttp: {service: authz.example, port: 8000, timeout: 5s";
    case().resources(&asking(&format!("{provider}{settings}}}")))
}

/// Everything but `/open` is asked about at this provider.
pub(super) fn asking(provider: &str) -> String {
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    extensionProviders:
    - name: ext
      {provider}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: ask, namespace: default}}
spec:
  action: CUSTOM
  provider: {{name: ext}}
  rules: [{{to: [{{operation: {{notPaths: [/open]}}}}]}}]
"
    )
}

/// Allows, denies or fails by what the path contains.
fn answer(received: &Received) -> Scripted {
    let reply = |status| {
        Reply::new(status)
            .header("x-user", "alice")
            .header("x-other", "o")
            .header("x-reason", "because")
            .header("www-authenticate", "Basic")
            .header("location", "/login")
    };
    let path = &received.path;
    if path.contains("deny") {
        reply(403).body("denied").into()
    } else if path.contains("redirect") {
        reply(302).into()
    } else if path.contains("fail") {
        reply(500).body("failed").into()
    } else if path.contains("remove") {
        reply(200).header("x-envoy-auth-headers-to-remove", "x-a, x-b").into()
    } else if path.contains("created") {
        reply(201).body("created").into()
    } else {
        reply(200).body("fine").into()
    }
}

fn hanging_up(_: &Received) -> Scripted {
    Scripted::close()
}

/// A request with headers of every kind.
fn full(path: &str) -> Vec<u8> {
    request(
        "GET",
        path,
        "authorization: Bearer t\ncookie: a=b\nx-a: 1\nx-b: 2\nx-b: 3\nx-pre-1: p\nx-user: mallory\n",
        "",
    )
}

/// A plugin that tells which policy wanted the authorizer to be asked.
fn telling() -> Plugin {
    Plugin::guest(
        "on request_headers:
            (call $log (call $property
                'metadata\\00filter_metadata\\00envoy.filters.http.rbac\\00istio_ext_authz_shadow_effective_policy_id'))
            (call $log (call $property
                'metadata\\00filter_metadata\\00envoy.filters.http.rbac\\00istio_ext_authz_shadow_engine_result'))
            (call $log (call $get #request 'x-user'))
        on log:
            (call $log (call $property 'response\\00code_details'))",
    )
}

const HEADERS: &str = ", includeRequestHeadersInCheck: [x-a, X-Pre-*, '*-nothing', cookie], \
    includeAdditionalHeadersInCheck: {x-from: proxy, x-a: 'replaced'}, pathPrefix: /check, \
    headersToUpstreamOnAllow: [x-user, x-re*], headersToDownstreamOnAllow: [x-other], \
    headersToDownstreamOnDeny: [x-reason]";

/// Envoy keeps the request's headers without an order before it asks.
const WHIM: &[&str] = &["authorization", "cookie", "x-a", "x-pre-1"];

cases! {
    an_authorizer_lets_a_request_pass => authorizer("").send([get("/a"), post("/b", "body")]);
    an_authorizer_refuses => authorizer("").send([get("/deny"), post("/deny", "body")]);
    nobody_is_asked_where_no_policy_matches => authorizer("").send([get("/open"), get("/open?q")]);
    an_authorizer_redirects => authorizer("").send([get("/redirect")]);
    only_200_lets_a_request_pass => authorizer("").send([get("/created")]);
    an_authorizer_that_fails_refuses => authorizer("").send([get("/fail")]);
    the_status_of_a_failure_can_be_chosen => authorizer(", statusOnError: '503'").send([get("/fail")]);
    a_failure_can_be_ignored => authorizer(", failOpen: true").send([full("/fail"), get("/deny")]);
    an_authorizer_that_is_not_there => plain("").cluster_down(CLUSTER).send([get("/")]);
    an_authorizer_that_is_not_there_can_be_ignored => plain(", failOpen: true")
        .cluster_down(CLUSTER).send([get("/")]);
    an_authorizer_that_hangs_up => authorizer_that("", hanging_up).send([get("/")]);
    by_default_few_headers_are_sent => authorizer("").send([full("/a")]);
    headers_are_chosen => authorizer(HEADERS).unordered(WHIM).send([full("/a"), full("/deny"), full("/redirect")]);
    headers_are_removed => authorizer("").send([full("/remove")]);
    a_query_is_asked_about_as_well => authorizer(", pathPrefix: /p").send([get("/a?b=c")]);
    a_body_can_be_sent_along =>
        authorizer(", includeRequestBodyInCheck: {maxRequestBytes: 100}")
            .send([post("/a", "body"), post_chunked("/a", &["one ", "two"]), get("/a"), post("/deny", "x")]);
    a_body_of_exactly_the_limit_can_be_sent_along =>
        authorizer(", includeRequestBodyInCheck: {maxRequestBytes: 4}").send([post("/a", "body")]);
    a_longer_body_is_too_large =>
        authorizer(", includeRequestBodyInCheck: {maxRequestBytes: 4}").send([post("/a", "bodies")]);
    a_longer_body_can_be_cut =>
        authorizer(", includeRequestBodyInCheck: {maxRequestBytes: 4, allowPartialMessage: true}")
            .send([post("/a", "bodies"), post("/a", "bod")]);
    plugins_see_what_came_of_it => authorizer(HEADERS).unordered(WHIM).plugin(telling()).log()
        .send([full("/a"), full("/open")]);
    a_plugin_behind_it_is_not_asked_about_what_was_refused => authorizer("")
        .plugin(telling()).log().send([full("/deny"), full("/fail")]);
}
