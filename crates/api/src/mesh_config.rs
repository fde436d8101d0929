//! Settings of the mesh, as far as a chain depends on them.
//!
//! They are the key `mesh` of the `ConfigMap` called `istio` in the root namespace.
//!
//! Source: Istio API, `mesh/v1alpha1/config.proto`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Name of the `ConfigMap` that holds the settings; revisions have `istio-REVISION`.
pub const MESH_CONFIG_MAP: &str = "istio";

/// Key of the settings in that `ConfigMap`.
pub const MESH_CONFIG_KEY: &str = "mesh";

/// `MeshConfig`, as far as it is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshConfig {
    /// `pathNormalization.normalization`.
    pub path_normalization: PathNormalization,
    /// `extensionProviders` that are external authorizers; the others are not read.
    pub authorizers: Vec<ExternalAuthorizer>,
    /// `defaultProviders.metrics`; absent for Prometheus alone.
    pub metrics_providers: Option<Vec<String>>,
}

/// How the path of a request is written before any filter sees it.
///
/// Source: Istio, `MeshConfig.pathNormalization.normalization`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PathNormalization {
    /// As it came.
    None,
    /// As RFC 3986 says: no dot segments, unreserved characters decoded; and `\` becomes `/`.
    #[default]
    Base,
    /// As [`Self::Base`], and several slashes become one.
    MergeSlashes,
    /// As [`Self::MergeSlashes`], with `%2F` and `%5C` taken for slashes first.
    DecodeAndMergeSlashes,
}

/// A service that decides about requests for `CUSTOM` policies.
///
/// Source: Istio, `EnvoyExternalAuthorizationHttpProvider` and `…GrpcProvider`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalAuthorizer {
    /// `name`, which policies give as their provider.
    pub name: String,
    /// `service`: host of the authorizer, `NAMESPACE/` before it or not.
    pub service: String,
    /// `port`.
    pub port: u16,
    /// `timeout`: how long an answer may take; absent for [`Self::DEFAULT_TIMEOUT`].
    pub timeout: Option<Duration>,
    /// `failOpen`: requests pass if the authorizer cannot be asked. Default: false.
    pub fail_open: bool,
    /// `statusOnError`: status if it cannot be asked; absent for 403.
    pub status_on_error: Option<u16>,
    /// `clearRouteCache`: the route is chosen again after it changed a request. Default: false.
    pub clear_route_cache: bool,
    /// `includeRequestBodyInCheck`: how much of the body it gets; absent for nothing.
    pub request_body: Option<CheckedBody>,
    /// What is spoken with it.
    pub protocol: AuthorizerProtocol,
}

/// How much of a request's body an authorizer gets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckedBody {
    /// `maxRequestBytes`.
    pub max_bytes: u32,
    /// `allowPartialMessage`: a longer body is cut; if not, it is refused with 413.
    pub allow_partial: bool,
    /// `packAsBytes`: in gRPC, the body is bytes and not text.
    pub pack_as_bytes: bool,
}

/// What is spoken with an external authorizer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthorizerProtocol {
    /// The request's head is sent, the status of the answer decides.
    Http(HttpAuthorizer),
    /// `envoy.service.auth.v3.Authorization`.
    Grpc,
}

/// What an authorizer that speaks HTTP gets and may change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAuthorizer {
    /// `pathPrefix`: stands before the path of each request.
    pub path_prefix: String,
    /// `includeRequestHeadersInCheck`: headers of the request that it gets, `*` at either end.
    pub request_headers: Vec<String>,
    /// `includeAdditionalHeadersInCheck`: headers that it gets in addition.
    pub additional_headers: BTreeMap<String, String>,
    /// `headersToUpstreamOnAllow`: headers of its answer that the request gets.
    pub to_upstream_on_allow: Vec<String>,
    /// `headersToDownstreamOnAllow`: headers of its answer that the response gets.
    pub to_downstream_on_allow: Vec<String>,
    /// `headersToDownstreamOnDeny`: headers of its answer that the refusal has; none for all.
    pub to_downstream_on_deny: Vec<String>,
}

// === impl ExternalAuthorizer ===

impl ExternalAuthorizer {
    /// Source: Istio, `timeout` of external authorizers.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(10);

    /// Name of its cluster, as Istio calls what a workload sends requests to.
    pub fn cluster(&self) -> String {
        format!("outbound|{}||{}", self.port, self.host())
    }

    /// Host of the authorizer, without the namespace that may stand before it.
    pub fn host(&self) -> &str {
        self.service.rsplit('/').next().unwrap_or(&self.service)
    }
}

// === impl AuthorizerProtocol ===

impl Default for AuthorizerProtocol {
    fn default() -> Self {
        Self::Http(HttpAuthorizer::default())
    }
}
