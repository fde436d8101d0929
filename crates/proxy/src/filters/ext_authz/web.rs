//! Authorizers that speak HTTP: the request's head is sent, the status of the answer decides.
//!
//! Source: Envoy, `http_service` of `ext_authz`.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, HOST, LOCATION, PROXY_AUTHENTICATE, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, StatusCode};
use wasmplug_api::HttpAuthorizer;
use wasmplug_host::{Fields, FieldsKind, HttpCall, HttpCallResponse, LocalReply, Pseudo};

use super::answer::{Answer, Change, Changes};
use super::header_list::HeaderList;
use super::{ExtAuthz, Protocol};
use crate::callout::Clusters;

/// Tells the authorizer whether it sees a part of the body only. Source: Envoy.
const PARTIAL_BODY: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");
/// Names of headers that an authorizer wants to be removed. Source: Envoy.
const TO_REMOVE: HeaderName = HeaderName::from_static("x-envoy-auth-headers-to-remove");

/// What an authorizer gets and may change, ready to be used.
#[derive(Debug)]
pub(super) struct WebAuthorizer {
    path_prefix: String,
    request_headers: HeaderList,
    additional: Vec<(HeaderName, HeaderValue)>,
    to_upstream: HeaderList,
    to_client_on_allow: HeaderList,
    to_client_on_deny: HeaderList,
}

// === impl WebAuthorizer ===

impl WebAuthorizer {
    pub(super) fn new(of: &HttpAuthorizer) -> Self {
        let additional = of.additional_headers.iter().filter_map(|(name, value)| {
            Some((name.parse().ok()?, HeaderValue::from_str(value).ok()?))
        });
        Self {
            path_prefix: of.path_prefix.clone(),
            request_headers: HeaderList::new(&of.request_headers),
            additional: additional.collect(),
            to_upstream: HeaderList::new(&of.to_upstream_on_allow),
            to_client_on_allow: HeaderList::new(&of.to_downstream_on_allow),
            to_client_on_deny: HeaderList::new(&of.to_downstream_on_deny),
        }
    }

    /// The question about a request; `body` comes with whether it is a part only.
    pub(super) fn call(
        &self,
        cluster: &str,
        request: &Fields,
        body: Option<(Bytes, bool)>,
        timeout: Duration,
    ) -> HttpCall {
        let mut headers = Fields::new(FieldsKind::Request);
        for pseudo in [Pseudo::Method, Pseudo::Authority] {
            if let Some(value) = request.pseudo(pseudo) {
                headers.set_pseudo(pseudo, value.clone());
            }
        }
        let path = request.pseudo(Pseudo::Path).map_or(&b"/"[..], HeaderValue::as_bytes);
        let path = [self.path_prefix.as_bytes(), path].concat();
        if let Ok(path) = HeaderValue::from_bytes(&path) {
            headers.set_pseudo(Pseudo::Path, path);
        }
        for (name, value) in request.clone().into_regular() {
            let is_framing = name == CONTENT_LENGTH || name == TRANSFER_ENCODING;
            if !is_framing && (name == AUTHORIZATION || self.request_headers.has(&name)) {
                headers.push(name, value);
            }
        }
        let (body, is_partial) =
            body.map_or((Bytes::new(), None), |(body, is_partial)| (body, Some(is_partial)));
        if let Some(is_partial) = is_partial {
            let value = HeaderValue::from_static(if is_partial { "true" } else { "false" });
            headers.set_name(PARTIAL_BODY, value);
        }
        for (name, value) in &self.additional {
            headers.set_name(name.clone(), value.clone());
        }
        let trailers = Fields::new(FieldsKind::Trailers);
        let (target, timeout) = (cluster.to_owned(), Some(timeout));
        HttpCall { token: 0, target, headers, body, trailers, timeout }
    }

    fn answer(&self, response: Option<HttpCallResponse>) -> Answer {
        let Some(HttpCallResponse { mut headers, body, .. }) = response else {
            return Answer::Failed;
        };
        let status = headers.take_pseudo(Pseudo::Status);
        let status = status.and_then(|status| StatusCode::from_bytes(status.as_bytes()).ok());
        match status {
            Some(StatusCode::OK) => self.allowed(headers),
            Some(status) if !status.is_server_error() => self.denied(status, headers, body),
            // Source: Envoy takes an authorizer's own failure for none at all.
            _ => Answer::Failed,
        }
    }

    fn allowed(&self, headers: Fields) -> Answer {
        let (mut request, mut response) = (Changes::default(), Changes::default());
        if let Some(names) = headers.get_name(&TO_REMOVE) {
            for name in names.as_bytes().split(|byte| *byte == b',') {
                if let Ok(name) = HeaderName::from_bytes(name.trim_ascii()) {
                    request.push(Change::Remove(name));
                }
            }
        }
        for (name, value) in headers.into_regular() {
            if self.to_upstream.has(&name) && name != HOST {
                request.push(Change::Set(name.clone(), value.clone()));
            }
            if self.to_client_on_allow.has(&name) {
                response.push(Change::Append(name, value));
            }
        }
        Answer::Allowed { request, response, metadata: None }
    }

    fn denied(&self, status: StatusCode, headers: Fields, body: Bytes) -> Answer {
        let is_passed = |name: &HeaderName| {
            let is_usual = [WWW_AUTHENTICATE, PROXY_AUTHENTICATE, LOCATION, CONTENT_LENGTH];
            self.to_client_on_deny.is_empty()
                || is_usual.contains(name)
                || self.to_client_on_deny.has(name)
        };
        let passed = headers.into_regular().filter(|(name, _)| is_passed(name));
        let pair = |(name, value): (HeaderName, HeaderValue)| {
            let name = Bytes::copy_from_slice(name.as_str().as_bytes());
            (name, Bytes::copy_from_slice(value.as_bytes()))
        };
        Answer::Denied(Box::new(LocalReply {
            status: status.as_u16(),
            details: "ext_authz_denied".to_owned(),
            body,
            headers: passed.map(pair).collect(),
            grpc_status: u32::MAX,
        }))
    }
}

/// Asks, and tells what came back.
pub(super) fn ask(
    spec: Arc<ExtAuthz>,
    clusters: &Rc<Clusters>,
    call: HttpCall,
) -> impl Future<Output = Answer> + 'static {
    let callout = clusters.prepare_question(call);
    async move {
        let Protocol::Web(web) = &spec.protocol else { return Answer::Failed };
        let response = match callout {
            Ok(callout) => callout.send().await,
            Err(_) => None,
        };
        web.answer(response)
    }
}
