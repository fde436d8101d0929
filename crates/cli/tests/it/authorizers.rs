//! External authorizers of `CUSTOM` policies.

use std::path::Path;

use wasmplug_testkit::{Received, Reply, Scripted, Upstream, UpstreamThread};

use crate::process::{Running, run_to_end};

/// A mesh with an authorizer, which is asked about everything below `/private`.
const RESOURCES: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    extensionProviders:
    - name: ext
      PROTOCOL: {service: authz.example, port: 8000}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: default}
spec:
  action: CUSTOM
  provider: {name: ext}
  rules: [{to: [{operation: {paths: [/private/*]}}]}]
";

fn write(folder: &Path, protocol: &str) {
    std::fs::write(folder.join("mesh.yaml"), RESOURCES.replace("PROTOCOL", protocol)).unwrap();
}

/// Lets those pass whose request says `please`.
fn authorize(received: &Received) -> Scripted {
    let is_polite = received.path.contains("please");
    Reply::new(if is_polite { 200 } else { 403 }).body("ask nicely").into()
}

#[test]
fn an_authorizer_decides_about_what_its_policy_matches() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "envoyExtAuthzHttp");
    let authorizer = UpstreamThread::start(Upstream::scripted(authorize)).unwrap();
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let cluster = format!("authz.example:8000={}", authorizer.addr());
    let arguments = ["-f", "mesh.yaml", "--cluster", &cluster];
    let proxy = Running::start(folder.path(), &upstream, &arguments);
    assert_eq!(proxy.get("/public").status, 200);
    assert_eq!(proxy.get("/private/please").status, 200);
    let refused = proxy.get("/private/now");
    assert_eq!((refused.status, &*refused.text()), (403, "ask nicely"));
    assert_eq!(authorizer.received().len(), 2);
}

#[test]
fn an_authorizer_without_an_address_is_an_error_that_says_how_to_give_one() {
    for (protocol, cluster, expected) in [
        ("envoyExtAuthzHttp", "other=127.0.0.1:1", "authz.example:8000=127.0.0.1:8000"),
        ("envoyExtAuthzGrpc", "other=h2c://127.0.0.1:1", "authz.example:8000=h2c://127.0.0.1:8000"),
        // It is there, and speaks something else.
        ("envoyExtAuthzGrpc", "authz.example:8000=127.0.0.1:1", "h2c://127.0.0.1:8000"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), protocol);
        let arguments =
            ["run", "-f", "mesh.yaml", "--upstream", "127.0.0.1:1", "--cluster", cluster];
        let ended = run_to_end(folder.path(), &arguments);
        assert_eq!(ended.status, Some(1));
        let error = "the external authorizer `ext` has no address here: there is no cluster \
                     `outbound|8000||authz.example`";
        assert!(ended.stderr.contains(error), "{}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{}", ended.stderr);
    }
}

#[test]
fn what_an_unknown_authorizer_should_decide_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "zipkin");
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let checked = run_to_end(folder.path(), &["check", "-f", "mesh.yaml"]);
    assert!(checked.stderr.contains("no external authorizer `ext`"), "{}", checked.stderr);
    let proxy = Running::start(folder.path(), &upstream, &["-f", "mesh.yaml"]);
    assert_eq!(proxy.get("/public").status, 200);
    let refused = proxy.get("/private/please");
    assert_eq!((refused.status, &*refused.text()), (403, "RBAC: access denied"));
}
