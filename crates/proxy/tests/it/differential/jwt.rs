//! `RequestAuthentication`: tokens, where they are, and what becomes of them.
//!
//! Envoy has the configuration that Istio would generate.

mod outputs;
mod places;
mod plugins;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use wasmplug_testkit::jwt::{Key, encode, jwks};

use super::case::{Case, Request, case, get, request};
use super::cases;

/// The issuer that most rules are about.
const ISSUER: &str = "https://issuer.example";

/// A policy with these rules, each as it stands in a list of YAML.
fn policy(rules: &[String]) -> String {
    let rules = rules.join("\n    - ");
    format!(
        "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\n\
         metadata: {{name: jwt, namespace: default}}\nspec:\n  jwtRules:\n    - {rules}\n"
    )
}

/// A rule for an issuer with this key; `more` are further fields in YAML's short form.
fn rule(issuer: &str, key: &Key, more: &str) -> String {
    let comma = if more.is_empty() { "" } else { ", " };
    format!("{{issuer: '{issuer}', jwks: '{}'{comma}{more}}}", jwks([key]))
}

/// One rule with one new key, and what is sent to it.
fn one_rule(more: &str, requests: impl FnOnce(&Key) -> Vec<Request>) -> Case {
    with_key(&Key::es256(), more, requests)
}

fn with_key(key: &Key, more: &str, requests: impl FnOnce(&Key) -> Vec<Request>) -> Case {
    let requests = requests(key);
    case().resources(&policy(&[rule(ISSUER, key, more)])).send(requests)
}

/// One rule with one new key, and a request for each token.
fn tokens(tokens: impl FnOnce(&Key) -> Vec<String>) -> Case {
    one_rule("", |key| tokens(key).iter().map(|token| bearer(token)).collect())
}

/// Tokens whose payloads are these texts, well signed.
fn payloads(payloads: &[&str]) -> Case {
    tokens(|key| {
        payloads.iter().map(|payload| key.token_of(&key.header(), payload.as_bytes())).collect()
    })
}

/// A request with a token where it usually is.
fn bearer(token: &str) -> Request {
    request("GET", "/", &format!("authorization: Bearer {token}\n"), "")
}

/// Claims of the issuer, and these further ones.
fn claims(more: Value) -> Value {
    let mut claims = json!({ "iss": ISSUER, "sub": "me" });
    if let (Value::Object(claims), Value::Object(more)) = (&mut claims, more) {
        claims.extend(more);
    }
    claims
}

/// The moment, so many seconds later.
fn from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

/// A good token of each key.
fn of_each(keys: &[Key]) -> Case {
    let tokens: Vec<Request> =
        keys.iter().map(|key| bearer(&key.token(&claims(json!({}))))).collect();
    let rule = format!("{{issuer: '{ISSUER}', jwks: '{}'}}", jwks(keys));
    case().resources(&policy(&[rule])).send(tokens)
}

const ALL_OF_RSA: [&str; 6] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

const LENIENT_JSON: &str = "a payload that is no JSON by RFC 8259 is refused";

/// Envoy lets a request of [`bearer`] pass, and we do not.
macro_rules! refused {
    ($length:literal, $text:literal) => {
        &[
            "-HTTP/1.1 200 OK",
            "-content-type: application/json",
            "-x-upstream: echo",
            "-content-length: 217",
            "-x-envoy-upstream-service-time: (varies)",
            "+HTTP/1.1 401 Unauthorized",
            "+www-authenticate: Bearer realm=\"http://example.test/\", error=\"invalid_token\"",
            concat!("+content-length: ", $length),
            "+content-type: text/plain",
            "-{\"method\":\"GET\",\"path\":\"/\",\"version\":\"HTTP/1.1\",\"headers\":\
             [[\"host\",\"example.test\"],[\"x-forwarded-proto\",\"http\"],\
             [\"x-request-id\",\"(varies)\"]],\"body\":\"\",\"body_encoding\":\"text\",\
             \"trailers\":[]}",
            "-# upstream",
            "-GET / HTTP/1.1",
            "-host: example.test",
            "-x-forwarded-proto: http",
            "-x-request-id: (varies)",
            "-",
            concat!("+", $text),
        ]
    };
}
const NOT_JSON: &[&str] = refused!("30", "Jwt payload is an invalid JSON");
const BADLY_SIGNED: &[&str] = refused!("22", "Jwt verification fails");

