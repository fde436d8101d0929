//! `AuthorizationPolicy` in the data plane: decisions, answers, counters, dumps.

use wasmplug_proxy::{Refusal, RejectedEffect};

use crate::harness::{Plugin, Running, Setup};

/// The proxy with policies: name, annotations and `spec` of each.
fn start(policies: &[(&str, &str, &str)]) -> Running {
    Setup::new().resources(&documents(policies)).admin().start()
}

fn documents(policies: &[(&str, &str, &str)]) -> String {
    let document = |(name, annotations, spec): &(&str, &str, &str)| {
        format!(
            "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
             metadata: {{name: {name}, namespace: default, annotations: {annotations}}}\n\
             spec: {spec}\n"
        )
    };
    policies.iter().map(document).collect()
}

/// Requests each path; 403 must be the whole answer of a refusal.
fn assert_paths(proxy: &Running, allowed: &[&str], denied: &[&str]) {
    for path in allowed {
        assert_eq!(proxy.get(path).status, 200, "{path}");
    }
    for path in denied {
        let response = proxy.get(path);
        assert_eq!((response.status, &*response.text()), (403, "RBAC: access denied"), "{path}");
        assert_eq!(response.header("content-type"), Some("text/plain"));
    }
}

/// Source: Istio, `TestAuthz_PathPrecedence`.
#[test]
fn a_denial_goes_before_an_allowance() {
    let proxy = start(&[
        ("deny", "{}", "{action: DENY, rules: [{to: [{operation: {paths: [/allow/admin]}}]}]}"),
        ("allow", "{}", "{rules: [{to: [{operation: {paths: [/allow*]}}]}]}"),
    ]);
    assert_paths(
        &proxy,
        &["/allow", "/allow?param=value"],
        &["/allow/admin", "/allow/admin?param=value", "/other"],
    );
}

/// Source: Istio, `TestAuthz_PathTemplating`.
#[test]
fn templates_allow_what_they_say() {
    let proxy = start(&[(
        "allow",
        "{}",
        "{rules: [{to: [{operation: \
            {paths: ['/allow/admin/{**}', '/foo/{*}/bar/{**}', '/store/{**}/cart']}}]}]}",
    )]);
    assert_paths(
        &proxy,
        &[
            "/allow/admin/",
            "/allow/admin/temp",
            "/allow/admin/foo/temp.txt",
            "/foo/buzz/bar/bat",
            "/foo/buzz/bar/bat/fuzz.txt",
            "/store//cart",
            "/store/foo/cart",
            "/store/foo/bar/cart",
        ],
        &[
            "/allow/admin",
            "/allow/admin?param=value",
            "/allow/user/",
            "/allow",
            "/foo/bar/bat.txt",
            "/foo//bar/bat.txt",
            "/store/cart",
        ],
    );
}

/// Source: Istio, `TestAuthz_Conditions`, as far as plain text goes.
#[test]
fn conditions_decide() {
    let rows = [
        ("request.headers[x-foo]", "values: [bar]", [false, true, false]),
        ("request.headers[x-foo]", "notValues: [bar]", [true, false, true]),
        ("source.ip", "values: [127.0.0.1]", [true; 3]),
        ("source.ip", "notValues: [127.0.0.0/8]", [false; 3]),
        ("source.namespace", "values: [default]", [false; 3]),
        ("source.principal", "notValues: [a/b]", [true; 3]),
        ("source.trustDomain", "values: ['*']", [false; 3]),
        ("destination.ip", "values: [127.0.0.1]", [true; 3]),
        ("connection.sni", "values: [a.test]", [false; 3]),
    ];
    for (key, values, expected) in rows {
        let spec = format!("{{rules: [{{when: [{{key: '{key}', {values}}}]}}]}}");
        let proxy = start(&[("p", "{}", &spec)]);
        for (header, is_allowed) in ["", "x-foo: bar\r\n", "x-foo: baz\r\n"].iter().zip(expected) {
            let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{header}\r\n");
            let expected = if is_allowed { 200 } else { 403 };
            assert_eq!(proxy.exchange(request).status, expected, "{key} {values} {header}");
        }
    }
}

