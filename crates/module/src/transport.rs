//! HTTP requests under the rules for fetches: guarded addresses, bounded redirects and bodies,
//! repetition after passing failures.
//!
//! Redirects are followed here and not by the HTTP client, because each hop is decided upon: where
//! it may lead, and what it may carry.

use std::{error::Error, io, sync::Arc, time::Duration};

use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Method, Proxy, Response, StatusCode,
    header::{
        ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, IF_NONE_MATCH, LOCATION,
        RETRY_AFTER,
    },
    redirect::Policy,
};
use url::Url;

use crate::{
    address_guard::{AddressGuard, BlockedAddress, names_loopback},
    auth::Secret,
    error::{FetchError, RedirectRefused, StoreError, is_transient_status},
    options::{StoreOptions, lists},
    progress::Progress,
    proxy::ProxyUrl,
    tls,
};

/// Source: what browsers and Go's client allow is of the same order.
const MAX_REDIRECTS: usize = 10;
/// Tries of one request, the first one included.
const ATTEMPTS: u32 = 3;
/// Longest wait that a server can ask for with `retry-after`.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(10);
/// A body is collected in memory as it arrives; this much is reserved for an announced one.
const MAX_RESERVED_BYTES: u64 = 1024 * 1024;

/// Sends requests; one per store.
#[derive(Debug)]
pub(crate) struct Transport {
    guard: AddressGuard,
    /// For the host that the user named.
    named: Client,
    /// For hosts that another host named.
    onward: Client,
    onward_guard: AddressGuard,
    /// The same two, for hosts whose certificate is not verified.
    unverified: [Client; 2],
    insecure: Vec<String>,
    retry_delay: Duration,
}

/// For which module requests are made, and what that allows.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    /// The module's URL, for errors.
    pub(crate) url: String,
    /// Whether the user named this machine, so that it may name itself again.
    loopback: bool,
    progress: Progress,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) url: Url,
    pub(crate) accept: Option<&'static str>,
    pub(crate) authorization: Option<HeaderValue>,
    /// `etag` of what need not be sent again.
    pub(crate) if_none_match: Option<String>,
    pub(crate) body: Body,
    /// Whether the user named the host, rather than another host.
    pub(crate) named: bool,
}

/// What a request asks for and sends.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    /// A GET.
    Get,
    /// A HEAD.
    Head,
    /// A POST of a form that holds a secret.
    Form(Secret),
    /// A POST without content.
    Post,
    /// A PUT of content of this media type.
    Put(Bytes, String),
}

// === impl Errand ===

impl Errand {
    pub(crate) fn new(url: String, first: &Url, progress: Progress) -> Self {
        Self { url, loopback: names_loopback(first), progress }
    }
}

// === impl Call ===

impl Call {
    /// A plain GET of a URL that the user named.
    pub(crate) fn get(url: Url) -> Self {
        Self {
            url,
            accept: None,
            authorization: None,
            if_none_match: None,
            body: Body::Get,
            named: true,
        }
    }
}

// === impl Transport ===

