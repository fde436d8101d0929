//! What routes of `VirtualService`s ask a filter for, found by the request.
//!
//! The most specific host that fits decides which routes are asked, and the first of these that
//! fits counts. Source: Istio API, `HTTPMatchRequest`; Envoy's choice of a virtual host.

mod alternative;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;

use wasmplug_api::{NamespacedName, PlannedRoute};
use wasmplug_host::{Fields, Pseudo};

use self::alternative::Alternative;
pub(super) use self::text::Text;
use crate::route::without_port;

/// Domain of services in a cluster. Source: Kubernetes.
const SERVICE_DOMAIN: &str = ".svc.cluster.local";

/// Compiled routes; `P` is what one of them asks for.
#[derive(Debug)]
pub(super) struct Routed<P> {
    /// Places of hosts by every name that means them, in lower case.
    names: HashMap<String, usize>,
    /// Ends of hosts, the longest first; an empty one is any host.
    suffixes: Vec<(String, usize)>,
    hosts: Vec<Vec<Route<P>>>,
}

#[derive(Debug)]
struct Route<P> {
    /// None of them means all requests.
    alternatives: Vec<Alternative>,
    policy: Option<std::sync::Arc<P>>,
}

// === impl Routed ===

impl<P> Routed<P> {
    /// Compiles the routes; `compile` makes of each what the filter needs.
    pub(super) fn new<T>(planned: &[PlannedRoute<T>], compile: impl Fn(&T) -> P) -> Self {
        let mut routed = Self { names: HashMap::new(), suffixes: Vec::new(), hosts: Vec::new() };
        for route in planned {
            let policy = route.policy.as_ref().map(&compile).map(std::sync::Arc::new);
            for host in &route.hosts {
                let at = routed.place(host, &route.resource);
                let alternatives = route.match_.iter().map(Alternative::new).collect();
                let policy = policy.clone();
                if let Some(routes) = routed.hosts.get_mut(at) {
                    routes.push(Route { alternatives, policy });
                }
            }
        }
        routed.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        routed
    }

    /// What is asked for about a request that came to this port.
    pub(super) fn find(&self, headers: &Fields, port: u16) -> Option<&std::sync::Arc<P>> {
        let authority = headers.pseudo(Pseudo::Authority).map_or(&b""[..], |of| of.as_bytes());
        let routes = self.hosts.get(self.host(without_port(authority))?)?;
        routes.iter().find(|route| route.fits(headers, port))?.policy.as_ref()
    }

    fn host(&self, name: &[u8]) -> Option<usize> {
        let name = std::str::from_utf8(name).unwrap_or_default().to_ascii_lowercase();
        self.names.get(&name).copied().or_else(|| {
            let fits = |(suffix, _): &&(String, usize)| {
                suffix.is_empty() || name.len() > suffix.len() && name.ends_with(suffix)
            };
            self.suffixes.iter().find(fits).map(|(_, at)| *at)
        })
    }

    /// The place of a host's routes, made if there is none.
    fn place(&mut self, host: &str, resource: &NamespacedName) -> usize {
        let new = self.hosts.len();
        let host = host.to_ascii_lowercase();
        let at = match host.strip_prefix('*') {
            Some(suffix) => match self.suffixes.iter().find(|(present, _)| present == suffix) {
                Some((_, at)) => *at,
                None => {
                    self.suffixes.push((suffix.to_owned(), new));
                    new
                }
            },
            None => {
                let mut at = new;
                for name in names(&host, &resource.namespace) {
                    at = *self.names.entry(name).or_insert(at);
                }
                at
            }
        };
        if at == new {
            self.hosts.push(Vec::new());
        }
        at
    }
}

// === impl Route ===

impl<P> Route<P> {
    fn fits(&self, headers: &Fields, port: u16) -> bool {
        self.alternatives.is_empty() || self.alternatives.iter().any(|of| of.fits(headers, port))
    }
}

/// Names by which a client may mean a host, the longest first; a short one is a service of the
/// resource's namespace.
///
/// Source: Istio, the domains of its virtual hosts.
fn names(host: &str, namespace: &str) -> Vec<String> {
    let full = if host.contains('.') {
        host.to_owned()
    } else {
        format!("{host}.{namespace}{SERVICE_DOMAIN}")
    };
    let Some(service) = full.strip_suffix(SERVICE_DOMAIN) else { return vec![full] };
    let mut names = vec![full.clone(), format!("{service}.svc"), service.to_owned()];
    if let Some((name, of)) = service.split_once('.')
        && of == namespace
    {
        names.push(name.to_owned());
    }
    names
}
