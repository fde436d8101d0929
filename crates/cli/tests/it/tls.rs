//! `wasmplug run` with a certificate, and behind a proxy that tells whose connections it forwards.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use expect_test::expect;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use wasmplug_testkit::{RawClient, Upstream, UpstreamThread, patience};

use crate::process::{Running, run_to_end};

const NAME: &str = "a.test";
const STRICT: &str = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
    metadata: {name: strict}\nspec: {mtls: {mode: STRICT}}\n";

/// Issues certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn issue(&self) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([NAME.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// One request, with a client's certificate or without; also returns what the server has shown.
    fn get(&self, proxy: &Running, shown: Option<&Pair>) -> io::Result<(String, String)> {
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.pem)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let config = match shown {
            None => builder.with_no_client_auth(),
            Some(Pair { certificate, key }) => {
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![der(certificate)], key).unwrap()
            }
        };
        let name = ServerName::try_from(NAME).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let socket = TcpStream::connect(proxy.listen).unwrap();
        socket.set_read_timeout(Some(patience())).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let certificates = stream.conn.peer_certificates().unwrap();
        Ok((answer, pem(&certificates[0])))
    }
}

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

/// Only to compare: certificates are the same if their bytes are.
fn pem(der: &CertificateDer<'_>) -> String {
    format!("{der:?}")
}

/// Writes a pair as Kubernetes mounts a secret: links into a folder that is swapped as a whole.
fn mount(folder: &Path, version: &str, pair: &Pair) {
    let content = folder.join(format!("..{version}"));
    std::fs::create_dir(&content).unwrap();
    std::fs::write(content.join("tls.crt"), &pair.certificate).unwrap();
    std::fs::write(content.join("tls.key"), &pair.key).unwrap();
    symlink(format!("..{version}"), folder.join("..data_tmp")).unwrap();
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    for name in ["tls.crt", "tls.key"] {
        if !folder.join(name).exists() {
            symlink(format!("..data/{name}"), folder.join(name)).unwrap();
        }
    }
}

const PAIR: [&str; 4] = ["--tls-cert", "certs/tls.crt", "--tls-key", "certs/tls.key"];

/// A folder with a pair and an empty folder of resources.
fn folder(pair: &Pair) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("certs")).unwrap();
    std::fs::create_dir(folder.path().join("resources")).unwrap();
    mount(&folder.path().join("certs"), "one", pair);
    folder
}

fn start(folder: &Path, upstream: &UpstreamThread, arguments: &[&str]) -> Running {
    let all = [&["-f", "resources"], arguments].concat();
    Running::start(folder, upstream, &all)
}

#[test]
fn a_mounted_secret_is_followed_and_a_bad_one_changes_nothing() {
    let authority = Authority::new();
    let (first, second, third) = (authority.issue(), authority.issue(), authority.issue());
    let folder = folder(&first);
    let certs = folder.path().join("certs");
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let proxy = start(folder.path(), &upstream, &PAIR);
    let (answer, shown) = authority.get(&proxy, None).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-forwarded-proto") && answer.contains("https"), "{answer}");
    assert_eq!(shown, pem(&der(&first.certificate)));
    mount(&certs, "two", &second);
    proxy.wait_for("new certificate in effect, valid until ");
    assert_eq!(authority.get(&proxy, None).unwrap().1, pem(&der(&second.certificate)));
    // A certificate of another key.
    let wrong = Pair { certificate: third.certificate.clone(), key: first.key.clone() };
    mount(&certs, "three", &wrong);
    proxy.wait_for("a new certificate was not taken over");
    proxy.wait_for("the one before stays in effect, valid until ");
    proxy.wait_for("hint: name the certificate and the key of one and the same pair");
    assert_eq!(authority.get(&proxy, None).unwrap().1, pem(&der(&second.certificate)));
    let dump = proxy.admin("/config_dump").json().unwrap();
    let reason = dump["listener"]["tls"]["rejected"].as_str().unwrap();
    assert!(reason.contains("does not belong to the private key"), "{reason}");
    mount(&certs, "four", &third);
    proxy.wait_for("new certificate in effect");
    assert_eq!(authority.get(&proxy, None).unwrap().1, pem(&der(&third.certificate)));
}

#[test]
fn a_signal_reads_the_certificate_again() {
    let authority = Authority::new();
    let folder = folder(&authority.issue());
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let proxy = start(folder.path(), &upstream, &PAIR);
    proxy.hang_up();
    proxy.wait_for("new certificate in effect");
    assert!(authority.get(&proxy, None).is_ok());
    std::fs::remove_file(folder.path().join("certs/tls.crt")).unwrap();
    proxy.hang_up();
    proxy.wait_for("a new certificate was not taken over");
    assert!(authority.get(&proxy, None).is_ok());
}