#[test]
fn the_port_of_the_listener_counts_if_no_other_is_known() {
    let proxy = start(&[("p", "{}", "{rules: [{to: [{operation: {ports: ['1']}}]}]}")]);
    assert_eq!(proxy.get("/").status, 403);
    drop(proxy);
    let mut proxy = Setup::new().start_unconfigured();
    let port = proxy.proxy().listen_address().port();
    for (operation, expected) in [
        (format!("ports: ['1', '{port}']"), 200),
        (format!("notPorts: ['{port}']"), 403),
        ("notPorts: ['1']".to_owned(), 200),
    ] {
        let spec = format!("{{rules: [{{to: [{{operation: {{{operation}}}}}]}}]}}");
        assert!(proxy.load_with(&[], &documents(&[("p", "{}", &spec)])).is_empty());
        assert_eq!(proxy.get("/").status, expected, "{operation}");
    }
}

/// Source: Istio, `TestAuthz_PathNormalization`.
#[test]
fn no_spelling_of_a_path_evades_a_denial() {
    let mesh = "---\napiVersion: v1\nkind: ConfigMap\n\
                metadata: {name: istio, namespace: istio-system}\n\
                data: {mesh: 'pathNormalization: {normalization: DECODE_AND_MERGE_SLASHES}'}\n";
    let deny = "{action: DENY, rules: [{to: [{operation: {paths: [/private, /private/*]}}]}]}";
    let resources = documents(&[("deny", "{}", deny)]) + mesh;
    let proxy = Setup::new().resources(&resources).start();
    for path in [
        "/private",
        "/a/../private",
        "/a/%2e%2e/private",
        "/a/..;x=y/private",
        "/%70rivate",
        "//private",
        "/%2fprivate",
        "/%5Cprivate",
        "/a\\..\\private",
        "/private#a",
        "/private?a",
        "/./private/",
        "/private%2f..%2fprivate",
    ] {
        assert_eq!(proxy.get(path).status, 403, "{path}");
    }
    for path in ["/", "/public", "/private/../public", "/Private", "/privates", "/%2570rivate"] {
        assert_eq!(proxy.get(path).status, 200, "{path}");
    }
}

