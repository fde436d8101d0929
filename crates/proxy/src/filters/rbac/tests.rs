//! Whole policies, from YAML to a verdict.

use std::net::IpAddr;

use serde_json::json;
use wasmplug_api::authorization_policy::{Rule, Source};
use wasmplug_api::{PlannedAuthorization, PlannedFilter, Workload, WorkloadRole, parse_file, plan};
use wasmplug_host::{Fields, FieldsKind};

use super::{Metadata, Rbac, RbacOptions, Subject, Verdict};

/// A request or connection of a test; what is not said is of no interest.
struct Asked {
    peer: Option<&'static str>,
    source: IpAddr,
    remote: IpAddr,
    destination: IpAddr,
    port: u16,
    server_name: &'static str,
    headers: Option<Fields>,
    metadata: Metadata,
}

/// A request with these headers.
fn request(headers: &[(&str, &str)]) -> Asked {
    let mut fields = Fields::new(FieldsKind::Request);
    for (name, value) in headers {
        fields.add(name.as_bytes(), value.as_bytes()).unwrap();
    }
    Asked { headers: Some(fields), ..connection() }
}

/// A connection that is not HTTP.
fn connection() -> Asked {
    let address = IpAddr::from([10, 0, 0, 1]);
    Asked {
        peer: None,
        source: address,
        remote: address,
        destination: address,
        port: 80,
        server_name: "",
        headers: None,
        metadata: Metadata::new(),
    }
}

fn planned(spec: &str) -> PlannedAuthorization {
    let manifest = format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: p, namespace: own}}\nspec: {spec}\n"
    );
    let parsed = parse_file("test.yaml", &manifest);
    let workload = Workload::new("own", WorkloadRole::SidecarInbound);
    let plan = plan(&parsed.resources, &workload);
    let mut filters = plan.filters.into_iter();
    let rbac = filters.find_map(|filter| match filter {
        PlannedFilter::Rbac(authorization) => Some(authorization),
        _ => None,
    });
    rbac.unwrap_or_else(|| panic!("{spec}: {:?}", parsed.diagnostics))
}

fn compiled(spec: &str, is_tcp: bool) -> Rbac {
    Rbac::compile(&planned(spec), RbacOptions { port: None, is_tcp, is_heard: true }).unwrap()
}

fn judge(spec: &str, asked: &Asked) -> (bool, bool) {
    let rbac = compiled(spec, asked.headers.is_none());
    let subject = Subject {
        peer: asked.peer,
        source: asked.source,
        remote: asked.remote,
        destination: asked.destination,
        port: asked.port,
        server_name: asked.server_name,
        headers: asked.headers.as_ref(),
        metadata: &asked.metadata,
    };
    let Verdict { is_allowed, rule } = rbac.judge(&subject).unwrap();
    (is_allowed, rule.is_some())
}

/// Whether a rule with this one source, operation or condition matches.
fn matches(rule: &str, asked: &Asked) -> bool {
    judge(&format!("{{rules: [{rule}]}}"), asked).0
}

fn from(source: &str) -> String {
    format!("{{from: [{{source: {source}}}]}}")
}

fn when(key: &str, values: &str) -> String {
    format!("{{when: [{{key: '{key}', {values}}}]}}")
}

