//! A module on a web server: plain, gzipped, or in a tar archive.
//!
//! Source: Istio's http fetcher. Differs: bounds refuse rather than cut, an archive must hold
//! `plugin.wasm` or a single `.wasm`, and a redirect to http is not followed from https.

use bytes::Bytes;
use reqwest::{Response, header::ETAG};
use url::Url;

use super::{Fetcher, FoundSignatures, Identity, beside, unpack};
use crate::{
    auth::Credential,
    error::FetchError,
    progress::Progress,
    transport::{Call, Errand, Transport, basic_authorization, read_body, target},
    unpack::unbox,
};

/// Longest `etag` that is remembered, in bytes.
const MAX_VALIDATOR_BYTES: usize = 1024;

pub(crate) struct HttpFetcher<'a> {
    pub(crate) transport: &'a Transport,
    /// The module's URL, for errors.
    pub(crate) url: String,
    /// What to ask for, user info included.
    pub(crate) location: Url,
    pub(crate) limit: u64,
    pub(crate) progress: Progress,
    /// What the cache has, if the server may say that it is still the same.
    pub(crate) known: Option<Known>,
    /// `etag` of what was downloaded.
    pub(crate) validator: Option<String>,
}

/// A module that was downloaded before.
pub(crate) struct Known {
    pub(crate) validator: String,
    pub(crate) bytes: Bytes,
}

// === impl HttpFetcher ===

impl Fetcher for HttpFetcher<'_> {
    type Located = Call;

    async fn locate(&mut self) -> Result<(Identity, Call), FetchError> {
        let mut location = self.location.clone();
        let credential = Credential::from_url(&location);
        // They go into a header, which redirects do not carry elsewhere.
        location.set_username("").ok();
        location.set_password(None).ok();
        let authorization = match &credential {
            Some(Credential::Basic { user, password }) => basic_authorization(user, password),
            _ => None,
        };
        let identity = Identity { private: authorization.is_some(), ..Identity::default() };
        Ok((identity, Call { authorization, ..Call::get(location) }))
    }

    async fn signatures(&mut self, _: &Identity) -> Result<FoundSignatures, FetchError> {
        let (_, mut call) = self.locate().await?;
        call.url.set_path(&format!("{}{}", call.url.path(), beside::SUFFIX));
        let looked = without_query(&call.url);
        let evidence = match self.get(&call, "signature", beside::MAX_BYTES).await {
            Ok(bytes) => vec![beside::evidence(&looked, &bytes)],
            Err(FetchError::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(FoundSignatures { evidence, looked: vec![looked] })
    }

    async fn download(&mut self, mut call: Call) -> Result<Bytes, FetchError> {
        let limit = self.limit;
        let known = self.known.take();
        call.if_none_match = known.as_ref().map(|known| known.validator.clone());
        let errand = Errand::new(self.url.clone(), &call.url, self.progress.clone());
        let answer = self.transport.send(&errand, &call).await?;
        if let (304, Some(known)) = (answer.status().as_u16(), known) {
            self.validator = Some(known.validator);
            return Ok(known.bytes);
        }
        let validator = answer.headers().get(ETAG).and_then(|value| value.to_str().ok());
        self.validator =
            validator.filter(|text| text.len() <= MAX_VALIDATOR_BYTES).map(str::to_owned);
        let body = self.read(&call, &errand, "download", answer, limit).await?;
        unpack(&self.url, move || unbox(body, limit)).await
    }

    fn validator(&self) -> Option<String> {
        self.validator.clone()
    }
}

impl HttpFetcher<'_> {
    async fn get(&self, call: &Call, what: &'static str, limit: u64) -> Result<Bytes, FetchError> {
        let errand = Errand::new(self.url.clone(), &call.url, self.progress.clone());
        let answer = self.transport.send(&errand, call).await?;
        self.read(call, &errand, what, answer, limit).await
    }

    /// The content of an answer, if it has the status of one with content.
    async fn read(
        &self,
        call: &Call,
        errand: &Errand,
        what: &'static str,
        answer: Response,
        limit: u64,
    ) -> Result<Bytes, FetchError> {
        let url = self.url.clone();
        match answer.status().as_u16() {
            200 => read_body(errand, what, answer, limit).await,
            404 | 410 => Err(FetchError::NotFound { url, tags: Vec::new() }),
            status @ (401 | 403) => {
                let authenticated = call.authorization.is_some();
                let elsewhere = Vec::new();
                Err(FetchError::Unauthorized { url, status, authenticated, elsewhere })
            }
            status => Err(FetchError::Status { url, target: target(&call.url), status }),
        }
    }
}

/// A URL as an error may show it: its query may be a signature of another kind.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.to_string()
}
