//! What the documentation of WasmPlugin states about scope, order and failure, shown with
//! `tag-headers-rust`: each plugin appends its tag to `x-chain` on the way in and to
//! `x-chain-response` on the way out.

use std::path::Path;

use wasmplug_testkit::registry::Fault;
use wasmplug_testkit::{
    Image, Registry, RegistryThread, Reply, Response, Scripted, Upstream, UpstreamThread,
};

use crate::process::{Running, prebuilt};

const MODULE: &str = "tag-headers-rust";

/// One resource of the documentation, shortened.
struct Plugin<'a> {
    name: &'a str,
    namespace: &'a str,
    url: &'a str,
    /// More lines of the spec, each indented by two.
    spec: &'a str,
}

impl Plugin<'_> {
    fn yaml(&self) -> String {
        let Self { name, namespace, url, spec } = self;
        format!(
            "---\napiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata:\n  \
             name: {name}\n  namespace: {namespace}\nspec:\n  url: {url}\n{spec}  \
             pluginConfig:\n    tag: {name}\n"
        )
    }
}

fn file_url() -> String {
    format!("file://{}", prebuilt(MODULE).display())
}

fn write(folder: &Path, plugins: &[Plugin<'_>]) {
    let text: String = plugins.iter().map(Plugin::yaml).collect();
    std::fs::write(folder.join("plugins.yaml"), text).unwrap();
}

fn echo() -> UpstreamThread {
    UpstreamThread::start(Upstream::echo()).unwrap()
}

/// The order in which plugins saw the request, then the response.
fn chains(response: &Response) -> (String, String) {
    let json = response.json().unwrap();
    let headers = json["headers"].as_array().unwrap();
    let seen = headers.iter().find(|header| header[0] == "x-chain");
    let request = seen.map_or("", |header| header[1].as_str().unwrap());
    (request.to_owned(), response.header("x-chain-response").unwrap_or("").to_owned())
}

/// The chain of these plugins for a workload, by its effect on one request.
fn effect(plugins: &[Plugin<'_>], arguments: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), plugins);
    let upstream = echo();
    let mut all = vec!["-f", "plugins.yaml"];
    all.extend(arguments);
    let proxy = Running::start(folder.path(), &upstream, &all);
    let response = proxy.get("/");
    assert_eq!(response.status, 200, "{response}");
    chains(&response)
}

fn both(request: &str, response: &str) -> (String, String) {
    (request.to_owned(), response.to_owned())
}

#[test]
fn mesh_namespace_and_workload_scopes_add_up() {
    let url = &file_url();
    let selector = "  selector:\n    matchLabels:\n      app: httpbin\n";
    let plugins = [
        Plugin { name: "mesh", namespace: "istio-system", url, spec: "" },
        Plugin { name: "namespace", namespace: "shop", url, spec: "" },
        Plugin { name: "workload", namespace: "shop", url, spec: selector },
        Plugin { name: "elsewhere", namespace: "bank", url, spec: "" },
    ];
    let of = |namespace: &str, label: &str| {
        effect(&plugins, &["--namespace", namespace, "--label", label])
    };
    let all = both("namespace,workload,mesh", "mesh,workload,namespace");
    assert_eq!(of("shop", "app=httpbin"), all);
    assert_eq!(of("shop", "app=other"), both("namespace,mesh", "mesh,namespace"));
    assert_eq!(of("quiet", "app=httpbin"), both("mesh", "mesh"));
}

#[test]
fn another_root_namespace_changes_what_is_mesh_wide() {
    let url = &file_url();
    let plugins = [
        Plugin { name: "a", namespace: "istio-system", url, spec: "" },
        Plugin { name: "b", namespace: "mesh-root", url, spec: "" },
    ];
    assert_eq!(effect(&plugins, &["--root-namespace", "mesh-root"]), both("b", "b"));
}

#[test]
fn the_higher_priority_sees_the_request_first() {
    let url = &file_url();
    let plugins = [
        Plugin { name: "ten", namespace: "default", url, spec: "  phase: AUTHN\n  priority: 10\n" },
        Plugin {
            name: "twenty",
            namespace: "default",
            url,
            spec: "  phase: AUTHN\n  priority: 20\n",
        },
        Plugin { name: "unset", namespace: "default", url, spec: "  phase: AUTHN\n" },
    ];
    assert_eq!(effect(&plugins, &[]), both("twenty,ten,unset", "unset,ten,twenty"));
}

#[test]
fn phases_come_before_priorities() {
    let url = &file_url();
    let plugins = [
        Plugin { name: "none", namespace: "default", url, spec: "  priority: 1000\n" },
        Plugin {
            name: "stats",
            namespace: "default",
            url,
            spec: "  phase: STATS\n  priority: 30\n",
        },
        Plugin {
            name: "authz",
            namespace: "default",
            url,
            spec: "  phase: AUTHZ\n  priority: 20\n",
        },
        Plugin {
            name: "authn",
            namespace: "default",
            url,
            spec: "  phase: AUTHN\n  priority: 10\n",
        },
    ];
    assert_eq!(effect(&plugins, &[]), both("authn,authz,stats,none", "none,stats,authz,authn"));
}

#[test]
fn modules_come_from_an_image_a_server_and_a_file_alike() {
    let bytes = std::fs::read(prebuilt(MODULE)).unwrap();
    let images = Registry::builder()
        .image("plugins/compat:v1", Image::compat(&bytes))
        .image("plugins/docker:v1", Image::docker(&bytes))
        .image("plugins/artifact:v1", Image::artifact(&bytes));
    let registry = RegistryThread::start(images).unwrap();
    let server = Upstream::scripted(move |_| Reply::new(200).body(bytes.clone()).into());
    let server = UpstreamThread::start(server).unwrap();
    let url = |name: &str| format!("oci://{}/plugins/{name}:v1", registry.addr());
    let (compat, docker, artifact) = (&url("compat"), &url("docker"), &url("artifact"));
    let bare = &artifact.replacen("oci://", "", 1);
    let http = &format!("http://{}/plugin.wasm", server.addr());
    let file = &file_url();
    let plugin = |name, url, spec| Plugin { name, namespace: "default", url, spec };
    let plugins = [
        plugin("a", compat, "  priority: 6\n"),
        plugin("b", docker, "  priority: 5\n"),
        plugin("c", artifact, "  priority: 4\n"),
        plugin("d", bare, "  priority: 3\n"),
        plugin("e", http, "  priority: 2\n"),
        plugin("f", file, "  priority: 1\n"),
    ];
    assert_eq!(effect(&plugins, &[]), both("a,b,c,d,e,f", "f,e,d,c,b,a"));
}

#[test]
fn what_cannot_be_fetched_denies_unless_it_fails_open() {
    let bytes = std::fs::read(prebuilt(MODULE)).unwrap();
    let images = Registry::builder()
        .image("p/missing-layer:v1", Image::compat(&bytes))
        .fault("/blobs/", Fault::Status(404));
    let registry = RegistryThread::start(images).unwrap();
    let guarded = Registry::builder().basic_auth("user", "secret");
    let guarded = RegistryThread::start(guarded).unwrap();
    for (url, hint) in [
        (format!("oci://{}/p/absent:v1", registry.addr()), "does not exist"),
        (format!("oci://{}/p/missing-layer:v1", registry.addr()), "does not exist"),
        (format!("oci://{}/p/absent:v1", guarded.addr()), "401"),
        ("oci://127.0.0.1:1/p/absent:v1".to_owned(), "cannot connect"),
        ("file:///no/such/module.wasm".to_owned(), "/no/such/module.wasm"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let upstream = echo();
        write(folder.path(), &[Plugin { name: "p", namespace: "default", url: &url, spec: "" }]);
        let proxy = Running::start(folder.path(), &upstream, &["-f", "plugins.yaml"]);
        let response = proxy.get("/");
        assert_eq!((response.status, &*response.text()), (403, "RBAC: access denied"), "{url}");
        let dump = proxy.admin("/config_dump").json().unwrap();
        let reason = dump["rejected"][0]["reason"].as_str().unwrap();
        assert!(reason.contains(hint), "{url}: {reason}");
        assert_eq!(upstream.received().len(), 0, "{url}");

        let open = "  failStrategy: FAIL_OPEN\n";
        write(folder.path(), &[Plugin { name: "p", namespace: "default", url: &url, spec: open }]);
        proxy.wait_for("router");
        assert_eq!(proxy.get("/").status, 200, "{url}");
    }
}

#[test]
fn what_a_network_plugin_keeps_away_are_connections() {
    let folder = tempfile::tempdir().unwrap();
    let url = "file:///no/such/module.wasm";
    let network = |spec| Plugin { name: "p", namespace: "default", url, spec };
    write(folder.path(), &[]);
    let upstream = echo();
    let proxy = Running::start(folder.path(), &upstream, &["-f", "plugins.yaml"]);
    write(folder.path(), &[network("  type: NETWORK\n")]);
    proxy.wait_for("effect: every connection is refused in its place");
    proxy.wait_for("default/p  no phase  no priority  refuses every connection");
    proxy.wait_for("router");
    write(folder.path(), &[network("  type: NETWORK\n  failStrategy: FAIL_OPEN\n")]);
    proxy.wait_for("effect: connections pass without it, as `failStrategy: FAIL_OPEN` says");
    proxy.wait_for("router");
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn what_does_not_load_or_start_answers_503() {
    let folder = tempfile::tempdir().unwrap();
    let module = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        format!("file://{}", path.display())
    };
    // The smallest module there is: no marker, no memory, nothing.
    let empty = module("empty.wasm", b"\0asm\x01\0\0\0");
    let broken = module("broken.wasm", b"\0asm\x01\0\0\0\xff\xff");
    let refuses = file_url();
    for (url, config, reason) in [
        (&empty, "tag: a", "does not declare a Proxy-Wasm ABI version"),
        (&broken, "tag: a", "does not compile"),
        (&refuses, "tag: 1", "`proxy_on_configure` refused the configuration"),
    ] {
        let text = Plugin { name: "p", namespace: "default", url, spec: "" }.yaml();
        let text = text.replace("tag: p", config);
        std::fs::write(folder.path().join("plugins.yaml"), text).unwrap();
        let proxy = Running::start(folder.path(), &echo(), &["-f", "plugins.yaml"]);
        let response = proxy.get("/");
        assert_eq!((response.status, &*response.text()), (503, ""), "{url}");
        let dump = proxy.admin("/config_dump").json().unwrap();
        let told = dump["rejected"][0]["reason"].as_str().unwrap();
        assert!(told.contains(reason), "{told}");
    }
}

#[test]
fn an_upstream_that_is_down_is_a_503_in_envoys_words() {
    let folder = tempfile::tempdir().unwrap();
    // Port 1 is never listened on.
    write(folder.path(), &[Plugin { name: "p", namespace: "default", url: &file_url(), spec: "" }]);
    let proxy = Running::start_to(folder.path(), "127.0.0.1:1", &["-f", "plugins.yaml"]);
    let response = proxy.get("/");
    assert_eq!(response.status, 503);
    let text = response.text();
    let expected = "upstream connect error or disconnect/reset before headers. reset reason: \
                    remote connection failure";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(response.header("x-chain-response"), Some("p"));
}

#[test]
fn a_scripted_answer_reaches_the_client() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[Plugin { name: "p", namespace: "default", url: &file_url(), spec: "" }]);
    let upstream = Upstream::scripted(|_| Scripted::from(Reply::new(418).body("short and stout")));
    let upstream = UpstreamThread::start(upstream).unwrap();
    let proxy = Running::start(folder.path(), &upstream, &["-f", "plugins.yaml"]);
    let response = proxy.get("/");
    assert_eq!((response.status, &*response.text()), (418, "short and stout"));
    assert_eq!(response.header("x-chain-response"), Some("p"));
    assert_eq!(response.header("server"), Some("wasmplug"));
}
