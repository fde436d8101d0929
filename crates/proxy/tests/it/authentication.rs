//! `RequestAuthentication` in the data plane: the cases of Istio's own tests, and what is ours.

mod keys;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use wasmplug_api::{Workload, WorkloadRole};
use wasmplug_proxy::Route;
use wasmplug_testkit::jwt::{Key, encode, jwks};
use wasmplug_testkit::{Response, Upstream, UpstreamThread};

use crate::harness::{Plugin, Running, Setup};

const ONE: &str = "test-issuer-1@istio.io";
const TWO: &str = "test-issuer-2@istio.io";

/// Two issuers with their keys.
struct Issuers {
    one: Key,
    two: Key,
}

// === impl Issuers ===

impl Issuers {
    fn new() -> Self {
        Self { one: Key::rsa().with_kid("one"), two: Key::es256().with_kid("two") }
    }

    fn one(&self, more: Value) -> String {
        self.one.token(&claims(ONE, more))
    }

    fn two(&self, more: Value) -> String {
        self.two.token(&claims(TWO, more))
    }

    fn expired(&self) -> String {
        self.one(json!({ "exp": 1 }))
    }

    /// A rule for the first one, with further fields.
    fn rule_one(&self, more: &str) -> String {
        format!("{{issuer: {ONE}, jwks: '{}', {more}}}", jwks([&self.one]))
    }

    fn rule_two(&self, more: &str) -> String {
        format!("{{issuer: {TWO}, jwks: '{}', {more}}}", jwks([&self.two]))
    }
}

fn claims(issuer: &str, more: Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims =
        json!({ "iss": issuer, "sub": "sub-1", "iat": 1_562_182_722, "exp": now + 3600 });
    if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
        claims.extend(more);
    }
    claims
}

/// A policy with these rules.
fn policy(name: &str, rules: &[String]) -> String {
    let rules = rules.join("\n    - ");
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: {name}, namespace: default}}\nspec:\n  jwtRules:\n    - {rules}\n"
    )
}

fn start(rules: &[String]) -> Running {
    Setup::new().resources(&policy("jwt", rules)).start()
}

/// Sends a request with these headers, each `name: value`.
fn send(proxy: &Running, method: &str, path: &str, headers: &[String]) -> Response {
    let headers = [&["host: h".to_owned()], headers].concat().join("\r\n");
    proxy.exchange(format!("{method} {path} HTTP/1.1\r\n{headers}\r\n\r\n"))
}

fn get(proxy: &Running, token: &str) -> Response {
    send(proxy, "GET", "/", &[format!("authorization: Bearer {token}")])
}

/// What the upstream got last under this name.
fn upstream_got(proxy: &Running, name: &str) -> Option<String> {
    proxy.upstream().received().last().and_then(|it| it.header(name).map(str::to_owned))
}

