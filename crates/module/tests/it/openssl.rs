//! Keys and signatures made by OpenSSL, which shares no code with what checks them.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// A key pair in files of its own.
pub(crate) struct KeyPair {
    directory: TempDir,
    pub(crate) kind: Kind,
    pub(crate) public: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    P256,
    P384,
    Ed25519,
    Rsa,
    RsaPss,
}

pub(crate) const KINDS: [Kind; 5] =
    [Kind::P256, Kind::P384, Kind::Ed25519, Kind::Rsa, Kind::RsaPss];

// === impl KeyPair ===

impl KeyPair {
    /// A new pair; `None`, and a line on stdout, if OpenSSL is not installed.
    #[expect(clippy::print_stdout, reason = "whoever counts skipped tests reads stdout")]
    pub(crate) fn new(kind: Kind) -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            println!("SKIPPED: needs `openssl`");
            return None;
        }
        let directory = TempDir::new().unwrap();
        let arguments: &[&str] = match kind {
            Kind::P256 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Kind::P384 => &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Kind::Ed25519 => &["ed25519"],
            Kind::Rsa | Kind::RsaPss => &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
        };
        let private = directory.path().join("private.pem");
        let mut generate = vec!["genpkey", "-out", private.to_str().unwrap(), "-algorithm"];
        generate.extend(arguments);
        openssl(directory.path(), &generate);
        let public = openssl(directory.path(), &["pkey", "-in", "private.pem", "-pubout"]);
        let public = String::from_utf8(public).unwrap();
        Some(Self { directory, kind, public })
    }

    /// Whether the signature of these bytes was made by this pair.
    pub(crate) fn verifies(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let folder = self.directory.path();
        fs_err::write(folder.join("signed"), bytes).unwrap();
        fs_err::write(folder.join("signature"), signature).unwrap();
        fs_err::write(folder.join("public.pem"), &self.public).unwrap();
        let arguments: &[&str] = match self.kind {
            Kind::Ed25519 => &[
                "pkeyutl",
                "-verify",
                "-pubin",
                "-inkey",
                "public.pem",
                "-rawin",
                "-in",
                "signed",
                "-sigfile",
                "signature",
            ],
            kind => {
                &["dgst", kind.hash(), "-verify", "public.pem", "-signature", "signature", "signed"]
            }
        };
        let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
        output.status.success()
    }

    pub(crate) fn private(&self) -> PathBuf {
        self.directory.path().join("private.pem")
    }

    /// The raw signature of these bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Vec<u8> {
        let folder = self.directory.path();
        fs_err::write(folder.join("signed"), bytes).unwrap();
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
        let mut arguments = match self.kind {
            Kind::Ed25519 => vec!["pkeyutl", "-sign", "-rawin", "-inkey", "private.pem", "-in"],
            _ => vec!["dgst", "-sha256", "-sign", "private.pem"],
        };
        if self.kind == Kind::RsaPss {
            arguments.extend(pss);
        }
        arguments.push("signed");
        openssl(folder, &arguments)
    }
}

// === impl Kind ===

impl Kind {
    /// The hash that goes with a key of this kind.
    fn hash(self) -> &'static str {
        if self == Self::P384 { "-sha384" } else { "-sha256" }
    }
}

fn openssl(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {said}");
    output.stdout
}
