//! Keys that are fetched: had, kept, lost, renewed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use wasmplug_testkit::jwt::{Key, jwks};
use wasmplug_testkit::{End, Reply, Scripted, Upstream, UpstreamThread};

use super::{claims, get, policy};
use crate::harness::{Plugin, Running, Setup};

const ISSUER: &str = "https://issuer.example";
const REFRESH: Duration = Duration::from_mins(20);

/// Makes what is answered to each request.
type Answer = Box<dyn Fn() -> Scripted + Send>;

/// An issuer that publishes what it is told to.
struct Issuer {
    server: UpstreamThread,
    answer: Arc<Mutex<Answer>>,
}

// === impl Issuer ===

impl Issuer {
    fn publishing(keys: &[&Key]) -> Self {
        let answer = Arc::new(Mutex::new(published(keys)));
        let told = Arc::clone(&answer);
        let script = move |_: &wasmplug_testkit::Received| (told.lock().unwrap())();
        let server = UpstreamThread::start(Upstream::scripted(script)).unwrap();
        Self { server, answer }
    }

    fn answers(&self, answer: impl Fn() -> Scripted + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    fn asked(&self) -> usize {
        self.server.received().len()
    }

    fn rule(&self, more: &str) -> String {
        format!("{{issuer: '{ISSUER}', jwksUri: 'http://{}/keys'{more}}}", self.server.addr())
    }
}

fn published(keys: &[&Key]) -> Answer {
    let set = jwks(keys.iter().copied());
    Box::new(move || Reply::new(200).body(set.clone()).into())
}

fn token(key: &Key) -> String {
    key.token(&claims(ISSUER, json!({})))
}

fn start(issuer: &Issuer) -> Running {
    Setup::new().resources(&policy("jwt", &[issuer.rule("")])).admin().start()
}

/// What `/config_dump` says about the keys of the first rule.
fn dumped(proxy: &Running) -> Value {
    let dump: Value = proxy.admin("/config_dump").json().unwrap();
    dump["chain"].as_array().unwrap().iter().find(|it| it["filter"] == "jwt_authn").unwrap()
        ["rules"][0]["keys"]
        .clone()
}

#[test]
fn keys_are_fetched_before_the_first_request() {
    let key = Key::es256();
    let issuer = Issuer::publishing(&[&key]);
    let proxy = start(&issuer);
    assert_eq!(get(&proxy, &token(&key)).status, 200);
    assert_eq!(get(&proxy, &token(&Key::es256())).status, 401);
    assert_eq!(issuer.asked(), 1);
    assert_eq!(dumped(&proxy)["count"], 1);
    proxy.wait_for_stat("envoy_http_jwt_authn_jwks_fetch_success 1");
}

#[test]
fn the_issuer_says_where_its_keys_are() {
    let key = Key::es256();
    let set = jwks([&key]);
    let script = move |received: &wasmplug_testkit::Received| -> Scripted {
        let host = received.header("host").unwrap();
        match received.path.as_str() {
            "/.well-known/openid-configuration" => {
                Reply::new(200).body(format!(r#"{{"jwks_uri":"http://{host}/certs"}}"#)).into()
            }
            "/certs" => Reply::new(200).body(set.clone()).into(),
            _ => Reply::new(404).into(),
        }
    };
    let server = UpstreamThread::start(Upstream::scripted(script)).unwrap();
    let issuer = format!("http://{}", server.addr());
    let proxy =
        Setup::new().resources(&policy("jwt", &[format!("{{issuer: '{issuer}'}}")])).start();
    assert_eq!(get(&proxy, &key.token(&claims(&issuer, json!({})))).status, 200);
    assert_eq!(get(&proxy, &token(&key)).status, 401);
}

#[test]
fn keys_that_cannot_be_had_refuse_every_token_and_no_other_request() {
    let key = Key::es256();
    let garbage: [fn() -> Scripted; 5] = [
        || Reply::new(200).body("<html>").into(),
        || Reply::new(200).body(r#"{"keys":[]}"#).into(),
        || Reply::new(404).into(),
        Scripted::close,
        || Scripted::raw("HTTP/1.1 200 OK\r\ncontent-length: 104857600\r\n\r\n", End::Hang),
    ];
    for (row, answer) in garbage.into_iter().enumerate() {
        let issuer = Issuer::publishing(&[]);
        issuer.answers(answer);
        let proxy = start(&issuer);
        let refused = get(&proxy, &token(&key));
        assert_eq!((refused.status, refused.text().as_str()), (401, "Jwt verification fails"));
        let named = get(&proxy, &token(&Key::es256().with_kid("a")));
        assert_eq!(named.text(), "Jwks doesn't have key to match kid or alg from Jwt");
        assert_eq!(proxy.get("/").status, 200, "row {row}");
        assert!(dumped(&proxy)["problem"].is_string(), "row {row}");
        proxy.wait_for_stat("wasmplug_jwt_rules{state=\"missing\"} 1");
        proxy.wait_for_stat("envoy_http_jwt_authn_jwks_fetch_failed 1");
    }
}

#[test]
fn a_timeout_that_is_too_short_leaves_no_keys() {
    let key = Key::es256();
    let issuer = Issuer::publishing(&[&key]);
    issuer.answers(Scripted::never);
    let resources = policy("jwt", &[issuer.rule(", timeout: 50ms")]);
    let proxy = Setup::new().resources(&resources).admin().start();
    assert_eq!(get(&proxy, &token(&key)).status, 401);
    let problem = dumped(&proxy)["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("took longer than 0.05 s"), "{problem}");
}

#[test]
fn keys_are_fetched_again_after_twenty_minutes_and_not_before() {
    let (old, new) = (Key::es256(), Key::es256());
    let issuer = Issuer::publishing(&[&old]);
    let mut proxy = start(&issuer);
    issuer.answers(published(&[&new]));
    proxy.refresh_keys(&[]);
    assert_eq!(issuer.asked(), 1);
    assert!(proxy.keys_due_in().is_some_and(|due| due <= REFRESH));
    assert_eq!(get(&proxy, &token(&old)).status, 200);
    proxy.later(REFRESH);
    proxy.refresh_keys(&[]);
    assert_eq!(issuer.asked(), 2);
    assert_eq!(get(&proxy, &token(&old)).status, 401);
    assert_eq!(get(&proxy, &token(&new)).status, 200);
}

#[test]
fn keys_that_were_had_once_outlive_an_issuer_that_is_gone() {
    let key = Key::es256();
    let issuer = Issuer::publishing(&[&key]);
    let mut proxy = start(&issuer);
    issuer.answers(|| Reply::new(200).body("garbage").into());
    for asked in 2..5 {
        proxy.later(Duration::from_hours(24));
        proxy.refresh_keys(&[]);
        assert_eq!(issuer.asked(), asked);
        assert_eq!(get(&proxy, &token(&key)).status, 200);
    }
    let keys = dumped(&proxy);
    assert_eq!(keys["count"], 1);
    assert!(keys["problem"].as_str().unwrap().contains("is no key set"), "{keys}");
    proxy.wait_for_stat("wasmplug_jwt_rules{state=\"old\"} 1");
}

#[test]
fn an_issuer_that_comes_back_is_found_after_a_minute() {
    let key = Key::es256();
    let issuer = Issuer::publishing(&[&key]);
    issuer.answers(|| Reply::new(404).into());
    let mut proxy = start(&issuer);
    assert_eq!(get(&proxy, &token(&key)).status, 401);
    issuer.answers(published(&[&key]));
    proxy.refresh_keys(&[]);
    assert_eq!(issuer.asked(), 1);
    proxy.later(Duration::from_secs(70));
    proxy.refresh_keys(&[]);
    assert_eq!(get(&proxy, &token(&key)).status, 200);
    assert_eq!(dumped(&proxy)["problem"], Value::Null);
}

#[test]
fn a_new_plan_keeps_keys_that_it_still_needs_and_forgets_the_others() {
    let (one, two) = (Key::es256(), Key::es256());
    let (first, second) = (Issuer::publishing(&[&one]), Issuer::publishing(&[&two]));
    let mut proxy = start(&first);
    for _ in 0..2 {
        assert!(proxy.load(&[]).is_empty());
    }
    assert_eq!(first.asked(), 1);
    proxy.set_resources(&policy("jwt", &[second.rule("")]));
    assert!(proxy.load(&[]).is_empty());
    assert_eq!((first.asked(), second.asked()), (1, 1));
    assert_eq!(get(&proxy, &token(&two)).status, 200);
    proxy.set_resources(&policy("jwt", &[first.rule("")]));
    assert!(proxy.load(&[]).is_empty());
    assert_eq!((first.asked(), second.asked()), (2, 1));
    proxy.set_resources("");
    assert!(proxy.load(&[]).is_empty());
    assert_eq!(proxy.keys_due_in(), None);
}

#[test]
fn two_rules_with_one_url_ask_once() {
    let key = Key::es256();
    let issuer = Issuer::publishing(&[&key]);
    let rules = [issuer.rule(", audiences: [a]"), issuer.rule(", audiences: [b]")];
    let proxy = Setup::new().resources(&policy("jwt", &rules)).start();
    for audience in ["a", "b"] {
        let token = key.token(&claims(ISSUER, json!({ "aud": audience })));
        assert_eq!(get(&proxy, &token).status, 200);
    }
    assert_eq!(issuer.asked(), 1);
}

#[test]
fn plugins_do_not_notice_new_keys() {
    let (old, new) = (Key::es256(), Key::es256());
    let issuer = Issuer::publishing(&[&old]);
    let counts = Plugin::guest(
        "(global $streams (mut i32) (i32.const 0))
        on request_headers:
            (global.set $streams (i32.add (global.get $streams) (i32.const 1)))
            (call $add #request 'x-streams' (call $decimal (global.get $streams)))",
    );
    let plugins = [counts.phase("AUTHZ")];
    let resources = policy("jwt", &[issuer.rule("")]);
    let setup = Setup::new().resources(&resources).tune(|config| config.workers = 1);
    let mut proxy = plugins.iter().cloned().fold(setup, Setup::plugin).start();
    let before = proxy.specs();
    assert_eq!(get(&proxy, &token(&old)).status, 200);
    issuer.answers(published(&[&new]));
    proxy.later(REFRESH);
    proxy.refresh_keys(&plugins);
    assert_eq!(get(&proxy, &token(&old)).status, 401);
    assert_eq!(get(&proxy, &token(&new)).status, 200);
    assert_eq!(super::upstream_got(&proxy, "x-streams").as_deref(), Some("2"));
    assert!(Arc::ptr_eq(&before[0], &proxy.specs()[0]));
}