/// Refuses everybody whom the filter in front of it did not get to know.
fn demands_a_principal() -> Plugin {
    Plugin::guest(
        "on request_headers:
            (if (call $is (call $property 'request\\00auth\\00principal') '-')
                (then (call $reply #403 'who are you?' {x-a: 1})))",
    )
    .phase("AUTHZ")
}

#[test]
fn a_valid_token_is_told_to_the_upstream_and_taken_away() {
    let issuers = Issuers::new();
    let outputs = "outputPayloadToHeader: x-test-payload, outputClaimToHeaders: [\
                   {header: x-jwt-iss, claim: iss}, {header: x-jwt-iat, claim: iat}, \
                   {header: x-jwt-nested-claim, claim: nested.nested-2.key2}]";
    let proxy = start(&[
        issuers.rule_one(outputs),
        issuers.rule_two("outputPayloadToHeader: x-test-payload"),
    ]);
    let token = issuers.one(json!({ "nested": { "nested-2": { "key2": "value2" } } }));
    assert_eq!(get(&proxy, &token).status, 200);
    assert_eq!(upstream_got(&proxy, "authorization"), None);
    let payload = token.split('.').nth(1).unwrap();
    assert_eq!(upstream_got(&proxy, "x-test-payload").as_deref(), Some(payload));
    assert_eq!(upstream_got(&proxy, "x-jwt-iss").as_deref(), Some(ONE));
    assert_eq!(upstream_got(&proxy, "x-jwt-iat").as_deref(), Some("1562182722"));
    assert_eq!(upstream_got(&proxy, "x-jwt-nested-claim").as_deref(), Some("value2"));

    let token = issuers.two(json!({}));
    assert_eq!(get(&proxy, &token).status, 200);
    let payload = token.split('.').nth(1).unwrap();
    assert_eq!(upstream_got(&proxy, "x-test-payload").as_deref(), Some(payload));
    assert_eq!(upstream_got(&proxy, "x-jwt-iss"), None);
}

#[test]
fn an_expired_token_passes_in_a_preflight_only() {
    let issuers = Issuers::new();
    let proxy = start(&[issuers.rule_one("")]);
    let token = format!("authorization: Bearer {}", issuers.expired());
    let (origin, asks) =
        ("origin: https://o".to_owned(), "access-control-request-method: GET".to_owned());
    let rows = [
        ("GET", vec![token.clone()], 401),
        ("OPTIONS", vec![token.clone(), origin.clone(), asks.clone()], 200),
        ("OPTIONS", vec![token.clone(), asks], 401),
        ("OPTIONS", vec![token, origin], 401),
        ("GET", vec![], 200),
    ];
    for (method, headers, status) in rows {
        assert_eq!(send(&proxy, method, "/", &headers).status, status, "{method} {headers:?}");
    }
}

#[test]
fn a_plugin_behind_it_can_demand_a_principal() {
    let issuers = Issuers::new();
    let resources = policy("jwt", &[issuers.rule_one("")]);
    let proxy = Setup::new().resources(&resources).plugin(demands_a_principal()).start();
    assert_eq!(get(&proxy, &issuers.one(json!({}))).status, 200);
    assert_eq!(get(&proxy, &issuers.expired()).status, 401);
    assert_eq!(proxy.get("/").status, 403);
    // Who somebody is takes both an issuer and a subject.
    assert_eq!(get(&proxy, &issuers.one.token(&json!({ "iss": ONE }))).status, 403);
}

/// A policy that allows what the rest of its rule, in YAML's short form, says.
fn allowing(rule: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: allow, namespace: default}}\nspec: {{rules: [{rule}]}}\n"
    )
}

#[test]
fn a_policy_behind_it_can_demand_a_principal() {
    let issuers = Issuers::new();
    let principals = allowing("{from: [{source: {requestPrincipals: ['*']}}]}");
    let resources = format!("{}{principals}", policy("jwt", &[issuers.rule_one("")]));
    let proxy = Setup::new().resources(&resources).start();
    assert_eq!(get(&proxy, &issuers.one(json!({}))).status, 200);
    assert_eq!(get(&proxy, &issuers.expired()).status, 401);
    assert_eq!(proxy.get("/").status, 403);
}

#[test]
fn a_policy_behind_it_reads_claims() {
    let issuers = Issuers::new();
    let writers = allowing("{when: [{key: 'request.auth.claims[scope]', values: [write]}]}");
    let resources = format!("{}{writers}", policy("jwt", &[issuers.rule_one("")]));
    let proxy = Setup::new().resources(&resources).start();
    for (scope, status) in [("read write", 200), ("write", 200), ("read", 403), ("rewrite", 403)] {
        assert_eq!(get(&proxy, &issuers.one(json!({ "scope": scope }))).status, status, "{scope}");
    }
}

#[test]
fn without_a_rule_nobody_is_asked() {
    let issuers = Issuers::new();
    let proxy = Setup::new().start();
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(get(&proxy, &issuers.expired()).status, 200);
    assert!(upstream_got(&proxy, "authorization").is_some());
}

#[test]
fn a_token_is_forwarded_if_the_rule_says_so() {
    let issuers = Issuers::new();
    let rule = "forwardOriginalToken: true, outputPayloadToHeader: x-test-payload";
    let proxy = start(&[issuers.rule_one(rule)]);
    let token = issuers.one(json!({}));
    assert_eq!(get(&proxy, &token).status, 200);
    assert_eq!(upstream_got(&proxy, "authorization"), Some(format!("Bearer {token}")));
    assert!(upstream_got(&proxy, "x-test-payload").is_some());
}

#[test]
fn a_token_is_for_its_audience() {
    let issuers = Issuers::new();
    let proxy = start(&[issuers.rule_one("audiences: [foo]")]);
    let wrong = get(&proxy, &issuers.one(json!({ "aud": "bar" })));
    assert_eq!((wrong.status, wrong.text().as_str()), (403, "Audiences in Jwt are not allowed"));
    assert_eq!(get(&proxy, &issuers.one(json!({ "aud": "foo" }))).status, 200);
}

