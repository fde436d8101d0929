//! What requests want: hosts, ports, methods, paths, in all forms.

use super::case::{get, post, request};
use super::cases;
use super::rbac::{policy, to_host};

/// A policy that allows one operation.
fn allows(operation: &str) -> super::case::Case {
    policy(&format!("{{rules: [{{to: [{{operation: {operation}}}]}}]}}"))
}

/// A policy that refuses one operation.
fn denies(operation: &str) -> super::case::Case {
    policy(&format!("{{action: DENY, rules: [{{to: [{{operation: {operation}}}]}}]}}"))
}

/// Paths with the templates of the Istio suite.
const TEMPLATES: &str = "{paths: ['/allow/admin/{**}', '/foo/{*}/bar/{**}', '/store/{**}/cart']}";

cases! {
    a_host => allows("{hosts: [shop.test]}")
        .send(["shop.test", "SHOP.Test", "shop.test:80", "a.shop.test", "other"].map(to_host));
    a_host_with_a_port => allows("{hosts: ['Shop.test:8080']}")
        .send(["shop.test:8080", "shop.test", "shop.test:80"].map(to_host));
    hosts_by_prefix_and_suffix => allows("{hosts: ['Shop*', '*.Test']}")
        .send(["shopping", "a.test", ".test", "test", "a.test:80", "ashop"].map(to_host));
    any_host => allows("{hosts: ['*']}").send(["shop.test", "a"].map(to_host));
    all_hosts_but_some => allows("{notHosts: [shop.test, '*.local']}")
        .send(["shop.test", "SHOP.test", "shop.test:80", "a.local", "b"].map(to_host));
    refused_hosts => denies("{hosts: [shop.test, 'shop.test:*']}")
        .send(["shop.test", "shop.test:80", "shop.test.", "b"].map(to_host));
    a_host_in_the_target => allows("{hosts: [shop.test]}").send([
        b"GET http://shop.test/ HTTP/1.1\r\nhost: other.test\r\n\r\n".to_vec(),
        b"GET http://other.test/ HTTP/1.1\r\nhost: shop.test\r\n\r\n".to_vec(),
    ]);
    hosts_over_http2 => allows("{hosts: [shop.test]}").http2()
        .send(["shop.test", "SHOP.test", "other.test"].map(to_host));
    methods => allows("{methods: [GET, PUT]}")
        .send([get("/"), post("/", "a"), request("PUT", "/", "", ""), request("Get", "/", "", "")]);
    methods_by_prefix_and_suffix => allows("{methods: [P*, '*ETE']}").send([
        get("/"), post("/", "a"), request("PUT", "/", "", ""), request("DELETE", "/", "", ""),
    ]);
    any_method => allows("{methods: ['*']}").send([get("/"), post("/", "a")]);
    all_methods_but_some => allows("{notMethods: [POST, P*]}")
        .send([get("/"), post("/", "a"), request("PUT", "/", "", "")]);
    refused_methods => denies("{methods: [GET]}").send([get("/"), post("/", "a")]);
    a_port_that_is_another => allows("{ports: ['1']}").send([get("/")]);
    all_ports_but_another => allows("{notPorts: ['1']}").send([get("/")]);
    a_refused_port_that_is_another => denies("{ports: ['1', '65535']}").send([get("/")]);
    an_exact_path => allows("{paths: [/a/b]}")
        .send(["/a/b", "/a/b?c=d", "/a/b/", "/a/B", "/a", "/a/b#c", "/a/b%20"].map(get));
    paths_by_prefix => allows("{paths: [/a*]}").send(["/a", "/ab", "/a/b", "/", "/ba"].map(get));
    paths_by_suffix => allows("{paths: ['*.html']}")
        .send(["/a.html", "/.html", "/a.html?b", "/a.htm", "/a?b.html", "/A.HTML"].map(get));
    any_path => allows("{paths: ['*']}").send(["/", "/a", "/?b"].map(get));
    a_star_at_both_ends => allows("{paths: ['*/a*']}").send(["/a*", "/x/a*", "/a", "/ab"].map(get));
    a_star_within => allows("{paths: ['/a*b']}").send(["/a*b", "/axb", "/ab"].map(get));
    all_paths_but_some => allows("{notPaths: [/a, /b*]}")
        .send(["/a", "/a/", "/b", "/bc", "/c", "/a?b"].map(get));
    refused_paths => denies("{paths: [/a, '*.php', /b/*]}")
        .send(["/a", "/a/", "/x.php", "/x.php?a", "/b/", "/b", "/b/c"].map(get));
    templates => allows(TEMPLATES).send([
        "/allow/admin/", "/allow/admin/temp", "/allow/admin/foo/temp.txt", "/foo/buzz/bar/bat",
        "/foo/buzz/bar/bat/fuzz.txt", "/store//cart", "/store/foo/cart", "/store/foo/bar/cart",
        "/allow/admin", "/allow/admin?param=value", "/allow/user/", "/allow", "/foo/bar/bat.txt",
        "/foo//bar/bat.txt", "/store/cart",
    ].map(get));
    refused_templates => denies("{paths: ['/a/{*}/c']}")
        .send(["/a/b/c", "/a//c", "/a/b/b/c", "/a/b/c?d", "/a/%62/c", "/a/%2f/c"].map(get));
    all_but_templates => allows("{notPaths: ['/a/{**}']}").send(["/a/", "/a", "/a/b/c"].map(get));
    characters_in_templates => allows("{paths: ['/{*}']}").send([
        "/!$&'()*+,-.0123456789:;=@_~%20", "/a\"b", "/a[b", "/a]b", "/a^b", "/a|b", "/a{b",
        "/a}b", "/a\\b", "/a/b", "/",
    ].map(get));
    attributes_of_an_operation_must_all_match => allows("{methods: [GET], paths: [/a], hosts: [example.test]}")
        .send([get("/a"), get("/b"), request("PUT", "/a", "", "")]);
    spellings_do_not_evade_a_denial => denies("{paths: [/admin, /admin/*]}").send([
        "/admin", "/x/../admin", "/x/%2e%2e/admin", "/x/%2E./admin", "/./admin", "/%61dmin",
        "/x\\..\\admin", "/admin\\x", "/admin/..;/admin", "/x/..;a=b/admin", "//admin",
        "/admin%2fx", "/admin?x", "/admin#x", "/admin/../public",
    ].map(get));
    a_long_path => denies("{paths: ['*z', '/{**}/z']}").send([
        get(&format!("/{}", "a/".repeat(10_000))), get(&format!("/{}/z", "z/".repeat(10_000))),
    ]);
}
