//! Plugins and policies in front of the filter and behind it.

use std::fmt::Write as _;

use serde_json::{Value, json};
use wasmplug_testkit::jwt::Key;

use super::super::case::{Case, Request, case, get, request};
use super::super::cases;
use super::super::rbac::document;
use super::{ISSUER, bearer, claims, policy, rule};
use crate::harness::Plugin;

/// Claims for plugins to look at.
fn rich() -> Value {
    claims(json!({
        "scope": "read write", "permission": "", "mine": "a  b", "flag": true, "exp": 9_999_999_999_u64,
        "realm": { "roles": ["admin", "user"], "deep": { "er": "x" } }, "none": null,
    }))
}

/// One rule, and plugins around the filter that may know a good token.
fn around(
    more: &str,
    plugins: impl FnOnce(&str) -> Vec<Plugin>,
    requests: impl FnOnce(&str) -> Vec<Request>,
) -> Case {
    let key = Key::es256();
    let token = key.token(&rich());
    let case = case().resources(&policy(&[rule(ISSUER, &key, more)])).send(requests(&token));
    plugins(&token).into_iter().fold(case, Case::plugin)
}

fn authn(text: &str) -> Plugin {
    Plugin::guest(text).phase("AUTHN")
}

fn authz(text: &str) -> Plugin {
    Plugin::guest(text).phase("AUTHZ")
}

/// Writes what is found below the filter's metadata into headers of the request.
fn tells(texts: &[&str], numbers: &[&str]) -> String {
    let mut callback = "on request_headers:\n".to_owned();
    for (call, paths) in [("property", texts), ("number_property", numbers)] {
        for path in paths {
            let name = format!("x-{}", path.replace('.', "-"));
            let path = path.replace('.', "\\00");
            let _ = writeln!(
                callback,
                "(call $add #request '{name}' (call ${call} \
                 'metadata\\00filter_metadata\\00envoy.filters.http.jwt_authn\\00{path}'))"
            );
        }
    }
    callback
}

