//! Who speaks, by certificates: mutual TLS, what plugins, policies and metrics see of it.

use std::net::SocketAddr;
use std::sync::Arc;

use wasmplug_proxy::{ListenerProtocol, TlsCredentials, TlsOptions};

use crate::harness::{
    Authority, Dialer, Identity, Plugin, RawUpstream, Running, SERVER_NAME, Setup, eventually,
    optional, permissive, strict,
};

const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";
const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";
const OTHER: &str = "spiffe://other.domain/ns/other/sa/job";

const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: strict, namespace: default}\nspec: {mtls: {mode: STRICT}}\n";
const PERMISSIVE: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: strict, namespace: default}\nspec: {mtls: {mode: PERMISSIVE}}\n";

fn address(proxy: &Running) -> SocketAddr {
    proxy.proxy().listen_address()
}

fn server(authority: &Authority, options: TlsOptions) -> Arc<TlsCredentials> {
    authority.issue(SERVER_NAME, &[SERVER]).credentials(Some(authority), options)
}

fn web(authority: &Authority) -> Identity {
    authority.issue("web.test", &[WEB])
}

fn setup(authority: &Authority, options: TlsOptions) -> Setup {
    let settings = strict(server(authority, options));
    Setup::new().admin().tune(|config| config.tls = Some(settings))
}

#[test]
fn a_client_has_to_show_a_certificate_that_its_authority_issued() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let authority = Authority::new();
        let proxy = setup(&authority, TlsOptions::default()).start();
        let dialer = Dialer::new(&authority).speaking(version);
        let web = web(&authority);
        assert_eq!(dialer.showing(&web).get(address(&proxy)).unwrap().status, 200);
        assert!(dialer.is_refused(address(&proxy)));
        proxy.wait_for_stat("envoy_listener_ssl_fail_verify_no_cert_total 1");
        let foreign = Authority::new().issue("web.test", &[WEB]);
        assert!(dialer.showing(&foreign).is_refused(address(&proxy)));
        let expired = authority.issue_with("web.test", &[WEB], |params| {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        });
        assert!(dialer.showing(&expired).is_refused(address(&proxy)));
        proxy.wait_for_stat("envoy_listener_ssl_fail_verify_error_total 2");
        assert_eq!(proxy.upstream().received().len(), 1);
    }
}

#[test]
fn a_client_that_may_show_a_certificate_must_show_a_good_one() {
    let authority = Authority::new();
    let proxy = setup(&authority, optional()).start();
    let dialer = Dialer::new(&authority);
    assert_eq!(dialer.get(address(&proxy)).unwrap().status, 200);
    assert_eq!(dialer.showing(&web(&authority)).get(address(&proxy)).unwrap().status, 200);
    let foreign = Authority::new().issue("web.test", &[WEB]);
    assert!(dialer.showing(&foreign).is_refused(address(&proxy)));
}

#[test]
fn authorities_are_replaced_with_the_certificate() {
    let [old, new] = [Authority::new(), Authority::new()];
    let proxy = setup(&old, TlsOptions::default()).start();
    // One client goes on from before.
    let web_of_old = web(&old);
    let mut before = Dialer::new(&old).showing(&web_of_old).connect(address(&proxy)).unwrap();
    assert_eq!(before.get("/").unwrap().status, 200);
    proxy.proxy().tls().unwrap().replace(server(&new, TlsOptions::default()));
    assert!(Dialer::new(&new).showing(&web_of_old).is_refused(address(&proxy)));
    let web_of_new = web(&new);
    assert_eq!(Dialer::new(&new).showing(&web_of_new).get(address(&proxy)).unwrap().status, 200);
    assert_eq!(before.get("/").unwrap().status, 200);
}

/// Tells everything about certificates in headers of the response.
fn asking() -> Plugin {
    let paths = [
        "tls_version",
        "requested_server_name",
        "subject_local_certificate",
        "subject_peer_certificate",
        "dns_san_local_certificate",
        "dns_san_peer_certificate",
        "uri_san_local_certificate",
        "uri_san_peer_certificate",
        "sha256_peer_certificate_digest",
    ];
    let add = |path: &str| {
        format!("(call $add #response '{path}' (call $property 'connection\\00{path}'))\n")
    };
    let texts: String = paths.into_iter().map(add).collect();
    Plugin::guest(&format!(
        "on response_headers:
            {texts}
            (drop (call $proxy_get_property 'connection\\00mtls'
                (i32.const 0x100) (i32.const 0x104)))
            (call $add #response 'mtls' (call $decimal
                (i32.load8_u (i32.load (i32.const 0x100)))))
            (call $log (call $property 'connection\\00peer_certificate'))"
    ))
}