impl Transport {
    pub(crate) fn new(options: &StoreOptions) -> Result<Self, StoreError> {
        let guard = AddressGuard::new(options.blocked_networks.clone(), options.hosts.clone());
        let onward_guard = guard.without_loopback();
        let tls = tls::client_config(&options.certificate_authorities)?;
        let any = tls::unverified_config()?;
        let client = |guard: &AddressGuard, tls: &rustls::ClientConfig| {
            Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .dns_resolver(Arc::new(guard.clone()))
                .redirect(Policy::none())
                // The environment is the business of `main` alone.
                .no_proxy()
                .proxy(proxy(options.proxy.as_ref().map(ProxyUrl::url)))
                .referer(false)
                .user_agent(concat!("wasmplug/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|source| StoreError::Client { source })
        };
        let (named, onward) = (client(&guard, &tls)?, client(&onward_guard, &tls)?);
        let unverified = [client(&guard, &any)?, client(&onward_guard, &any)?];
        let (retry_delay, insecure) = (options.retry_delay, options.insecure_registries.clone());
        Ok(Self { guard, named, onward, onward_guard, unverified, insecure, retry_delay })
    }

    /// Sends a request, follows redirects, and repeats it after passing failures.
    ///
    /// Any status is a success here, also one that remained after the last try.
    pub(crate) async fn send(&self, errand: &Errand, call: &Call) -> Result<Response, FetchError> {
        let mut delay = self.retry_delay;
        let mut attempt = 1;
        loop {
            let outcome = self.follow(errand, call).await;
            let wait = match &outcome {
                Ok(answer) if is_transient_status(answer.status().as_u16()) => {
                    delay.max(retry_after(answer).min(MAX_RETRY_AFTER))
                }
                Err(FetchError::Connect { .. }) => delay,
                _ => return outcome,
            };
            if attempt == ATTEMPTS {
                return outcome;
            }
            tracing::debug!(url = %errand.url, attempt, "repeating a request");
            tokio::time::sleep(wait).await;
            delay = delay.saturating_mul(2);
            attempt += 1;
        }
    }

    async fn follow(&self, errand: &Errand, call: &Call) -> Result<Response, FetchError> {
        let mut call = call.clone();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.send_once(errand, &call).await?;
            // What is uploaded goes where the user sends it and nowhere else.
            let is_upload = matches!(call.body, Body::Post | Body::Put(..));
            if is_upload || !is_redirect(answer.status()) {
                return Ok(answer);
            }
            call = redirected(errand, &call, &answer)?;
        }
        let source = RedirectRefused::TooMany { limit: MAX_REDIRECTS };
        Err(FetchError::Redirect { url: errand.url.clone(), source })
    }

    fn is_insecure(&self, url: &Url) -> bool {
        lists(&self.insecure, url)
    }

    async fn send_once(&self, errand: &Errand, call: &Call) -> Result<Response, FetchError> {
        let [unverified, unverified_onward] = &self.unverified;
        let (client, guard) = match (call.named || errand.loopback, self.is_insecure(&call.url)) {
            (true, false) => (&self.named, &self.guard),
            (true, true) => (unverified, &self.guard),
            (false, false) => (&self.onward, &self.onward_guard),
            (false, true) => (unverified_onward, &self.onward_guard),
        };
        // An address in the URL is never resolved, so the resolver cannot check it.
        guard.check_url(&call.url).map_err(|source| FetchError::Blocked {
            url: errand.url.clone(),
            target: target(&call.url),
            source,
        })?;
        let method = match &call.body {
            Body::Get => Method::GET,
            Body::Head => Method::HEAD,
            Body::Form(_) | Body::Post => Method::POST,
            Body::Put(..) => Method::PUT,
        };
        let mut request = client.request(method, call.url.clone());
        if let Some(accept) = call.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(authorization) = &call.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(validator) = &call.if_none_match {
            request = request.header(IF_NONE_MATCH, validator);
        }
        request = match &call.body {
            Body::Get | Body::Head => request,
            Body::Form(form) => request
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.expose().to_owned()),
            Body::Post => request.header(CONTENT_LENGTH, "0"),
            Body::Put(bytes, media_type) => request
                .header(CONTENT_TYPE, media_type)
                .header(CONTENT_LENGTH, bytes.len().to_string())
                .body(errand.progress.stream(bytes.clone())),
        };
        request.send().await.map_err(|error| classify(errand, &call.url, error))
    }
}

/// Reads a whole body; one that is larger than the bound is an error, announced or not.
pub(crate) async fn read_body(
    errand: &Errand,
    what: &'static str,
    mut answer: Response,
    limit: u64,
) -> Result<Bytes, FetchError> {
    let too_large = || FetchError::TooLarge { url: errand.url.clone(), what, limit };
    let announced = answer.content_length().unwrap_or_default();
    if announced > limit {
        return Err(too_large());
    }
    let url = answer.url().clone();
    errand.progress.expect(announced);
    let mut body = BytesMut::with_capacity(reserved_bytes(announced));
    loop {
        match answer.chunk().await {
            Ok(Some(chunk)) if (body.len() as u64).saturating_add(chunk.len() as u64) > limit => {
                return Err(too_large());
            }
            Ok(Some(chunk)) => {
                errand.progress.advance(chunk.len() as u64);
                body.extend_from_slice(&chunk);
            }
            Ok(None) => return Ok(body.freeze()),
            Err(error) => return Err(classify(errand, &url, error)),
        }
    }
}