/// What a plugin sees, in headers of its own.
fn marks(name: &str) -> String {
    format!(
        "
    on request_headers:
        (call $add #request 'x-{name}-authorization' (call $get #request 'authorization'))
        (call $add #request 'x-{name}-sub' (call $get #request 'x-sub'))
    on response_headers:
        (call $add #response 'x-{name}-details' (call $property 'response\\00code_details'))"
    )
}

const CLAIM: &str = "outputClaimToHeaders: [{header: x-sub, claim: sub}]";

cases! {
    in_front_sees_the_token_and_behind_sees_the_claim => around(CLAIM,
        |_| vec![authn(&marks("a")), authz(&marks("b"))], |token| vec![bearer(token), get("/")]);
    in_front_sees_the_refusal_and_behind_sees_nothing => around(CLAIM,
        |_| vec![authn(&marks("a")), authz(&marks("b"))], |_| vec![bearer("x")]);
    of_later_phases_see_no_refused_request => around("",
        |_| vec![Plugin::guest(&marks("a")).phase("STATS"), Plugin::guest(&marks("b"))], |token| vec![bearer("x"), bearer(token)]);
    in_front_brings_the_token => around(CLAIM, |token| vec![authn(&format!(
        "on request_headers:\n(call $replace #request 'authorization' 'Bearer {token}')"
    )), authz(&marks("b"))], |_| vec![get("/"), bearer("x")]);
    in_front_takes_the_token_away => around("", |_| vec![authn(
        "on request_headers:\n(call $remove #request 'authorization')"
    )], |_| vec![bearer("x")]);
    in_front_breaks_the_token => around("", |_| vec![authn(
        "on request_headers:\n(call $replace #request 'authorization' 'Bearer a.b.c')"
    )], |token| vec![bearer(token)]);
    in_front_cannot_set_what_only_tokens_may => around(CLAIM, |_| vec![authn(
        "on request_headers:\n(call $add #request 'x-sub' 'spoofed')"
    ), authz(&marks("b"))], |token| vec![get("/"), bearer(token)]);
    in_front_changes_the_path => around("", |_| vec![authn(
        "on request_headers:\n(call $replace #request ':path' '/other')"
    )], |_| vec![bearer("x")]);
    in_front_answers_first => around("", |_| vec![authn(
        "on request_headers:\n(call $reply #403 'no' {x-a: 1})"
    )], |_| vec![bearer("x")]);
    in_front_holds_the_request_back => around(CLAIM, |_| vec![authn("
        on configure:
            (call $tick #1)
        on tick:
            (if (call $take_held) (then (call $continue #0)))
        on request_headers:
            (call $hold (local.get $context))
            (return #pause)
    ")], |token| vec![bearer(token), bearer("x"), request(
        "POST", "/", "authorization: Bearer x\ncontent-length: 5\n", "hello",
    )]);
    in_front_changes_the_refusal => around("", |_| vec![authn("
        on response_headers:
            (call $replace #response ':status' '302')
            (call $replace #response 'location' '/login')
            (call $remove #response 'www-authenticate')
    ")], |_| vec![bearer("x")]);
    behind_changes_the_claim => around(CLAIM, |_| vec![authz(
        "on request_headers:\n(call $replace #request 'x-sub' 'somebody')"
    )], |token| vec![bearer(token)]);
    behind_reads_claims => around("spaceDelimitedClaims: [mine]", |_| vec![authz(&tells(&[
        "payload.sub", "payload.iss", "payload.scope.0", "payload.scope.1", "payload.scope.2",
        "payload.permission", "payload.mine.0", "payload.mine.1", "payload.realm.roles.1",
        "payload.realm.deep.er", "payload.realm.deep.none", "payload.none", "payload.nothing",
        "payload.sub.x", "other",
    ], &["payload.exp"]))], |token| vec![bearer(token), get("/")]);
    in_front_reads_no_claims => around("", |_| vec![authn(&tells(&["payload.sub"], &[]))],
        |token| vec![bearer(token)]);
    reads_claims_in_the_response => around("", |_| vec![authn("
        on response_headers:
            (call $add #response 'x-sub' (call $property 'metadata\\00filter_metadata\\00envoy.filters.http.jwt_authn\\00payload\\00sub'))
            (call $add #response 'x-details' (call $property 'response\\00code_details'))
    ")], |token| vec![bearer(token), bearer("x"), get("/")]);
    reads_claims_of_the_first_of_several_tokens => {
        let key = Key::es256();
        let token = |c: &str| key.token(&claims(json!({ "c": c })));
        let rule = rule(ISSUER, &key, "fromHeaders: [{name: x-a}, {name: x-b}], fromCookies: [k]");
        case().resources(&policy(&[rule])).plugin(authz(&tells(&["payload.c"], &[]))).send([
            request("GET", "/", &format!(
                "cookie: k={}\nx-b: {}\nx-a: {}\n", token("cookie"), token("b"), token("a"),
            ), ""),
        ])
    };
    sees_why_each_kind_of_token_is_refused => around("audiences: [a]", |_| vec![authn("
        on response_headers:
            (call $add #response 'x-details' (call $property 'response\\00code_details'))
    ")], |token| vec![bearer(token), bearer("x"), bearer("!.!.!"), bearer("e30.e30.AA")]);
    policies_read_what_it_says => {
        let key = Key::es256();
        let spec = "{rules: [\
            {from: [{source: {requestPrincipals: ['https://issuer.example/me']}}], \
             to: [{operation: {paths: [/me]}}]}, \
            {to: [{operation: {paths: [/scope]}}], \
             when: [{key: 'request.auth.claims[scope]', values: [write]}]}, \
            {to: [{operation: {paths: [/role]}}], \
             when: [{key: 'request.auth.claims[realm][roles]', values: [admin]}]}, \
            {to: [{operation: {paths: [/aud]}}], \
             when: [{key: request.auth.audiences, values: [a]}, {key: request.auth.presenter, values: [p]}]}]}";
        let resources =
            format!("{}{}", policy(&[rule(ISSUER, &key, "")]), document("p", "{}", spec));
        let tokens = [
            rich(),
            claims(json!({ "sub": "you", "scope": "read", "realm": { "roles": "admin" }, "aud": "a" })),
            claims(json!({ "aud": ["b", "a"], "azp": "p", "scope": ["write"] })),
        ].map(|claims| key.token(&claims));
        let mut requests = Vec::new();
        for path in ["/me", "/scope", "/role", "/aud"] {
            requests.extend(tokens.iter().map(|token| {
                request("GET", path, &format!("authorization: Bearer {token}\n"), "")
            }));
            requests.push(get(path));
        }
        case().resources(&resources).send(requests)
    };
    policies_see_no_refused_token => {
        let key = Key::es256();
        let resources =
            format!("{}{}", policy(&[rule(ISSUER, &key, "")]), document("p", "{}", "{}"));
        case().resources(&resources).send([bearer("x"), bearer(&key.token(&rich())), get("/")])
    };
}
