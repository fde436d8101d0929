//! Requests to one repository, with authorisation when the registry asks for it.

use reqwest::{Response, header::HeaderValue};
use serde::Deserialize;
use url::{Url, form_urlencoded};
use wasmplug_api::ImageReference;

use super::challenge::{self, Challenge};
use crate::{
    address_guard::names_loopback,
    auth::{Credential, RegistryCredentials, Secret},
    error::FetchError,
    options::{StoreOptions, lists},
    progress::Progress,
    transport::{
        Body, Call, Errand, Transport, basic_authorization, bearer_authorization, read_body, target,
    },
};

/// Largest answer of a token service in bytes.
const MAX_TOKEN_BYTES: u64 = 256 * 1024;
/// Largest list of tags in bytes.
const MAX_TAGS_BYTES: u64 = 256 * 1024;
/// How many tags an error names.
const MAX_TAGS: usize = 20;
/// How a token service knows this client.
const CLIENT_ID: &str = "wasmplug";

/// What all sessions of a store share, and how far this one has come.
#[derive(Debug, Clone)]
pub(crate) struct Site<'a> {
    pub(crate) transport: &'a Transport,
    pub(crate) options: &'a StoreOptions,
    pub(crate) progress: Progress,
}

pub(crate) struct Session<'a> {
    site: Site<'a>,
    errand: Errand,
    /// `http[s]://registry/v2/repository`, without a slash at the end.
    base: Url,
    repository: String,
    credential: Option<&'a Credential>,
    /// What credentials for other registries are for, if there are no others.
    elsewhere: Vec<String>,
    authorization: Option<HeaderValue>,
    /// Whether the credential was shown to anyone.
    shown: bool,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
}

#[derive(Deserialize)]
struct TagList {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

// === impl Session ===

impl<'a> Session<'a> {
    pub(crate) fn new(
        site: Site<'a>,
        url: String,
        reference: &ImageReference,
        credentials: Option<&'a RegistryCredentials>,
    ) -> Result<Self, FetchError> {
        let credential = credentials.and_then(|all| all.find(reference));
        let elsewhere = match (credential, credentials) {
            (None, Some(others)) => others.places(),
            _ => Vec::new(),
        };
        let path = format!("{}/v2/{}", reference.registry, reference.repository);
        let parse = |scheme: &str| Url::parse(&format!("{scheme}://{path}"));
        let https = parse("https").ok().filter(|it| it.host().is_some());
        let Some(https) = https else {
            return Err(FetchError::NotFound { url, tags: Vec::new() });
        };
        // Decided before the first byte; nothing later changes it.
        let base = match parse("http") {
            Ok(http) if speaks_plain_http(site.options, &http) => http,
            _ => https,
        };
        let errand = Errand::new(url, &base, site.progress.clone());
        let repository = reference.repository.clone();
        let (authorization, shown) = (None, false);
        Ok(Self { site, errand, base, repository, credential, elsewhere, authorization, shown })
    }

    /// The URL that all of this is about, for errors.
    pub(crate) fn url(&self) -> String {
        self.errand.url.clone()
    }

    pub(crate) fn max_module_bytes(&self) -> u64 {
        self.site.options.max_module_bytes
    }

    pub(crate) fn errand(&self) -> &Errand {
        &self.errand
    }

    /// Whether what was got may only be given to who has the same credential.
    pub(crate) fn is_private(&self) -> bool {
        self.shown
    }

    /// Gets something below the repository; `tags` tells whether an error should name tags.
    pub(crate) async fn get(
        &mut self,
        path: &[&str],
        accept: Option<&'static str>,
        tags: bool,
    ) -> Result<Response, FetchError> {
        let answer = self.exchange(|session| session.call(path, accept)).await?;
        match answer.status().as_u16() {
            404 => {
                let tags = if tags { self.tags().await } else { Vec::new() };
                Err(FetchError::NotFound { url: self.errand.url.clone(), tags })
            }
            _ => self.accept(answer, &[200]),
        }
    }

    /// Sends a request, and sends it again with what the registry asks to be shown.
    pub(crate) async fn exchange(
        &mut self,
        call: impl Fn(&Self) -> Call,
    ) -> Result<Response, FetchError> {
        let answer = self.site.transport.send(&self.errand, &call(self)).await?;
        if answer.status().as_u16() == 401
            && let Some(challenge) = challenge::first(answer.headers())
        {
            // A token may have expired between manifest and layer, so this is not just for once.
            self.authorization = None;
            self.authorize(challenge).await?;
            if self.authorization.is_some() {
                return self.site.transport.send(&self.errand, &call(self)).await;
            }
        }
        Ok(answer)
    }

    /// The answer, if its status is among these.
    pub(crate) fn accept(
        &self,
        answer: Response,
        statuses: &[u16],
    ) -> Result<Response, FetchError> {
        match answer.status().as_u16() {
            status if statuses.contains(&status) => Ok(answer),
            status @ (401 | 403) => Err(self.unauthorized(status)),
            status => {
                let url = self.errand.url.clone();
                Err(FetchError::Status { url, target: target(&self.base), status })
            }
        }
    }

    fn unauthorized(&self, status: u16) -> FetchError {
        let (url, elsewhere) = (self.errand.url.clone(), self.elsewhere.clone());
        FetchError::Unauthorized { url, status, authenticated: self.shown, elsewhere }
    }