#[test]
fn strict_mutual_tls_is_served_with_authorities_for_it() {
    let authority = Authority::new();
    let (server, client) = (authority.issue(), authority.issue());
    let folder = folder(&server);
    std::fs::write(folder.path().join("ca.crt"), &authority.pem).unwrap();
    std::fs::write(folder.path().join("resources/strict.yaml"), STRICT).unwrap();
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let client_ca = ["--tls-client-ca", "ca.crt", "--tls-client-auth", "optional"];
    let arguments = [&PAIR[..], &client_ca, &["--tls-mode", "permissive"]].concat();
    let proxy = start(folder.path(), &upstream, &arguments);
    assert!(authority.get(&proxy, Some(&client)).unwrap().0.starts_with("HTTP/1.1 200"));
    assert!(authority.get(&proxy, None).is_err());
    assert!(RawClient::connect(proxy.listen).unwrap().get("/").is_err());
    // When it goes, what the flags say counts.
    std::fs::remove_file(folder.path().join("resources/strict.yaml")).unwrap();
    proxy.wait_for("router");
    assert!(authority.get(&proxy, None).is_ok());
    assert_eq!(proxy.get("/").status, 200);
}

#[test]
fn connections_begin_with_a_proxy_header_if_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("resources")).unwrap();
    let upstream = UpstreamThread::start(Upstream::echo()).unwrap();
    let proxy = start(folder.path(), &upstream, &["--proxy-protocol"]);
    let mut client = RawClient::connect(proxy.listen).unwrap();
    client.send("PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n").unwrap();
    assert_eq!(client.get("/").unwrap().status, 200);
    assert!(RawClient::connect(proxy.listen).unwrap().get("/").is_err());
}

#[test]
fn flags_that_want_others_say_so() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, missing) in [
        (&["--tls-cert", "a"][..], "--tls-key <FILE>"),
        (&["--tls-key", "a"], "--tls-cert <FILE>"),
        (&["--tls-client-ca", "a"], "--tls-cert <FILE>"),
        (&["--tls-client-auth", "optional"], "--tls-client-ca <FILE>"),
        (&["--tls-mode", "permissive"], "--tls-cert <FILE>"),
    ] {
        let all = [&["run", "-f", ".", "--upstream", "127.0.0.1:1"], arguments].concat();
        let ended = run_to_end(folder.path(), &all);
        assert_eq!(ended.status, Some(2), "{arguments:?}");
        assert!(ended.stderr.contains(missing), "{}", ended.stderr);
    }
}

#[test]
fn files_that_cannot_be_used_are_named_with_a_hint() {
    let authority = Authority::new();
    let (pair, other) = (authority.issue(), authority.issue());
    let folder = folder(&pair);
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file("other.key", &other.key);
    file("empty", "");
    file("large", &"x".repeat((1 << 20) + 1));
    file("full", &"x".repeat(1 << 20));
    let ended = |cert: &str, key: &str, more: &[&str]| {
        let run =
            ["run", "-f", "resources", "--upstream", "127.0.0.1:1", "--listen", "127.0.0.1:0"];
        let all = [&run[..], &["--tls-cert", cert, "--tls-key", key], more].concat();
        let ended = run_to_end(folder.path(), &all);
        assert_eq!(ended.status, Some(1), "{}", ended.stderr);
        ended.stderr
    };
    let (cert, key) = ("certs/tls.crt", "certs/tls.key");
    expect![[r"
        error: cannot read `missing`
          caused by: No such file or directory (os error 2)

        hint: `--tls-cert` wants an existing file
    "]]
    .assert_eq(&ended("missing", key, &[]));
    expect![[r"
        error: cannot use `certs/tls.crt`
          caused by: the certificate does not belong to the private key

        hint: name the certificate and the key of one and the same pair
    "]]
    .assert_eq(&ended(cert, "other.key", &[]));
    expect![[r"
        error: cannot use `certs/tls.crt`
          caused by: there is no private key in PEM in it, or one that is broken

        hint: a key is PKCS #8, PKCS #1 or SEC 1 in PEM
    "]]
    .assert_eq(&ended(cert, cert, &[]));
    expect![[r"
        error: cannot read `large`
          caused by: it is larger than 1048576 bytes

        hint: `--tls-cert` wants a file in PEM
    "]]
    .assert_eq(&ended("large", key, &[]));
    assert!(!ended("full", key, &[]).contains("it is larger"));
    expect![[r"
        error: cannot use `empty`
          caused by: there is no certificate authority in PEM in it, or one that is broken

        hint: the file has one or more certificates of authorities in PEM
    "]]
    .assert_eq(&ended(cert, key, &["--tls-client-ca", "empty"]));
}
