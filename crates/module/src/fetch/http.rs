//! A module on a web server: plain, gzipped, or in a tar archive.
//!
//! Source: Istio's http fetcher. Differs: bounds refuse rather than cut, an archive must hold
//! `plugin.wasm` or a single `.wasm`, and a redirect to http is not followed from https.

use bytes::Bytes;
use url::Url;

use super::{Fetcher, Identity, unpack};
use crate::{
    auth::Credential,
    error::FetchError,
    transport::{Call, Errand, Transport, basic_authorization, read_body, target},
    unpack::unbox,
};

pub(crate) struct HttpFetcher<'a> {
    pub(crate) transport: &'a Transport,
    /// The module's URL, for errors.
    pub(crate) url: String,
    /// What to ask for, user info included.
    pub(crate) location: Url,
    pub(crate) limit: u64,
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

    async fn download(&mut self, call: Call) -> Result<Bytes, FetchError> {
        let errand = Errand::new(self.url.clone(), &call.url);
        let answer = self.transport.send(&errand, &call).await?;
        let url = self.url.clone();
        match answer.status().as_u16() {
            200 => {}
            404 | 410 => return Err(FetchError::NotFound { url, tags: Vec::new() }),
            status @ (401 | 403) => {
                let authenticated = call.authorization.is_some();
                let elsewhere = Vec::new();
                return Err(FetchError::Unauthorized { url, status, authenticated, elsewhere });
            }
            status => {
                return Err(FetchError::Status { url, target: target(&call.url), status });
            }
        }
        let limit = self.limit;
        let body = read_body(&errand, "download", answer, limit).await?;
        unpack(&self.url, move || unbox(body, limit)).await
    }
}
