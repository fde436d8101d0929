//! The closed list of filters that the proxy brings itself, as specifications and per stream.

use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::Value;
use wasmplug_host::{BodyBuffer, Fields};

use super::cors::{Cors, CorsFilter};
use super::ext_authz::{self, ExtAuthz, ExtAuthzFilter};
use super::fault::{Fault, FaultFilter};
use super::jwt_authn::{self, JwtAuthn, JwtAuthnSpec, KeyProblem};
use super::rbac::{self, Rbac, RbacFilter};
use super::substitute::Substitute;
use crate::attributes::StreamShared;
use crate::filter::{BodyOutcome, HeadersOutcome, Interrupt, Resume, Side};
use crate::network::NetworkFactory;

/// What a filter of the proxy's own does with one stream. What it does not say passes unchanged;
/// trailers always do.
pub(crate) trait BuiltInFilter: Debug {
    /// Whether the filter is to be called for this message of the stream.
    fn takes_part(&self, side: Side) -> bool {
        side == Side::Request
    }

    fn on_headers(
        &mut self,
        side: Side,
        headers: Fields,
        end: bool,
    ) -> Result<HeadersOutcome, Interrupt>;

    fn on_body(
        &mut self,
        _side: Side,
        body: BodyBuffer,
        _end: bool,
    ) -> Result<BodyOutcome, Interrupt> {
        Ok(BodyOutcome::Continue(body))
    }

    /// Looks at what came to the filter outside the stream's own callbacks.
    fn poll_actions(&mut self, _is_held: bool) -> Result<Resume, Interrupt> {
        Ok(Resume::default())
    }

    /// Gives back the headers that it held.
    fn release_headers(&mut self, _side: Side) -> Option<Fields> {
        None
    }

    /// Gives back the body bytes that it held.
    fn release_body(&mut self, _side: Side) -> BodyBuffer {
        BodyBuffer::default()
    }

    /// Bytes that the filter keeps itself.
    fn held_body_len(&self, _side: Side) -> usize {
        0
    }
}

/// A filter of the proxy's own, made once of a plan and shared by all workers and streams.
#[derive(Clone, Debug)]
pub struct BuiltInSpec(pub(crate) BuiltInKind);

/// Each of them.
#[derive(Clone, Debug)]
pub(crate) enum BuiltInKind {
    JwtAuthn(Arc<JwtAuthnSpec>),
    Rbac(Arc<Rbac>),
    /// The same for connections that are not HTTP.
    NetworkRbac(Arc<Rbac>),
    ExtAuthz(Arc<ExtAuthz>),
    Fault(Arc<Fault>),
    Cors(Arc<Cors>),
}

/// The filter of one stream.
#[derive(Debug)]
pub(crate) enum BuiltIn {
    Substitute(Substitute),
    JwtAuthn(JwtAuthn),
    Rbac(RbacFilter),
    ExtAuthz(Box<ExtAuthzFilter>),
    Fault(FaultFilter),
    Cors(CorsFilter),
}

// === impl BuiltInSpec ===

impl BuiltInSpec {
    /// The filter's name in Envoy, which is its name in dumps and dynamic metadata as well.
    pub fn name(&self) -> &'static str {
        match &self.0 {
            BuiltInKind::JwtAuthn(_) => jwt_authn::NAME,
            BuiltInKind::Rbac(_) => rbac::NAME,
            BuiltInKind::NetworkRbac(_) => rbac::NETWORK_NAME,
            BuiltInKind::ExtAuthz(_) => ext_authz::NAME,
            BuiltInKind::Fault(_) => "envoy.filters.http.fault",
            BuiltInKind::Cors(_) => "envoy.filters.http.cors",
        }
    }

    /// What is wrong with the keys that it verifies tokens with.
    pub fn key_problems(&self) -> Vec<KeyProblem> {
        match &self.0 {
            BuiltInKind::JwtAuthn(spec) => spec.key_problems().collect(),
            _ => Vec::new(),
        }
    }

    /// What it was made of, for people and scripts; without secrets.
    pub(crate) fn dump(&self) -> Value {
        match &self.0 {
            BuiltInKind::JwtAuthn(spec) => spec.dump(),
            BuiltInKind::Rbac(rbac) | BuiltInKind::NetworkRbac(rbac) => rbac.dump(self.name()),
            BuiltInKind::ExtAuthz(authorizer) => authorizer.dump(),
            BuiltInKind::Fault(fault) => fault.dump(),
            BuiltInKind::Cors(cors) => cors.dump(),
        }
    }

    pub(crate) fn new_filter(&self, stream: &Rc<StreamShared>) -> BuiltIn {
        match &self.0 {
            BuiltInKind::JwtAuthn(spec) => BuiltIn::JwtAuthn(spec.new_filter(stream)),
            BuiltInKind::Rbac(rbac) | BuiltInKind::NetworkRbac(rbac) => {
                BuiltIn::Rbac(rbac.new_filter(stream))
            }
            BuiltInKind::ExtAuthz(of) => BuiltIn::ExtAuthz(Box::new(of.new_filter(stream))),
            BuiltInKind::Fault(fault) => BuiltIn::Fault(fault.new_filter(stream)),
            BuiltInKind::Cors(cors) => BuiltIn::Cors(cors.new_filter(stream)),
        }
    }

    /// What it is on connections; `None` if it is only for HTTP.
    pub(crate) fn network_factory(&self) -> Option<NetworkFactory> {
        match &self.0 {
            BuiltInKind::NetworkRbac(rbac) => Some(NetworkFactory::Rbac(Arc::clone(rbac))),
            _ => None,
        }
    }
}

// === impl BuiltIn ===

impl BuiltIn {
    pub(crate) fn filter(&self) -> &dyn BuiltInFilter {
        match self {
            Self::Substitute(filter) => filter,
            Self::JwtAuthn(filter) => filter,
            Self::Rbac(filter) => filter,
            Self::ExtAuthz(filter) => filter.as_ref(),
            Self::Fault(filter) => filter,
            Self::Cors(filter) => filter,
        }
    }

    pub(crate) fn filter_mut(&mut self) -> &mut dyn BuiltInFilter {
        match self {
            Self::Substitute(filter) => filter,
            Self::JwtAuthn(filter) => filter,
            Self::Rbac(filter) => filter,
            Self::ExtAuthz(filter) => filter.as_mut(),
            Self::Fault(filter) => filter,
            Self::Cors(filter) => filter,
        }
    }
}