cases! {
    none_passes => one_rule("", |_| vec![get("/")]);
    good => tokens(|key| vec![key.token(&claims(json!({})))]);
    of_elliptic_curves => of_each(&[
        Key::es256().with_kid("a"), Key::es384().with_kid("b"), Key::es512().with_kid("c"),
        Key::ed25519().with_kid("d"),
    ]);
    of_rsa => of_each(&ALL_OF_RSA.map(|alg| Key::rsa().with_alg(alg).with_kid(alg)));
    of_rsa_whose_key_names_its_algorithm =>
        of_each(&ALL_OF_RSA.map(|alg| Key::rsa().with_alg(alg).naming_alg()));
    // The first key that could be meant need not be the one.
    of_the_second_key_without_ids => of_each(&[Key::es256(), Key::es256(), Key::es256()]);

    expired => tokens(|key| [-90, -61, -30, 30].map(from_now).map(|exp| {
        key.token(&claims(json!({ "exp": exp })))
    }).into());
    not_yet_valid => tokens(|key| [90, 70, 30, -30].map(from_now).map(|nbf| {
        key.token(&claims(json!({ "nbf": nbf })))
    }).into());
    expired_and_not_yet_valid => tokens(|key| vec![
        key.token(&claims(json!({ "nbf": from_now(90), "exp": from_now(-90) }))),
    ]);
    that_never_expires => tokens(|key| vec![key.token(&claims(json!({ "exp": 0 })))]);
    of_another_issuer => tokens(|key| vec![
        key.token(&json!({ "iss": "https://other.example" })),
        key.token(&json!({ "iss": "https://issuer.example/" })),
        key.token(&json!({})),
    ]);
    of_any_issuer => {
        let key = Key::es256();
        let rule = "{jwksUri: 'http://127.0.0.1:1/', audiences: [a]}".to_owned();
        // Without keys, so that nothing but the order of the checks is compared.
        case().resources(&policy(&[rule])).send([
            bearer(&key.token(&json!({ "aud": "b" }))),
            bearer(&key.token(&json!({ "iss": "any", "aud": "a" }))),
        ])
    };
    for_another_audience => one_rule("audiences: [a, 'https://b/', 'http://c']", |key| {
        let audiences = [
            json!("a"), json!(["z", "a"]), json!("b"), json!("https://b"), json!("http://b/"),
            json!("c/"), json!("https://c"), json!("b//"), json!("HTTPS://b"), json!(""),
            json!([]), json!("z"),
        ];
        let mut requests: Vec<Request> = audiences.into_iter().map(|audience| {
            bearer(&key.token(&claims(json!({ "aud": audience }))))
        }).collect();
        requests.push(bearer(&key.token(&claims(json!({})))));
        requests
    });
    for_another_audience_and_expired => one_rule("audiences: [a]", |key| vec![
        bearer(&key.token(&claims(json!({ "aud": "z", "exp": 1 })))),
        bearer(&Key::es256().token(&claims(json!({ "aud": "z" })))),
    ]);
    of_an_unknown_key => tokens(|_| vec![Key::es256().token(&claims(json!({})))]);
    of_an_unknown_id => with_key(&Key::es256().with_kid("a"), "", |key| vec![
        bearer(&Key::es256().with_kid("b").token(&claims(json!({})))),
        bearer(&key.token(&claims(json!({})))),
    ]);
    without_an_id_where_keys_have_them => with_key(&Key::es256().with_kid("a"), "", |key| vec![
        bearer(&key.token_of(&json!({ "alg": "ES256" }), claims(json!({})).to_string().as_bytes())),
    ]);
    of_an_algorithm_that_is_not_the_keys => with_key(&Key::rsa().naming_alg(), "", |_| vec![
        bearer(&Key::rsa().with_alg("PS256").token(&claims(json!({})))),
        bearer(&Key::es256().token(&claims(json!({})))),
    ]);
    of_an_algorithm_of_another_kind => with_key(&Key::es256(), "", |_| vec![
        bearer(&Key::rsa().token(&claims(json!({})))),
        bearer(&Key::hmac().token(&claims(json!({})))),
    ]);
    // Whatever it calls itself, it is signed as ES256.
    that_names_an_algorithm_of_another_kind => with_key(&Key::es256(), "", |key| vec![
        bearer(&key.token_of(&json!({ "alg": "RS256" }), claims(json!({})).to_string().as_bytes())),
    ]).expected_difference("a key is used only with algorithms of its kind", BADLY_SIGNED);
    whose_signature_goes_on => tokens(|key| vec![format!("{}x", key.token(&claims(json!({}))))])
        .expected_difference("a signature is as long as RFC 7518 says", BADLY_SIGNED);
    whose_signature_has_the_wrong_length => with_key(&Key::ed25519(), "", |key| {
        let token = key.token(&claims(json!({})));
        let (signed, _) = token.rsplit_once('.').unwrap();
        vec![bearer(&format!("{signed}.{}", encode("short"))), bearer(&token)]
    });
    whose_signature_is_of_another => tokens(|key| {
        let (one, other) = (key.token(&claims(json!({}))), key.token(&claims(json!({ "a": 1 }))));
        let (signed, _) = one.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        vec![format!("{signed}.{signature}")]
    });
    without_a_signature => tokens(|key| {
        let token = key.token(&claims(json!({})));
        let (signed, _) = token.rsplit_once('.').unwrap();
        let none = format!("{}.{}", encode(r#"{"alg":"none"}"#), encode(claims(json!({})).to_string()));
        vec![signed.to_owned(), format!("{signed}."), format!("{none}."), format!("{none}.AA")]
    });

    that_are_no_tokens => tokens(|_| ["x", "a.b", "a.b.c.d", "..", ".a.b", "a b", "!!", "!!.a.b.c"]
        .map(str::to_owned).into());
    with_a_broken_header => tokens(|key| {
        let header = |text: &str| key.token_of_parts(&encode(text), &encode("{}"));
        vec![
            key.token_of_parts("!a", &encode("{}")), header("{"), header("[]"), header("null"),
            header("{}"), header(r#"{"alg":1}"#), header(r#"{"alg":"none"}"#),
            header(r#"{"alg":"es256"}"#), header(r#"{"alg":"ES256","kid":1}"#),
            header(r#"{"alg":"ES256","alg":"ES256"}"#), header(""),
        ]
    });
    with_a_broken_payload => tokens(|key| {
        let payload = |text: &str| key.token_of(&key.header(), text.as_bytes());
        vec![
            key.token_of_parts(&encode(key.header().to_string()), "a"), payload("{"), payload("[]"),
            payload("null"), payload("\"a\""), payload("{} x"), payload(""),
            key.token_of(&key.header(), b"{\"a\":\"\xff\"}"), payload("\u{feff}{}"),
            payload(r#"{"a":1,"a":1}"#), payload(r#"{"b":{"a":1,"\u0061":2}}"#),
            payload(r#"{"a":1e400}"#), payload(r#"{"a":01}"#), payload(r#"{"a":NaN}"#),
            payload(r#"{"a":"\ud800"}"#), payload(r#"{"a":1.}"#), payload(r#"{"a":"\x"}"#),
        ]
    });
    with_claims_of_other_types => payloads(&[
        r#"{"iss":1}"#, r#"{"iss":null}"#, r#"{"iss":"https://issuer.example","sub":1}"#,
        r#"{"iat":"1"}"#, r#"{"iat":-1}"#, r#"{"nbf":"1"}"#, r#"{"nbf":-1}"#, r#"{"exp":"1"}"#,
        r#"{"exp":-1}"#, r#"{"exp":1e30}"#, r#"{"jti":1}"#, r#"{"aud":1}"#, r#"{"aud":["a",1]}"#,
        r#"{"aud":{}}"#,
    ]);
    with_unusual_but_good_json => payloads(&[
        " \n{\"iss\":\"https://issuer.example\"}\t ",
        r#"{"iss":"https:\/\/issuer.example"}"#,
        r#"{"iss":"https://issuer.example","a":123456789012345678901234567890,"b":-0}"#,
        r#"{"iss":"https://issuer.example","iat":1.5,"exp":9999999999.5}"#,
    ]);
    with_a_comma_too_many => payloads(&[r#"{"iss":"https://issuer.example",}"#])
        .expected_difference(LENIENT_JSON, NOT_JSON);
    with_single_quotes => payloads(&["{'iss':'https://issuer.example'}"])
        .expected_difference(LENIENT_JSON, NOT_JSON);
    with_a_name_without_quotes => payloads(&[r#"{iss:"https://issuer.example"}"#])
        .expected_difference(LENIENT_JSON, NOT_JSON);
    with_a_line_break_in_a_text => payloads(&["{\"iss\":\"https://issuer.example\",\"a\":\"\n\"}"])
        .expected_difference(LENIENT_JSON, NOT_JSON);
    nested_as_deeply_as_can_be => payloads(&[
        &nested("[", "]", 99), &nested("{\"a\":", "}", 99), &nested("[", "]", 100),
        &nested("{\"a\":", "}", 100), &nested("[", "]", 10_000),
    ]);
    whose_parts_are_padded_or_broken_up => tokens(|key| {
        let token = key.token(&claims(json!({})));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        vec![
            token.replace('.', ".."), format!("{token}=="), format!("{token}="),
            format!("{signed}.{} {}", &signature[..20], &signature[20..]), format!("{token} = ="),
            format!("{token},x"), format!("{token}\u{fc}"),
        ]
    });
    that_are_not_even_text => one_rule("", |_| vec![
        [&b"GET / HTTP/1.1\r\nhost: h\r\nauthorization: Bearer \xff\xfe.a.b\r\n\r\n"[..]].concat(),
        [&b"GET / HTTP/1.1\r\nhost: h\r\nauthorization: Bearer a\xff.a.b\r\n\r\n"[..]].concat(),
    ]);
    of_many_kilobytes => tokens(|key| vec![
        key.token(&claims(json!({ "a": "x".repeat(20_000) }))), "a".repeat(30_000),
        format!("{}.{}.{}", encode("[".repeat(9_000)), "b".repeat(9_000), "c".repeat(9_000)),
    ]);
    without_keys => {
        let rule = format!("{{issuer: '{ISSUER}', jwksUri: 'http://127.0.0.1:1/keys'}}");
        let keys = [Key::es256(), Key::rsa(), Key::ed25519(), Key::es256().with_kid("k")];
        let mut requests: Vec<Request> =
            keys.iter().map(|key| bearer(&key.token(&claims(json!({}))))).collect();
        requests.extend([bearer(&keys[0].token(&claims(json!({ "exp": 1 })))), get("/")]);
        case().resources(&policy(&[rule])).send(requests)
    };

    to_a_long_path => one_rule("", |_| [254, 255, 256, 257, 400].map(|length| {
        request("GET", &format!("/{}", "a".repeat(length)), "authorization: Bearer x\n", "")
    }).into());
    to_a_path_that_was_another => one_rule("", |_| vec![
        request("GET", "/now", "x-envoy-original-path: /then?a=b\nauthorization: Bearer x\n", ""),
    ]);
    in_a_head_and_a_post => one_rule("", |_| vec![
        request("HEAD", "/", "authorization: Bearer x\n", ""),
        request("POST", "/", "authorization: Bearer x\ncontent-length: 0\n", ""),
        get("/"),
    ]);
    in_a_post_with_a_body => one_rule("", |key| vec![
        request("POST", "/", &format!(
            "authorization: Bearer {}\ncontent-length: 5\n", key.token(&claims(json!({})))
        ), "hello"),
        request("POST", "/", "authorization: Bearer x\ncontent-length: 5\n", "hello"),
    ]);
    of_grpc => one_rule("audiences: [a]", |key| vec![
        request("POST", "/", "content-type: application/grpc\ncontent-length: 0\nauthorization: Bearer x\n", ""),
        request("POST", "/", &format!(
            "content-type: application/grpc\ncontent-length: 0\nauthorization: Bearer {}\n",
            key.token(&claims(json!({})))
        ), ""),
    ]);
    over_http2 => one_rule("", |key| vec![
        bearer(&key.token(&claims(json!({})))), bearer("x"), get("/"),
    ]).http2();
    in_a_preflight => one_rule("outputClaimToHeaders: [{header: x-sub, claim: sub}]", |_| {
        let preflight = |headers: &str| request(
            "OPTIONS", "/", &format!("authorization: Bearer x\nx-sub: spoofed\n{headers}"), "",
        );
        vec![
            preflight("origin: o\naccess-control-request-method: GET\n"),
            preflight("origin:\naccess-control-request-method: GET\n"),
            preflight("access-control-request-method: GET\n"),
            preflight("origin: o\n"),
            request("GET", "/", "authorization: Bearer x\norigin: o\naccess-control-request-method: GET\n", ""),
        ]
    });
}

/// A payload with this many levels below the outermost object.
fn nested(open: &str, close: &str, depth: usize) -> String {
    let (open, close) = (open.repeat(depth), close.repeat(depth));
    format!(
        "{{\"iss\":\"{ISSUER}\",\"x\":{open}{}{close}}}",
        if close.starts_with('}') { "1" } else { "" }
    )
}