#[test]
fn an_identity_is_matched_in_every_form() {
    let asked = |peer| Asked { peer: Some(peer), ..request(&[]) };
    let me = asked("spiffe://td/ns/a/sa/b");
    let of_own = asked("spiffe://td/ns/own/sa/b");
    for (source, expected) in [
        ("{principals: [td/ns/a/sa/b]}", true),
        ("{principals: [td/ns/a/sa/c, td/ns/a/*]}", true),
        ("{principals: ['*/sa/b']}", true),
        ("{principals: ['*']}", true),
        ("{principals: [td/ns/a/sa/c]}", false),
        ("{notPrincipals: [td/ns/a/sa/b]}", false),
        ("{notPrincipals: [td/ns/a/sa/c]}", true),
        ("{namespaces: [a]}", true),
        ("{namespaces: [b, 'a*']}", true),
        ("{namespaces: [b]}", false),
        ("{notNamespaces: [a]}", false),
        ("{notNamespaces: [b]}", true),
        ("{serviceAccounts: [a/b]}", true),
        ("{serviceAccounts: [b]}", false),
        ("{notServiceAccounts: [a/b]}", false),
        ("{notServiceAccounts: [b]}", true),
        ("{trustDomains: [td]}", true),
        ("{trustDomains: ['t*']}", true),
        ("{trustDomains: [other]}", false),
        ("{notTrustDomains: [td]}", false),
        ("{notTrustDomains: [other]}", true),
        ("{principals: ['*'], notNamespaces: [a]}", false),
    ] {
        assert_eq!(matches(&from(source), &me), expected, "{source}");
    }
    assert!(matches(&from("{serviceAccounts: [b]}"), &of_own));
    for (key, values, expected) in [
        ("source.principal", "values: [td/ns/a/sa/b]", true),
        ("source.principal", "notValues: [td/ns/a/sa/b]", false),
        ("source.namespace", "values: [a]", true),
        ("source.namespace", "values: [b]", false),
        ("source.serviceAccount", "values: [a/b]", true),
        ("source.serviceAccount", "values: [b]", false),
        ("source.trustDomain", "values: [td]", true),
        ("source.trustDomain", "notValues: ['*']", false),
    ] {
        assert_eq!(matches(&when(key, values), &me), expected, "{key} {values}");
    }
}

#[test]
fn without_an_identity_only_negations_match() {
    let nobody = request(&[]);
    for field in ["principals", "namespaces", "serviceAccounts", "trustDomains"] {
        let value = if field == "serviceAccounts" { "a/b" } else { "'*'" };
        let negation = format!("not{}{}", field[..1].to_uppercase(), &field[1..]);
        assert!(!matches(&from(&format!("{{{field}: [{value}]}}")), &nobody), "{field}");
        assert!(matches(&from(&format!("{{{negation}: [{value}]}}")), &nobody), "{negation}");
    }
}

#[test]
fn addresses_of_peer_client_and_destination_are_three() {
    let asked = Asked {
        source: [10, 0, 0, 1].into(),
        remote: [10, 0, 0, 2].into(),
        destination: [10, 0, 0, 3].into(),
        ..request(&[])
    };
    for (rule, expected) in [
        (from("{ipBlocks: [10.0.0.1]}"), true),
        (from("{ipBlocks: [10.0.0.2, 10.0.0.3]}"), false),
        (from("{notIpBlocks: [10.0.0.0/31]}"), false),
        (from("{remoteIpBlocks: [10.0.0.2]}"), true),
        (from("{remoteIpBlocks: [10.0.0.1, 10.0.0.3]}"), false),
        (from("{notRemoteIpBlocks: [10.0.0.1]}"), true),
        (when("source.ip", "values: [10.0.0.1]"), true),
        (when("source.ip", "notValues: [10.0.0.1]"), false),
        (when("remote.ip", "values: [10.0.0.2]"), true),
        (when("remote.ip", "values: [10.0.0.1]"), false),
        (when("destination.ip", "values: [10.0.0.3]"), true),
        (when("destination.ip", "notValues: [10.0.0.0/8]"), false),
    ] {
        assert_eq!(matches(&rule, &asked), expected, "{rule}");
    }
}

#[test]
fn ports_and_server_names_are_of_the_connection() {
    let asked = Asked { port: 8080, server_name: "a.test", ..request(&[]) };
    for (rule, expected) in [
        ("{to: [{operation: {ports: ['80', '8080']}}]}".to_owned(), true),
        ("{to: [{operation: {ports: ['80']}}]}".to_owned(), false),
        ("{to: [{operation: {notPorts: ['8080']}}]}".to_owned(), false),
        ("{to: [{operation: {notPorts: ['80']}}]}".to_owned(), true),
        (when("destination.port", "values: ['8080']"), true),
        (when("destination.port", "notValues: ['8080']"), false),
        (when("connection.sni", "values: ['*.test']"), true),
        (when("connection.sni", "values: [b.test]"), false),
        (when("connection.sni", "notValues: [a.test]"), false),
    ] {
        assert_eq!(matches(&rule, &asked), expected, "{rule}");
    }
}

