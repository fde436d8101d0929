//! The example plugins, as users build them.

use std::time::Duration;

use super::case::{Case, Request, case, get, post, post_chunked, request};
use super::cases;
use crate::harness::Plugin;

/// Less than the period after which the rate limiters refill.
const IN_ONE_PERIOD: Duration = Duration::from_millis(900);
/// What the Go plugin keeps in a map, whose order is random.
const OF_A_MAP: &[&str] = &["who-am-i", "injected-by", "hally", "wang"];

fn limiter(name: &str, configuration: &str) -> Case {
    let plugin = Plugin::prebuilt(name).configured(configuration);
    case().plugin(plugin).within(IN_ONE_PERIOD).unordered(OF_A_MAP)
}

fn tag(tag: &str) -> Plugin {
    Plugin::prebuilt("tag-headers-rust").configured(&format!(r#"{{"tag": "{tag}"}}"#))
}

fn three(request: &Request) -> Vec<Request> {
    vec![request.clone(); 3]
}

const GREETING: &str = r#"{"greeting": "hello", "n": 1.5, "list": [true, null]}"#;

cases! {
    rate_limit_rust_get => limiter("rate-limit-rust", "").send(three(&get("/")));
    rate_limit_rust_configured => limiter("rate-limit-rust", GREETING).send(three(&get("/?a=b")));
    rate_limit_rust_head => limiter("rate-limit-rust", "")
        .send(three(&request("HEAD", "/", "", "")));
    rate_limit_rust_post => limiter("rate-limit-rust", "").send(three(&post("/", "hello")));
    rate_limit_rust_post_chunked => limiter("rate-limit-rust", "")
        .send(three(&post_chunked("/", &["a", "b"])));
    rate_limit_rust_on_three_connections => limiter("rate-limit-rust", "")
        .send([get("/")]).send([get("/")]).send([get("/")]);
    rate_limit_rust_upstream_down => limiter("rate-limit-rust", "").upstream_down()
        .send(three(&get("/")));
    rate_limit_rust_grpc => limiter("rate-limit-rust", "")
        .send(three(&request("GET", "/", "content-type: application/grpc\n", "")));
    rate_limit_go_get => limiter("rate-limit-go", "").send(three(&get("/")));
    rate_limit_go_configured => limiter("rate-limit-go", GREETING).send(three(&get("/?a=b")));
    rate_limit_go_head => limiter("rate-limit-go", "").send(three(&request("HEAD", "/", "", "")));
    rate_limit_go_post => limiter("rate-limit-go", "").send(three(&post("/", "hello")));
    tag_headers_get => case().plugin(tag("a")).send([get("/"), get("/headers?x-chain-response=up")]);
    tag_headers_keep_what_is_there => case().plugin(tag("a")).send([
        request("GET", "/", "x-chain: client\nx-z: z\n", ""),
        request("GET", "/", "x-chain: one\nx-chain: two\n", ""),
    ]);
    tag_headers_post => case().plugin(tag("a"))
        .send([post("/", "hello"), post_chunked("/", &["a", "b"])]);
    tag_headers_answers => case().plugin(tag("a"))
        .send(["/status/404", "/status/500", "/status/204", "/chunked/3"].map(get));
    a_chain_of_three => case().plugin(tag("a")).plugin(tag("b")).plugin(tag("c"))
        .send([get("/"), post("/", "x")]);
    a_limiter_before_a_tag => limiter("rate-limit-rust", "").plugin(tag("b"))
        .send(three(&get("/")));
    a_tag_before_a_limiter => case().plugin(tag("a"))
        .plugin(Plugin::prebuilt("rate-limit-rust")).within(IN_ONE_PERIOD)
        .send(three(&get("/")));
    two_limiters_of_two_languages => limiter("rate-limit-rust", "")
        .plugin(Plugin::prebuilt("rate-limit-go")).send(three(&get("/")));
    // Checks: CH-06
    a_chain_with_the_upstream_down => case().plugin(tag("a")).plugin(tag("b")).upstream_down()
        .send([get("/")]);
}
