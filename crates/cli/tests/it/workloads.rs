//! Workloads that are taken from manifests, and modules that are mounted into them.

use std::fmt::Write as _;

use expect_test::expect;
use wasmplug_testkit::{Upstream, UpstreamThread};

use crate::process::{Running, prebuilt, run_to_end};

const BOOKINFO: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: productpage-v1, namespace: bookinfo}
spec:
  template:
    metadata:
      labels: {app: productpage, version: v1}
      annotations:
        sidecar.istio.io/userVolume: '{\"wasm\":{\"configMap\":{\"name\":\"filters\"}}}'
        sidecar.istio.io/userVolumeMount: '{\"wasm\":{\"mountPath\":\"/var/local/lib/wasm-filters\"}}'
    spec: {serviceAccountName: productpage, containers: [{ports: [{containerPort: 9080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: details-v1, namespace: bookinfo}
spec:
  template:
    metadata: {labels: {app: details}}
    spec: {containers: [{ports: [{containerPort: 80}, {containerPort: 81}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: bookinfo}
spec: {gatewayClassName: istio, listeners: [{port: 80}]}
";

const PLUGIN: &str = "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: tag, namespace: bookinfo}
spec:
  selector: {matchLabels: {app: productpage}}
  match: [{mode: SERVER, ports: [{number: 9080}]}]
  url: file:///var/local/lib/wasm-filters/main.wasm
  pluginConfig: {tag: mounted}
";

/// A ConfigMap with an example module in it, as `kubectl create configmap --from-file` makes it.
fn config_map(module: &str) -> String {
    let output = std::process::Command::new("base64").arg("-w76").arg(prebuilt(module)).output();
    let base64 = String::from_utf8(output.unwrap().stdout).unwrap();
    let mut text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: filters, namespace: \
                    bookinfo}\nbinaryData:\n  main.wasm: |\n"
        .to_owned();
    for line in base64.lines() {
        let _ = writeln!(text, "    {line}");
    }
    text
}

#[test]
fn a_module_in_a_config_map_runs_in_the_workload_that_mounts_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bookinfo.yaml"), BOOKINFO).unwrap();
    std::fs::write(folder.path().join("plugin.yaml"), PLUGIN).unwrap();
    std::fs::write(folder.path().join("filters.yaml"), config_map("tag-headers-rust")).unwrap();
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let arguments = ["-f", ".", "--workload", "productpage-v1"];
    let proxy = Running::start(folder.path(), &upstream, &arguments);
    assert_eq!(proxy.get("/").header("x-chain-response"), Some("mounted"));
    // Another workload of the same files is none of the plugin's.
    let other = Running::start(folder.path(), &upstream, &["-f", ".", "--workload", "details-v1"]);
    assert_eq!(other.get("/").header("x-chain-response"), None);
}

#[test]
fn a_module_that_is_not_in_its_config_map_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config_map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: filters, namespace: \
                      bookinfo}\n";
    let text = [BOOKINFO, PLUGIN, config_map].join("---\n");
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    let arguments =
        ["run", "-f", "all.yaml", "--upstream", "127.0.0.1:1", "--workload", "productpage-v1"];
    let ended = run_to_end(folder.path(), &arguments);
    expect![[r"
        error: cannot find the module of `bookinfo/tag`
          caused by: ConfigMap `bookinfo/filters`, mounted at `/var/local/lib/wasm-filters`, has no `main.wasm`
    "]].assert_eq(&ended.stderr);
    assert_eq!(ended.status, Some(1));
}

fn explain(name: &str, more: &[&str]) -> (String, String, Option<i32>) {
    let folder = tempfile::tempdir().unwrap();
    let text = [BOOKINFO, PLUGIN].join("---\n");
    std::fs::write(folder.path().join("all.yaml"), text).unwrap();
    let arguments = [&["explain", "-f", "all.yaml", "--workload", name], more].concat();
    let ended = run_to_end(folder.path(), &arguments);
    let first = ended.stdout.lines().next().unwrap_or_default().to_owned();
    (first, ended.stderr, ended.status)
}

#[test]
fn a_workload_is_known_by_its_name() {
    let rows = [
        (
            "productpage-v1",
            &[][..],
            "namespace bookinfo, labels app=productpage, version=v1, sidecar-inbound, port 9080",
        ),
        (
            "bookinfo/front",
            &[],
            "namespace bookinfo, labels gateway.networking.k8s.io/gateway-name=front, gateway, \
             port 80",
        ),
        (
            "productpage-v1",
            &["--role", "sidecar-outbound", "--port", "8080", "--label", "version=v2"],
            "namespace bookinfo, labels app=productpage, version=v2, sidecar-outbound, port 8080",
        ),
    ];
    for (name, more, expected) in rows {
        let (first, stderr, status) = explain(name, more);
        assert_eq!(first, format!("workload {expected}"));
        assert_eq!((stderr.as_str(), status), ("", Some(0)));
    }
}

#[test]
fn several_ports_are_pointed_out() {
    let (first, stderr, status) = explain("details-v1", &[]);
    assert_eq!(first, "workload namespace bookinfo, labels app=details, sidecar-inbound");
    assert_eq!(
        stderr,
        "Deployment bookinfo/details-v1 listens on ports 80, 81: `match.ports` excludes nothing; \
         choose one with `--port`\n"
    );
    assert_eq!(status, Some(0));
}

#[test]
fn a_workload_that_is_not_there_is_an_error_with_a_hint() {
    let (_, stderr, status) = explain("productpage", &[]);
    let expected = "error: no workload `productpage` is given\n\nhint: did you mean \
                    `productpage-v1`?\n";
    assert_eq!((stderr.as_str(), status), (expected, Some(1)));
    let (_, stderr, status) = explain("front", &["--namespace", "bookinfo"]);
    assert_eq!(status, Some(2), "{stderr}");
}
