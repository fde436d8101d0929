use std::{net::SocketAddr, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use wasmplug_module::{FetchError, RedirectRefused};
use wasmplug_testkit::{Image, Received, Registry, Reply, Scripted, Upstream};

use crate::fixture::{Fixture, MODULE, start, told};

/// Takes TLS off and passes everything on; ends when it is dropped.
struct TlsFront {
    addr: SocketAddr,
    /// The authority that signed its certificate, as PEM.
    authority: Vec<u8>,
    _task: JoinSet<()>,
}

impl TlsFront {
    /// Speaks TLS as `registry.test`, for a server that does not.
    async fn start(backend: SocketAddr) -> Self {
        let mut authority = CertificateParams::new(vec![]).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority =
            CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["registry.test".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    // Clients that do not trust the certificate end the handshake.
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut server = TcpStream::connect(backend).await.unwrap();
                    tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
                });
            }
        });
        Self { addr, authority: authority.pem().into_bytes(), _task: task }
    }

    /// A store that knows `registry.test`, and trusts these authorities.
    fn fixture(authorities: &[u8]) -> Fixture {
        Fixture::with(|options| {
            options.hosts.insert("registry.test".into(), "127.0.0.1".parse().unwrap());
            options.certificate_authorities = authorities.to_vec();
        })
    }

    fn url(&self) -> String {
        format!("oci://registry.test:{}/demo:v1", self.addr.port())
    }
}

async fn demo() -> Registry {
    start(Registry::builder().image("demo:v1", Image::compat(MODULE))).await
}

#[tokio::test]
async fn a_trusted_authority_makes_a_trusted_registry() {
    let registry = demo().await;
    let front = TlsFront::start(registry.addr()).await;
    let module = TlsFront::fixture(&front.authority).get(&front.url()).await.unwrap();
    assert_eq!(module.bytes, MODULE);
}

#[tokio::test]
async fn an_unknown_authority_is_refused() {
    let registry = demo().await;
    let front = TlsFront::start(registry.addr()).await;
    let error = TlsFront::fixture(b"").get(&front.url()).await.unwrap_err();
    assert!(matches!(error, FetchError::Tls { plain_http: false, .. }), "{error:?}");
    assert!(told(&error).contains("hint: if the server has a private certificate authority"));
    assert!(registry.log().is_empty());
}

#[tokio::test]
async fn https_never_falls_back_to_http() {
    let registry = demo().await;
    let url = format!("oci://registry.test:{}/demo:v1", registry.addr().port());
    let error = TlsFront::fixture(b"").get(&url).await.unwrap_err();
    assert!(matches!(error, FetchError::Tls { plain_http: true, .. }), "{error:?}");
    assert!(told(&error).contains("speaks plain http; if that is meant"), "{}", told(&error));
    assert!(registry.log().is_empty(), "{:?}", registry.log());
    let named = Fixture::with(|options| {
        options.hosts.insert("registry.test".into(), "127.0.0.1".parse().unwrap());
        let named = format!("registry.test:{}", registry.addr().port());
        options.plain_http_registries.push(named);
    });
    assert_eq!(named.get(&url).await.unwrap().bytes, MODULE);
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_refused() {
    let plain = demo().await;
    let location = format!("http://{}/plugin.wasm", plain.addr());
    let script =
        move |_: &Received| -> Scripted { Reply::new(302).header("location", &location).into() };
    let upstream = Upstream::scripted(script).start().await.unwrap();
    let front = TlsFront::start(upstream.addr()).await;
    let error = TlsFront::fixture(&front.authority).get(&front.url()).await.unwrap_err();
    let refused =
        matches!(&error, FetchError::Redirect { source: RedirectRefused::Downgrade { .. }, .. });
    assert!(refused, "{error:?}");
    assert!(plain.log().is_empty());
}

#[test]
fn authorities_that_are_no_certificates_are_refused() {
    let directory = tempfile::TempDir::new().unwrap();
    let mut options = wasmplug_module::StoreOptions::new(directory.path());
    options.certificate_authorities =
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    let error = wasmplug_module::ModuleStore::open(options).unwrap_err();
    assert!(matches!(error, wasmplug_module::StoreError::CertificateAuthorities), "{error}");
}

#[tokio::test]
async fn a_certificate_is_not_verified_only_where_that_is_said() {
    let registry = demo().await;
    let front = TlsFront::start(registry.addr()).await;
    let insecure = |host: String| {
        Fixture::with(|options| {
            options.hosts.insert("registry.test".into(), "127.0.0.1".parse().unwrap());
            options.insecure_registries.push(host);
        })
    };
    for host in ["registry.test".to_owned(), format!("REGISTRY.test:{}", front.addr.port())] {
        assert_eq!(insecure(host).get(&front.url()).await.unwrap().bytes, MODULE);
    }
    for host in ["other.test".to_owned(), "registry.test:1".to_owned()] {
        let error = insecure(host).get(&front.url()).await.unwrap_err();
        assert!(matches!(error, FetchError::Tls { plain_http: false, .. }), "{error:?}");
    }
}
