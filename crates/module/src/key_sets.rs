//! Key sets of token issuers, from where they are published.
//!
//! They are fetched under the rules for modules: guarded addresses, bounded redirects and bodies.
//! What is in them is not looked at here.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use url::Url;

use crate::{
    auth::Credential,
    error::FetchError,
    progress::Progress,
    store::ModuleStore,
    transport::{Call, Errand, basic_authorization, read_body, target},
};

/// Largest key set, and largest answer of a discovery, in bytes. Source: ours.
const MAX_BYTES: u64 = 1024 * 1024;
/// Source: OpenID Connect Discovery 1.0, section 4.
const DISCOVERY_PATH: &str = "/.well-known/openid-configuration";

/// Where the key set of an issuer is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum KeySetSource {
    /// At this URL.
    Uri(String),
    /// Where this issuer says, by OpenID Connect Discovery.
    Issuer(String),
}

/// Why a key set could not be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeySetFetchError {
    /// There is nowhere to ask.
    #[error("`{what}` is not an http URL")]
    NoUrl {
        /// What should be one, without user info.
        what: String,
    },
    /// It was not answered, or not as asked for.
    #[error("cannot fetch the {what}")]
    Fetch {
        /// `key set` or `issuer's configuration`.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<FetchError>,
    },
    /// The issuer's configuration does not say where its keys are.
    #[error("the configuration at `{url}` names no `jwks_uri`")]
    Discovery {
        /// Where the configuration is.
        url: String,
    },
}

/// What is needed of an issuer's configuration.
#[derive(Deserialize)]
struct Configuration {
    jwks_uri: String,
}

// === impl ModuleStore ===

impl ModuleStore {
    /// Fetches the text of a key set; all of it, with all redirects and repetitions, within the
    /// limit of time.
    ///
    /// # Errors
    ///
    /// Every variant of [`KeySetFetchError`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub async fn fetch_key_set(
        &self,
        source: &KeySetSource,
        limit: Duration,
    ) -> Result<Bytes, KeySetFetchError> {
        let fetched = async {
            match source {
                KeySetSource::Uri(uri) => {
                    let url = parse(uri)?;
                    self.get_text("key set", &url, &url).await
                }
                KeySetSource::Issuer(issuer) => {
                    let (named, keys) = self.discover(issuer).await?;
                    self.get_text("key set", &keys, &named).await
                }
            }
        };
        match tokio::time::timeout(limit, fetched).await {
            Ok(fetched) => fetched,
            Err(_) => {
                let url = source.to_string();
                let source = Box::new(FetchError::TimedOut { url, limit });
                Err(KeySetFetchError::Fetch { what: "key set", source })
            }
        }
    }

    /// The URL that the user named, and the one where that says that the keys are.
    async fn discover(&self, issuer: &str) -> Result<(Url, Url), KeySetFetchError> {
        let at = parse(&format!("{}{DISCOVERY_PATH}", issuer.strip_suffix('/').unwrap_or(issuer)))?;
        let text = self.get_text("issuer's configuration", &at, &at).await?;
        let Ok(Configuration { jwks_uri }) = serde_json::from_slice(&text) else {
            return Err(KeySetFetchError::Discovery { url: shown(&at) });
        };
        let keys = parse(&jwks_uri)?;
        Ok((at, keys))
    }

    /// Asks for a URL that may be another one than the one that the user named.
    async fn get_text(
        &self,
        what: &'static str,
        url: &Url,
        named: &Url,
    ) -> Result<Bytes, KeySetFetchError> {
        let authorization = match Credential::from_url(url) {
            Some(Credential::Basic { user, password }) => basic_authorization(&user, &password),
            _ => None,
        };
        let mut bare = url.clone();
        // They go into a header, which redirects do not carry elsewhere.
        bare.set_username("").ok();
        bare.set_password(None).ok();
        let is_named = url.origin() == named.origin();
        let call = Call { authorization, named: is_named, ..Call::get(bare) };
        self.get_bounded(what, &call, named)
            .await
            .map_err(|error| KeySetFetchError::Fetch { what, source: Box::new(error) })
    }

    async fn get_bounded(
        &self,
        what: &'static str,
        call: &Call,
        named: &Url,
    ) -> Result<Bytes, FetchError> {
        let url = call.url.to_string();
        let errand = Errand::new(url.clone(), named, Progress::default());
        let (transport, _) = self.transport();
        let answer = transport.send(&errand, call).await?;
        match answer.status().as_u16() {
            200 => read_body(&errand, what, answer, MAX_BYTES).await,
            404 | 410 => Err(FetchError::NotFound { url, tags: Vec::new() }),
            status => Err(FetchError::Status { url, target: target(&call.url), status }),
        }
    }
}

// === impl KeySetSource ===

impl std::fmt::Display for KeySetSource {
    /// Without user info.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Uri(text) | Self::Issuer(text)) = self;
        match Url::parse(text) {
            Ok(url) => f.write_str(&shown(&url)),
            Err(_) => f.write_str(text),
        }
    }
}

// === impl KeySetFetchError ===

impl KeySetFetchError {
    /// What may help, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoUrl { .. } => {
                Some("set `jwks` or `jwksUri` for an issuer that is not a URL".to_owned())
            }
            Self::Fetch { source, .. } => match &**source {
                FetchError::TimedOut { .. } => {
                    Some("`timeout` of the rule may be longer".to_owned())
                }
                FetchError::TooLarge { .. } => None,
                other => other.hint(),
            },
            Self::Discovery { .. } => Some("set `jwksUri`".to_owned()),
        }
    }
}

fn parse(text: &str) -> Result<Url, KeySetFetchError> {
    let parsed = Url::parse(text);
    let is_http = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    match parsed {
        Ok(url) if is_http(&url) => Ok(url),
        Ok(url) => Err(KeySetFetchError::NoUrl { what: shown(&url) }),
        Err(_) => Err(KeySetFetchError::NoUrl { what: text.to_owned() }),
    }
}

fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_username("").ok();
    url.set_password(None).ok();
    url.to_string()
}
