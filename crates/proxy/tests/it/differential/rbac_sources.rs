//! Who asks, and conditions.

use super::case::{Case, Request, get, request};
use super::cases;
use super::rbac::{policy, with};

/// A policy that allows one source.
fn allows(source: &str) -> Case {
    policy(&format!("{{rules: [{{from: [{{source: {source}}}]}}]}}"))
}

/// A policy that refuses one source.
fn denies(source: &str) -> Case {
    policy(&format!("{{action: DENY, rules: [{{from: [{{source: {source}}}]}}]}}"))
}

/// A policy that allows under a condition.
fn when(key: &str, values: &str) -> Case {
    policy(&format!("{{rules: [{{when: [{{key: '{key}', {values}}}]}}]}}"))
}

/// A policy that refuses under a condition.
fn denies_when(key: &str, values: &str) -> Case {
    policy(&format!("{{action: DENY, rules: [{{when: [{{key: '{key}', {values}}}]}}]}}"))
}

/// From an address behind the peer.
fn forwarded(address: &str) -> Request {
    with(&format!("x-forwarded-for: {address}\n"))
}

/// Every form of one header.
fn headers() -> [Request; 9] {
    [
        "",
        "x-a: b\n",
        "x-a: B\n",
        "X-A: b\n",
        "x-a:   b  \n",
        "x-a: b,c\n",
        "x-a: c\nx-a: b\n",
        "x-a: abc\n",
        "x-a:\n",
    ]
    .map(with)
}

