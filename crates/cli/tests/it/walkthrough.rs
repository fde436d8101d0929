//! The documented way of a plugin: pack the Go example, push it to a private registry, run it with
//! a pull secret, push again under the same tag, sign it, and see an altered one refused.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use wasmplug_testkit::{Registry, RegistryThread, Upstream, UpstreamThread};

use crate::process::{Running, prebuilt, run_to_end};

/// A folder with resources, a private registry and an upstream.
struct Story {
    folder: TempDir,
    registry: RegistryThread,
    upstream: UpstreamThread,
}

// === impl Story ===

impl Story {
    fn begin() -> Self {
        let registry = Registry::builder().writable().basic_auth("user", "hunter2");
        let registry = RegistryThread::start(registry).unwrap();
        let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
        let story = Self { folder: tempfile::tempdir().unwrap(), registry, upstream };
        let config = format!(
            r#"{{"auths":{{"{}":{{"username":"user","password":"hunter2"}}}}}}"#,
            story.registry.addr()
        );
        std::fs::create_dir(story.path().join(".docker")).unwrap();
        std::fs::write(story.path().join(".docker/config.json"), &config).unwrap();
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: private}}\n\
             type: kubernetes.io/dockerconfigjson\nstringData:\n  .dockerconfigjson: '{config}'\n"
        );
        std::fs::create_dir(story.path().join("resources")).unwrap();
        std::fs::write(story.path().join("resources/secret.yaml"), secret).unwrap();
        story
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn url(&self, tag: &str) -> String {
        format!("oci://{}/plugins/limit:{tag}", self.registry.addr())
    }

    /// Pushes a module with the command, and returns the resource that it prints.
    fn push(&self, module: &Path, tag: &str, more: &[&str]) -> String {
        let (module, url) = (module.to_str().unwrap().to_owned(), self.url(tag));
        let mut arguments = vec!["push", &module, &url];
        arguments.extend(more);
        let ended = run_to_end(self.path(), &arguments);
        assert_eq!(ended.status, Some(0), "{}", ended.stderr);
        ended.stdout
    }

    /// Writes the resource: `greeting` is configuration, so that a new one is an edit.
    fn apply(&self, tag: &str, spec: &str, greeting: &str) {
        let url = self.url(tag);
        let text = format!(
            "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {{name: limit}}\n\
             spec:\n  url: {url}\n  imagePullSecret: private\n{spec}  pluginConfig:\n    \
             hello: {greeting}\n    tag: {greeting}\n"
        );
        let aside = self.path().join("aside");
        std::fs::write(&aside, text).unwrap();
        std::fs::rename(aside, self.path().join("resources/plugin.yaml")).unwrap();
    }

    fn run(&self, more: &[&str]) -> Running {
        let mut arguments = vec!["-f", "resources"];
        arguments.extend(more);
        Running::start(self.path(), &self.upstream, &arguments)
    }
}

/// Which of the two example plugins answers.
fn answers(proxy: &Running) -> &'static str {
    let response = proxy.get("/");
    match (response.header("who-am-i"), response.header("x-chain-response")) {
        (Some("wasm-extension"), None) => "limit",
        (None, Some(_)) => "tag",
        other => panic!("{other:?} with {}", response.status),
    }
}

