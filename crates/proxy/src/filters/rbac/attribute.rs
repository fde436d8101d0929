//! One value of one attribute, compiled.

use super::address::IpBlock;
use super::claims::{RequestPrincipal, ValueAt};
use super::string_match::StringMatch;
use super::subject::Subject;

/// A value that an author wrote for an attribute.
///
/// Source: Istio, the permissions and principals that it makes of `AuthorizationPolicy`.
#[derive(Debug)]
pub(super) enum Attribute {
    /// The whole identity of the peer.
    Peer(StringMatch),
    /// `requestPrincipals`.
    RequestPrincipal(RequestPrincipal),
    /// `ipBlocks`.
    Source(IpBlock),
    /// `remoteIpBlocks`.
    Remote(IpBlock),
    /// `destination.ip`.
    Destination(IpBlock),
    /// `ports`.
    Port(u16),
    /// `connection.sni`.
    ServerName(StringMatch),
    /// `hosts`.
    Host(StringMatch),
    /// `paths`.
    Path(StringMatch),
    /// A header of which one value is to be found.
    Header(Box<[u8]>, StringMatch),
    /// A header that is to be there.
    HeaderPresent(Box<[u8]>),
    /// Something that a filter said.
    Metadata(ValueAt),
}

// === impl Attribute ===

impl Attribute {
    /// What is not there is not found.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::Peer(identity) => {
                subject.peer.is_some_and(|peer| identity.matches(peer.as_bytes()))
            }
            Self::RequestPrincipal(principal) => principal.matches(subject.metadata),
            Self::Source(block) => block.contains(subject.source),
            Self::Remote(block) => block.contains(subject.remote),
            Self::Destination(block) => block.contains(subject.destination),
            Self::Port(port) => *port == subject.port,
            Self::ServerName(name) => name.matches(subject.server_name.as_bytes()),
            Self::Host(host) => {
                subject.header(b":authority").any(|present| host.matches_ignoring_case(present))
            }
            Self::Path(path) => subject.path().is_some_and(|present| path.matches(present)),
            // Each value by itself, save those that the map joins. Source: observed in Envoy 1.40.
            Self::Header(name, value) => subject.header(name).any(|present| value.matches(present)),
            Self::HeaderPresent(name) => subject.header(name).next().is_some(),
            Self::Metadata(value) => value.matches(subject.metadata),
        }
    }
}
