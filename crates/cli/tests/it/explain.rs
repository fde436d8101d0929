//! `check` and `explain`: what they print for people and for scripts.

use crate::process::{Ended, run_to_end};

const PLUGINS: &str = "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: auth, namespace: shop}
spec: {url: oci://registry.example/auth:v1, phase: AUTHN, priority: 10}
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: mesh, namespace: istio-system}
spec: {url: oci://registry.example/mesh:v1, phase: AUTHN, priority: 10, failStrategy: FAIL_OPEN}
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: last, namespace: shop}
spec: {url: file:///opt/last.wasm}
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: other, namespace: shop}
spec: {url: file:///opt/other.wasm, selector: {matchLabels: {app: api}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
";

fn on(text: &str, arguments: &[&str]) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plugins.yaml"), text).unwrap();
    run_to_end(folder.path(), arguments)
}

#[test]
fn the_chain_is_explained_filter_by_filter() {
    let arguments = ["explain", "-f", "plugins.yaml", "--namespace", "shop", "--label", "app=web"];
    let ended = on(PLUGINS, &arguments);
    let expected = "\
workload namespace shop, labels app=web, sidecar-inbound

requests pass, in this order
  1. shop/auth  oci://registry.example/auth:v1
     phase AUTHN: before JWT authentication; priority 10
     plugins.yaml:1:1
  2. istio-system/mesh  oci://registry.example/mesh:v1
     AUTHN; priority 10, the same as shop/auth, whose namespace `shop` is the workload's
     plugins.yaml:6:1
  3. shop/last  file:///opt/last.wasm
     no phase: after the plugins of all phases; no priority, which is behind every number
     plugins.yaml:11:1
  4. router

responses pass the plugins in reverse
  shop/last, istio-system/mesh, shop/auth

not in the chain
  shop/other  selector wants label `app=api`, the workload has `app=web`
     plugins.yaml:16:1

if a plugin fails, a client sees
  shop/auth, shop/last
    fetch, checksum, signature, first time 403 for every request
    compile, start, configure              503 for every request
    any of these in an update              the last good form goes on
    a callback traps or exceeds its limit  503 for its streams, then a fresh VM
    it keeps failing                       503 until the back-off is over
  istio-system/mesh
    fetch, checksum, signature, first time skipped
    compile, start, configure              skipped
    any of these in an update              the last good form goes on
    a callback traps or exceeds its limit  its streams go on without it, then a fresh VM
    it keeps failing                       skipped until the back-off is over
";
    assert_eq!(ended.stdout, expected);
    assert_eq!((ended.stderr.as_str(), ended.status), ("", Some(0)));
}

#[test]
fn scripts_get_the_plan_as_json() {
    let ended =
        on(PLUGINS, &["explain", "-f", "plugins.yaml", "--namespace", "shop", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let filters = json["plan"]["filters"].as_array().unwrap();
    let kinds: Vec<&str> = filters.iter().map(|f| f["filter"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["wasm", "wasm", "wasm", "router"]);
    assert_eq!(json["plan"]["leftOut"].as_array().unwrap().len(), 1);
    assert_eq!(json["workload"]["namespace"], "shop");
}

#[test]
fn check_counts_what_is_valid_and_names_what_it_does_not_look_at() {
    let ended = on(PLUGINS, &["check", "-f", "plugins.yaml"]);
    assert_eq!(ended.stdout, "4 resources are valid\n");
    assert_eq!(ended.stderr, "plugins.yaml:21:1: not looked at: Service (v1)\n");
    assert_eq!(ended.status, Some(0));
}

#[test]
fn check_fails_on_an_error_and_not_on_a_warning() {
    let warning = PLUGINS.replace("phase: AUTHN, priority", "phse: AUTHN, priority");
    let ended = on(&warning, &["check", "-f", "plugins.yaml", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["findings"][0]["hint"], "did you mean `phase`?");
    assert_eq!(ended.status, Some(0));
    let error = PLUGINS.replace("priority: 10", "priority: ten");
    let ended = on(&error, &["check", "-f", "plugins.yaml"]);
    assert!(ended.stderr.ends_with("error: 2 errors in the resources\n"), "{}", ended.stderr);
    assert_eq!((ended.stdout.as_str(), ended.status), ("2 resources are valid\n", Some(1)));
}