#[test]
fn the_go_plugin_is_packed_pushed_and_pulled_with_a_secret() {
    let story = Story::begin();
    story.push(&prebuilt("rate-limit-go"), "v1", &[]);
    story.apply("v1", "", "config");
    let proxy = story.run(&[]);
    let response = proxy.get("/");
    assert_eq!(response.header("injected-by"), Some("istio-api!"));
    assert_eq!(response.header("configdata"), Some(r#"{"hello":"config","tag":"config"}"#));
    let told = proxy.stop().join("\n");
    assert!(!told.contains("hunter2"), "{told}");
    // Without the secret nothing runs.
    std::fs::remove_file(story.path().join("resources/secret.yaml")).unwrap();
    let proxy = story.run(&[]);
    assert_eq!(proxy.get("/").status, 403);
}

#[test]
fn a_tag_that_is_pushed_again_takes_effect_by_the_pull_policy() {
    let rows = [
        ("v1", "  imagePullPolicy: IfNotPresent\n", "limit"),
        ("v1", "  imagePullPolicy: Always\n", "tag"),
        ("v1", "", "limit"),
        ("latest", "", "tag"),
        ("latest", "  imagePullPolicy: IfNotPresent\n", "limit"),
    ];
    for (tag, spec, expected) in rows {
        let story = Story::begin();
        story.push(&prebuilt("rate-limit-rust"), tag, &[]);
        story.apply(tag, spec, "one");
        let proxy = story.run(&[]);
        assert_eq!(answers(&proxy), "limit", "{tag} {spec}");
        story.push(&prebuilt("tag-headers-rust"), tag, &[]);
        assert_eq!(answers(&proxy), "limit", "{tag} {spec}: nothing has looked yet");
        story.apply(tag, spec, "two");
        proxy.wait_for("router");
        assert_eq!(answers(&proxy), expected, "{tag} {spec}");
    }
}

#[test]
fn with_a_refresh_interval_a_moved_tag_is_noticed_without_an_edit() {
    let rows = [
        ("  imagePullPolicy: Always\n", "which is taken", "tag"),
        ("  imagePullPolicy: IfNotPresent\n", "keeps the one from before", "limit"),
    ];
    for (spec, told, expected) in rows {
        let story = Story::begin();
        story.push(&prebuilt("rate-limit-rust"), "v1", &[]);
        story.apply("v1", spec, "one");
        let proxy = story.run(&["--refresh-interval", "1s"]);
        assert_eq!(answers(&proxy), "limit", "{spec}");
        story.push(&prebuilt("tag-headers-rust"), "v1", &[]);
        proxy.wait_for(told);
        if expected == "tag" {
            proxy.wait_for("router");
        }
        assert_eq!(answers(&proxy), expected, "{spec}");
        let metrics = proxy.admin("/stats/prometheus").text();
        assert!(metrics.contains("wasmplug_module_tags_moved_total 1"), "{metrics}");
    }
}

#[test]
fn a_wrong_checksum_never_works_silently() {
    let story = Story::begin();
    let pushed = story.push(&prebuilt("rate-limit-rust"), "v1", &[]);
    let manifest = pushed.rsplit("sha256: ").next().unwrap().trim().trim_matches('"').to_owned();
    story.push(&prebuilt("tag-headers-rust"), "v2", &[]);
    let spec = |sha256: &str, more: &str| format!("  sha256: '{sha256}'\n{more}");
    let wrong = "0".repeat(64);
    let rejected = |proxy: &Running| {
        let dump = proxy.admin("/config_dump").json().unwrap();
        let reason = dump["rejected"][0]["reason"].as_str().unwrap_or_default().to_owned();
        reason.contains(&format!("expected `sha256:{wrong}`, got `sha256:")).then_some(reason)
    };
    // The first time: refused, or passed by as the author asks, and told either way.
    story.apply("v1", &spec(&wrong, ""), "one");
    let proxy = story.run(&[]);
    assert_eq!(proxy.get("/").status, 403);
    assert!(rejected(&proxy).unwrap().contains(&manifest));
    story.apply("v1", &spec(&wrong, "  failStrategy: FAIL_OPEN\n"), "one");
    proxy.wait_for("router");
    let response = proxy.get("/");
    assert_eq!((response.status, response.header("who-am-i")), (200, None));
    assert!(rejected(&proxy).is_some());
    // The right one works, and a wrong one after it leaves it in effect, and says so.
    story.apply("v1", &spec(&manifest, ""), "two");
    proxy.wait_for("router");
    assert_eq!(answers(&proxy), "limit");
    assert_eq!(rejected(&proxy), None);
    story.apply("v1", &spec(&wrong, ""), "three");
    proxy.wait_for("its last good form stays in effect");
    proxy.wait_for("router");
    assert_eq!(proxy.get("/").header("configdata"), Some(r#"{"hello":"two","tag":"two"}"#));
    assert!(rejected(&proxy).is_some());
    // A checksum of another tag is not satisfied by what the cache has under it.
    story.apply("v2", &spec(&manifest, ""), "four");
    proxy.wait_for("digest mismatch for");
    proxy.wait_for("its last good form stays in effect");
    proxy.wait_for("router");
    // And left out again, it is the other tag that runs.
    story.apply("v2", "", "five");
    proxy.wait_for("router");
    assert_eq!(answers(&proxy), "tag");
}

#[test]
fn a_policy_demands_signatures_of_resources_that_name_no_key() {
    let story = Story::begin();
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out", "key.pem"])
        .current_dir(story.path())
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: needs `openssl`");
        return;
    }
    let module = prebuilt("rate-limit-rust");
    let printed = story.push(&module, "signed", &["--sign", "key.pem"]);
    let key = printed.split("  verificationKey: |\n").nth(1).unwrap().replace("    ", "");
    std::fs::write(story.path().join("team.pub"), key).unwrap();
    story.push(&prebuilt("tag-headers-rust"), "unsigned", &[]);
    let policy = format!(
        r#"{{"rules": [{{"prefix": "oci://{}/plugins/", "keyFiles": ["team.pub"]}}]}}"#,
        story.registry.addr()
    );
    std::fs::write(story.path().join("policy.json"), policy).unwrap();
    story.apply("unsigned", "", "one");
    let proxy = story.run(&["--require-signed", "policy.json"]);
    assert_eq!(proxy.get("/").status, 403);
    story.apply("signed", "", "two");
    proxy.wait_for("router");
    assert_eq!(answers(&proxy), "limit");
    // Without the policy both run.
    drop(proxy);
    story.apply("unsigned", "", "three");
    assert_eq!(answers(&story.run(&[])), "tag");
}

#[test]
fn a_signed_plugin_loads_and_one_with_an_altered_byte_does_not_while_the_old_one_serves_on() {
    let story = Story::begin();
    let openssl = |arguments: &[&str]| {
        let output = Command::new("openssl").args(arguments).current_dir(story.path()).output();
        output.is_ok_and(|output| output.status.success())
    };
    let curve = "ec_paramgen_curve:P-256";
    if !openssl(&["genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", "key.pem"]) {
        println!("SKIPPED: needs `openssl`");
        return;
    }
    let module = prebuilt("rate-limit-rust");
    story.push(&module, "v1", &[]);
    // Not signed yet: the key is in the resource, and nothing runs.
    let printed = story.push(&module, "v2", &["--sign", "key.pem"]);
    let key = printed.split("  verificationKey: |\n").nth(1).unwrap();
    let spec = format!("  imagePullPolicy: Always\n  verificationKey: |\n{key}");
    story.apply("other", &spec, "one");
    story.push(&prebuilt("tag-headers-rust"), "other", &[]);
    let proxy = story.run(&[]);
    assert_eq!(proxy.get("/").status, 403);
    story.apply("v2", &spec, "two");
    proxy.wait_for("router");
    assert_eq!(answers(&proxy), "limit");

    // One byte of a text in the module is another one.
    let mut altered = std::fs::read(&module).unwrap();
    let at = altered.windows(9).position(|it| it == b"istio-api").unwrap();
    altered[at] = b'I';
    let path = story.path().join("altered.wasm");
    std::fs::write(&path, altered).unwrap();
    story.push(&path, "v2", &[]);
    story.apply("v2", &spec, "three");
    proxy.wait_for("must be signed");
    proxy.wait_for("it is not signed");
    proxy.wait_for("its last good form stays in effect");
    proxy.wait_for("router");
    let response = proxy.get("/");
    assert_eq!(response.header("injected-by"), Some("istio-api!"));
    assert_eq!(response.header("configdata"), Some(r#"{"hello":"two","tag":"two"}"#));
}