/// How much is reserved for a body of this announced length.
fn reserved_bytes(announced: u64) -> usize {
    usize::try_from(announced.min(MAX_RESERVED_BYTES)).unwrap_or_default()
}

/// The value of `authorization` for a user and a password.
pub(crate) fn basic_authorization(user: &str, password: &Secret) -> Option<HeaderValue> {
    let pair = format!("{user}:{}", password.expose());
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    sensitive(&format!("Basic {encoded}"))
}

/// The value of `authorization` for a token.
pub(crate) fn bearer_authorization(token: &Secret) -> Option<HeaderValue> {
    sensitive(&format!("Bearer {}", token.expose()))
}

/// Host and port of a URL: all of it that an error may show.
pub(crate) fn target(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn sensitive(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The proxy for everything but this machine; none at all if none is given.
fn proxy(proxy: Option<&Url>) -> Proxy {
    let proxy = proxy.cloned();
    Proxy::custom(move |url| proxy.clone().filter(|_| !names_loopback(url)))
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The request that a redirect asks for, if it is allowed.
fn redirected(errand: &Errand, call: &Call, answer: &Response) -> Result<Call, FetchError> {
    let refuse = |source| FetchError::Redirect { url: errand.url.clone(), source };
    let location = answer
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| call.url.join(value).ok());
    let Some(mut next) = location.filter(|url| matches!(url.scheme(), "http" | "https")) else {
        return Err(refuse(RedirectRefused::Location));
    };
    if call.url.scheme() == "https" && next.scheme() == "http" {
        let to = format!("http://{}", target(&next));
        return Err(refuse(RedirectRefused::Downgrade { to }));
    }
    // Whoever redirects does not choose credentials; both calls succeed on URLs with a host.
    next.set_username("").ok();
    next.set_password(None).ok();
    let same_origin = next.origin() == call.url.origin();
    Ok(Call {
        accept: call.accept,
        if_none_match: call.if_none_match.clone(),
        authorization: call.authorization.clone().filter(|_| same_origin),
        // A form carries a secret as well; without it the request is a harmless GET.
        body: match &call.body {
            Body::Form(_) if !same_origin => Body::Get,
            body => body.clone(),
        },
        named: call.named && same_origin,
        url: next,
    })
}

fn retry_after(answer: &Response) -> Duration {
    let value = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    Duration::from_secs(value.and_then(|text| text.trim().parse().ok()).unwrap_or_default())
}

fn classify(errand: &Errand, asked: &Url, error: reqwest::Error) -> FetchError {
    let (url, target) = (errand.url.clone(), target(asked));
    // Query strings of redirects are signatures; they are secrets.
    let error = error.without_url();
    if let Some(source) = find_cause::<BlockedAddress>(&error) {
        return FetchError::Blocked { url, target, source: *source };
    }
    if let Some(source) = find_cause::<rustls::Error>(&error) {
        let plain_http = matches!(source, rustls::Error::InvalidMessage(_));
        return FetchError::Tls { url, target, plain_http, source: source.clone() };
    }
    if error.is_connect() {
        let refused = find_cause::<io::Error>(&error)
            .is_some_and(|cause| cause.kind() == io::ErrorKind::ConnectionRefused);
        return FetchError::Connect { url, target, refused, source: Arc::new(error) };
    }
    FetchError::Interrupted { url, target, source: Arc::new(error) }
}

/// The first cause of this type; also looks inside `io::Error`, which hides what it wraps.
fn find_cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    let mut cause: Option<&'a (dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_reserves_no_more_than_the_bound() {
        let bound = usize::try_from(MAX_RESERVED_BYTES).unwrap();
        assert_eq!(reserved_bytes(MAX_RESERVED_BYTES - 1), bound - 1);
        for announced in [MAX_RESERVED_BYTES, MAX_RESERVED_BYTES + 1, u64::MAX] {
            assert_eq!(reserved_bytes(announced), bound, "{announced}");
        }
    }
}
