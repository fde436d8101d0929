//! Upstreams that speak TLS.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, Stream};
use rustls_pki_types::PrivateKeyDer;
use wasmplug_host::Host;
use wasmplug_proxy::{ListenerProtocol, NameResolver, Proxy, ProxyConfig};
use wasmplug_testkit::{Upstream, UpstreamThread};

use super::retries::answer_http2;
use super::{fine, idle};
use crate::harness::{RawUpstream, Running, Setup, TcpClient, read_head};

const FAILED: &str = "upstream connect error or disconnect/reset before headers. \
                      reset reason: remote connection failure";

/// Who signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key.
struct Certificate {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

// === impl Authority ===

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::new(vec![]).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn sign(&self, name: &str) -> Certificate {
        self.sign_with(name, |_| {})
    }

    fn sign_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut parameters);
        Certificate { certificate: parameters.signed_by(&key, &self.0).unwrap(), key }
    }
}

// === impl Certificate ===

impl Certificate {
    /// A server that shows it and asks for one that `clients` signed, if given.
    fn server(&self, clients: Option<&Authority>, protocols: &[&str]) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).unwrap();
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let chain = vec![self.certificate.der().clone()];
        let mut config = builder.with_single_cert(chain, key).unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn identity(&self) -> (Vec<u8>, Vec<u8>) {
        (self.certificate.pem().into_bytes(), self.key.serialize_pem().into_bytes())
    }
}

/// Answers requests of HTTP/2.
fn serve_http2(config: Arc<ServerConfig>) -> RawUpstream {
    RawUpstream::start(move |mut tcp| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        answer_http2(&mut Stream::new(&mut tls, &mut tcp), |_, _| true);
    })
}

