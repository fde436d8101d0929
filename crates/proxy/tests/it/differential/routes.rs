//! What routes ask filters for: cross-origin rules and injected faults.

use wasmplug_api::{Workload, WorkloadRole};

use super::case::{Case, case, get, request};
use super::cases;
use crate::harness::Plugin;

/// A client's sidecar with one route that asks for something.
fn routed(route: &str) -> Case {
    let resources = format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{name: routes, namespace: default}}\n\
         spec: {{hosts: ['*'], http: [{{{route}}}]}}\n"
    );
    case().resources(&resources).workload(Workload::new("default", WorkloadRole::SidecarOutbound))
}

const CORS: &str = "corsPolicy: {
    allowOrigins: [{exact: 'https://a.example'}, {prefix: 'https://b.'}, {regex: 'https://c[0-9]+'}],
    allowMethods: [GET, PUT], allowHeaders: [x-a, x-b], exposeHeaders: [x-c, x-d], maxAge: 24h,
    allowCredentials: true}";

fn from(origin: &str) -> Vec<u8> {
    request("GET", "/", &format!("origin: {origin}\n"), "")
}

fn preflight(headers: &str) -> Vec<u8> {
    request("OPTIONS", "/", headers, "")
}

fn cors(requests: impl IntoIterator<Item = Vec<u8>>) -> Case {
    routed(CORS).send(requests)
}

/// A plugin that tells what it sees on the way back.
fn telling() -> Plugin {
    Plugin::guest(
        "on response_headers:
            (call $log (call $get #response 'access-control-allow-origin'))",
    )
}

cases! {
    origins_that_are_allowed => cors([
        from("https://a.example"), from("https://b.example"), from("https://c1"),
    ]);
    origins_that_are_not_allowed => cors([
        from("https://a.example.evil"), from("http://b.example"), from("https://c1x"), from("null"),
    ]);
    no_origin_or_an_empty_one => cors([get("/"), from("")]);
    any_origin => routed("corsPolicy: {allowOrigins: [{exact: '*'}]}").send([from("https://x"), get("/")]);
    a_preflight_is_answered => cors([
        preflight("origin: https://a.example\naccess-control-request-method: PUT\n"),
    ]);
    a_preflight_with_nothing_to_say => routed("corsPolicy: {allowOrigins: [{prefix: 'h'}]}").send([
        preflight("origin: https://a.example\naccess-control-request-method: PUT\n"),
    ]);
    a_preflight_of_an_unknown_origin_passes => cors([
        preflight("origin: https://evil\naccess-control-request-method: PUT\n"),
    ]);
    options_that_are_no_preflight_pass => cors([
        preflight("origin: https://a.example\n"),
        preflight("origin: https://a.example\naccess-control-request-method:\n"),
        preflight("access-control-request-method: PUT\n"),
    ]);
    headers_of_the_upstream_are_replaced => cors([request(
        "GET",
        "/headers?access-control-allow-origin=*&access-control-expose-headers=x&x-c=1",
        "origin: https://a.example\n",
        "",
    )]);
    a_plugin_sees_what_cors_wrote => routed(CORS).plugin(telling()).log().send([
        from("https://a.example"),
        from("https://evil"),
        preflight("origin: https://a.example\naccess-control-request-method: PUT\n"),
    ]);
    an_abort => routed("fault: {abort: {httpStatus: 418}}").send([get("/"), get("/")]);
    an_abort_of_grpc => routed("fault: {abort: {grpcStatus: UNAVAILABLE}}").send([
        get("/"),
        request("POST", "/", "content-type: application/grpc\ncontent-length: 0\n", ""),
    ]);
    nobody_is_aborted => routed("fault: {abort: {httpStatus: 418, percentage: {value: 0}}}")
        .send([get("/")]);
    an_abort_behind_a_delay => routed(
        "fault: {delay: {fixedDelay: 0.05s}, abort: {httpStatus: 503}}",
    ).send([get("/")]);
    a_delay_lets_the_request_pass => routed("fault: {delay: {fixedDelay: 0.05s}}").send([
        get("/"),
        super::case::post("/", "body"),
        super::case::post_chunked("/", &["a", "b"]),
    ]);
    a_plugin_sees_an_abort => routed("fault: {abort: {httpStatus: 418}}").plugin(Plugin::guest(
        "on response_headers:
            (call $log (call $get #response ':status'))",
    )).log().send([get("/")]);
    cors_before_fault_on_the_way_back => routed(
        &format!("{CORS}, fault: {{abort: {{httpStatus: 418}}}}"),
    ).send([from("https://a.example")]);
}