#[test]
fn what_is_only_tried_out_is_counted_and_decides_nothing() {
    const DRY_RUN: &str = "{istio.io/dry-run: 'true'}";
    let deny = "{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}";
    let proxy = start(&[("deny", DRY_RUN, deny), ("allow", DRY_RUN, "{}")]);
    assert_paths(&proxy, &["/a", "/b", "/c"], &[]);
    let text = proxy.admin("/stats/prometheus").text();
    for line in [
        "envoy_http_rbac_allowed 0",
        "envoy_http_rbac_denied 0",
        "envoy_http_rbac_shadow_allowed{envoy_rbac_http_prefix=\"istio_dry_run_deny_\"} 2",
        "envoy_http_rbac_shadow_denied{envoy_rbac_http_prefix=\"istio_dry_run_deny_\"} 1",
        "envoy_http_rbac_shadow_allowed{envoy_rbac_http_prefix=\"istio_dry_run_allow_\"} 0",
        "envoy_http_rbac_shadow_denied{envoy_rbac_http_prefix=\"istio_dry_run_allow_\"} 3",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn decisions_are_counted_for_each_action() {
    let proxy = start(&[
        ("audit", "{}", "{action: AUDIT, rules: [{}]}"),
        ("deny", "{}", "{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}"),
        ("allow", "{}", "{rules: [{to: [{operation: {paths: [/b]}}]}]}"),
    ]);
    assert_paths(&proxy, &["/b"], &["/a", "/c"]);
    let text = proxy.admin("/stats/prometheus").text();
    // Three audits, two that no denial matched, one that was allowed.
    for line in ["envoy_http_rbac_allowed 6", "envoy_http_rbac_denied 2"] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("envoy_tcp_rbac"), "{text}");
    let without = Setup::new().admin().start();
    assert!(!without.admin("/stats/prometheus").text().contains("rbac"));
}

#[test]
fn a_change_of_policies_is_for_the_next_request() {
    let mut proxy = Setup::new().start_unconfigured();
    let mut load = |spec: &str, expected| {
        assert!(proxy.load_with(&[], &documents(&[("p", "{}", spec)])).is_empty());
        assert_eq!(proxy.get("/").status, expected, "{spec}");
    };
    load("{}", 403);
    load("{rules: [{}]}", 200);
    load("{action: DENY, rules: [{}]}", 403);
    load("{action: AUDIT, rules: [{}]}", 200);
}

#[test]
fn a_policy_that_cannot_be_compiled_refuses_every_request() {
    let mut proxy = Setup::new().admin().start_unconfigured();
    let good = "{rules: [{}]}";
    // Too long for an expression, which no other check looks at.
    let long = "x*".repeat(100_000);
    let bad =
        format!("{{action: DENY, rules: [{{from: [{{source: {{namespaces: ['{long}']}}}}]}}]}}");
    let resources = documents(&[("good", "{}", good), ("bad", "{}", &bad)]);
    let rejected = proxy.load_with(&[], &resources);
    assert_eq!(rejected.len(), 1, "{rejected:?}");
    assert_eq!(rejected[0].resource.to_string(), "default/bad");
    assert_eq!(rejected[0].effect, RejectedEffect::Refuses(Refusal::Forbidden));
    assert!(rejected[0].reason.contains("rule 0"), "{}", rejected[0].reason);
    let response = proxy.get("/");
    assert_eq!((response.status, &*response.text()), (403, "RBAC: access denied"));
    let dump = proxy.admin("/config_dump").json().unwrap();
    assert_eq!(dump["rejected"][0]["resource"], "default/bad");
    assert!(proxy.load_with(&[], &documents(&[("good", "{}", good)])).is_empty());
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn policies_are_in_the_dump() {
    let proxy = start(&[
        ("deny", "{}", "{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}"),
        ("tried", "{istio.io/dry-run: 'true'}", "{action: DENY, rules: [{}]}"),
    ]);
    let dump = proxy.admin("/config_dump").json().unwrap();
    let filter = &dump["chain"][0];
    assert_eq!(filter["filter"], "envoy.filters.http.rbac");
    assert_eq!(filter["action"], "DENY");
    assert_eq!(filter["policies"][0]["resource"], "default/deny");
    assert_eq!(filter["policies"][1]["dry_run"], true);
    assert_eq!(dump["network"].as_array().map(Vec::len), Some(0));
    assert_eq!(dump["path_normalization"], "BASE");
}

#[test]
fn headers_that_are_no_text_and_long_paths_are_decided_as_any_other() {
    let proxy = start(&[(
        "p",
        "{}",
        "{action: DENY, rules: [{when: [{key: 'request.headers[x-a]', values: ['*b']}]},\
            {to: [{operation: {paths: ['/{*}/{*}/{**}/z', '*zz']}}]}]}",
    )]);
    let get = |rest: &[u8]| proxy.exchange([b"GET ", rest, b"\r\n\r\n"].concat()).status;
    assert_eq!(get(b"/ HTTP/1.1\r\nhost: a\r\nx-a: \xff\xfeb"), 403);
    assert_eq!(get(b"/ HTTP/1.1\r\nhost: a\r\nx-a: b\xff\xfe"), 200);
    // The limit for the whole head is 60 KiB.
    let long = "/z".repeat(25_000);
    assert_eq!(get(format!("{long} HTTP/1.1\r\nhost: a").as_bytes()), 403);
    assert_eq!(get(format!("{long}/a HTTP/1.1\r\nhost: a").as_bytes()), 200);
    let longer = "/z".repeat(50_000);
    assert!(get(format!("{longer} HTTP/1.1\r\nhost: a").as_bytes()) >= 400);
}

#[test]
fn plugins_around_policies_see_what_they_should() {
    let told = |name: &str| Plugin::guest(&format!("on request_headers:\n(call $log '{name}')"));
    let proxy = Setup::new()
        .resources(&documents(&[("p", "{}", "{rules: [{to: [{operation: {paths: [/a]}}]}]}")]))
        .plugin(told("in front").phase("AUTHZ"))
        .plugin(told("behind").phase("STATS"))
        .start();
    assert_eq!(proxy.get("/b").status, 403);
    proxy.assert_log(&["in front"]);
    assert_eq!(proxy.get("/a").status, 200);
    proxy.assert_log(&["in front", "in front", "behind"]);
}
