//! Policies: what they mean together, and what becomes of a request.

use super::case::{Case, Request, case, get, post, request};
use super::cases;
use crate::harness::Plugin;

/// A policy called `p` with this `spec` in YAML, in flow style.
pub(super) fn policy(spec: &str) -> Case {
    policies(&[("p", spec)])
}

/// Policies by name, with a plugin that tells what came of each request.
pub(super) fn policies(policies: &[(&str, &str)]) -> Case {
    let documents = policies.iter().map(|(name, spec)| document(name, "{}", spec));
    case().plugin(teller()).resources(&documents.collect::<String>())
}

/// One policy as YAML.
pub(super) fn document(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: {name}, namespace: default, annotations: {annotations}}}\nspec: {spec}\n"
    )
}

/// The annotation of a policy that is only tried out.
pub(super) const DRY_RUN: &str = r#"{istio.io/dry-run: "true"}"#;

/// A plugin in front of the policies that writes their decision into the response.
fn teller() -> Plugin {
    Plugin::guest(
        "
        on response_headers:
            (call $add #response 'x-details' (call $property 'response\\00code_details'))
            (call $add #response 'x-rule' (call $property
                'metadata\\00filter_metadata\\00envoy.filters.http.rbac\\00enforced_effective_policy_id'))
            (call $add #response 'x-result' (call $property
                'metadata\\00filter_metadata\\00envoy.filters.http.rbac\\00enforced_engine_result'))",
    )
    .phase("AUTHZ")
}

/// GET with header lines.
pub(super) fn with(headers: &str) -> Request {
    request("GET", "/", headers, "")
}

/// GET for a host.
pub(super) fn to_host(host: &str) -> Request {
    format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n").into()
}

const DENY_ADMIN: &str = "{action: DENY, rules: [{to: [{operation: {paths: [/admin*]}}]}]}";
const ALLOW_GET: &str = "{rules: [{to: [{operation: {methods: [GET]}}]}]}";

