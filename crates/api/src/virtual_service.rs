//! The part of `VirtualService` that asks for filters: cross-origin rules and injected faults.
//!
//! Source: Istio API, `networking/v1alpha3/virtual_service.proto`.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::meta::Object;

/// A `VirtualService` object.
pub type VirtualService = Object<VirtualServiceSpec>;

/// `spec` of a `VirtualService`; where routes lead is accepted and not read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VirtualServiceSpec {
    /// `hosts`: hosts that the routes are for.
    pub hosts: Vec<String>,
    /// `gateways`: Istio gateways, as `NAME` or `NAMESPACE/NAME`, and `mesh` for sidecars; none for
    /// sidecars alone.
    pub gateways: Vec<String>,
    /// `exportTo`: namespaces that see it; none for all.
    pub export_to: Vec<String>,
    /// `http`: the routes.
    pub http: Vec<HttpRoute>,
}

/// One route.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpRoute {
    /// `name`.
    pub name: String,
    /// `match`: alternatives of requests that it is for, as typed.
    pub match_: Vec<Value>,
    /// `corsPolicy`.
    pub cors: Option<CorsPolicy>,
    /// `fault`.
    pub fault: Option<HttpFault>,
}

/// What browsers may do from pages of other origins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CorsPolicy {
    /// `allowOrigins`, and the deprecated `allowOrigin` as exact texts.
    pub allow_origins: Vec<StringMatch>,
    /// `allowMethods`.
    pub allow_methods: Vec<String>,
    /// `allowHeaders`.
    pub allow_headers: Vec<String>,
    /// `exposeHeaders`.
    pub expose_headers: Vec<String>,
    /// `maxAge`.
    pub max_age: Option<Duration>,
    /// `allowCredentials`.
    pub allow_credentials: Option<bool>,
}

/// How a text is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StringMatch {
    /// Equal to it.
    pub exact: Option<String>,
    /// Begins with it.
    pub prefix: Option<String>,
    /// Matches it in full, in the syntax of RE2.
    pub regex: Option<String>,
}

/// A fault that is injected into some requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpFault {
    /// `delay`.
    pub delay: Option<FaultDelay>,
    /// `abort`.
    pub abort: Option<FaultAbort>,
}

/// Requests that wait before they go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultDelay {
    /// How many, in millionths of all; all if it is absent.
    pub per_million: Option<u32>,
    /// `fixedDelay`: how long.
    pub fixed: Option<Duration>,
}

/// Requests that are answered at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FaultAbort {
    /// How many, in millionths of all; all if it is absent.
    pub per_million: Option<u32>,
    /// `httpStatus`.
    pub http_status: Option<u16>,
    /// `grpcStatus`, by name.
    pub grpc_status: Option<String>,
}

// === impl VirtualServiceSpec ===

impl VirtualServiceSpec {
    /// Whether any of its routes asks for a filter.
    pub fn asks_for_filters(&self) -> bool {
        self.http.iter().any(|route| route.cors.is_some() || route.fault.is_some())
    }
}