    /// A GET of something below the repository.
    pub(crate) fn call(&self, path: &[&str], accept: Option<&'static str>) -> Call {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.extend(path);
        }
        Call { accept, authorization: self.authorization.clone(), ..Call::get(url) }
    }

    /// A request to where the registry sends an upload: with credentials only to itself.
    pub(crate) fn call_to(&self, location: &str) -> Option<Call> {
        let url = self.base.join(location).ok()?;
        let is_own = url.origin() == self.base.origin();
        let authorization = self.authorization.clone().filter(|_| is_own);
        let is_downgrade = self.base.scheme() == "https" && url.scheme() != "https";
        (!is_downgrade).then(|| Call { authorization, named: is_own, ..Call::get(url) })
    }

    /// Gets what meets the challenge into `authorization`.
    async fn authorize(&mut self, challenge: Challenge) -> Result<(), FetchError> {
        self.authorization = match (challenge, self.credential) {
            (Challenge::Basic, Some(Credential::Basic { user, password })) => {
                self.shown = true;
                basic_authorization(user, password)
            }
            (Challenge::Basic, _) => None,
            (Challenge::Bearer { .. }, Some(Credential::RegistryToken(token))) => {
                self.shown = true;
                bearer_authorization(token)
            }
            (Challenge::Bearer { realm, service, scope }, credential) => {
                let scope = scope.unwrap_or_else(|| format!("repository:{}:pull", self.repository));
                let service = service.as_deref().unwrap_or_default();
                let call = self.token_call(&realm, service, &scope, credential)?;
                self.shown |= credential.is_some();
                bearer_authorization(&self.token(&call).await?)
            }
        };
        Ok(())
    }

    /// Source: Docker Registry v2 token authentication, "Token" and "`OAuth2`".
    fn token_call(
        &self,
        realm: &str,
        service: &str,
        scope: &str,
        credential: Option<&Credential>,
    ) -> Result<Call, FetchError> {
        let insecure =
            || FetchError::InsecureRealm { url: self.errand.url.clone(), realm: shorten(realm) };
        let mut url = Url::parse(realm).map_err(|_| insecure())?;
        let allowed = match url.scheme() {
            "https" => true,
            "http" => speaks_plain_http(self.site.options, &url),
            _ => false,
        };
        if !allowed {
            return Err(insecure());
        }
        url.set_username("").ok();
        url.set_password(None).ok();
        let named = url.origin() == self.base.origin();
        let mut call = Call { named, ..Call::get(url) };
        match credential {
            Some(Credential::IdentityToken(token)) => {
                let form = form_urlencoded::Serializer::new(String::new())
                    .append_pair("grant_type", "refresh_token")
                    .append_pair("service", service)
                    .append_pair("scope", scope)
                    .append_pair("client_id", CLIENT_ID)
                    .append_pair("refresh_token", token.expose())
                    .finish();
                call.body = Body::Form(Secret::new(form));
            }
            other => {
                let mut query = call.url.query_pairs_mut();
                if !service.is_empty() {
                    query.append_pair("service", service);
                }
                query.append_pair("scope", scope);
                drop(query);
                if let Some(Credential::Basic { user, password }) = other {
                    call.authorization = basic_authorization(user, password);
                }
            }
        }
        Ok(call)
    }

    async fn token(&self, call: &Call) -> Result<Secret, FetchError> {
        let answer = self.site.transport.send(&self.errand, call).await?;
        let url = self.errand.url.clone();
        let status = answer.status().as_u16();
        match status {
            200 => {}
            400 | 401 | 403 => return Err(self.unauthorized(status)),
            _ => return Err(FetchError::Status { url, target: target(&call.url), status }),
        }
        let body = read_body(&self.errand, "token", answer, MAX_TOKEN_BYTES).await?;
        let TokenAnswer { token, access_token } = serde_json::from_slice(&body)
            .unwrap_or(TokenAnswer { token: String::new(), access_token: String::new() });
        let token = if token.is_empty() { access_token } else { token };
        if token.is_empty() {
            // A service that answers without a token has not let anyone in.
            return Err(self.unauthorized(401));
        }
        Ok(Secret::new(token))
    }

    /// Some tags of the repository; none if the registry does not tell.
    async fn tags(&mut self) -> Vec<String> {
        let mut call = self.call(&["tags", "list"], None);
        call.url.query_pairs_mut().append_pair("n", &MAX_TAGS.to_string());
        let Ok(answer) = self.site.transport.send(&self.errand, &call).await else {
            return Vec::new();
        };
        if answer.status().as_u16() != 200 {
            return Vec::new();
        }
        let Ok(body) = read_body(&self.errand, "list of tags", answer, MAX_TAGS_BYTES).await else {
            return Vec::new();
        };
        let list: TagList = serde_json::from_slice(&body).unwrap_or(TagList { tags: None });
        let tags = list.tags.unwrap_or_default();
        // What is no tag is not shown: it came from outside.
        let is_tag = |tag: &String| {
            tag.len() <= 128
                && tag.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        };
        tags.into_iter().filter(is_tag).take(MAX_TAGS).collect()
    }
}

/// Whether a registry or token service is asked over http: loopback, and what is configured.
fn speaks_plain_http(options: &StoreOptions, url: &Url) -> bool {
    names_loopback(url) || lists(&options.plain_http_registries, url)
}

fn shorten(text: &str) -> String {
    text.chars().take(200).collect::<String>().escape_debug().to_string()
}
