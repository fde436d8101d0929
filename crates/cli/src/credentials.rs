//! Certificate, key and authorities of the listener: read from files, and followed.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::signal::unix::Signal;
use wasmplug_proxy::{
    ClientAuth, ListenerProtocol, TlsCredentials, TlsCredentialsError, TlsListener, TlsOptions,
};

use crate::args::ListenerArguments;
use crate::diagnostics::WithHint;
use crate::output;
use crate::sources;

/// Largest file. Source: ours; a whole bundle of public authorities has a quarter of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where the credentials of a listener are.
#[derive(Debug, Clone)]
pub(crate) struct CredentialFiles {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    options: TlsOptions,
}

/// What the files held when they were read; nothing of it is ever printed.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

// === impl CredentialFiles ===

impl CredentialFiles {
    /// `None` if the listener speaks no TLS.
    pub(crate) fn of(arguments: &ListenerArguments, protocol: ListenerProtocol) -> Option<Self> {
        let (certificate, key) = (arguments.tls_cert.clone()?, arguments.tls_key.clone()?);
        let client_auth = ClientAuth::from(arguments.tls_client_auth);
        let options = TlsOptions { client_auth, protocol };
        Some(Self { certificate, key, client_ca: arguments.tls_client_ca.clone(), options })
    }

    pub(crate) fn client_auth(&self) -> ClientAuth {
        self.options.client_auth
    }

    /// Reads the files.
    ///
    /// # Errors
    /// One cannot be read, or is too large.
    pub(crate) fn read(&self) -> anyhow::Result<Contents> {
        Ok(Contents {
            certificate: read(&self.certificate, "--tls-cert")?,
            key: read(&self.key, "--tls-key")?,
            client_ca: self.client_ca.as_ref().map(|ca| read(ca, "--tls-client-ca")).transpose()?,
        })
    }

    /// Checks what the files held.
    ///
    /// # Errors
    /// It cannot be used; the file to blame is named.
    pub(crate) fn load(&self, contents: &Contents) -> anyhow::Result<Arc<TlsCredentials>> {
        let client_ca = contents.client_ca.as_deref();
        let (certificate, key) = (&contents.certificate, &contents.key);
        let loaded = TlsCredentials::from_pem(certificate, key, client_ca, self.options);
        loaded.map(Arc::new).map_err(|error| {
            let hint = error.hint();
            let file = self.to_blame(&error).display().to_string();
            WithHint::wrap(anyhow::Error::new(error).context(format!("cannot use `{file}`")), hint)
        })
    }

    /// The file that an error is about.
    fn to_blame(&self, error: &TlsCredentialsError) -> &Path {
        match &self.client_ca {
            Some(client_ca) if error.is_about_client_ca() => client_ca,
            _ if error.is_about_key() => &self.key,
            _ => &self.certificate,
        }
    }

    /// Follows the files, and reads them again on a signal, until the proxy ends. `current` is what
    /// they held when the credentials in effect were read.
    ///
    /// # Errors
    /// The system refuses to watch.
    pub(crate) async fn follow(
        &self,
        current: Contents,
        tls: &TlsListener,
        reload: &mut Signal,
    ) -> anyhow::Result<()> {
        let files = [Some(&self.certificate), Some(&self.key), self.client_ca.as_ref()];
        let (_watcher, mut changes) = sources::watch(files.into_iter().flatten())?;
        // What changed before somebody watched.
        let mut current = self.take_over(current, tls, false);
        loop {
            let is_asked = tokio::select! {
                // Cancel-safe: a change is remembered until it is looked at.
                event = changes.changed() => {
                    if event.is_err() {
                        anyhow::bail!("the files of the certificate are no longer watched");
                    }
                    false
                }
                // Cancel-safe: a signal.
                _ = reload.recv() => true,
            };
            if is_asked {
                changes.borrow_and_update();
            } else {
                sources::settled(&mut changes).await;
            }
            current = self.take_over(current, tls, is_asked);
        }
    }

    /// Puts what the files hold now into effect if it is not what they held before; `is_asked`
    /// tells of it in any case. Returns what they hold.
    fn take_over(&self, before: Contents, tls: &TlsListener, is_asked: bool) -> Contents {
        let read = self.read();
        let (contents, loaded) = match read {
            Ok(contents) if contents == before && !is_asked => return before,
            Ok(contents) => {
                let loaded = self.load(&contents);
                (contents, loaded)
            }
            Err(error) => (Contents::default(), Err(error)),
        };
        match loaded {
            Ok(credentials) => {
                let end = credentials.not_after_text();
                tls.replace(credentials);
                output::talk(format!("new certificate in effect, valid until {end}"));
            }
            Err(error) => {
                let end = tls.current().not_after_text();
                let (error, hint) = WithHint::parts(&error);
                tls.reject(format!("{error:#}"));
                let hint = hint.map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
                tracing::error!(
                    "a new certificate was not taken over: {error:#}\n  effect: the one before \
                     stays in effect, valid until {end}{hint}"
                );
            }
        }
        contents
    }
}

fn read(path: &Path, flag: &str) -> anyhow::Result<Vec<u8>> {
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| {
        let mut contents = Vec::new();
        file.take(MAX_FILE_BYTES.saturating_add(1)).read_to_end(&mut contents)?;
        Ok(contents)
    });
    let named = |error: anyhow::Error| error.context(format!("cannot read `{}`", path.display()));
    match read {
        Ok(contents) if u64::try_from(contents.len()).is_ok_and(|len| len <= MAX_FILE_BYTES) => {
            Ok(contents)
        }
        Ok(_) => {
            let error = anyhow::anyhow!("it is larger than {MAX_FILE_BYTES} bytes");
            let hint = format!("`{flag}` wants a file in PEM");
            Err(WithHint::wrap(named(error), Some(hint)))
        }
        Err(error) => {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => Some(format!("`{flag}` wants an existing file")),
                std::io::ErrorKind::PermissionDenied => {
                    Some("this process has to be able to read it".to_owned())
                }
                _ => None,
            };
            Err(WithHint::wrap(named(anyhow::Error::new(error)), hint))
        }
    }
}