// Checks: PR-12
#[test]
fn plugins_see_both_certificates_of_mutual_tls() {
    let authority = Authority::new();
    let proxy = setup(&authority, TlsOptions::default()).plugin(asking()).start();
    let web = authority.issue("web.test", &[WEB, "https://second.test"]);
    let answer = Dialer::new(&authority).showing(&web).get(address(&proxy)).unwrap();
    let digest = wasmplug_testkit::registry::sha256(&web.der());
    for (name, expected) in [
        ("mtls", "1"),
        ("tls_version", "TLSv1.3"),
        ("requested_server_name", SERVER_NAME),
        ("subject_local_certificate", "CN=a.test,O=Tests,C=CH"),
        ("subject_peer_certificate", "CN=web.test,O=Tests,C=CH"),
        ("dns_san_local_certificate", SERVER_NAME),
        ("dns_san_peer_certificate", "web.test"),
        ("uri_san_local_certificate", SERVER),
        ("uri_san_peer_certificate", WEB),
        ("sha256_peer_certificate_digest", digest.trim_start_matches("sha256:")),
    ] {
        assert_eq!(answer.header(name), Some(expected), "{name}");
    }
    let pem = web.certificate.replace("\r\n", "\n");
    proxy.assert_log(&[&pem]);
}

// Checks: PR-34
#[test]
fn without_a_clients_certificate_its_names_are_not_there() {
    let authority = Authority::new();
    let proxy = setup(&authority, optional()).plugin(asking()).start();
    let answer = Dialer::new(&authority).get(address(&proxy)).unwrap();
    for (name, expected) in [
        ("mtls", "0"),
        ("uri_san_local_certificate", SERVER),
        ("subject_peer_certificate", ""),
        ("dns_san_peer_certificate", "-"),
        ("uri_san_peer_certificate", "-"),
        ("sha256_peer_certificate_digest", "-"),
    ] {
        assert_eq!(answer.header(name), Some(expected), "{name}");
    }
    proxy.assert_log(&["-"]);
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: p, namespace: default}}\nspec: {spec}\n"
    )
}

/// Rules, and whether they let `WEB`, `OTHER` and a client without a certificate through.
const RULES: [(&str, [bool; 3]); 11] = [
    (
        "{rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/web]}}]}]}",
        [true, false, false],
    ),
    ("{rules: [{from: [{source: {principals: ['*']}}]}]}", [true, true, false]),
    (
        "{rules: [{from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/web]}}]}]}",
        [false, true, true],
    ),
    ("{rules: [{from: [{source: {namespaces: [shop]}}]}]}", [true, false, false]),
    ("{action: DENY, rules: [{from: [{source: {namespaces: [shop]}}]}]}", [false, true, true]),
    ("{action: DENY, rules: [{from: [{source: {notPrincipals: ['*']}}]}]}", [true, true, false]),
    ("{rules: [{from: [{source: {serviceAccounts: [shop/web]}}]}]}", [true, false, false]),
    ("{rules: [{from: [{source: {serviceAccounts: [other/job]}}]}]}", [false, true, false]),
    ("{rules: [{from: [{source: {trustDomains: [other.domain]}}]}]}", [false, true, false]),
    (
        "{rules: [{when: [{key: source.principal, values: [cluster.local/ns/shop/sa/web]}]}]}",
        [true, false, false],
    ),
    ("{rules: [{when: [{key: connection.sni, values: [a.test]}]}]}", [true, true, true]),
];

#[test]
fn policies_know_who_asks_by_the_certificate() {
    let authority = Authority::new();
    let dialer = Dialer::new(&authority);
    let other = authority.issue("other.test", &[OTHER]);
    let dialers = [dialer.showing(&web(&authority)), dialer.showing(&other), dialer];
    let mut proxy = setup(&authority, optional()).start();
    for (spec, expected) in RULES {
        assert!(proxy.load_with(&[], &policy(spec)).is_empty());
        let status = |dialer: &Dialer| dialer.get(address(&proxy)).unwrap().status;
        let found = dialers.each_ref().map(|dialer| status(dialer) == 200);
        assert_eq!(found, expected, "{spec}");
    }
}

#[test]
fn policies_of_tcp_know_it_too() {
    let authority = Authority::new();
    let upstream = RawUpstream::echo();
    let to = upstream.address().into();
    let options = TlsOptions { protocol: ListenerProtocol::Tcp, ..optional() };
    let setup = setup(&authority, options);
    let mut proxy = setup
        .tune(move |config| {
            config.listener = ListenerProtocol::Tcp;
            config.upstream = to;
        })
        .start();
    let dialer = Dialer::new(&authority);
    let other = authority.issue("other.test", &[OTHER]);
    let dialers = [dialer.showing(&web(&authority)), dialer.showing(&other), dialer];
    for (spec, expected) in RULES {
        assert!(proxy.load_with(&[], &policy(spec)).is_empty());
        let passes = |dialer: &Dialer| dialer.connect(address(&proxy)).unwrap().is_echoed("hello");
        assert_eq!(dialers.each_ref().map(passes), expected, "{spec}");
    }
    let line = stat_line(&proxy, "istio_tcp_connections_opened_total", "mutual_tls");
    assert!(line.contains(&format!("destination_principal=\"{SERVER}\"")), "{line}");
}