cases! {
    without_an_identity_no_principal_matches => allows("{principals: [td/ns/a/sa/b]}").send([get("/")]);
    without_an_identity_not_even_any_principal_matches => allows("{principals: ['*']}").send([get("/")]);
    without_an_identity_a_negation_matches => allows("{notPrincipals: ['*']}").send([get("/")]);
    without_an_identity_a_negation_refuses => denies("{notPrincipals: [td/ns/a/sa/b, '*/sa/b', 'td/*']}")
        .send([get("/")]);
    without_an_identity_there_is_no_namespace => allows("{namespaces: [a, 'b*']}").send([get("/")]);
    without_an_identity_another_namespace_is_refused => denies("{notNamespaces: [a]}").send([get("/")]);
    without_an_identity_there_is_no_service_account => allows("{serviceAccounts: [a/b, c]}").send([get("/")]);
    without_an_identity_other_service_accounts_are_refused => denies("{notServiceAccounts: [a/b]}")
        .send([get("/")]);
    without_an_identity_there_is_no_trust_domain => allows("{trustDomains: [a, '*', '*.b']}")
        .send([get("/")]);
    without_an_identity_other_trust_domains_are_refused => denies("{notTrustDomains: ['*']}")
        .send([get("/")]);
    without_a_token_there_is_no_request_principal => allows("{requestPrincipals: ['*']}").send([get("/")]);
    without_a_token_a_negation_matches => denies(
        "{notRequestPrincipals: ['*', 'a/b', 'a/*', '*/b', 'a*', '*b', a]}",
    ).send([get("/")]);
    the_address_of_the_peer => allows("{ipBlocks: [127.0.0.1]}")
        .send([get("/"), forwarded("10.1.2.3"), forwarded("127.0.0.2")]);
    a_block_with_the_peer => allows("{ipBlocks: [10.0.0.0/8, 127.1.2.3/8]}").send([get("/")]);
    a_block_without_the_peer => allows("{ipBlocks: [10.0.0.0/8, '::/0']}").send([get("/")]);
    all_peers_but_this => allows("{notIpBlocks: [127.0.0.0/8]}").send([get("/")]);
    a_refused_peer => denies("{ipBlocks: [0.0.0.0/0]}").send([get("/"), forwarded("10.1.2.3")]);
    the_address_of_the_client => allows("{remoteIpBlocks: [10.0.0.0/8, '2001:db8::/32']}").send([
        "10.1.2.3", "11.1.2.3", "11.1.2.3, 10.1.2.3", "10.1.2.3, 11.1.2.3", "2001:db8::1",
        "2001:db9::1", "::ffff:10.1.2.3", "10.1.2.3, ", "10.1.2.3:80", "[2001:db8::1]",
        "010.1.2.3", "unknown", "", "10.1.2.3 ", "10.1.2.3, x",
    ].map(forwarded)).send([get("/"), with("x-forwarded-for: 11.1.1.1\nx-forwarded-for: 10.1.1.1\n")]);
    all_clients_but_some => allows("{notRemoteIpBlocks: [10.0.0.0/8, 127.0.0.1]}")
        .send([get("/"), forwarded("10.1.2.3"), forwarded("11.1.2.3"), forwarded("nobody")]);
    the_client_is_the_peer_if_nobody_tells => allows("{remoteIpBlocks: [127.0.0.1]}")
        .send([get("/"), forwarded("10.1.2.3"), forwarded("127.0.0.1")]);
    attributes_of_a_source_must_all_match => allows(
        "{ipBlocks: [127.0.0.1], remoteIpBlocks: [10.0.0.1]}",
    ).send([get("/"), forwarded("10.0.0.1"), forwarded("10.0.0.2")]);
    a_header_with_a_value => when("request.headers[x-a]", "values: [b]").send(headers());
    a_header_by_prefix_and_suffix => when("request.headers[x-a]", "values: ['a*', '*c']").send(headers());
    a_header_that_is_there => when("request.headers[x-a]", "values: ['*']").send(headers());
    a_header_without_a_value => when("request.headers[x-a]", "notValues: [b]").send(headers());
    a_header_that_is_not_there => when("request.headers[X-A]", "notValues: ['*']").send(headers());
    a_header_that_refuses => denies_when("request.headers[X-A]", "values: [b]").send(headers());
    a_header_that_refuses_others => denies_when("request.headers[x-a]", "notValues: [b]")
        .send(headers());
    a_header_with_and_without => when("request.headers[x-a]", "values: ['*b*', '*'], notValues: [b]")
        .send(headers());
    a_header_that_is_a_list => when("request.headers[accept]", "values: [a]")
        .send(["accept: a\n", "accept: a\naccept: b\n", "accept: a,b\n"].map(with));
    a_header_that_is_a_list_as_it_is_joined => when("request.headers[accept]", "values: ['a,b']")
        .send(["accept: a\n", "accept: a\naccept: b\n", "accept: a,b\n"].map(with));
    cookies => when("request.headers[cookie]", "values: [a=1]")
        .send(["cookie: a=1\n", "cookie: b=2\ncookie: a=1\n", "cookie: a=1; b=2\n"].map(with));
    cookies_over_http2 => when("request.headers[cookie]", "values: ['a=1; b=2']").http2()
        .send(["cookie: a=1\n", "cookie: a=1\ncookie: b=2\n"].map(with));
    headers_of_the_message_itself => when("request.headers[:method]", "values: [GET]")
        .send([get("/"), request("PUT", "/", "", "")]);
    the_host_as_a_header => when("request.headers[host]", "values: [example.test]")
        .send([get("/"), super::rbac::to_host("EXAMPLE.test")]);
    the_path_as_a_header => when("request.headers[:path]", "values: ['/a?b']")
        .send([get("/a?b"), get("/a"), get("/x/../a?b")]);
    a_header_that_is_no_text => when("request.headers[x-a]", "values: ['a*']").send([
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: a\xff\xfe\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nhost: a\r\nx-a: \xffa\r\n\r\n".to_vec(),
        "GET / HTTP/1.1\r\nhost: a\r\nx-a: a\u{e9}\r\n\r\n".into(),
    ]);
    the_address_as_a_condition => when("source.ip", "values: [127.0.0.0/8], notValues: [127.0.0.2]")
        .send([get("/")]);
    the_client_as_a_condition => when("remote.ip", "values: [10.0.0.0/8], notValues: [10.0.0.1]")
        .send([get("/"), forwarded("10.0.0.1"), forwarded("10.0.0.2")]);
    the_destination_as_a_condition => when("destination.ip", "values: [127.0.0.1]").send([get("/")]);
    another_destination => when("destination.ip", "notValues: [127.0.0.1]").send([get("/")]);
    another_port_as_a_condition => when("destination.port", "values: ['1']").send([get("/")]);
    not_another_port_as_a_condition => when("destination.port", "notValues: ['1', '2']").send([get("/")]);
    no_server_name_as_a_condition => when("connection.sni", "values: ['*', a.test]").send([get("/")]);
    not_a_server_name_as_a_condition => denies_when("connection.sni", "notValues: [a.test]")
        .send([get("/")]);
    no_identity_as_a_condition => policy(
        "{rules: [{when: [{key: source.principal, values: ['*']}]},\
            {when: [{key: source.namespace, values: [a]}]},\
            {when: [{key: source.serviceAccount, values: [a/b]}]},\
            {when: [{key: source.trustDomain, values: ['*']}]},\
            {when: [{key: request.auth.principal, values: ['*']}]},\
            {when: [{key: request.auth.audiences, values: ['*']}]},\
            {when: [{key: request.auth.presenter, values: ['*']}]},\
            {when: [{key: 'request.auth.claims[a][b]', values: ['*']}]}]}",
    ).send([get("/")]);
    no_identity_as_a_negated_condition => policy(
        "{rules: [{when: [{key: source.principal, notValues: ['*']},\
            {key: source.namespace, notValues: [a]}, {key: source.serviceAccount, notValues: [a/b]},\
            {key: source.trustDomain, notValues: ['*']}, {key: request.auth.principal, notValues: ['*']},\
            {key: request.auth.audiences, notValues: ['*']},\
            {key: request.auth.presenter, notValues: ['*']},\
            {key: 'request.auth.claims[a][b]', notValues: ['*']}]}]}",
    ).send([get("/")]);
}
