use serde_json::{Value, json};
use wasmplug_api::{NamespacedName, PlannedRoute, Position};
use wasmplug_host::{Fields, FieldsKind, Pseudo};

use super::Routed;

fn route(hosts: &[&str], match_: &[Value], policy: Option<u32>) -> PlannedRoute<u32> {
    PlannedRoute {
        resource: NamespacedName::new("shop", "routes"),
        position: Position { file: "a.yaml".into(), line: 1, column: 1 },
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        route: String::new(),
        match_: match_.to_vec(),
        policy,
    }
}

fn request(authority: &str, path: &str) -> Fields {
    let mut fields = Fields::new(FieldsKind::Request);
    for (pseudo, value) in [
        (Pseudo::Authority, authority),
        (Pseudo::Path, path),
        (Pseudo::Method, "GET"),
        (Pseudo::Scheme, "http"),
    ] {
        fields.set_pseudo(pseudo, value.parse().unwrap());
    }
    fields
}

fn find(routes: &[PlannedRoute<u32>], headers: &Fields) -> Option<u32> {
    Routed::new(routes, |policy| *policy).find(headers, 80).map(|policy| **policy)
}

#[test]
fn the_most_specific_host_decides() {
    let routes = [
        route(&["*"], &[], Some(1)),
        route(&["*.example.com"], &[], Some(2)),
        route(&["*.www.example.com"], &[], Some(3)),
        route(&["a.www.example.com"], &[], Some(4)),
    ];
    for (authority, expected) in [
        ("other.org", 1),
        ("example.com", 1),
        (".example.com", 1),
        ("x.example.com:8080", 2),
        ("www.EXAMPLE.com", 2),
        ("b.www.example.com", 3),
        ("A.www.example.com", 4),
    ] {
        assert_eq!(find(&routes, &request(authority, "/")), Some(expected), "{authority}");
    }
    assert_eq!(find(&routes[1..], &request("other.org", "/")), None);
}

#[test]
fn a_service_has_several_names() {
    let routes =
        [route(&["ratings"], &[], Some(1)), route(&["other.far.svc.cluster.local"], &[], Some(2))];
    for (authority, expected) in [
        ("ratings", Some(1)),
        ("ratings.shop:9080", Some(1)),
        ("ratings.shop.svc", Some(1)),
        ("ratings.shop.svc.cluster.local", Some(1)),
        ("ratings.far", None),
        ("other.far", Some(2)),
        ("other", None),
    ] {
        assert_eq!(find(&routes, &request(authority, "/")), expected, "{authority}");
    }
}

#[test]
fn a_route_that_asks_for_nothing_takes_requests_from_those_behind_it() {
    let routes =
        [route(&["*"], &[json!({"uri": {"exact": "/open"}})], None), route(&["*"], &[], Some(1))];
    assert_eq!(find(&routes, &request("a", "/open")), None);
    assert_eq!(find(&routes, &request("a", "/open/")), Some(1));
}

#[test]
fn every_clause_of_an_alternative_must_fit() {
    let mut headers = request("a.b", "/Path/x?k=v&k=w&e");
    headers.add(b"x-a", b"abc").unwrap();
    let rows = [
        (json!({}), true),
        (json!({"uri": {"exact": "/Path/x"}}), true),
        (json!({"uri": {"exact": "/path/x"}}), false),
        (json!({"uri": {"exact": "/path/X"}, "ignoreUriCase": true}), true),
        (json!({"uri": {"prefix": "/Path"}}), true),
        (json!({"uri": {"prefix": "/path"}, "ignore_uri_case": true}), true),
        (json!({"uri": {"regex": "/P.*"}}), true),
        (json!({"uri": {"regex": "/P"}}), false),
        (json!({"uri": {"regex": "("}}), false),
        (json!({"method": {"exact": "GET"}}), true),
        (json!({"method": {"exact": "POST"}}), false),
        (json!({"scheme": {"prefix": "http"}}), true),
        (json!({"authority": {"regex": "a\\.b"}}), true),
        (json!({"headers": {"X-A": {"prefix": "ab"}}}), true),
        (json!({"headers": {"x-a": {}}}), true),
        (json!({"headers": {"x-b": {}}}), false),
        (json!({"withoutHeaders": {"x-b": {}}}), true),
        (json!({"withoutHeaders": {"x-a": {"exact": "abc"}}}), false),
        (json!({"withoutHeaders": {"x-a": {"exact": "abd"}}}), true),
        (json!({"queryParams": {"k": {"exact": "v"}}}), true),
        (json!({"queryParams": {"k": {"exact": "w"}}}), false),
        (json!({"queryParams": {"e": {}}}), true),
        (json!({"queryParams": {"f": {}}}), false),
        (json!({"port": 80}), true),
        (json!({"port": 81}), false),
        (json!({"port": 80, "method": {"exact": "PUT"}}), false),
    ];
    for (alternative, fits) in rows {
        let routes = [route(&["*"], std::slice::from_ref(&alternative), Some(1))];
        assert_eq!(find(&routes, &headers).is_some(), fits, "{alternative}");
    }
}

#[test]
fn one_alternative_is_enough() {
    let alternatives = [json!({"port": 81}), json!({"port": 80})];
    assert_eq!(find(&[route(&["*"], &alternatives, Some(1))], &request("a", "/")), Some(1));
}