#[test]
fn a_certificate_with_several_uris_is_nobodys() {
    let authority = Authority::new();
    let two = authority.issue("web.test", &[WEB, OTHER]);
    let none = authority.issue("web.test", &["https://a.test/ns/shop/sa/web"]);
    let spec = "{rules: [{from: [{source: {principals: ['*']}}]}]}";
    let proxy = setup(&authority, optional()).resources(&policy(spec)).start();
    let status = |identity: &Identity| {
        Dialer::new(&authority).showing(identity).get(address(&proxy)).unwrap().status
    };
    assert_eq!((status(&two), status(&none)), (403, 403));
    assert_eq!(status(&web(&authority)), 200);
}

/// A line of a metric that has this text, sooner or later.
fn stat_line(proxy: &Running, metric: &str, text: &str) -> String {
    let find = || {
        let page = proxy.admin("/stats/prometheus").text();
        let found = page.lines().find(|line| line.starts_with(metric) && line.contains(text));
        found.map(str::to_owned)
    };
    eventually(|| find().is_some());
    find().unwrap()
}

#[test]
fn metrics_tell_who_speaks_with_and_without_plugins() {
    for plugin in [None, Some(Plugin::guest("on request_headers:\n (return #0)"))] {
        let authority = Authority::new();
        let setup = setup(&authority, optional());
        let proxy = plugin.into_iter().fold(setup, Setup::plugin).start();
        let dialer = Dialer::new(&authority);
        dialer.showing(&web(&authority)).get(address(&proxy)).unwrap();
        let line = stat_line(&proxy, "istio_requests_total", "mutual_tls");
        for expected in [
            format!("source_principal=\"{WEB}\""),
            format!("destination_principal=\"{SERVER}\""),
            "source_workload_namespace=\"shop\"".to_owned(),
            "connection_security_policy=\"mutual_tls\"".to_owned(),
        ] {
            assert!(line.contains(&expected), "{line}");
        }
        // Without a certificate of the client it is not mutual.
        dialer.get(address(&proxy)).unwrap();
        let line = stat_line(&proxy, "istio_requests_total", "connection_security_policy=\"none\"");
        assert!(line.contains("source_principal=\"unknown\""), "{line}");
    }
}

#[test]
fn strict_mutual_tls_of_the_plan_refuses_everybody_else() {
    let authority = Authority::new();
    let settings = permissive(server(&authority, optional()));
    let tune = |config: &mut wasmplug_proxy::ProxyConfig| config.tls = Some(settings);
    let mut proxy = Setup::new().resources(PERMISSIVE).tune(tune).admin().start();
    let dialer = Dialer::new(&authority);
    let mutual = dialer.showing(&web(&authority));
    let is_open = |proxy: &Running| {
        let plain = proxy.client().get("/").is_ok();
        let [with, without] = [&mutual, &dialer].map(|it| !it.is_refused(address(proxy)));
        [with, without, plain]
    };
    assert_eq!(is_open(&proxy), [true, true, true]);
    assert!(proxy.load_with(&[], STRICT).is_empty());
    assert_eq!(is_open(&proxy), [true, false, false]);
    let dump = proxy.admin("/config_dump").json().unwrap();
    assert_eq!(dump["listener"]["requires_mutual_tls"], true);
    assert_eq!(dump["listener"]["tls"]["mode"], "permissive");
    assert!(proxy.load_with(&[], PERMISSIVE).is_empty());
    assert_eq!(is_open(&proxy), [true, true, true]);
}

#[test]
fn strict_mutual_tls_without_the_means_for_it_refuses_everybody() {
    let proxy = Setup::new().resources(STRICT).admin().start();
    assert!(proxy.client().get("/").is_err());
    proxy.wait_for_stat("envoy_http_downstream_cx_active 0");
    assert!(proxy.upstream().received().is_empty());
    // TLS alone is not enough.
    let authority = Authority::new();
    let settings = permissive(authority.server());
    let tune = |config: &mut wasmplug_proxy::ProxyConfig| config.tls = Some(settings);
    let proxy = Setup::new().resources(STRICT).tune(tune).admin().start();
    assert!(proxy.client().get("/").is_err());
    assert!(Dialer::new(&authority).is_refused(address(&proxy)));
    proxy.wait_for_stat("envoy_listener_no_filter_chain_match_total 1");
    assert!(proxy.upstream().received().is_empty());
}
