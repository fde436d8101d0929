//! What the upstream gets of a token: headers, the token itself, or nothing.

use serde_json::{Value, json};
use wasmplug_testkit::jwt::Key;

use super::super::case::{Case, Request, case, get, request};
use super::super::cases;
use super::{ISSUER, bearer, claims, one_rule, policy, rule};

/// A claim `c` in the header `x-c`, with each of these values.
fn values(values: &[Value]) -> Case {
    one_rule("outputClaimToHeaders: [{header: X-C, claim: c}]", |key| {
        values.iter().map(|value| bearer(&key.token(&claims(json!({ "c": value }))))).collect()
    })
}

/// These claims in headers of their own.
fn outputs(outputs: &[(&str, &str)], claims: Value) -> Case {
    let outputs: Vec<String> = outputs
        .iter()
        .map(|(header, claim)| format!("{{header: '{header}', claim: '{claim}'}}"))
        .collect();
    let more = format!("outputClaimToHeaders: [{}]", outputs.join(", "));
    one_rule(&more, |key| vec![bearer(&key.token(&super::claims(claims)))])
}

fn spoofing(token: Option<&str>) -> Request {
    let token = token.map(|token| format!("authorization: Bearer {token}\n")).unwrap_or_default();
    let spoofed = "x-one: spoofed\nX-Two: spoofed\nx-payload: spoofed\nx-kept: kept\n";
    request("GET", "/", &format!("{spoofed}{token}"), "")
}

cases! {
    the_token_is_taken_out => one_rule("", |key| vec![
        bearer(&key.token(&claims(json!({})))), get(&format!("/?access_token={}", key.token(&claims(json!({}))))),
    ]);
    the_token_is_forwarded => one_rule("forwardOriginalToken: true", |key| vec![
        bearer(&key.token(&claims(json!({})))),
        get(&format!("/?b=1&access_token={}&a=2", key.token(&claims(json!({}))))),
    ]);
    the_payload => one_rule("outputPayloadToHeader: X-Payload", |key| vec![
        bearer(&key.token(&claims(json!({ "a": [1, "ü"] })))),
        bearer(&key.token_of(&key.header(), format!("{{\"iss\": \"{ISSUER}\" }} ").as_bytes())),
    ]);
    the_payload_of_a_forwarded_token => one_rule(
        "outputPayloadToHeader: x-payload, forwardOriginalToken: true",
        |key| vec![bearer(&key.token(&claims(json!({}))))],
    );
    texts => values(&[json!("v"), json!(""), json!("ü"), json!("a b\tc"), json!("a,b")]);
    numbers => values(&[
        json!(0), json!(1), json!(-1), json!(1.5), json!(-0.5), json!(1e15), json!(123_456_789),
        json!(1_700_000_000), json!(1e19), json!(1.9e19), json!(1e300), json!(0.000_000_1),
        json!(9_007_199_254_740_993_i64), json!(u64::MAX), json!(i64::MIN),
    ]);
    flags_and_nothing => values(&[json!(true), json!(false), json!(null)]);
    lists_and_objects => values(&[
        json!([]), json!({}), json!(["a", "b"]), json!({ "a": [{ "b": null }] }),
        json!([1.0, 1.5, 1e21, 1e-7, -3, 0.1, 1e15, 123_456_789_012_345_u64, 1e16, 0.0001]),
        json!(["<>&\u{2028}\u{2029}\u{fc}\u{7f}\u{80}\u{9f}\u{ad}\u{feff}'\"\\/\u{1}\u{8}\u{c}\n\r\t"]),
        json!(["\u{1f600}\u{200b}\u{600}\u{70f}\u{17b4}\u{202a}\u{2060}\u{fff9}\u{1d173}\u{e0001}"]),
    ]);
    nested_claims => outputs(
        &[("x-a", "a.b.c"), ("x-b", "a.b"), ("x-c", "a.x"), ("x-d", "a.b.c.d"), ("x-e", "d.e"), ("x-f", "a.l.0")],
        json!({ "a": { "b": { "c": "v" }, "l": ["i"] }, "d.e": "literal" }),
    );
    a_claim_that_is_not_there => outputs(&[("x-a", "nothing"), ("x-b", "sub")], json!({}));
    several_claims_in_one_header => outputs(&[("x-a", "a"), ("x-a", "b"), ("X-A", "sub")], json!({ "a": 1, "b": 2 }));
    a_header_that_holds_one_value => outputs(
        &[("user-agent", "a"), ("user-agent", "b")], json!({ "a": 1, "b": 2 }),
    );
    a_claim_that_names_the_host => outputs(&[("host", "h")], json!({ "h": "other.test" }));
    a_header_in_place_of_the_token => one_rule(
        "fromHeaders: [{name: x-token}], outputClaimToHeaders: [{header: x-sub, claim: sub}]",
        |key| vec![request("GET", "/", &format!("x-token: {}\n", key.token(&claims(json!({})))), "")],
    );
    a_header_that_is_where_the_token_is => one_rule(
        "outputClaimToHeaders: [{header: authorization, claim: sub}]",
        |key| vec![bearer(&key.token(&claims(json!({}))))],
    );
    spoofed_headers => {
        let (one, two) = (Key::es256(), Key::es384());
        let rules = [
            rule(ISSUER, &one, "outputClaimToHeaders: [{header: x-one, claim: sub}], outputPayloadToHeader: X-Payload"),
            rule("https://other.example", &two, "outputClaimToHeaders: [{header: x-two, claim: sub}]"),
        ];
        let of_two = two.token(&json!({ "iss": "https://other.example", "sub": "two" }));
        case().resources(&policy(&rules)).send([
            spoofing(None), spoofing(Some(&one.token(&claims(json!({}))))), spoofing(Some(&of_two)),
            spoofing(Some("x")),
        ])
    };
    of_several_tokens => one_rule(
        "fromHeaders: [{name: x-a}, {name: x-b}], fromCookies: [k], \
         outputClaimToHeaders: [{header: x-c, claim: c}]",
        |key| {
            let token = |value: &str| key.token(&claims(json!({ "c": value })));
            vec![request("GET", "/", &format!(
                "x-b: {}\nx-a: {}\nx-b: {}\ncookie: k={}\n", token("1"), token("2"), token("3"), token("4"),
            ), "")]
        },
    );
    a_value_that_no_header_can_have => values(&[json!("a\nb"), json!("a\r\nx-evil: 1"), json!("\0")]);
}
