//! `imagePullSecret`, as a user meets it: the right secret lets the plugin run, and nothing else
//! does.

use std::path::Path;

use wasmplug_testkit::{Image, Registry, RegistryThread, Upstream, UpstreamThread};

use crate::process::{Running, prebuilt};

fn private_registry() -> RegistryThread {
    let module = std::fs::read(prebuilt("tag-headers-rust")).unwrap();
    let registry = Registry::builder().image("plugins/tag:v1", Image::compat(&module));
    RegistryThread::start(registry.basic_auth("user", "hunter2")).unwrap()
}

fn write(folder: &Path, registry: &RegistryThread, secret: &str) {
    let host = registry.addr();
    let plugin = format!(
        "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: tag}}\n\
         spec:\n  url: oci://{host}/plugins/tag:v1\n  imagePullSecret: private\n  \
         pluginConfig: {{tag: here}}\n"
    );
    let text = format!("{plugin}---\n{}", secret.replace("HOST", &host.to_string()));
    std::fs::write(folder.join("plugins.yaml"), text).unwrap();
}

/// `HOST` stands for the registry.
fn secret(namespace: &str, type_: &str, content: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: private, namespace: {namespace}}}\n\
         type: {type_}\nstringData:\n  {content}\n"
    )
}

const JSON: &str = "kubernetes.io/dockerconfigjson";
const RIGHT: &str =
    r#".dockerconfigjson: '{"auths":{"HOST":{"username":"user","password":"hunter2"}}}'"#;

#[test]
fn the_right_secret_lets_the_plugin_run() {
    let (registry, upstream) = (private_registry(), UpstreamThread::start(Upstream::echo()));
    let upstream = upstream.unwrap();
    // `user:hunter2` in base64.
    let older = r#".dockercfg: '{"http://HOST/v1/":{"auth":"dXNlcjpodW50ZXIy"}}'"#;
    for (type_, content) in [(JSON, RIGHT), ("kubernetes.io/dockercfg", older)] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &registry, &secret("default", type_, content));
        let proxy = Running::start(folder.path(), &upstream, &["-f", "plugins.yaml"]);
        assert_eq!(proxy.get("/").header("x-chain-response"), Some("here"), "{type_}");
        let said = proxy.stop().join("\n");
        assert!(!said.contains("hunter2") && !said.contains("dXNl"), "{said}");
    }
}

#[test]
fn any_other_secret_refuses_traffic_and_says_why() {
    let (registry, upstream) = (private_registry(), UpstreamThread::start(Upstream::echo()));
    let upstream = upstream.unwrap();
    let wrong = RIGHT.replace("hunter2", "hunter3");
    let foreign = RIGHT.replace("HOST", "other.example");
    let broken = RIGHT.replace(r#""username":"user","password":"hunter2""#, r#""auth":"hunter2""#);
    let rows = [
        (secret("other", JSON, RIGHT), "the pull secret `default/private` does not exist"),
        (secret("default", "Opaque", RIGHT), "has the type `Opaque`, which is not for pulling"),
        (secret("default", JSON, &wrong), "the registry answered 401"),
        (secret("default", JSON, &foreign), "the registry answered 401"),
        (secret("default", JSON, &broken), "is not `user:password` in base64"),
    ];
    for (secret, reason) in rows {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &registry, &secret);
        let proxy = Running::start(folder.path(), &upstream, &["-f", "plugins.yaml"]);
        let response = proxy.get("/");
        assert_eq!((response.status, &*response.text()), (403, "RBAC: access denied"), "{reason}");
        let dump = proxy.admin("/config_dump").json().unwrap();
        let told = dump["rejected"][0]["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
        assert!(!dump.to_string().contains("hunter"), "{dump}");
    }
    assert!(upstream.received().is_empty());
}

#[test]
fn a_secret_that_comes_later_lets_the_plugin_in() {
    let (registry, upstream) = (private_registry(), UpstreamThread::start(Upstream::echo()));
    let upstream = upstream.unwrap();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &registry, "");
    let proxy = Running::start(folder.path(), &upstream, &["-f", "."]);
    assert_eq!(proxy.get("/").status, 403);
    std::fs::write(
        folder.path().join("secret.yaml"),
        secret("default", JSON, RIGHT).replace("HOST", &registry.addr().to_string()),
    )
    .unwrap();
    proxy.wait_for("router");
    assert_eq!(proxy.get("/").header("x-chain-response"), Some("here"));
}