cases! {
    without_policies_everything_passes => policies(&[]).send([get("/"), post("/a", "b")]);
    a_spec_without_anything_refuses_everything => policy("{}").send([get("/"), post("/a", "b")]);
    an_empty_rule_lets_everything_pass => policy("{rules: [{}]}").send([get("/"), post("/", "b")]);
    a_denial_for_everything => policy("{action: DENY, rules: [{}]}").send([get("/")]);
    what_a_denial_does_not_match_passes => policy(DENY_ADMIN)
        .send([get("/"), get("/admin"), get("/administrators"), get("/a/admin"), get("/ADMIN")]);
    what_no_policy_allows_is_refused => policy(ALLOW_GET).send([get("/"), post("/", "x")]);
    a_denial_goes_before_what_allows => policies(&[("allow", ALLOW_GET), ("deny", DENY_ADMIN)])
        .send([get("/"), get("/admin"), post("/", "a"), post("/admin", "a")]);
    a_path_is_refused_within_what_is_allowed => policies(&[
        ("deny", "{action: DENY, rules: [{to: [{operation: {paths: [/allow/admin]}}]}]}"),
        ("allow", "{rules: [{to: [{operation: {paths: [/allow*]}}]}]}"),
    ]).send([
        get("/allow/admin"), get("/allow/admin?param=value"), get("/allow"),
        get("/allow?param=value"), get("/allowed"), get("/"),
    ]);
    any_of_several_policies_allows => policies(&[
        ("b", "{rules: [{to: [{operation: {paths: [/b]}}]}]}"),
        ("a", "{rules: [{to: [{operation: {paths: [/a]}}]}]}"),
    ]).send([get("/a"), get("/b"), get("/c")]);
    one_that_matches_nothing_changes_nothing_beside_another => policies(&[
        ("none", "{}"), ("some", ALLOW_GET),
    ]).send([get("/"), post("/", "a")]);
    of_several_rules_that_match_the_first_by_name_is_told => policies(&[
        ("b", "{action: DENY, rules: [{}, {}]}"), ("a", "{action: DENY, rules: [{}]}"),
    ]).send([get("/")]);
    names_of_rules_are_compared_as_texts => policy(
        "{action: DENY, rules: [\
            {to: [{operation: {paths: [/none]}}]}, {to: [{operation: {paths: [/none]}}]},\
            {to: [{operation: {paths: [/both]}}]}, {to: [{operation: {paths: [/none]}}]},\
            {to: [{operation: {paths: [/none]}}]}, {to: [{operation: {paths: [/none]}}]},\
            {to: [{operation: {paths: [/none]}}]}, {to: [{operation: {paths: [/none]}}]},\
            {to: [{operation: {paths: [/none]}}]}, {to: [{operation: {paths: [/none]}}]},\
            {to: [{operation: {paths: [/both]}}]}]}",
    ).send([get("/both"), get("/other")]);
    sources_operations_and_conditions_must_all_match => policy(
        "{rules: [{from: [{source: {ipBlocks: [127.0.0.1]}}], to: [{operation: {methods: [GET]}}],\
            when: [{key: 'request.headers[x-a]', values: [b]}]}]}",
    ).send([get("/"), with("x-a: b\n"), request("PUT", "/", "x-a: b\n", "")]);
    any_source_and_any_operation_will_do => policy(
        "{rules: [{from: [{source: {ipBlocks: [10.0.0.1]}}, {source: {ipBlocks: [127.0.0.0/8]}}],\
            to: [{operation: {methods: [PUT]}}, {operation: {paths: [/a], methods: [GET]}}]}]}",
    ).send([get("/a"), get("/b"), post("/a", "x"), request("PUT", "/b", "", "")]);
    every_condition_must_match => policy(
        "{rules: [{when: [{key: 'request.headers[x-a]', values: [b, c]},\
            {key: 'request.headers[x-d]', notValues: [e]}]}]}",
    ).send([
        with("x-a: b\n"), with("x-a: c\nx-d: f\n"), with("x-a: b\nx-d: e\n"), with("x-d: f\n"),
    ]);
    a_value_and_a_refused_value_of_one_attribute => policy(
        "{rules: [{to: [{operation: {paths: [/a*], notPaths: [/ab*]}}]}]}",
    ).send([get("/a"), get("/ab"), get("/abc"), get("/ac"), get("/b")]);
    an_audit_refuses_nothing => policy("{action: AUDIT, rules: [{}]}").send([get("/")]);
    an_audit_that_matches_nothing => policy(
        "{action: AUDIT, rules: [{to: [{operation: {paths: [/a]}}]}]}",
    ).send([get("/"), get("/a")]);
    a_refused_request_with_a_body => policy(DENY_ADMIN)
        .send([post("/admin", "hello"), get("/")])
        .send([request("POST", "/admin", "transfer-encoding: chunked\n", "5\r\nhello\r\n0\r\n\r\n")]);
    a_refused_head => policy(DENY_ADMIN).send([request("HEAD", "/admin", "", "")]);
    a_refused_call_of_grpc => policy(DENY_ADMIN).send([
        request("POST", "/admin", "content-type: application/grpc\ncontent-length: 0\n", ""),
    ]);
    over_http2 => policies(&[("allow", ALLOW_GET), ("deny", DENY_ADMIN)]).http2().send([
        get("/"), get("/admin"), post("/", "a"),
    ]);
    a_plugin_in_front_of_policies_changes_what_they_see => policy(DENY_ADMIN).plugin(Plugin::guest("
        on request_headers:
            (call $replace #request ':path' '/admin')").phase("AUTHN"))
        .send([get("/")]);
    a_plugin_may_make_a_path_that_is_not_normalised => policy(DENY_ADMIN).plugin(Plugin::guest("
        on request_headers:
            (call $replace #request ':path' '/a/../admin')").phase("AUTHN"))
        .send([get("/")]);
    a_plugin_in_front_gives_a_header_that_a_policy_asks_for => policy(
        "{rules: [{when: [{key: 'request.headers[x-token]', values: [good]}]}]}",
    ).plugin(Plugin::guest("
        on request_headers:
            (call $add #request 'x-token' 'good')").phase("AUTHN")).send([get("/")]);
    a_plugin_behind_policies_sees_only_what_passed => policy(DENY_ADMIN).plugin(Plugin::guest("
        on request_headers:
            (call $add #request 'x-seen' 'yes')
        on response_headers:
            (call $add #response 'x-seen' 'yes')").phase("STATS"))
        .send([get("/"), get("/admin")]);
    a_plugin_behind_policies_may_do_what_they_refuse => policy(DENY_ADMIN).plugin(Plugin::guest("
        on request_headers:
            (call $replace #request ':path' '/admin')").phase("STATS"))
        .send([get("/")]);
    a_plugin_in_front_that_answers_is_asked_first => policy("{}").plugin(Plugin::guest("
        on request_headers:
            (call $reply #200 'mine' {x-a: 1})").phase("AUTHN"))
        .send([get("/")]);
}
