//! Why a module could not be obtained, and what may help.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use wasmplug_api::Digest;

use crate::{
    address_guard::BlockedAddress, contents::Contents, image::ImageError, request::ContentDigests,
    signature::SignatureError, unpack::UnpackError,
};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made or used.
    #[error("cannot use the module cache `{}`", .directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What should be certificate authorities in PEM is not.
    #[error("the configured certificate authorities are not certificates in PEM")]
    CertificateAuthorities,
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls {
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The HTTP client cannot be set up.
    #[error("cannot set up the HTTP client")]
    Client {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
}

/// Why a module could not be obtained.
///
/// `url` is the module's URL without user info; `target` is the URL or host that was asked, where
/// that may be another one. Cheap to clone: concurrent requests for one module share the error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    /// No connection could be made; worth another try later.
    #[error("cannot connect to `{target}` for `{url}`")]
    Connect {
        /// The module's URL.
        url: String,
        /// Host and port.
        target: String,
        /// Whether the peer refused, rather than being out of reach.
        refused: bool,
        /// Why.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// The TLS handshake failed.
    #[error("no TLS connection to `{target}` for `{url}`")]
    Tls {
        /// The module's URL.
        url: String,
        /// Host and port.
        target: String,
        /// Whether the peer does not speak TLS at all.
        plain_http: bool,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The connection ended or broke inside an answer; worth another try later.
    #[error("the answer of `{target}` for `{url}` broke off")]
    Interrupted {
        /// The module's URL.
        url: String,
        /// Host and port.
        target: String,
        /// Why.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// An address that fetches must not reach.
    #[error("refused to connect to `{target}` for `{url}`")]
    Blocked {
        /// The module's URL.
        url: String,
        /// Host and port.
        target: String,
        /// The rule.
        #[source]
        source: BlockedAddress,
    },
    /// A redirect that is not followed.
    #[error("refused a redirect of `{url}`")]
    Redirect {
        /// The module's URL.
        url: String,
        /// The rule.
        #[source]
        source: RedirectRefused,
    },
    /// A token service that would get credentials over plain http.
    #[error("the registry of `{url}` wants credentials sent to `{realm}`, which is not https")]
    InsecureRealm {
        /// The module's URL.
        url: String,
        /// The token service.
        realm: String,
    },
    /// Not allowed to pull or to push.
    #[error("no access to `{url}`: the registry answered {status}")]
    Unauthorized {
        /// The module's URL.
        url: String,
        /// 401 or 403.
        status: u16,
        /// Whether credentials were sent.
        authenticated: bool,
        /// What the given credentials are for, if they are for other registries only.
        elsewhere: Vec<String>,
    },
    /// Not there.
    #[error("`{url}` does not exist")]
    NotFound {
        /// The module's URL.
        url: String,
        /// Some tags of the repository, if the registry tells.
        tags: Vec<String>,
    },
    /// Some other status.
    #[error("`{target}` answered {status} for `{url}`")]
    Status {
        /// The module's URL.
        url: String,
        /// Host and port.
        target: String,
        /// The status.
        status: u16,
    },
    /// It took too long; worth another try later.
    #[error("fetching `{url}` took longer than {} s", .limit.as_secs_f32())]
    TimedOut {
        /// The module's URL.
        url: String,
        /// The bound.
        limit: Duration,
    },
    /// More bytes than allowed.
    #[error("the {what} of `{url}` is larger than {limit} bytes")]
    TooLarge {
        /// The module's URL.
        url: String,
        /// `module`, `layer`, `manifest`, `answer`.
        what: &'static str,
        /// The bound in bytes.
        limit: u64,
    },
    /// The registry sent something else than its own digest says.
    #[error(
        "the {what} of `{url}` is corrupt: its digest should be `{expected}` and is `{actual}`"
    )]
    Corrupt {
        /// The module's URL.
        url: String,
        /// `layer` or `manifest`.
        what: &'static str,
        /// What the reference, index or manifest says.
        expected: Digest,
        /// Of the bytes that came.
        actual: Digest,
    },
    /// It is not what the resource asked for; never cached.
    #[error("digest mismatch for `{}`: expected `{}`, got {}", .0.url, .0.expected, .0.actual())]
    DigestMismatch(Box<Mismatch>),
    /// No signature of those that are demanded.
    #[error("`{url}` must be signed")]
    Signature {
        /// The module's URL.
        url: String,
        /// What was found instead.
        #[source]
        source: SignatureError,
    },
    /// No module can be found in the image.
    #[error("no module in the image `{url}`")]
    Image {
        /// The module's URL.
        url: String,
        /// Why.
        #[source]
        source: ImageError,
    },
    /// The module cannot be taken out of its archive.
    #[error("cannot unpack `{url}`")]
    Unpack {
        /// The module's URL.
        url: String,
        /// Why.
        #[source]
        source: UnpackError,
    },
    /// Not a Wasm module.
    #[error("`{url}` is not a Wasm module: {contents}")]
    NotWasm {
        /// The module's URL.
        url: String,
        /// What it looks like.
        contents: Contents,
    },
    /// The file of a `file` URL cannot be read.
    #[error("cannot read the module `{}`", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The cache cannot be read or written.
    #[error("the module cache failed for `{url}`")]
    Cache {
        /// The module's URL.
        url: String,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
}

/// What was asked for and what was found instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The module's URL.
    pub url: String,
    /// The requested `sha256`.
    pub expected: Digest,
    /// Digest of the module.
    pub module: Digest,
    /// Digest of the image's manifest, if it was one.
    pub manifest: Option<Digest>,
    /// Digest of the image index, if there was one.
    pub index: Option<Digest>,
}

/// Why a redirect is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectRefused {
    /// From https to http.
    #[error("it leads from https to `{to}`, which is not encrypted")]
    Downgrade {
        /// Scheme, host and port.
        to: String,
    },
    /// Too many of them.
    #[error("there were more than {limit} redirects")]
    TooMany {
        /// The bound.
        limit: usize,
    },
    /// No `location`, or one that is not an http URL.
    #[error("its `location` is missing or not an http URL")]
    Location,
}

