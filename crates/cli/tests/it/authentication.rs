//! `wasmplug run` with `RequestAuthentication`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use wasmplug_testkit::jwt::{Key, jwks};
use wasmplug_testkit::{Received, Reply, Scripted, Upstream, UpstreamThread};

use crate::process::Running;

fn policy(keys: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: jwt}}\nspec: {{jwtRules: [{{issuer: me, {keys}}}]}}\n"
    )
}

fn start(folder: &Path, text: &str) -> (Running, UpstreamThread) {
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    std::fs::write(folder.join("policy.yaml"), text).unwrap();
    (Running::start(folder, &upstream, &["-f", "."]), upstream)
}

/// The status of a request with a token of this key.
fn status(proxy: &Running, key: &Key) -> u16 {
    let token = key.token(&json!({ "iss": "me" }));
    let request = format!("GET / HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {token}\r\n\r\n");
    wasmplug_testkit::RawClient::connect(proxy.listen).unwrap().exchange(request).unwrap().status
}

#[test]
fn tokens_are_verified_and_the_filter_is_in_the_list() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::es256();
    let (proxy, _upstream) = start(folder.path(), &policy(&format!("jwks: '{}'", jwks([&key]))));
    assert_eq!(status(&proxy, &key), 200);
    assert_eq!(status(&proxy, &Key::es256()), 401);
    assert_eq!(proxy.get("/").status, 200);
    std::fs::write(folder.path().join("policy.yaml"), policy("jwks: '{\"keys\":[]}'")).unwrap();
    let lines = [
        "warning: no keys of the issuer `me` for RequestAuthentication default/jwt",
        "  caused by: `jwks` is no key set: it has no usable key",
        "  effect: every token of this issuer is refused, requests without one pass",
        "  1. jwt_authn  1 issuer",
        "router",
    ];
    for line in lines {
        proxy.wait_for(line);
    }
    assert_eq!(status(&proxy, &key), 401);
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn keys_that_cannot_be_fetched_are_told_and_fetched_again_with_the_next_change() {
    let folder = tempfile::tempdir().unwrap();
    let key = Key::es256();
    let (set, is_up) = (jwks([&key]), Arc::new(AtomicBool::new(false)));
    let looked_at = Arc::clone(&is_up);
    let script = move |_: &Received| -> Scripted {
        if looked_at.load(Ordering::Acquire) {
            Reply::new(200).body(set.clone()).into()
        } else {
            Reply::new(404).into()
        }
    };
    let issuer = UpstreamThread::start(Upstream::scripted(script)).unwrap();
    let keys = |path: &str| policy(&format!("jwksUri: 'http://{}/{path}'", issuer.addr()));
    let (proxy, _upstream) = start(folder.path(), &keys("old"));
    assert_eq!(status(&proxy, &key), 401);
    is_up.store(true, Ordering::Release);
    std::fs::write(folder.path().join("policy.yaml"), keys("new")).unwrap();
    proxy.wait_for("router");
    assert_eq!(status(&proxy, &key), 200);
    let told = proxy.stop().join("\n");
    assert!(!told.contains("no keys of the issuer"), "{told}");
}