#[test]
fn claims_decide_in_every_condition() {
    let payload = json!({
        "iss": "https://i", "sub": "s", "aud": ["x", "y"], "azp": "z", "a": {"b": ["c"]},
        "scope": ["read", "write"],
    });
    let metadata =
        [("envoy.filters.http.jwt_authn".to_owned(), json!({ "payload": payload }))].into();
    let asked = Asked { metadata, ..request(&[]) };
    for (rule, expected) in [
        (from("{requestPrincipals: [https://i/s]}"), true),
        (from("{requestPrincipals: ['*']}"), true),
        (from("{requestPrincipals: [https://i/t]}"), false),
        (from("{notRequestPrincipals: ['*']}"), false),
        (from("{notRequestPrincipals: [https://i/t]}"), true),
        (when("request.auth.principal", "values: ['https://i/*']"), true),
        (when("request.auth.principal", "notValues: ['*/s']"), false),
        (when("request.auth.audiences", "values: ['y']"), true),
        (when("request.auth.audiences", "values: [z]"), false),
        (when("request.auth.presenter", "values: [z]"), true),
        (when("request.auth.presenter", "notValues: [z]"), false),
        (when("request.auth.claims[a][b]", "values: [c]"), true),
        (when("request.auth.claims[a][b]", "notValues: [c]"), false),
        (when("request.auth.claims[a]", "values: [c]"), false),
        (when("request.auth.claims[scope]", "values: [write]"), true),
        (when("request.auth.claims[scope]", "values: ['read write']"), false),
        (when("request.auth.claims[none]", "notValues: ['*']"), true),
        (when("experimental.envoy.filters.http.jwt_authn[payload]", "values: ['*']"), false),
    ] {
        assert_eq!(matches(&rule, &asked), expected, "{rule}");
    }
}

#[test]
fn paths_are_matched_without_query_and_fragment() {
    let rule = "{to: [{operation: {paths: [/a, '/b/{*}']}}]}";
    for (path, expected) in [
        ("/a", true),
        ("/a?b", true),
        ("/a#b", true),
        ("/a?b#c", true),
        ("/a/", false),
        ("/b/c?d", true),
        ("/b/?c", false),
        ("?/a", false),
    ] {
        assert_eq!(matches(rule, &request(&[(":path", path)])), expected, "{path}");
    }
    assert!(!matches(rule, &request(&[])));
}

#[test]
fn what_policies_decide_depends_on_their_action() {
    let rule =
        |action: &str| format!("{{action: {action}, rules: [{}]}}", from("{ipBlocks: [10.0.0.1]}"));
    let (same, other) = (request(&[]), Asked { source: [1, 1, 1, 1].into(), ..request(&[]) });
    for (action, of_same, of_other) in [
        ("ALLOW", (true, true), (false, false)),
        ("DENY", (false, true), (true, false)),
        ("AUDIT", (true, true), (true, false)),
    ] {
        assert_eq!(judge(&rule(action), &same), of_same, "{action}");
        assert_eq!(judge(&rule(action), &other), of_other, "{action}");
    }
    assert_eq!(judge("{}", &same), (false, false));
    assert_eq!(judge("{rules: [{}]}", &same), (true, true));
}

