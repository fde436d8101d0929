//! Where tokens are found, one or several, of one rule or of several.

use serde_json::json;
use wasmplug_testkit::jwt::Key;

use super::super::case::{Case, Request, case, get, request};
use super::super::cases;
use super::{ISSUER, bearer, claims, one_rule, policy, rule};

const OTHER: &str = "https://other.example";

/// Good tokens of the two issuers, and bad ones.
struct Tokens {
    one: String,
    two: String,
    one_expired: String,
    two_expired: String,
    unknown: String,
}

/// A rule for each of two issuers, and what is sent to them.
fn two_rules(first: &str, second: &str, requests: impl FnOnce(&Tokens) -> Vec<Request>) -> Case {
    let (one, two) = (Key::es256(), Key::es384());
    let of_two = |more: serde_json::Value| {
        let mut all = claims(more);
        all["iss"] = OTHER.into();
        two.token(&all)
    };
    let tokens = Tokens {
        one: one.token(&claims(json!({ "c": "v1" }))),
        two: of_two(json!({ "c": "v2" })),
        one_expired: one.token(&claims(json!({ "exp": 1 }))),
        two_expired: of_two(json!({ "exp": 1 })),
        unknown: one.token(&json!({ "iss": "https://unknown.example" })),
    };
    let requests = requests(&tokens);
    case()
        .resources(&policy(&[rule(ISSUER, &one, first), rule(OTHER, &two, second)]))
        .send(requests)
}

/// A GET with these headers, each `name: value`.
fn with(headers: &[String]) -> Request {
    request("GET", "/", &format!("{}\n", headers.join("\n")), "")
}

fn good(key: &Key) -> String {
    key.token(&claims(json!({})))
}

const SORTED: &str = "what else is in the query stays as it came; Envoy sorts and decodes it";

