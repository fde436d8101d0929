//! Certificates of a test, and clients that speak TLS.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use wasmplug_proxy::{ClientAuth, TlsCredentials, TlsMode, TlsOptions, TlsSettings};

/// Name that clients ask for.
pub(crate) const SERVER_NAME: &str = "a.test";

/// Issues certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// How a client speaks TLS.
#[derive(Clone)]
pub(crate) struct Dialer {
    trusted: String,
    shown: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    version: &'static rustls::SupportedProtocolVersion,
}

/// A connection in TLS.
pub(crate) struct TlsClient(StreamOwned<ClientConnection, TcpStream>);

/// A response over HTTP/1.1.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

// === impl Authority ===

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for a DNS name and URIs.
    pub(crate) fn issue(&self, dns: &str, uris: &[&str]) -> Identity {
        self.issue_with(dns, uris, |_| {})
    }

    /// The same with other parameters as well.
    pub(crate) fn issue_with(
        &self,
        dns: &str,
        uris: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![dns.to_owned()]).unwrap();
        for uri in uris {
            params.subject_alt_names.push(SanType::URI((*uri).try_into().unwrap()));
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "CH");
        params.distinguished_name.push(DnType::OrganizationName, "Tests");
        params.distinguished_name.push(DnType::CommonName, dns);
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { certificate, key: key.serialize_pem() }
    }

    /// Credentials of a server that asks nobody for a certificate.
    pub(crate) fn server(&self) -> Arc<TlsCredentials> {
        self.issue(SERVER_NAME, &[]).credentials(None, TlsOptions::default())
    }
}

// === impl Identity ===

impl Identity {
    /// What a listener shows, with the authority that verifies its clients.
    pub(crate) fn credentials(
        &self,
        client_ca: Option<&Authority>,
        options: TlsOptions,
    ) -> Arc<TlsCredentials> {
        let client_ca = client_ca.map(|authority| authority.pem.as_bytes());
        let (certificate, key) = (self.certificate.as_bytes(), self.key.as_bytes());
        Arc::new(TlsCredentials::from_pem(certificate, key, client_ca, options).unwrap())
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()
    }
}

/// A listener that speaks TLS alone.
pub(crate) fn strict(credentials: Arc<TlsCredentials>) -> TlsSettings {
    TlsSettings { credentials, mode: TlsMode::Strict }
}

/// A listener that speaks plain text as well.
pub(crate) fn permissive(credentials: Arc<TlsCredentials>) -> TlsSettings {
    TlsSettings { credentials, mode: TlsMode::Permissive }
}

/// Options with which clients may show a certificate.
pub(crate) fn optional() -> TlsOptions {
    TlsOptions { client_auth: ClientAuth::Optional, ..TlsOptions::default() }
}

// === impl Dialer ===

impl Dialer {
    /// Trusts an authority, and shows nothing.
    pub(crate) fn new(authority: &Authority) -> Self {
        let trusted = authority.pem.clone();
        Self { trusted, shown: None, alpn: Vec::new(), version: &rustls::version::TLS13 }
    }

    pub(crate) fn showing(&self, identity: &Identity) -> Self {
        Self { shown: Some(identity.clone()), ..self.clone() }
    }

    pub(crate) fn offering(&self, alpn: &[&str]) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Self { alpn, ..self.clone() }
    }

    pub(crate) fn speaking(&self, version: &'static rustls::SupportedProtocolVersion) -> Self {
        Self { version, ..self.clone() }
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.trusted.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.shown {
            None => builder.with_no_client_auth(),
            Some(shown) => {
                let key = PrivateKeyDer::from_pem_slice(shown.key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![shown.der()], key).unwrap()
            }
        };
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    /// # Errors
    /// The server refuses the handshake.
    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<TlsClient> {
        self.connect_over(TcpStream::connect(address).unwrap())
    }

    /// The same over a connection on which something was said already.
    pub(crate) fn connect_over(&self, stream: TcpStream) -> io::Result<TlsClient> {
        stream.set_read_timeout(Some(wasmplug_testkit::patience())).unwrap();
        let name = ServerName::try_from(SERVER_NAME).unwrap();
        let connection = ClientConnection::new(self.config(), name).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsClient(stream))
    }

    /// One GET on a connection of its own.
    ///
    /// # Errors
    /// The connection was refused.
    pub(crate) fn get(&self, address: SocketAddr) -> io::Result<Answer> {
        self.connect(address)?.get("/")
    }

    /// Whether a connection is refused before anything is served on it.
    pub(crate) fn is_refused(&self, address: SocketAddr) -> bool {
        match self.get(address) {
            Ok(_) => false,
            Err(error) => {
                let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!is_late, "neither refused nor answered");
                true
            }
        }
    }
}

// === impl TlsClient ===

impl TlsClient {
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\nhost: {SERVER_NAME}\r\n\r\n"))
    }

    /// Sends a request, and reads a response with a length.
    ///
    /// # Errors
    /// The connection ended before.
    pub(crate) fn exchange(&mut self, request: &str) -> io::Result<Answer> {
        self.0.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte)?;
            head.extend_from_slice(&byte);
        }
        let head = String::from_utf8(head).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").expect("a length").parse().unwrap();
        answer.body.resize(length, 0);
        self.0.read_exact(&mut answer.body)?;
        Ok(answer)
    }

    /// Whether these bytes come back; otherwise the other side must have closed.
    pub(crate) fn is_echoed(&mut self, text: &str) -> bool {
        let sent = self.0.write_all(text.as_bytes());
        let mut bytes = vec![0; text.len()];
        match sent.and_then(|()| self.0.read_exact(&mut bytes)) {
            Ok(()) => bytes == text.as_bytes(),
            Err(error) => {
                let is_late = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!is_late, "neither closed nor echoed");
                false
            }
        }
    }

    /// The certificate that the server has shown.
    pub(crate) fn shown(&self) -> CertificateDer<'static> {
        self.0.conn.peer_certificates().unwrap()[0].clone()
    }

    /// What was agreed upon.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        self.0.conn.alpn_protocol()
    }

    /// Whether the other side ends the connection in good order.
    pub(crate) fn is_ended(&mut self) -> bool {
        self.0.read(&mut [0]).is_ok_and(|count| count == 0)
    }
}

// === impl Answer ===

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(present, _)| present.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}
