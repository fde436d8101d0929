//! `check` and `explain`: what they print for people and for scripts.

use expect_test::expect;

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
spec: {url: file:///opt/other.wasm, priority: 5, selector: {matchLabels: {app: api}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: example/v1
kind: Secret
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
    expect![[r"
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
          4. stats
             makes Istio's metrics: behind the plugins of all phases and of none
          5. router
             sends requests upstream: always last

        responses pass in reverse
          stats, shop/last, istio-system/mesh, shop/auth

        not in the chain
          shop/other  selector wants label `app=api`, the workload has `app=web`
             plugins.yaml:16:1

        if a plugin fails, a client sees
          shop/auth, shop/last (FAIL_CLOSE or FAIL_RELOAD)
            the module cannot be fetched           403 for every request
            it is not what sha256 wants            403 for every request
            it does not compile                    503 for every request
            it does not start or configure         503 for every request
            any of these in an update              the last good form goes on
            a callback traps                       503 for its streams, then a fresh VM
            a callback exceeds its deadline        503 for its streams, then a fresh VM
            it wants more memory than it may have  memory.grow fails; if it traps then, as above
            it keeps failing                       503 until the back-off is over
          istio-system/mesh (FAIL_OPEN)
            the module cannot be fetched           skipped
            it is not what sha256 wants            skipped
            it does not compile                    skipped
            it does not start or configure         skipped
            any of these in an update              the last good form goes on
            a callback traps                       its streams go on without it, then a fresh VM
            a callback exceeds its deadline        its streams go on without it, then a fresh VM
            it wants more memory than it may have  memory.grow fails; if it traps then, as above
            it keeps failing                       skipped until the back-off is over
    "]]
    .assert_eq(&ended.stdout);
    assert_eq!((ended.stderr.as_str(), ended.status), ("", Some(0)));
}

#[test]
fn scripts_get_the_plan_as_json() {
    let ended =
        on(PLUGINS, &["explain", "-f", "plugins.yaml", "--namespace", "shop", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let filters = json["plan"]["filters"].as_array().unwrap();
    let kinds: Vec<&str> = filters.iter().map(|f| f["filter"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["wasm", "wasm", "wasm", "stats", "router"]);
    assert_eq!(json["plan"]["leftOut"].as_array().unwrap().len(), 1);
    assert_eq!(json["workload"]["namespace"], "shop");
}

#[test]
fn check_counts_what_is_valid_and_names_what_it_does_not_look_at() {
    let ended = on(PLUGINS, &["check", "-f", "plugins.yaml"]);
    assert_eq!(ended.stdout, "5 resources are valid\n");
    assert_eq!(ended.stderr, "plugins.yaml:25:1: not looked at: Secret (example/v1)\n");
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
    assert_eq!((ended.stdout.as_str(), ended.status), ("3 resources are valid\n", Some(1)));
}

const POLICIES: &str = "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: shop}
spec:
  jwtRules:
    - {issuer: two, jwksUri: 'https://two.example/keys'}
    - {issuer: one, jwks: '{\"keys\": []}'}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: istio-system}
spec: {action: DENY, rules: [{to: [{operation: {paths: [/admin], ports: ['80']}}]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried-out, namespace: shop, annotations: {istio.io/dry-run: 'true'}}
spec: {rules: [{}, {}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: metrics, namespace: shop}
spec: {metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, disabled: true}]}]}
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: between, namespace: shop}
spec: {url: oci://registry.example/between:v1, phase: AUTHZ}
";

#[test]
fn built_in_filters_are_explained_at_their_places() {
    let ended = on(POLICIES, &["explain", "-f", "plugins.yaml", "--namespace", "shop"]);
    expect![[r"
        workload namespace shop, labels none, sidecar-inbound

        requests pass, in this order
          1. jwt_authn
             verifies tokens: behind phase AUTHN, before phase AUTHZ
             shop/jwt issuer `one`  plugins.yaml:1:1
             shop/jwt issuer `two`  plugins.yaml:1:1
          2. shop/between  oci://registry.example/between:v1
             phase AUTHZ: after JWT authentication, before authorization; no priority, which is behind every number
             plugins.yaml:29:1
          3. rbac DENY
             refuses what DENY policies match, before ALLOW: behind phase AUTHZ, before phase STATS
             istio-system/no-admin 1 rule  plugins.yaml:9:1
          4. rbac ALLOW
             counts what it would do, without effect: behind phase AUTHZ, before phase STATS
             shop/tried-out 2 rules, only tried out  plugins.yaml:14:1
          5. stats
             makes Istio's metrics: behind the plugins of all phases and of none
             shop/metrics
          6. router
             sends requests upstream: always last

        responses pass in reverse
          stats, rbac ALLOW, rbac DENY, shop/between, jwt_authn

        connections pass before the first request
          mutual TLS STRICT, by shop/strict

        `wasmplug run` refuses to serve this without `--tls-client-ca`
          PeerAuthentication shop/strict  it would accept connections in plain text

        if a plugin fails, a client sees
          shop/between (FAIL_CLOSE or FAIL_RELOAD)
            the module cannot be fetched           403 for every request
            it is not what sha256 wants            403 for every request
            it does not compile                    503 for every request
            it does not start or configure         503 for every request
            any of these in an update              the last good form goes on
            a callback traps                       503 for its streams, then a fresh VM
            a callback exceeds its deadline        503 for its streams, then a fresh VM
            it wants more memory than it may have  memory.grow fails; if it traps then, as above
            it keeps failing                       503 until the back-off is over
    "]].assert_eq(&ended.stdout);
    assert_eq!((ended.stderr.as_str(), ended.status), ("", Some(0)));
}

#[test]
fn an_outbound_chain_says_why_it_has_no_policies() {
    let arguments =
        ["explain", "-f", "plugins.yaml", "--namespace", "shop", "--role", "sidecar-outbound"];
    let ended = on(POLICIES, &arguments);
    expect![[r"
        workload namespace shop, labels none, sidecar-outbound

        requests pass, in this order
          1. shop/between  oci://registry.example/between:v1
             phase AUTHZ: after JWT authentication, before authorization; no priority, which is behind every number
             plugins.yaml:29:1
          2. stats
             makes Istio's metrics: behind the plugins of all phases and of none
             shop/metrics
          3. router
             sends requests upstream: always last

        responses pass in reverse
          stats, shop/between

        not in the chain
          AuthorizationPolicy istio-system/no-admin  an outbound chain authorizes no request
             plugins.yaml:9:1
          RequestAuthentication shop/jwt  an outbound chain authenticates no request
             plugins.yaml:1:1
          PeerAuthentication shop/strict  an outbound chain accepts no connection
             plugins.yaml:19:1
          AuthorizationPolicy shop/tried-out  an outbound chain authorizes no request
             plugins.yaml:14:1

        if a plugin fails, a client sees
          shop/between (FAIL_CLOSE or FAIL_RELOAD)
            the module cannot be fetched           403 for every request
            it is not what sha256 wants            403 for every request
            it does not compile                    503 for every request
            it does not start or configure         503 for every request
            any of these in an update              the last good form goes on
            a callback traps                       503 for its streams, then a fresh VM
            a callback exceeds its deadline        503 for its streams, then a fresh VM
            it wants more memory than it may have  memory.grow fails; if it traps then, as above
            it keeps failing                       503 until the back-off is over
    "]].assert_eq(&ended.stdout);
}

#[test]
fn network_plugins_and_waypoints_are_explained() {
    let text = format!(
        "{}---\n{}",
        PLUGINS.replace("url: file:///opt/last.wasm", "url: file:///opt/last.wasm, type: NETWORK"),
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}
---
apiVersion: extensions.istio.io/v1alpha1
kind: TrafficExtension
metadata: {name: for-web, namespace: shop}
spec: {targetRefs: [{kind: Service, name: web}], wasm: {url: oci://registry.example/web:v1}}
"
    );
    let ended = on(&text, &["explain", "-f", "plugins.yaml", "--namespace", "shop"]);
    let section = ended.stdout.split("\n\n").find(|section| section.starts_with("connections"));
    expect![[r"
        connections pass before the first request
          shop/last  file:///opt/last.wasm
             no phase; type NETWORK, which is in front of the HTTP filters
             plugins.yaml:11:1"]]
    .assert_eq(section.unwrap());
    let ended = on(&text, &["explain", "-f", "plugins.yaml", "--workload", "waypoint"]);
    let sections: Vec<&str> = ended.stdout.split("\n\n").take(2).collect();
    expect![[r"
        workload namespace shop, labels gateway.networking.k8s.io/gateway-name=waypoint, waypoint, before shop/web

        requests pass, in this order
          1. shop/for-web~trafficextension  oci://registry.example/web:v1
             no phase: after the plugins of all phases; no priority, which is behind every number
             plugins.yaml:38:1
          2. stats
             makes Istio's metrics: behind the plugins of all phases and of none
          3. router
             sends requests upstream: always last"]].assert_eq(&sections.join("\n\n"));
}

#[test]
fn filters_that_routes_ask_for_are_explained() {
    let text = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec:
  hosts: [web, web.example]
  http:
    - {name: api, corsPolicy: {allowOrigins: [{exact: 'https://a.example'}]}}
    - {fault: {delay: {fixedDelay: 5s}}}
";
    let arguments = ["explain", "-f", "plugins.yaml", "--role", "sidecar-outbound"];
    let ended = on(text, &arguments);
    expect![[r"
        workload namespace default, labels none, sidecar-outbound

        requests pass, in this order
          1. fault
             delays or aborts requests, because a route asks for it: before cors and stats
             shop/web for web, web.example  plugins.yaml:1:1
          2. cors
             answers browsers, because a route asks for it: behind fault, before stats
             shop/web route `api` for web, web.example  plugins.yaml:1:1
          3. stats
             makes Istio's metrics: behind the plugins of all phases and of none
          4. router
             sends requests upstream: always last

        responses pass in reverse
          stats, cors, fault
    "]]
    .assert_eq(&ended.stdout);
    let ended = on(text, &["explain", "-f", "plugins.yaml"]);
    let reason = "VirtualService shop/web  routes belong to clients and gateways";
    assert!(ended.stdout.contains(reason), "{}", ended.stdout);
}

#[test]
fn reasons_and_failures_are_there_for_scripts() {
    let arguments = ["explain", "-f", "plugins.yaml", "--namespace", "shop", "-o", "json"];
    let ended = on(POLICIES, &arguments);
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let count = json["plan"]["filters"].as_array().unwrap().len();
    assert_eq!(json["reasons"].as_array().unwrap().len(), count);
    assert_eq!(json["responseOrder"][0], "stats");
    assert_eq!(json["failures"][0]["effects"]["fetch"], "403 for every request");
    assert_eq!(json["notEnforced"][0]["kind"], "PeerAuthentication");
    assert!(!ended.stdout.contains("keys\\\":"), "the key set is not shown: {}", ended.stdout);
}

#[test]
fn check_says_what_will_not_be_enforced_and_what_only_shows_together() {
    let ties = PLUGINS.replace("priority: 5, ", "");
    let ended = on(&format!("{ties}---\n{POLICIES}"), &["check", "-f", "plugins.yaml"]);
    expect![[r"
        plugins.yaml:16:1: warning: spec.priority: runs behind `shop/last`, of the same phase and priority, by its name; in a cluster the older one runs first
          hint: give the two different priorities
        plugins.yaml:25:1: not looked at: Secret (example/v1)
        plugins.yaml:47:1: note: PeerAuthentication shop/strict: `wasmplug run` enforces it with `--tls-client-ca`, and refuses to serve a workload that needs it without
    "]].assert_eq(&ended.stderr);
    assert_eq!(ended.status, Some(0));
}

#[test]
fn policies_that_are_not_enforced_keep_the_proxy_from_serving() {
    let arguments =
        ["run", "-f", "plugins.yaml", "--upstream", "127.0.0.1:1", "--namespace", "shop"];
    let ended = on(POLICIES, &arguments);
    expect![[r"
        error: the workload has policies that this listener cannot enforce: PeerAuthentication shop/strict

        hint: nothing is served, because requests would pass unchecked; give `--tls-cert`, `--tls-key` and `--tls-client-ca` for mutual TLS, or leave these resources out of `-f` to serve without them
    "]].assert_eq(&ended.stderr);
    assert_eq!(ended.status, Some(1));
}