cases! {
    in_the_query => one_rule("", |key| {
        let token = good(key);
        vec![
            get(&format!("/a?access_token={token}")),
            get(&format!("/a?access_token={token}&b=1")),
            get(&format!("/a?access%5Ftoken={}", token.replace('.', "%2E"))),
            get(&format!("/a?access_token={token}&access_token=x")),
            get(&format!("/a?access_token=x&access_token={token}")),
            get("/a?access_token="), get("/a?access_token"), get("/a?access_token=x&b=1"),
            get("/a?xaccess_token=x"), get("/access_token=x"),
        ]
    });
    in_the_query_among_others => one_rule("fromParams: [t]", |key| vec![
        get(&format!("/a?t={}&b=%26&a=2&c", good(key))),
    ]).upstream(|| wasmplug_testkit::Upstream::scripted(|_| wasmplug_testkit::Reply::new(200).into()))
    .expected_difference(SORTED, &["-GET /a?a=2&b=&&c= HTTP/1.1", "+GET /a?b=%26&a=2&c HTTP/1.1"]);
    in_the_header => one_rule("", |key| {
        let token = good(key);
        vec![
            with(&[format!("authorization: Bearer {token}")]),
            with(&[format!("authorization: some Bearer !!{token}")]),
            with(&[format!("authorization: bearer {token}")]),
            with(&[format!("authorization: {token}")]),
            with(&["authorization: Bearer".to_owned()]),
            with(&["authorization: Bearer !!".to_owned()]),
            with(&["authorization: Basic YTpi".to_owned()]),
        ]
    });
    in_the_header_twice => one_rule("", |key| {
        let token = good(key);
        vec![
            with(&[format!("authorization: Bearer {token}"), format!("authorization: Bearer {token}")]),
            with(&["authorization: Basic YTpi".to_owned(), format!("authorization: Bearer {token}")]),
            with(&[format!("authorization: Bearer {token}"), "authorization: Basic YTpi".to_owned()]),
        ]
    });
    in_the_header_and_in_the_query => one_rule("", |key| {
        let token = good(key);
        let both = |header: &str, query: &str| request(
            "GET", &format!("/?access_token={query}"), &format!("authorization: Bearer {header}\n"), "",
        );
        vec![both(&token, &token), both("x", &token), both(&token, "x"), both("x", "a.b.c")]
    });
    in_own_headers => one_rule(
        "fromHeaders: [{name: X-Token}, {name: x-other, prefix: 'Tok '}]",
        |key| {
            let token = good(key);
            vec![
                with(&[format!("x-token: {token}")]),
                with(&[format!("x-other: Tok {token}")]),
                with(&[format!("x-other: {token}")]),
                with(&[format!("x-token: {token}"), format!("x-other: Tok {token}")]),
                with(&[format!("x-token: {token}"), "x-other: Tok x".to_owned()]),
                with(&["x-token: x".to_owned(), format!("x-other: Tok {token}")]),
                with(&[format!("x-token: {token}"), format!("x-token: {token}")]),
                with(&[format!("x-token: {token}"), "x-token: x".to_owned()]),
                with(&["x-token: x".to_owned(), format!("x-token: {token}")]),
                with(&[format!("x-other: Tok {token}"), "x-other: no".to_owned()]),
                with(&["x-token:".to_owned()]),
                // The usual places are none any more.
                bearer("x"), get("/?access_token=x"),
            ]
        },
    );
    in_cookies => one_rule("fromCookies: [k, l]", |key| {
        let token = good(key);
        [
            format!("k={token}"), format!("z=1;  k={token}; y"), format!("k=\"{token}\""),
            format!("k={token}; k=x"), format!("k=x; k={token}"), "k=".to_owned(),
            format!("k ={token}"), format!("k={token} ;z=1"), format!("k={token}; l={token}"),
            format!("k={token}; l=x"), "kk=x; m".to_owned(),
        ].iter().map(|cookie| with(&[format!("cookie: {cookie}")])).collect()
    });
    in_two_cookie_headers => one_rule("fromCookies: [k]", |key| vec![
        with(&["cookie: a=b".to_owned(), format!("cookie: k={}", good(key))]),
    ]);
    in_every_kind_of_place => one_rule(
        "fromHeaders: [{name: x-token}], fromParams: [t, s], fromCookies: [k]",
        |key| {
            let token = good(key);
            let all = |header: &str, query: &str, cookie: &str| request(
                "GET", &format!("/?t={query}"), &format!("x-token: {header}\ncookie: k={cookie}\n"), "",
            );
            vec![
                all(&token, &token, &token), all("x", &token, &token), all(&token, "x", &token),
                all(&token, &token, "x"), get(&format!("/?t={token}&s={token}")),
                get(&format!("/?t={token}&s=x")), get(&format!("/?s={token}")),
            ]
        },
    );
    in_the_host => one_rule("fromHeaders: [{name: host}], forwardOriginalToken: true", |key| vec![
        format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", good(key)).into(), get("/"),
    ]);

    of_two_rules_in_one_place => two_rules("", "", |tokens| vec![
        bearer(&tokens.one), bearer(&tokens.two), bearer(&tokens.one_expired),
        bearer(&tokens.two_expired), bearer(&tokens.unknown), bearer("x"), get("/"),
    ]);
    of_two_rules_in_two_usual_places => two_rules("", "", |tokens| {
        let both = |header: &str, query: &str| request(
            "GET", &format!("/?access_token={query}"), &format!("authorization: Bearer {header}\n"), "",
        );
        vec![
            both(&tokens.one, &tokens.two), both(&tokens.two, &tokens.one),
            both(&tokens.one, &tokens.unknown), both(&tokens.one_expired, &tokens.two),
        ]
    });
    of_two_rules_in_their_own_places => two_rules(
        "fromHeaders: [{name: x-one}]", "fromHeaders: [{name: x-two}], fromCookies: [k]",
        |tokens| {
            let both = |one: &str, two: &str| with(&[format!("x-one: {one}"), format!("x-two: {two}")]);
            vec![
                both(&tokens.one, &tokens.two), both(&tokens.one, "x"), both("x", &tokens.two),
                both("x", "x"), both(&tokens.two, &tokens.one),
                both(&tokens.one_expired, &tokens.unknown), both(&tokens.unknown, &tokens.two_expired),
                both(&tokens.unknown, &tokens.unknown), both(&tokens.unknown, "x"),
                with(&[format!("x-two: {}", tokens.two), "cookie: k=x".to_owned()]),
                with(&["x-two: x".to_owned(), format!("cookie: k={}", tokens.two)]),
                with(&["x-two: x".to_owned()]), get("/"),
            ]
        },
    );
    // A good token of a header takes the header away, and with it the bad one that was there.
    of_two_rules_of_which_one_finds_a_bad_token_beside_a_good_one => two_rules(
        "fromHeaders: [{name: x-one}], outputClaimToHeaders: [{header: x-c, claim: c}]",
        "fromHeaders: [{name: x-two}]",
        |tokens| vec![
            with(&["x-one: x".to_owned(), format!("x-one: {}", tokens.one)]),
            with(&[format!("x-one: {}", tokens.one), "x-one: x".to_owned()]),
            with(&["x-one: x".to_owned(), format!("x-one: {}", tokens.one), "x-two: x".to_owned()]),
        ],
    );
    of_two_rules_for_one_issuer => {
        let key = Key::es256();
        let rules = [rule(ISSUER, &key, "audiences: [a]"), rule(ISSUER, &key, "audiences: [b]")];
        let tokens = ["a", "b", "c"].map(|audience| key.token(&claims(json!({ "aud": audience }))));
        case().resources(&policy(&rules)).send(tokens.map(|token| bearer(&token)))
    };
    of_three_rules_the_failure_that_says_most => {
        let keys = [Key::es256(), Key::es256(), Key::es256()];
        let issuers = ["https://a.example", "https://b.example", "https://c.example"];
        let rules: Vec<String> =
            issuers.iter().zip(&keys).map(|(issuer, key)| rule(issuer, key, "")).collect();
        let token = |index: usize, more: serde_json::Value| {
            let mut all = claims(more);
            all["iss"] = issuers[index].into();
            keys[index].token(&all)
        };
        case().resources(&policy(&rules)).send([
            bearer(&token(0, json!({ "exp": 1 }))), bearer(&token(1, json!({ "exp": 1 }))),
            bearer(&token(2, json!({ "exp": 1 }))), bearer(&token(1, json!({}))),
            bearer(&keys[0].token(&json!({ "iss": "https://d.example" }))), get("/"),
        ])
    };
}