/// Source: Istio, HTTP attributes in policies for TCP.
#[test]
fn attributes_of_http_never_open_a_connection() {
    let connection = connection();
    let rows = [
        // An `ALLOW` rule with any of them is gone.
        ("{rules: [{to: [{operation: {paths: [/a]}}]}]}", false),
        ("{rules: [{to: [{operation: {notPaths: [/a]}}]}]}", false),
        ("{rules: [{to: [{operation: {hosts: [a], ports: ['80']}}]}]}", false),
        ("{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}", false),
        ("{rules: [{when: [{key: 'request.headers[a]', notValues: [b]}]}]}", false),
        ("{rules: [{when: [{key: 'request.auth.claims[a]', values: [b]}]}]}", false),
        (
            "{rules: [{to: [{operation: {paths: [/a]}}]}, {to: [{operation: {ports: ['80']}}]}]}",
            true,
        ),
        ("{rules: [{to: [{operation: {ports: ['80']}}]}]}", true),
        ("{rules: [{to: [{operation: {ports: ['81']}}]}]}", false),
        // From a `DENY` rule they are gone.
        ("{action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}]}", false),
        ("{action: DENY, rules: [{to: [{operation: {paths: [/a], ports: ['80']}}]}]}", false),
        ("{action: DENY, rules: [{to: [{operation: {paths: [/a], ports: ['81']}}]}]}", true),
        ("{action: DENY, rules: [{from: [{source: {ipBlocks: [1.1.1.1]}}]}]}", true),
        ("{action: DENY, rules: [{when: [{key: 'request.headers[a]', values: [b]}]}]}", false),
        ("{action: AUDIT, rules: [{to: [{operation: {methods: [GET]}}]}]}", true),
    ];
    for (spec, expected) in rows {
        assert_eq!(judge(spec, &connection).0, expected, "{spec}");
    }
}

#[test]
fn what_cannot_be_compiled_names_the_policy_and_the_rule() {
    // Checks of resources refuse all of it but what is too long.
    let spec = "{rules: [{}, {to: [{operation: {paths: [/a]}}],\
        when: [{key: 'request.headers[a]', values: [b]}]}]}";
    let options = RbacOptions { port: None, is_tcp: false, is_heard: false };
    let with = |change: fn(&mut Rule)| {
        let mut authorization = planned(spec);
        change(&mut authorization.policies[0].rules[1]);
        let error = Rbac::compile(&authorization, options).unwrap_err();
        assert!(
            error.to_string().contains("rule 1 of the `AuthorizationPolicy` `own/p`"),
            "{error}"
        );
        std::error::Error::source(&error).unwrap().to_string()
    };
    let path = with(|rule| rule.to[0].paths.values[0] = "{**}".into());
    assert!(path.contains("must begin with `/`"), "{path}");
    let name = with(|rule| rule.when[0].key = "request.headers[a b]".into());
    assert!(name.contains("name of a header"), "{name}");
    let key = with(|rule| rule.when[0].key = "request.unknown".into());
    assert!(key.contains("key"), "{key}");
    let address = with(|rule| rule.when[0].key = "source.ip".into());
    assert!(address.contains("10.0.0.0/8"), "{address}");
    let port = with(|rule| rule.to[0].ports.not_values.push("http".into()));
    assert!(port.contains("65535"), "{port}");
    let long = with(|rule| {
        let source = Source::default();
        rule.from.push(source);
        rule.from[0].trust_domains.values.push("a*".repeat(100_000));
    });
    assert!(long.contains("too long"), "{long}");
    assert!(Rbac::compile(&planned(spec), options).is_ok());
}

#[test]
fn in_the_place_of_policies_that_are_no_use_everything_is_refused() {
    let (metadata, asked) = (Metadata::new(), request(&[]));
    let subject = Subject {
        peer: Some("spiffe://td/ns/a/sa/b"),
        source: asked.source,
        remote: asked.remote,
        destination: asked.destination,
        port: 80,
        server_name: "",
        headers: asked.headers.as_ref(),
        metadata: &metadata,
    };
    let refusing = Rbac::refusing();
    let verdict = refusing.judge(&subject).unwrap();
    assert_eq!(verdict, Verdict { is_allowed: false, rule: None });
}
