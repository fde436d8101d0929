//! Answers browsers on behalf of routes that ask for it.
//!
//! Source: Envoy, `envoy.filters.http.cors`, with the configuration that Istio makes of a
//! `VirtualService`; the Fetch standard, "CORS protocol".

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN,
};
use serde_json::{Value, json};
use wasmplug_api::PlannedRoutes;
use wasmplug_api::virtual_service::CorsPolicy;
use wasmplug_host::{Fields, LocalReply, Pseudo};

use super::built_in::BuiltInFilter;
use super::routed::{Routed, Text};
use crate::attributes::StreamShared;
use crate::filter::{HeadersOutcome, Interrupt, Side};

/// The routes that ask for it.
#[derive(Debug)]
pub(crate) struct Cors {
    routed: Routed<Policy>,
    port: Option<u16>,
    dump: Value,
}

/// What one route asks for, as it is written into responses.
#[derive(Debug)]
struct Policy {
    origins: Vec<Text>,
    allows_any: bool,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    exposed: Option<HeaderValue>,
    max_age: Option<HeaderValue>,
    allows_credentials: bool,
}

/// The filter of one stream.
#[derive(Debug)]
pub(crate) struct CorsFilter {
    cors: Arc<Cors>,
    port: u16,
    /// The origin that may read the response, and what it may do.
    allowed: Option<(HeaderValue, Arc<Policy>)>,
}

// === impl Cors ===

impl Cors {
    /// `port` is the one that requests come to, if it is known.
    pub(crate) fn new(planned: &PlannedRoutes<CorsPolicy>, port: Option<u16>) -> Self {
        let routed = Routed::new(&planned.routes, Policy::new);
        let dump = json!({ "filter": "envoy.filters.http.cors", "routes": planned });
        Self { routed, port, dump }
    }

    pub(crate) fn dump(&self) -> Value {
        self.dump.clone()
    }

    pub(crate) fn new_filter(self: &Arc<Self>, stream: &Rc<StreamShared>) -> CorsFilter {
        let port = self.port.unwrap_or_else(|| stream.connection_info().local.port());
        CorsFilter { cors: Arc::clone(self), port, allowed: None }
    }
}

// === impl Policy ===

impl Policy {
    fn new(policy: &CorsPolicy) -> Self {
        let joined = |names: &[String]| {
            let joined = HeaderValue::from_str(&names.join(",")).ok();
            joined.filter(|_| !names.is_empty())
        };
        Self {
            origins: policy.allow_origins.iter().map(Text::new).collect(),
            allows_any: policy.allow_origins.iter().any(|of| of.exact.as_deref() == Some("*")),
            methods: joined(&policy.allow_methods),
            headers: joined(&policy.allow_headers),
            exposed: joined(&policy.expose_headers),
            max_age: policy.max_age.map(|age| HeaderValue::from(age.as_secs())),
            allows_credentials: policy.allow_credentials == Some(true),
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.allows_any || self.origins.iter().any(|of| of.fits(origin.as_bytes()))
    }

    /// What every answer to an allowed origin says.
    fn common(&self, origin: &HeaderValue) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = vec![(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone())];
        if self.allows_credentials {
            headers.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        headers
    }

    /// The answer to a question in advance.
    fn preflight(&self, origin: &HeaderValue) -> LocalReply {
        let mut headers = self.common(origin);
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, &self.methods),
            (ACCESS_CONTROL_ALLOW_HEADERS, &self.headers),
            (ACCESS_CONTROL_MAX_AGE, &self.max_age),
            (ACCESS_CONTROL_EXPOSE_HEADERS, &self.exposed),
        ] {
            headers.extend(value.clone().map(|value| (name, value)));
        }
        let pair = |(name, value): (HeaderName, HeaderValue)| {
            let name = Bytes::copy_from_slice(name.as_str().as_bytes());
            (name, Bytes::copy_from_slice(value.as_bytes()))
        };
        LocalReply {
            status: 200,
            details: "cors_response".to_owned(),
            body: Bytes::new(),
            headers: headers.into_iter().map(pair).collect(),
            grpc_status: u32::MAX,
        }
    }
}

impl BuiltInFilter for CorsFilter {
    fn takes_part(&self, side: Side) -> bool {
        side == Side::Request || self.allowed.is_some()
    }

    fn on_headers(
        &mut self,
        side: Side,
        mut headers: Fields,
        _end: bool,
    ) -> Result<HeadersOutcome, Interrupt> {
        if side == Side::Response {
            if let Some((origin, policy)) = &self.allowed {
                let exposed = policy.exposed.clone();
                let exposed = exposed.map(|value| (ACCESS_CONTROL_EXPOSE_HEADERS, value));
                for (name, value) in policy.common(origin).into_iter().chain(exposed) {
                    headers.set_name(name, value);
                }
            }
            return Ok(HeadersOutcome::Continue(headers));
        }
        let Some(origin) = headers.get_name(&ORIGIN).filter(|origin| !origin.is_empty()) else {
            return Ok(HeadersOutcome::Continue(headers));
        };
        let policy = self.cors.routed.find(&headers, self.port);
        let Some(policy) = policy.filter(|policy| policy.allows(origin)) else {
            return Ok(HeadersOutcome::Continue(headers));
        };
        let asks = headers.get_name(&ACCESS_CONTROL_REQUEST_METHOD);
        let is_preflight = headers.pseudo(Pseudo::Method).is_some_and(|of| of == "OPTIONS")
            && asks.is_some_and(|method| !method.is_empty());
        if is_preflight {
            return Err(Interrupt::LocalReply(policy.preflight(origin)));
        }
        self.allowed = Some((origin.clone(), Arc::clone(policy)));
        Ok(HeadersOutcome::Continue(headers))
    }
}