/// Answers requests of HTTP/1 with the name that it was asked for.
fn serve(config: Arc<ServerConfig>) -> RawUpstream {
    RawUpstream::start(move |mut tcp| {
        let mut tls = ServerConnection::new(Arc::clone(&config)).unwrap();
        let mut stream = Stream::new(&mut tls, &mut tcp);
        loop {
            // A client that does not trust the certificate ends the handshake.
            if read_head(&mut stream).is_empty() {
                return;
            }
            let name = stream.conn.server_name().unwrap_or("no name").to_owned();
            let length = name.len();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    })
}

/// A proxy in front of `https://shop.test`, which is there, without plugins and with one.
fn both(
    at: SocketAddr,
    trusted: &Authority,
    tune: impl Fn(&mut ProxyConfig) + Clone + 'static,
) -> [Running; 2] {
    let start = |setup: Setup| {
        let (trusted, tune) = (trusted.pem(), tune.clone());
        let tune = move |config: &mut ProxyConfig| {
            config.upstream = "https://shop.test".parse().unwrap();
            config.upstreams.resolver = NameResolver::new(move |_, _| Ok(vec![at]));
            config.upstreams.tls.authorities = Some(trusted);
            tune(config);
        };
        setup.tune(tune).admin().start()
    };
    [start(Setup::new()), start(Setup::new().plugin(idle()))]
}

fn assert_refused(proxies: [Running; 2]) {
    for proxy in proxies {
        let response = proxy.get("/");
        assert_eq!((response.status, response.text().as_str()), (503, FAILED));
        let failed =
            r#"envoy_cluster_upstream_cx_connect_fail_total{envoy_cluster_name="upstream"} 1"#;
        proxy.wait_for_stat(failed);
    }
}

#[test]
fn a_certificate_of_a_trusted_authority_for_the_name_of_the_host_is_accepted() {
    let authority = Authority::new();
    for protocols in [&["http/1.1"][..], &[]] {
        let upstream = serve(authority.sign("shop.test").server(None, protocols));
        for proxy in both(upstream.address(), &authority, |_| {}) {
            let mut client = proxy.client();
            assert_eq!(client.get("/").unwrap().text(), "shop.test");
            assert_eq!(client.get("/").unwrap().text(), "shop.test");
        }
        assert_eq!(upstream.connections(), 2, "one each");
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let upstream = serve(Authority::new().sign("shop.test").server(None, &[]));
    assert_refused(both(upstream.address(), &Authority::new(), |_| {}));
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let authority = Authority::new();
    let upstream = serve(authority.sign("bank.test").server(None, &[]));
    assert_refused(both(upstream.address(), &authority, |_| {}));
}

#[test]
fn another_name_can_be_expected() {
    let authority = Authority::new();
    let upstream = serve(authority.sign("bank.test").server(None, &[]));
    let expects = |name: &'static str| {
        move |config: &mut ProxyConfig| {
            config.upstream = config.upstream.clone().with_server_name(name);
        }
    };
    for proxy in both(upstream.address(), &authority, expects("bank.test")) {
        assert_eq!(proxy.get("/").text(), "bank.test");
    }
    assert_refused(both(upstream.address(), &authority, expects("other.test")));
}

#[test]
fn a_certificate_that_has_expired_is_refused() {
    let authority = Authority::new();
    let certificate = authority.sign_with("shop.test", |parameters| {
        parameters.not_before = rcgen::date_time_ymd(2001, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    let upstream = serve(certificate.server(None, &[]));
    assert_refused(both(upstream.address(), &authority, |_| {}));
}

#[test]
fn a_host_that_is_an_address_needs_a_certificate_for_it() {
    let authority = Authority::new();
    let refused = serve(authority.sign("shop.test").server(None, &[]));
    let accepted = serve(authority.sign("127.0.0.1").server(None, &[]));
    let is_at = |at: SocketAddr| {
        move |config: &mut ProxyConfig| config.upstream = format!("https://{at}").parse().unwrap()
    };
    for proxy in both(accepted.address(), &authority, is_at(accepted.address())) {
        assert_eq!(proxy.get("/").text(), "no name");
    }
    assert_refused(both(refused.address(), &authority, is_at(refused.address())));
}

#[test]
fn an_upstream_that_does_not_speak_tls_is_refused() {
    let plain = UpstreamThread::start(Upstream::scripted(fine)).unwrap();
    assert_refused(both(plain.addr(), &Authority::new(), |_| {}));
}

#[test]
fn a_handshake_that_hangs_ends_with_the_time_for_connecting() {
    let silent = RawUpstream::start(|mut stream| {
        // Until the proxy gives up.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let impatient = |config: &mut ProxyConfig| {
        config.limits.connect_timeout = Duration::from_millis(50);
    };
    for proxy in both(silent.address(), &Authority::new(), impatient) {
        let response = proxy.get("/");
        let reason = "upstream connect error or disconnect/reset before headers. \
                      reset reason: connection timeout";
        assert_eq!((response.status, response.text().as_str()), (503, reason));
    }
}

#[test]
fn an_upstream_that_asks_for_a_certificate_gets_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let upstream = serve(authority.sign("shop.test").server(Some(&clients), &[]));
    let shows = |certificate: Certificate| {
        let identity = certificate.identity();
        move |config: &mut ProxyConfig| config.upstreams.tls.identity = Some(identity.clone())
    };
    for proxy in both(upstream.address(), &authority, shows(clients.sign("proxy.test"))) {
        assert_eq!(proxy.get("/").text(), "shop.test");
    }
    for proxy in both(upstream.address(), &authority, shows(authority.sign("proxy.test"))) {
        assert_eq!(proxy.get("/").status, 503);
    }
    for proxy in both(upstream.address(), &authority, |_| {}) {
        assert_eq!(proxy.get("/").status, 503);
    }
}

#[test]
fn http2_over_tls_is_agreed_upon() {
    let authority = Authority::new();
    let speaks_http2 =
        |config: &mut ProxyConfig| config.upstream = "h2://shop.test".parse().unwrap();
    let upstream = serve_http2(authority.sign("shop.test").server(None, &["h2"]));
    for proxy in both(upstream.address(), &authority, speaks_http2) {
        assert_eq!(proxy.get("/").status, 200);
    }
    let other = serve(authority.sign("shop.test").server(None, &["http/1.1"]));
    assert_refused(both(other.address(), &authority, speaks_http2));
    let silent = serve_http2(authority.sign("shop.test").server(None, &[]));
    assert_refused(both(silent.address(), &authority, speaks_http2));
}

#[test]
fn bytes_are_encrypted_too() {
    let authority = Authority::new();
    let upstream = serve(authority.sign("shop.test").server(None, &[]));
    let as_tcp = |config: &mut ProxyConfig| config.listener = ListenerProtocol::Tcp;
    let [proxy, _] = both(upstream.address(), &authority, as_tcp);
    let mut client = TcpClient::connect(&proxy);
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert!(client.read_head().starts_with("HTTP/1.1 200 OK"));
    assert_eq!(client.read(9), "shop.test");
    let [proxy, _] = both(upstream.address(), &Authority::new(), as_tcp);
    let mut client = TcpClient::connect(&proxy);
    assert!(!client.is_echoed("x"));
}

/// Why a proxy with these settings does not start.
fn refusal(tune: impl FnOnce(&mut ProxyConfig)) -> String {
    let mut config = ProxyConfig::new("https://shop.test".parse().unwrap());
    config.upstreams.tls.authorities = Some(Authority::new().pem());
    tune(&mut config);
    let error = Proxy::start(config, Arc::new(Host::new().unwrap())).unwrap_err();
    assert!(error.hint().is_some(), "{error}");
    error.to_string()
}

#[test]
fn what_cannot_be_used_is_refused_at_the_start() {
    let no_authority = refusal(|config| config.upstreams.tls.authorities = Some(b"x".to_vec()));
    assert!(no_authority.contains("authorities"), "{no_authority}");
    let no_key = refusal(|config| {
        let (chain, _) = Authority::new().sign("a").identity();
        config.upstreams.tls.identity = Some((chain, b"secret".to_vec()));
    });
    assert!(no_key.contains("private key") && !no_key.contains("secret"), "{no_key}");
    let other_key = refusal(|config| {
        let authority = Authority::new();
        let (chain, _) = authority.sign("a").identity();
        let (_, key) = authority.sign("a").identity();
        config.upstreams.tls.identity = Some((chain, key));
    });
    assert!(other_key.contains("certificate and the key"), "{other_key}");
    let no_name = refusal(|config| {
        config.upstream = config.upstream.clone().with_server_name("no name");
    });
    assert!(no_name.contains("`no name`"), "{no_name}");
}
