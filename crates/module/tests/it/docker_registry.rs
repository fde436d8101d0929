//! The CNCF registry and tools that are not ours, from Debian packages.

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use wasmplug_api::Digest;
use wasmplug_module::RegistryCredentials;
use wasmplug_testkit::Image;

use crate::fixture::Fixture;

/// The bcrypt hash of `pass`.
const HTPASSWD: &str = "user:$2b$04$abcdefghijklmnopqrstuufznL8bkzdtHwLhca4To/v9Lo9bA7fR6\n";

pub(crate) struct ForeignRegistry {
    process: Child,
    pub(crate) addr: String,
    pub(crate) directory: TempDir,
    skopeo: PathBuf,
    /// The authority that signed its certificate, as PEM; empty without TLS.
    pub(crate) authority: Vec<u8>,
}

/// How it is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protection {
    None,
    /// The password of `user` is `pass`.
    Password,
    /// The same, behind a certificate for `registry.test` by an authority of the test's own.
    PasswordAndTls,
}

impl ForeignRegistry {
    /// Starts it on a free port; `None`, and a line on stdout, if a tool is not installed.
    #[expect(clippy::print_stdout, reason = "whoever counts skipped tests reads stdout")]
    pub(crate) fn start(protection: Protection) -> Option<Self> {
        let (Some(registry), Some(skopeo)) = (find("docker-registry"), find("skopeo")) else {
            println!("SKIPPED: needs `docker-registry` and `skopeo`");
            return None;
        };
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs_err::write(path("htpasswd"), HTPASSWD).unwrap();
        let auth = if protection == Protection::None {
            String::new()
        } else {
            let path = path("htpasswd");
            format!("auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n", path.display())
        };
        let (tls, authority) = match protection {
            Protection::PasswordAndTls => certify(directory.path()),
            Protection::None | Protection::Password => (String::new(), Vec::new()),
        };
        let config = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http: {{ addr: 127.0.0.1:0{tls} }}\n{auth}",
            path("data").display()
        );
        fs_err::write(path("config.yml"), config).unwrap();
        let mut process = Command::new(registry)
            .arg("serve")
            .arg(path("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let addr = log.find_map(|line| {
            let line = line.unwrap();
            let (_, rest) = line.split_once("listening on ")?;
            Some(rest.split(['"', ' ', ',']).next().unwrap_or_default().to_owned())
        });
        // The rest of the log is read and forgotten: a full pipe would stop the registry.
        std::thread::spawn(move || log.for_each(drop));
        Some(Self { process, addr: addr.unwrap(), directory, skopeo, authority })
    }

    /// Copies an image into the registry as `demo:TAG`.
    pub(crate) fn copy(&self, image: &Image, tag: &str, arguments: &[&str]) {
        let layout = self.directory.path().join(tag);
        write_layout(&layout, image);
        self.copy_layout(&format!("oci:{}", layout.display()), tag, arguments);
    }

    /// Copies from anywhere into the registry as `demo:TAG`.
    pub(crate) fn copy_layout(&self, from: &str, tag: &str, arguments: &[&str]) {
        let to = format!("docker://{}/demo:{tag}", self.addr);
        let mut all = vec!["--insecure-policy", "copy", "--quiet", "--dest-tls-verify=false"];
        all.extend(["--dest-creds", "user:pass"]);
        all.extend(arguments);
        all.extend([from, &to]);
        let output = self.skopeo(&all);
        assert!(output.status.success(), "{tag}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn skopeo(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.skopeo);
        // No credentials of whoever runs the test.
        command.env("REGISTRY_AUTH_FILE", self.directory.path().join("auth.json"));
        command.args(arguments).output().unwrap()
    }

    /// A store that knows the registry as `registry.test` and trusts its authority.
    pub(crate) fn fixture(&self) -> Fixture {
        Fixture::with(|options| {
            options.hosts.insert("registry.test".into(), "127.0.0.1".parse().unwrap());
            options.certificate_authorities.clone_from(&self.authority);
        })
    }

    /// `registry.test` with its port.
    pub(crate) fn name(&self) -> String {
        format!("registry.test:{}", self.addr.rsplit(':').next().unwrap())
    }

    /// What `user` shows to it.
    pub(crate) fn account(&self, password: &str) -> RegistryCredentials {
        let entry = format!(r#"{{"username":"user","password":"{password}"}}"#);
        let config =
            format!(r#"{{"auths":{{"{}":{entry},"{}":{entry}}}}}"#, self.addr, self.name());
        RegistryCredentials::from_docker_config(config.as_bytes()).unwrap()
    }

    pub(crate) fn url(&self, tag: &str) -> String {
        format!("oci://{}/demo:{tag}", self.addr)
    }
}

impl Drop for ForeignRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|it| it.is_file())
}

/// Source: OCI Image Layout Specification 1.1.
fn write_layout(directory: &Path, image: &Image) {
    let (media_type, manifest) = image.manifest();
    let blobs = directory.join("blobs/sha256");
    fs_err::create_dir_all(&blobs).unwrap();
    for blob in image.blobs().chain([manifest]) {
        fs_err::write(blobs.join(Digest::sha256_of(blob).hex()), blob).unwrap();
    }
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{media_type}","digest":"{}","size":{}}}]}}"#,
        image.digest(),
        manifest.len()
    );
    fs_err::write(directory.join("index.json"), index).unwrap();
    fs_err::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Writes a certificate, and returns what the registry's configuration says about it, and the
/// authority.
fn certify(folder: &Path) -> (String, Vec<u8>) {
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["registry.test".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let (certificate_path, key_path) = (folder.join("tls.crt"), folder.join("tls.key"));
    fs_err::write(&certificate_path, certificate.pem()).unwrap();
    fs_err::write(&key_path, key.serialize_pem()).unwrap();
    let tls = format!(
        ", tls: {{ certificate: {}, key: {} }}",
        certificate_path.display(),
        key_path.display()
    );
    (tls, authority.pem().into_bytes())
}