// === impl Mismatch ===

impl Mismatch {
    pub(crate) fn new(url: String, expected: Digest, found: ContentDigests) -> Self {
        let ContentDigests { module, manifest, index } = found;
        Self { url, expected, module, manifest, index }
    }

    /// Every digest found, and what it is of.
    fn actual(&self) -> String {
        let mut text = format!("`{}` (module)", self.module);
        let further = [("manifest", &self.manifest), ("index", &self.index)];
        for (what, digest) in further {
            if let Some(digest) = digest {
                text = format!("{text}, `{digest}` ({what})");
            }
        }
        text
    }
}

// === impl FetchError ===

impl FetchError {
    /// What may help, where that is known.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Connect { refused: true, .. } => {
                "nothing listens there; is the address right and the server running?".to_owned()
            }
            Self::Connect { .. } => "is the name right, and the network up?".to_owned(),
            Self::Tls { plain_http: true, target, .. } => format!(
                "`{target}` speaks plain http; if that is meant, name it among the plain-http registries"
            ),
            Self::Tls { .. } => {
                "if the server has a private certificate authority, configure it".to_owned()
            }
            Self::Blocked { source: BlockedAddress::Network { .. }, .. } => {
                "the network is blocked by the configuration".to_owned()
            }
            Self::Unauthorized { authenticated: true, .. } => {
                "the credentials are wrong or may not pull this image; the image may also not exist"
                    .to_owned()
            }
            Self::Unauthorized { elsewhere, .. } if !elsewhere.is_empty() => format!(
                "the credentials are for `{}` and not for this registry, so none were sent",
                elsewhere.join("`, `")
            ),
            Self::Unauthorized { authenticated: false, .. } => {
                "no credentials were sent; set `imagePullSecret` if the image is private, \
                 and check its name if it is public"
                    .to_owned()
            }
            Self::NotFound { tags, .. } if !tags.is_empty() => {
                format!("the repository has the tags `{}`", tags.join("`, `"))
            }
            Self::DigestMismatch(mismatch) => format!(
                "if the new content is meant, set `sha256` to `{}`",
                mismatch.manifest.as_ref().unwrap_or(&mismatch.module).hex()
            ),
            Self::TooLarge { .. } | Self::Unpack { source: UnpackError::TooLarge { .. }, .. } => {
                "is it the right artifact? the bound is configurable".to_owned()
            }
            Self::Unpack { source: UnpackError::SeveralModules { .. }, .. } => {
                "name one of them `plugin.wasm`".to_owned()
            }
            Self::NotWasm { contents, .. } => contents.hint()?.to_owned(),
            Self::Signature { source, .. } => source.hint()?,
            Self::Image { source: ImageError::SchemaOne, .. } => {
                "push the image again with a current tool".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }

    /// Whether the same request may succeed later without anyone changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::Interrupted { .. }
            | Self::TimedOut { .. }
            | Self::Corrupt { .. }
            | Self::Cache { .. } => true,
            Self::Status { status, .. } => is_transient_status(*status),
            _ => false,
        }
    }
}

/// Statuses after which a request is repeated.
pub(crate) fn is_transient_status(status: u16) -> bool {
    matches!(status, 408 | 429 | 500..=599)
}