#[test]
fn any_of_two_policies_is_enough() {
    let issuers = Issuers::new();
    let strict = policy("strict", &[issuers.rule_two("audiences: [foo]")]);
    let lenient = policy("lenient", &[issuers.rule_two("")]);
    let both = Setup::new().resources(&format!("{strict}{lenient}")).start();
    assert_eq!(get(&both, &issuers.two(json!({}))).status, 200);
    let alone = Setup::new().resources(&strict).start();
    assert_eq!(get(&alone, &issuers.two(json!({}))).status, 403);
}

/// Tokens, each with the status and the text of its refusal.
fn refusals(key: &Key) -> Vec<(String, u16, &'static str)> {
    let good = |more: Value| claims(ONE, more);
    let payload = |text: &str| key.token_of(&key.header(), text.as_bytes());
    let header = |text: &str| key.token_of_parts(&encode(text), &encode("{}"));
    let signed = key.token(&good(json!({ "aud": "a" })));
    let (unsigned, _) = signed.rsplit_once('.').unwrap();
    let of_alg = |alg: &str| json!({ "alg": alg, "kid": "one" });
    vec![
        (key.token(&good(json!({ "aud": "b" }))), 403, "Audiences in Jwt are not allowed"),
        (
            "a.b".into(),
            401,
            "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections",
        ),
        ("a!.b.c".into(), 401, "Jwt header is an invalid Base64url encoded"),
        (header("{"), 401, "Jwt header is an invalid JSON"),
        (header("{}"), 401, "Jwt header [alg] field is required and must be a string"),
        (header(r#"{"alg":"none"}"#), 401, "Jwt header [alg] is not supported"),
        (header(r#"{"alg":"RS256","kid":1}"#), 401, "Jwt header [kid] field is not a string"),
        (
            key.token_of_parts(&encode(key.header().to_string()), "!"),
            401,
            "Jwt payload is an invalid Base64url encoded",
        ),
        (payload("{"), 401, "Jwt payload is an invalid JSON"),
        (payload(r#"{"iss":1}"#), 401, "Jwt payload [iss] field is not a string"),
        (payload(r#"{"sub":1}"#), 401, "Jwt payload [sub] field is not a string"),
        (payload(r#"{"iat":""}"#), 401, "Jwt payload [iat] field is not an integer"),
        (payload(r#"{"iat":-1}"#), 401, "Jwt payload [iat] field is not a positive 64 bit integer"),
        (payload(r#"{"nbf":""}"#), 401, "Jwt payload [nbf] field is not an integer"),
        (payload(r#"{"nbf":-1}"#), 401, "Jwt payload [nbf] field is not a positive 64 bit integer"),
        (payload(r#"{"exp":""}"#), 401, "Jwt payload [exp] field is not an integer"),
        (payload(r#"{"exp":-1}"#), 401, "Jwt payload [exp] field is not a positive 64 bit integer"),
        (payload(r#"{"jti":1}"#), 401, "Jwt payload [jti] field is not a string"),
        (payload(r#"{"aud":1}"#), 401, "Jwt payload [aud] field is not a string or string list"),
        (format!("{unsigned}.!"), 401, "Jwt signature is an invalid Base64url encoded"),
        (key.token(&json!({ "iss": TWO })), 401, "Jwt issuer is not configured"),
        (key.token(&good(json!({ "exp": 1 }))), 401, "Jwt is expired"),
        (key.token(&good(json!({ "nbf": 9_999_999_999_u64 }))), 401, "Jwt not yet valid"),
        (
            key.token_of(
                &json!({ "alg": "RS256", "kid": "?" }),
                good(json!({ "aud": "a" })).to_string().as_bytes(),
            ),
            401,
            "Jwks doesn't have key to match kid or alg from Jwt",
        ),
        (format!("{unsigned}.{}", encode("x")), 401, "Jwt verification fails"),
        (
            key.token_of(&of_alg("EdDSA"), good(json!({ "aud": "a" })).to_string().as_bytes()),
            401,
            "Jwt verification fails",
        ),
    ]
}

#[test]
fn every_cause_of_a_refusal_has_its_status_and_its_text() {
    let issuers = Issuers::new();
    let proxy = start(&[issuers.rule_one("audiences: [a]")]);
    for (token, status, text) in refusals(&issuers.one) {
        let refused = get(&proxy, &token);
        assert_eq!((refused.status, refused.text().as_str()), (status, text), "{token}");
        let challenge = "Bearer realm=\"http://h/\", error=\"invalid_token\"";
        assert_eq!(refused.header("www-authenticate"), Some(challenge), "{text}");
    }
    assert_eq!(get(&proxy, &issuers.one(json!({ "aud": "a" }))).status, 200);
    assert_eq!(proxy.upstream().received().len(), 1);
}

#[test]
fn a_challenge_names_no_more_than_256_bytes_of_the_path() {
    let issuers = Issuers::new();
    let proxy = start(&[issuers.rule_one("")]);
    for (length, shown) in [(255, 255), (256, 256), (257, 256), (1000, 256)] {
        let path = format!("/{}", "a".repeat(length - 1));
        let refused = send(&proxy, "GET", &path, &["authorization: Bearer x".to_owned()]);
        let challenge =
            format!("Bearer realm=\"http://h{}\", error=\"invalid_token\"", &path[..shown]);
        assert_eq!(refused.header("www-authenticate"), Some(challenge.as_str()), "{length}");
    }
}

#[test]
fn tokens_are_where_the_rules_say() {
    let issuers = Issuers::new();
    let places = "fromHeaders: [{name: x-jwt-token, prefix: 'Value '}, {name: auth-token, prefix: 'Token '}], \
                  fromParams: [token, secondary_token]";
    let principals = allowing("{from: [{source: {requestPrincipals: ['*']}}]}");
    let resources = format!("{}{principals}", policy("jwt", &[issuers.rule_one(places)]));
    let proxy = Setup::new().resources(&resources).start();
    let (good, expired) = (issuers.one(json!({})), issuers.expired());
    let rows = [
        (format!("/?token={good}"), vec![], 200),
        (format!("/?secondary_token={good}"), vec![], 200),
        (format!("/?token_value={good}"), vec![], 403),
        (format!("/?token={good}&secondary_token={good}"), vec![], 200),
        (format!("/?token={good}&secondary_token={expired}"), vec![], 401),
        ("/".to_owned(), vec![format!("x-jwt-token: Value {good}")], 200),
        ("/".to_owned(), vec![format!("auth-token: Token {good}")], 200),
        ("/".to_owned(), vec![format!("auth-header-param: Bearer {good}")], 403),
    ];
    for (path, headers, status) in rows {
        assert_eq!(send(&proxy, "GET", &path, &headers).status, status, "{path} {headers:?}");
    }
}

#[test]
fn an_unusable_key_set_in_the_rule_refuses_every_token() {
    let issuers = Issuers::new();
    let rule = format!("{{issuer: {ONE}, jwks: '{{\"keys\":[{{\"kty\":\"new\"}}]}}'}}");
    let proxy = Setup::new().resources(&policy("jwt", &[rule])).admin().start();
    assert_eq!(get(&proxy, &issuers.one(json!({}))).status, 401);
    assert_eq!(get(&proxy, &issuers.expired()).status, 401);
    assert_eq!(proxy.get("/").status, 200);
    let dump: Value = proxy.admin("/config_dump").json().unwrap();
    let problem = dump["chain"][0]["rules"][0]["keys"]["problem"].as_str().unwrap();
    assert!(problem.starts_with("`jwks` is no key set: it has no usable key"), "{problem}");
}

#[test]
fn plugins_read_the_identity_by_short_names() {
    let issuers = Issuers::new();
    let tells = Plugin::guest(
        "on request_headers:
            (call $add #request 'x-principal' (call $property 'request\\00auth\\00principal'))
            (call $add #request 'x-presenter' (call $property 'request\\00auth\\00presenter'))
            (call $add #request 'x-audience' (call $property 'request\\00auth\\00claims\\00aud\\001'))
            (call $add #request 'x-scope' (call $property 'request\\00auth\\00claims\\00scope\\001'))
            (call $add #request 'x-none' (call $property 'request\\00auth\\00claims\\00none'))
            (call $add #request 'x-other' (call $property 'request\\00auth\\00other'))",
    );
    let resources = policy("jwt", &[issuers.rule_one("")]);
    let proxy = Setup::new().resources(&resources).plugin(tells.phase("AUTHZ")).start();
    let token = issuers.one(json!({ "azp": "app", "aud": ["a", "b"], "scope": "read write" }));
    assert_eq!(get(&proxy, &token).status, 200);
    let got = |name| upstream_got(&proxy, name).unwrap();
    assert_eq!(got("x-principal"), format!("{ONE}/sub-1"));
    assert_eq!((got("x-presenter"), got("x-audience")), ("app".into(), "b".into()));
    assert_eq!(got("x-scope"), "write");
    assert_eq!((got("x-none"), got("x-other")), ("-".into(), "-".into()));
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(upstream_got(&proxy, "x-principal").as_deref(), Some("-"));
}

#[test]
fn what_it_did_is_counted_under_envoys_names() {
    let issuers = Issuers::new();
    let proxy = Setup::new().resources(&policy("jwt", &[issuers.rule_one("")])).admin().start();
    assert_eq!(get(&proxy, &issuers.one(json!({}))).status, 200);
    assert_eq!(proxy.get("/").status, 200);
    assert_eq!(get(&proxy, "x").status, 401);
    let preflight = ["origin: o".to_owned(), "access-control-request-method: GET".to_owned()];
    assert_eq!(send(&proxy, "OPTIONS", "/", &preflight).status, 200);
    let text = proxy.admin("/stats/prometheus").text();
    for line in [
        "envoy_http_jwt_authn_allowed 3",
        "envoy_http_jwt_authn_denied 1",
        "envoy_http_jwt_authn_cors_preflight_bypassed 1",
        "envoy_http_jwt_authn_jwks_fetch_success 0",
        "envoy_http_jwt_authn_jwks_fetch_failed 0",
        "wasmplug_jwt_rules{state=\"current\"} 1",
        "wasmplug_jwt_rules{state=\"missing\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let without = Setup::new().admin().start().admin("/stats/prometheus").text();
    assert!(!without.contains("jwt"), "{without}");
}

#[test]
fn neither_tokens_nor_keys_are_in_the_dump() {
    let secret = Key::hmac();
    let rule = format!("{{issuer: {ONE}, jwksUri: 'http://user:hunter2@127.0.0.1:1/k'}}");
    let inline = format!("{{issuer: {TWO}, jwks: '{}'}}", jwks([&Key::es256()]));
    let proxy = Setup::new().resources(&policy("jwt", &[rule, inline])).admin().start();
    assert_eq!(get(&proxy, &secret.token(&claims(ONE, json!({})))).status, 401);
    let dump = proxy.admin("/config_dump");
    let text = dump.text();
    assert!(!text.contains("hunter2") && !text.contains("P-256"), "{text}");
    let dump: Value = dump.json().unwrap();
    let rules = &dump["chain"][0]["rules"];
    assert_eq!(dump["chain"][0]["filter"], "jwt_authn");
    assert_eq!(rules[0]["rule"]["issuer"], ONE);
    assert_eq!(rules[0]["keys"]["origin"], "http://127.0.0.1:1/k");
    assert_eq!(rules[0]["keys"]["count"], Value::Null);
    assert_eq!(rules[1]["keys"], json!({ "origin": "inline", "count": 1, "problem": null }));
}

#[test]
fn a_huge_token_that_a_plugin_made_is_refused() {
    let issuers = Issuers::new();
    // The guest writes 1.25 MiB of `a` into the header.
    let huge = Plugin::guest(
        "on request_headers:
            (if (i32.eq (memory.grow (i32.const 32)) (i32.const -1)) (then (unreachable)))
            (memory.fill (i32.const 0x100000) (i32.const 97) (i32.const 0x140000))
            (call $replace #request 'x-token' (i32.const 0x100000) (i32.const 0x140000))",
    );
    let resources = policy("jwt", &[issuers.rule_one("fromHeaders: [{name: x-token}]")]);
    let proxy = Setup::new().resources(&resources).plugin(huge.phase("AUTHN")).start();
    let refused = proxy.get("/");
    assert_eq!(refused.status, 401);
    assert!(refused.text().starts_with("Jwt is not in the form"), "{}", refused.text());
}

#[test]
fn at_a_gateway_claims_may_lead_to_another_route() {
    let issuers = Issuers::new();
    let rule = issuers.rule_one("outputClaimToHeaders: [{header: host, claim: tenant}]");
    for (role, elsewhere) in [(WorkloadRole::Gateway, 1), (WorkloadRole::SidecarInbound, 0)] {
        let tenant = UpstreamThread::start(Upstream::echo()).unwrap();
        let address = tenant.addr();
        let proxy = Setup::new()
            .resources(&policy("jwt", std::slice::from_ref(&rule)))
            .workload(Workload::new("default", role))
            .tune(move |config| {
                config.clusters.insert("tenant".to_owned(), address.into());
                config.routes = vec![Route {
                    name: "tenant".to_owned(),
                    host: Some("tenant.test".to_owned()),
                    prefix: "/".to_owned(),
                    cluster: "tenant".to_owned(),
                }];
            })
            .start();
        let token = issuers.one(json!({ "tenant": "tenant.test" }));
        assert_eq!(get(&proxy, &token).status, 200);
        assert_eq!(tenant.received().len(), elsewhere, "{role:?}");
        assert_eq!(proxy.upstream().received().len(), 1 - elsewhere, "{role:?}");
    }
}
